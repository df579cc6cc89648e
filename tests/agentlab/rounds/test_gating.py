"""Candidate and incumbent play in turns until the answer is clear."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from agentlab.errors import Stopped
from agentlab.lab import Lab
from agentlab.progress import Progress
from agentlab.rounds import RoundReport
from agentlab.rounds.gating import blocks, gate
from memory.store import EpisodeFilter

Opened = Callable[..., Lab]
Made = Callable[..., RoundReport]
ENV = "toy/doors?colours=2,rooms=1,step_limit=4"


def played(lab: Lab) -> Counter[tuple[str, str]]:
    """How many episodes there are, by environment and side."""
    return Counter(
        (row.env, row.arm.split()[0]) for row in lab.database.episodes.find(EpisodeFilter(run="round-1-gate"))
    )


def test_blocks_are_of_one_size_and_cover_every_seed_once() -> None:
    assert blocks(10, 5) == [range(0, 2), range(2, 4), range(4, 6), range(6, 8), range(8, 10)]
    assert blocks(7, 3) == [range(0, 3), range(3, 6), range(6, 7)]
    assert blocks(2, 5) == [range(0, 1), range(1, 2)] and blocks(9, 1) == [range(9)]


def test_a_clear_answer_comes_early_from_as_many_games_of_each_environment(skilled: Opened, report: Made) -> None:
    lab, made = skilled(), report()
    assert gate(lab, made) == "retention" and made.gate["promote"]
    assert (made.gate["planned"], made.gate["saved"], len(made.gate["looks"])) == (50, 30, 2)
    assert set(played(lab).values()) == {10} and len(played(lab)) == 4
    assert made.gate["paired"]["only_a"] == made.gate["paired"]["n"] == 20


def test_what_plays_as_the_incumbent_does_is_given_up_early(skilled: Opened, report: Made) -> None:
    lab, made = skilled(), report("adapter-bad")
    assert gate(lab, made) == "retention" and not made.gate["promote"]
    assert made.gate["saved"] > 0 and "unlikely" in made.gate["reason"]


def test_a_fixed_gate_plays_every_game(skilled: Opened, report: Made) -> None:
    lab, made = skilled(), report(gate={"sequential": False})
    assert gate(lab, made) == "retention" and made.gate["promote"]
    assert set(played(lab).values()) == {25}
    assert (made.gate["saved"], made.gate["looks"], made.gate["paired"]["n"]) == (0, [], 50)


def test_an_environment_that_is_named_twice_counts_once_at_the_gate(skilled: Opened, report: Made) -> None:
    once = report(envs=[ENV])
    stored = once.model_dump(mode="json")
    stored["config"]["envs"] = [ENV, ENV]  # as by an earlier version
    twice = RoundReport.model_validate(stored)
    gate(skilled("once"), once)
    assert gate(skilled("twice"), twice) == "retention"
    assert twice.gate == once.gate and once.gate["planned"] == 25


def test_both_sides_meet_the_same_games_and_the_environments_are_closed(
    skilled: Opened, report: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentlab.trajectories import environment_pool

    pools = []
    made_pool = environment_pool.EnvironmentPool

    def pool(*given: Any) -> Any:
        pools.append(made_pool(*given))
        return pools[-1]

    monkeypatch.setattr(environment_pool, "EnvironmentPool", pool)
    lab = skilled()
    gate(lab, report())
    sides: dict[str, set[str]] = {}
    for row in lab.database.episodes.find(EpisodeFilter(run="round-1-gate")):
        sides.setdefault(row.arm.split()[0], set()).add(row.task)
    assert sides["base"] == sides["candidate"]
    assert all(not pool._all for pool in pools)


class Breaks(Progress):
    """Presses Ctrl-C once, after so many games."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, stage: str, units: int = 1, note: str = "") -> None:
        self.left -= units
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 14, 33])
def test_a_gate_that_was_stopped_decides_as_an_unbroken_one(skilled: Opened, report: Made, after: int) -> None:
    unbroken, broken = report(), report()
    gate(skilled("unbroken"), unbroken)
    lab = skilled("broken", Breaks(after))
    with pytest.raises(Stopped):
        gate(lab, broken)
    assert gate(lab, broken) == "retention" and broken.gate["promote"]
    assert broken.gate == unbroken.gate
    assert set(played(lab).values()) == {10}
