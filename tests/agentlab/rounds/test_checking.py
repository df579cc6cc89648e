"""Settings that would change nothing are refused before anything is played."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from agentlab.cli.round_options import settings as taken
from agentlab.errors import BadConfig
from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport
from agentlab.rounds.checking import check_settings
from agentlab.rounds.graph import run_round

PAIRS = {"objective": "dpo"}


def config(**settings: Any) -> RoundConfig:
    return RoundConfig.model_validate({"envs": ["toy/doors"], **settings})


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"selection": {"cap_per_task": 1}}, "`selection`"),
        ({"selection": {"max_trial": 1, "selectors": [{"kind": "dedupe"}]}}, "`selection`"),
        ({"revise": True, "anchors": ["ep-1"]}, "`revise`, `anchors`"),
        ({"validation": ["ep-1"], "general": "texts.jsonl"}, "`validation`, `general`"),
    ],
)
@pytest.mark.parametrize("objective", ["dpo", "step_dpo"])
def test_what_pairs_cannot_use_is_named(settings: dict[str, Any], named: str, objective: str) -> None:
    with pytest.raises(BadConfig, match=f"^{named} would do nothing; the objective {objective} learns from pairs"):
        check_settings(config(training={"objective": objective}, **settings))
    check_settings(config(training={"objective": "kto"}, **settings))


@pytest.mark.parametrize(
    ("settings", "named", "objective"),
    [
        ({"preferences": {"per_task": 2}}, "preferences", "dpo"),
        ({"teacher": {"temperature": 0.5}}, "teacher", "soft_distill"),
        ({"training": {"beta": 0.5}}, "training.beta", "minor_sft"),
        ({"training": {"nll_weight": 1.0}}, "training.nll_weight", "step_dpo"),
        ({"training": {"undesirable_weight": 2.0}}, "training.undesirable_weight", "kto"),
    ],
)
def test_what_the_objective_does_not_read_is_named(settings: dict[str, Any], named: str, objective: str) -> None:
    with pytest.raises(BadConfig, match=f"^`{named}` would do nothing; the objective sft does not read it"):
        check_settings(config(**settings))
    check_settings(config(**{**settings, "training": {**settings.get("training", {}), "objective": objective}}))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"kl": {"envs": ["toy/doors"]}}, "^`kl` names toy/doors, which the round is to learn;"),
        ({"kl": {"envs": ["twx/coin"]}, "training": PAIRS}, "^The objective dpo has no KL regularisation"),
    ],
)
def test_a_regularisation_that_cannot_be_is_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(BadConfig, match=why):
        check_settings(config(**settings))
    check_settings(config(kl={"envs": ["twx/coin"]}))


def test_revisions_in_which_nothing_can_be_recalled_are_refused_where_only_what_was_recalled_teaches() -> None:
    with pytest.raises(BadConfig, match=r'^`revise` would do nothing; .* `learn_from = "recalled"` leaves that out;'):
        check_settings(config(revise=True, learn_from="recalled"))
    check_settings(config(revise=True))


def test_pairs_take_defaults_the_latest_trial_and_what_was_recalled() -> None:
    check_settings(config(training=PAIRS))
    check_settings(config(training=PAIRS, selection={"max_trial": 2, "cap_per_task": 2}, learn_from="recalled"))


def test_a_balance_for_pairs_has_no_threshold() -> None:
    with pytest.raises(BadConfig, match=r"set thresholds = \[0\.0\]"):
        check_settings(config(training=PAIRS, collect="model", balance={}))
    check_settings(config(training=PAIRS, collect="model", balance={"thresholds": [0.0]}))


@pytest.mark.parametrize(
    "settings",
    [
        {"collect": "random"},
        {"collect": "none"},
        {"collect": ["random", "mcts"]},
        {"collect": "random", "search": {"guide": "model"}},
    ],
)
def test_a_balance_without_a_model_that_explores_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(BadConfig, match="`balance` picks the temperature at which the model explores"):
        check_settings(config(balance={}, **settings))
    check_settings(config(**settings))


@pytest.mark.parametrize(
    "settings", [{"collect": "model"}, {"collect": "both"}, {"collect": "mcts", "search": {"guide": "model"}}]
)
def test_a_balance_by_which_the_model_explores_is_taken(settings: dict[str, Any]) -> None:
    check_settings(config(balance={}, **settings))


def test_auto_lets_the_model_explore_from_the_first_round_where_it_is_balanced() -> None:
    assert config().ways(None) == ["random"]
    assert config(balance={}).ways(None) == ["random", "model"] == config(balance={}).ways("adapter")
    check_settings(config(balance={}))


def test_a_round_that_is_refused_has_not_begun(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    with pytest.raises(BadConfig, match="`revise` would do nothing"):
        lab.round(config(training=PAIRS, revise=True))
    assert lab.rounds() == [] and lab.database.episodes.find() == []


def test_a_gate_that_can_never_pass_is_refused_where_the_round_would_come_to_it(open_lab: Callable[..., Lab]) -> None:
    lab, few = open_lab(), config(gate_seeds=3)
    with pytest.raises(BadConfig):
        lab.round(few)
    assert lab.rounds() == [] and lab.database.episodes.find() == []
    assert run_round(lab, few, until="collect").phase == "collect", "one that stops before it does not mind"


def test_a_round_that_was_stored_with_such_settings_can_still_be_read() -> None:
    stored = RoundReport(id="round-1", number=1, config=config(training=PAIRS, revise=True))
    assert RoundReport.model_validate(stored.model_dump(mode="json")) == stored


def test_what_an_earlier_version_had_where_nothing_reads_it_does_not_stand_in_the_way() -> None:
    earlier = config(seeds=7, training={"nll_weight": 1.0, "epochs": 2})
    with pytest.raises(BadConfig, match="nll_weight"):
        check_settings(earlier)
    own = SimpleNamespace(tools=[])
    lab: Any = SimpleNamespace(config=own, rounds=lambda: [SimpleNamespace(config=earlier)])
    again = taken(lab, None, None, {})
    check_settings(again)
    assert (again.seeds, again.training.epochs) == (7, 2)
    pairs = config(training={"objective": "dpo", "nll_weight": 1.0})
    lab = SimpleNamespace(config=own, rounds=lambda: [SimpleNamespace(config=pairs)])
    assert taken(lab, None, None, {}).training.nll_weight == 1.0, "what is read is kept"


def test_a_judge_at_temperature_0_judges_once_in_this_round_and_in_the_next() -> None:
    def asked(**judge: Any) -> RoundConfig:
        return config(training=PAIRS, preferences={"sources": ["judge"], "judge": judge})

    with pytest.raises(BadConfig, match=r"`preferences\.judge\.samples` = 3 would do nothing"):
        check_settings(asked(temperature=0, samples=3))
    for taken_as_it_is in (asked(temperature=0), asked(temperature=0, samples=1), asked(temperature=0.2, samples=3)):
        check_settings(taken_as_it_is)
        stored = RoundConfig.model_validate(taken_as_it_is.model_dump(mode="json"))
        lab: Any = SimpleNamespace(
            config=SimpleNamespace(tools=[]), rounds=lambda s=stored: [SimpleNamespace(config=s)]
        )
        again = taken(lab, None, None, {})
        check_settings(again)
        assert again == taken_as_it_is
