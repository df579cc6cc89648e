"""What is asked beside others is answered as it is alone: scores, turns and texts, with windows and adapters too."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from agentlab.agent.arms import Arm
from agentlab.agent.rollout import Rollout
from agentlab.agent.writing import WritingActor
from agentlab.engines import adapted, passes
from agentlab.engines.base import Adapter, Conversation, Model, ScoreRequest, TurnRequest, WriteRequest
from agentlab.engines.transformers import TransformersEngine
from agentlab.errors import ContextExceeded
from benchmarks.tiny_models import WINDOW, Tokens, make
from environments import Task
from memory import Database
from memory.prompts import Prompting
from memory.records import Episode
from trainers.training.canary import Canary

COMMANDS = ["look", "open black door", "open blue door", "open blue", "read note", "take coin", "jump ✓"]
SCENES = [
    ["You are in the attic. You see a note."],
    ["A cellar. " * 9, "The note says: the red door is safe.", "Dark."],
    ["You see a door, a coin, a lamp. " * 12, "The door is shut."],
    ["Nothing."],
]


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> TransformersEngine:
    return TransformersEngine(tiny_model, dtype="float32", device="cpu")


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
def test_scores_beside_others_are_those_alone_turn_after_turn(tmp_path: Path, family: str) -> None:
    engine = TransformersEngine(make(tmp_path / family, family, Tokens(bos=True)), dtype="float32", device="cpu")
    one, other = talks(engine), talks(engine)
    for turn in range(3):
        nobody = [None] * len(one)
        assert far(scores(engine, one, nobody), alone(engine, other, nobody)) < 1e-4
        for talk in (*one, *other):
            talk.act("look")
            talk.observe(f"It is dark, for the {turn}th time. " * 3)
    assert max(len(talk.token_ids) for talk in one) > WINDOW + 40
    assert engine._passes.slots.count == 8


def test_a_model_that_cannot_be_read_beside_others_is_read_alone(tmp_path: Path) -> None:
    folder = make(tmp_path / "neo", "gpt_neo")
    engine = TransformersEngine(folder, dtype="float32", device="cpu", context=WINDOW)
    assert not engine._passes.at_once
    pair = [engine.conversation("Win."), engine.conversation("Win.", "- Look.")]
    for talk in pair:
        talk.observe("A door.")
    together = engine.score([ScoreRequest(talk, COMMANDS) for talk in pair])
    again = [engine.score([ScoreRequest(talk, COMMANDS)])[0] for talk in pair]
    assert far([one.logprobs for one in together], [one.logprobs for one in again]) < 1e-4


def test_an_episode_that_ends_gives_its_slot_to_the_next(engine: TransformersEngine) -> None:
    before = engine._passes.slots.count
    for _ in range(5):
        pair = talks(engine)[:2]
        scores(engine, pair, [None] * 2)
        meant = [
            engine.logprob([*talk.token_ids, *engine.command_tokens("look")], spans(engine, talk)) for talk in pair
        ]
        found = [one.logprobs[0] for one in engine.score([ScoreRequest(talk, ["look"]) for talk in pair])]
        assert found == pytest.approx(meant, abs=1e-4)  # nothing of whoever had the slot is left
        for talk in pair:
            talk.close()
    assert engine._passes.slots.count == before


def spans(engine: TransformersEngine, talk: Conversation) -> list[tuple[int, int]]:
    """Where a command behind a conversation stands."""
    return [(len(talk.token_ids), len(talk.token_ids) + len(engine.command_tokens("look")))]


def test_a_conversation_of_another_engine_is_refused_and_not_mixed_up(
    tiny_model: Path, engine: TransformersEngine
) -> None:
    other = TransformersEngine(tiny_model, dtype="float32", device="cpu")
    with pytest.raises(ValueError, match="another engine"):
        other.score([ScoreRequest(talks(engine)[0], COMMANDS)])


def test_one_conversation_may_be_asked_twice_in_a_list(engine: TransformersEngine) -> None:
    talk, other = talks(engine)[:2]
    requests = [ScoreRequest(talk, COMMANDS), ScoreRequest(other, COMMANDS), ScoreRequest(talk, COMMANDS[::-1])]
    first, _, second = engine.score(requests)
    assert second.logprobs[::-1] == pytest.approx(first.logprobs, abs=1e-4)


def test_very_much_at_once_is_read_in_several_passes(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = [None] * len(SCENES)
    meant = scores(engine, talks(engine), nobody)
    for bound, most in (("TOKENS", 100), ("LOGITS", 30 * 512)):
        with monkeypatch.context() as patch:
            patch.setattr(passes, bound, most)
            assert far(scores(engine, talks(engine), nobody), meant) < 1e-4


@pytest.fixture
def adapters(tiny_model: Path, tmp_path: Path, engine: TransformersEngine) -> list[Adapter]:
    """Two adapters that change something."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    made = []
    for seed in (1, 2):
        base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft's own
            torch.manual_seed(seed)
            config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
            model = get_peft_model(base, config)
        folder = tmp_path / f"ad-{seed}"
        model.save_pretrained(str(folder), save_embedding_layers=False)
        ids, places = engine.tokenize("Task: Find the coin.\n> look\n"), [(4, 9)]
        scored = engine._logprob(model.merge_and_unload().eval(), ids, places)
        base_scored = engine.logprob(ids, places)
        Canary(token_ids=ids, spans=places, base_logprob=base_scored, adapter_logprob=scored, base="any").save(
            folder / "canary.json"
        )
        made.append(Adapter(f"ad-{seed}", folder))
    return made


