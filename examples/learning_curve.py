"""The learning curve: rounds of distillation after each other, several training seeds, one table on held-out games.

    python examples/learning_curve.py [--config FILE] [--folder DIR] [--seed K | --base | --table]

Everything can be stopped and called again: a lab goes on where it stopped, and what is finished is not played twice.
Each training seed has a lab of its own, so that several can run at once; `random` and `base`, which no training seed
changes, are played once, in a lab beside them.
"""

from __future__ import annotations

import argparse
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from agentlab import Lab, LabConfig, RoundConfig, Table
from agentlab.bars import progress
from agentlab.cli.boundary import boundary
from agentlab.experiments.evaluation import ALL, Cell, Row
from agentlab.progress import Progress
from agentlab.workspace.config import merged, parse, read_toml
from environments import canonical
from trainers.gate import p_text, paired, wilson

HERE = Path(__file__).resolve().parent
RESULT = HERE.parent / "benchmarks" / "results" / "learning_curve.md"
SHARED = ("random", "base")
LEARNED = ("adapter + memory", "adapter")
WITH_MEMORY = "base + memory"
NAME = "learning-curve"


class Curve(BaseModel):
    """What `learning_curve.toml` says."""

    model_config = ConfigDict(extra="forbid")

    training_seeds: list[int] = Field([0, 1, 2], min_length=1)
    train_games: list[str] = Field(min_length=1)
    other_games: list[str] = []
    test_seeds: int = Field(100, ge=1)
    notes: str = ""
    trials: int = Field(1, ge=1)
    lab: LabConfig = LabConfig()
    round: dict[str, Any] = {}
    rounds: list[dict[str, Any]] = Field(default=[{}], min_length=1)

    @property
    def games(self) -> list[str]:
        return [canonical(game) for game in [*self.train_games, *self.other_games]]

    def config(self, number: int, seed: int) -> RoundConfig:
        """The settings of a round (0-based) for a training seed."""
        settings = merged(self.round, self.rounds[number], {"envs": self.train_games, "seed": seed})
        return parse(RoundConfig, settings, Path(f"round {number + 1}"))


def learn(curve: Curve, folder: Path, seed: int, bars: Progress) -> None:
    """All rounds of one training seed, then its arms on the test games."""
    bars.say(f"Training seed {seed}: {folder / f'seed-{seed}'}")
    settings = curve.lab.model_copy(update={"seed": seed})
    with Lab.open(folder / f"seed-{seed}", create=True, config=settings, progress=bars) as lab:
        while (done := sum(report.phase == "done" for report in lab.rounds())) < len(curve.rounds):
            lab.round(curve.config(done, seed))
        arms = [*LEARNED] if lab.serving() else []
        if seed == curve.training_seeds[0] or not arms:
            arms.append(WITH_MEMORY)  # it differs between training seeds by what was remembered only: once is enough
        lab.evaluate(curve.games, seeds=range(curve.test_seeds), arms=arms, trials=curve.trials, name=NAME)


def measure_base(curve: Curve, folder: Path, bars: Progress) -> None:
    """The arms that do not depend on a training seed."""
    bars.say(f"Random and base: {folder / 'base'}")
    with Lab.open(folder / "base", create=True, config=curve.lab, progress=bars) as lab:
        lab.evaluate(curve.games, seeds=range(curve.test_seeds), arms=SHARED, trials=curve.trials, name=NAME)


# -- the table -------------------------------------------------------------------------------------------------------


def merged_table(curve: Curve, folder: Path, command: str) -> str:
    """All evaluations that are finished, as Markdown."""
    base = _measured(folder / "base")
    seeds = {seed: found for seed in curve.training_seeds if (found := _measured(folder / f"seed-{seed}"))}
    lines = ["# Learning curve", "", *_about(curve, seeds, command), ""]
    if base is None and not seeds:
        return "\n".join([*lines, "Nothing has been measured yet."]) + "\n"
    everything = [table for table in (base, *seeds.values()) if table is not None]
    arms = list(dict.fromkeys(row.arm for table in everything for row in table.rows))
    pooled = {arm: _pooled(curve, arm, everything) for arm in arms}
    count = f"{len(seeds)} training seed{'s' if len(seeds) != 1 else ''}"
    lines += [f"## {count}, pooled", "", *_grid(curve, pooled), ""]
    lines += [curve.notes.strip(), ""] if curve.notes else []
    for seed, table in seeds.items():
        rows = [*(base.rows if base else []), *table.rows]
        lines += [f"## Training seed {seed}", "", *_grid(curve, {row.arm: row.cells for row in rows}), ""]
        lines += [*_comparisons(rows), "", *_rounds(folder / f"seed-{seed}"), ""]
    return "\n".join(lines).rstrip() + "\n"


def _measured(folder: Path) -> Table | None:
    if not (folder / "lab.toml").exists():
        return None
    with Lab.open(folder, write=False) as lab:
        found = lab.database.evaluations.get(NAME)
    return Table.model_validate(found) if found else None


