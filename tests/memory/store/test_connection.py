"""Opening a database that is not one, is damaged, too new, in use, or on a full disk."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from memory import Database, errors
from memory.store import refusals, schema


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)


def test_a_new_database_makes_its_folder_and_knows_its_version(tmp_path: Path) -> None:
    path = tmp_path / "labs" / "first" / "lab.db"
    with Database(path) as database:
        assert database.connection.execute("PRAGMA user_version") == [(schema.VERSION,)]
        assert database.connection.execute("PRAGMA journal_mode") == [("wal",)]
    assert path.exists()


def test_a_database_can_live_in_memory_alone() -> None:
    with Database(":memory:") as database:
        database.settings.put("serving", "ad-1")
        assert database.settings.get("serving") == "ad-1"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.NotADatabase, match="is a folder"):
        Database(tmp_path)


def test_a_text_file_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_text("these are my notes, not a database\n")
    with pytest.raises(errors.NotADatabase, match="not an SQLite file") as refused:
        Database(path)
    one_line(refused.value)
    assert path.read_text() == "these are my notes, not a database\n"


def test_another_programs_database_is_refused_and_left_as_it_is(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE songs (name TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(errors.NotADatabase, match="another program"):
        Database(path)
    assert path.read_bytes() == before


def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(path: Path) -> None:
    with Database(path) as database:
        database.connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(errors.NewerDatabase, match="update the program"):
        Database(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kept", [40, 3000, 20_000])
def test_a_truncated_database_is_damaged(path: Path, kept: int) -> None:
    with Database(path) as database:
        database.settings.put("long", "x" * 50_000)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(errors.DamagedDatabase, match="restore it from a copy"):
        Database(path)


def test_an_emptied_database_keeps_its_write_ahead_log(path: Path) -> None:
    log = path.with_name(path.name + "-wal")
    path.touch()
    log.write_bytes(b"the only place where the last transactions are")
    with pytest.raises(errors.DamagedDatabase, match="write-ahead log"):
        Database(path)
    assert log.read_bytes() == b"the only place where the last transactions are"


def test_pages_overwritten_with_rubbish_are_named_as_damage(path: Path) -> None:
    with Database(path) as database:
        for number in range(50):
            database.journal.put("scope", f"key {number}", {"value": "x" * 2000})
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xa5" * (len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(errors.DamagedDatabase, match="is damaged"), Database(path) as database:
        database.journal.items("scope")


def test_a_leftover_empty_file_becomes_a_database(path: Path) -> None:
    path.touch()
    with Database(path) as database:
        assert database.episodes.find() == []


def test_reading_only_needs_a_database(path: Path) -> None:
    with pytest.raises(errors.DatabaseMissing, match="no database"):
        Database(path, readonly=True)
    assert not path.exists()


def test_reading_only_never_writes(database: Database, path: Path) -> None:
    database.settings.put("serving", "ad-1")
    with Database(path, readonly=True) as reader:
        assert reader.settings.get("serving") == "ad-1"
        with pytest.raises(errors.ReadOnlyDatabase, match="reading only"):
            reader.settings.put("serving", "ad-2")
    assert database.settings.get("serving") == "ad-1"


def test_a_migration_that_fails_leaves_the_database_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Database(path).close()

    def broken(tables: object) -> None:
        tables.execute("CREATE TABLE half (name TEXT)")  # type: ignore[attr-defined]
        raise RuntimeError("no")

    with monkeypatch.context() as future:
        future.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, broken))
        future.setattr(schema, "VERSION", schema.VERSION + 1)
        with pytest.raises(RuntimeError):
            Database(path)
    with Database(path) as database:
        assert "half" not in database.connection.tables.table_names()
        assert database.connection.execute("PRAGMA user_version") == [(schema.VERSION,)]


def test_a_writer_that_waits_in_vain_says_so(database: Database, path: Path) -> None:
    with Database(path, busy_timeout=0) as second, database.transaction():
        with pytest.raises(errors.DatabaseBusy, match="another process"):
            second.settings.put("serving", "ad-1")
        assert second.settings.get("serving") is None


def test_a_full_disk_is_named_and_costs_nothing_that_was_saved(database: Database) -> None:
    database.settings.put("first", 1)
    pages = database.connection.execute("PRAGMA page_count")[0][0]
    database.connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(errors.DiskFull, match="make room"), database.transaction():
        database.settings.put("second", 2)
        database.settings.put("long", "x" * 1_000_000)
    assert (database.settings.get("first"), database.settings.get("second")) == (1, None)
    database.connection.execute("PRAGMA max_page_count = 1000000")
    database.settings.put("long", "x" * 1_000_000)
    assert database.connection.execute("PRAGMA integrity_check") == [("ok",)]


def test_an_io_error_where_there_is_no_room_is_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = sqlite3.OperationalError("disk I/O error")  # what SQLite says where the file of its locks has no room
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    told = {"readonly": False, "busy_timeout": 1.0}
    assert not isinstance(refusals.translated(error, path, **told), errors.DiskFull)
    full = os.statvfs_result((4096, 4096, 100, 0, 0, 10, 10, 10, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    assert isinstance(refusals.translated(error, path, **told), errors.DiskFull)


@pytest.mark.parametrize("value", ["half \ud800", 2**63, -(2**63) - 1])
def test_a_value_that_no_database_can_hold_is_an_error_of_the_memory(database: Database, value: str | int) -> None:
    put = "INSERT INTO settings (key, value) VALUES ('k', ?)"
    with pytest.raises(errors.InvalidValue):
        database.connection.execute(put, (value,))
    with pytest.raises(errors.InvalidValue):
        database.connection.executemany(put, [("good",), (value,)])
    with pytest.raises(errors.InvalidValue):
        database.reflections.full_id(str(value) + "\udfff")
    assert database.connection.execute("SELECT count(*) FROM settings WHERE key = 'k'") == [(0,)]


def test_a_closed_database_says_so(path: Path) -> None:
    database = Database(path)
    database.close()
    database.close()
    with pytest.raises(errors.DatabaseClosed, match="open it again"):
        database.settings.get("serving")


def test_a_mistake_in_a_statement_is_an_error_of_the_memory(database: Database) -> None:
    with pytest.raises(errors.MemoryStoreError, match="no such table"):
        database.connection.execute("SELECT * FROM songs")


def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    with pytest.raises(KeyError), database.transaction():
        database.settings.put("a", 1)
        raise KeyError
    assert database.settings.get("a") is None


def test_an_inner_transaction_can_fail_alone(database: Database) -> None:
    with database.transaction():
        database.settings.put("outer", 1)
        with pytest.raises(KeyError), database.transaction():
            database.settings.put("inner", 2)
            raise KeyError
        database.settings.put("after", 3)
    assert [database.settings.get(key) for key in ("outer", "inner", "after")] == [1, None, 3]


def test_a_reader_in_a_transaction_sees_one_moment(database: Database, path: Path) -> None:
    database.settings.put("n", 1)
    with Database(path, readonly=True) as reader, reader.transaction():
        assert reader.settings.get("n") == 1
        database.settings.put("n", 2)
        assert reader.settings.get("n") == 1


def test_threads_share_one_database(database: Database) -> None:
    def work(name: str) -> None:
        for number in range(50):
            with database.transaction():
                count = database.settings.get("count", 0)
                database.settings.put("count", count + 1)
                database.journal.put(name, str(number), {})

    threads = [threading.Thread(target=work, args=(f"thread {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.settings.get("count") == 200


@pytest.mark.parametrize("more", [{}, {"readonly": True}, {"guest": True}], ids=["writer", "reader", "guest"])
def test_what_one_process_opens_twice_loses_nothing_where_another_process_comes_and_goes(
    path: Path, more: dict[str, bool]
) -> None:
    code = "import sys; from memory import Database; Database(sys.argv[1], readonly=True).close()"
    with Database(path) as database:
        Database(path, **more).close()  # whoever closes the file itself gives back what the first one has locked of it
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)
        database.settings.put("kept", 1)
        with Database(path, readonly=True) as other:
            assert other.settings.get("kept") == 1
        assert path.with_name(path.name + "-wal").exists()


def test_a_guest_makes_and_migrates_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.DatabaseMissing):
        Database(path, guest=True)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:12])
        patch.setattr(schema, "VERSION", 12)
        Database(path).close()
    before = path.read_bytes()
    with pytest.raises(errors.OlderDatabase, match="has version 12"):
        Database(path, guest=True)
    assert path.read_bytes() == before
    Database(path).close()
    with Database(path, guest=True) as guest:
        assert guest.inbox.get(guest.inbox.put("cli", "mend", "{}")) is not None


def test_a_copy_has_what_is_kept_by_now_and_nothing_that_waits_to_be_done(database: Database, tmp_path: Path) -> None:
    database.settings.put("serving", "ad-1")
    database.inbox.put("cli", "mend", "{}")
    database.copy(tmp_path / "copy.db")
    database.settings.put("serving", "ad-2")
    with Database(tmp_path / "copy.db") as copied:
        assert copied.settings.get("serving") == "ad-1"
        assert copied.inbox.next() is None
    assert database.inbox.next() is not None
