"""Workers as processes of this machine. They end with the program that started them, also when that is killed."""

from __future__ import annotations

import _thread
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import time
import weakref
from importlib import import_module
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from agentlab.errors import AgentLabError
from agentlab.workers.base import Made, Worker, WorkerDied

PATIENCE = 5.0
"""Seconds that a process may take to end by itself."""


class ProcessWorker(Worker):
    """A process of this machine. The script that starts one runs in it again, as with `multiprocessing`.

    What is temporary in it goes into a folder in `place`, which goes with it, and with `place` when the program that
    started it has ended.
    """

    def __init__(self, made: Made, place: str) -> None:
        super().__init__()
        # Not by a fork: threads and what the model's libraries have open would be shared.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, made, place), name="agentlab worker")
        self._process.start()
        theirs.close()
        self._answered = False
        self._end = weakref.finalize(self, _end, self._process, self._pipe)

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid

    def call(self, method: str, *args: Any) -> Any:
        try:
            self._pipe.send((method, args))
            outcome, value = self._pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            self._end()
            raise WorkerDied(self._words()) from None
        self._answered = True
        if outcome == "raised":
            raise value
        return value

    def _words(self) -> str:
        code = self._process.exitcode
        how = f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"
        hint = ""
        if not self._answered:
            hint = '; a script that has workers begins its work below `if __name__ == "__main__":`'
        return f"A worker process ended {how} before it had answered{hint}."

    def kill(self) -> None:
        self._end()


def _end(process: BaseProcess, pipe: Connection) -> None:
    process.terminate()
    process.join(PATIENCE)
    process.kill()  # one that hangs
    process.join(PATIENCE)
    pipe.close()


def serve(pipe: Connection, made: Made, place: str) -> None:
    """Answer questions until nobody asks any more: what the process of a worker does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program, which ends this
    signal.signal(signal.SIGTERM, _told_to_end)
    sys.stdout.flush()
    os.dup2(2, 1)  # what libraries print is no answer of the program's
    os.environ["TMPDIR"] = tempfile.tempdir = own = tempfile.mkdtemp(dir=place)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    held: Any = None
    patience = 0.0
    module, name = made[0].split(":")
    try:
        try:
            while True:
                method, args = pipe.recv()
                try:
                    if held is None:
                        held = getattr(import_module(module), name)(*made[1])
                    answer = ("gave", getattr(held, method)(*args))
                except Exception as error:
                    answer = ("raised", _sendable(error))
                pipe.send(answer)
        except (EOFError, OSError):
            patience = PATIENCE  # nobody asks any more: the program has ended, or is just about to
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
    finally:  # whole, wherever the signal came
        if hasattr(held, "close"):
            held.close()
        parent = multiprocessing.parent_process()
        alone = parent is not None and bool(wait([parent.sentinel], patience))
        shutil.rmtree(place if alone else own, ignore_errors=True)


def _told_to_end(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    sys.exit(1)


def _end_with_parent() -> None:
    """End as SIGTERM does when the program has ended that started this, were it by a kill; at once if this hangs."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        _thread.interrupt_main(signal.SIGTERM)
        time.sleep(PATIENCE)
        os._exit(1)


def _sendable(error: Exception) -> Exception:
    """An error as it is, or in words where it cannot be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return AgentLabError(f"A worker failed with {type(error).__name__}: {error}")
    return error
