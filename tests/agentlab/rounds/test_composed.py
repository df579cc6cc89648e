"""Whole rounds of several parts: every objective trains, and a composed round survives being stopped anywhere."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentlab.errors import AgentLabError, Stopped
from agentlab.lab import Lab
from agentlab.progress import Progress
from agentlab.rounds import RoundConfig, RoundReport
from memory.records import Episode
from memory.store import EpisodeFilter
from trainers import job

ENV = "toy/doors?colours=2,rooms=1,step_limit=4"
SETTINGS = """
envs = ["toy/doors?colours=2,rooms=1,step_limit=4"]
collect = ["mcts", "model"]
seeds = 6
model_trials = 1
gate_seeds = 8
held_out_seeds = 5
revise = true
search = { guide = "model", budget = { steps = 40 }, settings = { wins = 2 } }
balance = { temperatures = [0.5, 1.5], thresholds = [0.5, 1.0], tasks = 3, trials = 2 }
selection = { selectors = [{ kind = "dedupe" }, { kind = "cap", per_task = 2 }] }
training = { learning_rate = 5e-3, epochs = 1, objective = "minor_sft" }
monitor = { tasks = 2, k = 2, examples = 4 }
gate = { min_pairs = 2, alpha = 0.5, sequential = false }
"""
COMPOSED = RoundConfig.model_validate(tomllib.loads(SETTINGS))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, open_at: Callable[..., Lab]) -> Iterator[Lab]:
    """A lab in which a composed round has ended."""
    with open_at(tmp_path_factory.mktemp("unbroken") / "lab") as lab:
        lab.round(COMPOSED)
        yield lab


def test_a_composed_round_reports_every_part(unbroken: Lab) -> None:
    (report,) = unbroken.rounds()
    assert report.phase == "done"
    assert set(report.balance) == {"temperature", "threshold", "score"}
    assert set(report.collected) == {"mcts", "model"} and report.collected["mcts"]["steps"] > 0
    assert report.revised["alpha"] == 0.5
    assert report.selected[ENV] > 0 and report.training["drift"] > 0
    assert report.monitors["drift"]["value"] > 0 and report.monitors["pass_at_k"]["n"] == 2


class Stops(Progress):
    """Presses Ctrl-C whenever one of these stages comes to its n-th unit, each once."""

    def __init__(self, *moments: str) -> None:
        self.left = {stage: int(units) for stage, units in (moment.rsplit(":", 1) for moment in moments)}

    def advance(self, stage: str, units: int = 1, note: str = "") -> None:
        for known in [known for known in self.left if stage.startswith(known)]:
            self.left[known] -= units
            if self.left[known] <= 0:
                del self.left[known]
                raise KeyboardInterrupt


def test_stopped_at_every_part_it_ends_as_an_unbroken_one(
    unbroken: Lab, tmp_path: Path, open_at: Callable[..., Lab], timeless: Callable[..., dict[str, Any]]
) -> None:
    moments = ("sampling at temperature 1.5:1", "searching (mcts):3", "exploring with the model:2", "training:2")
    stops, stopped = Stops(*moments, "sampling at temperature 1:1"), 0
    while True:
        # Opened anew each time, as by another process.
        with open_at(tmp_path / "lab", stops) as lab:
            try:
                report = lab.round(COMPOSED)
                break
            except (KeyboardInterrupt, Stopped):
                stopped += 1
    assert stopped == 5 and not stops.left
    (expected,) = unbroken.rounds()
    assert timeless(report) == timeless(expected), "the id of an adapter follows from its weights"


@pytest.mark.parametrize("objective", ["sft", "soft_distill", "dpo", "step_dpo", "kto"])
def test_every_objective_trains_on_what_the_lab_has(unbroken: Lab, objective: str) -> None:
    settings = {
        "collect": "none", "revise": False, "balance": None, "selection": {"cap_per_task": 3},
        "training": {"objective": objective, "learning_rate": 1e-3, "epochs": 1}, "monitor": {},
    }  # fmt: skip
    if "dpo" in objective:
        del settings["selection"]
    report = unbroken.round(RoundConfig.model_validate({**COMPOSED.model_dump(exclude={"selection"}), **settings}))
    assert report.phase == "done" and report.collected == {}
    # By the games at the gate; the drift by what was taught.
    assert report.monitors["pass_at_1"]["n"] == 8 and report.monitors["pass_at_k"] is None and report.monitors["drift"]
    assert report.selected[ENV] == report.training["examples"] > 0
    trained = job.load(unbroken.folder / "jobs" / report.id)
    assert trained.config.objective == objective
    extra = {"sft": set(), "soft_distill": {"divergence"}, "dpo": {"accuracy", "margin"}, "kto": {"reference"}}
    assert extra.get(objective, extra["dpo"]) <= set(report.training)
    known = {row.id for row in unbroken.database.episodes.find(EpisodeFilter(split="train"))}
    assert set(trained.lineage.episodes) <= known


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"training": {"objective": "kto"}, "learn_from": "recalled"}, "found no success"),
        ({"training": {"objective": "dpo"}, "preferences": {"sources": ["votes"]}}, "found no pair of a better"),
        (
            {"training": {"objective": "kto"}, "envs": ["toy/doors?rooms=6,colours=6"]},
            "none of the 2 examples is desirable",
        ),
    ],
)
def test_a_round_that_has_nothing_to_learn_ends_as_failed_and_says_why(
    tmp_path: Path, open_at: Callable[..., Lab], settings: dict[str, Any], why: str
) -> None:
    base = {"envs": [ENV], "collect": "random", "seeds": 2, "random_trials": 1, "held_out_seeds": 0}
    with open_at(tmp_path / "lab") as lab:
        with pytest.raises(AgentLabError, match=why):
            lab.round(RoundConfig.model_validate({**base, **settings}))
        assert lab.rounds()[0].phase == "failed" and list(lab.checkpointer.list(None)) == []


def test_a_selector_that_lacks_something_ends_the_round_too(
    tmp_path: Path, open_at: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentlab.rounds import graph

    # As if it had been there when the round began.
    monkeypatch.setattr(graph, "check_sources", lambda lab, config: None)
    settings = {"envs": [ENV], "seeds": 2, "held_out_seeds": 0, "selection": {"selectors": [{"kind": "importance"}]}}
    with open_at(tmp_path / "lab") as lab:
        with pytest.raises(AgentLabError, match="round-1 cannot select: the selector 'importance' needs"):
            lab.round(RoundConfig.model_validate(settings))
        assert lab.rounds()[0].phase == "failed"


def test_a_round_selects_by_certainty(tmp_path: Path, unbroken: Lab) -> None:
    """Of what the lab has some is left out as uncertain; nobody else's chance moves, and again it is the same."""
    from agentlab.rounds.pool import context, pool

    selector = {"kind": "uncertainty", "share": 0.5, "passes": 3, "dropout": 0.2}
    settings = {
        "collect": "none", "revise": False, "balance": None, "monitor": {}, "selection": {"selectors": [selector]},
        "training": {"learning_rate": 1e-3, "epochs": 1, "max_tokens": 256},
    }  # fmt: skip
    report = unbroken.round(RoundConfig.model_validate({**COMPOSED.model_dump(), **settings}))
    assert report.phase == "done"
    left, kept = report.left_out["uncertain"], report.selected[ENV]
    assert kept == left or kept == left + 1
    here = pool(unbroken, report)
    passes = context(unbroken, report, here).passes
    assert passes is not None
    first, second = (item.episode for item in here.items[:2])
    values = passes(first, 3, 0.2)
    assert len(set(values)) == 3 and all(value < 0 for value in values)
    passes(second, 3, 0.2)
    assert passes(first, 3, 0.2) == values and passes(first, 2, 0.2) == values[:2]
    known = context(unbroken, report.model_copy(update={"config": report.config.model_copy(update={"seed": 1})}), here)
    assert known.passes is not None and known.passes(first, 3, 0.2) != values
    assert len(set(passes(first, 3, 0.0))) == 1 and passes(first, 1, 0.0) == [pytest.approx(-plain(unbroken, first))]
    long = first.model_copy(update={"goal": "Find the coin. " * 300, "token_ids": [], "action_spans": []})
    assert passes(long, 3, 0.2) == []


