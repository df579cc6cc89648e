"""Who may ask: this machine's own browser alone, or whoever has the token where others can reach the server.

A page in the same browser must not read the lab or change it: a foreign `Host` (DNS rebinding) and a foreign `Origin`
(cross-site request forgery) are refused, forms carry a token, and nothing but what the server itself gives is loaded.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qs, parse_qsl, quote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentlab.listening import is_local, names_this_machine, site

COOKIE = "agentlab"

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Under `no-referrer` browsers send forms with the origin `null`.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Access:
    """Who may ask a server at `host` and `port`.

    `token` is what forms carry and, where others than this machine reach the server, what their first address must
    have as `?token=`; a cookie keeps it from then on.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_local(self.host)

    def knows_host(self, host: str) -> bool:
        """Whether a `Host` header names this server. Where others reach it, it may have any name: the token decides."""
        return not self.local or names_this_machine(host, self.port)

    @property
    def cookie(self) -> str:
        """The name of the cookie that keeps the token. Browsers share cookies between the ports of a host."""
        return f"{COOKIE}-{self.port}"

    def same(self, given: str) -> bool:
        """Whether somebody has the token."""
        return secrets.compare_digest(given.encode(errors="replace"), self.token.encode())


class Guard:
    """Refuses what `Access` does not allow, and gives every answer the headers of safety."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refusal(scope) or self._token_taken(scope) or self.app
        await answer(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self.access.knows_host(host):
            return _refused(403, "This server answers to 127.0.0.1 and localhost only.")
        if not scope["query_string"].isascii():  # browsers write such signs as %XX
            return _refused(400, "This address holds signs that are none of an address.")
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return _refused(405, "Pages are read with GET, and changes are made with POST.")
        origin = headers.get("origin")
        foreign = origin is not None and site(origin) != host
        # A link from elsewhere may be followed; nothing may be sent from there, and nothing taken into a page there.
        followed = scope["method"] != "POST" and headers.get("sec-fetch-mode") == "navigate"
        if foreign or (headers.get("sec-fetch-site") in ("cross-site", "same-site") and not followed):
            return _refused(403, "This request comes from another site.")
        if not self.access.local and not self._has_token(headers, scope):
            return _refused(403, "Open the address that `agentlab view` printed: it has the token in it.")
        return None

    def _has_token(self, headers: Headers, scope: Scope) -> bool:
        # As browsers write them: one odd cookie of this host hides no other.
        kept = cookie_parser(headers.get("cookie", "")).get(self.access.cookie, "")
        return self.access.same(kept) or self.access.same(_given(scope))

    def _token_taken(self, scope: Scope) -> RedirectResponse | None:
        """To the same address without the token, which a cookie keeps: it is not to stay in what is shared."""
        if self.access.local or scope["method"] == "POST" or not self.access.same(_given(scope)):
            return None
        path = scope.get("raw_path", b"").decode("latin-1") or quote(scope["path"])
        rest = urlencode([(name, value) for name, value in parse_qsl(_query(scope), True) if name != "token"])
        # One slash: two would name another host.
        response = RedirectResponse("/" + path.lstrip("/") + (f"?{rest}" if rest else ""), status_code=303)
        response.set_cookie(self.access.cookie, self.access.token, httponly=True, samesite="strict")
        return response


def _query(scope: Scope) -> str:
    query: bytes = scope["query_string"]
    return query.decode("latin-1")


def _given(scope: Scope) -> str:
    return parse_qs(_query(scope)).get("token", [""])[0]


def _refused(status: int, line: str) -> PlainTextResponse:
    return PlainTextResponse(line + "\n", status_code=status)
