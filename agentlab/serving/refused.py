"""What is refused or fails, in the shape that OpenAI's clients know: a status, and a body with one error."""

from __future__ import annotations

from typing import Any

from agentlab.errors import AgentLabError, ContextExceeded, Unacceptable
from environments.errors import EnvironmentsError
from memory.errors import MemoryStoreError
from trainers.errors import TrainersError

INVALID, SERVER = "invalid_request_error", "server_error"

FAILURES = (AgentLabError, MemoryStoreError, TrainersError, EnvironmentsError, OSError)
"""What is no fault of the program: it is told in a line."""


class Refused(Exception):
    """A request that gets no answer: its HTTP status, and why, in a line for whoever asks."""

    def __init__(self, status: int, line: str, *, code: str, param: str | None = None) -> None:
        super().__init__(line)
        self.status, self.line, self.code, self.param = status, line, code, param

    @property
    def body(self) -> dict[str, Any]:
        """As OpenAI's API says it."""
        kind = SERVER if self.status >= 500 else INVALID
        return {"error": {"message": self.line, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """What else a client is told by the protocol."""
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        return {"Retry-After": "1"} if self.status == 503 else {}


def refusal(failure: Exception) -> Refused:
    """One of `FAILURES`, for whoever asks: what is wrong with the request in its words, and of all else only that it is
    so. What stands in a lab's own errors (paths, names of servers) is for the person at the terminal."""
    if isinstance(failure, ContextExceeded):
        return Refused(400, str(failure), code="context_length_exceeded", param="messages")
    if isinstance(failure, Unacceptable):
        return Refused(400, str(failure), code="unacceptable_messages", param="messages")
    line = f"There is no answer now ({type(failure).__name__}); the terminal of `agentlab serve` says why. Try again."
    return Refused(503, line, code="unavailable")
