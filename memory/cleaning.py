"""Text from a model, an environment or a keyboard, made harmless for terminals, prompts and the database."""

from __future__ import annotations

import re

from memory import errors
from memory.records import Reflection

TEXT_LIMIT = 4000
"""The longest text that a reflection may have, in characters."""
CONTEXT_LIMIT = 300
"""The longest context."""

# Whole escape sequences (CSI, OSC, and the two-character ones) go first, or their letters would stay behind.
_ESCAPES = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]")
# C0 and C1 controls except tab and newline, lone surrogates, and the marks that reverse the direction of writing.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def clean(text: str, limit: int = TEXT_LIMIT) -> str:
    """`text` without terminal escapes, control characters and direction marks, at most `limit` characters long.

    Tabs and line ends stay; a text that was cut ends with an ellipsis.
    """
    if not (text.isascii() and text.isprintable()):
        text = _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))
    plain = text.strip()
    return plain if len(plain) <= limit else plain[: limit - 1].rstrip() + "…"


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
    tags = [clean(tag, 100) for tag in reflection.tags]
    context = clean(reflection.context, CONTEXT_LIMIT)
    update = {"text": text, "context": context, "goal": clean(reflection.goal), "tags": tags}
    return reflection.model_copy(update=update)
