from __future__ import annotations

from collections.abc import Callable

import pytest

from agentlab.search.pairs import first_pits, forks, is_good, parting, partings, preferences, step_preferences
from agentlab.search.tree import Tree
from memory.records import Episode

Played = Callable[..., Episode]
WIN = ("east", "east", "east")
LOSS = ("east", "west", "west")
HALF = ("east", "east", "west", "east")  # truncated with half the score


def test_a_bad_end_is_set_beside_the_good_one_that_it_left_last(played: Played) -> None:
    detour = played("take lamp", *WIN)
    won, lost, half = played(*WIN), played(*LOSS), played(*HALF)
    found = forks(Tree.of([detour, won, lost, half]))
    assert [(fork.good.id, fork.bad.id, fork.shared, fork.gap) for fork in found] == [
        (won.id, lost.id, 1, 1.0),
        (won.id, half.id, 2, 0.5),
    ]


def test_alpha_and_beta_bound_what_is_good_and_how_much_better_it_must_be(played: Played) -> None:
    won, lost, half = played(*WIN), played(*LOSS), played(*HALF)
    assert [fork.bad.id for fork in forks(Tree.of([won, half, lost]), alpha=1.0, beta=0.5)] == [lost.id]
    assert forks(Tree.of([half, lost]), alpha=0.51) == []
    (fork,) = forks(Tree.of([half, lost]), alpha=0.5)
    assert (fork.good.id, fork.gap) == (half.id, 0.5)


def test_at_alpha_one_only_a_win_is_good(played: Played) -> None:
    full = played(*HALF, score=1.0)
    assert full.status == "truncated"
    assert [is_good(full, alpha) for alpha in (0.5, 0.99, 1.0)] == [True, True, False]
    assert is_good(played(*WIN), 1.0) and not is_good(played(*LOSS), 0.01) and is_good(played(*HALF), 0.5)


def test_all_good_ones_that_a_bad_end_left_are_known_the_latest_first_then_the_best(played: Played) -> None:
    won, lost, half, detour = played(*WIN), played(*LOSS), played(*HALF), played("take lamp", *WIN)
    left = partings(Tree.of([detour, half, won, lost]), lost)
    assert [(fork.good.id, fork.shared, fork.gap) for fork in left] == [
        (won.id, 1, 1.0),
        (half.id, 1, 0.5),
        (detour.id, 0, 1.0),
    ]


def test_an_episode_that_only_goes_on_is_no_fork(played: Played) -> None:
    assert parting(played("east"), played("east", "east")) is None
    assert parting(played("east", "west"), played("east", "east")) == 1


def test_whole_trajectories_are_preferred_by_the_gap_of_their_ends(played: Played) -> None:
    (preference,) = preferences(Tree.of([played(*WIN), played(*HALF)]))
    assert (preference.better.actions, preference.worse.actions) == (list(WIN), list(HALF))
    assert (preference.shared, preference.weight, preference.source) == (2, 0.5, "tree")


def test_steps_are_preferred_by_the_mean_of_what_followed_them(played: Played) -> None:
    tree = Tree.of([played(*WIN), played("east", "east", "west", "west", "west"), played(*LOSS)])
    # After "east": east is worth (1 + 0) / 2, west 0. After "east, east": east 1, west 0.
    found = {preference.shared: preference for preference in step_preferences(tree)}
    assert sorted(found) == [1, 2]
    assert (found[1].weight, found[2].weight) == (0.5, 1.0)
    assert (found[1].better.actions, found[1].worse.actions) == (list(WIN), list(LOSS))
    assert found[2].worse.actions == ["east", "east", "west", "west", "west"]
    assert [one.shared for one in step_preferences(tree, gap=0.5)] == [2]
    assert step_preferences(tree, visits=2) == []


def probed(played: Played, *prefix: str, probes: int) -> list[Episode]:
    """Rollouts through `prefix` that all fail."""
    return [played(*prefix, "east", id=f"ep-probe-{prefix}-{at}") for at in range(probes)]


def test_the_first_pit_is_the_first_step_after_which_nothing_won(played: Played) -> None:
    failed = played("east", "west", "take lamp", "east")
    tree = Tree.of([failed, *probed(played, "east", "west", probes=4), played(*WIN), played("take lamp", *WIN)])
    preference = first_pits(tree)[0]
    assert (preference.shared, preference.source) == (1, "first pit")
    assert (preference.better.actions, preference.worse.id) == (list(WIN), failed.id)


def test_a_pit_is_not_believed_before_enough_probes_failed(played: Played) -> None:
    failed = played("east", "west", "take lamp", "east")
    tree = Tree.of([failed, *probed(played, "east", "west", probes=3), played(*WIN)])
    assert first_pits(tree) == []
    assert len(first_pits(tree, probes=3)) == 1


def test_a_step_from_which_something_won_is_no_pit(played: Played) -> None:
    failed, won = played("east", "west", "take lamp", "east"), played("east", "west", "east", "east", "east")
    tree = Tree.of([failed, *probed(played, "east", "west", probes=4), won])
    assert [preference.shared for preference in first_pits(tree)] == []  # "take lamp" was taken by one only


def test_a_step_that_lost_the_game_needs_no_probes(played: Played) -> None:
    (preference,) = first_pits(Tree.of([played("west"), played(*WIN)]))
    assert (preference.shared, preference.worse.actions) == (0, ["west"])


@pytest.mark.parametrize("episodes", [[LOSS], [WIN]])
def test_without_both_a_win_and_a_failure_there_are_no_pairs(played: Played, episodes: list[tuple[str, ...]]) -> None:
    tree = Tree.of([played(*actions) for actions in episodes])
    assert preferences(tree) == step_preferences(tree) == first_pits(tree) == []
