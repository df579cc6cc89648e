"""Text from a game or a stranger, stored as a quotation: it can say anything and be taken for nothing but text.

What a memory recalls is put into a prompt whose structure is plain text (see `memory.rendering`). A quotation cannot
end the memory block, set a task, speak as another role, or act.
"""

from __future__ import annotations

import re
from functools import lru_cache

from memory.cleaning import TEXT_LIMIT, clean

MARK = "| "
"""Put before a line that would otherwise be read as structure."""

# What a reader does not see must not hide a mark: spaces, and characters without a shape.
_BLANK = "[\\s\u00ad\u034f\u061c\u115f\u180e\u200b-\u200f\u2060-\u2064\ufe0f\ufeff]*"
_ROLES = "system|developer|user|assistant|human|tool|function"
_STRUCTURE = rf"^(?={_BLANK}(?:(?:task|hints|{_ROLES}){_BLANK}:"
_LINES = re.compile(_STRUCTURE + "|[>\uff1e]))", re.IGNORECASE | re.MULTILINE)
_LINES_BUT_TURNS = re.compile(_STRUCTURE + "))", re.IGNORECASE | re.MULTILINE)
# Tokens that separate roles in the chat formats of common models. The mere pairs come first: two pieces may meet.
_TOKENS = re.compile(
    r"<(?=[|\uff5c])|(?<=[|\uff5c])>|</?s>|<(?:bos|eos|pad|unk)>|<(?:start|end)_of_turn>|<</?SYS>>|\[/?(?:INST|SYS)\]",
    re.IGNORECASE,
)
_HARMLESS = str.maketrans("<>[]", "‹›()")
_GAP = re.compile(f"\n{_BLANK}\n")


@lru_cache(1024)
def quoted(text: str, limit: int = TEXT_LIMIT, *, turns: bool = False) -> str:
    """`text` as data: cleaned, with no blank line, and no line or token that a prompt's structure is made of.

    Lines that open with `Task:`, `Hints:`, a role, or `>` get `MARK` before them; the tokens of chat formats lose their
    brackets. Everything else stays as it is, and quoting twice is quoting once. `turns` lets lines with `>` be, for
    texts that a reflector made of turns whose observations it has quoted.
    """
    lines = clean(text, limit)
    if not (lines.isascii() and lines.isprintable()):
        lines = _GAP.sub("\n", re.sub("[\u2028\u2029]", "\n", lines)).strip()
    if any(bracket in lines for bracket in "<>[]"):
        lines = _TOKENS.sub(_bracketless, lines)
    return clean((_LINES_BUT_TURNS if turns else _LINES).sub(MARK, lines), limit)


def quoted_line(text: str, limit: int = TEXT_LIMIT) -> str:
    """`quoted`, on one line: for a name or a place within a sentence."""
    return quoted(" ".join(text.split()), limit)


def _bracketless(found: re.Match[str]) -> str:
    return found.group().translate(_HARMLESS)
