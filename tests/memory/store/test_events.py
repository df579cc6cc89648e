from __future__ import annotations

from pathlib import Path

import pytest

from memory import Database, errors


def test_events_come_back_in_the_order_in_which_they_were_put(database: Database) -> None:
    database.events.put("say", note="Hello.")
    database.events.put("start", "Playing", 0, 4)
    database.events.put("advance", "Playing", 2, 4, "half")
    database.events.put("finish", "Playing", 4, 4)
    found = database.events.last()
    assert [(event.kind, event.stage, event.done, event.total, event.note) for event in found] == [
        ("say", "", 0, 0, "Hello."),
        ("start", "Playing", 0, 4, ""),
        ("advance", "Playing", 2, 4, "half"),
        ("finish", "Playing", 4, 4, ""),
    ]
    assert [event.at for event in found] == sorted(event.at for event in found)
    assert found[0].number < found[-1].number


def test_the_newest_are_read_and_the_starts_before_them(database: Database) -> None:
    database.events.put("start", "Playing", 0, 100)
    for done in range(50):
        database.events.put("advance", "Playing", done, 100)
    found = database.events.last(limit=10)
    assert [(event.kind, event.done) for event in found] == [
        ("start", 0),
        *(("advance", done) for done in range(40, 50)),
    ]


def test_those_before_a_moment_are_left_out(database: Database) -> None:
    database.events.put("start", "one", 0, 1)
    first = database.events.last()[0].at
    database.events.put("start", "two", 0, 1)
    later = database.events.last()[1].at
    assert [event.stage for event in database.events.last(since=first)] == ["one", "two"]
    assert [event.stage for event in database.events.last(since=later)] == ["two"]
    assert database.events.last(since="9999") == []


def test_there_may_be_none(database: Database) -> None:
    assert database.events.last() == []


def test_a_reader_sees_events_of_another_process_and_adds_none(database: Database, path: Path) -> None:
    with Database(path, readonly=True) as reader:
        database.events.put("start", "Playing", 0, 4)
        assert [event.stage for event in reader.events.last()] == ["Playing"]
        with pytest.raises(errors.ReadOnlyDatabase):
            reader.events.put("say", note="x")
