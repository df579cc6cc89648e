from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.sqlite import SqliteSaver

from agentlab.agent import rollout as rollouts
from agentlab.agent.arms import BASE, Arm
from agentlab.agent.policy import Policy
from agentlab.agent.rollout import Rollout, TaskResult, Trial
from agentlab.engines.base import Scores
from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import RunFailed, Stopped
from agentlab.trajectories.environment_pool import EnvironmentPool
from environments import EnvironmentDied, Task, TextEnv, Turn, make, register, unregister
from environments.worker import Worker
from memory import Database
from memory.store import EpisodeFilter

SAMPLED = Arm("sampled", policy=Policy(temperature=1.0))


class Watched:
    """The toy game, which counts its steps, and breaks in the tasks that it is told to break in."""

    def __init__(self, log: list[str], broken: set[int]) -> None:
        self.env, self.env_id, self.log, self.broken = make("toy/doors"), "toy/doors", log, broken
        self.task: Task | None = None
        self.closed = False

    def start(self, task: Task) -> Any:
        self.task = task
        self.log.append(task.id)
        return self.env.start(task)

    def step(self, action: str) -> Any:
        assert self.task is not None
        if self.task.seed in self.broken:
            raise EnvironmentDied("The JVM died.")
        return self.env.step(action)

    def close(self) -> None:
        self.closed = True
        raise OSError("closing fails too")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "lab.db") as database:
        yield database


@pytest.fixture
def started() -> list[str]:
    """The tasks that were started, in order."""
    return []


@pytest.fixture
def rollout(database: Database, note_reader: ScriptedEngine, started: list[str]) -> Callable[..., Rollout]:
    """Makes a rollout of the toy game, as a fresh process would."""

    def made(engine: Any = note_reader, broken: set[int] | None = None, **options: Any) -> Rollout:
        def factory(_: str, worker: Worker) -> TextEnv:
            return Watched(started, broken or set())  # type: ignore[return-value]

        return Rollout("run", database, Model(engine), pool=EnvironmentPool(factory), **options)

    return made


def tasks(count: int) -> list[Task]:
    return [Task(env="toy/doors", split="train", seed=seed) for seed in range(count)]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_results_come_in_the_order_of_the_tasks(rollout: Callable[..., Rollout], concurrency: int) -> None:
    wanted = tasks(7)[::-1]
    results = rollout(concurrency=concurrency).play(wanted, BASE)
    assert [result.task for result in results] == wanted
    assert all(result.won_within(1) for result in results)


def test_as_many_are_in_flight_as_asked_for(rollout: Callable[..., Rollout], note_reader: ScriptedEngine) -> None:
    meeting = threading.Barrier(3)
    score = note_reader.score

    def together(requests: Any) -> Any:
        if requests[0].conversation.turns == 1:
            meeting.wait()  # nobody goes on until three are here
        return score(requests)

    note_reader.score = together  # type: ignore[method-assign]
    assert len(rollout(concurrency=3).play(tasks(6), BASE)) == 6


def test_a_task_is_tried_until_it_is_won(rollout: Callable[..., Rollout], database: Database) -> None:
    (result,) = rollout(ScriptedEngine({}), seed=1).play(tasks(1), SAMPLED, trials=50)
    statuses = [trial.status for trial in result.trials]
    assert statuses[-1] == "won" and "won" not in statuses[:-1]
    assert len(statuses) > 1
    assert [row.trial for row in database.episodes.find()] == list(range(len(statuses)))
    kept = {row.id: (row.status, row.score, row.steps) for row in database.episodes.find()}
    assert kept == {trial.episode: (trial.status, trial.score, trial.steps) for trial in result.trials}


def test_all_trials_are_played_where_that_is_asked_for(rollout: Callable[..., Rollout]) -> None:
    (result,) = rollout().play(tasks(1), BASE.with_(policy=Policy(retry_temperature=0.01)), trials=3, until_won=False)
    assert [trial.status for trial in result.trials] == ["won"] * 3


