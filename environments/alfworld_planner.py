"""The process in which a game of ALFWorld is played: TextWorld's logic, and its planner, the library fast-downward.

The library ends its program where memory is short, and may hang or crash; what translates games for it keeps settings
in module globals, which two games at once would share, and takes `sys.argv` and `sys.stdout` away. So each environment
has a process of its own. It answers a line of JSON with a line of JSON, and ends when its standard input does, which
holds for `kill -9` of the program too.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from environments.answers import format_value
from environments.errors import EnvironmentDied, EnvironmentsError
from environments.textworld_game import textworld
from environments.worker import format_error

_PLAY = "import sys; sys.path[:] = sys.argv[1:]; from environments.alfworld_planner import play; play()"
_TURN = {"seen": str, "situation": str, "won": bool, "commands": list}
# How ALFWorld writes in a name what a name of its planner cannot have.
_SIGNS = (("_bar_", "|"), ("_minus_", "-"), ("_plus_", "+"), ("_dot_", "."), ("_comma_", ","))


class Planner:
    """A process that plays games, one after the other.

    Raises:
        EnvironmentDied: if it cannot be started.
    """

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PLAY, *sys.path],
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

    def begin(self, file: Path) -> dict[str, Any]:
        """What is seen at the start of the game in `file`, the situation, whether it is won, and the commands.

        Raises:
            EnvironmentsError: if it is no game of ALFWorld.
            EnvironmentDied: if the process died, or answered with what is no turn.
        """
        return self._ask("begin", str(file))

    def act(self, action: str) -> dict[str, Any]:
        """What comes of an action, as at the start. Raises EnvironmentDied."""
        return self._ask("act", action)

    def _ask(self, what: str, with_what: str) -> dict[str, Any]:
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
                raise EnvironmentsError(f"{with_what} is no game of ALFWorld ({told['no game']}); download it again")
            if set(told) == {"failed"}:
                raise EnvironmentDied(f"The planner failed with {told['failed']}; the episode is lost")
            if all(isinstance(told[key], kind) for key, kind in _TURN.items()):
                return dict(told)
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        self.close()
        raise EnvironmentDied(f"The planner answered {format_value(answer)}, which is no turn; the episode is lost")

    def _death(self) -> str:
        """How the process ended, which it does here at the latest; with its last words."""
        if not self.close.alive:
            return "The planner was closed"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=1)  # its end may be a moment behind that of its output
        code = self.process.poll()
        self._errors.seek(0)
        words = " ".join(self._errors.read().decode(errors="replace").split())[-300:]
        self.close()
        return f"The planner died (exit code {code}{f', last words: {words}' if words else ''})"


def _end(process: subprocess.Popen[bytes], errors: IO[bytes], program: int) -> None:
    if os.getpid() == program:  # in a fork it is the parent's
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, errors):
        with contextlib.suppress(OSError):
            if pipe:
                pipe.close()


def named(ids: Sequence[str]) -> dict[str, str]:
    """The names that ALFWorld gives the things of a game: `Cabinet_bar__minus_01…` is `cabinet 3`.

    Those of a kind are numbered from the last one on, in the order of their ids.
    """
    kinds = {}
    for one in ids:
        text = one
        for written, sign in _SIGNS:
            text = text.replace(written, sign)
        kind, bar, _ = text.partition("|")
        kinds[one] = (f"{kind}basin" if "basin" in one and bar else kind, bool(bar))
    left = Counter(kind for kind, many in kinds.values() if many)
    names = {}
    for one in sorted(ids):
        kind, many = kinds[one]
        names[one] = f"{kind} {left[kind]}" if many else f"{kind} "
        left[kind] -= many
    return names


# In the process


class _Game:
    """A game; one library for all that are played, since none is ever unloaded."""

    def __init__(self) -> None:
        infos = textworld().EnvInfos(won=True, admissible_commands=True)
        self._env = importlib.import_module("textworld.envs.pddl").PddlEnv(infos)

    def begin(self, file: str) -> dict[str, Any]:
        env = self._env
        try:
            env.load(json.loads(Path(file).read_text(encoding="utf-8")))
            names = named([info.id for info in env._entity_infos.values()])
            for info in env._entity_infos.values():
                info.name = names[info.id]
            return self._told(env.reset())
        except (OSError, ValueError, KeyError) as error:
            return {"no game": format_error(error)}

    def act(self, action: str) -> dict[str, Any]:
        return self._told(self._env.step(action)[0])

    def _told(self, state: Any) -> dict[str, Any]:
        situation = " ".join(self._derived(rule) for rule in ("#look.feedback#", "#inventory.feedback#"))
        commands = list(state["admissible_commands"])
        return {
            "seen": str(state.feedback), "situation": situation, "won": bool(state["won"]), "commands": commands,
        }  # fmt: skip

    def _derived(self, rule: str) -> str:
        """What the game's own grammar says of its state."""
        env = self._env
        context = {
            "state": env._pddl_state,
            "facts": list(env._pddl_state.facts),
            "variables": {},
            "mapping": {},
            "entity_infos": env._entity_infos,
        }
        return " ".join(str(env._logic.grammar.derive(rule, context)).split())


def play() -> None:
    """Play what is asked for on the standard input, until that ends."""
    answers = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # the library prints
    questions: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(questions,), daemon=True).start()
    game = _Game()
    while True:
        what, with_what = json.loads(questions.get())
        try:
            told = game.begin(with_what) if what == "begin" else game.act(with_what)
        except Exception as error:
            told = {"failed": f"{type(error).__name__}: {format_error(error)}"}
        answers.write(json.dumps(told).encode() + b"\n")
        answers.flush()


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
