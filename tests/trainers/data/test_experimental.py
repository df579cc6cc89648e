"""What a judge prefers becomes pairs: the formulas, by hand."""

from __future__ import annotations

import math
from itertools import permutations

import pytest

from memory.records import Episode, Step
from trainers.data import Battle, bradley_terry, by_judge, from_judgements, won_battles
from trainers.errors import BadExample, SameSides, TooLong


def played(id: str, *actions: str, split: str = "train", status: str = "lost") -> Episode:
    steps = [
        Step(
            index=at,
            observation=f"after {actions[:at]}",
            admissible=["a", "b"],
            action=action,
            result=f"after {actions[: at + 1]}",
            reward=0.0,
            state=f"{at}",
            next_state=f"{at + 1}",
        )
        for at, action in enumerate(actions)
    ]
    return Episode(
        id=id, run="r", arm="a", env="e", split=split, seed=1, trial=0, goal="g", steps=steps, status=status, score=0.0
    )


FOUR = [played("one", *"abbb"), played("two", *"ba"), played("three", *"ababa"), played("four", *"bbbb")]


def sides(scores: dict[str, float], tolerance: float = 0.0) -> list[tuple[str, str]]:
    return [(pair.better.id, pair.worse.id) for pair in by_judge(FOUR, scores, tolerance=tolerance)]


def test_the_best_score_is_preferred_to_the_worst() -> None:
    assert sides({"one": 3.0, "two": 1.0, "three": 4.5, "four": 2.0}) == [("three", "two")]
    (pair,) = by_judge(FOUR, {"one": 1.0, "three": 2.0})
    assert (pair.better.id, pair.worse.id, pair.shared, pair.weight) == ("three", "one", 2, 1.0)


def test_where_all_score_the_same_or_one_alone_was_scored_there_is_no_pair() -> None:
    assert sides({"one": 3.0, "two": 3.0}) == sides({"one": 3.0}) == sides({}) == []


def test_among_about_the_best_the_shortest_wins_and_among_about_the_worst_the_longest_loses() -> None:
    scores = {"one": 5.0, "two": 4.7, "three": 0.4, "four": 0.0}
    # (1 - .1)·5 + .1·0 = 4.5: "two" is as good as the best, and shorter; up to .5 all are as bad as the worst.
    assert sides(scores, 0.1) == [("two", "three")]
    assert sides(scores, 0.05) == [("one", "four")], "4.7 is below .95·5 = 4.75, and .4 above .25"
    assert sides(scores) == [("one", "four")]


def test_without_a_tolerance_those_that_score_the_same_are_compared_where_they_part_last() -> None:
    assert sides({"one": 5.0, "two": 5.0, "three": 0.0, "four": 0.0}) == [("one", "three")]
    assert sides({"one": 5.0, "two": 5.0, "three": 0.0, "four": 0.0}, 0.01) == [("two", "three")]


def test_sides_that_cannot_be_compared_give_way_to_the_next_as_good() -> None:
    longer = played("longer", *"babb")  # it only goes on where "two" stopped
    assert by_judge([FOUR[1], longer], {"two": 1.0, "longer": 0.0}) == []
    pairs = by_judge([FOUR[1], longer, FOUR[0]], {"two": 1.0, "longer": 0.0, "one": 0.0})
    assert [(pair.better.id, pair.worse.id) for pair in pairs] == [("two", "one")]


def test_only_train_episodes_that_were_played_to_an_end_are_compared() -> None:
    scores = {"one": 1.0, "dev": 0.0, "broken": 0.0}
    others = [played("dev", "b", split="dev"), played("broken", "b", status="errored")]
    assert by_judge([FOUR[0], *others], scores) == []


def test_wins_of_the_place_that_wins_too_often_weigh_less() -> None:
    # First place wins 3 of 4 battles: ω1 = 1/4, ω2 = 3/4.
    battles = [Battle(0, 1, True), Battle(1, 0, True), Battle(0, 2, True), Battle(2, 0, False), Battle(1, 2, None)]
    assert won_battles(battles, 3) == [[0.0, 0.25, 1.0], [0.25, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert won_battles(battles[:1], 2, among=battles) == [[0.0, 0.25], [0.0, 0.0]]


def test_a_judge_that_always_takes_the_same_place_rates_all_alike() -> None:
    for always in (True, False):
        battles = [Battle(a, b, always) for a, b in permutations(range(3), 2)]
        assert won_battles(battles, 3) == [[0.0] * 3] * 3
        assert bradley_terry(won_battles(battles, 3)) == pytest.approx([0.0] * 3)
    assert won_battles([Battle(0, 1, None)], 2) == [[0.0, 0.0], [0.0, 0.0]]


def test_ratings_of_two_differ_by_the_log_of_their_odds() -> None:
    one, other = bradley_terry([[0.0, 3.0], [1.0, 0.0]], prior=0.0)
    assert (one - other, one + other) == (pytest.approx(math.log(3)), pytest.approx(0.0))
    one, other = bradley_terry([[0.0, 2.0], [0.0, 0.0]], prior=0.5)
    assert one - other == pytest.approx(math.log(2.5 / 0.5)), "finite, though it never lost"


def test_ratings_are_where_the_likelihood_is_largest() -> None:
    wins = [[0.0, 2.0, 1.0], [1.0, 0.0, 3.0], [0.5, 1.0, 0.0]]
    ratings = bradley_terry(wins, prior=0.0)
    for i in range(3):
        expected = sum((wins[i][j] + wins[j][i]) / (1 + math.exp(ratings[j] - ratings[i])) for j in range(3) if j != i)
        assert sum(wins[i]) == pytest.approx(expected), "where the gradient is 0, each won as often as is expected"
    assert bradley_terry([]) == [] and bradley_terry([[0.0]]) == [0.0]


def test_a_pair_of_judgements_teaches_what_was_written_for_the_prompt_that_was_read() -> None:
    pair = from_judgements(FOUR[0], [1, 2, 3], [4, 5], [6], max_tokens=5)
    assert pair.better.token_ids == [1, 2, 3, 4, 5] and pair.better.weights == [0, 0, 0, 1, 1]
    assert pair.worse.token_ids == [1, 2, 3, 6] and pair.shared == 3
    assert {pair.better.episode, pair.worse.episode} == {"one"} and pair.better.task == FOUR[0].task_id


def test_judgements_that_teach_nothing_are_refused() -> None:
    for prompt, better, worse in (([], [1], [2]), ([1], [], [2]), ([1], [2], [])):
        with pytest.raises(BadExample):
            from_judgements(FOUR[0], prompt, better, worse)
    with pytest.raises(SameSides):
        from_judgements(FOUR[0], [1], [2], [2])
    with pytest.raises(TooLong):
        from_judgements(FOUR[0], [1, 2, 3], [4], [5, 6], max_tokens=4)
