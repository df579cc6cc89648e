"""Selection by certainty."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from memory.records import Episode
from trainers.data.selectors import Selection, Uncertainty
from trainers.data.selectors.experimental.uncertainty import bald
from trainers.errors import CannotSelect

MakeEpisode = Callable[..., Episode]
Run = Callable[..., Selection]


def test_the_information_gain_is_the_one_worked_out_by_hand() -> None:
    # Passes say 0.9 and 0.5. H(0.7) = 0.610864; H(0.9) = 0.325083, H(0.5) = 0.693147, their mean 0.509115.
    assert bald([math.log(0.9), math.log(0.5)]) == pytest.approx(0.610864 - 0.509115, abs=1e-6)


def test_passes_that_agree_gain_nothing_and_those_that_contradict_the_most() -> None:
    assert bald([math.log(0.3)] * 10) == pytest.approx(0.0, abs=1e-12)
    assert bald([0.0, -math.inf]) == pytest.approx(math.log(2))


@pytest.mark.parametrize("logprobs", [[], [0.1], [math.nan]])
def test_what_is_no_log_probability_is_refused(logprobs: list[float]) -> None:
    with pytest.raises(ValueError, match="log-probabilities"):
        bald(logprobs)


def test_certain_episodes_are_kept_more_often(run: Run, make_episode: MakeEpisode) -> None:
    pair = [make_episode("sure"), make_episode("torn")]

    def passes(episode: Episode, count: int, dropout: float) -> list[float]:
        assert dropout == 0.1
        return [0.0 if episode.id == "sure" or i % 2 else -math.inf for i in range(count)]

    def kept(seed: int, sharpness: float) -> str:
        result = run(Uncertainty(share=0.5, sharpness=sharpness), pair, passes=passes, seed=seed)
        assert result.left_out == {"uncertain": 1}
        return result.selected[0].episode.id

    # Chances 1 and 1 − ln 2 = 0.307: 1 / 1.307 = 0.765 of the draws.
    drawn = [kept(seed, 1.0) for seed in range(1000)]
    assert drawn.count("sure") / 1000 == pytest.approx(0.765, abs=0.05)
    assert all(kept(seed, 20.0) == "sure" for seed in range(50))


def test_what_cannot_be_scored_is_left_out_and_does_not_count_for_the_share(
    run: Run, make_episode: MakeEpisode
) -> None:
    episodes = [make_episode(name) for name in ("long", "a", "b")]
    result = run(Uncertainty(share=0.5), episodes, passes=lambda one, *_: [] if one.id == "long" else [-1.0] * 10)
    assert result.left_out == {"cannot be scored": 1, "uncertain": 1}
    assert result.selected[0].episode.id in ("a", "b")


@pytest.mark.parametrize("answer", [[-0.1] * 9, [0.2] * 10])
def test_passes_that_give_something_else_than_was_asked_for_are_an_error(
    run: Run, make_episode: MakeEpisode, answer: list[float]
) -> None:
    with pytest.raises(CannotSelect, match="10 log-probabilities"):
        run(Uncertainty(), [make_episode()], passes=lambda *_: answer)
