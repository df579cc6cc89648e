"""An environment as a server of the OpenEnv protocol, so that the field's own trainers can play it.

Each connection to `/ws` is a session with a game of its own: `reset`, `step`, `state` and `close` as messages. The same
by HTTP: `POST /reset` and `POST /step`, with the `episode_id` that was given with the reset as the session's name, and
`GET /state`, `/schema`, `/metadata`, `/health`. Folds are ranges of seeds: train from 0, dev from 10,000, test from
20,000, or `{"split": "dev", "seed": 3}`. Needs `agentlab[openenv]`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from environments.base import SPLITS, Info, Split, Task, TextEnv
from environments.errors import BadTask, EnvironmentsError, NotPlaying
from environments.gym import fold_of
from environments.worker import dispose, format_error

SESSIONS = 64
"""How many games a server plays at once; who comes then is told so."""
MESSAGE_LIMIT = 1_000_000
"""Bytes that a question may have."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")

_TEXT = {"type": "string"}
_PERHAPS = {"anyOf": [_TEXT, {"type": "null"}]}
SCHEMA: dict[str, Any] = {
    "action": {
        "title": "Command",
        "type": "object",
        "properties": {"command": {**_TEXT, "description": "what to do, in words"}},
        "required": ["command"],
    },
    "observation": {
        "title": "Seen",
        "type": "object",
        "properties": {
            "text": {**_TEXT, "description": "what is seen"},
            "goal": {**_TEXT, "description": "the task in words, the same throughout the episode"},
            "admissible_commands": {
                "anyOf": [{"type": "array", "items": _TEXT}, {"type": "null"}],
                "description": "what is worth trying now; null where any text is taken",
            },
            "score": {"type": "number", "minimum": 0, "maximum": 1},
            "won": {"type": "boolean"},
            "lost": {"type": "boolean"},
            "state": {**_TEXT, "description": "identifies the situation as far as the player can know it"},
        },
        "required": ["text", "goal", "admissible_commands", "score", "won", "lost", "state"],
    },
    "state": {
        "title": "State",
        "type": "object",
        "properties": {"episode_id": _PERHAPS, "step_count": {"type": "integer", "minimum": 0}, "task": _PERHAPS},
    },
}


