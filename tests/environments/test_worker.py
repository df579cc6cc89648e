from __future__ import annotations

import copy
import gc
import math
import pickle
import sqlite3
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from environments import EnvironmentDied, EnvironmentHung, Task, TextEnv, Turn, dispose, make, register, unregister
from environments.worker import Worker, format_error


class Does(TextEnv):
    """Does at each action what it is told to do."""

    answer_limit = 30.0

    def __init__(self, deed: Callable[[], Any] = lambda: None) -> None:
        super().__init__("own/does", step_limit=9)
        self.deed = deed

    def begin(self, task: Task) -> Turn:
        return Turn("A room.", ["go"], goal="Leave.")

    def act(self, action: str) -> Turn:
        self.deed()
        return Turn("A room.", ["go"])


def begun(deed: Callable[[], Any]) -> Does:
    env = Does(deed)
    env.reset(seed=0)
    return env


@pytest.fixture
def never() -> Any:
    """An event that nobody sets while the test runs."""
    event = threading.Event()
    yield event
    event.set()


def test_one_that_hangs_is_given_up_and_of_no_further_use(never: threading.Event) -> None:
    env = begun(never.wait)
    env.answer_limit = 0.05
    with pytest.raises(EnvironmentHung, match=r"own/does.*more than 0\.05 s.*answer_limit"):
        env.step("go")
    with pytest.raises(EnvironmentHung):
        env.reset(seed=0)


@pytest.mark.parametrize("limit", [math.inf, 10**400], ids=["infinity", "more than a float holds"])
def test_one_may_take_as_long_as_it_likes(limit: float) -> None:
    env = begun(lambda: None)
    env.answer_limit = limit
    assert env.step("go")[0] == "A room."


@pytest.mark.parametrize("leave", [lambda: sys.exit("I give up"), lambda: exec("raise KeyboardInterrupt")])
def test_one_that_wants_to_end_the_program_only_ends_itself(leave: Callable[[], Any]) -> None:
    with pytest.raises(EnvironmentDied, match=r"own/does.*wanted to end the program"):
        begun(leave).step("go")


def test_what_it_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        begun(lambda: 1 // 0).step("go")


def test_who_waits_can_be_told_to_wait_no_longer(never: threading.Event) -> None:
    began, ended = threading.Event(), list[BaseException]()
    env = begun(lambda: (began.set(), never.wait()))

    def wait() -> None:
        try:
            env.step("go")
        except LookupError as error:
            ended.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    began.wait()
    env.worker.give_up(LookupError("stop"))
    waiting.join()
    assert str(ended[0]) == "stop"
    with pytest.raises(LookupError):
        env.reset(seed=0)


def test_an_environment_may_call_itself() -> None:
    class Nested(Does):
        def act(self, action: str) -> Turn:
            if action == "twice":
                self._over = False
                self.step("go")
            return super().act(action)

    env = Nested()
    env.reset(seed=0)
    assert env.step("twice")[0] == "A room."


def test_it_is_made_and_runs_in_one_thread_of_its_own() -> None:
    class Kept(Does):
        def __init__(self) -> None:
            super().__init__(lambda: self.rows.execute("SELECT 1"))
            self.rows = sqlite3.connect(":memory:")  # works only in the thread in which it was made

        def close(self) -> None:
            self.rows.close()

    register("own/kept", Kept)
    try:
        env = make("own/kept")
    finally:
        unregister("own/kept")
    env.reset(seed=0)
    assert env.step("go")[0] == "A room."
    dispose(env)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        env.step("go")


def test_its_thread_ends_with_it() -> None:
    env = begun(lambda: None)
    env.step("go")
    thread = env.worker._thread
    gone = weakref.ref(env)
    del env
    gc.collect()
    assert gone() is None
    assert thread is not None
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize("raises", [RuntimeError("cannot close"), SystemExit(3), KeyboardInterrupt()])
def test_to_dispose_of_one_is_safe_whatever_its_close_does(raises: BaseException) -> None:
    class Bad:
        env_id = "own/bad"

        def close(self) -> None:
            raise raises

    dispose(Bad())


def test_a_daemon_makes_the_calls_so_that_the_program_can_end() -> None:
    worker = Worker("own/any")
    assert worker.call(lambda: threading.current_thread().daemon, 30)


def test_an_errors_words_fit_into_one_line_that_can_be_stored() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert format_error(RuntimeError("a\nb \ud83d")) == "a b ?"
    assert len(format_error(RuntimeError("x" * 1000))) == 200
    assert format_error(Mute()) == ""


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_of_an_environment_plays_by_itself(copied: Callable[[Any], Any]) -> None:
    env = make("toy/doors")
    task = Task(env="toy/doors", split="train", seed=0)
    begun = env.start(task)
    other = copied(env)
    assert other.start(task) == begun
    if copied is not copy.copy:
        assert other.worker is not env.worker
