"""OpenEnv both ways: ours is played through a server as it is here, and a server of others may fail in any way."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import socket as socket_of_system
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as websocket_server

from environments import BadParameter, EnvironmentDied, EnvironmentHung, EnvironmentsError, Task, TextEnv, Turn, make
from environments.check import check
from environments.serving import served

FOREIGN = os.environ.get("AGENTLAB_OPENENV_PYTHON", "")


class Served:
    """`agentlab env serve` in a process of its own."""

    def __init__(self, env: str, *options: str) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from agentlab.cli import main; main()",
                "env",
                "serve",
                env,
                "--port",
                "0",
                *options,
            ],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        self.url = self.said.split(" is at ")[1].split(" ")[0]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()

    def get(self, path: str, **headers: str) -> Any:
        return self._asked(urllib.request.Request(f"{self.url}/{path}", headers=headers))

    def post(self, path: str, data: Any, **headers: str) -> Any:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        return self._asked(urllib.request.Request(f"{self.url}/{path}", data=body, headers=headers))

    def _asked(self, request: urllib.request.Request) -> Any:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture(scope="module")
def doors() -> Iterator[Served]:
    served = Served("toy/doors")
    yield served
    served.close()


def eventually(ask: Callable[[], Any]) -> Any:
    """What `ask` gives as soon as there is room for it."""
    until = time.monotonic() + 60
    while True:
        try:
            return ask()
        except EnvironmentDied:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def play(env: TextEnv, seed: int, split: str) -> list[Any]:
    """What a random player is told: text, reward, whether the game has ended or was cut, and the info."""
    rng = random.Random(seed)
    observation, info = env.reset(seed=seed, options={"split": split})
    told: list[Any] = [(observation, 0.0, False, False, info)]
    over = False
    while not over:
        observation, reward, terminated, truncated, info = env.step(rng.choice(info["admissible_commands"]))
        over = terminated or truncated
        told.append((observation, reward, terminated, truncated, info))
    return told


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_a_game_that_is_played_through_a_server_is_the_game_that_is_played_here(doors: Served, split: str) -> None:
    here, there = make("toy/doors"), make(f"openenv/{doors.url}?step_limit=10")
    for seed in range(5):
        assert play(there, seed, split) == play(here, seed, split)
    there.close()


def test_sessions_do_not_see_each_other(doors: Served) -> None:
    first, second = make(f"openenv/{doors.url}"), make(f"openenv/{doors.url}")
    told = first.reset(seed=0)
    assert second.reset(seed=1) != told
    second.step("read note")
    assert first.step("look")[0] == told[0]
    first.close(), second.close()


def test_what_is_served_keeps_the_contract(doors: Served) -> None:
    report = check(f"openenv/{doors.url}?step_limit=10")
    assert report.ok, report


def test_an_action_that_is_none_is_answered_and_the_game_goes_on(doors: Served) -> None:
    with connect(doors.url.replace("http", "ws") + "/ws") as socket:

        def ask(message: Any) -> Any:
            socket.send(message if isinstance(message, str | bytes) else json.dumps(message))
            return json.loads(socket.recv())

        assert ask({"type": "step", "data": {"command": "look"}})["data"]["code"] == "EXECUTION_ERROR"
        begun = ask({"type": "reset", "data": {"seed": 3, "split": "dev", "episode_id": "mine"}})
        assert begun["type"] == "observation" and not begun["data"]["done"] and begun["data"]["reward"] is None
        for message, code in (
            ("{", "INVALID_JSON"),
            ("[" * 100_000, "INVALID_JSON"),
            ([], "UNKNOWN_TYPE"),
            ({"type": "dance"}, "UNKNOWN_TYPE"),
            ({"type": "step", "data": []}, "VALIDATION_ERROR"),
            ({"type": "step", "data": {"command": 3}}, "VALIDATION_ERROR"),
            ({"type": "step", "data": {"command": "look", "reward": 1}}, "VALIDATION_ERROR"),
        ):
            answer = ask(message)
            assert (answer["type"], answer["data"]["code"]) == ("error", code)
        assert (
            ask({"type": "step", "data": {"command": "nonsense"}})["data"]["observation"]["text"] == "Nothing happens."
        )
        assert ask({"type": "state"})["data"] == {"episode_id": "mine", "step_count": 1, "task": "toy/doors:dev:3"}
        for data in ({"seed": -1}, {"seed": "1"}, {"seed": True}, {"split": "all"}, {"seed": 10**9}, {"episode_id": 7}):
            assert ask({"type": "reset", "data": data})["data"]["code"] == "VALIDATION_ERROR"
        socket.send('{"type": "close"}')
        with pytest.raises(ConnectionClosed):
            socket.recv()


def test_by_http_an_episode_is_named_by_its_id(doors: Served) -> None:
    assert doors.get("health") == (200, {"status": "healthy"})
    assert doors.get("metadata")[1]["name"] == "toy/doors"
    assert doors.post("step", {"action": {"command": "look"}, "episode_id": "nobody's"})[0] == 409
    first = doors.post("reset", {"seed": 0, "episode_id": "a"})[1]
    second = doors.post("reset", {"seed": 1, "episode_id": "b"})[1]
    assert first != second
    again = doors.post("step", {"action": {"command": "look"}, "episode_id": "a"})[1]
    assert again["observation"]["text"] == first["observation"]["text"] and again["reward"] == 0
    assert doors.get("state?episode_id=a")[1]["step_count"] == 1
    assert doors.get("state?episode_id=b")[1] == {"episode_id": "b", "step_count": 0, "task": "toy/doors:train:1"}
    assert doors.post("reset", b"{")[0] == 400 and doors.post("reset", b"[]")[0] == 422
    assert doors.post("reset", b" " * 2_000_000)[0] == 413
    assert doors.get("step")[0] == 405 and doors.get("nothing")[0] == 404


def test_other_sites_and_other_names_are_refused(doors: Served) -> None:
    assert doors.get("health", Host="evil.example")[0] == 403
    assert doors.post("reset", {}, Origin="http://evil.example")[0] == 403
    with pytest.raises(InvalidStatus):
        connect(doors.url.replace("http", "ws") + "/ws", origin="http://evil.example")  # type: ignore[arg-type]


def test_others_need_the_token_that_was_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served("toy/doors", "--host", "0.0.0.0")
    try:
        assert served.process.stdout is not None
        token = served.process.stdout.readline().split("Bearer ")[1].strip()
        served.url = served.url.replace("0.0.0.0", "127.0.0.1")
        assert served.get("health")[0] == 403
        assert served.get("health", Authorization=f"Bearer {token}")[0] == 200
        with pytest.raises(EnvironmentsError, match="403"):
            make(f"openenv/{served.url}")
        monkeypatch.setenv("OPENENV_TOKEN", token)
        env = make(f"openenv/{served.url}")
        assert "note" in env.reset(seed=0)[0]
        env.close()
    finally:
        served.close()


def test_who_comes_when_all_sessions_are_in_use_is_told_and_who_leaves_makes_room() -> None:
    served = Served("toy/doors", "--sessions", "2")
    try:
        first, second = make(f"openenv/{served.url}"), make(f"openenv/{served.url}")
        told = first.reset(seed=0)
        assert served.post("reset", {"seed": 0})[0] == 200
        second.reset(seed=0)  # the one by HTTP gives way
        assert served.post("step", {"action": {"command": "look"}})[0] == 409
        assert served.post("reset", {"seed": 0})[0] == 503
        third = make(f"openenv/{served.url}")
        with pytest.raises(EnvironmentDied, match="in use"):
            third.reset(seed=0)
        second.close()
        assert eventually(lambda: third.reset(seed=0))[0] == told[0]
        first.close(), third.close()
    finally:
        served.close()


def test_a_server_that_is_killed_ends_the_episode_and_one_that_is_there_again_begins_another() -> None:
    served = Served("toy/doors")
    port = served.url.rpartition(":")[2]
    env = make(f"openenv/{served.url}")
    told = env.reset(seed=0)
    served.process.send_signal(signal.SIGKILL)
    served.process.wait()
    with pytest.raises(EnvironmentDied):
        env.step("look")
    with pytest.raises(EnvironmentDied, match="not there"):
        env.reset(seed=0)
    with pytest.raises(EnvironmentDied, match="not there"):
        make(f"openenv/{served.url}")
    again = Served("toy/doors", "--port", port)
    try:
        assert env.reset(seed=0) == told
    finally:
        env.close()
        again.close()


def test_a_server_that_was_started_again_between_two_games_costs_neither() -> None:
    served = Served("toy/doors")
    env = make(f"openenv/{served.url}")
    told = env.reset(seed=0)
    served.close()
    again = Served("toy/doors", "--port", served.url.rpartition(":")[2])
    try:
        assert env.reset(seed=0) == told
    finally:
        env.close()
        again.close()


def test_a_client_that_is_killed_leaves_its_place() -> None:
    served = Served("toy/doors", "--sessions", "1")
    try:
        program = f"from environments import make; make('openenv/{served.url}').reset(seed=0); import os; os.abort()"
        subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
        env = make(f"openenv/{served.url}")
        eventually(lambda: env.reset(seed=0))
        env.close()
    finally:
        served.close()


# A server of somebody else's

Answers = Callable[[dict[str, Any]], Any]


class Foreign:
    """A server of the protocol with a schema and answers of one's own."""

    def __init__(self, action: dict[str, Any], answers: Answers) -> None:
        schema = json.dumps({"action": action, "observation": {}, "state": {}}).encode()
        self.answers = answers
        self.asked: list[dict[str, Any]] = []

        def talk(socket: ServerConnection) -> None:
            for raw in socket:
                message = json.loads(raw)
                self.asked.append(message)
                answer = self.answers(message)
                if answer is None:
                    socket.close()
                    return
                socket.send(answer if isinstance(answer, str | bytes) else json.dumps(answer))

        def page(socket: ServerConnection, request: Any) -> Any:
            if request.path == "/ws":
                return None
            answer = socket.respond(200, schema.decode())
            return answer

        self._server = websocket_server(talk, "127.0.0.1", 0, process_request=page)
        self.url = f"http://127.0.0.1:{self._server.socket.getsockname()[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()


