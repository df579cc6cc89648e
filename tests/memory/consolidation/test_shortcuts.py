"""Shortcuts on hand-made graphs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from memory import Database, Episode
from memory.consolidation import shortcuts
from memory.consolidation.job import Job
from memory.consolidation.shortcuts import Shortcut, find_shortcuts, shortest_path
from memory.store import Filter

Live = Callable[..., Episode]
WANDERING = "S A S A C A B E"  # S–A–B–E would do.


def test_the_shortest_path_follows_steps_that_were_taken(live: Live) -> None:
    path = shortest_path(live("ep-1", WANDERING).steps)
    assert [(step.state, step.action) for step in path] == [("S", "go A"), ("A", "go B"), ("B", "go E")]
    assert shortest_path([]) == shortest_path(live("ep-2", "S A S").steps) == []


def test_shortcuts_are_pairs_that_were_farther_apart_and_gain_value(live: Live) -> None:
    _, found = find_shortcuts(live("ep-1", WANDERING).steps, 1.0, 0.0)
    # V(S), V(A), V(B), V(E) = .95³, .95², .95, 1; walked: S to E 7, A (left at step 1) to E 6, S to B 6.
    assert found == [
        Shortcut(0, 3, 7, pytest.approx(1 - 0.95**3)),
        Shortcut(1, 3, 6, pytest.approx(1 - 0.95**2)),
        Shortcut(0, 2, 6, pytest.approx(0.95 - 0.95**3)),
    ]
    _, some = find_shortcuts(live("ep-1", WANDERING).steps, 1.0, 0.095)
    assert [(shortcut.start, shortcut.end) for shortcut in some] == [(0, 3), (1, 3)]


def test_what_was_walked_straight_is_no_shortcut(live: Live) -> None:
    assert find_shortcuts(live("ep-1", "S A B E").steps, 1.0, 0.0)[1] == []
    # The detour lies before B: only pairs that enclose it count.
    _, found = find_shortcuts(live("ep-2", "S A S A B C E").steps, 1.0, 0.0)
    assert (2, 4) not in {(shortcut.start, shortcut.end) for shortcut in found}
    # A dead end left at once by the only way back is shorter by a single pair.
    _, found = find_shortcuts(live("ep-3", "S A B A B E F").steps, 0.0, 0.01)
    assert found == []


def test_a_state_met_before_its_predecessor_is_counted_from_there(live: Live) -> None:
    # B is reached the long way (X, Y) before U is: S–U–B–E is the shortest path.
    path, found = find_shortcuts(live("ep-1", "S X Y B S U B E").steps, 1.0, 0.0)
    assert [step.next_state for step in path] == ["U", "B", "E"]
    assert [(shortcut.start, shortcut.end, shortcut.walked) for shortcut in found] == [(0, 3, 7), (0, 2, 3)]


def test_a_shortcut_advises_the_way_with_its_provenance(
    live: Live, database: Database, job: Callable[..., Job]
) -> None:
    live("ep-1", WANDERING)
    here = job()
    plan = shortcuts.plan(here)
    (action,) = plan.actions
    assert (action.items, action.reason) == (("ep-1",), "won in 7 steps where 3 would do (greatest gain 0.14)")
    assert action.apply(here) and not action.apply(here)
    (made,) = database.reflections.find(Filter(kinds=["shortcut"], status=None))
    assert [(fact.state, fact.action, fact.visits) for fact in made.advice] == [
        ("S", "go A", 1), ("A", "go B", 1), ("B", "go E", 1),
    ]  # fmt: skip
    assert [fact.value for fact in made.advice] == pytest.approx([0.95**2, 0.95, 1.0])
    assert made.evidence[0].steps == [0, 5, 6] and made.derived_from == ["r-ep-1"]
    assert made.text.startswith("A shorter way (3 steps instead of 7)") and "'go A', then 'go B'" in made.text
    assert (made.task, made.tier, made.tags) == ("twx/coin:train:3", "raw", ["saved:4"])
    assert shortcuts.plan(here).actions == []


def test_only_won_train_episodes_are_looked_at_and_each_once(
    live: Live, database: Database, job: Callable[..., Job]
) -> None:
    live("ep-lost", WANDERING, "lost")
    live("ep-held-out", WANDERING, split="test")
    live("ep-straight", "S A B E")
    here = job()
    plan = shortcuts.plan(here)
    assert plan.actions == []
    for mark in plan.marks.items():
        database.settings.put(*mark)
    live("ep-new", WANDERING)
    assert [action.items for action in shortcuts.plan(job()).actions] == [("ep-new",)]


def test_a_reply_that_was_no_command_is_part_of_no_shortcut(job: Callable[..., Job], live: Live) -> None:
    episode = live("ep-1", WANDERING)
    meant = shortcuts.reflection_on(job(), episode)
    odd = episode.steps[0].model_copy(update={"action": "I think I will go", "invalid": True, "next_state": "E"})
    found = shortcuts.reflection_on(job(), episode.model_copy(update={"steps": [odd, *episode.steps]}))
    assert found is not None and meant is not None
    assert (found.text, found.advice) == (meant.text, meant.advice)
