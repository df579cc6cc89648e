"""Processes that are really killed, at whatever they were doing, lose nothing that was acknowledged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from memory import Database, HashingEmbedder, ReflectionMemory

ROOT = Path(__file__).resolve().parents[2]

COMMON = """
import os, signal, sys
from pathlib import Path
from memory import Advice, Database, Episode, HashingEmbedder, Reflection, ReflectionMemory, Recall

folder = Path(sys.argv[1])
database = Database(folder / "lab.db")
memory = ReflectionMemory(database, HashingEmbedder(32), folder / "texts.faiss")

def batch(number):
    return [
        Reflection(
            id=f"rf-{number}-{item}", kind="grounded", env="e", task="t", text=f"note {number} of {item}",
            advice=[Advice(state=f"state {number} {item}", action="go", value=1.0)],
        )
        for item in range(5)
    ]

def done(word):
    print(word, flush=True)

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
"""

WRITE = """
number = len(database.reflections()) // 5
while True:
    database.put_episode(Episode(id=f"ep-{number}", run="r", env="e", split="train", seed=number, token_ids=[1] * 5000))
    memory.remember(batch(number))
    database.put_recalls(
        [Recall(episode=f"ep-{number}", reflection=f"rf-{number}-0", rank=0, query="q", score=1.0)]
    )
    memory.similar_states("state", env="e")
    memory.save()
    done(number)
    number += 1
"""

DIE_IN_A_TRANSACTION = """
memory.remember(batch(0))
done(0)
with database.transaction():
    for reflection in batch(1):
        database.put_reflection(reflection)
    die()
"""

DIE_BEFORE_THE_INDEX_IS_RENAMED = """
memory.remember(batch(0))
memory.save()
Path.replace = die
memory.remember(batch(1))
done(1)
memory.save()
"""

DIE_IN_THE_MIDDLE_OF_THE_INDEX_FILE = """
memory.remember(batch(0))
memory.save()
os.fsync = die
memory.remember(batch(1))
done(1)
memory.save()
"""

DIE_AFTER_THE_DATABASE_BEFORE_THE_INDEX = """
memory.remember(batch(0))
memory.save()
memory.index.follow = die
memory.remember(batch(1))
memory.save()
"""


def start(code: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMON + code, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def killed_after(lines: int, folder: Path) -> int:
    """Let a writer work until it has acknowledged `lines` batches, kill it, and say what it acknowledged last."""
    with start(WRITE, folder) as writer:
        assert writer.stdout
        acknowledged = [int(writer.stdout.readline()) for _ in range(lines)]
        writer.kill()
        # It may have acknowledged more before the signal reached it; a torn last line was not.
        acknowledged += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
    assert writer.returncode == -signal.SIGKILL
    return acknowledged[-1]


def check(folder: Path, acknowledged: int) -> list[str]:
    """All that was acknowledged is there, whole, and the indexes agree; returns what the memory said."""
    notes: list[str] = []
    with Database(folder / "lab.db") as database:
        assert database.execute("PRAGMA integrity_check") == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check") == []
        ids = [reflection.id for reflection in database.reflections()]
        assert len(ids) % 5 == 0 and len(set(ids)) == len(ids) >= 5 * (acknowledged + 1)
        for number in range(acknowledged + 1):
            if database.recalls_of(f"rf-{number}-0"):
                assert len(database.episode(f"ep-{number}").token_ids) == 5000
        assert len(database.execute("SELECT * FROM advice")) == len(ids)
        with ReflectionMemory(database, HashingEmbedder(32), folder / "texts.faiss", notify=notes.append) as memory:
            number = len(ids) // 5 - 1
            assert memory.search(f"note {number} of 3", k=1)[0].parts["cosine"] == pytest.approx(1)
            assert memory.similar_states(f"state {number} 3", env="e", k=1)[0][1] == pytest.approx(1)
            assert len(memory.index) == len(memory.state_index) == len(ids)
    assert list(folder.glob("*.new")) == []
    return notes


def test_a_writer_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    for lines in (1, 4, 9, 2):
        last = killed_after(lines, tmp_path)
        with Database(tmp_path / "lab.db", readonly=True) as database:
            assert len(database.recalls_for(f"ep-{last}")) == 1
        # The file of the index was whole at every moment, so that nothing had to be made again.
        assert check(tmp_path, last) == []


def killed_itself(code: str, folder: Path) -> None:
    with start(code, folder) as process:
        process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_a_kill_within_a_transaction_leaves_nothing_of_it(tmp_path: Path) -> None:
    killed_itself(DIE_IN_A_TRANSACTION, tmp_path)
    with Database(tmp_path / "lab.db") as database:
        assert [reflection.id for reflection in database.reflections()] == [f"rf-0-{item}" for item in range(5)]
    check(tmp_path, 0)


@pytest.mark.parametrize(
    "code",
    [
        DIE_BEFORE_THE_INDEX_IS_RENAMED,
        DIE_IN_THE_MIDDLE_OF_THE_INDEX_FILE,
        DIE_AFTER_THE_DATABASE_BEFORE_THE_INDEX,
    ],
)
def test_a_kill_while_the_index_is_written_costs_nothing(code: str, tmp_path: Path) -> None:
    killed_itself(code, tmp_path)
    check(tmp_path, 1)


def test_readers_see_whole_batches_while_one_process_writes(tmp_path: Path) -> None:
    with start(WRITE, tmp_path) as writer:
        assert writer.stdout
        writer.stdout.readline()
        readers = [Database(tmp_path / "lab.db", readonly=True) for _ in range(3)]
        memories = [ReflectionMemory(reader, HashingEmbedder(32), tmp_path / "texts.faiss") for reader in readers]
        seen = 0
        for _ in range(15):
            acknowledged = int(writer.stdout.readline())
            for reader, memory in zip(readers, memories, strict=True):
                count = reader.count_reflections()
                assert count % 5 == 0 and count >= max(seen, 5 * (acknowledged + 1))
                assert memory.search(f"note {acknowledged} of 2", k=1)[0].parts["cosine"] == pytest.approx(1)
                seen = count
        writer.kill()
        for reader in readers:
            reader.close()


def test_two_processes_that_open_a_new_lab_at_once_both_write(tmp_path: Path) -> None:
    code = "input()\ndatabase.close()\n"  # Waits until both were started, so that neither has closed the file yet.
    both = [
        subprocess.Popen(
            [sys.executable, "-c", COMMON + f"database.put_setting('{name}', 1)\ndone('ok')\n" + code, str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for name in ("a", "b")
    ]  # fmt: skip
    for process in both:
        assert process.stdout and process.stdout.readline() == "ok\n"
    assert [process.communicate("\n")[0] for process in both] == ["", ""]
    with Database(tmp_path / "lab.db") as database:
        settings = {key: json.loads(value) for key, value in database.execute("SELECT key, value FROM settings")}
    assert settings == {"a": 1, "b": 1}
