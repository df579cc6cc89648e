"""Labs beside each other: their evaluations of the same games in one table."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from agentlab.errors import AgentLabError
from agentlab.experiments.evaluation import ALL, Row, Table
from agentlab.views.comparison import ArmLine, arm_line, tables
from agentlab.workspace.workspace import Workspace
from memory.errors import MemoryStoreError
from memory.records import content_id
from trainers.gate import holm, paired


class GameSet(BaseModel):
    """Games that evaluations have in common, and the labs that have one of exactly these."""

    key: str
    games: int
    envs: list[str]
    labs: list[str]
    chosen: bool = False


class LabArm(BaseModel):
    """An arm of an evaluation of a lab; `key` names it within the table.

    Where there is an arm to compare with: `only_it` and `only_other` games were won by one of both alone, of `n` that
    both played to their end, `p` is McNemar's for this pair alone, `p_holm` corrected for all of the table.
    """

    key: str
    lab: str
    evaluation: str
    line: ArmLine
    n: int = 0
    only_it: int = 0
    only_other: int = 0
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    p_holm: float | None = None


class LabComparison(BaseModel):
    """The arms of all chosen labs on the same games."""

    labs: list[str]
    chosen: list[str]
    sets: list[GameSet]
    columns: list[str]
    arms: list[LabArm]
    against: str | None


def compare(
    labs: Mapping[str, Workspace], chosen: list[str], *, games: str | None = None, against: str | None = None
) -> LabComparison:
    """The evaluations of the `chosen` labs (all, if none is) that are of the same games: by default those that most
    labs have in common. `against` is the key of the arm that the others are compared with. A lab that cannot be read
    has none."""
    looked = [name for name in labs if name in chosen] or list(labs)
    found: dict[str, list[tuple[str, str, Table]]] = {}
    for lab in looked:
        try:
            of_lab = tables(labs[lab])
        except (AgentLabError, MemoryStoreError):  # the list of labs says what is wrong with it
            continue
        for name, table in of_lab.items():
            key = content_id("games", *sorted({task for row in table.rows for task in row.outcomes}))
            found.setdefault(key, []).append((lab, name, table))
    sets = [_set(key, tables) for key, tables in found.items()]
    sets.sort(key=lambda one: (-len(one.labs), -one.games, one.key))
    shown = next((one for one in sets if one.key == games), sets[0] if sets else None)
    if shown is not None:
        shown.chosen = True
    lines: list[LabArm] = []
    rows: dict[str, Row] = {}
    columns: dict[str, None] = {}
    for lab, name, table in found[shown.key] if shown else []:
        columns.update(dict.fromkeys(table.envs))
        for row in table.rows:
            key = f"{lab} / {name} / {row.arm}"
            rows[key] = row
            lines.append(LabArm(key=key, lab=lab, evaluation=name, line=arm_line(row)))
    other = rows.get(against) if against is not None else None
    if other is not None:
        _compare(lines, rows, other)
    return LabComparison(
        labs=list(labs),
        chosen=looked,
        sets=sets,
        columns=[*columns, ALL] if len(columns) > 1 else list(columns),
        arms=lines,
        against=against if other is not None else None,
    )


def _set(key: str, found: list[tuple[str, str, Table]]) -> GameSet:
    tasks = {task for row in found[0][2].rows for task in row.outcomes}
    return GameSet(
        key=key, games=len(tasks), envs=found[0][2].envs, labs=list(dict.fromkeys(lab for lab, _, _ in found))
    )


def _compare(lines: list[LabArm], rows: Mapping[str, Row], other: Row) -> None:
    """Compare every line with another row, and correct for all of these tests."""
    tested = [line for line in lines if rows[line.key] is not other]
    for line in tested:
        pair = paired(rows[line.key].known, other.known)
        line.n, line.only_it, line.only_other = pair.n, pair.only_a, pair.only_b
        line.difference, line.interval, line.p = pair.difference, pair.interval, pair.p
    for line, p in zip(tested, holm([line.p or 0.0 for line in tested]), strict=True):
        line.p_holm = p
