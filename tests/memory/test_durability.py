"""Processes that are really killed, at whatever they were doing, lose nothing that was acknowledged.

The test suite kills at a few random moments. More, for a night or a release:

    AGENTLAB_KILLS=200 python -m pytest tests/memory/test_durability.py -k random_moments
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from memory import Database, HashingEmbedder, ReflectionMemory
from memory.store import Filter

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("AGENTLAB_KILLS", "8"))
LIVES = 20
"""Kills that one memory lives through."""

COMMON = """
import os, signal, sys
from pathlib import Path
from memory import Advice, Database, Episode, Filter, HashingEmbedder, Reflection, ReflectionMemory, Recall

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
number = len(database.reflections.find()) // 5
while True:
    database.episodes.put(
        Episode(id=f"ep-{number}", run="r", env="e", split="train", seed=number, token_ids=[1] * 5000)
    )
    memory.remember(batch(number))
    database.recalls.put(
        [Recall(episode=f"ep-{number}", reflection=f"rf-{number}-0", rank=0, query="q", score=1.0)]
    )
    memory.similar_states("state", wanted=Filter(env="e"))
    memory.save()
    done(number)
    number += 1
"""

WRITE_AND_CONSOLIDATE = """
from memory import Evidence, Step
from memory.consolidation.consolidation import Consolidation, ConsolidationConfig

config = ConsolidationConfig(summary=4, similar=0.2, duplicate=0.95, batch=2)
number = database.connection.execute("SELECT count(*) FROM episodes")[0][0]

def lived(number, won):
    steps = [
        Step(index=i, observation=f"room {i}", state=f"room {i}", admissible=["go"], action="go", result="",
             next_state=f"room {i + 1}", reward=float(won and i == 2))
        for i in range(3)
    ]
    return Episode(id=f"ep-{number}-{won}", run="r", env="e", split="train", seed=number // 2, trial=number % 2,
                   goal="Leave.", status="won" if won else "lost", score=float(won), steps=steps)

while True:
    with database.transaction():
        episode = lived(number, number % 2)
        database.episodes.put(episode)
        memory.remember([
            Reflection(
                id=f"rf-{number}-{item}", kind="grounded", env="e", task=episode.task_id, run="r",
                text=f"The way out of the house is behind door {item + number % 3}.",  # others say the same
                tags=["won"] if episode.won else [], evidence=[Evidence(episode=episode.id, steps=[0])],
                created_at=f"2020-01-{1 + number % 28:02}T00:00:00.000000+00:00" if item == 4 else episode.started_at,
            )
            for item in range(5)
        ])
        database.recalls.put([Recall(episode=episode.id, reflection=f"rf-{number}-0", rank=0, query="q", score=1.0)])
    done(number)
    memory.search("the way out", k=1)
    if number % 2:
        Consolidation(memory, config).run()
        memory.save()
    number += 1
"""

DIE_IN_A_TRANSACTION = """
memory.remember(batch(0))
done(0)
with database.transaction():
    for reflection in batch(1):
        database.reflections.put(reflection)
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
        assert database.connection.execute("PRAGMA integrity_check") == [("ok",)]
        assert database.connection.execute("PRAGMA foreign_key_check") == []
        ids = [reflection.id for reflection in database.reflections.find()]
        assert len(ids) % 5 == 0 and len(set(ids)) == len(ids) >= 5 * (acknowledged + 1)
        for number in range(acknowledged + 1):
            if database.recalls.of_reflection(f"rf-{number}-0"):
                assert len(database.episodes.get(f"ep-{number}").token_ids) == 5000
        assert len(database.connection.execute("SELECT * FROM advice")) == len(ids)
        with ReflectionMemory(database, HashingEmbedder(32), folder / "texts.faiss", notify=notes.append) as memory:
            number = len(ids) // 5 - 1
            assert memory.search(f"note {number} of 3", k=1)[0].parts["cosine"] == pytest.approx(1)
            assert memory.similar_states(f"state {number} 3", wanted=Filter(env="e"), k=1)[0][1] == pytest.approx(1)
            assert len(memory.index) == len(memory.state_index) == len(ids)
    assert list(folder.glob("*.new")) == []
    return notes


def test_a_writer_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    for lines in (1, 4, 9, 2):
        last = killed_after(lines, tmp_path)
        with Database(tmp_path / "lab.db", readonly=True) as database:
            assert len(database.recalls.of_episode(f"ep-{last}")) == 1
        # The file of the index was whole at every moment, so that nothing had to be made again.
        assert check(tmp_path, last) == []


