"""Two hundred episodes of real environments whose JVM, planner or server is killed, hung, short of memory, or mad.

Each trouble comes in the middle of an episode. What is in flight then is lost, and nothing else; the same command plays
what is lost again, and there is what an unbroken run leaves.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as websocket_server

from agentlab import Lab, LabConfig
from agentlab.engines.scripted import ScriptedEngine
from agentlab.trajectories.environment_pool import EnvironmentPool
from environments import TextEnv, alfworld, java
from environments.java import JavaObject

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1] / "environments"
ALFWORLD = runpy.run_path(str(TESTS / "test_alfworld.py"))
OPENENV = runpy.run_path(str(TESTS / "test_openenv.py"))
CLOCK = {"started_at", "ended_at", "seconds"}

Trouble = Callable[[Any], Callable[[], None] | None]
"""What befalls an environment before a step, and perhaps what ends it after that."""
Known = tuple[Trouble, str, str]
"""A trouble, the kind of the error that it makes, and words in it."""
Episodes = dict[int, dict[str, Any]]


class Troubled:
    """A command that plays episodes at random, two at once, some of which meet trouble in their second step."""

    def __init__(self, folder: Path, env: str, episodes: int) -> None:
        self.folder, self.env, self.seeds = folder, env, range(episodes)
        self.troubles: dict[int, Trouble] = {}
        self.begun: list[int] = []
        self.lost: set[int] = set()
        self._playing: dict[int, int] = {}
        self._pause = threading.RLock()

    def play(self, lab: str) -> Episodes:
        """Make the command in a lab; all its episodes by seed, without what a clock says."""
        self.begun, self._playing = [], {}
        config = LabConfig(embedder="hashing", threads=1, concurrency=2)
        with (
            pytest.MonkeyPatch.context() as patch,
            Lab.open(self.folder / lab, create=True, config=config, engine=ScriptedEngine({}), progress=False) as one,
        ):
            patch.setattr(TextEnv, "start", self._watched(TextEnv.start))
            patch.setattr(TextEnv, "step", self._watched(TextEnv.step))
            patch.setattr(EnvironmentPool, "take", self._paused(EnvironmentPool.take))
            one.run(self.env, split="dev", seeds=self.seeds, trials=1, arm="random")
            found = one.database.episodes.load([row.id for row in one.database.episodes.find()])
        return {episode.seed: episode.model_dump(mode="json", exclude=CLOCK) for episode in found}

    def _watched(self, call: Callable[[TextEnv, Any], Any]) -> Callable[[TextEnv, Any], Any]:
        """A method of environments before which trouble may come, while nothing else begins."""

        def watched(env: TextEnv, what: Any) -> Any:
            with self._pause:
                if not isinstance(what, str):
                    self.begun.append(what.seed)
                    self._playing[threading.get_ident()] = what.seed
                elif env._steps == 1 and env.task and (trouble := self.troubles.pop(env.task.seed, None)):
                    # Who shares a JVM waits, so that it is this episode whose call meets the trouble.
                    with connection(env).jvm.turn if hasattr(env, "_server") else nullcontext():
                        self.lost |= set(self._playing.values())
                        after = trouble(env)
                        try:
                            return call(env, what)
                        finally:
                            if after is not None:
                                after()
            answer = call(env, what)
            if env._over:
                del self._playing[threading.get_ident()]
            return answer

        return watched

    def _paused(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A call that is not made while there is trouble."""

        def paused(*arguments: Any) -> Any:
            with self._pause:
                return call(*arguments)

        return paused

    def unbroken(self) -> Episodes:
        """What is there when nothing happens."""
        unbroken = self.play("unbroken")
        assert sorted(unbroken) == sorted(self.begun) == list(self.seeds)
        assert all(one["status"] != "errored" for one in unbroken.values())
        return unbroken

    def check(self, known: Sequence[Known], alone: bool = True) -> None:
        """Play unbroken, then with trouble here and there; `alone` it costs no other episode that is in flight."""
        unbroken = self.unbroken()
        long = [seed for seed in self.seeds if len(unbroken[seed]["steps"]) > 1][1:-1]
        troubles = dict(zip(long[:: len(long) // len(known)], known, strict=False))
        assert len(troubles) == len(known)
        self.troubles = {seed: trouble for seed, (trouble, _, _) in troubles.items()}

        broken = self.play("broken")
        errored = {seed: one for seed, one in broken.items() if one["status"] == "errored"}
        assert not self.troubles
        assert set(troubles) <= set(errored) <= (set(troubles) if alone else self.lost)
        for seed, (_, kind, words) in troubles.items():
            assert errored[seed]["error_kind"] == kind and errored[seed]["steps"]
            assert words in errored[seed]["error"]
        assert all(one == unbroken[seed] for seed, one in broken.items() if seed not in errored)
        self.repair(errored, unbroken)

    def repair(self, errored: Episodes, unbroken: Episodes) -> None:
        """Make the same command again, and once more."""
        assert self.play("broken") == unbroken
        assert sorted(self.begun) == sorted(errored)
        assert self.play("broken") == unbroken and self.begun == []


@pytest.fixture
def troubled(tmp_path: Path) -> Iterator[Callable[[str, int], Troubled]]:
    """Makes the command; at the end no process is left over, a dead one that nobody has waited for neither."""
    java.close_all()
    before = set(psutil.Process().children(recursive=True))
    yield lambda env, episodes: Troubled(tmp_path, env, episodes)
    shared = {one.process.pid for one in java._shared.values() if one.alive}  # that games of a program share
    assert {one.pid for one in children(before)} == shared
    java.close_all()
    assert children(before) == set()


def children(but: set[psutil.Process]) -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True)) - but


class Garbled:
    """A stream whose next line is another one."""

    def __init__(self, stream: Any, line: bytes) -> None:
        self.stream, self.line = stream, line

    def readline(self) -> bytes:
        assert self.stream.readline()
        return self.line

    def close(self) -> None:
        self.stream.close()


def stopped(process: subprocess.Popen[Any]) -> None:
    """From now on it answers nothing."""
    os.kill(process.pid, signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)


# Java


def connection(env: Any) -> JavaObject:
    found: JavaObject = env._server if hasattr(env, "_server") else env._world._interface
    return found


def jvm_killed(env: Any) -> None:
    connection(env).jvm.process.send_signal(signal.SIGKILL)


def jvm_hung(env: Any) -> None:
    stopped(connection(env).jvm.process)
    for one in [connection(env)] + ([env._world._chance] if hasattr(env, "_world") else []):
        one._limit = 0.2
        one._socket.settimeout(0.2)


def jvm_out_of_memory(env: Any) -> None:
    jvm = connection(env).jvm
    text = JavaObject(jvm, "java.lang.StringBuilder")
    assert text._socket is not None
    text._socket.sendall(f"c\n{text._id}\nensureCapacity\ni2000000000\ne\n".encode())
    jvm.process.wait(60)


def jvm_says(line: bytes) -> Trouble:
    def trouble(env: Any) -> None:
        connection(env)._stream = Garbled(connection(env)._stream, line)  # type: ignore[assignment]

    return trouble


JVM: list[Known] = [
    (jvm_killed, "environment", "the JVM died (exit code -9)"),
    (jvm_hung, "timeout", "the JVM hung"),
    (jvm_out_of_memory, "environment", "(exit code 3, last words: Terminating due to java.lang.OutOfMemoryError"),
]
NO_ANSWERS: list[Known] = [
    (jvm_says(b"Segmentation fault\n"), "environment", "the JVM answered b'Segmentation fault"),
    (jvm_says(b"!ys\xff\xfe\n"), "environment", "which is no answer"),
    (jvm_says(b"\n"), "environment", "which is no answer"),
    (jvm_says(b"!ys[]\n"), "environment", "failed with TypeError"),
]


def test_a_jvm_that_games_share_costs_the_game_that_meets_its_end(troubled: Callable[[str, int], Troubled]) -> None:
    troubled("twx/coin?numLocations=3,step_limit=4", 88).check([*JVM, *NO_ANSWERS])


def test_a_world_with_a_jvm_of_its_own_is_lost_alone(troubled: Callable[[str, int], Troubled]) -> None:
    troubled("sciworld/inclined-plane-determine-angle?step_limit=2", 6).check(JVM)


# The planner


def planner_killed(env: Any) -> None:
    env._planner.process.send_signal(signal.SIGKILL)


def planner_hung(env: Any) -> None:
    stopped(env._planner.process)
    env.answer_limit = 0.3


def planner_out_of_memory(env: Any) -> None:
    """What it is asked for does not fit into what the system gives it."""
    resource.prlimit(env._planner.process.pid, resource.RLIMIT_AS, (1, 1))
    act = env._planner.act
    env._planner.act = lambda action: act(action + 2**26 * " ")


def planner_says(line: bytes) -> Trouble:
    def trouble(env: Any) -> None:
        env._planner.process.stdout = Garbled(env._planner.process.stdout, line)

    return trouble


PLANNER: list[Known] = [
    (planner_killed, "environment", "The planner died (exit code -9)"),
    (planner_hung, "timeout", "hung"),
    (planner_out_of_memory, "environment", "The planner died (exit code 1, last words: out of memory)"),
    (planner_says(b"Solution found!\n"), "environment", "The planner answered b'Solution found!"),
    (planner_says(b'{"seen": 3, "situation": "", "won": false, "commands": []}\n'), "environment", "which is no turn"),
    (planner_says(b'{"seen": "", "situation": "", "won": false, "commands": [7]}\n'), "environment", "`admissible`"),
]


@pytest.mark.skipif(not ALFWORLD["HERE"], reason="alfworld (its domain and grammar) or fast_downward is not installed")
def test_a_planner_is_a_process_whose_end_costs_its_own_game(
    troubled: Callable[[str, int], Troubled], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mangled, data, episodes = ALFWORLD["mangled"], tmp_path / "data", 24
    for split in ("train", "valid_seen", "valid_unseen"):
        (data / "json_2.1.1" / split).mkdir(parents=True)
    for number in range(episodes):
        room = {mangled("Cabinet", 1): "Cabinet", mangled("CounterTop", 1): "CounterTop"}
        things = {mangled("Mug", 1 + number): mangled("CounterTop", 1)}
        text = ALFWORLD["problem"](room, things, ALFWORLD["put"]("Mug", "Cabinet"))
        ALFWORLD["written"](data, "valid_seen", "pick_and_place_simple", number, "put a mug in cabinet", text)
    monkeypatch.setenv("ALFWORLD_DATA", str(data))
    alfworld._games.cache_clear()
    troubled("alfworld/any?step_limit=3", episodes).check(PLANNER)


# The server


class Server:
    """`agentlab env serve`, which can be started again where it was."""

    def __init__(self) -> None:
        self.served = OPENENV["Served"]("toy/doors")
        self.url = self.served.url

    def start(self) -> None:
        self.served = OPENENV["Served"]("toy/doors", "--port", self.url.rpartition(":")[2])

    def killed(self, env: Any) -> None:
        self.served.close()
        self.start()

    def gone(self, env: Any) -> None:
        self.served.close()

    def hung(self, env: Any) -> Callable[[], None]:
        stopped(self.served.process)
        env.env._limit = 0.3
        return lambda: self.served.process.send_signal(signal.SIGCONT)


@pytest.fixture
def server(troubled: Any) -> Iterator[Server]:
    server = Server()
    yield server
    server.served.close()


def test_a_server_that_is_killed_or_hangs_costs_what_it_plays(
    troubled: Callable[[str, int], Troubled], server: Server
) -> None:
    known: list[Known] = [
        (server.killed, "environment", "is not there"),
        (server.hung, "timeout", "did not answer within 0.3 s"),
        (server.killed, "environment", "is not there"),
    ]
    troubled(f"openenv/{server.url}?step_limit=4", 30).check(known, alone=False)


def test_a_server_that_stays_away_costs_all_games_until_it_is_there_again(
    troubled: Callable[[str, int], Troubled], server: Server
) -> None:
    command = troubled(f"openenv/{server.url}?step_limit=4", 20)
    unbroken = command.unbroken()
    at = next(seed for seed in command.seeds[8:] if len(unbroken[seed]["steps"]) > 1)
    command.troubles = {at: server.gone}
    broken = command.play("broken")
    errored = {seed: one for seed, one in broken.items() if one["status"] == "errored"}
    assert {*command.seeds[at:]} - {at - 1, at + 1} <= set(errored) <= {at - 1, *command.seeds[at:]}
    assert {one["error_kind"] for one in errored.values()} == {"environment"}
    server.start()
    command.repair(errored, unbroken)


class Between:
    """Stands between a server and who asks it, and says something else in its place where that is wanted."""

    def __init__(self, url: str) -> None:
        schema = urlopen(f"{url}/schema").read().decode()
        self.instead: dict[int, Any] = {}

        def talk(socket: ServerConnection) -> None:
            with suppress(ConnectionClosed), connect(url.replace("http", "ws") + "/ws") as real:
                for question in socket:
                    real.send(question)
                    socket.send(self.instead.pop(socket.remote_address[1], None) or real.recv())

        def page(socket: ServerConnection, request: Any) -> Any:
            return None if request.path == "/ws" else socket.respond(200, schema)

        self._server = websocket_server(talk, "127.0.0.1", 0, process_request=page)
        self.url = f"http://127.0.0.1:{self._server.socket.getsockname()[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def saying(self, answer: Any) -> Trouble:
        def trouble(env: Any) -> None:
            self.instead[env.env._socket.local_address[1]] = (
                answer if isinstance(answer, str | bytes) else json.dumps(answer)
            )

        return trouble

    def close(self) -> None:
        self._server.shutdown()


def test_a_server_that_answers_nonsense_costs_the_game_that_hears_it(
    troubled: Callable[[str, int], Troubled], server: Server
) -> None:
    seen, between = OPENENV["seen"], Between(server.url)
    nonsense: list[tuple[Any, str]] = [
        ("<html>", "which is no observation"),
        (b"\x00\xff", "which is no observation"),
        ({"type": "observation"}, "which is no observation"),
        ({"type": "error", "data": {"code": "EXECUTION_ERROR", "message": "it broke"}}, "says: it broke"),
        (seen({"text": "x"}, "much"), "which is no number"),
        (seen({"text": "x", "admissible_commands": []}, 0.0), "no admissible command"),
        (seen({"text": "x"}, 0.0), "listed commands, and now none"),
        ("x" * 5_000_000, "is not there"),
    ]
    known: list[Known] = [(between.saying(answer), "environment", words) for answer, words in nonsense]
    try:
        troubled(f"openenv/{between.url}?step_limit=4", 40).check(known)
    finally:
        between.close()
