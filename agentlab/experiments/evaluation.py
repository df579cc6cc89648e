"""What an arm is worth: rates with n and intervals, per game and in all, and paired comparisons between arms."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from agentlab import tracing
from agentlab.agent.arms import Arm, arm_of
from agentlab.agent.playing import playing_of
from agentlab.agent.result import count_spent
from agentlab.agent.rollout import TaskResult, begun
from agentlab.agent.tasks import make_tasks
from agentlab.experiments.run import run, say_what_is_known
from agentlab.grid import Grid
from memory.records import Usage, content_id, task_parts
from trainers.gate import Paired, paired, wilson

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace
    from environments import Task
    from environments.base import Split
    from memory import Database

Outcomes = dict[str, bool | None]

ALL = "all"


class Cell(BaseModel):
    """One rate: successes of n, its Wilson 95 % interval, the mean best score, how many tasks errored, and how many
    actions were not admissible."""

    wins: int
    n: int
    low: float
    high: float
    score: float
    errored: int = 0
    invalid: int = Field(0, exclude_if=operator.not_)

    @property
    def rate(self) -> float:
        return self.wins / self.n if self.n else float("nan")

    def __str__(self) -> str:
        if not self.n:
            return "–"
        return f"{self.rate:.2f} ({self.wins}/{self.n}) [{self.low:.2f}, {self.high:.2f}]"


class Row(BaseModel):
    """One arm: its cells by environment and over all of them, within a number of trials, and what the model took."""

    arm: str
    trials: int
    cells: dict[str, Cell]
    outcomes: dict[str, bool | None]
    usage: Usage = Field(default_factory=Usage, exclude_if=operator.not_)

    @property
    def known(self) -> dict[str, bool]:
        """Its outcomes without those that an error hides."""
        return known(self.outcomes)


class Comparison(BaseModel):
    """Two rows on the same tasks and seeds: McNemar's exact test on the discordant pairs."""

    arm: str
    against: str
    only_arm: int
    only_against: int
    n: int
    difference: float
    p: float
    interval: tuple[float, float] = (-1.0, 1.0)


class Table(Grid, BaseModel):
    """An evaluation: rows, comparisons, and what made them (`about`)."""

    envs: list[str]
    rows: list[Row]
    comparisons: list[Comparison] = []
    about: dict[str, Any] = {}

    @property
    def grid(self) -> list[list[str]]:
        """Titles, then a line for each arm: its rate in each environment, and in all where there are several."""
        columns = [*self.envs, ALL] if len(self.envs) > 1 else self.envs
        lines = [[row.arm, *(str(row.cells.get(env, "–")) for env in columns)] for row in self.rows]
        return [["arm", *columns], *lines]

    def row(self, arm: str) -> Row:
        """The row of an arm."""
        return next(row for row in self.rows if row.arm == arm)

    def compare(self, arm: str, against: str) -> Comparison:
        """Compare two rows, and keep the comparison with the table."""
        found = paired(self.row(arm).known, self.row(against).known)
        comparison = _comparison(arm, against, found)
        self.comparisons = [c for c in self.comparisons if (c.arm, c.against) != (arm, against)] + [comparison]
        return comparison

    def compare_with_base(self) -> Table:
        """Compare every row with the base within as many trials; random, which nobody would serve, is left alone."""
        for plain in [row for row in self.rows if row.arm.split(",")[0] in ("base", "base + retry")]:
            for row in self.rows:
                if row.trials == plain.trials and row.arm not in (plain.arm, "random"):
                    self.compare(row.arm, plain.arm)
        return self


def _comparison(arm: str, against: str, found: Paired) -> Comparison:
    return Comparison(
        arm=arm,
        against=against,
        only_arm=found.only_a,
        only_against=found.only_b,
        n=found.n,
        difference=found.difference,
        p=found.p,
        interval=found.interval,
    )


def known(outcomes: Outcomes, env: str | None = None) -> dict[str, bool]:
    """The outcomes, of all games or of one environment's, without those that an error hides."""
    return {
        task: won for task, won in outcomes.items() if won is not None and (env is None or task_parts(task).env == env)
    }


def outcomes(results: Sequence[TaskResult], trials: int) -> Outcomes:
    """Whether each task was won within its first `trials` trials; None where an error hides it."""
    return {result.task.id: result.won_within(trials) for result in results}


