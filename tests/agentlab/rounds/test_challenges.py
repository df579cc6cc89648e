"""No gate judges on games that an earlier one has seen, and all gates of one incumbent err together as one may."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from agentlab.errors import BadConfig
from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport, abandon
from agentlab.rounds.gating import gate
from agentlab.rounds.graph import run_round
from agentlab.rounds.report import save
from environments import Task, TextEnv, Turn, register, registry
from memory.store import EpisodeFilter
from trainers.gate.gate import GateConfig

ENV = "toy/doors?colours=2,rooms=1,step_limit=4"
OTHER = "toy/doors?rooms=1,step_limit=4"
CONFIG = RoundConfig(envs=[ENV], seeds=2, gate_seeds=8, gate=GateConfig(min_pairs=4, sequential=False))

Opened = Callable[..., Lab]


def begun(lab: Lab, config: RoundConfig = CONFIG, adapter: str = "adapter-bad") -> RoundReport:
    """The report of the next round as it begins, ready for its gate."""
    report = run_round(lab, config, until="train")
    report.adapter = adapter
    save(lab, report, "gate")
    return report


def gated(lab: Lab, config: RoundConfig = CONFIG, adapter: str = "adapter-bad") -> RoundReport:
    """The same after its gate; nothing was promoted."""
    report = begun(lab, config, adapter)
    gate(lab, report)
    save(lab, report, "done")
    lab.checkpointer.delete_thread(report.id)
    return report


def seen(lab: Lab, report: RoundReport) -> set[tuple[str, int]]:
    """The games that a round's gate has played."""
    return {(row.env, row.seed) for row in lab.database.episodes.find(EpisodeFilter(run=f"{report.id}-gate"))}


@pytest.fixture
def quick(skilled: Opened, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab whose rounds begin at once with what they would train on."""
    from agentlab.rounds import graph

    for node, following in (("collect", "select"), ("select", "train")):
        monkeypatch.setitem(graph.NODES, node, lambda lab, report, following=following: following)
    graph._builder.cache_clear()
    return skilled()


@pytest.fixture(autouse=True)
def rebuilt() -> Iterator[None]:
    """Leaves the graph of other tests alone."""
    from agentlab.rounds import graph

    yield
    graph._builder.cache_clear()


def test_every_round_is_gated_on_games_that_no_earlier_gate_has_played(quick: Lab) -> None:
    first, second = gated(quick), gated(quick)
    third = gated(quick, CONFIG.model_copy(update={"envs": [OTHER, ENV]}))
    assert seen(quick, first) == {(ENV, seed) for seed in range(8)}
    assert seen(quick, second) == {(ENV, seed) for seed in range(8, 16)}
    assert seen(quick, third) == {(env, seed) for env in (ENV, OTHER) for seed in range(16, 24)}
    from agentlab.rounds.challenges import fresh_seeds

    assert fresh_seeds(quick, ["toy/doors?rooms=1"], 3) == [0, 1, 2], "no gate has seen that environment"


def test_a_round_that_is_gone_on_with_keeps_its_games_and_its_level(quick: Lab) -> None:
    gated(quick)
    report = begun(quick)
    again = run_round(quick, CONFIG, until="train")
    assert (again.id, again.dev_from, again.challenge) == (report.id, 8, 2) == ("round-2", 8, 2)


def test_what_a_given_up_round_has_not_played_is_still_new_and_what_it_has_is_not(quick: Lab) -> None:
    from agentlab.rounds.challenges import fresh_seeds, next_challenge

    begun(quick)
    abandon(quick, "round-1")
    assert (fresh_seeds(quick, [ENV], 2), next_challenge(quick)) == ([0, 1], 1)
    report = begun(quick)
    gate(quick, report)
    abandon(quick, "round-2")
    assert (fresh_seeds(quick, [ENV], 2), next_challenge(quick)) == ([8, 9], 2)


def test_an_evaluation_that_is_only_named_like_the_gate_of_a_merge_is_none(quick: Lab) -> None:
    from agentlab.rounds.challenges import fresh_seeds, next_challenge

    for name in ("gate-mine", "gate-adapter-good"):
        quick.evaluate(ENV, split="dev", seeds=range(3), arms=["base"], name=name)
    assert (fresh_seeds(quick, [ENV], 2), next_challenge(quick)) == ([0, 1], 1)


def test_the_more_often_one_incumbent_was_challenged_the_more_a_candidate_must_show(quick: Lab) -> None:
    reports = [gated(quick) for _ in range(3)]
    # All 8 pairs are won: p = 2/256 would have passed as the first or second, and does not as the fourth.
    refused = gated(quick, adapter="adapter-good")
    assert refused.gate["paired"]["only_a"] == 8 and not refused.gate["promote"]
    from agentlab.rounds.challenges import next_challenge

    assert [report.gate["challenge"] for report in (*reports, refused)] == [1, 2, 3, 4]
    assert (next_challenge(quick), CONFIG.gate.least_pairs(next_challenge(quick))) == (5, 10)
    quick.adapters.promote("adapter-good", force=True)
    assert (next_challenge(quick), CONFIG.gate.least_pairs(next_challenge(quick))) == (1, 6), (
        "this one was never challenged"
    )


def test_where_no_new_games_are_left_a_round_is_refused_in_one_line_before_it_begins(quick: Lab) -> None:
    class Few(TextEnv):
        def __init__(self) -> None:
            super().__init__("own/few", 3)

        def seeds(self, split: str) -> range:
            return range(10)

        def begin(self, task: Task) -> Turn:
            return Turn(f"A door {task.id}.", ["open"], goal="Open it.")

        def act(self, action: str) -> Turn:
            return Turn("Open.", ["open"], 1.0, won=True)

    register("own/few", Few)
    try:
        config = CONFIG.model_copy(update={"envs": ["own/few"]})
        gated(quick, config)
        with pytest.raises(
            BadConfig, match=r"first 8 have been seen at earlier gates.*gate_seeds to at most 2"
        ) as told:
            quick.round(config)
        assert "\n" not in str(told.value) and len(quick.rounds()) == 1
        gated(quick, config.model_copy(update={"gate_seeds": 2}))
        with pytest.raises(BadConfig, match="learn an environment with more"):
            quick.round(config)
    finally:
        registry.unregister("own/few")