def test_kills_at_random_moments_of_writing_and_consolidating_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    chance = random.Random(0)
    for number in range(KILLS):
        folder = tmp_path / str(number // LIVES)
        folder.mkdir(exist_ok=True)
        with start(WRITE_AND_CONSOLIDATE, folder) as process:
            assert process.stdout
            said = process.stdout.readline()  # from here on it works
            select.select([], [], [], chance.uniform(0, 0.3))
            process.kill()
            said += process.stdout.read()
        assert process.returncode == -signal.SIGKILL
        check_consolidated(folder, int(said.rpartition("\n")[0].rpartition("\n")[2]))


def check_consolidated(folder: Path, acknowledged: int) -> None:
    with Database(folder / "lab.db") as database:
        assert database.connection.execute("PRAGMA integrity_check") == [("ok",)]
        assert database.connection.execute("PRAGMA foreign_key_check") == []
        database.connection.execute("INSERT INTO reflections_fts (reflections_fts) VALUES ('integrity-check')")
        kept = {item.id: item for item in database.reflections.find()}
        assert len(kept) == database.connection.execute("SELECT count(*) FROM reflections")[0][0]
        raw = {id for id, item in kept.items() if item.tier == "raw"}
        # Batches of five, whole, and none lost; the last may not have been acknowledged any more.
        batches = len(raw) // 5
        assert batches in (acknowledged + 1, acknowledged + 2)
        assert raw == {f"rf-{number}-{item}" for number in range(batches) for item in range(5)}
        assert database.connection.execute("SELECT count(*), count(DISTINCT episode) FROM recalls") == [
            (batches, batches)
        ]
        # What a consolidation did, it did wholly.
        for item in kept.values():
            into = [link.target for link in database.links.of(item.id, kind="merged") if link.source == item.id]
            assert item.status != "merged" or into == [item.merged_into]
            assert set(item.derived_from) <= kept.keys()
        assert [operation for operation in database.operations.recent() if not operation.changed] == []
        summed_up = [tuple(sorted(item.derived_from)) for item in kept.values() if item.tier == "summary"]
        assert len(set(summed_up)) == len(summed_up)
        with ReflectionMemory(database, HashingEmbedder(32), folder / "texts.faiss") as memory:
            memory.search("the way out", k=1)
            rows = database.connection.execute("SELECT number, text FROM reflections ORDER BY number")
            assert len(memory.index) == len(rows)
            held = memory.index.vectors([number for number, _ in rows])
            np.testing.assert_array_equal(held, memory.embedder.embed([text for _, text in rows]))


def killed_itself(code: str, folder: Path) -> None:
    with start(code, folder) as process:
        process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_a_kill_within_a_transaction_leaves_nothing_of_it(tmp_path: Path) -> None:
    killed_itself(DIE_IN_A_TRANSACTION, tmp_path)
    with Database(tmp_path / "lab.db") as database:
        assert [reflection.id for reflection in database.reflections.find()] == [f"rf-0-{item}" for item in range(5)]
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
                count = reader.reflections.count()
                assert count % 5 == 0 and count >= max(seen, 5 * (acknowledged + 1))
                assert memory.search(f"note {acknowledged} of 2", k=1)[0].parts["cosine"] == pytest.approx(1)
                seen = count
        writer.kill()
        for reader in readers:
            reader.close()


def test_a_new_file_that_another_one_is_about_to_write_is_waited_for(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "lab.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    ended = threading.Timer(0.2, other.execute, ["COMMIT"])
    ended.start()
    with Database(tmp_path / "lab.db") as database:
        assert database.connection.execute("PRAGMA journal_mode") == [("wal",)]
    ended.join()
    other.close()


def test_two_processes_that_open_a_new_lab_at_once_both_write(tmp_path: Path) -> None:
    code = "input()\ndatabase.close()\n"  # Waits until both were started, so that neither has closed the file yet.
    both = [
        subprocess.Popen(
            [sys.executable, "-c", COMMON + f"database.settings.put('{name}', 1)\ndone('ok')\n" + code, str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for name in ("a", "b")
    ]  # fmt: skip
    for process in both:
        assert process.stdout and process.stdout.readline() == "ok\n"
    assert [process.communicate("\n")[0] for process in both] == ["", ""]
    with Database(tmp_path / "lab.db") as database:
        settings = {
            key: json.loads(value) for key, value in database.connection.execute("SELECT key, value FROM settings")
        }
    assert settings == {"a": 1, "b": 1}