def row(arm: str, results: Sequence[TaskResult], *, trials: int = 1) -> Row:
    """Summarise results as one row. Errored tasks count neither as successes nor as failures."""
    by_env: dict[str, list[TaskResult]] = {}
    for result in results:
        by_env.setdefault(result.task.env, []).append(result)
    cells = {env: _cell(found, trials) for env, found in by_env.items()}
    cells[ALL] = _cell(results, trials)
    used = sum((trial.usage for result in results for trial in result.trials[:trials] if trial.usage), Usage())
    return Row(arm=arm, trials=trials, cells=cells, outcomes=outcomes(results, trials), usage=used)


def _cell(results: Sequence[TaskResult], trials: int) -> Cell:
    ended = [(result, won) for result in results if (won := result.won_within(trials)) is not None]
    wins = sum(won for _, won in ended)
    low, high = wilson(wins, len(ended)) if ended else (0.0, 1.0)
    scores = [max((trial.score for trial in result.trials[:trials]), default=0.0) for result, _ in ended]
    return Cell(
        wins=wins,
        n=len(ended),
        low=low,
        high=high,
        score=sum(scores) / len(scores) if scores else 0.0,
        errored=len(results) - len(ended),
        invalid=sum(trial.invalid for result, _ in ended for trial in result.trials[:trials]),
    )


def evaluate(
    workspace: Workspace,
    envs: str | Sequence[str],
    *,
    split: Split,
    seeds: Sequence[int],
    arms: str | Arm | Sequence[str | Arm],
    trials: int = 1,
    name: str | None = None,
    again: bool = False,
) -> Table:
    """Measure arms side by side on the same tasks and seeds, and store the table: see `Lab.evaluate`."""
    workspace.must_write()
    # One arm may be named alone; a text is no list of its letters.
    asked = [arms] if isinstance(arms, str | Arm) else arms
    chosen = [arm_of(workspace, arm) if isinstance(arm, str) else arm for arm in asked]
    if all(isinstance(arm, str) for arm in asked):  # however often, and in whatever spelling, an arm is named
        chosen = list({(arm.name, arm.identity): arm for arm in chosen}.values())
    tasks = make_tasks(envs, split, seeds)
    named = naming(workspace, name, split, tasks, chosen, trials)
    kept = workspace.database.evaluations.get(named.record) or {}
    before = Table.model_validate(kept) if kept.get("rows") else Table(envs=[], rows=[])
    about = {
        "name": named.record,
        "date": begun(workspace, named.run),
        "split": split,
        "seeds": [min(seeds), max(seeds)],
        "model": workspace.config.model,
        "trials": trials,
        "arms": {**before.about.get("arms", {}), **{arm.name: arm.identity for arm in chosen}},
        "runs": {**before.about.get("runs", {}), **{arm.name: named.run_of(arm) for arm in chosen}},
    }
    if playing := playing_of(workspace):
        about["playing"] = playing
    say_what_is_known(workspace, named.run)
    table = Table(envs=list(dict.fromkeys(task.env for task in tasks)), rows=[], about=about)
    errored = False
    count_spent(workspace, {named.run, named.plain_run})
    told = {"evaluation": named.record, "split": split, "tasks": len(tasks), "arms": [arm.name for arm in chosen]}
    # Arms that recall do so from one memory: what others ask for meanwhile waits.
    recalling = any(arm.recall for arm in chosen)
    resting = workspace.folding.resting() if workspace.folding and recalling else nullcontext()
    with tracing.workflow("evaluation", told), resting:
        for arm in chosen:
            many = 1 if arm.player.name == "random" else trials
            under = named.run_of(arm)
            results = run(workspace, table.envs, split=split, seeds=seeds, trials=many, arm=arm, name=under,
                          again=again, hold_out_tools=False)  # fmt: skip
            errored = errored or any(result.part_errored for result in results)
            table.rows.append(row(arm.name, results, trials=1))
            if many > 1:
                suffix = f", {many} trials" if arm.recall else f" + retry, {many} trials"
                table.rows.append(row(f"{arm.name}{suffix}", results, trials=many))
            # Stored with its comparisons, and with what was measured before on these games; what of that a caller
            # shows is the caller's choice.
            stored = table.model_copy(update={"rows": _grown(before.rows, table.rows)}, deep=True).compare_with_base()
            workspace.database.evaluations.put(named.record, stored.model_dump(mode="json"))
    if not errored:
        named.finish(workspace.database)
    return table


