"""Thoughts: what a reasoning model says to itself is told from its answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.text.thoughts import answered, is_tag, left_open, split_thought


@pytest.mark.parametrize(
    ("text", "answer", "cut"),
    [
        ("Read the note.", "Read the note.", False),
        ("<think>It was", "", True),
        ("<think>It was dark.</think>Read the note.", "Read the note.", False),
        ("<think>\n\n</think>\n\nRead the note.", "Read the note.", False),
        ("It was dark.\n</think>\n\nRead the note.", "Read the note.", False),
        ("<think>One.</think>Read <think>Two.</think>the note.", "Read the note.", False),
        ("<think>One <think>two</think> three</think>Read.", "Read.", False),
        ("Read the note. <think>Or", "Read the note.", False),
        ("<thinking>It was dark.</thinking>Read.", "Read.", False),
        ("<|START_THINKING|>Dark.<|END_THINKING|>Read.", "Read.", False),
        ("<|begin_of_thought|>Dark.<|end_of_thought|>Read.", "Read.", False),
        ("\u25c1think\u25b7Dark.\u25c1/think\u25b7Read.", "Read.", False),
        ("<reflection>Read the note.</reflection>", "<reflection>Read the note.</reflection>", False),
        ("", "", False),
    ],
)
def test_the_answer_is_what_stands_outside_of_thoughts(text: str, answer: str, cut: bool) -> None:
    assert split_thought(text) == (answer, cut)


PIECES = st.sampled_from(["<think>", "</think>", "[THINK]", "[/THINK]", "dark", "note", "\n", " "])


@given(st.lists(PIECES).map("".join))
def test_no_tag_is_ever_left_in_an_answer(text: str) -> None:
    answer = split_thought(text).answer
    assert "think" not in answer.lower()


def test_a_tag_is_known_and_a_prompt_that_ends_with_one_has_opened_a_thought() -> None:
    assert is_tag("<think>") and is_tag("[/THINK]") and not is_tag("<|im_end|>") and not is_tag("think")
    assert left_open("<|im_start|>assistant\n<think>\n") == "<think>"
    assert left_open("assistant\n<think>\n\n</think>\n\n") == ""
    assert left_open("What does <think> mean?") == left_open("") == ""


def test_a_writer_without_an_answer_is_asked_once_and_one_that_still_thinks_twice() -> None:
    asked: list[int] = []

    def write(said: str) -> str:
        asked.clear()
        return answered(lambda prompt, tokens: asked.append(tokens) or said, "Why?", 100)  # type: ignore[func-returns-value]

    assert (write(""), len(asked)) == ("", 1)
    assert (write("Since."), len(asked)) == ("Since.", 1)
    assert (write("<think>"), len(asked)) == ("", 2)
    assert (write("<think>a</think>"), len(asked)) == ("", 2)


@pytest.mark.parametrize("tag", ["<think>", "</think>", "</think><think>", "[/THINK]", "<|", "<think"])
def test_an_answer_of_any_length_is_read_at_once(tag: str) -> None:
    """In time that grows with its length: with the square of that, it would be minutes."""
    text = tag * (100_000 // len(tag))
    assert split_thought(f"{text}</think>Read.") == ("Read.", False)
