"""A student without memory learns what its teacher with memory thought of every candidate."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from memory.records import Episode
from trainers.data.distillation import from_teacher
from trainers.errors import BadExample

MakeEpisode = Callable[..., Episode]


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def text(ids: list[int]) -> str:
    return "".join(map(chr, ids))


@pytest.fixture
def taught(make_episode: MakeEpisode) -> Episode:
    """Two steps with scores whose shares are plain: 1 : 3, then 1 : 1 with a bonus of log 4."""
    episode = make_episode(hints="Coins are north.", strength=0.5)
    said = [
        {"scores": [math.log(1), math.log(3)], "bonus": None},
        {"scores": [math.log(2), math.log(2)], "bonus": [0.0, math.log(4)]},
    ]
    steps = [step.model_copy(update=scores) for step, scores in zip(episode.steps, said, strict=True)]
    return episode.model_copy(update={"steps": steps})


def test_the_target_is_the_softmax_of_scores_and_advice_over_the_candidates(taught: Episode) -> None:
    first, second = from_teacher(taught, letters).choices
    assert first.probabilities == pytest.approx([1 / 4, 3 / 4])
    assert second.probabilities == pytest.approx([1 / 5, 4 / 5])


def test_advice_can_be_left_out_and_the_temperature_set(taught: Episode) -> None:
    first, second = from_teacher(taught, letters, temperature=0.5, advice=0).choices
    assert first.probabilities == pytest.approx([1 / 10, 9 / 10])
    assert second.probabilities == pytest.approx([1 / 2, 1 / 2])


def test_the_student_does_not_see_the_memory_and_chooses_at_the_same_places(taught: Episode) -> None:
    record = from_teacher(taught, letters)
    ids = record.example.token_ids
    assert text(ids) == "Task: Find the coin.\nA room.\n> north\nRoom 1.\n> take coin\n"
    assert [text(ids[: choice.at])[-9:] for choice in record.choices] == ["A room.\n>", "Room 1.\n>"]
    assert [[text(ids) for ids in choice.candidates] for choice in record.choices] == [[" north\n", " take coin\n"]] * 2
    assert [choice.at for choice in record.choices] == [start for start, _ in record.spans]


def test_a_long_episode_loses_its_oldest_choices(taught: Episode) -> None:
    whole = from_teacher(taught, letters)
    record = from_teacher(taught, letters, max_tokens=len(whole.example) - 1)
    (choice,) = record.choices
    assert text(record.example.token_ids) == "Task: Find the coin.\nRoom 1.\n> take coin\n"
    assert text(record.example.token_ids[choice.at :]) == " take coin\n"
    assert choice.probabilities == whole.choices[1].probabilities


def test_steps_weigh_as_told_and_those_without_a_choice_teach_nothing(taught: Episode) -> None:
    record = from_teacher(taught, letters, weight=3, step_weights=[0, 0.5])
    assert [record.example.weights[choice.at] for choice in record.choices] == [1.5]
    single = taught.steps[1].model_copy(update={"admissible": ["take coin"], "scores": [0.0], "bonus": None})
    only = taught.model_copy(update={"steps": [taught.steps[0], single]})
    assert len(from_teacher(only, letters).choices) == 1


def test_a_step_of_which_only_the_best_command_was_looked_for_teaches_nothing(taught: Episode) -> None:
    searched = taught.steps[1].model_copy(update={"scores": [None, math.log(2)]})
    only = taught.model_copy(update={"steps": [taught.steps[0], searched]})
    assert len(from_teacher(only, letters).choices) == 1


def test_an_episode_without_scores_has_no_teacher(make_episode: MakeEpisode) -> None:
    with pytest.raises(BadExample, match="episodes that a model played"):
        from_teacher(make_episode(), letters)


def test_weights_that_do_not_match_the_steps_are_refused(taught: Episode) -> None:
    with pytest.raises(BadExample, match="2 steps, tokens of 2 and 1 step weights"):
        from_teacher(taught, letters, step_weights=[1.0])


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_that_gives_no_distribution_is_refused(taught: Episode, temperature: float) -> None:
    with pytest.raises(BadExample, match="above 0"):
        from_teacher(taught, letters, temperature=temperature)
