"""What is watched over the rounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.records import Episode, Step
from trainers.gate.monitors import (
    MonitorConfig,
    Monitors,
    Scored,
    action_entropy,
    drift,
    observe,
    pass_at_k,
    pass_at_k_s,
)
from trainers.gate.statistics import wilson

MakeEpisode = Callable[..., Episode]


def test_pass_at_k_is_the_one_worked_out_by_hand() -> None:
    # 5 samples, 2 correct, 3 drawn: 1 − C(3,3)/C(5,3) = 0.9.
    assert pass_at_k(5, 2, 3) == pytest.approx(0.9)
    assert pass_at_k(10, 3, 1) == pytest.approx(0.3)
    assert pass_at_k(4, 0, 2) == 0.0
    assert pass_at_k(4, 3, 2) == 1.0


@pytest.mark.parametrize(("n", "correct", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 0), (3, 1, 4)])
def test_pass_at_k_needs_enough_samples(n: int, correct: int, k: int) -> None:
    with pytest.raises(ValueError, match="needed"):
        pass_at_k(n, correct, k)


def test_pass_at_k_s_is_the_one_worked_out_by_hand() -> None:
    # 4 samples a a b ✗, 2 drawn, 2 different: {a1 b, a2 b} of 6 pairs.
    assert pass_at_k_s(4, [2, 1], 2, 2) == pytest.approx(2 / 6)
    # 3 drawn: {a1 a2 b, a1 b ✗, a2 b ✗} of 4.
    assert pass_at_k_s(4, [2, 1], 3, 2) == pytest.approx(3 / 4)
    assert pass_at_k_s(4, [4], 4, 2) == 0.0
    assert pass_at_k_s(4, [], 4, 1) == 0.0


@given(st.lists(st.integers(1, 3), max_size=4), st.integers(0, 3), st.data())
def test_pass_at_k_s_agrees_with_counting_all_draws(copies: list[int], wrong: int, data: st.DataObject) -> None:
    samples = [kind for kind, count in enumerate(copies) for _ in range(count)] + [-1] * wrong
    if not samples:
        samples, wrong = [-1], 1
    k = data.draw(st.integers(1, len(samples)))
    s = data.draw(st.integers(1, 4))
    draws = list(combinations(samples, k))
    hits = sum(len(set(drawn) - {-1}) >= s for drawn in draws)
    assert pass_at_k_s(len(samples), copies, k, s) == pytest.approx(hits / len(draws))
    assert pass_at_k_s(len(samples), copies, k, 1) == pytest.approx(pass_at_k(len(samples), sum(copies), k))


@pytest.mark.parametrize(
    ("n", "copies", "k", "s"), [(3, [4], 1, 1), (3, [0], 1, 1), (3, [1], 4, 1), (3, [1], 0, 1), (3, [1], 1, 0)]
)
def test_pass_at_k_s_refuses_counts_that_cannot_be(n: int, copies: list[int], k: int, s: int) -> None:
    with pytest.raises(ValueError, match="needed"):
        pass_at_k_s(n, copies, k, s)


def step(scores: list[float] | None) -> Step:
    names = [f"c{n}" for n in range(len(scores or [0]))]
    return Step(
        index=0, observation="", state="", admissible=names, action="c0", result="", next_state="", scores=scores
    )


def test_entropy_is_that_of_the_distribution_over_the_commands() -> None:
    # Unnormalised scores of 0.6 : 0.2 give 3/4 and 1/4: −¾ ln ¾ − ¼ ln ¼ = 0.562335.
    assert action_entropy(step([math.log(0.6), math.log(0.2)])) == pytest.approx(0.562335, abs=1e-6)
    assert action_entropy(step([-900.0, -900.0, -900.0])) == pytest.approx(math.log(3))
    assert action_entropy(step([0.0, -1e300])) == 0.0


@pytest.mark.parametrize("scores", [None, [-0.5], [-0.5, None, -0.1]])
def test_where_no_model_scored_all_or_nothing_was_to_choose_there_is_no_entropy(
    scores: list[float | None] | None,
) -> None:
    assert action_entropy(step(scores)) is None


def test_drift_is_the_mean_log_ratio_a_token() -> None:
    # (−2 + 6)/4 = 1 and (−3 + 2)/2 = −0.5: mean 0.25, deviation √1.125, half-width 1.96·√(1.125/2) = 1.47.
    found = drift([Scored(-2.0, -6.0, 4), Scored(-3.0, -2.0, 2), Scored(0.0, 0.0, 0)])
    assert found is not None and found.n == 2 and found.value == pytest.approx(0.25)
    assert (found.low, found.high) == (pytest.approx(0.25 - 1.47, abs=1e-3), pytest.approx(0.25 + 1.47, abs=1e-3))
    alone = drift([Scored(-1.0, -3.0, 2)])
    assert alone is not None and (alone.value, alone.n, alone.low) == (1.0, 1, None)
    assert drift([]) is None


@pytest.fixture
def samples(make_episode: MakeEpisode) -> list[Episode]:
    """Task 0: a a b lost; task 1: four lost; task 2: one won, too few for k = 4; and what is no sample."""
    won = [make_episode(f"w{n}", actions=(way,)) for n, way in enumerate("aab")]
    lost = [make_episode("l", status="lost", actions=("z",))]
    other = [make_episode(f"o{n}", seed=1, start="Other.", status="lost") for n in range(4)]
    few = [make_episode("few", seed=2, start="Third.")]
    none = [
        make_episode("errored", status="errored"),
        make_episode("minimised", minimised_from="w0", actions=("m",)),
        make_episode("relabelled", relabelled_from="l", actions=("r",)),
    ]
    return [*won, *lost, *other, *few, *none]


def test_all_monitors_of_a_round(samples: list[Episode]) -> None:
    seen = observe(samples, MonitorConfig(k=3, s=2), scored=[Scored(-1.0, -2.0, 1)])
    assert seen.pass_at_1 is not None and seen.pass_at_k is not None and seen.pass_at_k_s is not None
    # Pass@1: 3/4, 0, 1 over three tasks; Pass@3: 1, 0; Pass@3-2: 3/4, 0.
    assert (seen.pass_at_1.n, seen.pass_at_1.value) == (3, pytest.approx(1.75 / 3))
    assert (seen.pass_at_k.n, seen.pass_at_k.value) == (2, pytest.approx(0.5))
    assert (seen.pass_at_k_s.n, seen.pass_at_k_s.value) == (2, pytest.approx(0.375))
    assert (seen.pass_at_k.low, seen.pass_at_k.high) == wilson(1, 2)
    assert (seen.too_few, seen.successes, seen.distinct) == (1, 4, 3)
    assert seen.entropy is None and seen.evenness is None
    assert seen.drift is not None and seen.drift.value == 1.0
    assert Monitors.model_validate_json(seen.model_dump_json()) == seen


def test_a_filter_can_stand_in_for_success(samples: list[Episode]) -> None:
    seen = observe(samples, correct=lambda episode: episode.won and episode.actions == ["b"])
    assert (seen.successes, seen.distinct) == (1, 1)
    assert seen.pass_at_1 is not None and seen.pass_at_1.value == pytest.approx(0.25 / 3)


def test_entropy_is_a_mean_over_the_steps_with_a_choice(make_episode: MakeEpisode) -> None:
    episode = make_episode(actions=("north", "north", "north"))
    episode.steps[0].scores = [-1.0, -1.0]
    episode.steps[1].scores = [0.0, -math.inf]
    seen = observe([episode])
    assert seen.entropy is not None and seen.evenness is not None
    assert (seen.entropy.n, seen.entropy.value) == (2, pytest.approx(math.log(2) / 2))
    assert seen.evenness.value == pytest.approx(0.5)


def test_nothing_played_is_nothing_measured() -> None:
    assert observe([]) == Monitors(k=4, s=2)
