"""A database of an earlier version: a copy of it is made first, then all of it is migrated, or nothing."""

from __future__ import annotations

import json
import signal
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory import Database, Reflection, errors
from memory.store import schema

Maker = Callable[..., Reflection]
KILLED = """
import os, signal
from pathlib import Path
from memory.store import connection, schema
from memory import Database

path, moment = Path(sys.argv[1]), sys.argv[2]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if moment == "copying":
    Path.replace = die
elif moment == "migrating":
    last = schema.MIGRATIONS[-1]
    def half(db):
        last(db)
        die()
    schema.MIGRATIONS = (*schema.MIGRATIONS[:-1], half)
Database(path)
"""


@pytest.fixture
def old(older: Callable[..., Any], path: Path, reflection: Maker) -> Path:
    """A database of version 9 with one recall that was held out."""
    with older(9, reflection("rf-1", "The silver key.")) as database:
        database.connection.execute(
            "INSERT INTO recalls (episode, reflection, face, rank, query, score, parts, at, withheld, propensity, "
            "counted) VALUES ('ep-1', 'rf-1', 'exemplar', 0, 'q', 1.0, '{}', '2026-01-01', 1, 0.5, 1)"
        )
    return path


def held_out(path: Path) -> list[tuple[str, bool]]:
    with Database(path) as database:
        (total,) = database.connection.execute("SELECT n, held_out FROM recall_totals")
        assert total == (1, 1)
        return [(recall.channel, recall.held_out) for recall in database.recalls.of_reflection("rf-1")]


def version(path: Path) -> int:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_a_copy_is_made_before_a_database_is_migrated_and_only_once(old: Path) -> None:
    said: list[str] = []
    Database(old, notify=said.append).close()
    copy = old.with_name("lab.version-9.db")
    (line,) = said
    assert copy.name in line
    assert (version(copy), version(old)) == (9, schema.VERSION)
    assert held_out(old) == [("exemplar", True)]
    Database(old, notify=said.append).close()
    assert len(said) == 1
    assert sorted(file.name for file in old.parent.glob("*.db*") if "-" not in file.suffix) == [old.name, copy.name]


def test_a_reader_sees_a_database_of_any_version_migrated_and_changes_nothing(old: Path) -> None:
    before, said = old.read_bytes(), list[str]()
    with Database(old, readonly=True, notify=said.append) as reader:
        assert [recall.channel for recall in reader.recalls.of_reflection("rf-1")] == ["exemplar"]
        with pytest.raises(errors.ReadOnlyDatabase):
            reader.settings.put("serving", "ad-1")
    assert len(said) == 1 and "version 9" in said[0]
    assert [file.name for file in old.parent.iterdir()] == [old.name] and old.read_bytes() == before


@pytest.mark.parametrize("moment", ["copying", "migrating"])
def test_a_kill_in_the_middle_of_a_migration_loses_nothing_and_the_next_one_goes_on(
    moment: str, old: Path, in_a_process: Callable[..., tuple[int, str]]
) -> None:
    code, _ = in_a_process(KILLED, str(old), moment)
    assert code == -signal.SIGKILL
    assert version(old) == 9
    assert held_out(old) == [("exemplar", True)]
    assert version(old.with_name("lab.version-9.db")) == 9
    assert not list(old.parent.glob("*.partial"))


def test_without_room_for_a_copy_nothing_is_changed(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = old.read_bytes()

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "replace", full)
        with pytest.raises(errors.CannotMigrate, match="make room") as refused:
            Database(old)
    assert "\n" not in str(refused.value)
    assert old.read_bytes() == before
    assert [file.name for file in old.parent.iterdir() if not file.name.endswith(("-wal", "-shm"))] == [old.name]
    assert held_out(old) == [("exemplar", True)]


def test_what_episodes_took_and_what_failed_in_them_is_read_out_of_them(path: Path, older: Callable[..., Any]) -> None:
    def payload(stored: object) -> bytes:
        return zlib.compress(json.dumps(stored).encode())

    usage = {"input_tokens": 120, "output_tokens": 7, "seconds": 1.5, "cost": 0.25}
    stored = {
        "took": payload({"usage": usage}),
        "failed": payload({"error_kind": "engine", "usage": {"input_tokens": 3}}),
        "plain": payload({}),
        "odd": payload({"usage": {"cost": None, "input_tokens": None}, "error_kind": None}),
        "none": payload({"usage": None}),
        "damaged": b"no payload",
        "torn": zlib.compress(b'{"usage": {'),
    }
    with older(10) as database:
        for number, (id, content) in enumerate(stored.items()):
            database.connection.execute(
                "INSERT INTO episodes (number, id, run, env, split, seed, task, status, score, steps, seconds, "
                "payload) VALUES (?, ?, 'r', 'e', 'train', 0, 'e:train:0', 'won', 1, 2, 3, ?)",
                (number + 1, id, content),
            )
    with Database(path) as database:
        columns = "id, error_kind, input_tokens, output_tokens, cost"
        found = {row[0]: row[1:] for row in database.connection.execute(f"SELECT {columns} FROM episodes")}
        assert found["took"] == (None, 120, 7, 0.25)
        assert found["failed"] == ("engine", 3, 0, 0.0)
        assert all(found[id] == (None, 0, 0, 0.0) for id in ("plain", "odd", "none", "damaged", "torn"))
        totals = database.episodes.totals()
        assert (totals.n, totals.input_tokens, totals.output_tokens, totals.cost) == (7, 123, 7, 0.25)
        assert database.events.last() == []
    assert version(path.with_name("lab.version-10.db")) == 10


def test_a_listing_is_answered_by_an_index_that_holds_no_payload(database: Database) -> None:
    for sql in (
        "SELECT env, arm, count(*), sum(status = 'won') FROM episodes GROUP BY env, arm",
        "SELECT sum(steps), sum(input_tokens), sum(cost), sum(seconds) FROM episodes WHERE minimised_from IS NULL",
        "SELECT status, count(*) FROM reflections WHERE namespace = '' GROUP BY status",
    ):
        plan = " ".join(row[3] for row in database.connection.execute(f"EXPLAIN QUERY PLAN {sql}"))
        assert "COVERING INDEX" in plan, plan


def test_a_reader_knows_whether_it_sees_what_others_write(path: Path, older: Callable[..., Any]) -> None:
    with older(10):
        pass
    with Database(path, readonly=True) as old:
        assert old.connection.frozen
    with Database(path) as writer:
        assert not writer.connection.frozen
        with Database(path, readonly=True) as reader:
            assert not reader.connection.frozen