def test_one_broken_environment_stops_nobody_else(rollout: Callable[..., Rollout], database: Database) -> None:
    results = rollout(broken={2}, concurrency=2).play(tasks(5), BASE, trials=1)
    assert [result.won_within(1) for result in results] == [True, True, None, True, True]
    (row,) = database.episodes.find(EpisodeFilter(status="errored"))
    assert (row.seed, row.error) == (2, "The JVM died.")


def test_ctrl_c_keeps_what_is_finished_and_the_same_call_goes_on(
    rollout: Callable[..., Rollout], database: Database, started: list[str]
) -> None:
    seen: list[TaskResult] = []

    def interrupt(result: TaskResult) -> None:
        seen.append(result)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(Stopped, match=r"Stopped with 3 of 8 tasks finished.*same command goes on"):
        rollout(concurrency=1).play(tasks(8), BASE, progress=interrupt)
    assert len(database.episodes.find(EpisodeFilter(status="won"))) >= 3
    before = {row.task for row in database.episodes.find()}
    started.clear()
    results = rollout(concurrency=1).play(tasks(8), BASE)
    assert not before & set(started)
    assert [result.task for result in results] == tasks(8)
    assert all(result.won_within(1) for result in results)


def test_asked_to_stop_it_stops_after_the_steps_in_flight(
    rollout: Callable[..., Rollout], database: Database, note_reader: ScriptedEngine
) -> None:
    player = rollout(concurrency=2)
    score = note_reader.score

    def stop_in_the_middle(requests: Any) -> Any:
        if requests[0].conversation.turns == 3:
            player.stop.set()
        return score(requests)

    note_reader.score = stop_in_the_middle  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        player.play(tasks(4), BASE)
    assert database.episodes.find() == []


def test_the_same_call_again_plays_nothing_and_tells_the_same(
    rollout: Callable[..., Rollout], database: Database, started: list[str]
) -> None:
    first = rollout(ScriptedEngine({})).play(tasks(4), SAMPLED, trials=3)
    episodes = database.episodes.find()
    started.clear()
    assert rollout(ScriptedEngine({})).play(tasks(4), SAMPLED, trials=3) == first
    assert started == []
    assert database.episodes.find() == episodes


