from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from agentlab.cli import output
from agentlab.cli.output import Column
from memory.records import Recall


def test_terminal_sequences_and_control_characters_are_taken_out() -> None:
    hostile = "a\x1b[31mred\x1b[0m b\x1b]0;title\x07c\x9b2Jd\x00e\u202efg\r\nh\tI\rj"
    assert output.clean(hostile) == "ared bcdefg\nh\tIj"


def test_one_line_flattens_and_cuts() -> None:
    assert output.one_line("a\n b\t c") == "a b c"
    assert output.one_line("abcdefgh", 5) == "abcd…"
    assert output.one_line("abcde", 5) == "abcde"


def test_markup_in_recorded_text_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("[red]a door[/red] [link=x]")
    output.listing([{"text": "[bold]x[/bold]"}], [Column("text")], as_data=False, empty="")
    shown = capsys.readouterr().out
    assert "[red]a door[/red] [link=x]" in shown
    assert "[bold]x[/bold]" in shown


def test_an_empty_listing_says_what_would_fill_it_but_is_an_empty_array_as_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.listing([], [Column("id")], as_data=False, empty="Nothing yet.")
    assert capsys.readouterr().out == "Nothing yet.\n"
    output.listing([], [Column("id")], as_data=True, empty="Nothing yet.")
    assert json.loads(capsys.readouterr().out) == []


def test_ids_are_not_cut_where_the_table_goes_into_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": "r-0123456789ab", "env": "twx/cookingworld?numIngredients=2,numLocations=3", "text": "word " * 60}]
    columns = [Column("id"), Column("env"), Column("text", wide=True)]
    output.listing(rows, columns, as_data=False, empty="")
    shown = capsys.readouterr().out
    assert "r-0123456789ab" in shown
    assert "twx/cookingworld?numIngredients=2,numLocations=3" in shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (True, "yes"), (False, "no"), (1.256, "1.26"), (3, "3"), (["a", "b"], "a, b"), ("x", "x")],
)
def test_cells_are_written_for_a_person(value: object, shown: str) -> None:
    assert Column("x").cell(value) == shown


def test_records_dataclasses_paths_and_numpy_numbers_become_json(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclasses.dataclass
    class Point:
        x: int

    recall = Recall(episode="e", reflection="r", rank=1, query="q", score=0.5)
    output.as_json({"a": recall, "b": Point(1), "c": Path("x"), "d": np.float32(0.5), "e": {"z", "y"}, "f": object})
    data = json.loads(capsys.readouterr().out)
    assert data["a"]["query"] == "q"
    assert (data["b"], data["c"], data["d"], data["e"]) == ({"x": 1}, "x", 0.5, ["y", "z"])


def test_rows_are_made_of_any_record() -> None:
    recall = Recall(episode="e", reflection="r", rank=1, query="q", score=0.5)
    assert output.row_of(recall)["rank"] == 1
    assert output.row_of({"a": 1}) == {"a": 1}
    assert output.row_of(Path("x")) == {"value": "x"}


def test_facts_leave_out_what_has_no_value(capsys: pytest.CaptureFixture[str]) -> None:
    output.facts([("id", "r-1"), ("goal", ""), ("tags", []), ("weight", 0.5)])
    assert capsys.readouterr().out.split() == ["id", "r-1", "weight", "0.500"]


def test_times_are_shown_to_the_minute_and_odd_ones_as_they_are() -> None:
    assert output.ago("2026-01-02T03:04:05+00:00").startswith("2026-01-0")
    assert output.ago("yesterday") == "yesterday"


def test_notes_go_beside_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    output.note("index built\nagain")
    with output.working("Loading"):
        pass
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "index built again" in captured.err


def test_a_program_that_is_not_on_the_path_is_named_by_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / ".venv" / "bin" / "agentlab"
    monkeypatch.setattr(sys, "argv", [str(place)])
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)
    assert output.program() == ".venv/bin/agentlab"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert output.program() == str(place)
    place.parent.mkdir(parents=True)
    place.write_text("#!/bin/sh\n")
    place.chmod(0o755)
    monkeypatch.setenv("PATH", str(place.parent))
    assert output.program() == "agentlab"


def test_what_nobody_reads_goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    output.tolerate()
    output.say("a result")
    output.note("a note")
    output.as_json({"a": 1})
