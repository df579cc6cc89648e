"""The 2×2: memory off and on × adapter old and new, on the same held-out games.

An experience first helps as something recalled. When a round has moved it into the weights, the new adapter without
memory should reach what the old one reached with it. The share of the memory's gain that was internalised is
(new, off − old, off) / (old, on − old, off); what was lost on the way stands in a list, game by game.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from agentlab.agent.arms import RecallConfig, arm_of
from agentlab.errors import AgentLabError
from agentlab.experiments.evaluation import ALL, Row, Table, evaluate
from agentlab.grid import Grid
from memory.records import task_parts
from trainers.gate import Paired, Ratio, bootstrap_ratio, holm, paired

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace
    from environments.base import Split

Memory = Literal["off", "on"]
Side = Literal["old", "new"]
CELLS = ("old, off", "old, on", "new, off", "new, on")
SEED = 0
"""Of the bootstrap: the same outcomes give the same interval."""


class Effect(BaseModel):
    """What one change does where the other factor stands still, over all games.

    `of` is the factor that changes, `at` the level of the other: the memory's gain at `old` or `new`, the adapter's at
    `off` or `on`.
    """

    of: Literal["memory", "adapter"]
    at: Side | Memory
    paired: Paired


class Change(BaseModel):
    """What the new adapter does to one game, with memory off or on.

    `p` is corrected for all of these tests together (Holm 1979); `regressed` says that the game is credibly worse.
    """

    env: str
    memory: Memory
    paired: Paired
    p: float
    regressed: bool


class TwoByTwo(Grid, BaseModel):
    """The four cells and what follows from them.

    Attributes:
        old, new: adapter ids, or `base`.
        cells: the four rows, by `old, off`, `old, on`, `new, off`, `new, on`; each with a cell a game and one for all.
        effects: the four simple effects.
        internalised: the share of the memory's gain that the new adapter has without memory.
        changes: every game, with memory off and on, the worst first.
        table: the evaluation that it rests on.
        same_memory: whether both sides had the same kinds of memory; if not, what the adapter changes with memory on
            is also what having less memory changes.
    """

    old: str
    new: str
    cells: dict[str, Row]
    effects: list[Effect]
    internalised: Ratio
    changes: list[Change]
    table: Table
    same_memory: bool = True

    @property
    def grid(self) -> list[list[str]]:
        """The rates of the four cells over all games, the gains in the margins, and the share that was internalised."""
        share = self.internalised
        internalised = "not known" if share.value is None else f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}]"

        def gain(of: str, at: str) -> str:
            found = self.effect(of, at)
            return f"{found.difference:+.2f} [{found.interval[0]:+.2f}, {found.interval[1]:+.2f}]"

        sides = [
            [name, *(str(self.cells[f"{side}, {level}"].cells[ALL]) for level in ("off", "on")), gain("memory", side)]
            for side, name in (("old", self.old), ("new", self.new))
        ]
        last = ["gain of the new", gain("adapter", "off"), gain("adapter", "on"), f"internalised {internalised}"]
        return [["", "memory off", "memory on", "memory's gain"], *sides, last]

    @property
    def regressions(self) -> list[Change]:
        """The games that are credibly worse under the new adapter."""
        return [change for change in self.changes if change.regressed]

    def effect(self, of: str, at: str) -> Paired:
        """One of the four effects."""
        return next(effect.paired for effect in self.effects if (effect.of, effect.at) == (of, at))


def analyse(old: str, new: str, table: Table, *, alpha: float = 0.05, same_memory: bool = True) -> TwoByTwo:
    """Read the 2×2 off an evaluation whose rows are old off, old on, new off, new on, each with one trial.

    Games that errored for one of the four are left out of whatever is compared. Raises AgentLabError if none is left.
    """
    cells = dict(zip(CELLS, table.rows, strict=True))
    known, tasks = in_common(cells)
    if not tasks:
        raise AgentLabError("No game was played to its end by all four arms, so nothing can be compared; play others.")
    return TwoByTwo(
        old=old,
        new=new,
        cells=cells,
        effects=simple_effects(known, tasks),
        internalised=internalised(known, tasks, table.envs),
        changes=_changes(known, tasks, table.envs, alpha),
        table=table,
        same_memory=same_memory,
    )


def in_common(cells: Mapping[str, Row]) -> tuple[dict[str, dict[str, bool]], set[str]]:
    """The outcomes in each of the four cells, and the games that all of them played to their end."""
    known = {name: row.known for name, row in cells.items()}
    return known, set.intersection(*(set(found) for found in known.values()))


def simple_effects(known: dict[str, dict[str, bool]], tasks: set[str]) -> list[Effect]:
    """What each change does where the other factor stands still, on these games."""
    pairs: list[tuple[Literal["memory", "adapter"], Side | Memory, str, str]] = [
        ("memory", "old", "old, on", "old, off"),
        ("memory", "new", "new, on", "new, off"),
        ("adapter", "off", "new, off", "old, off"),
        ("adapter", "on", "new, on", "old, on"),
    ]
    return [Effect(of=of, at=at, paired=paired(_only(known[one], tasks), known[other])) for of, at, one, other in pairs]


def internalised(known: dict[str, dict[str, bool]], tasks: set[str], envs: Sequence[str]) -> Ratio:
    """The share of the memory's gain that the new adapter has without memory, with a bootstrap's interval.

    Tasks are drawn within their game: how many there are of each was decided, not found."""

    def gains(task: str) -> tuple[float, float]:
        before = known["old, off"][task]
        return float(known["new, off"][task] - before), float(known["old, on"][task] - before)

    strata = [[gains(task) for task in sorted(tasks) if task_parts(task).env == env] for env in envs]
    return bootstrap_ratio(strata, seed=SEED)


def _changes(known: dict[str, dict[str, bool]], tasks: set[str], envs: Sequence[str], alpha: float) -> list[Change]:
    levels: tuple[Memory, ...] = ("off", "on")
    found = []
    for env in envs:
        here = {task for task in tasks if task_parts(task).env == env}
        for memory in levels:
            found.append((env, memory, paired(_only(known[f"new, {memory}"], here), known[f"old, {memory}"])))
    corrected = holm([part.p for _, _, part in found])
    changes = [
        Change(env=env, memory=memory, paired=part, p=p, regressed=part.lost(alpha, p))
        for (env, memory, part), p in zip(found, corrected, strict=True)
    ]
    return sorted(changes, key=lambda change: change.paired.difference)


def _only(outcomes: dict[str, bool], tasks: set[str]) -> dict[str, bool]:
    return {task: outcomes[task] for task in tasks}


def two_by_two(
    workspace: Workspace,
    envs: str | Sequence[str],
    *,
    old: str | None = None,
    new: str = "adapter",
    split: Split = "test",
    seeds: Sequence[int] = range(20),
    recall: RecallConfig | None = None,
    same_memory: bool = False,
    name: str | None = None,
) -> TwoByTwo:
    """Play the four arms and compare them; the same call again goes on where it stopped.

    `new` and `old` are `base`, `adapter` (the one that serves) or ids; without `old` it is what `new` was trained after
    (its parent), or the base. Memory is what `base + memory` and `… + memory` have, so the base sees examples in its
    prompt and adapters do not; with `recall` it is the same for both, with `same_memory` that of the base. All four
    find the memory as it was when the run of this `name` first began.
    """
    old, new = _sides(workspace, old, new)
    if same_memory and recall is None:
        recall = arm_of(workspace, "base + memory").recall
    arms = []
    for side in (old, new):
        on = arm_of(workspace, f"{side} + memory")
        arms += [arm_of(workspace, side), on if recall is None else on.with_(recall=recall)]
    alike = "-same" if same_memory else ""
    table = evaluate(
        workspace, envs, split=split, seeds=seeds, arms=arms, name=name or f"2x2-{split}-{old}-{new}{alike}"
    )
    return analyse(old, new, table, same_memory=arms[1].recall == arms[3].recall)


def _sides(workspace: Workspace, old: str | None, new: str) -> tuple[str, str]:
    """Both sides by id, or `base`. Raises AgentLabError if they are one."""
    given = arm_of(workspace, new).adapter
    if old is None:
        old = (workspace.adapters.get(given).parent if given else None) or "base"
    sides = arm_of(workspace, old).adapter or "base", given or "base"
    if sides[0] == sides[1]:
        raise AgentLabError(f"Old and new are both {sides[0]}; a 2×2 needs two: name them with --old and --new.")
    return sides
