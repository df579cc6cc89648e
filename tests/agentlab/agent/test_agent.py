from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.sqlite import SqliteSaver

from agentlab.agent.arms import BASE, Arm, RecallConfig
from agentlab.agent.episode import Play
from agentlab.agent.graph import build_graph, play_episode
from agentlab.agent.policy import Policy
from agentlab.agent.recall import MemorySnapshot
from agentlab.agent.result import EpisodeResult
from agentlab.agent.spec import EpisodeSpec
from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.engines.transformers import TransformersEngine
from agentlab.errors import Stopped
from agentlab.reflectors.base import reflection_of
from agentlab.reflectors.grounded import GroundedReflector
from environments import BadTask, EnvironmentDied, Task, TextEnv, make
from memory import Database, HashingEmbedder, ReflectionMemory
from memory.records import Advice, Episode, Evidence, Reflection, now

SAMPLED = Arm("sampled", policy=Policy(temperature=1.0))


@pytest.fixture
def saver(tmp_path: Path) -> Iterator[SqliteSaver]:
    connection = sqlite3.connect(tmp_path / "checkpoints.db", check_same_thread=False)
    yield SqliteSaver(connection)
    connection.close()


class Flaky:
    """An environment that raises at the n-th step of its life, once."""

    def __init__(self, env: TextEnv, at: int, error: BaseException) -> None:
        self.env, self.left, self.error = env, at, error
        self.env_id = env.env_id

    def start(self, task: Task) -> Any:
        return self.env.start(task)

    def step(self, action: str) -> Any:
        self.left -= 1
        if self.left == 0:
            raise self.error
        return self.env.step(action)


def spec_of(seed: int = 0, arm: Arm = BASE, env: str = "toy/doors") -> EpisodeSpec:
    return EpisodeSpec("run", Task(env=env, split="train", seed=seed), arm)


class Stored:
    """A sink that keeps results in a list."""

    def __init__(self) -> None:
        self.results: list[EpisodeResult] = []

    def put(self, result: EpisodeResult) -> None:
        self.results.append(result)

    def known(self, run: str, id: str) -> None:
        return None


def comparable(episode: Episode) -> dict[str, Any]:
    """Everything but what a clock says."""
    return episode.model_dump(exclude={"started_at", "seconds"})


def test_an_episode_is_played_reflected_on_and_stored_once(note_reader: ScriptedEngine, saver: SqliteSaver) -> None:
    stored = Stored()
    play = Play(
        spec_of(),
        make("toy/doors"),
        Model(note_reader),
        reflectors=(GroundedReflector(),),
        sink=stored,
    )
    episode = play_episode(play, build_graph(saver))
    assert episode.status == "won"
    assert [(one.id, [found.kind for found in one.reflections]) for one in stored.results] == [
        (episode.id, ["grounded"] * 2)
    ]
    assert episode.seconds > 0


def test_without_checkpoints_it_plays_the_same(note_reader: ScriptedEngine, saver: SqliteSaver) -> None:
    played = [
        play_episode(Play(spec_of(), make("toy/doors"), Model(note_reader)), build_graph(at)) for at in (saver, None)
    ]
    assert comparable(played[0]) == comparable(played[1])


def test_a_finished_episode_leaves_no_checkpoint(note_reader: ScriptedEngine, saver: SqliteSaver) -> None:
    play_episode(Play(spec_of(), make("toy/doors"), Model(note_reader)), build_graph(saver))
    assert list(saver.list(None)) == []


@pytest.mark.parametrize("at", [1, 2, 4, 5])
def test_cut_off_in_the_middle_it_goes_on_by_replay_to_the_same_end(
    at: int, tiny_model: Path, saver: SqliteSaver
) -> None:
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu")
    spec = spec_of(3, SAMPLED)
    whole = play_episode(Play(spec, make("toy/doors"), Model(engine)), build_graph(None))
    assert len(whole.steps) >= at
    graph = build_graph(saver)
    with pytest.raises(KeyboardInterrupt):
        play_episode(Play(spec, Flaky(make("toy/doors"), at, KeyboardInterrupt()), Model(engine)), graph)  # type: ignore[arg-type]
    scored: list[int] = []
    score = engine.score

    def counted(requests: Any) -> Any:
        scored.append(requests[0].conversation.turns)
        return score(requests)

    engine.score = counted  # type: ignore[method-assign]
    resumed = play_episode(Play(spec, make("toy/doors"), Model(engine)), graph)
    assert comparable(resumed) == comparable(whole)
    assert len(resumed.token_ids) > 0
    assert len(scored) == len(whole.steps)


