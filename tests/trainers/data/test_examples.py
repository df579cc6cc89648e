"""What was played is what is trained."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from memory.prompts import rendering
from memory.records import Episode
from trainers.data.examples import Example, drop_oldest, from_episode
from trainers.errors import BadExample

MakeEpisode = Callable[..., Episode]


def letters(text: str) -> list[int]:
    """A tokenizer that needs no model: one token a character."""
    return [ord(letter) for letter in text]


def text(ids: list[int]) -> str:
    return "".join(map(chr, ids))


def play(episode: Episode, offset: int = 0) -> Episode:
    """The episode with the tokens that an engine would have stored."""
    ids: list[int] = [1] * offset
    spans: list[tuple[int, int]] = []
    for segment in rendering.segments(episode):
        piece = [token + 1000 if segment.chosen else token for token in letters(segment.text)]
        if segment.chosen:
            spans.append((len(ids), len(ids) + len(piece)))
        ids += piece
    return episode.model_copy(update={"token_ids": ids, "action_spans": spans})


def test_the_loss_is_on_actions_and_their_line_ends_only(make_episode: MakeEpisode) -> None:
    example = from_episode(make_episode(), letters, weight=0.5)
    assert text(example.token_ids) == ("Task: Find the coin.\nA room.\n> north\nRoom 1.\n> take coin\n")
    assert [text(example.token_ids[start:end]) for start, end in example.spans] == [" north\n", " take coin\n"]
    assert set(example.weights) == {0.0, 0.5}
    assert (example.episode, example.task) == ("e", "toy/doors:train:0")


def test_an_episode_with_tokens_is_trained_on_exactly_these(make_episode: MakeEpisode) -> None:
    played = play(make_episode())
    example = from_episode(played, letters)
    # The marks at 1000 and more show that nothing was tokenised again.
    assert example.token_ids == played.token_ids
    assert [token >= 1000 for token in example.token_ids] == [weight == 1.0 for weight in example.weights]


def test_a_begin_token_before_the_head_stays(make_episode: MakeEpisode) -> None:
    played = play(make_episode(), offset=1)
    assert from_episode(played, letters).token_ids == played.token_ids


def test_tokens_after_the_last_action_are_cut_off(make_episode: MakeEpisode) -> None:
    played = play(make_episode())
    longer = played.model_copy(update={"token_ids": [*played.token_ids, *letters("You win!\n>")]})
    assert from_episode(longer, letters).token_ids == played.token_ids


def test_tokens_of_another_tokenizer_are_not_trusted(make_episode: MakeEpisode) -> None:
    foreign = make_episode(token_ids=[7, 8, 9], action_spans=[(1, 3)])
    assert text(from_episode(foreign, letters).token_ids).startswith("Task: Find the coin.")


def test_without_hints_the_same_actions_are_taught_for_the_bare_prompt(make_episode: MakeEpisode) -> None:
    hinted = play(make_episode(hints="Coins are north."))
    bare, full = from_episode(hinted, letters), from_episode(hinted, letters, with_hints=True)
    assert "Hints" not in text(bare.token_ids)
    assert full.token_ids == hinted.token_ids
    assert [text(bare.token_ids[a:b]) for a, b in bare.spans] == [" north\n", " take coin\n"]


@pytest.mark.parametrize("with_tokens", [True, False])
def test_a_long_episode_loses_its_oldest_turns_and_keeps_its_head(make_episode: MakeEpisode, with_tokens: bool) -> None:
    episode = make_episode(actions=("north", "east", "take coin"))
    episode = play(episode) if with_tokens else episode
    whole = from_episode(episode, letters)
    example = from_episode(episode, letters, max_tokens=len(whole) - 1)
    kept = [token - 1000 if token >= 1000 else token for token in example.token_ids]
    assert text(kept) == "Task: Find the coin.\nRoom 1.\n> east\nRoom 2.\n> take coin\n"
    assert len(example.spans) == 2


def test_a_turn_that_does_not_fit_is_an_error_with_the_numbers(make_episode: MakeEpisode) -> None:
    with pytest.raises(BadExample, match=r"limit is 30; raise max_tokens"):
        from_episode(make_episode(), letters, max_tokens=30)


def test_an_episode_without_steps_teaches_nothing(make_episode: MakeEpisode) -> None:
    with pytest.raises(BadExample, match="no steps"):
        from_episode(make_episode(actions=()), letters)


@pytest.mark.parametrize("with_tokens", [True, False])
def test_every_step_can_weigh_its_own_and_keeps_its_weight_when_older_ones_are_dropped(
    make_episode: MakeEpisode, with_tokens: bool
) -> None:
    episode = make_episode(actions=("north", "east", "take coin"))
    episode = play(episode) if with_tokens else episode
    whole = from_episode(episode, letters, weight=0.5, step_weights=[0, 1, 2])
    assert [whole.weights[start] for start, _ in whole.spans] == [0.5, 1.0]
    assert [end - start for start, end in whole.spans] == [len(" east\n"), len(" take coin\n")]
    shorter = from_episode(episode, letters, step_weights=[3, 1, 2], max_tokens=len(whole) - 1)
    assert [shorter.weights[start] for start, _ in shorter.spans] == [1.0, 2.0]


def test_step_weights_that_are_not_one_a_step_are_refused(make_episode: MakeEpisode) -> None:
    with pytest.raises(BadExample, match="has 2 steps and 3 step weights"):
        from_episode(make_episode(), letters, step_weights=[1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("turns", "head", "limit", "dropped"),
    [([5, 5, 5], 10, 25, 0), ([5, 5, 5], 10, 24, 1), ([5, 5, 5], 10, 20, 1), ([5, 5, 50], 10, 20, 2), ([], 10, 5, 0)],
)
def test_the_oldest_turns_are_dropped_until_the_rest_fits(
    turns: list[int], head: int, limit: int, dropped: int
) -> None:
    assert drop_oldest(turns, head, limit) == dropped


@pytest.mark.parametrize("weights", [[0.0], [0.0, 1.0, 1.0], [1.0, 1.0]])
def test_an_example_whose_weights_do_not_fit_its_tokens_is_refused(weights: list[float]) -> None:
    with pytest.raises(ValidationError):
        Example(token_ids=[1, 2], weights=weights, episode="e", task="t")
