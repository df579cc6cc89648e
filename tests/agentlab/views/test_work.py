"""Work in flight, read off events that another process wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentlab.lab import Lab
from agentlab.views.work import READ, SAID, stages, work
from memory.store import Event


def event(kind: str, stage: str, done: int, total: int, second: float, note: str = "") -> Event:
    at = f"2026-01-01T{int(second) // 3600:02d}:{int(second) // 60 % 60:02d}:{second % 60:09.6f}+00:00"
    return Event(0, at, kind, stage, done, total, note)  # type: ignore[arg-type]


def at(second: float) -> str:
    return event("say", "", 0, 0, second).at


def test_a_stage_says_how_far_it_is_how_long_it_took_and_what_is_left() -> None:
    told = [event("start", "Playing", 0, 40, 0), event("advance", "Playing", 1, 40, 2)]
    (stage,) = stages(told, at(2))
    assert stage.eta == 78.0
    told.append(event("advance", "Playing", 10, 40, 20, "3 won"))
    (stage,) = stages(told, at(20))
    assert (stage.done, stage.total, stage.elapsed, stage.eta, stage.note) == (10, 40, 20.0, 60.0, "3 won")
    assert stages(told, at(30))[0].eta == 50.0  # it goes down between two events


def test_what_was_finished_before_work_went_on_says_nothing_of_the_pace() -> None:
    told = [event("start", "Playing", 0, 1000, 0), event("advance", "Playing", 901, 1000, 10)]
    assert stages(told, at(10))[0].eta is None
    told.append(event("advance", "Playing", 902, 1000, 20))
    assert stages(told, at(20))[0].eta == 980.0


def test_the_pace_of_a_stage_whose_start_is_out_of_sight_is_that_of_what_is_seen() -> None:
    told = [event("advance", "Playing", 20_000 + second, 40_000, second) for second in range(100)]
    (stage,) = stages(told, at(99))
    assert stage.eta == 40_000 - 20_099 and stage.begun_earlier
    assert not stages([event("start", "Playing", 0, 40, 0)], at(0))[0].begun_earlier


def test_no_less_is_left_than_the_longest_wait_so_far() -> None:
    told = [event("start", "Playing", 0, 5, 0)]
    told += [event("advance", "Playing", done, 5, second) for done, second in ((1, 1), (2, 61), (3, 62), (4, 63))]
    assert stages(told, at(63))[0].eta == 60.0
    assert stages(told, at(113))[0].eta == 60.0
    assert stages(told, at(163))[0].eta == 100.0, "this one takes longer than all before it"


def test_what_has_not_begun_to_move_or_has_ended_has_no_time_left() -> None:
    begun, *_ = stages([event("start", "Playing", 0, 40, 0)], at(5))
    assert begun.eta is None and begun.elapsed == 5
    (ended,) = stages([event("start", "Playing", 0, 4, 0), event("finish", "Playing", 4, 4, 8)], at(100))
    assert ended.ended and ended.eta is None and ended.elapsed == 8


def test_a_stage_that_begins_again_is_the_newest_and_counts_anew() -> None:
    told = [
        event("start", "Playing", 0, 4, 0),
        event("finish", "Playing", 4, 4, 8),
        event("start", "Training", 0, 10, 8),
        event("start", "Playing", 0, 6, 10),
        event("say", "", 0, 0, 11, "A word."),
        event("advance", "Playing", 1, 6, 11),
        event("advance", "Playing", 3, 6, 13),
    ]
    training, playing = stages(told, at(13))
    assert (training.name, playing.name) == ("Training", "Playing")
    assert (playing.done, playing.total, playing.elapsed, playing.eta) == (3, 6, 3.0, 3.0)


def test_times_that_are_none_make_no_error() -> None:
    (stage,) = stages([Event(0, "<b>", "advance", "odd", 1, 2, "")], "never")
    assert (stage.elapsed, stage.eta) == (0.0, None)


def test_nobody_at_work_is_none(open_lab: Any) -> None:
    lab: Lab = open_lab()
    lab.database.settings.put("a", "b")
    lab.progress.start("Playing", 4)
    folder = lab.folder
    lab.close()
    with Lab.open(folder, write=False, progress=False) as looking:
        assert work(looking) is None


def test_the_work_of_a_process_is_what_it_told_since_it_took_the_lock(open_lab: Any) -> None:
    lab: Lab = open_lab()
    lab.database.settings.put("a", "b")
    lab.progress.start("An earlier stage", 4)
    lab.progress.say("An earlier line.")
    lab.close()
    lab = open_lab()
    lab.database.settings.get("a")
    for number in range(SAID + 3):
        lab.progress.say(f"Line {number}.")
    lab.progress.start("Playing", 4)
    with Lab.open(lab.folder, write=False, progress=False) as looking:
        found = work(looking)
        assert found is not None and found.pid > 0 and found.command and found.since
        assert [stage.name for stage in found.stages] == ["Playing"]
        assert found.said == [f"Line {number}." for number in range(3, SAID + 3)]


def test_a_stage_of_hours_still_knows_when_it_began(open_lab: Any) -> None:
    lab: Lab = open_lab()
    events = lab.database.events
    with lab.database.transaction():
        events.put("start", "Playing", 0, 10 * READ)
        for done in range(READ + 100):
            events.put("advance", "Playing", done, 10 * READ)
    with Lab.open(lab.folder, write=False, progress=False) as looking:
        first, *rest = looking.database.events.last(limit=READ)
        assert first.kind == "start" and len(rest) == READ
        found = work(looking)
        assert found is not None and found.stages[0].done == READ + 99


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "\u202e\x1b[31m", "x" * 100_000])
def test_hostile_words_of_a_program_are_kept_as_they_are_for_who_shows_them(text: str, open_lab: Any) -> None:
    lab: Lab = open_lab()
    lab.database.settings.put("a", "b")
    lab.progress.start(text, 3)
    lab.progress.say(text)
    folder: Path = lab.folder
    with Lab.open(folder, write=False, progress=False) as looking:
        found = work(looking)
        assert found is not None and found.stages[0].name == text and found.said[0] == text[:300]


def test_a_process_of_another_machine_is_at_work_as_long_as_it_tells_something(open_lab: Any) -> None:
    lab: Lab = open_lab()
    file = lab.folder / ".lock"
    kept = {"pid": 7, "host": "another-machine", "command": "agentlab run", "since": "2026-01-01T00:00:00+00:00"}
    file.write_text(json.dumps(kept))
    assert work(lab) is None, "it was killed long ago"
    lab.database.events.put("start", "Playing", 0, 4)
    found = work(lab)
    assert found is not None and (found.host, found.stages[0].name) == ("another-machine", "Playing")