def seen(observation: Any, reward: Any = None, done: Any = False, **more: Any) -> dict[str, Any]:
    return {"type": "observation", "data": {"observation": observation, "reward": reward, "done": done, **more}}


@pytest.fixture
def foreign() -> Iterator[Callable[..., Foreign]]:
    made = list[Foreign]()

    def new(action: dict[str, Any], answers: Answers) -> Foreign:
        made.append(Foreign(action, answers))
        return made[-1]

    yield new
    for one in made:
        one.close()


WORDS = {"properties": {"message": {"type": "string"}, "metadata": {"type": "object"}}, "required": ["message"]}


def test_what_a_server_tells_becomes_text_commands_and_a_score(foreign: Callable[..., Foreign]) -> None:
    def answers(message: dict[str, Any]) -> Any:
        if message["type"] == "reset":
            return seen({"prompt": "Guess.", "lives": 3, "metadata": {"valid_actions": ["[a]", "[b]"]}})
        if message["data"]["message"] == "[c]":
            return {"type": "error", "data": {"code": "VALIDATION_ERROR", "message": "no such letter"}}
        return seen({"prompt": "Right.", "lives": 3}, 1.0, True)

    server = foreign(WORDS, answers)
    env = make(f"openenv/{server.url}")
    observation, info = env.reset(seed=4, options={"split": "test"})
    assert observation == "prompt: Guess.\nlives: 3" and info["admissible_commands"] == ["[a]", "[b]"]
    assert server.asked[0] == {"type": "reset", "data": {"seed": 20_004}}
    observation, reward, terminated, _, info = env.step("[c]")
    assert (observation, reward, terminated) == ("no such letter", 0, False)
    assert info["admissible_commands"] == ["[a]", "[b]"] and "Guess." in info["state"]
    observation, reward, terminated, _, info = env.step("[a]")
    assert (reward, terminated, info["won"], info["score"]) == (1.0, True, True, 1.0)
    assert server.asked[-1] == {"type": "step", "data": {"message": "[a]"}}
    env.close()