def _grown(before: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """The rows from before, those that were measured again as they are now, and the new ones."""
    return list(({row.arm: row for row in before} | {row.arm: row for row in rows}).values())


@dataclass(frozen=True)
class Naming:
    """Under which names an evaluation is kept, `record`, and played: with memory as the run `run`, without as
    `plain_run`. `measured` names what it measures, whenever; empty if a person has named it."""

    record: str
    run: str
    plain_run: str
    measured: str = ""

    def run_of(self, arm: Arm) -> str:
        """The run in which an arm plays."""
        return self.run if arm.recall is not None else self.plain_run

    def finish(self, database: Database) -> None:
        """Note that nothing of it is left to be played."""
        if self.measured:
            entry = database.journal.get(SCOPE, self.measured) or {}
            database.journal.put(SCOPE, self.measured, {**entry, "finished": True})


SCOPE = "evaluations"


def naming(
    workspace: Workspace, name: str | None, split: str, tasks: Sequence[Task], arms: Sequence[Arm], trials: int
) -> Naming:
    """The names of an evaluation: as a person gave them, or following from what it measures and what is known.

    A named record grows by the arms and trials that are measured on its games. Other games, or another arm under the
    name of one that it has, never share a record, whatever the names. What depends on no memory is played once for all
    evaluations of the same games.
    """
    database = workspace.database
    games = sorted(task.id for task in tasks)
    played = sorted(f"{arm.name} {arm.identity}" for arm in arms)
    if name is not None:
        records = (name, content_id(name, *games), content_id(name, *games, *played))
        playing, kept = playing_of(workspace), database.evaluations.get
        record = next((one for one in records if _fits(kept(one), games, arms, playing)), records[-1])
        # Who once ranks and once writes has the same names, so one of the two has a run of its own.
        return Naming(record, name, record if _played_otherwise(kept(name), playing) else name)
    measured = content_id(f"eval-{split}", workspace.config.model, workspace.config.seed, trials, *played, *games)
    entry = database.journal.get(SCOPE, measured)
    number = entry["number"] if entry else 1
    if entry is None or (
        entry["finished"] and any(arm.recall for arm in arms) and entry["known"] != known_to(workspace, entry["name"])
    ):
        number += entry is not None
        name = measured if number == 1 else f"{measured}-{number}"
        entry = {"name": name, "number": number, "known": known_to(workspace, name), "finished": False}
        database.journal.put(SCOPE, measured, entry)
    return Naming(entry["name"], entry["name"], measured, measured)


def _fits(kept: dict[str, Any] | None, games: Sequence[str], arms: Sequence[Arm], playing: Mapping[str, Any]) -> bool:
    """Whether what is measured may be kept in a record (None: a new one): it is of these games, played the same way,
    and under the names of these arms it has no others."""
    if kept is None:
        return True
    if _played_otherwise(kept, playing):
        return False
    rows = kept.get("rows", [])
    if {task for row in rows for task in row["outcomes"]} != set(games):
        return False
    identities, measured = kept["about"].get("arms", {}), {row["arm"] for row in rows}

    def same(arm: Arm) -> bool:
        if arm.name in identities:
            return bool(identities[arm.name] == arm.identity)
        # An earlier version did not say which arms its rows are of: `adapter` may have been another one.
        return arm.name not in measured or not arm.adapter or arm.adapter in arm.name

    return all(map(same, arms))


def _played_otherwise(kept: dict[str, Any] | None, playing: Mapping[str, Any]) -> bool:
    """Whether a record has rows of a model that was played another way."""
    return kept is not None and bool(kept.get("rows")) and kept["about"].get("playing", {}) != playing


def known_to(workspace: Workspace, run: str) -> int:
    """A number that grows with every change of what a run can recall that others wrote."""
    from memory.store import Filter

    wanted = Filter(split="train", anywhere=True, exclude_run=run, namespace=workspace.config.namespace, status=None)
    return workspace.database.reflections.last_change(wanted)