def test_cut_off_before_the_end_was_stored_it_is_stored_on_resume(
    note_reader: ScriptedEngine, saver: SqliteSaver
) -> None:
    class Killed(Stored):
        def put(self, result: EpisodeResult) -> None:
            raise KeyboardInterrupt

    graph, stored = build_graph(saver), Stored()
    with pytest.raises(KeyboardInterrupt):
        play_episode(Play(spec_of(), make("toy/doors"), Model(note_reader), sink=Killed()), graph)
    resumed = Play(
        spec_of(),
        make("toy/doors"),
        Model(note_reader),
        reflectors=(GroundedReflector(),),
        sink=stored,
    )
    episode = play_episode(resumed, graph)
    (result,) = stored.results
    assert (episode.status, result.episode.score) == ("won", 1.0)
    assert [found.kind for found in result.reflections] == ["grounded"] * 2, "what happened, and where the coin was"


def test_killed_after_the_last_node_it_is_played_again_to_the_same_end(
    note_reader: ScriptedEngine, saver: SqliteSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(thread: str) -> None:
        raise KeyboardInterrupt

    graph = build_graph(saver)
    with monkeypatch.context() as patch:
        patch.setattr(saver, "delete_thread", killed)
        with pytest.raises(KeyboardInterrupt):
            play_episode(Play(spec_of(), make("toy/doors"), Model(note_reader)), graph)
    again = play_episode(Play(spec_of(), make("toy/doors"), Model(note_reader)), graph)
    assert (again.status, len(again.steps)) == ("won", 5)
    assert list(saver.list(None)) == []


def test_a_resumed_episode_has_the_advice_and_hints_that_it_had(
    tmp_path: Path, note_reader: ScriptedEngine, saver: SqliteSaver
) -> None:
    lazy = ScriptedEngine({"look": 0.0})
    arm = Arm("memory", recall=RecallConfig(exemplars=1), policy=Policy(retry_temperature=0.0))
    spec = replace(spec_of(0, arm), trial=1)
    with Database(tmp_path / "lab.db") as database:
        memory = ReflectionMemory(database, HashingEmbedder(), tmp_path / "memory.faiss")
        memory.remember([exemplar("r-1", "Read the note, then take what it says.")])
        frozen = now()
        _, info = make("toy/doors").start(spec.task)
        memory.remember([of_this_task("r-2", spec, info["state"], "read note", lost=1)])
        unbroken = play_with(spec, memory, frozen, lazy)
        whole = play_episode(unbroken, build_graph(None))
        assert whole.recalled == ["r-1", "r-2"]
        assert "Read the note" in whole.hints
        assert "read note" not in whole.actions[:3]
        graph = build_graph(saver)
        with pytest.raises(KeyboardInterrupt):
            cut = play_with(spec, memory, frozen, lazy)
            cut.env = Flaky(cut.env, 3, KeyboardInterrupt())  # type: ignore[assignment]
            play_episode(cut, graph)
        # What is written meanwhile must not change the half that is still to be played.
        memory.remember([of_this_task("r-3", spec, info["state"], "look", lost=1)])
        again = play_with(spec, memory, frozen, lazy)
        resumed = play_episode(again, graph)
    assert comparable(resumed) == comparable(whole)
    first, second = (
        [one.model_dump(exclude={"at"}) for one in play.recalled.recalls if one.channel == "advice"]
        for play in (unbroken, again)
        if play.recalled is not None
    )
    assert first == second and [one["step"] for one in first] == [0]


def play_with(spec: EpisodeSpec, memory: ReflectionMemory, frozen: str, engine: Any) -> Play:
    return Play(spec, make("toy/doors"), Model(engine), snapshot=MemorySnapshot(memory, spec.run, frozen))


def exemplar(id: str, text: str) -> Reflection:
    return Reflection(id=id, kind="exemplar", env="toy/doors", task="toy/doors:train:9", text=text, run="earlier")


def of_this_task(id: str, spec: EpisodeSpec, state: str, action: str, lost: int) -> Reflection:
    return Reflection(
        id=id,
        kind="grounded",
        env="toy/doors",
        task=spec.task.id,
        text="It ends badly.",
        advice=[Advice(state=state, action=action, visits=1, lost=lost)],
        evidence=[Evidence(episode=replace(spec, trial=0).id)],
        run=spec.run,
    )


def test_an_environment_that_changed_meanwhile_is_told(note_reader: ScriptedEngine, saver: SqliteSaver) -> None:
    graph = build_graph(saver)
    with pytest.raises(KeyboardInterrupt):
        env = Flaky(make("toy/doors"), 3, KeyboardInterrupt())
        play_episode(Play(spec_of(), env, Model(note_reader)), graph)  # type: ignore[arg-type]

    class Changed(Flaky):
        def step(self, action: str) -> Any:
            observation, *rest = self.env.step(action)
            return (observation.upper(), *rest)

    env = Changed(make("toy/doors"), 0, KeyboardInterrupt())
    ended = play_episode(Play(spec_of(), env, Model(note_reader)), graph)  # type: ignore[arg-type]
    assert (ended.status, ended.error_kind) == ("errored", "replay")
    assert "answered step 1 differently" in str(ended.error)
    assert list(saver.list(None)) == []
    afresh = play_episode(Play(spec_of(), make("toy/doors"), Model(note_reader)), graph)
    assert afresh.status == "won" and afresh.error is None


@pytest.mark.parametrize("error", [EnvironmentDied("The JVM died."), ValueError("bad room")])
def test_an_environment_that_dies_ends_the_episode_as_errored(
    error: Exception, note_reader: ScriptedEngine, saver: SqliteSaver
) -> None:
    stored = Stored()
    play = Play(
        spec_of(),
        Flaky(make("toy/doors"), 3, error),
        Model(  # type: ignore[arg-type]
            note_reader
        ),
        reflectors=(GroundedReflector(),),
        sink=stored,
    )
    episode = play_episode(play, build_graph(saver))
    assert episode.status == "errored"
    assert str(error) in str(episode.error)
    assert len(episode.steps) == 2
    assert [(one.episode, one.reflections) for one in stored.results] == [(episode, [])]
    assert list(saver.list(None)) == []


def test_a_task_that_does_not_exist_is_the_callers_mistake(note_reader: ScriptedEngine) -> None:
    with pytest.raises(BadTask, match="has no seed 100000"):
        play_episode(Play(spec_of(100_000), make("toy/doors"), Model(note_reader)), build_graph(None))


def test_asked_to_stop_it_stands_at_the_last_whole_step(note_reader: ScriptedEngine, saver: SqliteSaver) -> None:
    graph = build_graph(saver)
    play = Play(spec_of(), make("toy/doors"), Model(note_reader))

    class StopsAfterTwo(Flaky):
        def step(self, action: str) -> Any:
            self.left -= 1
            if self.left == 0:
                play.stop.set()
            return self.env.step(action)

    play.env = StopsAfterTwo(play.env, 2, KeyboardInterrupt())  # type: ignore[assignment]
    with pytest.raises(Stopped):
        play_episode(play, graph)
    state = graph.get_state({"configurable": {"thread_id": play.spec.id}})
    assert state.values["actions"] == play.episode.actions
    assert len(play.episode.actions) == 2
    resumed = Play(spec_of(), make("toy/doors"), Model(note_reader))
    assert play_episode(resumed, graph).actions[:2] == play.episode.actions


def test_text_that_was_recalled_is_not_reflected_on(tmp_path: Path, note_reader: ScriptedEngine) -> None:
    secret = "Xyzzy opens everything."
    with Database(tmp_path / "lab.db") as database:
        memory = ReflectionMemory(database, HashingEmbedder(), tmp_path / "memory.faiss")
        memory.remember([exemplar("r-1", secret)])
        play = play_with(spec_of(0, Arm("m", recall=RecallConfig(exemplars=1))), memory, now(), note_reader)
        play.reflectors = (GroundedReflector(),)
        play.sink = stored = Stored()
        episode = play_episode(play, build_graph(None))
    found = stored.results[0].reflections
    assert secret in episode.hints
    assert secret in play.conversation.text  # type: ignore[union-attr]
    assert found and secret not in "".join(reflection.model_dump_json() for reflection in found)


def test_a_recalled_text_that_is_written_down_again_is_not_stored(tmp_path: Path, note_reader: ScriptedEngine) -> None:
    class Echo:
        name = "echo"

        def reflect(self, episode: Episode) -> list[Reflection]:
            texts = {"copy": "the NOTE names the safe door", "news": "The attic holds a note."}
            return [reflection_of(episode, kind=kind, text=text, steps=[0]) for kind, text in texts.items()]

    with Database(tmp_path / "lab.db") as database:
        memory = ReflectionMemory(database, HashingEmbedder(), tmp_path / "memory.faiss")
        memory.remember([exemplar("r-1", "The note names the safe door.")])
        play = play_with(spec_of(0, Arm("m", recall=RecallConfig(exemplars=1))), memory, now(), note_reader)
        play.reflectors = (Echo(),)
        play.sink = stored = Stored()
        play_episode(play, build_graph(None))
    assert [reflection.kind for reflection in stored.results[0].reflections] == ["news"]


def test_equal_specs_give_equal_episodes(tiny_model: Path, task: Callable[..., Task]) -> None:
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu")
    played = [
        play_episode(Play(spec_of(5, SAMPLED), make("toy/doors"), Model(engine)), build_graph(None)) for _ in range(2)
    ]
    assert comparable(played[0]) == comparable(played[1])
