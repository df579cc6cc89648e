"""What a memory is worth: no memory, plain Retry, memory, and memory with credit, on the same held-out games.

    python examples/memory_worth.py [--config FILE] [--folder DIR] [--only plain | credit] [--table]

Two labs live the same life but for one setting. Both explore the same train games at random, then play further train
games with what they remember; in one of them credit is measured and decides what is recalled, and how strongly it
speaks. Then both play the test games. Stopped and called again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from agentlab import Lab, LabConfig, Table
from agentlab.agent.tasks import make_tasks
from agentlab.bars import progress
from agentlab.cli.boundary import boundary
from agentlab.experiments.collection import collect_random
from agentlab.experiments.evaluation import ALL, Row
from agentlab.progress import Progress
from agentlab.workspace.config import parse, read_toml
from environments import canonical
from trainers.gate import p_text, paired

HERE = Path(__file__).resolve().parent
RESULT = HERE.parent / "benchmarks" / "results" / "memory_worth.md"
NAME = "memory-worth"
MEMORY = "base + memory"
HALVES = {"plain": ["base", MEMORY], "credit": [MEMORY]}


class Worth(BaseModel):
    """What `memory_worth.toml` says."""

    model_config = ConfigDict(extra="forbid")

    games: list[str] = Field(min_length=1)
    explored_seeds: int = Field(60, ge=1)
    explored_trials: int = Field(100, ge=1)
    lived_seeds: int = Field(40, ge=0)
    test_seeds: int = Field(100, ge=1)
    trials: int = Field(2, ge=2)
    lab: LabConfig = LabConfig()

    @property
    def envs(self) -> list[str]:
        return [canonical(game) for game in self.games]


def live(worth: Worth, folder: Path, half: str, bars: Progress) -> None:
    """Explore, live and be measured in one of the two labs."""
    bars.say(f"{half}: {folder / half}")
    config = worth.lab.model_copy(update={"credit": half == "credit"})
    with Lab.open(folder / half, create=True, config=config, progress=bars) as lab:
        explored = make_tasks(worth.envs, "train", range(worth.explored_seeds))
        collect_random(lab, "explored", explored, trials=worth.explored_trials, seed=config.seed)
        if worth.lived_seeds:
            seeds = range(worth.explored_seeds, worth.explored_seeds + worth.lived_seeds)
            lab.run(worth.envs, split="train", seeds=seeds, trials=worth.trials, arm=MEMORY, name="lived")
        lab.evaluate(worth.envs, seeds=range(worth.test_seeds), arms=HALVES[half], trials=worth.trials, name=NAME)


# -- the table ---------------------------------------------------------------------------------------------------------


def merged_table(worth: Worth, folder: Path, command: str) -> str:
    """What has been measured, as Markdown."""
    rows: dict[str, Row] = {}
    for half in HALVES:
        table = _measured(folder / half)
        for row in table.rows if table else []:
            rows[row.arm.replace(MEMORY, f"{MEMORY} with credit") if half == "credit" else row.arm] = row
    lines = [
        "# What a memory is worth",
        "",
        f"{worth.lab.model}, test seeds 0–{worth.test_seeds - 1} of each game; before that, "
        f"{worth.explored_seeds} train games of each were explored at random and {worth.lived_seeds} played with "
        "memory. The arms of one table had the same number of trials. Feedback between trials is the environment's own "
        f"score (an oracle). Made on {date.today()} with Python {platform.python_version()} by",
        "",
        f"    {command}",
        "",
        "Every cell is the rate of success (successes / n) [Wilson 95 % interval].",
        "",
        "| arm | " + " | ".join(env.removeprefix("twx/") for env in worth.envs) + " | all |",
        "|---|" + "---|" * (len(worth.envs) + 1),
    ]
    for arm, row in rows.items():
        lines.append(f"| {arm} | " + " | ".join(str(row.cells[env]) for env in [*worth.envs, ALL]) + " |")
    many = f", {worth.trials} trials"
    pairs = [
        (MEMORY, "base"),
        (f"{MEMORY} with credit", "base"),
        (f"{MEMORY} with credit", MEMORY),
        (f"{MEMORY}{many}", f"base + retry{many}"),
        (f"{MEMORY} with credit{many}", f"base + retry{many}"),
        (f"{MEMORY} with credit{many}", f"{MEMORY}{many}"),
    ]
    lines += ["", "Paired by game and seed:", ""]
    lines += [_comparison(arm, against, rows) for arm, against in pairs if arm in rows and against in rows]
    missing = [half for half in HALVES if _measured(folder / half) is None]
    if missing:
        lines += ["", f"Not measured yet: {', '.join(missing)}."]
    return "\n".join([*lines, "", *_credit(folder / "credit")]).rstrip() + "\n"


def _measured(folder: Path) -> Table | None:
    if not (folder / "lab.toml").exists():
        return None
    with Lab.open(folder, write=False) as lab:
        found = lab.database.evaluations.get(NAME)
    return Table.model_validate(found) if found else None


def _comparison(arm: str, against: str, rows: dict[str, Row]) -> str:
    found = paired(rows[arm].known, rows[against].known)
    low, high = found.interval
    return (
        f"- {arm} against {against}: {found.difference:+.3f} [{low:+.3f}, {high:+.3f}] on {found.n} pairs; won by it "
        f"alone {found.only_a}, by the other alone {found.only_b}; p {p_text(found.p, '= ')} (McNemar, exact)"
    )


def _credit(folder: Path) -> list[str]:
    """What was found out about the items and about the strength of advice."""
    from agentlab.agent.strength import Strength
    from memory.records import now

    if not (folder / "lab.toml").exists():
        return []
    with Lab.open(folder, write=False) as lab:
        report = lab.memory.credit.report()
        lines = [
            "Credit: "
            f"{report.measured} items were served and held out at random, {len(report.benched)} benched; "
            f"holding out cost {report.cost.lost:.1f} of {report.cost.episodes} episodes.",
            "",
            "| game | strength of advice: episodes won of played at 0, 0.5, 1, 2, 4 | best |",
            "|---|---|---|",
        ]
        for env in sorted({row.env for row in lab.database.episodes.find()}):
            known = Strength.known(lab.database, env, None, before=now())
            tried = ", ".join(f"{row['won']:.0f}/{row['n']:.0f}" for row in known.rows())
            lines.append(f"| {env.removeprefix('twx/')} | {tried} | {known.best():g} |")
    return lines


@boundary()
def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--config", type=Path, default=HERE / "memory_worth.toml")
    options.add_argument("--folder", type=Path, default=Path("labs") / NAME, help="where the labs lie")
    options.add_argument("--output", type=Path, default=RESULT, help="the Markdown file of the table")
    options.add_argument("--only", choices=list(HALVES), help="only this half, and no table")
    options.add_argument("--table", action="store_true", help="only merge what has been measured")
    given = options.parse_args(arguments)
    worth = parse(Worth, read_toml(given.config), given.config)
    with progress() as bars:
        for half in [given.only] if given.only else [] if given.table else HALVES:
            live(worth, given.folder, half, bars)
    if given.only:
        return
    words = [word for word in (sys.argv[1:] if arguments is None else arguments) if word != "--table"]
    text = merged_table(worth, given.folder, shlex.join(["python", "examples/memory_worth.py", *words]))
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
