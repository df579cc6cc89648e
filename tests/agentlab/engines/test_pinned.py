"""What was read in a long episode stays in what the model reads, also when its turn is dropped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentlab.engines.base import ScoreRequest, TurnRequest
from agentlab.engines.chat import ChatConversation
from agentlab.engines.conversation import TokenConversation
from agentlab.engines.model import Model
from agentlab.engines.transformers import TransformersEngine
from agentlab.engines.vllm.conversation import ServedConversation
from agentlab.engines.vllm.scoring import Ranking
from agentlab.engines.vllm.turns import Draft
from memory.prompts import Prompting, Reading
from memory.records import Episode, Step
from trainers.data.distillation import from_teacher
from trainers.data.examples import from_episode
from trainers.data.preferences import Preference, from_preference

CONTEXT = 512
RECIPE = "The note says: roast the red bread, then take it to the attic."
READ = Reading("read note", RECIPE)
LINE = f"Read before: read note: {RECIPE}\n"
SEEN = "You are in the attic. You see a note."
COMMANDS = ["look", "read note"]


@pytest.fixture(scope="module", params=[False, True], ids=["transcript", "chat"])
def engine(request: pytest.FixtureRequest, tiny_model: Path, tiny_chat_model: Path) -> TransformersEngine:
    folder, prompt = (tiny_chat_model, "chat") if request.param else (tiny_model, "transcript")
    return TransformersEngine(folder, dtype="float32", device="cpu", context=CONTEXT, prompt=prompt)  # type: ignore[arg-type]


def play(conversation: Any, turns: int, *, read: bool = True, each: Callable[[], object] = lambda: None) -> Any:
    """A note is read in the first turn, and the attic looked at in all others."""
    for turn in range(turns):
        conversation.observe(RECIPE if turn == 1 and read else SEEN, COMMANDS)
        conversation.keep(READ if turn == 1 and read else None)
        each()
        conversation.act("read note" if turn == 0 and read else "look")
    conversation.observe(SEEN, COMMANDS)
    conversation.keep(None)
    return conversation


def text(engine: TransformersEngine, conversation: TokenConversation) -> str:
    return str(engine.tokenizer.decode(conversation.context_ids))


def test_the_words_of_a_recipe_stand_in_what_the_model_reads_when_their_turn_is_gone(
    engine: TransformersEngine,
) -> None:
    conversation = engine.conversation("Find the coin.")

    def scored() -> None:
        found = Model(engine).score(conversation, COMMANDS).logprobs
        kept = conversation.seen
        assert len(kept) <= CONTEXT and kept == conversation.context_ids
        whole = [[*kept, *conversation.command_tokens(command)] for command in COMMANDS]
        assert found == pytest.approx([engine.logprob(ids, [(len(kept), len(ids))]) for ids in whole], abs=1e-3)
        assert RECIPE in text(engine, conversation) or len(conversation.turn_starts) < 2

    play(conversation, 60, each=scored)
    assert conversation.left_out and text(engine, conversation).count(RECIPE) == 1
    before, after = text(engine, conversation).split(LINE)
    assert before.endswith("Task: Find the coin.\n" if conversation.chat is None else "Task: Find the coin.\n\n")
    assert SEEN in after and RECIPE not in engine.tokenizer.decode(conversation.token_ids).split(RECIPE, 1)[1]


def test_where_nothing_was_read_or_everything_fits_nothing_is_added(engine: TransformersEngine) -> None:
    short = play(engine.conversation("Find the coin."), 3)
    Model(engine).score(short, COMMANDS)
    assert short.seen == short.context_ids == short.token_ids and "Read before" not in text(engine, short)
    long = play(engine.conversation("Find the coin."), 60, read=False)
    Model(engine).score(long, COMMANDS)
    kept = [*long.token_ids[: long.head_length], *long.token_ids[long.head_length + long.left_out :]]
    assert long.left_out and long.seen == kept


def test_what_would_take_too_much_room_does_not_stay_and_the_context_is_held(engine: TransformersEngine) -> None:
    conversation = play(engine.conversation("Find the coin."), 5)
    conversation.keep(Reading("read book", "roast bread " * 60))
    play(conversation, 40, read=False)
    Model(engine).score(conversation, COMMANDS)
    assert conversation.left_out and len(conversation.context_ids) <= CONTEXT
    assert "Read before" not in text(engine, conversation)
    many = [f"open the {a}{b}{c} door" for a in "abcd" for b in "abcd" for c in "abcd"]
    pinned = play(engine.conversation("Find the coin."), 60)
    assert len(Model(engine).score(pinned, many).logprobs) == 64
    assert len(pinned.context_ids) <= CONTEXT


def test_a_server_is_asked_with_it_as_well(engine: TransformersEngine) -> None:
    how = engine.conversation("Find the coin.").prompting
    conversation = play(ServedConversation(engine, "Find the coin.", "", how), 60)
    (node, *_), local = Ranking(ScoreRequest(conversation, COMMANDS)).nodes, conversation.context_ids
    assert list(node.token_ids)[: len(local)] == local and LINE in engine.tokenizer.decode(local)
    written = play(ServedConversation(engine, "Find the coin.", "", how), 60)
    draft = Draft.of(TurnRequest(written, COMMANDS), engine.tokenizer, engine.ends)
    assert LINE in engine.tokenizer.decode(draft.begun)


def test_a_model_behind_an_api_reads_it_with_its_task() -> None:
    conversation = play(ChatConversation("Find the coin.", prompting=Prompting(chat=True)), 20)
    begun, rest = conversation.messages()[1].text, [message.text for message in conversation.messages()[18:]]
    assert conversation.drop()
    first, *others = [message.text for message in conversation.messages()[1:]]
    assert others == rest
    assert first == begun.replace("Find the coin.\n\n", f"Find the coin.\n\n{LINE}")


@pytest.fixture
def episode(engine: TransformersEngine) -> Episode:
    """The long episode, as it is recorded."""
    conversation = play(engine.conversation("Find the coin."), 60)
    steps = [
        Step(
            index=turn, observation=RECIPE if turn == 1 else SEEN, state=SEEN, admissible=COMMANDS, next_state=SEEN,
            action="look" if turn else "read note", result=SEEN if turn else RECIPE, scores=[-1.0, -2.0],
        )
        for turn in range(60)
    ]  # fmt: skip
    return Episode(
        id="e", run="r", env="x", split="train", seed=0, goal="Find the coin.", steps=steps, status="won", score=1.0,
        token_ids=conversation.token_ids, action_spans=conversation.action_spans, prompt=conversation.prompting.name,
    )  # fmt: skip


@pytest.mark.parametrize("as_played", [True, False])
def test_what_is_trained_has_it_where_its_turn_does_not_fit(
    engine: TransformersEngine, episode: Episode, as_played: bool
) -> None:
    episode = episode if as_played else episode.model_copy(update={"token_ids": [], "action_spans": []})
    whole = from_episode(episode, engine.tokenize, max_tokens=10_000)
    assert "Read before" not in engine.tokenizer.decode(whole.token_ids)
    example = from_episode(episode, engine.tokenize, max_tokens=CONTEXT)
    said = engine.tokenizer.decode(example.token_ids)
    assert len(example) <= CONTEXT and said.count(LINE) == 1 and said.count(RECIPE) == 1
    assert {engine.tokenizer.decode(example.token_ids[a:b]).split("<")[0].strip() for a, b in example.spans} == {"look"}
    taught = from_teacher(episode, engine.tokenize, max_tokens=CONTEXT)
    assert taught.example.token_ids == example.token_ids
    choice = taught.choices[-1]
    tokens = choice.candidates[0]
    assert example.token_ids[choice.at : choice.at + len(tokens)] == tokens


def test_what_is_played_and_what_is_trained_read_the_same_line(engine: TransformersEngine, episode: Episode) -> None:
    conversation = play(engine.conversation("Find the coin."), 60)
    Model(engine).score(conversation, COMMANDS)
    played, head = conversation.context_ids, conversation.head_length
    trained = from_episode(episode, engine.tokenize, max_tokens=CONTEXT).token_ids
    length = len(conversation.pinned)
    assert length and trained[: head + length] == played[: head + length]


def test_both_sides_of_a_pair_have_it(engine: TransformersEngine, episode: Episode) -> None:
    other = episode.steps[-1].model_copy(update={"action": "read note"})
    worse = episode.model_copy(
        update={"id": "w", "steps": [*episode.steps[:-1], other], "token_ids": [], "action_spans": []}
    )
    preference = Preference(better=episode, worse=worse, shared=59, source="reward")
    pair = from_preference(preference, engine.tokenize, max_tokens=CONTEXT)
    for side in (pair.better, pair.worse):
        assert len(side) <= CONTEXT and engine.tokenizer.decode(side.token_ids).count(LINE) == 1
