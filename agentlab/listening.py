"""Where a server listens, and whether a request means it."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from agentlab.errors import AgentLabError

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""This machine's own names, as a `Host` header has them."""


def is_local(host: str) -> bool:
    """Whether only this machine can reach a server that listens at `host`."""
    return host in ("127.0.0.1", "localhost", "::1")


def names_this_machine(header: str, port: int) -> bool:
    """Whether a `Host` header names the server at this port (0: any) of this machine.

    A page of another site whose name leads here has its own name there (DNS rebinding).
    """
    name, _, given = header.rpartition(":") if not header.endswith("]") else (header, "", "")
    if not name:
        name, given = header, ""
    return name.lower() in LOOPBACK and (not port or (given or "80") == str(port))


def site(origin: str) -> str:
    """Host and port of an `Origin` header; empty for one that is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def listening_at(host: str, port: int, *, any_port: bool) -> socket.socket:
    """A socket that listens at `host` and `port`; with `any_port` at another port if that one is not free.

    Raises AgentLabError, in one line, where nothing can listen.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        try:
            found.bind((host, port))
        except OSError:
            if not any_port:
                raise
            found.bind((host, 0))
        found.listen(128)
    except (OSError, UnicodeError, TypeError) as error:  # what no name of a host can be, too
        found.close()
        why = getattr(error, "strerror", None) or str(error)
        raise AgentLabError(
            f"Nothing can listen at {host}, port {port} ({why}); give another --port or --host."
        ) from error
    return found
