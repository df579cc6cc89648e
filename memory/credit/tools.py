"""What a tool of a game is worth: in some train games one of its tools is held out by lot, and success is compared.

It is measured as reflections are (see `credit`): the same lots, the same bound on their cost, the same estimate, shrunk
much less. A lot is drawn before the game begins, over one tool of its environment, which chance picks; so the other
tools are there on both sides, and what is measured is what it changes to have the tool, whether or not it is then
called. Who played is a stratum of its own: an adapter may need a tool that the base makes nothing of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from memory.credit.assignment import Assignment, assign, uniforms
from memory.credit.config import CreditConfig
from memory.credit.uplift import Strata, Uplift
from memory.store.database import Database
from memory.store.recalls import RecallEvidence

PRIOR = 1.0
"""What the prior is worth, in episodes (see `uplift`). Of thousands of reflections most change nothing; a tool is one
of few that somebody gave, or whose calls were learned. Shrunk as reflections are, one that decides every game would
come to half of what it is worth, with an interval that never holds it."""


class ToolPlace(NamedTuple):
    """A tool in an environment; with an `engine` where that played, with the `adapter` (None: the base)."""

    tool: str
    env: str
    engine: str = ""
    adapter: str | None = None


@dataclass
class ToolCredit:
    """Draws lots over tools, and says what each is worth.

    Attributes:
        database: where episodes are kept.
        config: how to measure.
        before: counts only episodes that began before this time (ISO 8601). A run gives the time of its beginning, so
            that its lots do not depend on which of its games ended first.
    """

    database: Database
    config: CreditConfig
    before: str | None = None
    _known: dict[str, dict[str, float]] = field(default_factory=dict, init=False, repr=False)
    _rates: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    def lot(self, env: str, tools: Sequence[str], *parts: object) -> Assignment | None:
        """Which of the tools of a game this lot is over, and whether it is held out; None where nothing is measured.

        It depends on `parts` and on what was known before. Holding out is bounded as it is for reflections.
        """
        if not tools or not self.config.hold_out:
            return None
        names = sorted(tools)
        which = names[int(uniforms("tool", *parts)[0] * len(names))]
        (drawn,) = assign(
            "\x1f".join(map(str, parts)), [which], [self._worth(env).get(which, 0.0)], self.config.hold_out,
            self.config.max_cost,
        )  # fmt: skip
        return drawn

    def _worth(self, env: str) -> dict[str, float]:
        """The expected uplift of the tools of an environment, as far as it was measured."""
        if env not in self._known:
            rows = [row.counts for row in self.database.tool_uses.evidence(env, before=self.before)]
            strata = self._strata(rows)
            self._known[env] = dict(zip(strata.ids, strata.moments()[0].tolist(), strict=True)) if strata.ids else {}
        return self._known[env]

    def uplifts(self) -> dict[ToolPlace, Uplift]:
        """What is known of each tool in each environment, whoever played, and (with the engine and the adapter behind
        them) by who played; where it was both left in and held out by lot."""
        rows: dict[ToolPlace, list[RecallEvidence]] = {}
        for engine, adapter, counts in self.database.tool_uses.evidence(before=self.before):
            for place in (ToolPlace(*counts[:2]), ToolPlace(*counts[:2], engine, adapter)):
                rows.setdefault(place, []).append(counts)
        found = {place: self._strata(each).estimate(0, self.config.level) for place, each in rows.items()}
        return {place: uplift for place, uplift in found.items() if uplift.served and uplift.held_out}

    def _strata(self, rows: Sequence[RecallEvidence]) -> Strata:
        names = list(dict.fromkeys(row.reflection for row in rows))
        missing = {row.env for row in rows} - self._rates.keys()
        self._rates.update(self.database.episodes.success_rates(missing, before=self.before))
        return Strata(names, rows, self._rates, PRIOR)