@pytest.mark.parametrize("merged", [True, False])
def test_base_and_adapters_are_asked_in_one_list(
    tiny_model: Path, adapters: list[Adapter], monkeypatch: pytest.MonkeyPatch, merged: bool
) -> None:
    if not merged:
        monkeypatch.setattr(adapted, "MERGED_BELOW", 0)
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu")
    for adapter in adapters:
        engine.load(adapter)
    playing = [None, adapters[0], None, adapters[1]]
    one, other = talks(engine), talks(engine)
    for _ in range(2):
        found, meant = scores(engine, one, playing), alone(engine, other, playing)
        assert far(found, meant) < 1e-4
        for talk in (*one, *other):
            talk.act("look")
            talk.observe("It is dark.")
    without = alone(engine, other, [None] * 4)
    assert far(without, meant) > 0.01


@pytest.mark.parametrize(("think", "temperature", "chat"), [(0, 0.0, False), (8, 0.9, True), (8, 0.0, False)])
def test_turns_beside_others_are_those_alone(tmp_path: Path, think: int, temperature: float, chat: bool) -> None:
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

    one, other = requests(), requests()
    for _ in range(2):
        together, meant = engine.write_turns(one), [engine.write_turns([request])[0] for request in other]
        assert [turn.token_ids for turn in together] == [turn.token_ids for turn in meant]
        assert [turn.usage for turn in together] == [turn.usage for turn in meant]
        assert far([turn.logprobs for turn in together], [turn.logprobs for turn in meant]) < 1e-4
        assert all(turn.command in asked(at) for at, turn in enumerate(together) if at)
        for turn, pair in zip(together, zip(one, other, strict=True), strict=True):
            for request in pair:
                request.conversation.act(turn.command or "look", turn.thought, turn.token_ids)
                request.conversation.observe("It is dark.", COMMANDS)


@pytest.mark.parametrize("temperature", [0.0, 1.2])
def test_texts_beside_others_are_those_alone(engine: TransformersEngine, temperature: float) -> None:
    requests = [
        WriteRequest(prompt, max_tokens=most, temperature=temperature, seed=at)
        for at, (prompt, most) in enumerate([("Hello?", 3), ("Find the coin. " * 20, 12), ("", 8)])
    ]
    together, meant = engine.write(requests), [engine.write([request])[0] for request in requests]
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
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, actor: WritingActor | None
) -> None:
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu", context=512, gather=True)
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
    together = played(6)
    assert max(lists) > 1
    assert [one.actions for one in together] == [one.actions for one in alone]
    for one, other in zip(together, alone, strict=True):
        found, meant = ([step.scores or step.logprobs for step in each.steps] for each in (one, other))
        assert far(found, meant) < 1e-4
    assert engine.batcher.flying == 0 and engine._passes.slots.layers == {}  # all gave back what they had
