"""The memory block keeps to its budget."""

from __future__ import annotations

import pytest

from memory.retrieval.block import about, fill, shortened


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2)])
def test_without_a_tokenizer_four_characters_are_about_a_token(text: str, tokens: int) -> None:
    assert about(text) == tokens


def test_texts_are_taken_in_order_as_long_as_they_fit_whole() -> None:
    assert fill(["a" * 6, "b" * 6, "c" * 4], 10, len) == ["a" * 6, "", "c" * 4]
    assert fill(["a" * 20, "b" * 5], 10, len) == ["", "b" * 5]
    assert fill([], 10, len) == []


def test_where_none_fits_the_first_is_shortened_if_that_is_wanted() -> None:
    assert fill(["first\nmiddle\nend", "second\nmiddle\nend"], 10, len) == ["first\nend", ""]
    assert fill(["first\nmiddle\nend"], 10, len, shorten=False) == [""]


EXAMPLE = "\n".join(["Example. Task: win", *(f"> step {number}" for number in range(40)), "> take coin"])


@pytest.mark.parametrize("budget", [60, 120, 200, 419])
def test_a_long_example_keeps_its_task_and_as_much_of_its_end_as_fits(budget: int) -> None:
    cut = shortened(EXAMPLE, budget, len)
    assert len(cut) <= budget < len(cut) + len("> step 10\n")
    first, *rest = cut.split("\n")
    assert first == "Example. Task: win"
    assert EXAMPLE.endswith("\n".join(["", *rest]))
    assert rest[-1] == "> take coin"


def test_a_text_that_fits_is_left_alone() -> None:
    assert shortened(EXAMPLE, len(EXAMPLE), len) == EXAMPLE


@pytest.mark.parametrize(("budget", "left"), [(0, ""), (4, "abcd"), (20, "abcdefghij")])
def test_of_a_first_line_that_is_too_long_the_beginning_is_left(budget: int, left: str) -> None:
    assert shortened("abcdefghij", budget, len) == left
    assert shortened("abcdefghij\nsecond line that is long", budget, len) == left