def test_a_trial_is_known_as_played_in_the_moment_in_which_it_is_stored(
    rollout: Callable[..., Rollout], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Rollout.episode

    def killed(*given: Any) -> None:
        play(*given)
        raise SystemExit

    monkeypatch.setattr(Rollout, "episode", killed)
    with pytest.raises(SystemExit):
        rollout().play(tasks(1), BASE)
    (row,) = database.episodes.find()
    assert list(database.journal.items("trials|" + row.run)) == [row.id]


def test_more_trials_go_on_behind_those_that_were_played(rollout: Callable[..., Rollout], started: list[str]) -> None:
    (first,) = rollout(ScriptedEngine({"look": 0.0})).play(tasks(1), BASE.with_(policy=Policy(retry_temperature=0)))
    started.clear()
    (more,) = rollout(ScriptedEngine({"look": 0.0})).play(
        tasks(1), BASE.with_(policy=Policy(retry_temperature=0)), trials=3
    )
    assert more.trials[0] == first.trials[0]
    assert len(started) == 2


def test_an_engine_that_fails_ends_the_episode_and_not_the_run(
    rollout: Callable[..., Rollout], database: Database, note_reader: ScriptedEngine
) -> None:
    score, calls = note_reader.score, list[int]()

    def sometimes(requests: Any) -> Any:
        calls.append(1)
        if len(calls) == 7:  # in the second game
            raise TimeoutError("no answer from the server")
        return score(requests)

    note_reader.score = sometimes  # type: ignore[method-assign]
    results = rollout(concurrency=1).play(tasks(3), BASE)
    assert [result.trials[0].status for result in results] == ["won", "errored", "won"]
    (row,) = database.episodes.find(EpisodeFilter(status="errored"))
    episode = database.episodes.get(row.id)
    assert episode.error_kind == "engine" and "no answer from the server" in str(episode.error)


@pytest.mark.parametrize("said", [[float("nan")] * 9, [float("-inf")] * 9, []])
def test_scores_that_are_no_numbers_are_a_failure_of_the_engine(
    said: list[float], rollout: Callable[..., Rollout], note_reader: ScriptedEngine
) -> None:
    note_reader.score = lambda requests: [Scores(said[: len(one.commands)]) for one in requests]  # type: ignore[method-assign]
    (result,) = rollout().play(tasks(1), BASE)
    assert (result.trials[0].status, result.trials[0].error_kind) == ("errored", "engine")


def test_what_errored_is_played_again_by_the_same_call(
    rollout: Callable[..., Rollout], database: Database, started: list[str]
) -> None:
    first = rollout(broken={1, 2}).play(tasks(4), BASE)
    assert [result.won_within(1) for result in first] == [True, None, None, True]
    started.clear()
    again = rollout(broken={2}).play(tasks(4), BASE)
    assert [result.won_within(1) for result in again] == [True, True, None, True]
    assert sorted(started) == ["toy/doors:train:1", "toy/doors:train:2"]
    assert len(database.episodes.find()) == 4
    (row,) = database.episodes.find(EpisodeFilter(status="errored"))
    assert row.seed == 2


def test_an_engine_that_always_fails_alike_stops_the_run(rollout: Callable[..., Rollout], database: Database) -> None:
    def broken(text: str, command: str) -> float:
        raise ZeroDivisionError(f"at {len(text)}")

    with pytest.raises(RunFailed, match=r"scripted.*ZeroDivisionError"):
        rollout(ScriptedEngine(broken), concurrency=1).play(tasks(50), BASE)
    assert len(database.episodes.find(EpisodeFilter(status="errored"))) == len(database.episodes.find()) == 10


def test_games_in_which_the_engine_fails_among_others_stop_no_run_that_plays_them_once_more(
    rollout: Callable[..., Rollout], started: list[str], note_reader: ScriptedEngine
) -> None:
    plays: Any = note_reader.preferences

    def sometimes(text: str, command: str) -> float:
        if int(started[-1].rpartition(":")[2]) % 2:
            raise ZeroDivisionError("of this game")
        return float(plays(text, command))

    for _ in range(2):  # the second call finds nothing else to play
        results = rollout(ScriptedEngine(sometimes), concurrency=1).play(tasks(24), BASE, again=True)
        assert [result.won_within(1) for result in results] == [True, None] * 12
    assert len(started) == 24 + 3 * 12


def test_environments_that_always_fail_alike_do_not_stop_the_run(rollout: Callable[..., Rollout]) -> None:
    count = 20
    results = rollout(broken=set(range(count))).play(tasks(count + 1), BASE)
    assert [result.won_within(1) for result in results] == [None] * count + [True]


def test_an_environment_that_failed_is_thrown_away(started: list[str], database: Database, note_reader: Any) -> None:
    made: list[Watched] = []

    class Dying(Watched):
        """Once dead, it does not come to life again."""

        def step(self, action: str) -> Any:
            if "toy/doors:train:1" in self.log and self is made[0]:
                raise EnvironmentDied("The server is gone.")
            return super().step(action)

    def factory(_: str, worker: Worker) -> TextEnv:
        made.append(Dying(started, set()))
        return made[-1]  # type: ignore[return-value]

    player = Rollout("run", database, Model(note_reader), pool=EnvironmentPool(factory), concurrency=1)
    results = player.play(tasks(5), BASE)
    assert [result.won_within(1) for result in results] == [True, None, True, True, True]
    assert len(made) == 2 and made[0].closed and not made[1].closed


def test_one_that_cannot_be_made_is_tried_again_for_the_next_game(database: Database, note_reader: Any) -> None:
    calls = list[str]()

    def factory(env_id: str, worker: Worker) -> TextEnv:
        calls.append(env_id)
        if len(calls) == 1:
            raise ConnectionRefusedError("no server yet")
        return make(env_id, worker)

    player = Rollout("run", database, Model(note_reader), pool=EnvironmentPool(factory), concurrency=1)
    results = player.play(tasks(3), BASE)
    assert [result.won_within(1) for result in results] == [None, True, True]
    assert "no server yet" in str(results[0].trials[0].error)


def test_a_stop_does_not_wait_for_an_environment_that_hangs(database: Database, note_reader: ScriptedEngine) -> None:
    never, hangs = threading.Event(), threading.Event()

    def hang(action: str) -> Turn:
        hangs.set()
        never.wait()
        raise AssertionError

    def factory(env_id: str, worker: Worker) -> TextEnv:
        env = make(env_id, worker)
        env.act = hang  # type: ignore[method-assign]
        return env

    player = Rollout("run", database, Model(note_reader), pool=EnvironmentPool(factory), concurrency=2)

    def ctrl_c(*given: Any, **more: Any) -> Any:
        hangs.wait()
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollouts, "wait", lambda flying, **given: ctrl_c() if given else wait(flying))
        with pytest.raises(Stopped, match="0 of 2 tasks finished"):
            player.play(tasks(2), BASE)
    never.set()
    assert database.episodes.find() == []
    player.pool = EnvironmentPool()
    assert all(result.won_within(1) for result in replace(player, stop=threading.Event()).play(tasks(2), BASE))


