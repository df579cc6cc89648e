"""Weights of single steps."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from memory.records import Episode
from trainers.data.selectors import Selection, StepValues
from trainers.data.selectors.experimental.values import step_values
from trainers.errors import CannotSelect

MakeEpisode = Callable[..., Episode]
Run = Callable[..., Selection]


def test_values_rise_evenly_along_a_way_that_leads_there() -> None:
    assert step_values([True] * 4) == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_values_are_those_worked_out_by_hand_where_steps_lead_away() -> None:
    # Steps left 2, 1, 0: 0 + 1/3; 1/3 − (2/3)/2 = 0; 0 + 1/1.
    assert step_values([True, False, True]) == pytest.approx([1 / 3, 0.0, 1.0])
    # 4 steps: 1/4; 1/4 + (3/4)/3 = 1/2; 1/2 − (1/2)/2 = 1/4; max(0, 1/4 − 3/4) = 0.
    assert step_values([True, True, False, False]) == pytest.approx([0.25, 0.5, 0.25, 0.0])
    assert step_values([]) == []


def test_a_won_episode_is_weighed_step_by_step_and_a_lost_one_left_out(run: Run, make_episode: MakeEpisode) -> None:
    result = run(StepValues(), [make_episode("won"), make_episode("lost", status="lost")])
    assert [item.episode.id for item in result.selected] == ["won"]
    assert result.selected[0].step_weights == [0.5, 1.0]
    assert result.left_out == {"no step of value": 1}


def test_what_a_search_found_decides_which_steps_teach(run: Run, make_episode: MakeEpisode) -> None:
    lost = make_episode("lost", status="lost", actions=("a", "b", "c"))
    result = run(StepValues(), [lost], reaches=lambda episode: [True, True, False])
    assert result.selected[0].step_weights == pytest.approx([1 / 3, 2 / 3, 1 / 3])
    with pytest.raises(CannotSelect, match="judge each step"):
        run(StepValues(), [lost], reaches=lambda episode: [True])
