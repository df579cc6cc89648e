"""Doors of those that answer or ask: an API's model, a vLLM server, environments, and clients of ours."""

from __future__ import annotations

import asyncio
import json
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.e2e.hostile_doors import Door, made, refused
from tests.e2e.hostile_values import Chance

COMMANDS = ["look", "open red door", "take coin"]


class Chat(Door):
    """Answers of an API to a model's request, as they come over HTTP to LangChain's client."""

    name, about = "chat", "answers of an API's chat model, through LangChain's client of OpenAI"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import httpx

        from agentlab.engines import provider
        from agentlab.engines.chat import ChatEngine

        os.environ.setdefault("OPENAI_API_KEY", "none")
        provider.PAUSE = 0.0
        self.answer = httpx.Response(200)
        self.engine = ChatEngine("openai:m", server="http://127.0.0.1:9/v1", patience=0.05)
        platform.processor()  # LangChain's client asks the system once what it is
        transport = httpx.MockTransport(lambda _: self.answer)
        self.engine.provider.client.root_client._client = httpx.Client(
            transport=transport, base_url="http://127.0.0.1:9/v1"
        )

    def knock(self, chance: Chance) -> None:
        import httpx

        from agentlab.engines.base import TurnRequest
        from agentlab.engines.model import Model
        from memory.prompts import Prompting
        from memory.records import Step

        turn = {"thought": "So.", "command": "look"}
        said = chance.choice((
            json.dumps(turn), chance.json(chance.like(turn)).decode(errors="replace"),
            chance.text(), f"```json\n{chance.text()}\n```", "{" * 3000 + "}" * 3000, '{"a":' * 50_000 + "}",
        ))  # fmt: skip
        meant = {
            "id": "1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
        }  # fmt: skip
        body = chance.json(chance.like(meant) if chance.random() < 0.6 else meant)
        status = 200 if chance.random() < 0.9 else chance.choice((400, 401, 404, 413, 422, 429, 500, 503))
        headers = {"content-type": "application/json"}
        if chance.random() < 0.1:
            headers["retry-after"] = chance.choice(("0", "-5", "nan", "inf", "x", "1e400"))
        self.answer = httpx.Response(status, content=body, headers=headers)
        talk = self.engine.conversation("Find the coin.", "", Prompting(thought=chance.random() < 0.5))
        talk.observe("You are here.", COMMANDS)
        with refused():
            made = Model(self.engine).write_turn(
                TurnRequest(talk, COMMANDS if chance.random() < 0.7 else None, think=8)
            )
            # What is stored of it.
            step = Step(index=0, observation="o", state="s", admissible=COMMANDS, action=made.command, result="r",
                        next_state="n", thought=made.thought)  # fmt: skip
            step.model_dump_json().encode()
            made.usage and made.usage.model_dump_json()
            talk.act(made.command, made.thought)


class Vllm(Door):
    """Answers of a vLLM server."""

    name, about = "vllm", "answers of a vLLM server to what it is asked"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import httpx

        from agentlab.engines.vllm.client import Client

        self.answer = httpx.Response(200)
        self.client = Client("http://127.0.0.1:9")
        self.client._http = httpx.Client(
            transport=httpx.MockTransport(lambda _: self.answer), base_url="http://127.0.0.1:9"
        )

    def knock(self, chance: Chance) -> None:
        import httpx

        meant = {
            "choices": [
                {
                    "text": "look",
                    "index": 0,
                    "logprobs": {"token_logprobs": [-1.0], "top_logprobs": [{"token_id:1": -1.0}]},
                }
            ]
        }
        status = 200 if chance.random() < 0.8 else chance.choice((400, 404, 500))
        kind = (
            "application/json"
            if chance.random() < 0.9
            else chance.text()
            .encode("ascii", "replace")
            .decode()[:50]
            .replace("\n", "")
            .replace("\x00", "")
            .replace("\x1b", "")
        )
        self.answer = httpx.Response(status, content=chance.json(chance.like(meant)), headers={"content-type": kind})
        with refused():
            self.client.post("/v1/completions", {"prompt": [[1]]})
        with refused():
            self.client.get("/v1/models")
        self.client.healthy()

    def close(self) -> None:
        self.client.close()


class _Socket:
    """A socket whose answers are given."""

    said: Any = ""

    def send(self, _: str) -> None:
        pass

    def recv(self, timeout: float) -> Any:
        return self.said


