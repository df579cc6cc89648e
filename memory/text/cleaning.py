"""Text from a model, an environment or a keyboard, made harmless for terminals, prompts and the database."""

from __future__ import annotations

import re

from memory import errors
from memory.records import Reflection

TEXT_LIMIT = 4000
"""The longest text that a reflection may have, in characters."""
CONTEXT_LIMIT = 300
"""The longest context."""
TAG_LIMIT = 100
"""The longest tag."""

# Whole escape sequences (CSI, OSC, and the two-character ones) go first, or their letters would stay behind.
_ESCAPES = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]")
# What no reader sees. Unicode's category Cf: marks of direction, joiners, soft hyphens, tags. And the other code points
# that are ignorable by default: variation selectors, fillers. A word with one inside looks like the word without it.
_INVISIBLE = (
    "\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001345f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# C0 and C1 controls except tab and newline, and lone surrogates, beside what is invisible.
_UNWANTED = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff{_INVISIBLE}]")


def clean(text: str, limit: int = TEXT_LIMIT) -> str:
    """`text` without terminal escapes, controls and what is invisible, at most `limit` characters long.

    Tabs and line ends stay; a text that was cut ends with an ellipsis.
    """
    if not (text.isascii() and text.isprintable()):
        # However long a text is, only so much of it is looked at.
        text = text[: 16 * (limit + 64)].replace("\r\n", "\n").replace("\r", "\n")
        text = _UNWANTED.sub("", _ESCAPES.sub("", text))
    plain = text.strip()
    return plain if len(plain) <= limit else plain[: limit - 1].rstrip() + "…"


def name(text: str, limit: int) -> str:
    """`text` as a name on one line: cleaned, with single spaces."""
    return " ".join(clean(text, limit).split())


def cleaned(reflection: Reflection) -> Reflection:
    """`reflection` with its text, context, goal and tags cleaned, as it is remembered.

    Raises:
        InvalidReflection: if neither text nor advice is left.
    """
    text = clean(reflection.text)
    if not text and not reflection.advice:
        raise errors.InvalidReflection(
            f"The reflection '{reflection.id}' has neither text nor advice; there is nothing to remember in it."
        )
    tags = [clean(tag, TAG_LIMIT) for tag in reflection.tags]
    context = clean(reflection.context, CONTEXT_LIMIT)
    update = {"text": text, "context": context, "goal": clean(reflection.goal), "tags": tags}
    return reflection.model_copy(update=update)