def test_a_stop_does_not_wait_for_an_environment_that_hangs_while_it_is_made(
    database: Database, note_reader: ScriptedEngine
) -> None:
    never, hangs, waited = threading.Event(), threading.Event(), list[str]()

    def hang() -> TextEnv:
        hangs.set()
        never.wait(5)
        waited.append("to the end")
        raise AssertionError

    def ctrl_c(*given: Any, **more: Any) -> Any:
        hangs.wait()
        raise KeyboardInterrupt

    register("own/hangs", hang)
    player = Rollout("run", database, Model(note_reader), concurrency=2)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rollouts, "wait", lambda flying, **given: ctrl_c() if given else wait(flying))
            with pytest.raises(Stopped, match="0 of 2 tasks finished"):
                player.play([Task(env="own/hangs", split="train", seed=seed) for seed in range(2)], BASE)
        assert waited == [] and database.episodes.find() == []
        with pytest.raises(Stopped):
            player.pool.take("toy/doors")
    finally:
        never.set()
        unregister("own/hangs")


def test_environments_are_used_again_and_closed_together(started: list[str]) -> None:
    made: list[Watched] = []

    def factory(_: str, worker: Worker) -> TextEnv:
        made.append(Watched(started, set()))
        return made[-1]  # type: ignore[return-value]

    pool = EnvironmentPool(factory)
    first = pool.take("toy/doors")
    second = pool.take("toy/doors")
    assert first is not second
    pool.give("toy/doors", first)
    assert pool.take("toy/doors") is first
    pool.close()
    assert [env.closed for env in made] == [True, True]


def result_of(*statuses: str) -> TaskResult:
    trials = tuple(Trial(f"e{at}", status, 0.25 * (at + 1), 3) for at, status in enumerate(statuses))
    return TaskResult(tasks(1)[0], "arm", trials)


@pytest.mark.parametrize(
    ("statuses", "trials", "won"),
    [
        (["lost", "won"], 1, False),
        (["lost", "won"], 2, True),
        (["errored", "won"], 2, True),
        (["errored", "lost"], 2, None),
        (["lost", "errored"], 1, False),
    ],
)
def test_an_error_hides_whether_a_task_was_won_unless_it_was(statuses: list[str], trials: int, won: object) -> None:
    assert result_of(*statuses).won_within(trials) is won


def test_the_best_score_of_all_trials_counts() -> None:
    assert result_of("lost", "lost").best_score == 0.5
    assert TaskResult(tasks(1)[0], "arm", ()).best_score == 0.0


def test_where_an_episode_stood_is_forgotten_once_it_is_stored_also_after_a_kill_in_between(
    rollout: Callable[..., Rollout], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = sqlite3.connect(tmp_path / "checkpoints.db", check_same_thread=False)
    saver = SqliteSaver(connection)
    with monkeypatch.context() as killed:  # the process ends before it comes to that
        killed.setattr(SqliteSaver, "delete_thread", lambda *_: None)
        rollout(checkpointer=saver, concurrency=1).play(tasks(2), BASE)
    count = "SELECT count(DISTINCT thread_id) FROM checkpoints"
    assert connection.execute(count).fetchone() == (2,)
    rollout(checkpointer=saver, concurrency=1).play(tasks(2), BASE)
    assert connection.execute(count).fetchone() == (0,)
    connection.close()