class OpenEnv(Door):
    """Answers of an environment behind a server of the OpenEnv protocol."""

    name, about = "openenv", "schemas and messages of an OpenEnv server"

    def knock(self, chance: Chance) -> None:
        from environments.base import Task
        from environments.gym import GymTextEnv
        from environments.openenv import OpenEnvSession

        schema = {
            "action": {
                "properties": {"command": {"type": chance.choice(("string", "integer", "object"))}},
                "required": ["command"],
            }
        }
        socket = _Socket()

        class Session(OpenEnvSession):
            def _get(self, path: str) -> Any:
                return chance.like(schema)

            def _connect(self) -> None:
                self._socket = socket

        def message() -> Any:
            observation = {
                "text": "Here.",
                "goal": "Win.",
                "admissible_commands": ["look"],
                "score": 0.5,
                "won": False,
                "lost": False,
                "state": "s",
            }
            data = {"observation": observation, "reward": 0.1, "done": False}
            kind = (
                {"type": "observation", "data": data}
                if chance.random() < 0.9
                else {"type": "error", "data": {"message": "no", "code": "VALIDATION_ERROR"}}
            )
            raw = chance.json(chance.like(kind))
            return raw if chance.random() < 0.2 else raw.decode(errors="replace")

        with refused():
            env = GymTextEnv(
                Session("http://127.0.0.1:9"), env_id="openenv/http://127.0.0.1:9", step_limit=5, goal="Win."
            )
            socket.said = message()
            env.start(Task(env=env.env_id, split="train", seed=1))
            for _ in range(2):
                socket.said = message()
                env.step(chance.some(("look", "1", "{}")))


class Serving(Door):
    """Messages of clients to our environments behind a server."""

    name, about = "serving", "messages and requests to an environment that is served"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from environments.serving import served
        from environments.toy import Doors

        self.app = served(Doors, "toy/doors")
        self.loop = asyncio.new_event_loop()

    def knock(self, chance: Chance) -> None:
        data = {
            "reset": {"seed": chance.choice((None, 1, 5)), "split": "train", "episode_id": "a"},
            "step": {"command": chance.choice(("read note", "open red door", "take coin"))},
            "state": {},
        }
        if chance.random() < 0.6:
            messages = []
            for _ in range(chance.randint(1, 4)):
                kind = chance.choice(list(data))
                messages.append(chance.json(chance.like({"type": kind, "data": data[kind]})).decode(errors="replace"))
            self.loop.run_until_complete(self._talked(messages))
            return
        path = chance.choice(("/reset", "/step", "/state", "/schema", "/metadata", "/health", "/x"))
        body = {**data["reset"], "action": data["step"]}
        self.loop.run_until_complete(self._asked(path, chance.json(chance.like(body))))

    def _scope(self, kind: str, path: str, method: str) -> dict[str, Any]:
        return {
            "type": kind, "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"episode_id=a",
            "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
            "state": {}, "subprotocols": [],
        }  # fmt: skip

    async def _asked(self, path: str, body: bytes) -> None:
        status: list[int] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])

        await self.app(self._scope("http", path, "POST" if path in ("/reset", "/step") else "GET"), receive, send)
        assert status

    async def _talked(self, messages: list[str]) -> None:
        left = [
            {"type": "websocket.connect"}, *({"type": "websocket.receive", "text": text} for text in messages),
            {"type": "websocket.disconnect", "code": 1000},
        ]  # fmt: skip
        sent: list[Any] = []

        async def receive() -> Any:
            return left.pop(0) if left else {"type": "websocket.disconnect", "code": 1000}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(self._scope("websocket", "/ws", "GET"), receive, send)
        assert sent

    def close(self) -> None:
        with suppress(RuntimeError):
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


class Answers(Door):
    """What an environment answers, played through to the database."""

    name, about, anew = "answers", "what an environment answers: a whole episode an input", 4000

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        made(self.lab)
        from agentlab.engines.scripted import ScriptedEngine
        from agentlab.lab import Lab

        _registered()
        engine = ScriptedEngine(lambda _, command: -len(command) / 10)
        self.opened = Lab.open(self.lab, engine=engine, progress=False)
        self.seed = 0

    def knock(self, chance: Chance) -> None:
        _Hostile.chance = chance
        self.seed += 1
        with refused():
            self.opened.run("hostile/game", seeds=[self.seed], trials=1, arm="base + memory", name="hostile")

    def changes(self) -> int:
        return 0  # play learns, which is no operation

    def close(self) -> None:
        self.opened.close()


class _Hostile:
    chance = Chance(0)


def _registered() -> None:
    import environments
    from environments.base import Split, Task, TextEnv, Turn
    from environments.errors import EnvironmentsError

    class Game(TextEnv):
        def seeds(self, split: Split) -> range:
            return range(10**9)

        def begin(self, task: Task) -> Turn:
            return self._answer()

        def act(self, action: str) -> Turn:
            return self._answer()

        def _answer(self) -> Turn:
            chance = _Hostile.chance
            meant = ["You are here.", ["look", "open red door"], 0.5, False, False, "here", "Win.", 0.1]
            if chance.random() < 0.03:
                raise chance.choice((ValueError, RecursionError, KeyError, SystemError))(chance.text()[:100])
            if chance.random() < 0.03:
                return chance.value()  # type: ignore[no-any-return]
            found = [chance.value() if chance.random() < 0.08 else value for value in meant]
            if chance.random() < 0.3:
                found[chance.choice((0, 5, 6))] = chance.text()
            if chance.random() < 0.3:
                found[1] = [chance.text() for _ in range(chance.randint(0, 5))]
            if chance.random() < 0.2:
                found[2], found[3] = 1.0, True
            return Turn(*found[: len(Turn._fields)])

    with suppress(EnvironmentsError, ValueError):
        environments.register("hostile/game", lambda **_: Game("hostile/game", 6))
