"""Text from outside cannot move the cursor, hide itself or fill the database."""

from __future__ import annotations

import pytest

from memory.text.cleaning import TEXT_LIMIT, clean


@pytest.mark.parametrize(
    ("dirty", "plain"),
    [
        ("\x1b[31mred\x1b[0m coin", "red coin"),
        ("\x9b2Jgone", "gone"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b(Bset", "set"),
        ("a\x00b\x08c\x7fd\x85e", "abcde"),
        ("one\r\ntwo\rthree\tfour\n", "one\ntwo\nthree\tfour"),
        ("abc\u202edcba\u2066", "abcdcba"),
        ("lone \ud800 half", "lone  half"),
        ("Grüße, 你好 – 🪙", "Grüße, 你好 – 🪙"),
    ],
)
def test_what_a_terminal_would_act_on_is_removed(dirty: str, plain: str) -> None:
    assert clean(dirty) == plain


def test_long_text_is_cut_with_an_ellipsis() -> None:
    assert clean("x" * TEXT_LIMIT) == "x" * TEXT_LIMIT
    assert clean("x" * (TEXT_LIMIT + 1)) == "x" * (TEXT_LIMIT - 1) + "…"
