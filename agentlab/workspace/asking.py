"""Asking: a small change is done at once where nobody writes to a lab, and else by whoever does, a moment later."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from agentlab.errors import BadRequest, LabLocked
from agentlab.progress import Progress
from agentlab.workspace.lock import holder
from agentlab.workspace.requests import Outcome, Request, payload_of, verb_of
from agentlab.workspace.workspace import Workspace
from environments.errors import BadParameter, BadTask, UnknownEnvironment
from memory import errors
from memory.store import LARGEST_REQUEST as LARGEST
from memory.store import Database, Entry

PATIENCE, PAUSE = 2.0, 0.1
"""How many seconds whoever asks waits for what came of it, and how long between two looks."""

_REFUSALS: tuple[type[Exception], ...] = (
    errors.UnknownReflection,
    errors.PinnedReflection,
    errors.InvalidReflection,
    errors.QuotaExceeded,
    errors.UnknownOperation,
    errors.CannotUndo,
    UnknownEnvironment,
    BadParameter,
    BadTask,
)
"""What whoever folds says of a request, and what its own door says of it too."""


class Noted(Outcome):
    """What was asked for lies in the inbox, as this `number`, and is done as soon as the writer gets to it."""

    number: int


def ask(
    folder: Path,
    request: Request,
    by: str,
    *,
    progress: Progress | Literal[False] = False,
    patience: float | None = None,
) -> Outcome:
    """Make a small change in a lab, whoever writes to it; `Noted` where that takes longer than `patience` seconds
    (None: `PATIENCE`).

    Raises:
        NotALab; LabLocked where another process writes to a database that has no inbox yet, or what is asked for is too
        long for one; and what `Request.apply` does, in the words of whoever did it.
    """
    request.check()
    try:
        return _done(folder, request, by, progress)
    except LabLocked as locked:
        payload = payload_of(request)
        path = folder.expanduser() / "lab.db"
        if len(payload) > LARGEST or not path.exists():
            raise
        try:
            inbox = Database(path, guest=True)
        except errors.OlderDatabase:
            raise locked from None
    with closing(inbox):
        number = inbox.inbox.put(by, verb_of(request), payload)
        until = time.monotonic() + (PATIENCE if patience is None else patience)
        while True:
            entry = inbox.inbox.get(number)
            if entry is not None and entry.done_at is not None:
                if entry.refusal is not None:
                    with suppress(errors.MemoryStoreError):
                        inbox.inbox.discard(number)
                return _told(entry)
            if time.monotonic() >= until:
                return Noted(line=_noted(folder, number), number=number)
            time.sleep(PAUSE)
            _fold(folder)


def _done(folder: Path, request: Request, by: str, progress: Progress | Literal[False]) -> Outcome:
    lab = Workspace.open(folder, progress=progress)
    # Not as a context manager, which would bring the index up to date: whoever looks next does that.
    with closing(lab), lab.database.operations.asked(by):
        return request.apply(lab.database, by, lab.config)


def _fold(folder: Path) -> None:
    """Do what waits, if nobody else is there to do it any more."""
    try:
        Workspace.open(folder, progress=False).close()
    except LabLocked:
        return


def _told(entry: Entry) -> Outcome:
    """What came of a row. Raises what kept it from being done."""
    if entry.refusal is not None:
        raise _refusal(entry.outcome or "")(entry.refusal)
    try:
        return Outcome.model_validate_json(entry.outcome or "")
    except ValidationError as error:
        raise BadRequest(
            f"What became of it cannot be read (row {entry.number} of the inbox); look into `agentlab memory history`."
        ) from error


def _refusal(kind: str) -> type[Exception]:
    """The class of error by its name, so that each door tells it as it always does."""
    return next((one for one in _REFUSALS if one.__name__ == kind), BadRequest)


def _noted(folder: Path, number: int) -> str:
    at_work = holder(folder.expanduser() / ".lock")
    who = f"{at_work} writes to the lab, and" if at_work is not None else "Another process writes to the lab, and"
    return f"Noted as {number}: {who} does it as soon as it gets to it; `agentlab memory history` shows it then."
