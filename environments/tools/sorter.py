"""Sort: `sort quantities`, units understood, for what can be taken or was seen and is still to be put somewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence

from environments.tools.base import Seen
from environments.tools.quantities import Quantity, of_commands, of_texts

NOT_PUTTING = ("take", "pick", "get", "grab", "lift", "look", "examine", "inspect", "weigh", "read")
"""How a command begins that takes a thing or looks at it; after any other that names it, it is done with."""


class Sorter:
    """Puts the quantities that are in sight in order, from the least to the most, without those that are done with."""

    name = "sort"
    verbs = ("sort quantities",)

    def calls(self, seen: Seen) -> Sequence[str]:
        """One call, where there are two quantities or more, and one that is not done with."""
        return [*self.verbs] if len(in_sight(seen)) > 1 and left(seen) else []

    def answer(self, call: str, seen: Seen) -> str:
        """`From least to most: 4 grapes, 26 apples.` What measures something else stands in a line of its own."""
        if len(in_sight(seen)) < 2:
            raise ValueError("there are no two quantities in sight")
        found = left(seen)
        if not found:
            raise ValueError("every quantity in sight was put somewhere already")
        lines = []
        for measure in dict.fromkeys(one.measure for one in found):
            alike = sorted((one for one in found if one.measure == measure), key=lambda one: (one.amount, one.text))
            lines.append(f"From least to most: {', '.join(one.text for one in alike)}.")
        return " ".join(lines)


def in_sight(seen: Seen) -> list[Quantity]:
    """The quantities of the commands; where these are about none, those of what was said last."""
    return of_commands(seen.commands) or (of_texts([seen.told[-1].answer]) if seen.told else [])


def left(seen: Seen) -> list[Quantity]:
    """The quantities in sight without those that the player has put somewhere: a list that is worked off."""
    return [one for one in in_sight(seen) if not _done_with(one, seen)]


def _done_with(one: Quantity, seen: Seen) -> bool:
    """Whether the last command that named a quantity did something else than take it or look at it."""
    named = (call.action.split() for call in reversed(seen.told) if _names(call.action, one.text))
    last = next(named, None)
    return last is not None and last[0].lower() not in NOT_PUTTING


def _names(action: str, text: str) -> bool:
    return re.search(rf"(?<![\w.,]){re.escape(text)}(?!\w)", action) is not None
