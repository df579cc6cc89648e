"""A client of a vLLM server: JSON over HTTP, and whatever goes wrong there as one class of errors."""

from __future__ import annotations

import time
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx

from agentlab.engines.waiting import Waiters, waited
from agentlab.errors import ServerFailed
from memory.text import loaded

AT_ONCE = 64
"""Requests to one server under way at once; what is beyond it waits here instead of there."""

TRIES = 4
"""How often the same is asked of a server that has only answered others for so long."""

COMPLETIONS = "/v1/completions"
"""Where the model itself is asked, and not only what stands before it."""

OLDEST = "0.32"
"""The version of vLLM that first answers all that is asked here."""

CONNECTING = 10.0
"""Seconds within which a server that is there accepts a connection."""


class Client:
    """Asks one server. It may be used by many threads at once.

    `seconds` is how long the server may be silent: an answer may take longer to begin where the model has answered
    others meanwhile. `key` is sent with each request where there is one. Whoever asks is one of `waiters`, and gets
    what these are given up by. Every method raises ServerFailed if the server is not there, hangs, refuses, or answers
    what is no JSON object.
    """

    def __init__(self, url: str, key: str = "", seconds: float = 300.0, waiters: Waiters | None = None) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self.seconds = seconds
        self._waiters = waiters or Waiters()
        self._answered = 0.0  # when the model did last
        # What a machine says to itself goes through no proxy.
        alone = urlsplit(self.url).hostname in ("127.0.0.1", "localhost", "::1")
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(seconds, connect=CONNECTING, pool=None),
            limits=httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE),
            trust_env=not alone,
        )

    def get(self, path: str) -> dict[str, Any]:
        """The object at `path`."""
        return self._asked("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to `body`."""
        return self._asked("POST", path, body)

    def healthy(self) -> bool:
        """Whether the server is there and its model answers."""
        try:
            return self._waited("GET", "/health", timeout=CONNECTING).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        """End its connections."""
        self._http.close()

    def _waited(self, method: str, path: str, **more: Any) -> httpx.Response:
        return waited(partial(self._http.request, method, path, **more), self._waiters.given_up)

    def _asked(self, method: str, path: str, body: dict[str, Any] | None, tries: int = TRIES) -> dict[str, Any]:
        asked = time.monotonic()
        try:
            answer = self._waited(method, path, json=body)
        except httpx.TimeoutException as error:
            busy = path == COMPLETIONS and self._answered > asked and isinstance(error, httpx.ReadTimeout)
            if busy and tries > 1:  # it is not dead, so what was asked is asked again
                return self._asked(method, path, body, tries - 1)
            what = f"{type(error).__name__} after {self.seconds:.0f} s"
            raise ServerFailed(
                f"The vLLM server hangs ({what} at {self.url}{path}); the same command tries again.",
                reason=what,
                hangs=True,
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, RuntimeError) as error:
            what = " ".join(str(error).split())[:160] or type(error).__name__
            raise ServerFailed(
                f"The vLLM server does not answer ({what} at {self.url}{path}); the same command tries again.",
                reason=what,
            ) from error
        if answer.is_error:
            what = _reason(answer)
            raise ServerFailed(
                f"The vLLM server answers with an error ({answer.status_code} at {path}, {what}); the same command "
                "tries again.",
                status=answer.status_code,
                reason=what,
            )
        if path == COMPLETIONS:
            self._answered = time.monotonic()
        try:
            found = loaded(answer.content) if "json" in answer.headers.get("content-type", "") else {}
        except ValueError as error:
            raise nonsense(f"{answer.text[:80]!r} at {path} is no JSON") from error
        if not isinstance(found, dict):
            raise nonsense(f"{answer.text[:80]!r} at {path} is no object")
        return found


def nonsense(what: str) -> ServerFailed:
    """The error of an answer that is not what was asked for."""
    return ServerFailed(
        f"The vLLM server answers nonsense ({what}); is it a vLLM server of version {OLDEST} or newer?", reason=what
    )


def _reason(answer: httpx.Response) -> str:
    """Why a server refused, in one line."""
    try:
        found = answer.json()
        found = found.get("error", found)
        said = str(found.get("message", found) if isinstance(found, dict) else found)
    except (ValueError, AttributeError, RecursionError):
        said = answer.text
    return " ".join(said.split())[:200] or "without a reason"
