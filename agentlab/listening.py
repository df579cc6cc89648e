"""Where a server listens."""

from __future__ import annotations

import socket

from agentlab.errors import AgentLabError


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
