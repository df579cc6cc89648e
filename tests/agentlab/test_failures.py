"""Environments and other parts that fail: the episode ends, the run goes on, and nothing is counted wrongly."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentlab.cli import app
from agentlab.engines.scripted import ScriptedEngine
from agentlab.engines.transformers import TransformersEngine
from agentlab.errors import AgentLabError, ReplayMismatch, Stopped
from agentlab.experiments.collection import collect_random
from agentlab.lab import Lab
from agentlab.reflectors.base import reflection_of
from agentlab.rounds import RoundConfig, RoundReport
from agentlab.rounds.held_out import held_out
from agentlab.rounds.pool import attempts
from agentlab.search.tasks import search_tasks
from environments import BadTask, EnvironmentDied, Task, TextEnv, Turn, register, unregister
from environments.errors import BadParameter
from memory.errors import MemoryStoreError
from memory.records import Episode, Reflection
from memory.store import EpisodeFilter, Filter

ENV = "own/rooms"
BAD = 1
"""The seed on which something is odd."""


class Rooms(TextEnv):
    """Three rooms in a row; the coin is in the last."""

    odd: Callable[[Rooms, Turn], Turn] | None = None
    at_reset: Callable[[Rooms, Turn], Turn] | None = None

    def __init__(self, env_id: str = ENV) -> None:
        super().__init__(env_id, step_limit=6)
        self.seed = self.place = 0
        self.actions: list[str] = []

    def begin(self, task: Task) -> Turn:
        self.seed, self.place = task.seed, 0
        turn = Turn("You are in room 0.", self.commands(), goal="Find the coin.")
        return type(self).at_reset(self, turn) if type(self).at_reset and self.seed == BAD else turn  # type: ignore[misc]

    def commands(self) -> list[str]:
        return ["go north", "take coin"]

    def act(self, action: str) -> Turn:
        self.actions.append(action)
        self.place += action == "go north"
        won = action == "take coin" and self.place >= 2
        turn = Turn(f"You are in room {self.place}.", self.commands(), float(won), won)
        return type(self).odd(self, turn) if type(self).odd and self.seed == BAD else turn  # type: ignore[misc]


def walks(transcript: str, command: str) -> float:
    """Goes north twice, then takes the coin."""
    arrived = "room 2" in transcript.rstrip(">").rstrip().splitlines()[-1]
    return 0.0 if (command == "take coin") is arrived else -5.0


def raising(error: BaseException) -> Callable[[Rooms, Turn], Turn]:
    def odd(env: Rooms, turn: Turn) -> Turn:
        raise error

    return odd


def saying(**said: Any) -> Callable[[Rooms, Turn], Turn]:
    return lambda env, turn: turn._replace(**said)


@pytest.fixture
def rooms() -> Iterator[Callable[..., type[Rooms]]]:
    """Registers the rooms with an oddity."""

    def made(**oddities: Any) -> type[Rooms]:
        kind = type("Odd", (Rooms,), {name: staticmethod(odd) for name, odd in oddities.items()})
        register(ENV, kind)
        return kind

    yield made
    unregister(ENV)


@pytest.fixture
def lab(open_lab: Callable[..., Lab]) -> Lab:
    return open_lab(engine=ScriptedEngine(walks))


def statuses(lab: Lab, seeds: Sequence[int] = range(4), **settings: Any) -> list[list[str]]:
    results = lab.run(ENV, seeds=seeds, trials=2, **settings)
    return [[trial.status for trial in result.trials] for result in results]


@pytest.mark.parametrize(
    ("oddity", "named"),
    [
        ({"odd": raising(ZeroDivisionError("division by zero"))}, "ZeroDivisionError: division by zero"),
        ({"odd": raising(SystemExit("the simulator gave up"))}, "the simulator gave up"),
        ({"odd": raising(KeyboardInterrupt())}, "KeyboardInterrupt"),
        ({"at_reset": raising(RuntimeError("no level [/bold]"))}, "no level [/bold]"),
        ({"at_reset": raising(BadParameter("no quest fits"))}, "no quest fits"),
        ({"at_reset": raising(BadTask("no such level"))}, "no such level"),
        ({"odd": raising(UnicodeError("half \ud83d"))}, "UnicodeError"),
        ({"odd": raising(sqlite3.OperationalError("no such level"))}, "OperationalError: no such level"),
        ({"odd": saying(observation=None)}, "`observation`"),
        ({"odd": saying(observation=b"You are here.")}, "`observation`"),
        ({"odd": saying(admissible=[0, 1, 2])}, "`admissible`"),
        ({"odd": saying(admissible=[])}, "no admissible command"),
        ({"odd": saying(value=float("nan"))}, "`value`"),
        ({"odd": saying(value=float("inf"))}, "`value`"),
        ({"odd": saying(score=float("nan"))}, "`score`"),
        ({"odd": saying(won=[False])}, "`won`"),
        ({"odd": lambda env, turn: None}, "`turn`"),
    ],
)
def test_what_is_odd_ends_its_episode_and_the_run_goes_on(
    oddity: dict[str, Any], named: str, rooms: Callable[..., Any], lab: Lab
) -> None:
    rooms(**oddity)
    assert statuses(lab) == [["won"], ["errored", "errored"], ["won"], ["won"]]
    for row in lab.database.episodes.find(EpisodeFilter(status="errored")):
        episode = lab.database.episodes.get(row.id)
        assert episode.error_kind == "environment" and row.error == episode.error
        assert ENV in str(row.error) and named in str(row.error) and "\n" not in str(row.error)
    assert not lab.database.reflections.find(Filter(task=f"{ENV}:train:{BAD}", status=None)), (
        "nothing is learned from it"
    )
    unregister(ENV)
    register(ENV, Rooms)
    assert statuses(lab) == [["won"]] * 4, "the same command repairs it"
    assert lab.database.episodes.find(EpisodeFilter(status="errored")) == [
        row for row in lab.database.episodes.find(EpisodeFilter(task=f"{ENV}:train:{BAD}")) if row.trial == 1
    ]


@pytest.mark.parametrize(("ending", "status", "score"), [({"won": True}, "won", 1.0), ({"lost": True}, "lost", 0.0)])
def test_a_game_that_is_over_at_reset_is_an_episode_without_steps(
    ending: dict[str, bool], status: str, score: float, rooms: Callable[..., Any], lab: Lab
) -> None:
    rooms(at_reset=saying(score=score, **ending))
    found = statuses(lab)
    assert found == [["won"], [status] * (1 if status == "won" else 2), ["won"], ["won"]]
    for row in lab.database.episodes.find(EpisodeFilter(task=f"{ENV}:train:{BAD}")):
        assert (row.status, row.score, row.steps, row.error) == (status, score, 0, None)
        assert RUNNER.invoke(app, ["replay", row.id, "--plain", "--lab", str(lab.folder)]).exit_code == 0
    tasks = [Task(env=ENV, split="train", seed=seed) for seed in range(3)]
    assert collect_random(lab, "babble", tasks, trials=9, seed=0) == 2 + (status == "won")
    searched = search_tasks(lab, "search", tasks)
    assert [one.won is not None for one in searched] == [True, status == "won", True]
    for method in ("best_of_n", "deepening", "self_explore"):
        assert len(search_tasks(lab, method, tasks[BAD:2], method=method)) == 1  # type: ignore[arg-type]


RUNNER = CliRunner()


def test_half_a_character_is_replaced_and_the_game_is_played(rooms: Callable[..., Any], lab: Lab) -> None:
    rooms(odd=lambda env, turn: turn._replace(observation=f"{turn.observation} \ud83d"))
    (result,) = lab.run(ENV, seeds=[BAD], trials=1)
    assert lab.database.episodes.get(result.trials[0].episode).steps[0].result == "You are in room 1. ?"


ODD_COMMANDS = ["", "  ", "go north", " go north", "go\nnorth", "take coin", "take coin now\n> go south", "\t"]


def test_odd_commands_are_played_as_the_environment_gave_them(
    rooms: Callable[..., Any], lab: Lab, tiny_model: Path
) -> None:
    heard: list[str] = []

    class Odd(Rooms):
        def commands(self) -> list[str]:
            return ODD_COMMANDS * 2

        def act(self, action: str) -> Turn:
            heard.append(action)
            return super().act(action)

    register(ENV, Odd)
    try:
        results = lab.run(ENV, seeds=range(4), trials=1, arm="random")
        lab._engine = TransformersEngine(tiny_model, dtype="float32", device="cpu")
        played = lab.run(ENV, seeds=range(2), trials=1, arm="base")
        episodes = [lab.database.episodes.get(result.trials[0].episode) for result in (*results, *played)]
    finally:
        unregister(ENV)
        register(ENV, Rooms)
    assert [action for episode in episodes for action in episode.actions] and set(heard) <= set(ODD_COMMANDS)
    for episode in episodes:
        for step in episode.steps:
            assert step.admissible == sorted(ODD_COMMANDS)
    for episode in episodes[4:]:
        assert len(episode.action_spans) == len(episode.steps)


def test_held_out_games_that_cannot_begin_are_left_out(rooms: Callable[..., Any], lab: Lab) -> None:
    rooms(at_reset=raising(RuntimeError("no level")))
    report = RoundReport(id="round-1", number=1, config=RoundConfig(envs=[ENV], gate_seeds=3, held_out_seeds=2))
    starts = held_out(lab, report)
    unregister(ENV)
    register(ENV, Rooms)
    assert len(starts) == len(held_out(lab, report)) - 2


def test_exploring_and_searching_go_on_and_what_errored_is_tried_again(rooms: Callable[..., Any], lab: Lab) -> None:
    rooms(odd=saying(score=float("nan")))
    tasks = [Task(env=ENV, split="train", seed=seed) for seed in range(3)]
    assert collect_random(lab, "babble", tasks, trials=30, seed=0) == 2
    assert [one.won is not None for one in search_tasks(lab, "search", tasks)] == [True, False, True]
    unregister(ENV)
    register(ENV, Rooms)
    assert collect_random(lab, "babble", tasks, trials=30, seed=0) == 3
    assert all(one.won for one in search_tasks(lab, "search", tasks))


def test_a_checkpoint_that_no_longer_fits_ends_its_episode_only(
    rooms: Callable[..., Any], open_lab: Callable[..., Lab]
) -> None:
    engine = ScriptedEngine(walks)
    lab = open_lab(engine=engine, concurrency=1)
    rooms()
    score = engine.score

    def interrupted(requests: Any) -> Any:
        if "room 1" in requests[0].conversation.text:
            raise Stopped("in the middle of the first game")
        return score(requests)

    engine.score = interrupted  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        lab.run(ENV, seeds=range(4), trials=1, arm="base", name="cut")
    engine.score = score  # type: ignore[method-assign]
    unregister(ENV)

    class Renamed(Rooms):
        def act(self, action: str) -> Turn:
            turn = super().act(action)
            return turn._replace(observation=turn.observation.replace("You are", "You stand"))

    register(ENV, Renamed)
    first = lab.run(ENV, seeds=range(4), trials=1, arm="base", name="cut")
    assert [result.trials[0].error_kind for result in first] == ["replay", None, None, None]
    again = lab.run(ENV, seeds=range(4), trials=1, arm="base", name="cut")
    assert [result.trials[0].status for result in again] == ["won"] * 4


def test_a_reflector_that_fails_ends_the_episode(rooms: Callable[..., Any], lab: Lab) -> None:
    class Picky:
        name = "picky"

        def reflect(self, episode: Episode) -> list[Reflection]:
            if episode.seed == BAD:
                raise IndexError("list index out of range")
            return []

    rooms()
    assert statuses(lab, reflectors=[Picky()]) == [["won"], ["errored"] * 2, ["won"], ["won"]]
    (first, _) = lab.database.episodes.find(EpisodeFilter(status="errored"))
    episode = lab.database.episodes.get(first.id)
    assert episode.error_kind == "reflector" and "picky" in str(episode.error)


@pytest.mark.parametrize("drawn", ["a text", {"text": "a text"}, None])
def test_a_reflector_that_writes_no_reflections_ends_the_episode(
    drawn: Any, rooms: Callable[..., Any], lab: Lab
) -> None:
    class Odd:
        name = "odd"

        def reflect(self, episode: Episode) -> list[Reflection]:
            empty = reflection_of(episode, kind="odd", text=" ", steps=[])
            return [drawn or empty] if episode.seed == BAD else []

    rooms()
    assert statuses(lab, reflectors=[Odd()]) == [["won"], ["errored"] * 2, ["won"], ["won"]]
    assert {
        lab.database.episodes.get(row.id).error_kind
        for row in lab.database.episodes.find(EpisodeFilter(status="errored"))
    } == {"reflector"}
    assert not lab.database.reflections.find()


@pytest.mark.parametrize("fault", [RuntimeError("out of memory"), float("nan")])
def test_an_engine_that_fails_while_it_guides_a_search_costs_its_task_only(
    fault: Any, rooms: Callable[..., Any], open_lab: Callable[..., Lab]
) -> None:
    broken = True

    def script(transcript: str, command: str) -> float:
        if broken and "dark" in transcript and "room 1" in transcript:
            if isinstance(fault, Exception):
                raise fault
            return float(fault)
        return walks(transcript, command)

    rooms(at_reset=saying(observation="You are in room 0. It is dark."))
    lab = open_lab(engine=ScriptedEngine(script))
    tasks = [Task(env=ENV, split="train", seed=seed) for seed in range(3)]
    well, failed, too = search_tasks(lab, "search", tasks, engine="model")
    assert well.won and too.won and failed.won is None and "scripted" in str(failed.error)
    kinds = {
        lab.database.episodes.get(row.id).error_kind
        for row in lab.database.episodes.find(EpisodeFilter(status="errored"))
    }
    assert kinds == {"engine"}
    broken = False
    assert all(found.won for found in search_tasks(lab, "search", tasks, engine="model")), "tried again"


def test_an_environment_that_cannot_be_made_refuses_a_round_in_one_line(lab: Lab) -> None:
    class Unmakeable(Rooms):
        def __init__(self) -> None:
            raise ZeroDivisionError("no rooms")

    register(ENV, Unmakeable)
    try:
        with pytest.raises(EnvironmentDied, match=r"own/rooms.*ZeroDivisionError"):
            lab.round(RoundConfig(envs=[ENV]))
    finally:
        unregister(ENV)
    assert not lab.rounds()


@pytest.mark.parametrize("raised", [BadTask("x"), AgentLabError("x"), MemoryStoreError("x"), Stopped("x")])
def test_what_concerns_the_whole_run_passes_every_boundary(raised: Exception) -> None:
    from agentlab import failures

    for boundary in (failures.environment, failures.engine, failures.reflector):
        with pytest.raises(type(raised)) as caught, boundary("any"):
            raise raised
        assert caught.value is raised


def test_every_failure_has_a_kind() -> None:
    from agentlab import failures
    from agentlab.errors import EngineFailed
    from environments import EnvironmentHung

    kinds = {
        EnvironmentHung("x"): "timeout",
        EnvironmentDied("x"): "environment",
        EngineFailed("x"): "engine",
        ReplayMismatch("x"): "replay",
    }
    for failure, kind in kinds.items():
        assert failures.kind_of(failure) == kind and isinstance(failure, failures.FAILURES)


def null_rewards(lab: Lab, id: str, score: float | None) -> None:
    """As earlier versions stored an episode whose rewards were not numbers."""
    step = {
        "observation": "You are in room 0.",
        "state": "s",
        "admissible": ["go north", "take coin"],
        "action": "go north",
    }
    after = {"result": "You are in room 1.", "next_state": "t", "reward": None, "score": None, "scores": [None]}
    stored = {"id": id, "run": "old", "env": ENV, "split": "train", "seed": 0, "status": "won", "score": None}
    stored |= {"goal": "Find the coin.", "steps": [{"index": 0, **step, **after}]}
    lab.database.episodes.put(Episode(id=id, run="old", env=ENV, split="train", seed=0, status="won"))
    payload = zlib.compress(json.dumps(stored).encode())
    lab.database.connection.execute("UPDATE episodes SET score = ?, payload = ? WHERE id = ?", (score, payload, id))


def test_an_episode_that_was_stored_without_numbers_is_read_and_counts_as_errored(
    rooms: Callable[..., Any], lab: Lab
) -> None:
    rooms()
    null_rewards(lab, "ep-old", None)
    null_rewards(lab, "ep-inf", float("inf"))
    lab.run(ENV, seeds=[0], trials=1, arm="base")
    old = lab.database.episodes.get("ep-old")
    assert (old.status, old.score, old.steps[0].reward, old.steps[0].all_scores) == ("errored", 0.0, 0.0, None)
    rows = {row.id: row for row in lab.database.episodes.find()}
    assert (rows["ep-old"].status, rows["ep-inf"].status) == ("errored", "errored")
    assert [one.won for one in attempts(lab, RoundConfig(envs=[ENV]))] == [True]
    for command in (["episodes", "--json"], ["replay", "ep-old", "--json"], ["replay", "ep-old"], ["episodes"]):
        shown = RUNNER.invoke(app, [*command, "--lab", str(lab.folder)])
        assert shown.exit_code == 0, shown.output
        if "--json" in command:
            json.loads(shown.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_run_in_which_every_game_errored_says_so_with_its_exit_code(
    rooms: Callable[..., Any], lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms(odd=raising(RuntimeError("no server")))
    folder = lab.folder
    lab.close()

    def agentlab(*words: str) -> Any:
        return RUNNER.invoke(app, [*words, "--arm", "random", "--lab", str(folder)])

    for command in ("run", "eval"):
        failed = agentlab(command, ENV, "--seeds", str(BAD))
        assert failed.exit_code == 1 and "no server" in failed.stderr and "errored" in failed.stderr
        some = agentlab(command, ENV, "--seeds", "0-1")
        assert some.exit_code == 0 and "errored" in some.stderr


HANGS = """
import socket, sys, threading
from agentlab import Lab, LabConfig
from agentlab.cli.boundary import boundary
from agentlab.engines.scripted import ScriptedEngine
from environments import TextEnv, Turn, register

