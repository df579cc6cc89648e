"""Notes: `note TEXT` writes down, `read notes` reads again, within one game."""

from __future__ import annotations

from collections.abc import Sequence

from environments.tools.base import Seen

READING = "read notes"

LONGEST = 300
"""Characters of a note."""


class Notes:
    """Keeps what is to be read again later in the same game.

    A ranking agent is offered to note what was said last, as it was said; a writing one may note what it likes.
    """

    name = "notes"
    verbs = ("note", READING)

    def calls(self, seen: Seen) -> Sequence[str]:
        """To note what an action brought to light, unless that is noted; and to read, where something is."""
        noted = self.noted(seen)
        last = seen.told[-1] if seen.told else None
        new = last is not None and last.action and self._of(last.answer) not in noted
        offered = [f"note that {last.action} said so"] if last is not None and new else []
        return [*offered, READING] if noted else offered

    def answer(self, call: str, seen: Seen) -> str:
        """The notes, the newest first, or that one was written. Raises ValueError where there is none."""
        if call == READING:
            noted = self.noted(seen)
            if not noted:
                raise ValueError("nothing was noted")
            return "Your notes: " + " / ".join(reversed(noted))
        return f"Noted: {self._text(call, seen)}"

    def noted(self, seen: Seen) -> list[str]:
        """What was noted so far."""
        return [call.answer.removeprefix("Noted: ") for call in seen.calls if call.answer.startswith("Noted: ")]

    def _text(self, call: str, seen: Seen) -> str:
        said = call.removeprefix("note").strip()
        last = seen.told[-1] if seen.told else None
        if last is not None and said == f"that {last.action} said so":
            return self._of(last.answer)
        if not said:
            raise ValueError("nothing was said; write `note TEXT`")
        return self._of(said)

    @staticmethod
    def _of(text: str) -> str:
        line = " ".join(text.split())
        return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