def _about(curve: Curve, seeds: dict[int, Table], command: str) -> list[str]:
    missing = [f"training seed {seed}" for seed in curve.training_seeds if seed not in seeds]
    held = {seed: {row.arm for row in table.rows} for seed, table in seeds.items()}
    measured = {arm for arms in held.values() for arm in arms if arm in LEARNED}
    missing += [f"{arm} of training seed {seed}" for seed in held for arm in sorted(measured - held[seed])]
    about = [
        f"{curve.lab.model}; rounds: {len(curve.rounds)}; games trained on: {len(curve.train_games)}; measured on test "
        f"seeds 0–{curve.test_seeds - 1} of each game. Made on {date.today()} with Python {platform.python_version()} "
        "by",
        "",
        f"    {command}",
        "",
        "Every cell is the rate of success (successes / n) [Wilson 95 % interval]. A pooled cell counts each play of "
        "each training seed; its interval leaves out that the seeds share their games. "
        "Not trained on: " + (", ".join(f"`{canonical(game)}`" for game in curve.other_games) or "none") + ".",
    ]
    if missing:
        about += ["", f"Not measured yet: {', '.join(missing)}."]
    return about


def _pooled(curve: Curve, arm: str, tables: Sequence[Table]) -> dict[str, Cell]:
    pooled = {}
    for game in [*curve.games, ALL]:
        rows = [row.cells for table in tables for row in table.rows if row.arm == arm]
        cells = [row[game] for row in rows if game in row]
        wins, n = sum(cell.wins for cell in cells), sum(cell.n for cell in cells)
        low, high = wilson(wins, n)
        score = sum(cell.score * cell.n for cell in cells) / n if n else 0.0
        errored = sum(cell.errored for cell in cells)
        pooled[game] = Cell(wins=wins, n=n, low=low, high=high, score=score, errored=errored)
    return pooled


def _grid(curve: Curve, columns: dict[str, dict[str, Cell]]) -> list[str]:
    lines = ["| game | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for game in [*curve.games, ALL]:
        cells = [_written(cells[game]) if game in cells else "–" for cells in columns.values()]
        lines.append(f"| {f'**{ALL}**' if game == ALL else game.removeprefix('twx/')} | " + " | ".join(cells) + " |")
    return lines


def _written(cell: Cell) -> str:
    if not cell.n:
        return "–"
    errored = f", {cell.errored} errored" if cell.errored else ""
    return f"{cell.rate:.2f} ({cell.wins}/{cell.n}) [{cell.low:.2f}, {cell.high:.2f}]{errored}"


def _comparisons(rows: Sequence[Row]) -> list[str]:
    """Paired by game and test seed, within one training seed: pooled pairs would count the base's plays repeatedly."""
    by_arm = {row.arm: row.known for row in rows}
    lines = []
    for arm, against in (("base + memory", "base"), ("adapter", "base"), ("adapter + memory", "adapter")):
        if arm in by_arm and against in by_arm:
            found = paired(by_arm[arm], by_arm[against])
            lines.append(
                f"- {arm} against {against}: {found.difference:+.3f} on {found.n} pairs; "
                f"won by it alone {found.only_a}, by the other alone {found.only_b}; p {p_text(found.p, '= ')} "
                "(McNemar, exact)"
            )
    return lines


def _rounds(folder: Path) -> list[str]:
    with Lab.open(folder, write=False) as lab:
        reports = lab.rounds()
    lines = ["| round | successes collected | trained on | adapter | gate |", "|---|---|---|---|---|"]
    for report in reports:
        collected = ", ".join(f"{way} {found['won']}/{found['tasks']}" for way, found in report.collected.items())
        verdict = "promoted" if report.promoted else "rejected" if report.promoted is False else report.phase
        reason = str(report.gate.get("reason", "")).replace("|", "/")
        chosen = sum(report.selected.values())
        lines.append(f"| {report.number} | {collected} | {chosen} | {report.adapter} | {verdict}: {reason} |")
    return lines


@boundary()
def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--config", type=Path, default=HERE / "learning_curve.toml")
    options.add_argument("--folder", type=Path, default=Path("labs") / NAME, help="where the labs lie")
    options.add_argument("--output", type=Path, default=RESULT, help="the Markdown file of the table")
    which = options.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, help="only this training seed")
    which.add_argument("--base", action="store_true", help="only the arms that no training seed changes")
    which.add_argument("--table", action="store_true", help="only merge what has been measured")
    given = options.parse_args(arguments)
    curve = parse(Curve, read_toml(given.config), given.config)
    with progress() as bars:
        if given.seed is not None:
            learn(curve, given.folder, given.seed, bars)
        elif given.base:
            measure_base(curve, given.folder, bars)
        elif not given.table:
            for seed in curve.training_seeds:
                learn(curve, given.folder, seed, bars)
            measure_base(curve, given.folder, bars)
    if given.seed is None and not given.base:
        words = [word for word in (sys.argv[1:] if arguments is None else arguments) if word != "--table"]
        command = shlex.join(["python", "examples/learning_curve.py", *words])
        text = merged_table(curve, given.folder, command)
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(text)
        print(text)


if __name__ == "__main__":
    main()
