"""Environments behind a server of the OpenEnv protocol (Meta and Hugging Face, 2025): `openenv/http://127.0.0.1:8000`.

A game is a session on the server's socket (`/ws`); what an action is made of is read from `/schema`. An action of one
text takes the command as it is, one of one number takes a number, any other is written as JSON. What the server says is
data: a text field is the observation, or else all fields, a line each; lists of commands are taken where they are told.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import urllib.error
import urllib.request
import weakref
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

import gymnasium

from environments.answers import format_value
from environments.base import ANSWER_LIMIT, LONGEST_TEXT, AnyText, TextEnv
from environments.errors import BadParameter, EnvironmentDied, EnvironmentHung, EnvironmentsError, MissingDependency
from environments.gym import COMMANDS, STEP_LIMIT, TEXTS, GymTextEnv
from environments.parameters import Game, Value, join, value_of

DESCRIPTION = "any server of the OpenEnv protocol, as openenv/<its address>"
GAMES: dict[str, Game] = {}
REMEDY = "install it with `pip install 'agentlab[openenv]'`"

TOKEN = "OPENENV_TOKEN"
"""The environment variable with the token of a server that wants one."""

_TOLD = ("score", "won", "lost", "goal", "state")
_MESSAGE_LIMIT = 4 * LONGEST_TEXT  # bytes
_CONNECT_LIMIT = 10.0  # seconds


class _Gone(EnvironmentDied):
    """Nothing answers where the server was."""


class OpenEnvSession(gymnasium.Env[str, str]):
    """A session on a server, as a gymnasium environment whose observations and actions are text.

    Args:
        url: where the server is: `http://host:port`, or https, with a path if it has one.
        answer_limit: seconds that an answer may take.
        token: what the server wants as `Authorization: Bearer`, if it wants any.

    Raises:
        EnvironmentDied: if nothing answers there.
        EnvironmentsError: if what answers does not speak the protocol.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - gymnasium's name and type

    def __init__(self, url: str, *, answer_limit: float = ANSWER_LIMIT, token: str = "") -> None:
        self.observation_space = AnyText()
        self.action_space = AnyText()
        self.url = url.rstrip("/")
        self._limit = answer_limit
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._open = ExitStack()
        self._socket: Any = None
        self._action = _Action(self._get("schema"))
        self._last: tuple[str, dict[str, Any]] = ("", {})
        self._ending = weakref.finalize(self, self._open.close)  # where nobody closes it

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        begin = {} if seed is None else {"seed": seed}
        used = self._socket is not None
        if not used:
            self._connect()
        try:
            answer = self._ask("reset", begin)
        except _Gone:
            if not used:
                raise
            self._connect()  # it went when nothing was played, so nothing is lost
            answer = self._ask("reset", begin)
        if answer["type"] == "error":
            raise EnvironmentsError(f"The server {self.url} has no game of seed {seed}: {_said(answer)}")
        observation, _, _, info = self._read(answer)
        return observation, info

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        try:
            made = self._action.of(action)
        except ValueError as error:
            return self._refused(str(error))
        answer = self._ask("step", made)
        if answer["type"] == "error":
            return self._refused(_said(answer))
        observation, reward, done, info = self._read(answer)
        return observation, reward, done, False, info

    def _refused(self, why: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """The answer to an action that is none: the game stands as it stood."""
        text, info = self._last
        return why, 0.0, False, False, {"state": text, **info}

    def close(self) -> None:
        if self._socket is not None:
            with suppress(Exception):
                self._socket.send('{"type": "close"}')
            with suppress(Exception):
                self._open.close()
            self._socket = None

    def _connect(self) -> None:
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        scheme, _, rest = self.url.partition("://")
        try:
            self._socket = self._open.enter_context(
                connect(
                    f"{'wss' if scheme == 'https' else 'ws'}://{rest}/ws",
                    additional_headers=self._headers,
                    open_timeout=_CONNECT_LIMIT,
                    close_timeout=1.0,
                    max_size=_MESSAGE_LIMIT,
                    ping_interval=None,  # each answer has its own limit
                    proxy=None,
                )
            )
        except (OSError, WebSocketException) as error:  # a timeout is an OSError
            raise self._gone(error) from None

    def _ask(self, kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a message: an observation, or an error that says that the question was no good."""
        from websockets.exceptions import ConnectionClosed, WebSocketException

        try:
            if self._socket is None:
                raise ConnectionError("the connection is closed")
            with suppress(ConnectionClosed):  # the last word of a server that closed, and why, is still to be read
                self._socket.send(json.dumps({"type": kind, "data": data}))
            raw = self._socket.recv(timeout=self._limit)
        except TimeoutError:
            self.close()
            raise EnvironmentHung(
                f"The server {self.url} did not answer within {self._limit:g} s; the episode is lost; raise its "
                "`answer_limit` if it may take that long"
            ) from None
        except (OSError, WebSocketException) as error:
            self.close()
            raise self._gone(error) from None
        try:
            answer = json.loads(raw)
        except (ValueError, RecursionError):
            answer = None
        said = answer if isinstance(answer, dict) and isinstance(answer.get("data"), dict) else {}
        if said.get("type") not in ("observation", "error"):
            self.close()
            raise EnvironmentDied(f"The server {self.url} answered {format_value(raw)}, which is no observation")
        if said["type"] == "error" and said["data"].get("code") != "VALIDATION_ERROR":
            self.close()
            raise EnvironmentDied(f"The server {self.url} says: {_said(said)}")
        return said

    def _read(self, answer: Mapping[str, Any]) -> tuple[str, Any, Any, dict[str, Any]]:
        """Observation, reward, whether the game is over, and what else was told, of a message with an observation."""
        data = answer["data"]
        given = data.get("observation")
        fields = dict(given) if isinstance(given, Mapping) else {"text": _text(given)}
        beside = [fields.pop("metadata", None), data.get("metadata")]
        info: dict[str, Any] = {}
        for source in (*(one for one in beside if isinstance(one, Mapping)), fields):
            info |= {key: source[key] for key in (*_TOLD, *COMMANDS) if source.get(key) is not None}
        if self._action.choices and not any(key in info for key in COMMANDS):
            info[COMMANDS[0]] = self._action.choices
        reward = data.get("reward")
        seen = {key: value for key, value in fields.items() if key not in (*_TOLD, *COMMANDS, "reward", "done")}
        key = next((name for name in TEXTS if isinstance(seen.get(name), str)), None)
        text = seen[key] if key else "\n".join(f"{name}: {_text(value)}" for name, value in seen.items())
        done = data.get("done")
        self._last = (text, info)
        return text, 0.0 if reward is None else reward, False if done is None else done, info

    def _get(self, path: str) -> Any:
        request = urllib.request.Request(f"{self.url}/{path}", headers=self._headers)
        try:
            with _straight().open(request, timeout=_CONNECT_LIMIT) as answer:
                return json.loads(answer.read(_MESSAGE_LIMIT))
        except urllib.error.HTTPError as error:
            raise EnvironmentsError(
                f"{self.url}/{path} answers {error.code} {error.reason}; is it a server of the OpenEnv protocol?"
            ) from None
        except OSError as error:
            raise self._gone(error) from None
        except (ValueError, RecursionError, http.client.HTTPException):
            raise EnvironmentsError(f"{self.url}/{path} does not answer with JSON; is it an OpenEnv server?") from None

    def _gone(self, error: Exception) -> _Gone:
        what = " ".join(str(error).split())[:200] or type(error).__name__
        return _Gone(f"The server {self.url} is not there ({what}); start it, or name another address")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What a server is asked, and the token with it, goes to nobody else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _straight() -> urllib.request.OpenerDirector:
    """To the address that was named: a proxy of the system's is for the world outside."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())


class _Action:
    """How a command becomes an action, from the server's schema."""

    def __init__(self, schema: Any) -> None:
        action = schema.get("action") if isinstance(schema, Mapping) else None
        fields = action.get("properties") if isinstance(action, Mapping) else None
        if not isinstance(action, Mapping) or not isinstance(fields, Mapping):
            raise EnvironmentsError(
                f"its schema {format_value(schema)} says nothing of actions; is it an OpenEnv server?"
            )
        fields = {name: one for name, one in fields.items() if name != "metadata" and isinstance(one, Mapping)}
        required = action.get("required")
        asked = [name for name in fields if isinstance(required, list) and name in required] or list(fields)
        self._names = asked
        self._field, self._kind = "", ""
        if len(asked) == 1:
            self._field, self._kind = asked[0], str(fields[asked[0]].get("type"))
        choices = fields[self._field].get("enum") if self._field else None
        self.choices = [str(one) for one in choices] if isinstance(choices, list) and choices else []

    def of(self, command: str) -> dict[str, Any]:
        """The action of a command. Raises ValueError, which says what is asked for."""
        if self._kind == "string":
            return {self._field: command}
        if self._kind in ("integer", "number"):
            number = value_of(command.strip())
            if isinstance(number, str) or not math.isfinite(number):
                raise ValueError("An action is a number.")
            return {self._field: number}
        try:
            made = json.loads(command)
        except (ValueError, RecursionError):
            made = None
        if not isinstance(made, dict):
            names = ", ".join(json.dumps(name) for name in self._names)
            raise ValueError(f"An action is a JSON object with {names}.")
        return made


def _said(answer: Mapping[str, Any]) -> str:
    """What an error says."""
    return _text(answer["data"].get("message") or "nothing more")[:500]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def make(name: str, parameters: Mapping[str, Value]) -> TextEnv:
    """The environment `openenv/<address>`, with `step_limit` and `answer_limit` as parameters."""
    url = name.removeprefix("openenv/")
    unknown = sorted(set(parameters) - {"step_limit", "answer_limit"})
    if not _names_a_server(url):
        raise BadParameter(f"`{name}` names no server; write it like `openenv/http://127.0.0.1:8000`")
    if unknown:
        raise BadParameter(f"`{name}` has no parameter `{unknown[0]}`; there are step_limit and answer_limit")
    step_limit, answer_limit = parameters.get("step_limit", STEP_LIMIT), parameters.get("answer_limit", ANSWER_LIMIT)
    if not isinstance(step_limit, int) or step_limit < 1:
        raise BadParameter(f"`{name}` cannot have step_limit={step_limit}; give a whole number above 0")
    if not isinstance(answer_limit, int | float) or not 0 < answer_limit < math.inf:
        raise BadParameter(f"`{name}` cannot have answer_limit={answer_limit}; give a number of seconds above 0")
    reason = why_not()
    if reason:
        raise MissingDependency(reason)
    env = GymTextEnv(
        OpenEnvSession(url, answer_limit=answer_limit, token=os.environ.get(TOKEN, "")),
        env_id=join(name, parameters),
        step_limit=step_limit,
        goal=f"Do well in the environment at {url}.",
    )
    env.answer_limit = None  # the session keeps its own
    return env


def _names_a_server(url: str) -> bool:
    try:
        parts = urlsplit(url)
        known = parts.port is None or parts.port > 0
        (parts.hostname or "").encode("idna")
    except ValueError:  # a port that is no number, a host that cannot be one
        return False
    blank = any(sign.isspace() or not sign.isprintable() for sign in url)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and known and not blank


def why_not() -> str | None:
    """Why this family cannot be played here; None if it can."""
    try:
        import websockets  # noqa: F401
    except ImportError:
        return f"websockets is missing; servers of environments are asked through it; {REMEDY}"
    return None
