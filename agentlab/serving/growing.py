"""An answer as it grows: what may be sent of it already, without thoughts, up to the text that ends it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from memory.text import answer_in

# The tag of a thought, as far as it is written.
_OPEN = re.compile(r"[<\[◁][^<>\[\]◁▷]{0,30}$")


class Growing:
    """Gives each piece of an answer once. `text` is what was given so far, `ended` whether one of `stops` came."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self.stops = stops
        self.text = ""
        self.ended = False

    def grown(self, written: str, *, whole: bool = False) -> str:
        """The next piece, where the model has `written` so much; what may turn out to be no part of the answer, such as
        half of a character or of a tag, waits for what follows, unless that is the `whole`."""
        if self.ended:
            return ""
        answer = answer_in(written)
        ends = [at for stop in self.stops if (at := answer.find(stop)) >= 0]
        if ends:
            self.ended = True
            answer = answer[: min(ends)]
        elif not whole:
            answer = answer.rstrip("\ufffd")
            if begun := _OPEN.search(answer):
                answer = answer[: begun.start()]
            waits = max((len(stop) - 1 for stop in self.stops), default=0)
            answer = answer[: max(len(answer) - waits, 0)].rstrip()
        if len(answer) <= len(self.text) or not answer.startswith(self.text):
            return ""
        piece, self.text = answer[len(self.text) :], answer
        return piece
