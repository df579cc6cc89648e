"""Selection by agreement."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from memory.records import Episode
from trainers.data.selectors import Selection, Votes

MakeEpisode = Callable[..., Episode]
Run = Callable[..., Selection]


def weights(selection: Selection) -> dict[str, float]:
    return {item.episode.id: item.weight for item in selection.selected}


@pytest.fixture
def answers(make_episode: MakeEpisode) -> list[Episode]:
    """Four plays of one task: three answer 7, by two ways; one answers 8."""
    return [
        make_episode("a", actions=("add", "take 7")),
        make_episode("b", actions=("add", "take 7")),
        make_episode("c", actions=("look", "add", "take 7")),
        make_episode("d", actions=("add", "take 8"), status="lost", score=0.0),
    ]


def test_the_majority_of_a_task_is_kept_and_weighs_by_its_share(run: Run, answers: list[Episode]) -> None:
    for seed in range(9):
        result = run(Votes(by="answer"), answers, seed=seed)
        assert weights(result) == {"a": 0.75, "b": 0.75, "c": 0.75}
        assert result.left_out == {"outvoted": 1}


def test_votes_can_be_for_all_actions_or_for_how_the_game_ended(run: Run, answers: list[Episode]) -> None:
    assert weights(run(Votes(by="actions"), answers)) == {"a": 0.5, "b": 0.5}
    # a and b ended in the same state with the same result; c in another state; d in theirs, but lost.
    assert weights(run(Votes(by="outcome"), answers)) == {"a": 0.5, "b": 0.5}


def test_each_task_votes_for_itself(run: Run, answers: list[Episode], make_episode: MakeEpisode) -> None:
    other = [make_episode(f"o{n}", seed=1, actions=("take 8",)) for n in range(2)]
    assert weights(run(Votes(by="answer"), [*answers, *other])).keys() == {"a", "b", "c", "o0", "o1"}


def test_a_side_that_wins_without_a_majority_and_a_task_without_voters_are_left_out(
    run: Run, make_episode: MakeEpisode
) -> None:
    split = [make_episode(f"s{n}", actions=(f"take {max(n, 1)}",)) for n in range(5)]
    alone = make_episode("alone", seed=9)
    result = run(Votes(by="answer"), [*split, alone])
    assert weights(result) == {}
    assert result.left_out == {"no majority": 2, "outvoted": 3, "too few votes": 1}
    assert weights(run(Votes(by="answer", min_share=0.4), split)) == {"s0": 0.4, "s1": 0.4}


def test_a_tie_is_broken_by_the_seed(run: Run, make_episode: MakeEpisode) -> None:
    pair = [make_episode("x", actions=("take 1",)), make_episode("y", actions=("take 2",))]
    kept = [next(iter(weights(run(Votes(by="answer"), pair, seed=seed)))) for seed in range(30)]
    assert {"x", "y"} == set(kept)


@pytest.mark.parametrize("by", ["outcome", "answer", "actions"])
def test_an_episode_without_steps_can_vote(run: Run, make_episode: MakeEpisode, by: str) -> None:
    pair = [make_episode("x", actions=()), make_episode("y", actions=())]
    assert weights(run(Votes.model_validate({"by": by}), pair)) == {"x": 1.0, "y": 1.0}
