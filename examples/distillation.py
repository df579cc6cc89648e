"""The methods of distillation side by side: what each makes of the same explored games, on the same held-out ones.

    python examples/distillation.py [--config FILE] [--folder DIR] [--only ARM] [--two-by-two] [--table]

Games are explored once. Every arm begins with a copy of that lab, runs its rounds there and plays the test games with
what its last round trained, whether or not the gate let it serve. Stopped and called again, everything goes on where it
was; after `--only explored`, arms can run in processes side by side.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from agentlab import Lab, LabConfig, RoundConfig, RoundReport, Table
from agentlab.agent.arms import BASE
from agentlab.agent.tasks import make_tasks
from agentlab.bars import progress
from agentlab.cli.boundary import boundary
from agentlab.cli.two_by_two import UNLIKE, internalised
from agentlab.errors import AgentLabError
from agentlab.experiments.evaluation import ALL, Row
from agentlab.experiments.two_by_two import analyse
from agentlab.progress import Progress
from agentlab.rounds.parts import MonitoringConfig
from agentlab.rounds.sampling import sample
from agentlab.search import Budget, search_tasks
from agentlab.workspace.config import merged, parse, read_toml
from environments import canonical
from memory.store import EpisodeFilter
from trainers.gate import Estimate, MonitorConfig, Monitors, holm, observe, p_text, paired

HERE = Path(__file__).resolve().parent
RESULT = HERE.parent / "benchmarks" / "results" / "distillation.md"
NAME = "distillation"
EXPLORED, UNTRAINED = "explored", "base"
QUADRANTS = "distillation-2x2"
SAMPLES = "samples-of-the-base"


class ArmConfig(BaseModel):
    """What one arm does otherwise: `round` in all its rounds, `later` in those after the first."""

    model_config = ConfigDict(extra="forbid")

    label: str
    round: dict[str, Any] = {}
    later: dict[str, Any] = {}


class Quadrants(BaseModel):
    """Which arm is asked how much of its memory it internalised, and on which games."""

    model_config = ConfigDict(extra="forbid")

    arm: str
    games: list[Annotated[str, AfterValidator(canonical)]] = Field(min_length=1)


class Comparison(BaseModel):
    """What `distillation.toml` says."""

    model_config = ConfigDict(extra="forbid")

    games: list[str] = Field(min_length=1)
    rounds: int = Field(1, ge=1, le=3)
    explored_seeds: int = Field(60, ge=1)
    explored_steps: int = Field(2000, ge=1)
    test_seeds: int = Field(100, ge=1)
    against: str
    notes: str = ""
    lab: LabConfig = LabConfig()
    round: dict[str, Any] = {}
    later: dict[str, Any] = {}
    arms: dict[str, ArmConfig] = Field(min_length=1)
    two_by_two: Quadrants

    @model_validator(mode="after")
    def _named(self) -> Comparison:
        for field, name, known in (("arm", self.two_by_two.arm, self.arms), ("against", self.against, self.labels)):
            if name not in known:
                raise ValueError(f"{field} = {name!r} names no arm; there are {', '.join(known)}")
        return self

    @property
    def envs(self) -> list[str]:
        return [canonical(game) for game in self.games]

    @property
    def labels(self) -> dict[str, str]:
        return {UNTRAINED: UNTRAINED, **{name: arm.label for name, arm in self.arms.items()}}

    @property
    def monitor(self) -> MonitoringConfig:
        return parse(MonitoringConfig, self.round.get("monitor", {}), Path("round.monitor"))

    def config(self, arm: str, number: int) -> RoundConfig:
        """The settings of a round (0-based) of an arm. A later one explores games that no earlier one has seen, and so
        does the first unless it names its own."""
        settings = self._settings(arm, number)
        seen = self.explored_seeds + sum(self._settings(arm, earlier)["seeds"] for earlier in range(number))
        if number:
            settings["first_seed"] = seen
        settings.setdefault("first_seed", seen)
        return parse(RoundConfig, settings, Path(f"round {number + 1} of {arm}"))

    def _settings(self, arm: str, number: int) -> dict[str, Any]:
        own = self.arms[arm]
        layers = [self.round, own.round, *([self.later, own.later] if number else [])]
        return merged({"seeds": 20}, *layers, {"envs": self.games})


# -- the work --------------------------------------------------------------------------------------------------------


def explore(compared: Comparison, folder: Path, bars: Progress) -> None:
    """Explore the train games at random until they are won, once for all arms; failures are kept as well."""
    if (folder / f"{EXPLORED}.done").exists():
        return
    bars.say(f"Exploring: {folder / EXPLORED}")
    with Lab.open(folder / EXPLORED, create=True, config=compared.lab, progress=bars) as lab:
        tasks = make_tasks(compared.envs, "train", range(compared.explored_seeds))
        budget = Budget(steps=compared.explored_steps)
        search_tasks(lab, EXPLORED, tasks, method="best_of_n", budget=budget, seed=compared.lab.seed)
    (folder / f"{EXPLORED}.done").touch()


def copied(folder: Path, name: str) -> Path:
    """The lab of an arm: a copy of the explored one, whole or not at all."""
    place, beside = folder / name, folder / f"{name}.partial"
    if not place.exists():
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(folder / EXPLORED, beside)
        os.replace(beside, place)
    return place


def measure_base(compared: Comparison, folder: Path, bars: Progress) -> None:
    """The untrained model: on the test games, and sampled as every new adapter is."""
    bars.say(f"{UNTRAINED}: {folder / UNTRAINED}")
    with Lab.open(copied(folder, UNTRAINED), progress=bars) as lab:
        monitor = compared.monitor
        if monitor.tasks:
            tasks = make_tasks(compared.envs, "dev", range(monitor.tasks))
            temperature, seed = monitor.temperature, lab.config.seed
            sample(lab, SAMPLES, tasks, adapter=None, temperature=temperature, trials=monitor.k, seed=seed)
        lab.evaluate(compared.envs, seeds=range(compared.test_seeds), arms=[BASE], name=NAME)


def learn(compared: Comparison, folder: Path, arm: str, bars: Progress) -> None:
    """All rounds of an arm, then the test games. What finds nothing to train on is not tried again."""
    bars.say(f"{compared.arms[arm].label}: {folder / arm}")
    with Lab.open(copied(folder, arm), progress=bars) as lab:
        while not _over(compared, reports := lab.rounds()):
            number = sum(report.phase == "done" for report in reports)
            try:
                lab.round(compared.config(arm, number))
            except AgentLabError as error:
                if not any(report.phase == "failed" for report in lab.rounds()):
                    raise
                bars.say(str(error))
        adapter = _trained(lab.rounds())
        if adapter is not None:
            trained = BASE.with_(name=arm, adapter=adapter)
            lab.evaluate(compared.envs, seeds=range(compared.test_seeds), arms=[trained], name=NAME)


def _over(compared: Comparison, reports: Sequence[RoundReport]) -> bool:
    done = sum(report.phase == "done" for report in reports)
    return done >= compared.rounds or any(report.phase == "failed" for report in reports)


def _trained(reports: Sequence[RoundReport]) -> str | None:
    """What the last round that ended has trained."""
    return next((report.adapter for report in reversed(reports) if report.phase == "done"), None)


def measure_quadrants(compared: Comparison, folder: Path, bars: Progress) -> None:
    """Memory off and on × base and what the arm trained."""
    learn(compared, folder, compared.two_by_two.arm, bars)
    with Lab.open(folder / compared.two_by_two.arm, progress=bars) as lab:
        adapter, seeds = _trained(lab.rounds()), range(compared.test_seeds)
        if adapter is not None:
            lab.two_by_two(compared.two_by_two.games, old=UNTRAINED, new=adapter, seeds=seeds, name=QUADRANTS)


# -- the table -------------------------------------------------------------------------------------------------------


def merged_table(compared: Comparison, folder: Path, command: str) -> str:
    """What has been measured, as Markdown."""
    rows: dict[str, Row] = {}
    rounds: dict[str, list[RoundReport]] = {}
    for name in compared.labels:
        table = _evaluation(folder / name, NAME)
        rows |= {name: table.rows[0]} if table and table.rows else {}
        rounds[name] = _reports(folder / name)
    lines = ["# Methods of distillation", "", *_about(compared, command), ""]
    missing = [label for name, label in compared.labels.items() if name not in rows]
    lines += [f"Not measured yet: {', '.join(missing)}.", ""] if missing else []
    if rows:
        lines += [*_grid(compared, rows), ""]
    if compared.against in rows and len(rows) > 1:
        lines += [*_comparisons(compared, rows), ""]
    lines += [compared.notes.strip(), ""] if compared.notes else []
    lines += ["## How each came about", "", *_rounds(compared, folder, rounds), ""]
    lines += [*_quadrants(compared, folder)]
    return "\n".join(lines).rstrip() + "\n"


def _evaluation(folder: Path, name: str) -> Table | None:
    if not (folder / "lab.toml").exists():
        return None
    with Lab.open(folder, write=False) as lab:
        found = lab.database.evaluations.get(name)
    return Table.model_validate(found) if found else None


def _reports(folder: Path) -> list[RoundReport]:
    if not (folder / "lab.toml").exists():
        return []
    with Lab.open(folder, write=False) as lab:
        return lab.rounds()


def _about(compared: Comparison, command: str) -> list[str]:
    monitor = compared.monitor
    return [
        f"{compared.lab.model}; {compared.explored_seeds} train games of each were explored at random, "
        f"once for all arms; rounds of each arm: {compared.rounds}; measured on test seeds "
        f"0–{compared.test_seeds - 1} of each game, without memory. Made on {date.today()} with Python "
        f"{platform.python_version()} by",
        "",
        f"    {command}",
        "",
        "Every cell is the rate of success (successes / n) [Wilson 95 % interval] of what the last round trained, "
        "whether or not its gate let it serve. "
        f"Pass@K: {monitor.k} trials of {monitor.tasks} dev games of each at temperature {monitor.temperature:g}, "
        "without memory; Pass@K-S asks for different solutions. Drift: mean log-probability of what was taught above "
        "the base's, nats a token.",
    ]


def _grid(compared: Comparison, rows: dict[str, Row]) -> list[str]:
    names = [game.removeprefix("twx/") for game in compared.envs]
    lines = ["| arm | " + " | ".join(names) + f" | {ALL} |", "|---|" + "---|" * (len(names) + 1)]
    for name, row in rows.items():
        cells = [str(row.cells[env]) for env in [*compared.envs, ALL]]
        lines.append(f"| {compared.labels[name]} | " + " | ".join(cells) + " |")
    return lines


def _comparisons(compared: Comparison, rows: dict[str, Row]) -> list[str]:
    """Every arm against one, paired by game and seed, with p-values corrected for all of these tests (Holm)."""
    known = {name: row.known for name, row in rows.items()}
    against = known.pop(compared.against)
    found = {name: paired(outcomes, against) for name, outcomes in known.items()}
    corrected = holm([one.p for one in found.values()])
    label = compared.labels[compared.against]
    lines = [
        f"| against {label}, paired by game and seed | difference [95 %] | won by it alone, by {label} alone | n "
        "| p (McNemar, exact) | p (Holm) |",
        "|---|---|---|---|---|---|",
    ]
    for (name, one), p in zip(found.items(), corrected, strict=True):
        low, high = one.interval
        lines.append(
            f"| {compared.labels[name]} | {one.difference:+.3f} [{low:+.3f}, {high:+.3f}] | {one.only_a}, {one.only_b} "
            f"| {one.n} | {p_text(one.p)} | {p_text(p)} |"
        )
    return lines


def _rounds(compared: Comparison, folder: Path, rounds: dict[str, list[RoundReport]]) -> list[str]:
    k, s = compared.monitor.k, compared.monitor.s
    lines = [
        f"| arm | round | collected | trained on | gate | Pass@1 | Pass@{k} | Pass@{k}-{s} | entropy, nats | drift |",
        "|---|---|---|---|---|---|---|---|---|---|",
        f"| {UNTRAINED} | | | | | {_monitored(_base_monitors(compared, folder))} |",
    ]
    for name, reports in rounds.items():
        for report in reports:
            verdict = "promoted" if report.promoted else "rejected" if report.promoted is False else report.phase
            told = report.gate.get("reason") or report.note
            watched = Monitors.model_validate(report.monitors) if report.monitors else None
            lines.append(
                f"| {compared.labels[name]} | {report.number} | {_collected(report)} | {sum(report.selected.values())} "
                f"| {verdict}: {str(told).replace('|', '/')} | {_monitored(watched)} |"
            )
    return lines


def _collected(report: RoundReport) -> str:
    parts = [
        f"{way} {found['won']}/{found['tasks']}" + (f" in {found['steps']} steps" if "steps" in found else "")
        for way, found in report.collected.items()
    ]
    if report.revised:
        parts.append(f"{report.revised['revisions']} revisions")
    return ", ".join(parts)


def _base_monitors(compared: Comparison, folder: Path) -> Monitors | None:
    if not (folder / UNTRAINED / "lab.toml").exists():
        return None
    with Lab.open(folder / UNTRAINED, write=False) as lab:
        episodes = lab.database.episodes.load(
            [row.id for row in lab.database.episodes.find(EpisodeFilter(run=SAMPLES))]
        )
    return observe(episodes, MonitorConfig(k=compared.monitor.k, s=compared.monitor.s)) if episodes else None


def _monitored(found: Monitors | None) -> str:
    """Five cells."""

    def cell(estimate: Estimate | None, digits: int = 2) -> str:
        if estimate is None:
            return "–"
        spread = f" [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]" if estimate.low is not None else ""
        return f"{estimate.value:.{digits}f}{spread}"

    if found is None:
        return " | ".join("–" * 5)
    parts = (found.pass_at_1, found.pass_at_k, found.pass_at_k_s, found.entropy)
    return " | ".join([*(cell(part) for part in parts), cell(found.drift, 3)])


def _quadrants(compared: Comparison, folder: Path) -> list[str]:
    """The 2×2 of one arm, once all four sides were played."""
    arm = compared.two_by_two.arm
    table, adapter = _evaluation(folder / arm, QUADRANTS), _trained(_reports(folder / arm))
    if table is None or adapter is None or len(table.rows) < 4:
        return []
    found = analyse(UNTRAINED, adapter, table)
    lines = [
        f"## Memory × adapter after {compared.labels[arm]}",
        "",
        "| " + " | ".join(["", "memory off", "memory on", "memory's gain"]) + " |",
        "|---|---|---|---|",
    ]
    for side, label in (("old", UNTRAINED), ("new", compared.labels[arm])):
        cells = [str(found.cells[f"{side}, {memory}"].cells[ALL]) for memory in ("off", "on")]
        gain = found.effect("memory", side)
        low, high = gain.interval
        lines.append(f"| {label} | {cells[0]} | {cells[1]} | {gain.difference:+.2f} [{low:+.2f}, {high:+.2f}] |")
    worse = ", ".join(f"{change.env} (memory {change.memory})" for change in found.regressions) or "no game, credibly"
    games = ", ".join(env.removeprefix("twx/") for env in table.envs)
    told = f"On {games}. {internalised(found.internalised)} Worse: {worse}. {UNLIKE}"
    return [*lines, "", told]


@boundary()
def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--config", type=Path, default=HERE / "distillation.toml")
    options.add_argument("--folder", type=Path, default=Path("labs") / NAME, help="where the labs lie")
    options.add_argument("--output", type=Path, default=RESULT, help="the Markdown file of the table")
    which = options.add_mutually_exclusive_group()
    which.add_argument("--only", metavar="ARM", help="only this arm (also: explored, base), and no table")
    which.add_argument("--two-by-two", action="store_true", help="only the 2×2 of memory and adapter, and no table")
    which.add_argument("--table", action="store_true", help="only merge what has been measured")
    given = options.parse_args(arguments)
    compared = parse(Comparison, read_toml(given.config), given.config)
    known = [EXPLORED, *compared.labels]
    if given.only and given.only not in known:
        options.error(f"there is no arm {given.only!r}; there are {', '.join(known)}")
    with progress() as bars:
        if not given.table:
            explore(compared, given.folder, bars)
        wanted = [given.only] if given.only else [] if given.table or given.two_by_two else [UNTRAINED, *compared.arms]
        for name in wanted:
            if name == UNTRAINED:
                measure_base(compared, given.folder, bars)
            elif name != EXPLORED:
                learn(compared, given.folder, name, bars)
        if given.two_by_two or not (given.only or given.table):
            measure_quadrants(compared, given.folder, bars)
    if given.only or given.two_by_two:
        return
    words = [word for word in (sys.argv[1:] if arguments is None else arguments) if word != "--table"]
    text = merged_table(compared, given.folder, shlex.join(["python", "examples/distillation.py", *words]))
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
