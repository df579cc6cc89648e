"""The application: OpenAI's addresses, who may ask them, and an answer in one piece or as events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from agentlab.listening import is_local, names_this_machine, site
from agentlab.serving.chats import Chats
from agentlab.serving.clients import Client, Clients
from agentlab.serving.refused import FAILURES, Refused, refusal
from agentlab.serving.wire import LARGEST, Answered, Asked, Head, read

MOST = 64
"""Requests that are answered or wait; who comes then is told to come again."""

HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
"""What a proxy says of those who ask it."""

Say = Callable[[str], None]


class Service:
    """OpenAI's protocol for the chats of a lab. `say` tells the person at the terminal what went wrong.

    `host` and `port` are where it listens; the port is known once it does.
    """

    def __init__(self, chats: Chats, clients: Clients, host: str, say: Say, port: int = 0) -> None:
        self.chats, self.clients, self.host, self.say, self.port = chats, clients, host, say, port
        self._workers = ThreadPoolExecutor(MOST, thread_name_prefix="chat")
        self._asking = 0

    def asgi(self) -> ASGIApp:
        """The application for a server."""
        routes = [
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/models", self._models),
            Route("/v1/models/{name:path}", self._model),
        ]
        handlers: Any = {
            404: lambda request, _: told(_no_address(request)),
            405: lambda request, _: told(_no_address(request, 405)),
            Refused: lambda _, refused: told(refused),
            ClientDisconnect: lambda *_: Response(status_code=499),  # to nobody
            Exception: lambda _, error: told(_fault(error)),
        }
        handlers |= dict.fromkeys(FAILURES, self._failed)
        return Starlette(routes=routes, exception_handlers=handlers)

    def end(self) -> None:
        """Give up what is being written."""
        self.chats.end()
        self._workers.shutdown(wait=False, cancel_futures=True)

    # -- who asks ----------------------------------------------------------------------------------------------------

    def _who(self, request: Request) -> Client:
        """Who asks. Raises Refused for who may not."""
        headers = request.headers
        if is_local(self.host) and not names_this_machine(headers.get("host", ""), self.port):
            raise Refused(403, "This server answers to 127.0.0.1 and localhost only.", code="forbidden")
        origin = headers.get("origin")
        foreign = origin is not None and site(origin) != headers.get("host", "")
        if foreign or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise Refused(403, "This request comes from a page of another site.", code="forbidden")
        scheme, _, key = headers.get("authorization", "").partition(" ")
        given = key.strip() if scheme.lower() == "bearer" else ""
        if not self.clients.keyed and (not is_local(self.host) or any(name in headers for name in FORWARDED)):
            line = "Others than this machine need a key; `agentlab serve --client NAME` makes one."
            raise Refused(401, line, code="invalid_api_key")
        client = self.clients.who(given)
        if client is None:
            line = "No client has this key; `agentlab serve --client NAME` makes one." if given else "A key is needed."
            raise Refused(401, f"{line} It is sent as `Authorization: Bearer KEY`.", code="invalid_api_key")
        return client

    # -- its addresses -----------------------------------------------------------------------------------------------

    async def _models(self, request: Request) -> Response:
        self._who(request)
        found = await self._work(self.chats.listed)
        return JSONResponse({"object": "list", "data": [_entry(*one) for one in found]}, headers=HEADERS)

    async def _model(self, request: Request) -> Response:
        self._who(request)
        found = await self._work(self.chats.listed)
        named = [_entry(*one) for one in found if one.name == request.path_params["name"]]
        if not named:
            raise Refused(404, "There is no model of this name.", code="model_not_found", param="model")
        return JSONResponse(named[0], headers=HEADERS)

    async def _chat(self, request: Request) -> Response:
        client = self._who(request)
        asked = read(await _body(request))
        if self._asking >= MOST:
            raise Refused(503, f"{MOST} others ask already; try again in a moment.", code="overloaded")
        answering = _Answering(self, client, asked)
        first = await answering.first(request)
        if isinstance(first, Answered) and not asked.stream:
            return JSONResponse(answering.head.whole(first), headers=HEADERS)
        return StreamingResponse(answering.events(first), media_type="text/event-stream", headers=HEADERS)

    async def _work(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function gives that takes its time, in a thread."""
        self._asking += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._workers, function, *arguments)
        finally:
            self._asking -= 1

    def _failed(self, _: Request, failure: Exception) -> Response:
        return told(self.refused(failure))

    def refused(self, failure: Exception) -> Refused:
        """A failure for whoever asks; what is none of theirs is said at the terminal."""
        if isinstance(failure, Refused):
            return failure
        found = refusal(failure)
        if found.status >= 500:
            self.say(f"A chat was not answered: {failure}")
        return found