@pytest.mark.parametrize(
    ("action", "command", "sent"),
    [
        ({"properties": {"move": {"type": "integer"}}}, "3", {"move": 3}),
        ({"properties": {"move": {"type": "number"}}}, " 2.5 ", {"move": 2.5}),
        ({"properties": {"move": {"type": "integer"}}}, "left", None),
        ({"properties": {"move": {"type": "integer"}}}, "inf", None),
        ({"properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}}, '{"x": 1, "y": 2}', {"x": 1, "y": 2}),
        ({"properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}}, "[1, 2]", None),
        ({"properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}}, "[" * 100_000, None),
        ({"properties": {"x": {"type": "string"}, "y": {"type": "string"}}, "required": ["y"]}, "go", {"y": "go"}),
    ],
)
def test_a_command_becomes_the_action_that_the_schema_asks_for(
    foreign: Callable[..., Foreign], action: dict[str, Any], command: str, sent: Any
) -> None:
    server = foreign(action, lambda message: seen({"text": "here"}, 0))
    env = make(f"openenv/{server.url}")
    env.reset(seed=0)
    observation, *_, info = env.step(command)
    if sent is None:
        assert len(server.asked) == 1 and observation.startswith("An action is")
    else:
        assert server.asked[-1] == {"type": "step", "data": sent} and observation == "here"
    assert not info["lost"]
    env.close()


def test_the_choices_of_a_schema_are_commands(foreign: Callable[..., Foreign]) -> None:
    action = {"properties": {"move": {"type": "string", "enum": ["up", "down"]}}}
    env = make(f"openenv/{foreign(action, lambda message: seen({'text': 'here'})).url}")
    assert env.reset(seed=0)[1]["admissible_commands"] == ["down", "up"]
    env.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, EnvironmentDied),
        ("nonsense", EnvironmentDied),
        ("[]", EnvironmentDied),
        ({"type": "observation"}, EnvironmentDied),
        ({"type": "error", "data": {"code": "EXECUTION_ERROR", "message": "it broke"}}, EnvironmentDied),
        ("[" * 100_000, EnvironmentDied),
        ({"type": "state", "data": {}}, EnvironmentDied),
        (seen({"text": "x"}, 0, "false"), EnvironmentDied),
        (seen({"text": "x"}, "much"), EnvironmentDied),
        (seen({"text": "x"}, float("nan")), EnvironmentDied),
        (seen({"text": "x", "admissible_commands": [1]}, 0), EnvironmentDied),
        ("x" * 5_000_000, EnvironmentDied),
    ],
)
def test_whatever_a_server_answers_ends_one_episode_at_most(
    foreign: Callable[..., Foreign], answer: Any, error: type[Exception]
) -> None:
    server = foreign(WORDS, lambda message: seen({"text": "here"}) if message["type"] == "reset" else answer)
    env = make(f"openenv/{server.url}")
    env.reset(seed=0)
    with pytest.raises(error):
        env.step("go")
    assert env.reset(seed=0)[0] == "here"
    env.close()


def test_a_server_that_does_not_answer_is_not_waited_for_for_ever(foreign: Callable[..., Foreign]) -> None:
    wait = threading.Event()
    server = foreign(WORDS, lambda message: seen({"text": "here"}) if message["type"] == "reset" else wait.wait(20))
    env = make(f"openenv/{server.url}?answer_limit=0.3")
    env.reset(seed=0)
    with pytest.raises(EnvironmentHung):
        env.step("go")
    wait.set()
    assert env.reset(seed=0)[0] == "here"
    env.close()


def test_what_is_no_server_of_the_protocol_is_told() -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/page/schema" else 404)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(EnvironmentsError, match="404"):
            make(f"openenv/{url}")
        with pytest.raises(EnvironmentsError, match="JSON"):
            make(f"openenv/{url}/page")
        server.shutdown()


@pytest.mark.parametrize("name", ["openenv/", "openenv/here", "openenv/ftp://here", "openenv/http://x?seed=1"])
def test_an_id_that_names_no_server_is_refused(name: str) -> None:
    with pytest.raises(EnvironmentsError):
        make(name)
    with pytest.raises(BadParameter):
        make("openenv/http://127.0.0.1:1?step_limit=0")


@pytest.mark.skipif(not FOREIGN, reason="AGENTLAB_OPENENV_PYTHON names no Python with openenv")
def test_openenvs_own_client_plays_our_game_and_our_agent_plays_openenvs_own_server(doors: Served) -> None:
    program = f"""
import random
from openenv.core import GenericEnvClient
env = GenericEnvClient(base_url="{doors.url}").sync()
with env:
    for seed in (0, 10_001, 20_002):
        rng, rewards = random.Random(seed % 10_000), []
        result = env.reset(seed=seed)
        while not result.done:
            command = rng.choice(result.observation["admissible_commands"])
            result = env.step({{"command": command}})
            rewards.append(result.reward)
        print(rewards)
"""
    run = subprocess.run([FOREIGN, "-c", program], capture_output=True, text=True, check=True)
    here = make("toy/doors")
    expected = [
        [turn[1] for turn in play(here, seed, split)[1:]] for seed, split in enumerate(("train", "dev", "test"))
    ]
    assert [json.loads(line) for line in run.stdout.splitlines()] == expected

    server = """
import uvicorn
from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app

class Guess(Action):
    message: str

class Told(Observation):
    text: str

class Numbers(Environment):
    def __init__(self):
        super().__init__()
        self.goal = 0
    def reset(self, seed=None, episode_id=None, **more):
        self.goal = (seed or 0) % 3
        return Told(text="Guess 0, 1 or 2.")
    def step(self, action, timeout_s=None, **more):
        right = action.message == str(self.goal)
        return Told(text="Right." if right else "Wrong.", done=right, reward=float(right))
    @property
    def state(self):
        return State()

app = create_fastapi_app(Numbers, Guess, Told)
import socket
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])
"""
    process = subprocess.Popen([FOREIGN, "-c", server], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        env = make(f"openenv/http://127.0.0.1:{process.stdout.readline().strip()}?step_limit=5")
        assert env.reset(seed=2)[0] == "Guess 0, 1 or 2."
        assert env.step("0")[:3] == ("Wrong.", 0.0, False)
        observation, reward, terminated, _, info = env.step("2")
        assert (observation, reward, terminated, info["won"]) == ("Right.", 1.0, True, True)
        process.kill()
        process.wait()
        with pytest.raises(EnvironmentDied):
            env.reset(seed=0)
    finally:
        process.kill()
        process.wait()


# Our server, from within


class Odd(TextEnv):
    """A game that raises, waits or answers as its command says."""

    waiting = threading.Event()
    waits = threading.Semaphore(0)

    def __init__(self) -> None:
        super().__init__("own/odd", 10)

    def seeds(self, split: Any) -> Any:
        return range(3)

    def begin(self, task: Task) -> Turn:
        return Turn(f"game {task.seed}", ["raise", "wait"], goal="Be odd.")

    def act(self, action: str) -> Turn:
        if action == "raise":
            raise KeyError("text")
        if action == "wait":
            Odd.waits.release()
            Odd.waiting.wait(20)
        return Turn(action, ["raise", "wait"])


class Inside:
    """Our server in this process, whose sessions can be looked at."""

    def __init__(self, sessions: int) -> None:
        import uvicorn

        self.app: Any = served(Odd, "own/odd", sessions=sessions)
        listening = socket_of_system.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        self.server = uvicorn.Server(
            uvicorn.Config(self.app, log_level="error", lifespan="off", ws="websockets-sansio")
        )
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listening]}, daemon=True)
        self.thread.start()

    post = Served.post
    get = Served.get
    _asked = Served._asked

    def close(self) -> None:
        Odd.waiting.set()
        self.server.should_exit = True
        self.thread.join(20)


@pytest.fixture
def inside() -> Iterator[Callable[[int], Inside]]:
    made = list[Inside]()
    Odd.waiting, Odd.waits = threading.Event(), threading.Semaphore(0)

    def new(sessions: int) -> Inside:
        made.append(Inside(sessions))
        return made[-1]

    yield new
    for one in made:
        one.close()


def test_a_game_that_raises_is_told_and_the_next_reset_begins_another(inside: Callable[[int], Inside]) -> None:
    server = inside(4)
    server.post("reset", {"seed": 0, "episode_id": "a"})
    status, told = server.post("step", {"action": {"command": "raise"}, "episode_id": "a"})
    assert status == 500 and "KeyError" in told
    assert server.post("step", {"action": {"command": "go"}, "episode_id": "a"})[0] == 409
    assert server.post("reset", {"seed": 1, "episode_id": "a"})[1]["observation"]["text"] == "game 1"
    with connect(server.url.replace("http", "ws") + "/ws") as socket:
        socket.send('{"type": "reset", "data": {"seed": 2}}')
        assert json.loads(socket.recv())["data"]["observation"]["text"] == "game 2"
        socket.send('{"type": "step", "data": {"command": "raise"}}')
        assert json.loads(socket.recv())["data"]["code"] == "EXECUTION_ERROR"
        socket.send(b"bytes")
        assert json.loads(socket.recv())["data"]["code"] == "INVALID_JSON"
        socket.send('{"type": "reset"}')
        assert json.loads(socket.recv())["type"] == "observation"


def test_a_reset_that_is_refused_changes_nothing(inside: Callable[[int], Inside]) -> None:
    server = inside(1)
    server.post("reset", {"seed": 0, "episode_id": "a"})
    server.post("step", {"action": {"command": "go"}, "episode_id": "a"})
    for wrong in (
        {"seed": 9, "episode_id": "a"},
        {"seed": "bad", "episode_id": "b"},
        {"split": "all", "episode_id": "b"},
    ):
        assert server.post("reset", wrong)[0] == 422
        assert server.get("state?episode_id=a")[1] == {"episode_id": "a", "step_count": 1, "task": "own/odd:train:0"}


def test_sessions_are_counted_rightly_when_many_come_at_once(inside: Callable[[int], Inside]) -> None:
    server = inside(2)

    def hold() -> str:
        with connect(server.url.replace("http", "ws") + "/ws") as socket:
            for message in ('{"type": "reset"}', '{"type": "step", "data": {"command": "wait"}}'):
                socket.send(message)
                answer = json.loads(socket.recv())
            return str(answer["type"])

    with ThreadPoolExecutor(8) as pool:
        asked = [{"seed": 0, "episode_id": name} for name in "abcabcabcabc"]
        assert {status for status, _ in pool.map(lambda one: server.post("reset", one), asked)} <= {200, 409, 503}
        held = [pool.submit(hold) for _ in range(2)]  # those by HTTP give way
        assert Odd.waits.acquire(timeout=20) and Odd.waits.acquire(timeout=20)
        assert server.post("reset", {"episode_id": "z"})[0] == 503
        assert server.get("health")[0] == 200
        Odd.waiting.set()
        assert [one.result() for one in held] == ["observation", "observation"]
    until = time.monotonic() + 60
    while server.post("reset", {"episode_id": "z"})[0] != 200:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_an_origin_that_is_none_is_refused(doors: Served) -> None:
    assert doors.get("health", Origin="http://[")[0] == 403


def test_ctrl_c_ends_the_server_also_where_a_game_hangs() -> None:
    program = (
        "import time; from environments import register, TextEnv, Turn\n"
        "class Slow(TextEnv):\n"
        "    def begin(self, task): return Turn('now', ['wait'], goal='wait')\n"
        "    def act(self, action): time.sleep(60); return Turn('now', ['wait'])\n"
        "register('own/slow', lambda: Slow('own/slow', 5))\n"
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from agentlab.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "env", "serve", "own/slow", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    url = process.stdout.readline().split(" is at ")[1].split(" ")[0]
    with connect(url.replace("http", "ws") + "/ws") as socket:
        socket.send('{"type": "reset"}')
        socket.recv()
        socket.send('{"type": "step", "data": {"command": "wait"}}')
        with pytest.raises(TimeoutError):
            socket.recv(timeout=1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "url", ["http://h:abc", "http://a b", "http://[::1", "http://" + "x" * 70 + ".de", "http://h:0"]
)
def test_an_address_that_cannot_be_one_is_refused_in_a_line(url: str) -> None:
    with pytest.raises(BadParameter, match="names no server"):
        make(f"openenv/{url}")


def test_a_token_goes_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[str | None]()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")  # type: ignore[attr-defined]
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    monkeypatch.setenv("OPENENV_TOKEN", "sekret")
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(EnvironmentsError, match="302"):
            make(f"openenv/http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert seen == ["Bearer sekret"]


def test_a_session_that_nobody_holds_leaves_its_place() -> None:
    served = Served("toy/doors", "--sessions", "1")
    try:
        env = make(f"openenv/{served.url}")
        env.reset(seed=0)
        del env
        gc.collect()
        again = make(f"openenv/{served.url}")
        eventually(lambda: again.reset(seed=0))
        again.close()
    finally:
        served.close()
