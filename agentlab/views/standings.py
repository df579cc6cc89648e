"""What takes longer than a page may, kept in the process for as long as it stands: orders of all reflections by what
was measured, the base rates that credit needs, and whatever a page would have to read again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from agentlab.workspace.workspace import Workspace
from memory.credit import Credit

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Standings:
    """What takes longer than a page may, of one moment.

    `orders` are the numbers of all reflections by each of the sorts that need what recalls say of all of them: what was
    not measured comes last, of equals the newest first.
    """

    orders: dict[str, np.ndarray]


class _Kept(NamedTuple):
    """Something that was made when `mark` stood, in `took` seconds, at a time (`time.monotonic`)."""

    mark: object
    value: Any
    took: float
    at: float


SELDOM = 10
"""What was made may be this many times as old as it took to make, though a run has changed a little since: a page that
is looked at while it plays takes no more than a tenth of the time."""

QUICK = 0.02
"""What took no longer than this (seconds) is made anew with each change."""


def kept(workspace: Workspace, name: str, mark: object, make: Callable[[], Any], seldom: float = 0) -> Any:
    """What `make` gives, made once as long as `mark` is the same; with `seldom` also for that many times as long as it
    took, if it was not quick. It goes with the workspace."""
    found: _Kept | None = workspace.kept.get(name)
    present = time.monotonic()
    if found is None or (
        found.mark != mark and (found.took <= QUICK or present - found.at >= seldom * found.took)
    ):  # fmt: skip
        # Nobody waits for what somebody else has made; made twice it is the same.
        value = make()
        found = workspace.kept[name] = _Kept(mark, value, time.monotonic() - present, time.monotonic())
    return found.value


def standings(workspace: Workspace) -> Standings:
    """The orders of all reflections, made anew only after recalls or reflections have changed."""
    found: Standings = kept(workspace, "standings", measured(workspace), lambda: _standings(workspace), SELDOM)
    return found


def measured(workspace: Workspace) -> object:
    """What is another one after recalls or reflections have changed. Whatever else was written, such as how far a run
    is, changes none of it."""
    database = workspace.database

    def sums() -> object:
        return *database.recalls.totals(), database.reflections.last_change()

    return kept(workspace, "sums", database.connection.mark, sums)


def _standings(workspace: Workspace) -> Standings:
    import numpy as np

    database = workspace.database
    numbers = database.reflections.numbers_of()
    size = max(numbers.values(), default=0) + 1
    uplift, recalled = np.full(size, np.nan), np.zeros(size)
    strata = credit(workspace).all()
    if strata.ids:
        served, held_out = strata.totals()[:, [0, 2]].T
        means = np.where((served > 0) & (held_out > 0), strata.moments()[0], np.nan)
        uplift[[numbers[id] for id in strata.ids]] = means
    for id, served in database.recalls.served().items():
        if id in numbers:
            recalled[numbers[id]] = served.n
    newest = -np.arange(size)
    measured = {"uplift": -uplift, "harm": uplift, "recalled": -recalled}
    return Standings(
        {sort: np.lexsort((newest, np.nan_to_num(values, nan=np.inf))) for sort, values in measured.items()}
    )


def credit(workspace: Workspace) -> Credit:
    """How the lab measures its reflections, without its memory, which would load an embedder.

    It is kept until there are more episodes: the base rates of the environments are counted once.
    """
    database, namespace = workspace.database, workspace.config.namespace
    mark = (namespace, workspace.credit_config, database.episodes.newest())
    found: Credit = kept(
        workspace, "credit", mark, lambda: Credit(database, workspace.credit_config, namespace=namespace)
    )
    return found
