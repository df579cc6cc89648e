"""Families of models on the playing side: each scores as it predicts, or is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agentlab.engines.base import ScoreRequest
from agentlab.engines.model import Model
from agentlab.engines.transformers import TransformersEngine
from agentlab.errors import UnsupportedModel
from benchmarks.tiny_models import FAMILIES, ODD, WINDOW, Tokens, make
from memory.records import Episode, Step
from trainers.data.examples import from_episode
from trainers.data.selectors.base import Text
from trainers.data.texts import from_text

COMMANDS = ["look", "open black door", "open blue door", "open blue", "read note", "take coin", "jump ✓"]
REFUSED = ("bloom", "mamba", "gpt_neo")


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[..., TransformersEngine]:
    """An engine of a tiny model of a family."""

    def load(
        family: str, tokens: Tokens | None = None, *, context: int | None = None, **how: object
    ) -> TransformersEngine:
        folder = make(tmp_path / family, family, tokens or Tokens(), **how)  # type: ignore[arg-type]
        return TransformersEngine(folder, dtype="float32", device="cpu", context=context)

    return load


def off(engine: TransformersEngine, turns: int, context_reached: int = 0) -> float:
    """How far scores are from plain passes over what the conversation keeps, at the worst, over some turns."""
    conversation, worst = engine.conversation("Find the coin."), 0.0
    for turn in range(turns):
        conversation.observe(f"You are in the attic, for the {turn}th time. You see a note.")
        scores = Model(engine).score(conversation, COMMANDS).logprobs
        for command, score in zip(COMMANDS, scores, strict=True):
            whole = [*conversation.seen, *engine.command_tokens(command)]
            worst = max(worst, abs(score - engine.logprob(whole, [(len(conversation.seen), len(whole))])))
        conversation.act("look")
    assert len(conversation.token_ids) > context_reached
    return worst


def beside(engine: TransformersEngine) -> float:
    """How far scores of conversations of different lengths, asked together, are from plain passes, at the worst."""
    talks = [engine.conversation("Find the coin."), engine.conversation("Find it.", "- Read the note.")]
    talks[0].observe("You are in the attic. You see a note. " * (WINDOW // 10))
    talks[1].observe("A cellar.")
    worst = 0.0
    for talk, scores in zip(talks, engine.score([ScoreRequest(talk, COMMANDS) for talk in talks]), strict=True):
        for command, score in zip(COMMANDS, scores.logprobs, strict=True):
            whole = [*talk.token_ids, *engine.command_tokens(command)]
            worst = max(worst, abs(score - engine.logprob(whole, [(len(talk.token_ids), len(whole))])))
    return worst


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", [name for name in (*FAMILIES, *ODD) if name not in REFUSED])
def test_each_family_scores_as_it_predicts_beyond_its_window_too(
    loaded: Callable[..., TransformersEngine], family: str, tied: bool
) -> None:
    # With tied embeddings also: a tokenizer that adds BOS, no token to pad with, a chat template.
    engine = loaded(family, Tokens(bos=True, pad=False, template=True) if tied else None, tied=tied)
    assert off(engine, 6, WINDOW + 40) < 1e-4
    assert beside(engine) < 1e-4
    # The layers of one hand on to their attention nothing that they do not know: it is read alone.
    assert engine._passes.at_once == (family != "nemotron")
    assert engine.tokenize.opening == ((1,) if tied else ())
    assert isinstance(Model(engine).write("Hello?", max_tokens=2).text, str)


@pytest.mark.parametrize("family", ["gemma3", "mistral"])
def test_a_full_context_of_a_model_with_a_window_loses_its_oldest_turns_only(
    loaded: Callable[..., TransformersEngine], family: str
) -> None:
    assert off(loaded(family, context=200), 14, 400) < 1e-4


@pytest.mark.parametrize("family", REFUSED)
def test_models_whose_tree_would_be_scored_wrong_are_refused_in_one_line(
    loaded: Callable[..., TransformersEngine], family: str
) -> None:
    with pytest.raises(UnsupportedModel, match="decoder-only") as refused:
        loaded(family)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("window", "dtype"), [(32, "bfloat16"), (WINDOW, "bfloat16"), (384, "bfloat16"), (384, "float32"), (508, "float32")]
)
def test_a_window_of_any_name_that_counts_places_instead_of_positions_is_noticed_at_load(
    tmp_path: Path, window: int, dtype: str
) -> None:
    folder = make(tmp_path, "gpt_neo", window_size=window)
    with pytest.raises(UnsupportedModel, match="decoder-only"):
        TransformersEngine(folder, dtype=dtype, device="cpu")


def test_a_model_whose_window_is_no_shorter_than_the_context_plays(loaded: Callable[..., TransformersEngine]) -> None:
    assert off(loaded("gpt_neo", context=WINDOW), 6, WINDOW) < 1e-4


def test_a_model_that_was_trained_with_a_begin_token_sees_it_in_play_and_in_training(
    loaded: Callable[..., TransformersEngine],
) -> None:
    engine = loaded("llama", Tokens(bos=True))
    conversation = engine.conversation("Find the coin.", "- Be quick.")
    conversation.observe("A room.")
    conversation.act("look")
    assert conversation.token_ids[0] == 1 and conversation.token_ids.count(1) == 1
    step = Step(index=0, observation="A room.", state="", admissible=["look"], action="look", result="", next_state="")
    episode = Episode(id="e", run="r", env="x", split="train", seed=0, goal="Find the coin.", steps=[step])
    recorded = episode.model_copy(
        update={
            "hints": "- Be quick.",
            "token_ids": conversation.token_ids,
            "action_spans": conversation.action_spans,
        }
    )
    assert from_episode(recorded, engine.tokenize, with_hints=True).token_ids == conversation.token_ids
    bare = engine.conversation("Find the coin.")
    bare.observe("A room.")
    bare.act("look")
    for one in (recorded, episode):  # cut anew without its hints, or never played by a model
        assert from_episode(one, engine.tokenize).token_ids == bare.token_ids
    text = from_text(Text(completion="Some prose."), engine.tokenize)
    assert text.token_ids[0] == 1 and text.weights[:2] == [0.0, 1.0]
    assert from_text(Text(completion="<s>Some prose."), engine.tokenize).token_ids == text.token_ids


@pytest.mark.parametrize("template", [True, False])
def test_what_is_written_is_asked_behind_one_begin_token(
    loaded: Callable[..., TransformersEngine], heard: Callable[[TransformersEngine], list[list[int]]], template: bool
) -> None:
    engine = loaded("llama", Tokens(bos=True, template=template), context=128)
    asked = heard(engine)
    for prompt in ("Hello?", "read note " * 200):
        Model(engine).write(prompt, max_tokens=4)
    read = [ids for ids in asked if len(ids) > 1]
    assert [(ids[0], ids.count(1)) for ids in read] == [(1, 1)] * 2
    assert len(read[1]) == 124
