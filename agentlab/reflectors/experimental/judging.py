"""A judge: a model awards points to an attempt without knowing its outcome, and compares two such judgements.

Experimental: no table shows yet that it helps. The rubric is additive, as that of Yuan et al. 2024 (Self-Rewarding), in
words for text games.
"""

from __future__ import annotations

import re

from agentlab.reflectors.experimental.written import OPENING
from memory import prompts
from memory.records import Episode

BEST = 5

RUBRIC = """\
Award the player points, one for each of these that holds:
- the commands have to do with the task;
- at least one of them brought the task nearer, or found out what it needs;
- no command was repeated that had changed nothing before;
- as far as the game says, everything that the task asks for was done;
- it was done without detours."""

ASKED = f"Say in one or two sentences why. Then end with a line of the form `Score: N`, with N from 0 to {BEST}."

COMPARED = (
    "Two judges have awarded points by these rules. Which judgement goes by the rules and by what happened more "
    "closely? Say in a sentence why. Then end with a line that is either `Better: A` or `Better: B`."
)

SCORES = [f"Score: {points}" for points in range(BEST + 1)]
VERDICTS = ["Better: A", "Better: B"]
"""The lines that end a judgement and a comparison."""

_SCORE = re.compile(
    rf"\bscore(?: of| is)?\W{{0,5}}(?<![-−])(\d+(?:\.\d+)?)(?!\w)(?:\s*(?:/|out of)\s*{BEST}\b)?(?![/.]?\d)",
    re.IGNORECASE,
)
_BETTER = re.compile(r"\bbetter\W{0,5}([AB])\b", re.IGNORECASE)


def judging_prompt(episode: Episode) -> str:
    """Asks for a judgement of what was seen and done, without the outcome that only the game knows."""
    return "\n".join([OPENING, prompts.report(episode, outcome=False), RUBRIC, ASKED]) + "\n"


def comparing_prompt(episode: Episode, first: str, second: str) -> str:
    """Asks which of two judgements of an attempt is better; both are quoted as data."""
    judged = [f"Judgement {name}:\n{prompts.quoted(text)}" for name, text in (("A", first), ("B", second))]
    return "\n".join([OPENING, prompts.report(episode, outcome=False), RUBRIC, *judged, COMPARED]) + "\n"


def score_in(judgement: str, *, cut: bool = False) -> float | None:
    """The score from 0 to 5 that a judgement gives last; None where it gives none. Of one that the limit on tokens cut
    off the last line does not count."""
    lines = judgement.split("\n")
    said = _SCORE.findall("\n".join(lines[:-1] if cut else lines))
    return float(said[-1]) if said and float(said[-1]) <= BEST else None


def first_is_better(comparison: str) -> bool | None:
    """Whether a comparison says last that A is better; None where it says nothing."""
    said = _BETTER.findall(comparison)
    return said[-1].upper() == "A" if said else None
