"""Turns that a local model writes: held to the admissible commands, with the probabilities of all that was written."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agentlab.engines.base import TurnRequest, WriteRequest
from agentlab.engines.cached import CachedConversation
from agentlab.engines.model import Model
from agentlab.engines.transformers import TransformersEngine
from memory.prompts import Prompting

COMMANDS = ["look", "open black door", "open blue door", "read note"]


def talk(engine: TransformersEngine, thought: bool) -> CachedConversation:
    conversation = engine.conversation("Find the coin.", "", Prompting(thought=thought))
    conversation.observe("You are in the attic. You see a note, a door.", COMMANDS)
    return conversation


@pytest.mark.parametrize("think", [0, 6])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_turn_ends_with_an_admissible_command_whose_tokens_score_as_in_the_whole_text(
    engine: TransformersEngine, think: int, temperature: float
) -> None:
    conversation = talk(engine, think > 0)
    turn = Model(engine).write_turn(TurnRequest(conversation, COMMANDS, think=think, temperature=temperature, seed=3))
    assert turn.command in COMMANDS
    written = [at for at, logprob in enumerate(turn.logprobs) if logprob]
    assert len(turn.logprobs) == len(turn.token_ids) and len(written) >= 2
    before = len(conversation.token_ids)
    conversation.act(turn.command, turn.thought, turn.token_ids)
    assert conversation.token_ids[before:] == turn.token_ids
    spans = [(before + at, before + at + 1) for at in written]
    assert engine.logprob(conversation.token_ids, spans) == pytest.approx(sum(turn.logprobs), abs=1e-3)


def test_what_was_written_leaves_the_cache_as_it_was(engine: TransformersEngine) -> None:
    fresh, used = talk(engine, False), talk(engine, False)
    Model(engine).write_turn(TurnRequest(used, COMMANDS))
    Model(engine).write_turn(TurnRequest(used, None, refused="sing", objection="That is not possible."))
    used.act("look")
    used.observe("It is dark.")
    Model(engine).write_turn(TurnRequest(used, None, max_tokens=0))  # which reads nothing
    fresh.act("look")
    fresh.observe("It is dark.")
    scores = [Model(engine).score(one, COMMANDS).logprobs for one in (fresh, used)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_a_seed_decides_what_is_drawn(engine: TransformersEngine) -> None:
    def drawn(seed: int) -> str:
        return Model(engine).write_turn(TurnRequest(talk(engine, False), COMMANDS, temperature=3.0, seed=seed)).command

    assert [drawn(seed) for seed in range(8)] == [drawn(seed) for seed in range(8)]
    assert len({drawn(seed) for seed in range(8)}) > 1


def test_a_free_line_is_no_longer_than_asked_for_and_one_line(engine: TransformersEngine) -> None:
    turn = Model(engine).write_turn(TurnRequest(talk(engine, False), None, max_tokens=5, temperature=2.0, seed=1))
    assert "\n" not in turn.command and len(turn.token_ids) <= 5 + 1


def test_a_thought_that_was_left_empty_is_not_taught(engine: TransformersEngine) -> None:
    thought, silent = talk(engine, True), talk(engine, True)
    thought.act("look", "I want to see.")
    silent.act("look", "")
    assert engine.tokenizer.decode(thought.token_ids[slice(*thought.action_spans[0])]).startswith(" think:")
    (start, end), marks = silent.action_spans[0], silent.marks
    assert silent.token_ids[start:end] == engine.command_tokens("look")
    assert silent.token_ids[start - sum(map(len, marks)) : start] == [*marks[0], *marks[1]]


def test_what_is_written_is_read_when_the_next_choice_needs_it(
    engine: TransformersEngine, heard: Callable[[TransformersEngine], list[list[int]]]
) -> None:
    conversation, read = talk(engine, True), heard(engine)
    pending, (before, between) = list(conversation.pending), conversation.marks
    request = TurnRequest(conversation, ["open blue door"], think=3, temperature=2.0, seed=4)
    turn = Model(engine).write_turn(request)
    first, second, third = turn.token_ids[len(before) :][:3]
    command = conversation.command_tokens("open blue door")
    assert turn.token_ids == [*before, first, second, third, *between, *command]
    # What has to be written costs no pass of its own, and nothing is read behind the last token.
    assert read == [[*pending, *before], [first], [second], [third, *between, *command[:-1]]]


def test_the_rest_of_a_command_is_read_in_one_pass_once_no_other_is_left(
    engine: TransformersEngine, heard: Callable[[TransformersEngine], list[list[int]]]
) -> None:
    conversation, read = talk(engine, False), heard(engine)
    pending, commands = list(conversation.pending), ["open black door", "open blue door"]
    written = Model(engine).write_turn(TurnRequest(conversation, commands)).token_ids
    other = next(ids for ids in map(conversation.command_tokens, commands) if ids != written)
    parted = next(at for at, (one, two) in enumerate(zip(written, other, strict=False)) if one != two)
    assert read == [pending, *([token] for token in written[:parted]), written[parted:-1]]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("prompt", ["How many points?", ""])
def test_an_answer_ends_with_one_of_the_lines_to_which_it_is_held_and_is_no_longer_than_asked_for(
    engine: TransformersEngine, temperature: float, prompt: str
) -> None:
    endings = [f"Score: {points}" for points in range(6)]
    requests = [WriteRequest(prompt, None, 30, temperature, seed, endings=endings) for seed in range(4)]
    for writing in engine.write(requests):
        assert writing.text.splitlines()[-1] in endings and not writing.cut
        assert len(writing.token_ids) == len(writing.logprobs) <= 31
        written = [at for at, logprob in enumerate(writing.logprobs) if logprob]
        before = len(writing.prompt_ids)
        whole, spans = [*writing.prompt_ids, *writing.token_ids], [(before + at, before + at + 1) for at in written]
        assert engine.logprob(whole, spans) == pytest.approx(sum(writing.logprobs), abs=1e-3)


def test_which_of_the_lines_ends_an_answer_is_drawn(engine: TransformersEngine) -> None:
    endings = [f"Score: {points}" for points in range(6)]
    writings = engine.write([WriteRequest("Well?", None, 24, 2.0, seed, endings=endings) for seed in range(12)])
    assert len({writing.text.splitlines()[-1] for writing in writings}) > 2


def test_what_would_end_an_answer_sooner_gives_way_to_the_line_that_ends_it(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ends", range(len(engine.tokenizer)))
    request = WriteRequest("How many points?", max_tokens=30, endings=["Score: 1", "Score: 2"])
    (writing,) = engine.write([request])
    assert writing.text in request.endings and not writing.cut
