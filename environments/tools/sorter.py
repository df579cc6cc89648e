"""Sort: `sort quantities`, units understood, for what can be taken or was seen."""

from __future__ import annotations

from collections.abc import Sequence

from environments.tools.base import Seen
from environments.tools.quantities import Quantity, of_commands, of_texts


class Sorter:
    """Puts the quantities that are in sight in order, from the least to the most."""

    name = "sort"
    verbs = ("sort quantities",)

    def calls(self, seen: Seen) -> Sequence[str]:
        """One call, where there are two quantities or more that can be compared."""
        return [*self.verbs] if len(in_sight(seen)) > 1 else []

    def answer(self, call: str, seen: Seen) -> str:
        """`From least to most: 4 grapes, 26 apples.` What measures something else stands in a line of its own."""
        found = in_sight(seen)
        if len(found) < 2:
            raise ValueError("there are no two quantities in sight")
        lines = []
        for measure in dict.fromkeys(one.measure for one in found):
            alike = sorted((one for one in found if one.measure == measure), key=lambda one: (one.amount, one.text))
            lines.append(f"From least to most: {', '.join(one.text for one in alike)}.")
        return " ".join(lines)


def in_sight(seen: Seen) -> list[Quantity]:
    """The quantities of the commands; where these are about none, those of what was said last."""
    return of_commands(seen.commands) or (of_texts([seen.told[-1].answer]) if seen.told else [])