class Hangs(TextEnv):
    def __init__(self):
        super().__init__("own/hangs", step_limit=9)
    def begin(self, task):
        return Turn("A room.", ["go"], goal="Leave.")
    def act(self, action):
        sys.stdout.write("hanging\\n")  # at once: another thread says it, too
        sys.stdout.flush()
        ends = socket.socketpair()
        ends[0].recv(1)

register("own/hangs", Hangs)
config = LabConfig(embedder="hashing", concurrency=2)
with boundary(), Lab.open(sys.argv[1], create=True, config=config, engine=ScriptedEngine({"go": 0.0})) as lab:
    WORK
"""


@pytest.mark.parametrize(
    "work",
    [
        "lab.run('own/hangs', seeds=range(4), trials=1, arm='base')",
        "from agentlab.experiments.collection import collect_random; from environments import Task; "
        "collect_random(lab, 'r', [Task(env='own/hangs', split='train', seed=0)], trials=1, seed=0)",
    ],
)
def test_one_ctrl_c_ends_a_program_whose_environment_hangs(work: str, tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", HANGS.replace("WORK", work), str(tmp_path / "lab")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        # A shell that runs the tests in the background has them, and all that they start, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "hanging\n"
    program.send_signal(signal.SIGINT)
    _, said = program.communicate(timeout=60)
    assert program.returncode == 130 and "Traceback" not in said


def test_a_time_limit_ends_the_episode_of_an_environment_that_hangs(rooms: Callable[..., Any], lab: Lab) -> None:
    import threading

    never = threading.Event()

    class Hangs(Rooms):
        answer_limit = 0.2

        def act(self, action: str) -> Turn:
            if self.seed == BAD:
                never.wait()
            return super().act(action)

    rooms()
    unregister(ENV)
    register(ENV, Hangs)
    found = statuses(lab)
    never.set()
    assert found == [["won"], ["errored"] * 2, ["won"], ["won"]]
    assert {
        lab.database.episodes.get(row.id).error_kind
        for row in lab.database.episodes.find(EpisodeFilter(status="errored"))
    } == {"timeout"}
