"""A society: agents of one lab that play a game one after the other, generators first, then critics that have seen what
these came to (Du et al. 2023, multiagent debate; Subramaniam et al. 2025, multiagent finetuning).

Experimental: an arm of such agents can be measured, and no table shows yet that it helps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentlab.errors import AgentLabError, BadConfig
from agentlab.terminal import one_line

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace
    from trainers.adapters import AdapterRecord


@dataclass(frozen=True)
class Society:
    """Who plays which trial of a game: N generators, then N critics, and so on from the first.

    Attributes:
        generators, critics: the adapter of each; None plays the base.
        told: whether critics are told how the attempts that they see have ended.
    """

    generators: tuple[str | None, ...]
    critics: tuple[str | None, ...]
    told: bool = True

    @classmethod
    def alike(cls, adapter: str | None, agents: int, *, told: bool = True) -> Society:
        """One whose agents all are the same."""
        return cls((adapter,) * agents, (adapter,) * agents, told)

    @property
    def name(self) -> str:
        """How it is called in records."""
        who = (one or "base" for one in (*self.generators, *self.critics))
        return f"society({','.join(who)})"

    def adapter(self, trial: int) -> str | None:
        """Who plays a trial (0-based)."""
        agents = (*self.generators, *self.critics)
        return agents[trial % len(agents)]

    def seen(self, trial: int) -> range:
        """The trials whose attempts are shown in a trial: none to a generator, those of all generators to a critic."""
        first = trial - trial % (len(self.generators) + len(self.critics))
        return range(first, first + len(self.generators) if trial - first >= len(self.generators) else first)


@dataclass(frozen=True)
class Trained:
    """A society that a round trained, and the temperature at which it played there."""

    society: Society
    temperature: float


def trained(workspace: Workspace, round_id: str = "") -> Trained:
    """The society of a round, by default of the last one that trained any. An agent that learned nothing is the base.

    Raises AgentLabError if there is none.
    """
    members = [record for record in workspace.adapters.list() if record.lineage.member is not None]
    of = round_id or (members[-1].lineage.round if members else None)
    found = _of_round(members, of)
    if found is None:
        rounds = ", ".join(dict.fromkeys(str(record.lineage.round) for record in members)) or "none has so far"
        raise AgentLabError(
            f"There is no society{f' of {one_line(round_id, 60)}' if round_id else ''}; rounds with the table "
            f"`society` train one ({rounds})."
        )
    return found


def serving(workspace: Workspace, adapter: str | None) -> Trained | None:
    """The society whose generator an adapter is; None for one that is of none."""
    member = workspace.adapters.get(adapter).lineage.member if adapter is not None else None
    if adapter is None or member is None:
        return None
    return _of_round(workspace.adapters.list(), workspace.adapters.get(adapter).lineage.round)


def _of_round(records: list[AdapterRecord], round_id: str | None) -> Trained | None:
    members = {
        record.lineage.member.name: (record.lineage.member, record.id)
        for record in records
        if record.lineage.member is not None and record.lineage.round == round_id
    }
    if not members:
        return None
    member, _ = next(iter(members.values()))
    generators, critics = (
        tuple(members[name][1] if (name := f"{kind} {at}") in members else None for at in range(1, member.agents + 1))
        for kind in ("generator", "critic")
    )
    return Trained(Society(generators, critics, member.told), member.temperature)


def parse(text: str) -> str:
    """The round that `society` or `society(ROUND)` names; empty for the last. Raises BadConfig if it is neither."""
    found = re.fullmatch(r"society(?:\((.+)\))?", text)
    if found is None:
        raise BadConfig(f"'{one_line(text, 60)}' names no society; write society, or society(round-1).")
    return (found[1] or "").strip()
