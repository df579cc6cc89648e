"""What a user states in a message that is worth keeping: how to answer, what is so, and what was wrong in an answer.

Only the user's own words are looked at, and they are kept as they are: nothing is asked of a model, so that nothing is
made up, and of what a recall had put into the prompt nothing is taken for news. What is a question, a quotation or code
states nothing. It knows English.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from memory.prompts import Message
from memory.text import quoted_line, said_in

PREFERENCE, FACT, CORRECTION = "preference", "fact", "correction"
MOST = 3
"""Notes of one message."""
LONGEST = 300
"""Characters of a sentence that is kept; a longer one is no statement but a text."""
LOOKED = 4000
"""Characters of a message that are looked at."""

_I = r"\bi(?:\s+(?:really|much|always|usually|generally|strongly|just|also|never|do not|don'?t|can'?t))*\s+"
_PREFERENCE = re.compile(
    rf"{_I}(?:prefer|would rather)\b|\bi'd rather\b|\bfrom now on\b|\bin (?:the )?future\b"
    r"|\bnext time\b|\bkeep in mind\b|\bremember (?:that|to|my|i)\b|\b(?:please )?call me\b"
    r"|^(?:please,? |so |and )*(?:always|never|don'?t ever|stop \w+ing)\b"
    r"|\bi (?:want|need|would like|'d like) you to (?:always|never)\b",
    re.IGNORECASE,
)
_FACT = re.compile(
    rf"{_I}(?:like|love|enjoy|hate|dislike|stand|avoid|live|work|study|speak|own|use|play|grew up)\b"
    r"|\bmy (?:[\w'-]+ ){1,4}(?:is|are|was|were|has|have|lives|live|works|work)\b"
    r"|\b(?:i'm|i am|i was) (?:an?|the|from|called|named|allergic|vegan|vegetarian|born|based|married|left-handed|"
    r"colou?r-?blind|\d+ years)\b"
    r"|\b(?:i|we) have (?:an?|two|three|four|\d+) (?!question|problem|doubt|bug|issue|error|idea|feeling|meeting|task)",
    re.IGNORECASE,
)
_CORRECTION = re.compile(
    r"^(?:no|nope|wrong|incorrect|not quite|not (?:right|true|correct))\b[\s,.:;!–—-]+\S"
    r"|^(?:but |sorry,? )?(?:that|this|it)(?:'s| is| was) (?:not (?:right|true|correct|what)|wrong|incorrect)"
    r"|^(?:but |sorry,? )?(?:that|this|it) (?:isn'?t|wasn'?t) (?:right|true|correct|what)"
    r"|^(?:but )?you(?:'re| are| were) (?:wrong|mistaken|incorrect)|^actually,? |^i (?:meant|said)\b",
    re.IGNORECASE,
)
_NO_ANSWER = re.compile(
    r"^(?:no|nope)\b[\s,.!]+(?:thanks?|thank you|problem|worries|need|that'?s (?:all|it|fine|ok))", re.I
)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_SENTENCE = re.compile(r"(?<=[.!?…])\s+|\n+")


class Stated(NamedTuple):
    """What is to be kept of a message: of which kind, in words."""

    kind: str
    text: str


def stated(messages: Sequence[Message], recalled: str = "") -> list[Stated]:
    """What the last message of a chat states, at most `MOST`; `recalled` is what a recall had put into the prompt.

    A message is looked at once, as the last one: those before it were the last ones of earlier requests.
    """
    if not messages or messages[-1].role != "user":
        return []
    said = [one for one in sentences(messages[-1].text) if not _known(one, recalled)]
    found: list[Stated] = []
    asked = next((one.text for one in reversed(messages[:-1]) if one.role == "user"), "")
    if said and asked and _CORRECTION.match(said[0]) and not _NO_ANSWER.match(said[0]):
        # By itself a correction hardly says what it corrects.
        about = quoted_line(" ".join(asked.split())[:LONGEST])
        words = quoted_line(" ".join(said)[:LONGEST])
        found.append(Stated(CORRECTION, f"Asked “{about}”, the user corrected the answer: “{words}”"))
        said = []
    for one in said:
        kind = PREFERENCE if _PREFERENCE.search(one) else FACT if _FACT.search(one) else ""
        if kind:
            found.append(Stated(kind, f"The user said: “{quoted_line(one)}”"))
    return list(dict.fromkeys(found))[:MOST]


def sentences(message: str) -> list[str]:
    """The sentences of a message that state something: no questions, no lines quoted from elsewhere, no code."""
    own = [line for line in _CODE.sub("\n", message[:LOOKED]).splitlines() if not line.lstrip().startswith((">", "|"))]
    found = (" ".join(one.split()) for line in own for one in _SENTENCE.split(line))
    return [one for one in found if 0 < len(one) <= LONGEST and not one.rstrip('"”’)').endswith("?")]


def _known(sentence: str, recalled: str) -> bool:
    """Whether a sentence repeats what was recalled, or a note that was recalled repeats it with other words around."""
    if not recalled:
        return False
    notes = re.findall(r"“([^”]{8,})”", recalled)
    return said_in(sentence, recalled) or any(said_in(note, sentence) for note in notes)
