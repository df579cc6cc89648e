"""JSON lines: a line ends with a line feed and with nothing else."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.text import jsonlines


@given(st.lists(st.text(), max_size=5))
def test_no_text_is_torn(texts: list[str]) -> None:
    data = "".join(json.dumps(text, ensure_ascii=False) + "\n" for text in texts).encode("utf-8", "surrogatepass")
    found = [line for _, line in jsonlines.lines(io.BytesIO(data))]
    assert [json.loads(line.decode("utf-8", "surrogatepass")) for line in found] == texts


def test_lines_are_numbered_blank_ones_left_out_and_one_that_is_too_long_refused(tmp_path: Path) -> None:
    data = b"a\r\n\n \nb\xe2\x80\xa8c\n\xc2\x85\nlast"
    assert list(jsonlines.lines(io.BytesIO(data))) == [
        (1, b"a"), (4, b"b\xe2\x80\xa8c"), (5, b"\xc2\x85"), (6, b"last")
    ]  # fmt: skip
    with pytest.raises(ValueError, match="line 4 has more than 4 bytes"):
        list(jsonlines.lines(io.BytesIO(data), 4))
    (tmp_path / "x.jsonl").write_bytes(data)
    assert jsonlines.read(tmp_path / "x.jsonl") == ["a", "b\u2028c", "\x85", "last"]


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "1e999", "{", "\xff", "[" * 70 + "]" * 70, '{"a":' * 1000])
def test_what_is_no_json_is_one_line(text: str) -> None:
    with pytest.raises(ValueError) as refusal:
        jsonlines.parsed(text.encode("latin-1"))
    assert "\n" not in str(refusal.value)
    assert jsonlines.parsed(b"[" * 60 + b"]" * 60)
