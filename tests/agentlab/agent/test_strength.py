"""The strength of advice is learned from what it led to."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from agentlab.agent.strength import GRID, Strength, note
from memory import Database


def test_without_evidence_advice_speaks_at_its_default() -> None:
    assert Strength().best() == 1.0


def test_the_strength_that_won_most_serves_and_one_never_tried_does_not() -> None:
    known = Strength()
    for _ in range(20):
        known.add(4.0, True)
        known.add(1.0, False)
    assert known.best() == 4.0
    assert known.posterior(4.0) == (21, 1)
    assert known.posterior(1.0) == (3, 23)  # with its head start of two and two
    assert [row["n"] for row in known.rows()] == [0, 0, 20, 0, 20]


def test_one_lucky_episode_does_not_outweigh_a_default_that_wins() -> None:
    known = Strength()
    known.add(2.0, True)  # mean 2/3
    for _ in range(10):
        known.add(1.0, True)  # mean 13/16
    assert known.best() == 1.0


def test_sampling_tries_all_and_then_favours_the_better_one() -> None:
    fresh = Counter(Strength().draw(random.Random(seed)) for seed in range(300))
    assert set(fresh) == set(GRID)
    known = Strength()
    for _ in range(60):
        known.add(2.0, True)
        for other in GRID:
            known.add(other, False) if other != 2.0 else None
    later = Counter(known.draw(random.Random(seed)) for seed in range(300))
    assert later[2.0] > 290


def test_only_what_was_known_before_a_moment_counts_and_an_episode_counts_once(tmp_path: Path) -> None:
    with Database(tmp_path / "lab.db") as database:
        for _ in range(2):
            note(database, "twx/coin", None, "ep-1", 2.0, True, at="2026-01-01")
        note(database, "twx/coin", None, "ep-2", 2.0, True, at="2026-01-03")
        note(database, "twx/coin", "adapter-1", "ep-3", 2.0, True, at="2026-01-01")
        assert Strength.known(database, "twx/coin", None, before="2026-01-02").won == {2.0: 1}
        assert Strength.known(database, "twx/coin", None, before="2026-02-01").won == {2.0: 2}
        assert Strength.known(database, "twx/twc", None, before="2026-02-01").won == {}
