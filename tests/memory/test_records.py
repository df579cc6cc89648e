"""Records derive what they can from their own fields, and an episode becomes text in one way."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from typing import Any

import pydantic
import pytest

import memory
from agentlab.trajectories.advice import AdviceWeights
from memory import Advice, Database, Episode, Evidence, Recall, Reflection, Step
from memory.prompts.rendering import segments
from memory.records import Link, content_id, state_key, task_parts


def test_an_id_depends_on_content_alone() -> None:
    assert content_id("rf", "a", 1) == content_id("rf", "a", "1")
    assert content_id("rf", "ab") != content_id("rf", "a", "b")


def test_ids_do_not_meet_among_ten_million() -> None:
    known = content_id("rf", "a").removeprefix("rf-")
    assert len(known) * 5 >= 80 and set(known) <= set(string.ascii_lowercase + "234567")


def test_a_setting_with_a_default_that_a_release_adds_changes_no_id() -> None:
    @dataclass(frozen=True)
    class Weights:
        lost: float = -8.0

    @dataclass(frozen=True)
    class Old:
        temperature: float
        weights: Weights = field(default_factory=Weights)
        skills: tuple[str, ...] = ()

    newer = make_dataclass("Newer", [("budget", int, 300)], bases=(Old,), frozen=True)
    old, new = Old(0.5), newer(0.5)
    assert content_id("arm", old) == content_id("arm", new)
    assert content_id("arm", old, None) == content_id("arm", new, None)
    ids = {content_id("arm", settings) for settings in (old, newer(0.5, budget=200), Old(0.7), Old(0.5, Weights(-1.0)))}
    assert len(ids) == 4


def test_settings_that_are_pydantic_models_count_by_what_differs_from_their_defaults() -> None:
    class Old(pydantic.BaseModel):
        seeds: int = 3

    class Newer(Old):
        budget: int | None = None

    assert content_id("x", Old(seeds=5)) == content_id("x", Newer(seeds=5)) != content_id("x", Newer(seeds=5, budget=1))
    assert content_id("x", {"a": Old(), "b": [1]}) == content_id("x", {"b": [1], "a": Newer()})


def test_an_id_can_be_made_of_any_text() -> None:
    texts: list[Any] = ["\ud83d", "\ud83e", "", "\x1f"]
    assert len({content_id("rf", text) for text in texts}) == len(texts)


def test_an_episode_knows_its_task_and_its_actions(episode: Callable[..., Episode]) -> None:
    played = episode(status="won")
    assert (played.task_id, played.won, played.actions) == ("twx/coin:train:3", True, ["go north", "go south"])


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        ("twx/coin:train:3", ("twx/coin", "train", "3")),
        ("x:train:y:test:3", ("x:train:y", "test", "3")),
        ("gym/a:b-v0:dev:7", ("gym/a:b-v0", "dev", "7")),
        ("e:train:", ("e", "train", "")),
        ("e", ("e", "", "")),
        ("a:b", ("a:b", "", "")),
        ("", ("", "", "")),
    ],
)
def test_the_id_of_a_task_is_read_from_its_end(task: str, parts: tuple[str, str, str]) -> None:
    assert tuple(task_parts(task)) == parts


def test_a_misspelt_field_is_an_error() -> None:
    with pytest.raises(pydantic.ValidationError):
        Advice(state="Here.", action="wait", valeu=1.0)  # type: ignore[call-arg]


NAN, INFINITY = float("nan"), float("inf")
HERE = {"state": "Here.", "action": "wait"}
STEP = {
    "index": 0, "observation": "A room.", "state": "Here.", "admissible": ["wait"], "action": "wait", "result": "",
    "next_state": "",
}  # fmt: skip
RECALL = {"episode": "ep", "reflection": "rf", "rank": 0, "query": "q", "score": 1.0}
OUT_OF_BOUNDS: list[tuple[type[pydantic.BaseModel], dict[str, Any], dict[str, Any]]] = [
    *((Advice, HERE, {name: value}) for name in ("value", "blame") for value in (1e308, 1.01, -0.1, NAN, INFINITY)),
    *((Advice, HERE, {name: -1}) for name in ("visits", "no_effect", "negative", "lost")),
    *((Step, STEP, {name: NAN}) for name in ("reward", "score", "logprob")),
    *((Step, STEP, {name: [-INFINITY]}) for name in ("scores", "bonus")),
    *((Recall, RECALL, one) for one in ({"propensity": 1.5}, {"score": NAN}, {"parts": {"use": NAN}}, {"rank": -1})),
    (Link, {"source": "a", "target": "b", "kind": "similar"}, {"weight": INFINITY}),
    (Evidence, {"episode": "ep"}, {"steps": [-1]}),
]


@pytest.mark.parametrize(("record", "given", "wrong"), OUT_OF_BOUNDS)
def test_a_number_out_of_its_bounds_is_refused(
    record: type[pydantic.BaseModel], given: dict[str, Any], wrong: dict[str, Any]
) -> None:
    record.model_validate(given)
    with pytest.raises(pydantic.ValidationError):
        record.model_validate(given | wrong)


def test_what_was_stored_before_numbers_had_bounds_is_read_at_the_nearest(
    reflection: Callable[..., Reflection], database: Database
) -> None:
    kept = reflection(advice=[Advice(**HERE), Advice(state="There.", action="go")], importance=0.5)
    kept.advice[0].value, kept.advice[0].blame, kept.advice[0].visits = 1e308, -3.0, -2
    kept.advice[1].value = NAN
    kept.importance = 7.0
    database.reflections.put(kept)
    (read,) = database.reflections.load([1]).values()
    assert (read.advice[0].value, read.advice[0].blame, read.advice[0].visits) == (1, 0, 0)
    assert (read.advice[1].value, read.importance) == (0, 1)
    assert AdviceWeights().bonus(read.advice[0]) == AdviceWeights().bonus(Advice(**HERE, value=1.0))


def test_numbers_that_json_cannot_hold_do_not_hide_an_episode(
    episode: Callable[..., Episode], database: Database
) -> None:
    lived = episode(score=0.5)
    lived.steps[0].reward, lived.steps[0].scores, lived.steps[1].logprob = NAN, [-INFINITY, -1.0], INFINITY
    database.episodes.put(lived)
    (read,) = database.episodes.load([lived.id])
    assert (read.steps[0].reward, read.steps[0].all_scores, read.steps[1].logprob) == (0, None, None)
    assert read.actions == lived.actions and read.steps[1].scores == [-0.5, -1.25]


def test_a_stored_recall_and_link_are_read_within_their_bounds() -> None:
    recall = Recall.stored(RECALL | {"propensity": 1.5, "parts": {"use": NAN, "cosine": 0.5}})
    assert (recall.propensity, recall.parts) == (1.0, {"use": 0.0, "cosine": 0.5})
    assert Link.stored({"source": "a", "target": "b", "kind": "similar", "weight": -2}).weight == 0
    with pytest.raises(pydantic.ValidationError):
        Recall.stored(RECALL | {"channel": "none"})


def test_advice_is_filed_by_its_state_and_action() -> None:
    assert Advice(state="Here.", action="wait").key == (state_key("Here."), "wait")


@pytest.mark.parametrize(
    ("result", "next_state", "expected"),
    [("", "Here.", True), ("A room.", "Here.", True), ("You see a map.", "Here.", False), ("", "There.", False)],
)
def test_a_step_without_effect_changes_nothing_and_says_nothing_new(
    result: str, next_state: str, expected: bool
) -> None:
    step = Step(
        index=0, observation="A room.", state="Here.", admissible=["wait"], action="wait", result=result,
        next_state=next_state,
    )  # fmt: skip
    assert step.no_effect is expected


def test_the_transcript_holds_hints_only_where_they_are_wanted(episode: Callable[..., Episode]) -> None:
    played = episode(hints="Look in the kitchen.\n")
    text = "".join(segment.text for segment in segments(played))
    head = "Task: Find it.\nHints:\nLook in the kitchen.\n\n"
    turns = "Room 0.\n> go north\nRoom 1.\n> go south\n"
    assert text == head + turns
    assert "".join(segment.text for segment in segments(played, with_hints=False)) == "Task: Find it.\n" + turns
    assert "".join(segment.text for segment in segments(played) if segment.chosen) == " go north\n go south\n"


def test_the_package_offers_what_it_lists() -> None:
    assert all(getattr(memory, name) for name in memory.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        memory.Nothing  # noqa: B018


def test_an_episode_stored_with_rewards_or_scores_that_were_no_numbers_counts_as_errored() -> None:
    step = {"index": 0, "observation": "", "state": "", "admissible": ["a"], "action": "a", "result": ""}
    whole = {"id": "e", "run": "r", "env": "own/x", "split": "train", "seed": 0, "status": "won", "score": 1.0}
    for fields in ({"score": None}, {"steps": [{**step, "next_state": "", "reward": None, "scores": [None]}]}):
        read = Episode.stored(json.dumps({**whole, **fields}))
        assert (read.status, read.error_kind, "own/x" in str(read.error)) == ("errored", "environment", True)
        assert all(one.reward == 0 and one.all_scores is None for one in read.steps)
    assert Episode.stored(json.dumps(whole)).status == "won"
