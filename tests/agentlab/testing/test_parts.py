"""Our own actors, reflectors, environments and sink through the kit, and others that break a promise each."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentlab.agent.actors import Actor, RandomActor, RankingActor, View
from agentlab.agent.result import DatabaseSink, EpisodeResult
from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.reflectors.base import reflection_of
from agentlab.reflectors.registry import REFLECTORS
from agentlab.testing import Report, check_actor, check_environment, check_reflector, check_sink
from agentlab.trajectories.transition import Decision
from environments import Task, TextEnv, Turn
from memory import Database, HashingEmbedder, ReflectionMemory
from memory.records import Episode, Recall, Reflection


def broken(report: Report) -> str:
    return "; ".join(finding.sentence for finding in report.findings if not finding.ok)


@pytest.mark.parametrize("actor", [RankingActor(), RandomActor()])
def test_our_actors_conform(actor: Actor) -> None:
    check_actor(actor).raise_for_failures()


class Wayward:
    """An actor that breaks its promise in one way."""

    name = "wayward"

    def __init__(self, fault: str) -> None:
        self.fault, self.turns = fault, 0

    def act(self, view: View) -> Any:
        self.turns += 1
        commands = view.commands if isinstance(view.commands, list) else list(view.commands or ["look"])
        if self.fault == "inventive":
            return Decision("fly away")
        if self.fault == "moody":
            return Decision(commands[self.turns % len(commands)], commands)
        if self.fault == "greedy":
            commands.pop() if len(commands) > 1 else None
        if self.fault == "wordless":
            return commands[0]
        if self.fault == "fragile" and "\x00" in view.observation:
            raise ValueError("odd text")
        return Decision(commands[0], list(commands))


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("inventive", "it decides for what is offered"),
        ("moody", "the same view gives the same decision"),
        ("greedy", "it leaves what it sees as it is"),
        ("wordless", "it plays a game to an end"),
        ("fragile", "no text of an environment harms it"),
    ],
)
def test_each_promise_that_an_actor_breaks_is_named(fault: str, sentence: str) -> None:
    assert sentence in broken(check_actor(Wayward(fault)))
    assert broken(check_actor(Wayward("none"))) == ""


@pytest.mark.parametrize("name", REFLECTORS)
def test_our_reflectors_conform(name: str) -> None:
    model = Model(ScriptedEngine({}, answers=["Read the note first."]))
    check_reflector(REFLECTORS[name].make(model, lambda: None)).raise_for_failures()


class Rash:
    """A reflector that breaks its promise in one way."""

    name = "rash"

    def __init__(self, fault: str) -> None:
        self.fault, self.asked = fault, 0

    def reflect(self, episode: Episode) -> list[Reflection]:
        self.asked += 1
        if episode.status == "errored" and self.fault != "of errors":
            return []
        if self.fault == "meddling":
            episode.goal = "Another goal."
        last = episode.steps[-1].index if episode.steps or self.fault == "hasty" else 0
        text = {"empty": "", "echo": f"Know this: {episode.hints}"}.get(self.fault, "Be careful.")
        made = reflection_of(episode, kind=self.name, text=text, steps=[last + 9 * (self.fault == "beyond")])
        return [made.model_copy(update={"id": f"r-{self.asked}"}) if self.fault == "moody" else made]


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("empty", "each reflection says something"),
        ("beyond", "each reflection says something"),
        ("moody", "the same episode gives reflections of the same ids"),
        ("of errors", "an episode that errored teaches nothing"),
        ("hasty", "an episode without a step is no failure"),
        ("echo", "what memory had put into the prompt is not reflected on"),
        ("meddling", "it leaves the episode as it is"),
    ],
)
def test_each_promise_that_a_reflector_breaks_is_named(fault: str, sentence: str) -> None:
    assert sentence in broken(check_reflector(Rash(fault)))
    assert broken(check_reflector(Rash("none"))) == ""


def test_an_environment_is_checked_by_its_contract() -> None:
    class Faulty(TextEnv):
        def begin(self, task: Task) -> Turn:
            return Turn(f"Room {random.random()}.", ["wait"], goal="Wait.")

        def act(self, action: str) -> Turn:
            return Turn("Nothing.", ["wait"], goal="Wait.")

    assert check_environment("toy/doors", episodes=1).ok
    report = check_environment(lambda: Faulty("own/faulty", step_limit=2), episodes=1)
    assert "same seed" in broken(report) and "own/faulty" in str(report)


@pytest.fixture
def sink(tmp_path: Path) -> Any:
    with Database(tmp_path / "lab.db") as database:
        yield DatabaseSink(database, ReflectionMemory(database, HashingEmbedder(), tmp_path / "memory.faiss"))


def test_our_sink_conforms(sink: DatabaseSink) -> None:
    check_sink(sink).raise_for_failures()


def test_a_sink_that_overwrites_or_stores_halves_is_found_out(sink: DatabaseSink) -> None:
    class Careless(DatabaseSink):
        def put(self, result: EpisodeResult) -> None:
            self.database.journal.put("trials|check", result.id, result.summary)
            assert self.memory is not None
            self.memory.remember(result.reflections)

    told = broken(check_sink(Careless(sink.database, sink.memory)))
    assert "never the other way" in told and "nothing is stored" in told


def result(lived: Callable[..., Episode], step: Callable[..., Any]) -> EpisodeResult:
    """A result with one of everything."""
    episode = lived(step(0, "look"), status="won", score=1.0, recalled=["r-old"])
    refined = episode.model_copy(update={"id": "ep-refined", "minimised_from": episode.id})
    return EpisodeResult(
        episode,
        refined=refined,
        reflections=[Reflection(id="r-new", kind="k", env="toy/doors", task=episode.task_id, text="Look.")],
        recalls=[Recall(episode=episode.id, reflection="r-old", rank=0, query="q", score=1.0, env="toy/doors")],
        strength_of=("toy/doors", None),
    )


def test_a_result_is_stored_whole_and_twice_is_once(
    sink: DatabaseSink, lived: Callable[..., Episode], step: Callable[..., Any]
) -> None:
    assert sink.memory is not None
    sink.memory.remember([Reflection(id="r-old", kind="k", env="toy/doors", task="toy/doors:train:9", text="Old.")])
    put = result(lived, step)
    sink.put(put)
    once = list(sink.database.connection._connection.iterdump())
    sink.put(put)
    assert list(sink.database.connection._connection.iterdump()) == once
    assert {row.id for row in sink.database.episodes.find()} == {put.id, "ep-refined"}
    (recall,) = sink.database.recalls.of_episode(put.id)
    assert recall.won is True
    assert {one.id for one in sink.database.reflections.find()} == {"r-old", "r-new"}
    assert len(sink.database.journal.items("strength|toy/doors|base")) == 1


@pytest.mark.parametrize("at", ["episodes", "recalls", "journal"])
def test_a_sink_that_is_killed_in_between_has_stored_nothing(
    sink: DatabaseSink,
    lived: Callable[..., Episode],
    step: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    at: str,
) -> None:
    put, before = result(lived, step), list(sink.database.connection._connection.iterdump())
    with monkeypatch.context() as patch:
        table = getattr(sink.database, at)
        store = table.put

        def killed(*given: Any) -> None:
            store(*given)
            raise KeyboardInterrupt

        patch.setattr(table, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            sink.put(put)
    assert list(sink.database.connection._connection.iterdump()) == before
    sink.put(put)
    assert sink.known(put.episode.run, put.id) == put.summary


def test_what_was_deleted_while_it_served_is_no_reason_to_lose_the_episode(
    sink: DatabaseSink, lived: Callable[..., Episode], step: Callable[..., Any]
) -> None:
    put = result(lived, step)  # it recalled `r-old`, which is not there
    sink.put(put)
    assert sink.known(put.episode.run, put.id) == put.summary and sink.database.recalls.of_episode(put.id) == []
