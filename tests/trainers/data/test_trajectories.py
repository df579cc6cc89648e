from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from memory import prompts
from memory.records import Episode
from trainers.data.examples import Example
from trainers.data.records import OTHERS, OWN, SYSTEM, Trajectory
from trainers.data.trajectories import sequenced
from trainers.errors import BadExample, TooLong

Make = Callable[..., Episode]


def letters(text: str) -> list[int]:
    return list(text.encode())


def text_of(tokens: list[int], sources: list[int], source: int) -> str:
    return bytes(token for token, one in zip(tokens, sources, strict=True) if one == source).decode()


def test_every_token_has_the_source_that_it_came_from(make_episode: Make) -> None:
    episode = make_episode(actions=("north", "take coin"))
    found = sequenced(episode, letters, max_tokens=1000)
    head = prompts.head(episode.goal, "")
    assert text_of(found.token_ids, found.sources, SYSTEM) == head
    said = "".join(prompts.action(action) + prompts.LINE_END for action in episode.actions)
    assert text_of(found.token_ids, found.sources, OWN) == said
    others = text_of(found.token_ids, found.sources, OTHERS)
    assert "A room." in others and "Room 1." in others and "north" not in others
    assert found.token_ids[: found.prompt] == letters(head + others[: found.prompt - len(head)])


def test_what_memory_said_is_part_of_the_system(make_episode: Make) -> None:
    episode = make_episode(hints="- Read the note first.")
    found = sequenced(episode, letters, max_tokens=1000)
    assert "Read the note first." in text_of(found.token_ids, found.sources, SYSTEM)


def test_only_own_tokens_have_an_advantage_that_of_their_step(make_episode: Make) -> None:
    found = sequenced(make_episode(actions=("north", "take coin")), letters, max_tokens=1000)
    weights = found.weighted([0.5, -2.0])
    own = [
        (weight, step)
        for weight, source, step in zip(weights, found.sources, found.steps, strict=True)
        if source == OWN
    ]
    assert {step for _, step in own} == {0, 1}
    assert all(weight == (0.5, -2.0)[step] for weight, step in own)
    assert all(not weight for weight, source in zip(weights, found.sources, strict=True) if source != OWN)


def written(make_episode: Make, logprobs: list[float]) -> Episode:
    """An episode of one step, of which the tokens that were written are known."""
    episode = make_episode(actions=("go",))
    head, seen = prompts.head(episode.goal, ""), prompts.turn("A room.")
    said = letters("go\n")
    ids = [*letters(head + seen), *said]
    step = episode.steps[0].model_copy(update={"token_ids": said, "logprobs": logprobs, "logprob": sum(logprobs)})
    return episode.model_copy(
        update={"steps": [step], "token_ids": ids, "action_spans": [(len(ids) - len(said), len(ids))]}
    )


def test_what_had_to_be_written_is_not_the_agents_own(make_episode: Make) -> None:
    found = sequenced(written(make_episode, [-0.5, -0.25, 0.0]), letters, max_tokens=1000)
    assert found.sources[-3:] == [OWN, OWN, SYSTEM]
    assert found.logprob == -0.75


def test_without_its_log_probabilities_all_that_was_chosen_counts_as_own(make_episode: Make) -> None:
    found = sequenced(written(make_episode, []), letters, max_tokens=1000)
    assert found.sources[-3:] == [OWN, OWN, OWN]


def test_a_long_episode_loses_its_oldest_turns_and_keeps_the_place_of_the_others(make_episode: Make) -> None:
    episode = make_episode(actions=tuple(f"go {number}" for number in range(20)))
    whole = sequenced(episode, letters, max_tokens=10_000)
    part = sequenced(episode, letters, max_tokens=len(whole.token_ids) // 2)
    assert len(part.token_ids) <= len(whole.token_ids) // 2
    assert part.steps[-1] == 19 and min(step for step in part.steps if step >= 0) > 0
    assert part.logprob is None  # it was played behind what is left out
    with pytest.raises(TooLong):
        sequenced(episode, letters, max_tokens=20)


def test_an_episode_without_a_step_is_refused(make_episode: Make) -> None:
    with pytest.raises(BadExample):
        sequenced(make_episode(actions=()), letters, max_tokens=100)


def trajectory(weights: list[float], sources: list[int]) -> Trajectory:
    example = Example(token_ids=[1, 2, 3, 4], weights=weights, episode="e", task="t")
    return Trajectory(example=example, sources=sources, reward=1.0, step=0)


@pytest.mark.parametrize(
    ("weights", "sources"),
    [([0.0, 1.0, 0.0, 0.0], [0, 2, 1, 1]), ([0.0, 0.0, 1.0, 0.0], [0, 1]), ([0.0, 1.0, 0.0, 0.0], [0, 0, 1, 1])],
)
def test_an_advantage_where_the_agent_did_not_write_is_refused(weights: list[float], sources: list[int]) -> None:
    with pytest.raises(ValidationError):
        trajectory(weights, sources)


def test_what_is_taught_is_what_was_better_than_the_group() -> None:
    mixed = trajectory([0.0, 0.5, 0.0, -0.5], [SYSTEM, OWN, OTHERS, OWN])
    assert mixed.taught is not None and mixed.taught.weights == [0.0, 0.5, 0.0, 0.0]
    assert mixed.own.weights == [0.0, 1.0, 0.0, 1.0]
    assert trajectory([0.0, -0.5, 0.0, 0.0], [SYSTEM, OWN, OTHERS, OWN]).taught is None


def test_a_trajectory_is_read_back_as_it_was_written() -> None:
    from trainers.data.records import read

    made: Any = trajectory([0.0, 0.5, 0.0, -0.5], [SYSTEM, OWN, OTHERS, OWN])
    assert read("grpo", made.model_dump_json()) == made
