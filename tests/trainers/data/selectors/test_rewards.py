"""Selection by reward."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from memory.records import Episode
from trainers.data.selectors import Selection, Threshold, Won

MakeEpisode = Callable[..., Episode]
Run = Callable[..., Selection]


@pytest.fixture
def scored(make_episode: MakeEpisode) -> list[Episode]:
    return [
        make_episode(f"{score}", score=score, status="won" if score == 1 else "lost") for score in (0.0, 0.3, 0.6, 1.0)
    ]


def names(selection: Selection) -> set[str]:
    return {item.episode.id for item in selection.selected}


def test_the_binary_filter_takes_what_was_won(run: Run, scored: list[Episode]) -> None:
    result = run(Won(), scored)
    assert names(result) == {"1.0"} and result.left_out == {"not won": 3}


@pytest.mark.parametrize(
    ("improve", "kept"),
    [(0, {"0.3", "0.6", "1.0"}), (1, {"0.6", "1.0"}), (2, {"1.0"}), (9, {"1.0"})],
)
def test_every_improve_step_raises_the_bar_up_to_the_last(
    run: Run, scored: list[Episode], improve: int, kept: set[str]
) -> None:
    result = run(Threshold(at=[0.3, 0.6, 0.9]), scored, improve=improve, round=7)
    assert names(result) == kept
    assert result.left_out == {"score below the threshold": 4 - len(kept)}


def test_the_bar_can_rise_with_the_rounds_instead(run: Run, scored: list[Episode]) -> None:
    selector = Threshold(at=[0.0, 0.5], by="round")
    assert len(names(run(selector, scored, round=1))) == 4
    assert names(run(selector, scored, round=2)) == {"0.6", "1.0"}


@pytest.mark.parametrize("at", [[], [0.5, 0.5], [0.6, 0.3], [1.5]])
def test_thresholds_that_do_not_rise_within_the_scores_are_refused(at: list[float]) -> None:
    with pytest.raises(ValidationError):
        Threshold(at=at)
