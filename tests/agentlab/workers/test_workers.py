from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from agentlab.errors import AgentLabError, BadConfig
from agentlab.workers import NoRoom, WorkerDied, Workers, received, workers_of
from agentlab.workers.base import packed
from agentlab.workers.processes import ProcessWorker

HELD = """
import os, threading, time


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__("an odd error")
        self.lock = threading.Lock()


class Held:
    def __init__(self, mark=""):
        self.known, self.mark = [], mark

    def add(self, value):
        self.known.append(value)
        return list(self.known)

    def pid(self):
        print("a library prints")
        return os.getpid()

    def fail(self, text):
        raise KeyError(text)

    def fail_oddly(self):
        raise Odd(1, 2)

    def wait(self):
        open(self.mark + ".waits", "w").close()
        time.sleep(600)

    def die(self):
        os._exit(7)

    def close(self):
        if self.mark:
            open(self.mark + ".closed", "w").close()
"""


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A class that workers can hold, as they are told of it."""
    (tmp_path / "held_by_a_worker.py").write_text(HELD)
    monkeypatch.syspath_prepend(tmp_path)
    return "held_by_a_worker:Held"


@pytest.fixture
def worker(held: str, tmp_path: Path) -> Iterator[ProcessWorker]:
    one = ProcessWorker((held, ()), str(tmp_path))
    yield one
    one.kill()


def surroundings() -> dict[str, str]:
    """What a program needs to find the same modules."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def until(holds: Callable[[], bool]) -> None:
    """Wait for something that comes."""
    ends = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < ends, "it did not come"
        time.sleep(0.02)


def test_a_worker_keeps_what_it_holds_and_raises_what_that_raises(worker: ProcessWorker) -> None:
    assert worker.call("add", 1) == [1]
    with pytest.raises(KeyError, match="no such thing"):
        worker.call("fail", "no such thing")
    with pytest.raises(AgentLabError, match="Odd: an odd error"):  # one that cannot be sent
        worker.call("fail_oddly")
    assert worker.call("add", 2) == [1, 2]
    assert worker.call("pid") == worker.pid != os.getpid()


def test_ctrl_c_is_for_the_program_and_not_for_its_workers(worker: ProcessWorker) -> None:
    assert worker.call("add", 1) == [1]
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGINT)
    assert worker.call("add", 2) == [1, 2]


def test_one_that_dies_says_how_and_another_takes_its_seat(held: str, tmp_path: Path) -> None:
    workers = Workers(1, lambda: ProcessWorker((held, ()), str(tmp_path)))
    with workers.lend() as seat:
        first = seat.worker
        assert first.call("add", 1) == [1]
        with pytest.raises(WorkerDied, match="exit code 7"):
            first.call("die")
        seat.empty()
        assert seat.worker is not first
        assert seat.worker.call("add", 5) == [5]
    workers.close()


def test_a_seat_for_which_there_is_no_worker_any_more_is_given_up_for_another(held: str, tmp_path: Path) -> None:
    workers = Workers(2, lambda: ProcessWorker((held, ()), str(tmp_path)))
    with workers.lend() as seat:
        other = workers.instead(seat)
        assert other is not seat and workers.count == 1
        assert other.worker.call("add", 1) == [1]
    with workers.lend() as again:
        assert again is other, "it was given back in place of the one that was lent"
        waiting, told = [], list[str]()

        def ask() -> None:
            try:
                with workers.lend():
                    told.append("lent")
            except NoRoom as error:
                told.append(type(error).__name__)

        for _ in range(2):
            waiting.append(threading.Thread(target=ask))
            waiting[-1].start()
        with pytest.raises(NoRoom):
            workers.instead(again)
        for one in waiting:
            one.join(60)
    assert told == ["NoRoom", "NoRoom"] and workers.count == 0
    workers.close()


def test_one_that_cannot_begin_says_what_a_script_needs(held: str, tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from agentlab.workers.processes import ProcessWorker\n"
        f"worker = ProcessWorker(({held!r}, ()), {str(tmp_path)!r})\nprint(worker.call('add', 1))\n"
    )
    ended = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        env=surroundings(),
    )
    assert ended.returncode != 0
    assert '`if __name__ == "__main__":`' in ended.stderr.splitlines()[-1]


def test_who_waits_for_one_is_told_when_all_are_given_up(held: str, tmp_path: Path) -> None:
    mark = str(tmp_path / "mark")
    workers, seen = Workers(2, lambda: ProcessWorker((held, (mark,)), str(tmp_path))), list[str]()

    def ask() -> None:
        with workers.lend() as seat:
            try:
                seat.worker.call("wait")
            except WorkerDied as error:
                seen.append(str(error))

    waiting = threading.Thread(target=ask)
    waiting.start()
    until(Path(mark + ".waits").exists)
    workers.give_up()
    waiting.join(60)
    assert len(seen) == 1
    assert not [one for one in psutil.Process().children() if "spawn_main" in " ".join(one.cmdline())]
    with workers.lend() as seat:  # whoever asks later is served
        assert seat.worker.call("add", 1) == [1]
    workers.close()


def test_they_end_tidily_with_a_program_that_is_killed_and_print_nothing_among_its_output(
    held: str, tmp_path: Path
) -> None:
    mark, place = tmp_path / "mark", tmp_path / "place"
    place.mkdir()
    script = tmp_path / "program.py"
    script.write_text(
        "import time\nfrom agentlab.workers.processes import ProcessWorker\n"
        "if __name__ == '__main__':\n"
        f"    worker = ProcessWorker(({held!r}, ({str(mark)!r},)), {str(place)!r})\n"
        "    print(worker.call('pid'), flush=True)\n    time.sleep(600)\n"
    )
    program = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        text=True,
        env=surroundings(),
    )
    assert program.stdout is not None
    pid = int(program.stdout.readline())
    assert psutil.pid_exists(pid)
    program.kill()
    program.wait()
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    assert Path(f"{mark}.closed").exists()
    assert not place.exists()
    program.stdout.close()


@pytest.mark.parametrize("asked", ["1", "3", "256"])
def test_a_number_is_so_many_processes_which_share_the_processors(asked: str, held: str) -> None:
    workers = workers_of(asked, (held, ()))
    assert workers.count == int(asked)
    assert workers.threads == max(1, len(os.sched_getaffinity(0)) // int(asked))
    assert workers_of(asked, (held, ()), threads=3).threads == 3
    workers.close()


@pytest.mark.parametrize(
    "asked",
    [
        "0",
        "257",
        "-1",
        "",
        "two",
        "1.5",
        "²",
        "ray://",
        "ray:2",
        "ray?workers=0",
        "ray?workers=",
        "ray?cpus=2",
        "http://x",
    ],
)
def test_what_names_no_workers_is_refused_in_a_line(asked: str, held: str) -> None:
    with pytest.raises(BadConfig, match="workers") as refused:
        workers_of(asked, (held, ()))
    assert "\n" not in str(refused.value)


def test_a_folder_comes_whole_to_a_worker_however_it_is_sent(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "weights").write_bytes(b"\0weights")
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "lab.db").write_bytes(b"database")
    (folder / "adapter").symlink_to(elsewhere, target_is_directory=True)
    for number, shared in enumerate((folder, packed(folder))):
        received(shared, tmp_path / str(number))
        assert (tmp_path / str(number) / "lab.db").read_bytes() == b"database"
        assert (tmp_path / str(number) / "adapter" / "weights").read_bytes() == b"\0weights"
