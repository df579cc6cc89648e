"""The context of an engine is held, whatever an environment says and however many commands it offers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from agentlab import errors
from agentlab.engines import passes
from agentlab.engines.model import Model
from agentlab.engines.transformers import TransformersEngine
from memory.prompts import rendering
from memory.records import Episode, Step
from trainers.data.examples import from_episode

LONG = "You are in the attic. " + "There is dust, and a note, and more dust. " * 2500 + "A door is to the north."


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> TransformersEngine:
    return TransformersEngine(tiny_model, dtype="float32", device="cpu", context=512)


def plain(engine: TransformersEngine, ids: list[int], command: str) -> float:
    whole = [*ids, *engine.command_tokens(command)]
    return engine.logprob(whole, [(len(ids), len(whole))])


@pytest.mark.parametrize("observation", [LONG, "x" * 150_000, "✓" * 60_000], ids=["words", "letters", "bytes"])
def test_a_long_observation_loses_its_middle_and_the_context_is_held(
    engine: TransformersEngine, observation: str
) -> None:
    conversation = engine.conversation("Find the coin.", "- Read the note first.")
    for _ in range(3):
        conversation.observe(observation)
        scores = Model(engine).score(conversation, ["look", "read note"]).logprobs
        assert len(conversation.seen) <= engine.context
        assert scores == pytest.approx([plain(engine, conversation.seen, c) for c in ("look", "read note")], abs=1e-3)
        conversation.act("look")
    assert conversation.cut > 50_000
    shown = conversation.text.split("- Read the note first.\n\n")[1].split("\n> look")[0]
    assert shown.startswith(observation[:30]) and shown.endswith(observation[-30:])
    assert len(observation) - conversation.cut == len(shown) - len(shown.splitlines()[1]) - 2
    assert engine.tokenizer.decode(conversation.token_ids) == conversation.text


def test_what_fits_is_never_cut(engine: TransformersEngine) -> None:
    conversation = engine.conversation("Find the coin.")
    conversation.observe(LONG[:500])
    assert conversation.cut == 0 and LONG[:500].strip() in conversation.text


def test_a_cut_observation_is_trained_on_as_it_was_played(engine: TransformersEngine) -> None:
    conversation = engine.conversation("Find the coin.")
    conversation.observe(LONG)
    step = Step(
        index=0, observation=LONG, state="", admissible=["look"], action="look", result="", next_state="",
    )  # fmt: skip
    conversation.act("look")
    record = Episode(
        id="e", run="r", env="x", split="train", seed=0, goal="Find the coin.", steps=[step],
        token_ids=conversation.token_ids, action_spans=conversation.action_spans,
    )  # fmt: skip
    example = from_episode(record, engine.tokenize, max_tokens=512)
    assert example.token_ids == conversation.token_ids and example.spans == conversation.action_spans


def test_a_task_that_leaves_no_room_for_its_game_is_refused_in_one_line(engine: TransformersEngine) -> None:
    with pytest.raises(errors.ContextExceeded, match="leaves no room") as refused:
        engine.conversation("Find the coin. " * 400)
    assert isinstance(refused.value, errors.EngineFailed) and "\n" not in str(refused.value)


def test_a_command_longer_than_the_context_is_refused_in_one_line(engine: TransformersEngine) -> None:
    conversation = engine.conversation("Find the coin.")
    conversation.observe("You are in the attic.")
    with pytest.raises(errors.ContextExceeded, match="A command has"):
        Model(engine).score(conversation, ["look", "say " + "xyz " * 1000])
    assert Model(engine).score(conversation, ["look"]).logprobs == pytest.approx(
        [plain(engine, conversation.token_ids, "look")], abs=1e-4
    )


def test_very_many_commands_are_scored_in_parts_with_the_same_result(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu")
    letters = "abcdefgh"
    commands = [f"open the {a}{b} with {c}{d}" for a in letters for b in letters for c in "ab" for d in "abcd"]

    def begun() -> object:
        conversation = engine.conversation("Find the coin.")
        conversation.observe("You are in the attic.")
        return conversation

    conversation = begun()
    sample = commands[::37]
    alone = Model(engine).score(conversation, sample).logprobs  # type: ignore[arg-type]
    rows: list[int] = []
    forward = engine.weights().forward

    def counted(*args: object, **inputs: object) -> object:
        made = forward(*args, **inputs)
        rows.append(made.logits.shape[1])
        return made

    monkeypatch.setattr(engine.weights(), "forward", counted)
    monkeypatch.setattr(passes, "LOGITS", 100 * 512)
    scores = dict(zip(commands, Model(engine).score(begun(), commands).logprobs, strict=True))  # type: ignore[arg-type]
    assert [scores[command] for command in sample] == pytest.approx(alone, abs=1e-4)
    assert len(rows) > 3 and max(rows[1:]) <= 102


def test_no_commands_have_no_scores(engine: TransformersEngine) -> None:
    conversation = engine.conversation("Find the coin.")
    conversation.observe("You are in the attic.")
    assert Model(engine).score(conversation, []).logprobs == []


def test_an_answer_never_asks_for_more_than_the_context(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ends", frozenset())
    answer = Model(engine).write("read note " * 400, max_tokens=5000)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (256, 256)


def test_what_looks_like_a_special_token_in_a_text_is_read_as_its_characters(engine: TransformersEngine) -> None:
    conversation = engine.conversation("Find the coin.")
    conversation.observe("The note says: <|endoftext|>")
    assert engine.tokenizer.eos_token_id not in conversation.token_ids
    assert engine.tokenizer.decode(conversation.token_ids) == conversation.text
    assert rendering.turn("The note says: <|endoftext|>") in conversation.text
    assert torch.isfinite(torch.tensor(Model(engine).score(conversation, ["look"]).logprobs)).all()
