"""What is asked beside others is answered as it is alone, in fewer passes: scores, turns, texts, with adapters too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from agentlab.agent.arms import Arm
from agentlab.agent.rollout import Rollout
from agentlab.agent.writing import WritingActor
from agentlab.engines import adapted, batching, passes
from agentlab.engines.base import Adapter, Conversation, ScoreRequest, TurnRequest, WriteRequest
from agentlab.engines.batching import Batcher
from agentlab.engines.cached import CachedConversation
from agentlab.engines.model import Model
from agentlab.engines.slots import Slot
from agentlab.engines.transformers import TransformersEngine
from agentlab.errors import ContextExceeded
from benchmarks.tiny_models import WINDOW, Tokens, make
from environments import Task
from memory import Database
from memory.prompts import Prompting
from memory.records import Episode

Heard = Callable[[TransformersEngine], list[list[int]]]

COMMANDS = ["look", "open black door", "open blue door", "open blue", "read note", "take coin", "jump ✓"]
SCENES = [
    ["You are in the attic. You see a note."],
    ["A cellar. " * 9, "The note says: the red door is safe.", "Dark."],
    ["You see a door, a coin, a lamp. " * 12, "The door is shut."],
    ["Nothing."],
]


def talks(engine: TransformersEngine, prompting: Prompting | None = None) -> list[Conversation]:
    """Conversations of different lengths, at different turns."""
    found: list[Conversation] = []
    for at, scene in enumerate(SCENES):
        talk = engine.conversation("Find the coin.", "- Read the note." if at % 2 else "", prompting)
        for said in scene:
            if talk.turns:
                talk.act("look")
            talk.observe(said, COMMANDS)
        found.append(talk)
    return found


def asked(at: int) -> list[str]:
    """The commands that the conversation of this number may choose from."""
    return COMMANDS[: 2 + 2 * at]


def far(found: Sequence[Sequence[float]], meant: Sequence[Sequence[float]]) -> float:
    return max(abs(a - b) for one, other in zip(found, meant, strict=True) for a, b in zip(one, other, strict=True))


def passed(read: list[list[int]]) -> int:
    """How many passes were heard since this was asked last."""
    passes = len(read)
    read.clear()
    return passes


def scores(
    engine: TransformersEngine, asking: Sequence[Conversation], adapters: Sequence[Adapter | None]
) -> list[list[float]]:
    """Their scores, asked in one list."""
    requests = [ScoreRequest(talk, asked(at), adapters[at]) for at, talk in enumerate(asking)]
    return [one.logprobs for one in engine.score(requests)]


def alone(
    engine: TransformersEngine, asking: Sequence[Conversation], adapters: Sequence[Adapter | None]
) -> list[list[float]]:
    """Their scores, asked one after the other."""
    return [engine.score([ScoreRequest(talk, asked(at), adapters[at])])[0].logprobs for at, talk in enumerate(asking)]


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_scores_beside_others_are_those_alone_turn_after_turn(tmp_path: Path, heard: Heard, family: str) -> None:
    engine = TransformersEngine(make(tmp_path / family, family, Tokens(bos=True)), dtype="float32", device="cpu")
    one, other, read = talks(engine), talks(engine), heard(engine)
    for turn in range(3):
        nobody = [None] * len(one)
        found, together = scores(engine, one, nobody), passed(read)
        assert far(found, alone(engine, other, nobody)) < 1e-4
        assert (together, passed(read)) == (1, len(one))
        for talk in (*one, *other):
            talk.act("look")
            talk.observe(f"It is dark, for the {turn}th time. " * 3)
    assert max(len(talk.token_ids) for talk in one) > WINDOW + 40
    assert engine._passes.slots.count == 8


def test_a_model_that_cannot_be_read_beside_others_is_read_alone(tmp_path: Path, heard: Heard) -> None:
    folder = make(tmp_path / "neo", "gpt_neo")
    engine = TransformersEngine(folder, dtype="float32", device="cpu", context=WINDOW)
    assert not engine._passes.at_once
    pair = [engine.conversation("Win."), engine.conversation("Win.", "- Look.")]
    for talk in pair:
        talk.observe("A door.")
    read = heard(engine)
    together = engine.score([ScoreRequest(talk, COMMANDS) for talk in pair])
    assert passed(read) == 2
    again = [engine.score([ScoreRequest(talk, COMMANDS)])[0] for talk in pair]
    assert far([one.logprobs for one in together], [one.logprobs for one in again]) < 1e-4


def begun(engine: TransformersEngine) -> tuple[CachedConversation, CachedConversation]:
    """Two conversations, a short one and a long one, which have their slots."""
    pair = engine.conversation("Find the coin."), engine.conversation("Find the coin.")
    for talk, said in zip(pair, (SCENES[0], SCENES[2]), strict=True):
        talk.observe(said[0])
    scores(engine, pair, [None] * 2)
    return pair


def held(talk: CachedConversation) -> int:
    """Which slot this has."""
    assert talk.cache is not None
    return talk.cache.index


def test_an_episode_that_ends_gives_its_slot_to_the_next_and_leaves_nothing_in_it(engine: TransformersEngine) -> None:
    memory, used = engine._passes.slots, set[int]()
    stays = begun(engine)  # without anybody all memory is given back
    for _ in range(4):
        pair = begun(engine)
        meant = [
            engine.logprob([*talk.token_ids, *engine.command_tokens("look")], spans(engine, talk)) for talk in pair
        ]
        found = [one.logprobs[0] for one in engine.score([ScoreRequest(talk, ["look"]) for talk in pair])]
        assert found == pytest.approx(meant, abs=1e-4)
        mine = [held(talk) for talk in pair]
        used.update(mine)
        with torch.inference_mode():
            for part in (part for layer in memory.layers.values() for part in layer):
                part[mine] = torch.nan  # whoever comes next must not see it, not even masked
        for talk in pair:
            talk.close()
    assert len(used) == 2 and not used & {held(talk) for talk in stays}


def test_an_episode_that_nobody_closed_gives_its_slot_back(engine: TransformersEngine) -> None:
    stays = begun(engine)
    left = begun(engine)
    lent = {held(talk) for talk in left}
    del left
    assert {held(talk) for talk in begun(engine)} == lent and not lent & {held(talk) for talk in stays}


def test_equally_long_conversations_are_read_in_the_order_of_their_slots(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = listening(monkeypatch)
    same = [engine.conversation("Find the coin.") for _ in range(4)]
    for asking in (same, same[::-1]):
        for talk in asking:
            talk.observe("Dark.")
        engine.score([ScoreRequest(talk, ["look"]) for talk in asking])
    assert len(found) == 2 and all(isinstance(slots, slice) for slots in found)


def listening(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor | slice]:
    """The slots of each block that is read from now on."""
    found, together = [], passes.together

    def listen(slots: Sequence[Slot], width: int) -> tuple[torch.Tensor | slice, list[int]]:
        found.append(together(slots, width)[0])
        return together(slots, width)

    monkeypatch.setattr(passes, "together", listen)
    return found


def test_few_new_tokens_are_read_without_a_copy_also_where_a_slot_between_was_given_back(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = [engine.conversation(f"Find coin {at}.") for at in range(24)]
    for talk in same:
        talk.observe("Dark.")
    meant = [engine.score([ScoreRequest(talk, ["look"])])[0].logprobs for talk in same]
    gone = same.pop(7)
    at, _ = held(gone), meant.pop(7)
    gone.close()
    with torch.inference_mode():
        for part in (part for layer in engine._passes.slots.layers.values() for part in layer):
            part[at] = torch.nan
    found = listening(monkeypatch)
    scores = engine.score([ScoreRequest(talk, ["look"]) for talk in same])
    (block,) = found
    assert isinstance(block, slice) and block.stop - block.start == len(same) + 1
    for one, right in zip(scores, meant, strict=True):
        assert one.logprobs == pytest.approx(right, abs=1e-4)


def spans(engine: TransformersEngine, talk: Conversation) -> list[tuple[int, int]]:
    """Where a command behind a conversation stands."""
    return [(len(talk.token_ids), len(talk.token_ids) + len(engine.command_tokens("look")))]


def test_a_conversation_of_another_engine_is_refused_and_not_mixed_up(
    tiny_model: Path, engine: TransformersEngine
) -> None:
    other = TransformersEngine(tiny_model, dtype="float32", device="cpu")
    with pytest.raises(ValueError, match="another engine"):
        other.score([ScoreRequest(talks(engine)[0], COMMANDS)])


def test_one_conversation_may_be_asked_twice_in_a_list(engine: TransformersEngine, heard: Heard) -> None:
    (talk, other), read = talks(engine)[:2], heard(engine)
    requests = [ScoreRequest(talk, COMMANDS), ScoreRequest(other, COMMANDS), ScoreRequest(talk, COMMANDS[::-1])]
    first, _, second = engine.score(requests)
    assert passed(read) == 2
    assert second.logprobs[::-1] == pytest.approx(first.logprobs, abs=1e-4)


def test_very_much_at_once_is_read_in_several_passes(
    engine: TransformersEngine, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody, read = [None] * len(SCENES), heard(engine)
    meant = scores(engine, talks(engine), nobody)
    assert passed(read) == 1
    for bound, most in (("TOKENS", 100), ("LOGITS", 30 * 512)):
        with monkeypatch.context() as patch:
            patch.setattr(passes, bound, most)
            assert far(scores(engine, talks(engine), nobody), meant) < 1e-4
        assert 1 < passed(read) < 2 * len(SCENES)


@pytest.mark.parametrize("merged", [True, False])
def test_base_and_adapters_are_asked_in_one_list(
    tiny_model: Path, adapter: Callable[..., Path], heard: Heard, monkeypatch: pytest.MonkeyPatch, merged: bool
) -> None:
    if not merged:
        monkeypatch.setattr(adapted, "MERGED_BELOW", 0)
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu")
    first, second = (Adapter(f"ad-{seed}", adapter(f"ad-{seed}", seed)) for seed in (1, 2))
    for loaded in (first, second):
        engine.load(loaded)
    playing = [None, first, None, second]
    one, other, read = talks(engine), talks(engine), heard(engine)
    for turn in range(2):
        if turn:
            for talk in (*one, *other):
                talk.act("look")
                talk.observe("It is dark.")
        found, together = scores(engine, one, playing), passed(read)
        meant = alone(engine, other, playing)
        assert far(found, meant) < 1e-4
        assert (together, passed(read)) == (3, 4)
    for others in ([None] * 4, [None, second, None, first]):  # of the same conversations, for each tells another story
        differing = alone(engine, other, others)
        apart = [far([differing[at]], [meant[at]]) for at in range(4)]
        assert max(apart[0], apart[2]) < 1e-4 and min(apart[1], apart[3]) > 0.01


@pytest.mark.parametrize(("think", "temperature", "chat"), [(0, 0.0, False), (8, 0.9, True), (8, 0.0, False)])
def test_turns_beside_others_are_those_alone(
    tmp_path: Path, heard: Heard, think: int, temperature: float, chat: bool
) -> None:
    folder = make(tmp_path / "mistral", "mistral", Tokens(template=chat))
    engine = TransformersEngine(folder, dtype="float32", device="cpu")
    prompting = Prompting(chat=chat, thought=think > 0)

    def requests() -> list[TurnRequest]:
        return [
            TurnRequest(
                talk, asked(at) if at else None, think=think, temperature=temperature, seed=at, max_tokens=9,
                refused="jump" if at == 2 else "", objection="No." if at == 2 else "",
            )
            for at, talk in enumerate(talks(engine, prompting))
        ]  # fmt: skip

    one, other, read = requests(), requests(), heard(engine)
    for _ in range(2):
        together, passes = engine.write_turns(one), passed(read)
        meant, longest = [], 0
        for request in other:
            meant += engine.write_turns([request])
            longest = max(longest, passed(read))
        assert passes == longest
        assert [turn.token_ids for turn in together] == [turn.token_ids for turn in meant]
        assert [turn.usage for turn in together] == [turn.usage for turn in meant]
        assert far([turn.logprobs for turn in together], [turn.logprobs for turn in meant]) < 1e-4
        assert all(turn.command in asked(at) for at, turn in enumerate(together) if at)
        for turn, pair in zip(together, zip(one, other, strict=True), strict=True):
            for request in pair:
                request.conversation.act(turn.command or "look", turn.thought, turn.token_ids)
                request.conversation.observe("It is dark.", COMMANDS)


@pytest.mark.parametrize("temperature", [0.0, 1.2])
def test_texts_beside_others_are_those_alone(engine: TransformersEngine, heard: Heard, temperature: float) -> None:
    requests = [
        WriteRequest(prompt, max_tokens=most, temperature=temperature, seed=at)
        for at, (prompt, most) in enumerate([("Hello?", 3), ("Find the coin. " * 20, 12), ("", 8)])
    ]
    read = heard(engine)
    together, passes = engine.write(requests), passed(read)
    meant = [engine.write([request])[0] for request in requests]
    tokens = [len(one.token_ids) for one in meant]
    assert (passes, passed(read)) == (max(tokens), sum(tokens))
    assert [one.token_ids for one in together] == [one.token_ids for one in meant]
    assert far([one.logprobs for one in together], [one.logprobs for one in meant]) < 1e-4


def test_who_asks_for_too_much_leaves_the_others_as_they_were(engine: TransformersEngine) -> None:
    pair = talks(engine)[:2]
    meant = alone(engine, pair, [None] * 2)
    with pytest.raises(ContextExceeded):
        engine.score([ScoreRequest(pair[0], COMMANDS), ScoreRequest(pair[1], ["say " + "xyz " * 2000])])
    with pytest.raises(ContextExceeded):
        engine.write_turns([TurnRequest(pair[0], COMMANDS), TurnRequest(pair[1], COMMANDS, think=4000)])
    assert far(alone(engine, pair, [None] * 2), meant) < 1e-4


@pytest.mark.parametrize("actor", [None, WritingActor(think=3, max_tokens=6)])
def test_episodes_in_flight_are_read_together_and_come_out_as_one_at_a_time(
    tiny_model: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch, actor: WritingActor | None
) -> None:
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu", context=512)
    engine.batcher, read = Batcher(), heard(engine)
    monkeypatch.setattr(batching, "PATIENCE", 10.0)  # nobody asks before all have, or one left
    ask = "score" if actor is None else "write_turns"
    answer, lists = getattr(engine, ask), list[int]()
    monkeypatch.setattr(engine, ask, lambda requests: lists.append(len(requests)) or answer(requests))
    arm = Arm("mine", actor=actor)
    tasks = [Task(env="toy/doors?step_limit=3", split="train", seed=seed) for seed in range(6)]

    def played(at_once: int) -> list[Episode]:
        with Database(":memory:") as database:
            rollout = Rollout("run", database, Model(engine), concurrency=at_once)
            results = rollout.play(tasks, arm)
            rollout.close()
            return [database.episodes.get(result.trials[0].episode) for result in results]

    alone = played(1)
    assert set(lists) == {1}
    passes = passed(read)
    together = played(6)
    assert max(lists) > 1 and passed(read) < passes
    assert [one.actions for one in together] == [one.actions for one in alone]
    for one, other in zip(together, alone, strict=True):
        found, meant = ([step.scores or step.logprobs for step in each.steps] for each in (one, other))
        assert far(found, meant) < 1e-4
    assert engine.batcher.flying == 0 and engine._passes.slots.layers == {}  # all gave back what they had
