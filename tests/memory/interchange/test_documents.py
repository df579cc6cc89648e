"""Documents: files from outside are told apart by content, and their limits looked at before they are decoded."""

from __future__ import annotations

import bz2
import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory.errors import BadImport
from memory.interchange import documents
from memory.interchange.documents import Unreadable, entries

ONE, TWO = {"id": "1", "memory": "Tea."}, {"id": "2", "memory": "Torn\u2028here\u0085and\u2029there."}
LINES = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in (ONE, TWO))


def read(path: Path, data: str | bytes) -> list[Any]:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return [entry for _, entry in entries(path)]


@pytest.mark.parametrize(
    "data",
    [
        LINES,
        LINES.replace("\n", "\r\n"),
        "\ufeff\n\n" + LINES,
        json.dumps([ONE, TWO]),
        json.dumps([ONE, TWO], indent=1),
        "\ufeff" + json.dumps({"count": 2, "results": [ONE, TWO]}),
        json.dumps({"user": {}, "memories": [ONE, TWO]}, indent=2),
        json.dumps({"success": True, "data": {"results": [ONE, TWO], "total": 2}}),
        json.dumps({"results": [ONE]}) + "\n" + json.dumps({"results": [TWO]}) + "\n",
        gzip.compress(LINES.encode(), mtime=0),
        gzip.compress(LINES.encode()[:20], mtime=0) + gzip.compress(LINES.encode()[20:], mtime=0),
        gzip.compress(json.dumps([ONE, TWO], indent=1).encode(), mtime=0),
        bz2.compress(LINES.encode()),
    ],
    ids=range(13),
)
def test_entries_are_read_in_whatever_form_they_come(tmp_path: Path, data: str | bytes) -> None:
    assert read(tmp_path / "file", data) == [ONE, TWO]


def test_a_single_entry_over_several_lines_is_one(tmp_path: Path) -> None:
    assert read(tmp_path / "one.json", json.dumps(ONE, indent=1)) == [ONE]
    assert read(tmp_path / "none.jsonl", "\n") == read(tmp_path / "no.jsonl", "") == read(tmp_path / "e", "[]") == []
    assert read(tmp_path / "empty.json", '{"results": []}') == []


@pytest.mark.parametrize("first", ["{", "no json", "7", '"text"', '{"a": 1} {', "[1"])
def test_a_line_that_is_none_leaves_the_others(tmp_path: Path, first: str) -> None:
    if first != "[1":  # what begins as a list is one
        found = read(tmp_path / "x.jsonl", f"{first}\n{LINES}")
        assert isinstance(found[0], Unreadable) and found[1:] == [ONE, TWO]
    found = read(tmp_path / "x.jsonl", f"{LINES}\n{first}\n{LINES}")
    assert isinstance(found[2], Unreadable) and len(found) == 5


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    found = read(tmp_path / "latin.jsonl", LINES.encode() + b'{"id": "\xfc"}\n')
    assert found[:2] == [ONE, TWO] and "UTF-8" in found[2].why


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ('[{"id": "1"},\n {"id"', "line 2"),
        (b"PK\x03\x04rest", "zip"),
        (b"\xfd7zXZ\x00rest", "xz"),
        (gzip.compress(LINES.encode(), mtime=0)[:-12], "unpacked"),
        (b"\x1f\x8bnonsense", "unpacked"),
        (gzip.compress(b"PAR1 and more", mtime=0), "Parquet"),
        ("[" * 100_000, "nested"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalnum() else "data",
)
def test_a_file_that_cannot_be_read_at_all_is_one_line(tmp_path: Path, data: str | bytes, complaint: str) -> None:
    with pytest.raises(BadImport, match=complaint) as refusal:
        read(tmp_path / "bad.json", data)
    assert "\n" not in str(refusal.value)


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(BadImport, match="plain file"):
            list(entries(path))
    with pytest.raises(BadImport, match="cannot be read"):
        list(entries(tmp_path / "nowhere.jsonl"))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
@pytest.mark.parametrize(
    "unit", [b" " * 1024, b"[" * 1024, b'{"a":' * 200, b"\n" * 1024, b'"' + b"x" * 1024, b"[]," * 300]
)
def test_little_that_unpacks_to_much_is_refused_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Any, unit: bytes
) -> None:
    unpacked = documents.MIB
    for name, most in {"FILE": unpacked // 4, "WHOLE": unpacked // 16, "LINE": unpacked // 16}.items():
        monkeypatch.setattr(documents, name, most)
    monkeypatch.setattr(documents, "VALUES", 10_000)
    monkeypatch.setattr(documents, "ROWS", 1000)
    (tmp_path / "bomb.gz").write_bytes(pack(b"[" * (unit[:3] == b"[],") + unit * (unpacked // len(unit))))
    tracemalloc.start()
    with pytest.raises(BadImport):
        list(entries(tmp_path / "bomb.gz"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * unpacked


def test_json_that_is_small_and_holds_many_values_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "VALUES", 1000)
    with pytest.raises(BadImport, match="more than 1,000 values"):
        read(tmp_path / "many.json", "[" + "[]," * 1000 + "[]]")
    found = read(tmp_path / "many.jsonl", LINES + '{"a": [' + "1," * 1000 + "1]}\n")
    assert found[:2] == [ONE, TWO] and "values" in found[2].why


def test_a_file_of_too_many_entries_or_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "ROWS", 1)
    with pytest.raises(BadImport, match="more than 1 entries"):
        read(tmp_path / "x.jsonl", LINES)
    monkeypatch.setattr(documents, "FILE", 10)
    with pytest.raises(BadImport, match="data"):
        read(tmp_path / "x.jsonl", LINES)


PIECES = [b"{", b"}", b"[", b"]", b"\n", b'"', b"a", b":", b",", b"1", b"\xff", b" ", b'{"a": 1}', b'{"results": [{}]}']
PIECES += [b"\x1f\x8b", b"PAR1", b"\xef\xbb\xbf"]


@given(st.lists(st.sampled_from(PIECES)).map(b"".join))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_a_file_holds_it_is_read_or_refused(tmp_path: Path, data: bytes) -> None:
    try:
        found = read(tmp_path / "any", data)
    except BadImport:
        return
    assert all(isinstance(entry, (dict, Unreadable)) for entry in found)
