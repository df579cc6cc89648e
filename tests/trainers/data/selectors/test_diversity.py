"""Selection of episodes that differ."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from memory.records import Episode
from trainers.data.selectors import Diversity, Selection
from trainers.data.selectors.experimental.diversity import edit_distance

MakeEpisode = Callable[..., Episode]
Run = Callable[..., Selection]


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    # kitten -> sitting takes 3 edits of 7 letters.
    [("kitten", "sitting", 3 / 7), ("ab", "ab", 0.0), ("", "abc", 1.0), ("abc", "axc", 1 / 3), ("", "", 0.0)],
)
def test_the_distance_of_two_episodes_is_the_share_of_actions_to_edit(
    make_episode: MakeEpisode, a: str, b: str, distance: float
) -> None:
    one, other = make_episode(actions=tuple(a)), make_episode(actions=tuple(b))
    assert edit_distance(one, other) == pytest.approx(distance)
    assert edit_distance(other, one) == pytest.approx(distance)


@pytest.fixture
def episodes(make_episode: MakeEpisode) -> list[Episode]:
    ways = {"first": "aaaa", "near": "aaab", "far": "bbbb", "middle": "aabb"}
    return [
        make_episode(name, actions=tuple(way), trial=0 if name == "first" else 1, seed=0) for name, way in ways.items()
    ]


def names(selection: Selection) -> set[str]:
    return {item.episode.id for item in selection.selected}


def test_the_preferred_episode_comes_first_and_then_what_is_farthest_from_all_taken(
    run: Run, episodes: list[Episode]
) -> None:
    assert names(run(Diversity(keep=1), episodes)) == {"first"}
    assert names(run(Diversity(keep=2), episodes)) == {"first", "far"}
    result = run(Diversity(keep=3), episodes)
    assert names(result) == {"first", "far", "middle"}
    assert result.left_out == {"less diverse than others": 1}


def test_what_is_too_similar_to_one_that_was_taken_is_left_out(run: Run, episodes: list[Episode]) -> None:
    result = run(Diversity(apart=0.3), episodes)
    assert names(result) == {"first", "far", "middle"}
    assert result.left_out == {"too similar": 1}


def test_groups_are_tasks_or_environments_or_everything(run: Run, make_episode: MakeEpisode) -> None:
    episodes = [make_episode(f"{env}{seed}", env=env, seed=seed) for env in "ab" for seed in range(3)]
    kept = {within: len(names(run(Diversity(keep=1, within=within), episodes))) for within in ("task", "env", "all")}
    assert kept == {"task": 6, "env": 2, "all": 1}


def test_another_distance_can_be_given(run: Run, episodes: list[Episode]) -> None:
    place = {"first": 0.0, "near": 9.0, "far": 1.0, "middle": 2.0}
    result = run(Diversity(keep=2), episodes, distance=lambda a, b: abs(place[a.id] - place[b.id]))
    assert names(result) == {"first", "near"}