def plain(lab: Lab, episode: Episode) -> float:
    """The mean loss of the base on the actions of an episode, by the engine's own pass."""
    from trainers.data.examples import from_episode

    engine: Any = lab.engine
    example = from_episode(episode, engine.tokenize, max_tokens=256)
    return -float(engine.logprob(example.token_ids, example.spans)) / sum(b - a for a, b in example.spans)


EARLIER = """
{"id": "round-1", "number": 1, "phase": "collect", "started_at": "2026-01-01T00:00:00+00:00", "ended_at": null,
 "incumbent": null, "collected": {"random": {"tasks": 3, "won": 2}}, "selected": {}, "left_out": {}, "adapter": null,
 "training": {}, "gate": {}, "promoted": null, "retired": {}, "note": "",
 "config": {"envs": ["toy/doors"], "collect": "both", "seeds": 3, "first_seed": null, "random_trials": 30,
  "model_trials": 4, "temperature": 1.0, "selection": {"cap_per_task": 2, "cap_per_env": 30, "max_trial": null},
  "training": {"rank": 16, "alpha": 32, "dropout": 0.0, "learning_rate": 0.001, "batch_size": 4, "epochs": 2,
   "max_tokens": 1024}, "gate_seeds": 20, "held_out_seeds": 100, "seed": 0}}
"""


def test_a_round_of_the_earlier_form_still_loads_with_what_it_then_meant() -> None:
    report = RoundReport.model_validate_json(EARLIER)
    assert report.config == RoundConfig(envs=["toy/doors"], collect="both", seeds=3)
    assert report.config.training.objective == "sft" and not report.config.revise and report.monitors == {}