class _Answering:
    """One answer on its way from the thread that writes it: pieces in a queue, then what it came to."""

    def __init__(self, service: Service, client: Client, asked: Asked) -> None:
        self.service, self.client, self.asked = service, client, asked
        self.head = Head()
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[str, str] | Answered | Exception] = asyncio.Queue()
        self._gone = False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._queue.put(
                await self.service._work(self.service.chats.answer, self.client, self.asked, self._piece)
            )
        except Exception as failure:
            await self._queue.put(failure)

    def _piece(self, model: str, text: str) -> bool:
        """Called in the thread that writes."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._queue.put_nowait, (model, text))
        return not self._gone

    async def first(self, request: Request) -> tuple[str, str] | Answered:
        """What comes first; of an answer in one piece, all of it.

        Raises what kept it from being given, so that it has a status of its own, ClientDisconnect where nobody waits
        for it any more.
        """
        leaving = asyncio.create_task(_left(request))
        try:
            while True:
                coming = asyncio.create_task(self._queue.get())
                await asyncio.wait({coming, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    self._gone = True
                    raise ClientDisconnect
                found = coming.result()
                if isinstance(found, Exception):
                    raise found
                if self.asked.stream or isinstance(found, Answered):
                    return found
        finally:
            leaving.cancel()

    async def events(self, found: tuple[str, str] | Answered | Exception) -> AsyncIterator[str]:
        """The answer as server-sent events. The last one comes when what was stated is kept."""
        begun = False
        try:
            while isinstance(found, tuple):
                yield _event(self.head.piece(*found, first=not begun))
                begun = True
                found = await self._queue.get()
            if isinstance(found, Exception):
                yield _event(self._told(found))
                return
            if not begun:
                yield _event(self.head.piece(found.model, "", first=True))
            yield _event(self.head.last(found))
            if self.asked.with_usage:
                yield _event(self.head.taken(found))
            yield "data: [DONE]\n\n"
        finally:
            self._gone = True

    def _told(self, failure: Exception) -> dict[str, Any]:
        expected = isinstance(failure, (Refused, *FAILURES))
        return (self.service.refused(failure) if expected else _fault(failure)).body


def told(refused: Refused) -> JSONResponse:
    """The answer that says why there is none."""
    return JSONResponse(refused.body, status_code=refused.status, headers={**HEADERS, **refused.headers})


def _event(said: dict[str, Any]) -> str:
    return f"data: {json.dumps(said)}\n\n"


def _entry(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "agentlab"}


def _no_address(request: Request, status: int = 404) -> Refused:
    line = "Nothing is served here; there are POST /v1/chat/completions and GET /v1/models."
    return Refused(status, line, code="not_found" if status == 404 else "method_not_allowed")


def _fault(error: Exception) -> Refused:
    return Refused(500, f"A fault of the program ({type(error).__name__}); the terminal says where.", code="fault")


async def _body(request: Request) -> bytes:
    """The body of a request. Raises Refused for one that is too long or is no JSON."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "The body is sent as `Content-Type: application/json`.", code="not_json")
    too_long = Refused(413, f"A request has at most {LARGEST:,} bytes.", code="request_too_large")
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 12 and int(length) <= LARGEST):
        raise too_long
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            raise too_long
    return bytes(body)


async def _left(request: Request) -> None:
    """Returns when whoever asks has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
