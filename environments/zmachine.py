"""A game of the Z-machine (`.z3` to `.z8`), played by jericho's interpreter in a process of its own.

The interpreter is written in C: a damaged game can end it or make it run for ever, and a game may save itself, which
writes a file. So each game has a process, in a folder that is removed once it runs, where no file can be written or
opened.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path
from typing import Any, NamedTuple

from environments.child import surroundings
from environments.errors import EnvironmentDied, EnvironmentHung, EnvironmentsError, MissingDependency

START_LIMIT = 60.0  # seconds; a start takes half a second
CALL_LIMIT = 30.0  # seconds; a command takes a few milliseconds
# Bytes that the interpreter takes, and that any game takes. One that gets more than it has room for breaks.
_LONGEST, _LONGEST_PLAIN = 198, 78
LARGEST = 1 << 20  # bytes of a file; games have at most half of that
REMEDY = "install it with `pip install --no-deps jericho==3.3.1`, which compiles it in half a minute (gcc and make)"
_PLAYER = Path(__file__).with_name("zmachine_player.py")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # each would take addresses, which are limited
_BYTES_PER_UNIT = {1: 2, 2: 2, 3: 2, 4: 4, 5: 4, 6: 8, 7: 8, 8: 8}  # in which a game of a version tells its length


class Heard(NamedTuple):
    """What a game said. The rest is known for some games only: points and most points, and how it ended.

    `score` is what the game says to `score`, which leaves no trace in it.
    """

    text: str
    score: str = ""
    points: tuple[int, int] | None = None
    won: bool = False
    lost: bool = False


class Story:
    """A running game.

    Args:
        file: the game.
        plain: whether it is any game rather than one of TextWorld's: it is asked for its score after each command,
            unless jericho knows that game.

    Raises:
        MissingDependency: if there is no interpreter.
        EnvironmentsError: if the file is no game, or is damaged.

    Attributes:
        first: what it says when it begins.
    """

    def __init__(self, file: Path, *, plain: bool) -> None:
        missing = why_not()
        if missing:
            raise MissingDependency(f"{file.name} cannot be played; {missing}")
        check(file)
        self.file = file
        self._longest = _LONGEST_PLAIN if plain else _LONGEST
        folder = tempfile.mkdtemp(prefix="agentlab-game-")
        self._process: subprocess.Popen[bytes] | None = None
        try:
            shutil.copyfile(file, Path(folder, "game" + file.suffix))
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_PLAYER), "game" + file.suffix, "ask" if plain else "-"],
                cwd=folder,
                env={**surroundings(), **_ONE_THREAD, "TMPDIR": folder},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise EnvironmentsError(f"{file} cannot be played ({error.strerror}); see to that") from error
        self._end = weakref.finalize(self, _end, self._process, folder, os.getpid())  # also where nobody closes it
        try:
            self.first = self._heard(START_LIMIT)
        except EnvironmentDied as error:
            raise EnvironmentsError(f"{file} is no game that can be played ({error}); is it damaged?") from None

    def say(self, command: str) -> Heard:
        """What the game says to a command; it reads one line, no longer than it can take.

        Raises:
            EnvironmentHung: if it does not answer in time.
            EnvironmentDied: if the interpreter has ended.
        """
        line = readable(command).encode(errors="replace")[: self._longest].decode(errors="ignore")
        if not self._end.alive:
            raise EnvironmentDied(f"the interpreter of {self.file.name} ended before; begin a new episode")
        assert self._process and self._process.stdin
        with contextlib.suppress(OSError):  # it has ended, which is told when its answer is read
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
        return self._heard(CALL_LIMIT)

    def close(self) -> None:
        """End the process, and remove its folder."""
        self._end()

    def _heard(self, limit: float) -> Heard:
        assert self._process and self._process.stdout
        output, text, until = self._process.stdout.fileno(), b"", time.monotonic() + limit
        ready = select.poll()
        ready.register(output, select.POLLIN)
        while not text.endswith(b"\n"):
            if not ready.poll(max(0.0, until - time.monotonic()) * 1000):
                self.close()
                raise EnvironmentHung(f"{self.file.name} did not answer within {limit:g} s; the episode is lost")
            chunk = os.read(output, 65536)
            if not chunk:
                code = self._process.wait()
                self.close()
                raise EnvironmentDied(f"the interpreter of {self.file.name} ended with exit code {code}")
            text += chunk
        said: dict[str, Any] = json.loads(text)
        if said.pop("broke"):
            self.close()
            raise EnvironmentDied(f"{self.file.name} did what no game can do, and was stopped")
        return Heard(**{**said, "points": tuple(said["points"]) if "points" in said else None})


def _end(process: subprocess.Popen[bytes], folder: str, owner: int) -> None:
    if os.getpid() != owner:  # after a fork
        return
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()
    shutil.rmtree(folder, ignore_errors=True)


def readable(command: str) -> str:
    """A command as the game will read it: what cannot be printed is a blank."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in command).split())


def check(file: Path) -> None:
    """Raise EnvironmentsError if the file cannot be a whole game, from what stands at its beginning."""
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            head = opened.read(64)
    except OSError as error:
        raise EnvironmentsError(f"{file} cannot be read ({error.strerror}); see to that") from error
    if len(head) < 64 or head[0] not in _BYTES_PER_UNIT or size > LARGEST:
        raise EnvironmentsError(f"{file} is no game of the Z-machine; name another file")
    told = int.from_bytes(head[26:28], "big") * _BYTES_PER_UNIT[head[0]]
    if size < told:
        raise EnvironmentsError(f"{file} is damaged, it has {size} of {told} bytes; copy it again")


def why_not() -> str | None:
    """Why no game of the Z-machine can be played here; None if it can."""
    if importlib.util.find_spec("jericho") is None:
        return f"jericho, the interpreter of Z-machine games, is missing; {REMEDY}"
    return None