class _Refused(Exception):
    """A question that is not answered: its code in the protocol, its status in HTTP, and why."""

    def __init__(self, code: str, status: int, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.status = status


@dataclass(eq=False)
class _Session:
    """A game of one client's. Its calls are made one after the other."""

    factory: Callable[[], TextEnv]
    env: TextEnv | None = None
    episode_id: str | None = None
    steps: int = 0
    used: float = 0.0
    waiting: int = 0  # questions that are not answered yet
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def reset(self, data: Mapping[str, Any]) -> dict[str, Any]:
        seed, split, episode_id = asked(data)
        with self._failing():
            if self.env is None:
                self.env = self.factory()
            if seed is None:
                observation, info = self.env.reset(options={"split": split})
            else:
                observation, info = self.env.start(Task(env=self.env.env_id, split=split, seed=seed))
        self.steps, self.episode_id = 0, episode_id
        return _told(observation, info, None, bool(info["won"] or info["lost"]))

    def step(self, action: Any) -> dict[str, Any]:
        command = action.get("command") if isinstance(action, Mapping) else None
        if not isinstance(command, str) or set(action) - {"command", "metadata"}:
            raise _Refused("VALIDATION_ERROR", 422, 'an action is {"command": "some words"}')
        if self.env is None:
            raise _Refused("EXECUTION_ERROR", 409, "no episode is running; reset first")
        with self._failing():
            observation, reward, terminated, truncated, info = self.env.step(command)
        self.steps += 1
        return _told(observation, info, reward, terminated or truncated)

    def state(self) -> dict[str, Any]:
        task = self.env.task.id if self.env is not None and self.env.task is not None else None
        return {"episode_id": self.episode_id, "step_count": self.steps, "task": task}

    def close(self) -> None:
        if self.env is not None:
            dispose(self.env)
            self.env = None

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """What an environment raises, as a refusal. Where it failed, the next reset makes another game."""
        try:
            yield
        except BadTask as error:
            raise _Refused("VALIDATION_ERROR", 422, str(error)) from None
        except NotPlaying as error:
            raise _Refused("EXECUTION_ERROR", 409, str(error)) from None
        except Exception as error:  # an environment of somebody's own may raise anything
            self.close()
            what = (
                str(error) if isinstance(error, EnvironmentsError) else f"{type(error).__name__}: {format_error(error)}"
            )
            raise _Refused("EXECUTION_ERROR", 500, what) from None


def asked(data: Mapping[str, Any]) -> tuple[int | None, Split, str | None]:
    """Which game a reset asks for: the seed in its fold (None: any), the fold, the name of the episode."""
    seed, split, episode_id = data.get("seed"), data.get("split"), data.get("episode_id")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
        raise _Refused("VALIDATION_ERROR", 422, "seed is a whole number from 0")
    if split is not None and split not in SPLITS:
        raise _Refused("VALIDATION_ERROR", 422, f"split is one of {', '.join(SPLITS)}")
    if episode_id is not None and (not isinstance(episode_id, str) or len(episode_id) > 255):
        raise _Refused("VALIDATION_ERROR", 422, "episode_id is a text of at most 255 characters")
    if split is None and seed is not None:
        split, seed = fold_of(seed)
    return seed, split or "train", episode_id


class _Server:
    def __init__(self, factory: Callable[[], TextEnv], name: str, description: str, sessions: int) -> None:
        self._factory = factory
        self._about = {"name": name, "description": description}
        self._limit = sessions
        self._open: set[_Session] = set()
        self._named: dict[str, _Session] = {}  # those by HTTP, by the episode's id
        self._threads = CapacityLimiter(sessions)

    def routes(self) -> list[Route | WebSocketRoute]:
        return [
            Route("/health", _always({"status": "healthy"})),
            Route("/metadata", _always(self._about)),
            Route("/schema", _always(SCHEMA)),
            Route("/state", self._state),
            Route("/reset", self._reset, methods=["POST"]),
            Route("/step", self._step, methods=["POST"]),
            WebSocketRoute("/ws", self._socket),
        ]

    async def _socket(self, socket: WebSocket) -> None:
        await socket.accept()
        session: _Session | None = None
        try:
            session = self._new()
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                try:
                    answer = await self._answer(session, message.get("text"))
                except _Refused as refusal:
                    answer = _error(refusal)
                if answer is None:
                    break
                await socket.send_text(json.dumps(answer))
        except _Refused as refusal:  # there is no room
            await socket.send_text(json.dumps(_error(refusal)))
        except WebSocketDisconnect:
            return
        finally:
            if session is not None:
                self._end(session)
        with suppress(RuntimeError, WebSocketDisconnect):  # it has gone by itself
            await socket.close()

    async def _answer(self, session: _Session, raw: str | None) -> dict[str, Any] | None:
        """The answer to a message; None where it ends the session."""
        try:
            message = json.loads(raw or "")
        except (ValueError, RecursionError):
            raise _Refused("INVALID_JSON", 400, "a message is JSON") from None
        kind, data = (message.get("type"), message.get("data", {})) if isinstance(message, dict) else (None, {})
        if not isinstance(data, dict):
            raise _Refused("VALIDATION_ERROR", 422, "the data of a message is an object")
        if kind == "close":
            return None
        if kind == "state":
            return {"type": "state", "data": session.state()}
        if kind == "reset":
            return {"type": "observation", "data": await self._played(session, session.reset, data)}
        if kind == "step":
            return {"type": "observation", "data": await self._played(session, session.step, data)}
        raise _Refused("UNKNOWN_TYPE", 400, "the type of a message is reset, step, state or close")

    async def _reset(self, request: Request) -> JSONResponse:
        try:
            data = await _body(request)
            name = asked(data)[2] or ""
            # Nothing is waited for between looking and taking, so that no two requests take the same.
            session = self._named.get(name)
            if session is None:
                session = self._named[name] = self._new()
            return JSONResponse(await self._played(session, session.reset, data))
        except _Refused as refusal:
            return _http(refusal)

    async def _step(self, request: Request) -> JSONResponse:
        try:
            data = await _body(request)
            session = self._session(data.get("episode_id"))
            return JSONResponse(await self._played(session, session.step, data.get("action")))
        except _Refused as refusal:
            return _http(refusal)

    async def _state(self, request: Request) -> JSONResponse:
        try:
            return JSONResponse(self._session(request.query_params.get("episode_id")).state())
        except _Refused as refusal:
            return _http(refusal)

    def _session(self, name: Any) -> _Session:
        session = self._named.get(name or "") if isinstance(name or "", str) else None
        if session is None:
            raise _Refused("SESSION_ERROR", 409, "there is no such episode; POST /reset begins one")
        return session

    async def _played(self, session: _Session, call: Callable[[Any], dict[str, Any]], data: Any) -> dict[str, Any]:
        session.used, session.waiting = time.monotonic(), session.waiting + 1
        try:
            async with session.turn:
                if session not in self._open:
                    raise _Refused("SESSION_ERROR", 409, "this episode has given way to another; reset begins one anew")
                # A game that hangs is not waited for where the server ends.
                return await to_thread.run_sync(call, data, abandon_on_cancel=True, limiter=self._threads)
        finally:
            session.waiting -= 1

    def _new(self) -> _Session:
        """A session. Where there is no room, one by HTTP, which nobody ends, gives way: that used least lately."""
        if len(self._open) >= self._limit:
            idle = [name for name, session in self._named.items() if not session.waiting]
            if not idle:
                raise _Refused("CAPACITY_REACHED", 503, f"all {self._limit} sessions are in use; come back later")
            self._end(self._named.pop(min(idle, key=lambda name: self._named[name].used)))
        session = _Session(self._factory)
        self._open.add(session)
        return session

    def _end(self, session: _Session) -> None:
        """Let go of a session. Its game is closed in a thread of its own, which nobody waits for."""
        self._open.discard(session)
        threading.Thread(target=session.close, name="session ends", daemon=True).start()


def _always(answer: Mapping[str, Any]) -> Callable[[Request], Awaitable[JSONResponse]]:
    async def endpoint(_: Request) -> JSONResponse:
        return JSONResponse(answer)

    return endpoint


def _told(observation: str, info: Info, reward: float | None, done: bool) -> dict[str, Any]:
    return {"observation": {"text": observation, **info}, "reward": reward, "done": done}


def _error(refusal: _Refused) -> dict[str, Any]:
    return {"type": "error", "data": {"message": str(refusal), "code": refusal.code}}


def _http(refusal: _Refused) -> JSONResponse:
    return JSONResponse({"detail": str(refusal), "code": refusal.code}, status_code=refusal.status)


async def _body(request: Request) -> dict[str, Any]:
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > MESSAGE_LIMIT:
            raise _Refused("VALIDATION_ERROR", 413, f"a question has at most {MESSAGE_LIMIT:,} bytes")
    try:
        data = json.loads(raw or b"{}")
    except (ValueError, RecursionError):
        raise _Refused("INVALID_JSON", 400, "the body is JSON") from None
    if not isinstance(data, dict):
        raise _Refused("VALIDATION_ERROR", 422, "the body is an object")
    return data


class _Guard:
    """Refuses other sites' pages and names; where others than this machine reach the server, who has no token."""

    def __init__(self, app: ASGIApp, host: str, token: str) -> None:
        self.app = app
        self.local = host in LOOPBACK
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        why = self._refusal(Headers(scope=scope)) if scope["type"] in ("http", "websocket") else None
        if why is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await PlainTextResponse(why + "\n", status_code=403)(scope, receive, send)
        else:
            await WebSocket(scope, receive, send).close(code=1008, reason=why)

    def _refusal(self, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if self.local and _name(f"//{host}") not in LOOPBACK:
            return "This server answers to 127.0.0.1 and localhost only."
        origin = headers.get("origin")
        if origin is not None and _netloc(origin) != host:
            return "This request comes from another site."
        if not self.local and not secrets.compare_digest(
            headers.get("authorization", "").encode(errors="replace"), f"Bearer {self.token}".encode()
        ):
            return "Give the token that was printed at the start: Authorization: Bearer TOKEN."
        return None


def _name(url: str) -> str:
    with suppress(ValueError):
        return urlsplit(url).hostname or ""
    return ""


def _netloc(origin: str) -> str:
    with suppress(ValueError):
        return urlsplit(origin).netloc
    return ""


def served(
    factory: Callable[[], TextEnv],
    name: str,
    description: str = "",
    *,
    sessions: int = SESSIONS,
    host: str = LOOPBACK[0],
    token: str = "",
) -> ASGIApp:
    """The application that serves what `factory` makes, as `name`, to who may reach `host`.

    `token` is what clients give (`Authorization: Bearer`) where `host` is not this machine's own address.
    """
    server = _Server(factory, name, description, sessions)
    return _Guard(Starlette(routes=server.routes()), host, token)


def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Serve until Ctrl-C."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=MESSAGE_LIMIT,
        timeout_graceful_shutdown=1,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # that it cancels what still plays
    with suppress(KeyboardInterrupt):  # how it is ended
        uvicorn.Server(config).run(sockets=[listening])
