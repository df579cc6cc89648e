"""What a program at work leaves in the lab for those who look on: enough to follow it, and never at its cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentlab.lab import Lab
from agentlab.progress import Progress
from agentlab.workspace.recorded import NOTE, Recorded
from memory import Database
from memory.errors import DiskFull


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Any:
    with Database(tmp_path / "lab.db") as database:
        yield database


def written(database: Database) -> list[tuple[str, str, int, int]]:
    return [(event.kind, event.stage, event.done, event.total) for event in database.events.last()]


def test_a_stage_is_told_of_once_a_second_at_most_and_always_at_its_start_and_end(
    database: Database, clock: Clock
) -> None:
    progress = Recorded(Progress(), lambda: database.events, clock)
    progress.start("Playing", 1000)
    for _ in range(1000):
        clock.time += 0.01
        progress.advance("Playing")
    progress.finish("Playing")
    events = written(database)
    assert events[0] == ("start", "Playing", 0, 1000) and events[-1] == ("finish", "Playing", 1000, 1000)
    assert 9 <= len(events) - 2 <= 10
    assert [done for _, _, done, _ in events] == sorted(done for _, _, done, _ in events)


def test_each_stage_has_a_second_of_its_own(database: Database, clock: Clock) -> None:
    progress = Recorded(Progress(), lambda: database.events, clock)
    progress.start("one", 2)
    progress.start("two", 2)
    clock.time = 1.5
    progress.advance("one")
    progress.advance("two", note="half")
    progress.advance("one")
    assert written(database)[2:] == [("advance", "one", 1, 2), ("advance", "two", 1, 2)]


def test_what_is_advanced_or_ended_without_a_start_is_told_to_the_bar_alone(
    database: Database, clock: Clock, told: Any
) -> None:
    progress = Recorded(told, lambda: database.events, clock)
    told.stages["odd"] = (0, 1)
    progress.advance("odd")
    progress.finish("odd")
    assert told.stages["odd"] == (1, 1) and told.finished == ["odd"]
    assert written(database) == []


def test_a_line_for_the_person_is_kept_but_not_all_of_a_long_one(database: Database, told: Any) -> None:
    progress = Recorded(told, lambda: database.events)
    progress.say("Loading the model." + "x" * 10_000)
    (event,) = database.events.last()
    assert event.kind == "say" and event.note.startswith("Loading") and len(event.note) == NOTE
    assert len(told.messages[0]) > 10_000


@pytest.mark.parametrize(
    ("note", "units"), [("half a character \ud800", 1), ("", 10**30), ("\x00\x1b[31m</script>", 1), ("é" * 5000, -3)]
)
def test_what_cannot_be_written_hurts_no_work(
    note: str, units: int, database: Database, clock: Clock, told: Any
) -> None:
    progress = Recorded(told, lambda: database.events, clock)
    progress.start("Playing", units)
    clock.time = 2
    progress.advance("Playing", units, note)
    progress.finish("Playing", note)
    progress.say(note)
    assert told.finished == ["Playing"] and told.messages == [note]


def test_a_full_disk_a_closed_and_a_read_only_file_hurt_no_work(database: Database, told: Any, tmp_path: Path) -> None:
    class Full:
        def put(self, *_: object) -> None:
            raise DiskFull("The disk is full; make room.")

    database.close()
    with Database(tmp_path / "lab.db", readonly=True) as readonly:
        for events in (Full(), database.events, readonly.events):
            progress = Recorded(told, lambda events=events: events)  # type: ignore[misc, arg-type]
            progress.start("Playing", 1)
            progress.advance("Playing")
            progress.finish("Playing")
            progress.say("Done.")
    assert told.finished == ["Playing"] * 3 and told.messages == ["Done."] * 3


def test_nothing_is_opened_in_order_to_tell(open_lab: Any) -> None:
    lab: Lab = open_lab()
    lab.progress.say("Hello.")
    lab.progress.start("Thinking", 1)
    assert "database" not in lab.__dict__ and not (lab.folder / "lab.db").exists()
    lab.database.events.last()
    lab.progress.finish("Thinking")
    assert [event.kind for event in lab.database.events.last()] == ["finish"]
    lab.close()
    lab.progress.say("Too late, and no error.")


def test_who_only_looks_writes_nothing(open_lab: Any) -> None:
    lab: Lab = open_lab()
    lab.database.settings.put("a", "b")
    with Lab.open(lab.folder, write=False, progress=False) as looking:
        looking.database.events.last()
        looking.progress.say("I am here.")
        looking.progress.start("Looking", 1)
    assert lab.database.events.last() == []
