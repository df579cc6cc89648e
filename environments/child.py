"""A process in which games are played, one after the other: what is in a file may hang, crash or take all memory.

It answers a line of JSON with a line of JSON, and ends when its standard input does, which holds for `kill -9` of the
program too.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from environments.answers import format_value
from environments.errors import EnvironmentDied, EnvironmentsError
from environments.worker import format_error

Told = dict[str, Any]
_KEPT = (
    *("PATH", "HOME", "TMPDIR", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV"),
    *("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTHONUTF8"),
    *("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
)


class Child:
    """A process that plays games, one after the other.

    Args:
        module: the module whose `play()` runs in it.
        name: what errors call it.
        turn: what it answers with, and of which types.
        no_game: what is said of a file that is no game, around what it says of it.

    Raises:
        EnvironmentDied: if it cannot be started.
    """

    def __init__(self, module: str, name: str, turn: Mapping[str, Any], no_game: str) -> None:
        self._name, self._turn, self._no_game = name, turn, no_game
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        program = f"import sys; sys.path[:] = sys.argv[1:]; from {module} import play; play()"
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, *sys.path],
                env=surroundings(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,  # Ctrl-C is for this program, which ends that one
            )
        except OSError as error:
            raise EnvironmentDied(f"No process can be started for a game ({error.strerror}); try again") from None
        self._program = os.getpid()
        # Also where nobody closes it.
        self.close = weakref.finalize(self, _end, self.process, self._errors, self._program)

    @property
    def alive(self) -> bool:
        """True while the process runs; one that belongs to the parent of a fork is none."""
        return os.getpid() == self._program and self.close.alive and self.process.poll() is None

    def begin(self, file: Path) -> Told:
        """The first turn of the game in `file`.

        Raises:
            EnvironmentsError: if it is no game.
            EnvironmentDied: if the process died, or answered with what is no turn.
        """
        return self.ask("begin", str(file))

    def act(self, action: str) -> Told:
        """What comes of an action, as at the start. Raises EnvironmentDied."""
        return self.ask("act", action)

    def ask(self, what: str, with_what: str) -> Told:
        """What it answers to a question of a kind that its module knows. Raises as `begin` does."""
        if os.getpid() != self._program:
            raise EnvironmentDied("The game is the parent process's; the episode is lost; reset begins another")
        answer = b""
        with contextlib.suppress(OSError, ValueError):  # a pipe that is broken, or closed
            assert self.process.stdin and self.process.stdout
            self.process.stdin.write(json.dumps([what, with_what]).encode() + b"\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        if not answer.endswith(b"\n"):
            raise EnvironmentDied(f"{self._death()}; the episode is lost; reset starts another")
        try:
            told = json.loads(answer)
            if set(told) == {"no game"}:
                raise EnvironmentsError(self._no_game.format(file=with_what, why=told["no game"]))
            if set(told) == {"failed"}:
                raise EnvironmentDied(f"The {self._name} failed with {told['failed']}; the episode is lost")
            if all(isinstance(told[key], kind) for key, kind in self._turn.items()):
                return dict(told)
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        self.close()
        what = format_value(answer)
        raise EnvironmentDied(f"The {self._name} answered {what}, which is no turn; the episode is lost")

    def _death(self) -> str:
        """How the process ended, which it does here at the latest; with its last words."""
        if not self.close.alive:
            return f"The {self._name} was closed"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=1)  # its end may be a moment behind that of its output
        code = self.process.poll()
        self._errors.seek(0)
        words = " ".join(self._errors.read().decode(errors="replace").split())[-300:]
        self.close()
        return f"The {self._name} died (exit code {code}{f', last words: {words}' if words else ''})"


def _end(process: subprocess.Popen[bytes], errors: IO[bytes], program: int) -> None:
    if os.getpid() == program:  # in a fork it is the parent's
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, errors):
        with contextlib.suppress(OSError):
            if pipe:
                pipe.close()


def surroundings() -> dict[str, str]:
    """The environment variables that a game's process gets: what a program needs to run, and no keys of anything."""
    return {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("LC_")}


# In the process


def serve(**answers: Callable[[str], Told]) -> None:
    """Answer what is asked for on the standard input, until that ends."""
    output = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # libraries print
    questions: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(questions,), daemon=True).start()
    while True:
        what, with_what = json.loads(questions.get())
        try:
            told = answers[what](with_what)
        except Exception as error:
            told = {"failed": f"{type(error).__name__}: {format_error(error)}"}
        output.write(json.dumps(told).encode() + b"\n")
        output.flush()


def _read(questions: SimpleQueue[bytes]) -> None:
    """Take questions; where there will be no more, nobody waits for the answer either, however long it takes."""
    code = 1
    try:
        for line in sys.stdin.buffer:
            questions.put(line)
        code = 0
    except MemoryError:
        os.write(2, b"out of memory")
    finally:
        os._exit(code)
