"""Two skills in one adapter: is each as good in the merged one as it was alone, on games that neither has seen?

    python examples/skills.py [--config FILE] [--folder DIR] [--table]

Each game is explored at random and distilled into an adapter of its own, which on the other game is regularised (KL) to
what the base does there. The adapters are merged at several weights, dev games choose one, and the test games are
played by both parents and the chosen merge. Stopped and called again, it goes on where it was.
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
from agentlab.agent.arms import BASE
from agentlab.agent.tasks import make_tasks
from agentlab.bars import progress
from agentlab.cli.boundary import boundary
from agentlab.experiments.evaluation import ALL
from agentlab.progress import Progress
from agentlab.rounds.merge_gate import merge
from agentlab.search import Budget, search_tasks
from agentlab.workspace.config import parse, read_toml
from environments import canonical
from trainers.adapters import MergeConfig, Method
from trainers.gate import p_text, paired

HERE = Path(__file__).resolve().parent
RESULT = HERE.parent / "benchmarks" / "results" / "skills.md"
NAME, CHOICE = "skills", "skills-weights"
ALONE, MERGED = "alone", "merged"


class Skills(BaseModel):
    """What `skills.toml` says."""

    model_config = ConfigDict(extra="forbid")

    games: list[str] = Field(min_length=2, max_length=2)
    explored_seeds: int = Field(60, ge=1)
    explored_steps: int = Field(2000, ge=1)
    method: Method = "cat"
    weights: list[float] = Field(min_length=1)
    dev_seeds: int = Field(20, ge=1)
    test_seeds: int = Field(100, ge=1)
    lab: LabConfig = LabConfig()
    round: dict[str, Any] = {}

    @property
    def envs(self) -> list[str]:
        return [canonical(game) for game in self.games]

    def config(self, game: str) -> RoundConfig:
        others = [env for env in self.envs if env != canonical(game)]
        settings = {**self.round, "envs": [game], "kl": {**self.round.get("kl", {}), "envs": others}}
        return parse(RoundConfig, settings, Path(f"the round on {game}"))


# -- the work ----------------------------------------------------------------------------------------------------------


def work(skills: Skills, folder: Path, bars: Progress) -> None:
    """Explore, train, merge, choose, measure."""
    with Lab.open(folder, create=True, config=skills.lab, progress=bars) as lab:
        tasks = make_tasks(skills.envs, "train", range(skills.explored_seeds))
        budget = Budget(steps=skills.explored_steps)
        search_tasks(lab, "explored", tasks, method="best_of_n", budget=budget, seed=skills.lab.seed)
        parents = [trained(lab, skills.config(env)) for env in skills.envs]
        merged = {weight: merged_at(lab, parents, skills.method, weight) for weight in skills.weights}
        arms = [BASE.with_(name=f"{weight:g}", adapter=adapter) for weight, adapter in merged.items()]
        choice = lab.evaluate(skills.envs, split="dev", seeds=range(skills.dev_seeds), arms=arms, name=CHOICE)
        best = merged[_chosen(skills, choice)]
        for env, parent in zip(skills.envs, parents, strict=True):
            arms = [BASE.with_(name=ALONE, adapter=parent), BASE.with_(name=MERGED, adapter=best)]
            lab.evaluate(env, seeds=range(skills.test_seeds), arms=arms, name=f"{NAME}: {env}")


def trained(lab: Lab, config: RoundConfig) -> str:
    """What a round on one game trains, whether or not its gate lets it serve."""
    while True:  # a call may only finish what was stopped: the round on the other game
        done = [report for report in lab.rounds() if report.config.envs == config.envs and report.phase == "done"]
        if done:
            assert done[-1].adapter
            return done[-1].adapter
        lab.round(config)


def merged_at(lab: Lab, parents: Sequence[str], method: Method, weight: float) -> str:
    """The parents merged at this weight each, once."""
    wanted = dict.fromkeys(parents, weight)
    for record in lab.adapters.list():
        made = record.lineage.merge
        if made is not None and (made.weights, made.method) == (wanted, method):
            return record.id
    return merge(lab, parents, MergeConfig(method=method, weights=(weight,) * len(parents))).id


def _chosen(skills: Skills, choice: Table) -> float:
    """The weight that won most dev games; of equals the one that was named first."""
    return max(skills.weights, key=lambda weight: choice.row(f"{weight:g}").cells[ALL].rate)


# -- the table ---------------------------------------------------------------------------------------------------------


def table(skills: Skills, folder: Path, command: str) -> str:
    """What has been measured, as Markdown."""
    found: list[Any] = [None]
    if (folder / "lab.toml").exists():
        with Lab.open(folder, write=False) as lab:
            found = [
                lab.database.evaluations.get(name) for name in (CHOICE, *(f"{NAME}: {env}" for env in skills.envs))
            ]
    if not all(found):
        return "# Two skills in one adapter\n\nNot measured yet.\n"
    choice, *measured = (Table.model_validate(one) for one in found)
    lines = [
        "# Two skills in one adapter",
        "",
        f"{skills.lab.model}; {skills.explored_seeds} train games of each were explored at random and distilled into "
        "an adapter for each game, which on the other game is regularised (KL) to the base; merged by "
        f"`{skills.method}` at equal weights, of which "
        f"{skills.dev_seeds} dev games of each chose {_chosen(skills, choice):g}; measured on test seeds "
        f"0–{skills.test_seeds - 1} of each, without memory. Made on {date.today()} with Python "
        f"{platform.python_version()} by",
        "",
        f"    {command}",
        "",
        "Every cell is the rate of success (successes / n) [Wilson 95 % interval]; differences are paired by seed "
        "[Newcombe 95 %], with McNemar's exact p.",
        "",
        "| game | its skill alone | both skills merged | difference | won by the merged alone, by the skill alone | p "
        "| merged within the skill's interval |",
        "|---|---|---|---|---|---|---|",
    ]
    for env, one in zip(skills.envs, measured, strict=True):
        alone, merged = one.row(ALONE), one.row(MERGED)
        pairs = paired(merged.known, alone.known)
        (low, high), cell = pairs.interval, alone.cells[env]
        kept = "yes" if cell.low <= merged.cells[env].rate <= cell.high else "no"
        lines.append(
            f"| {env.removeprefix('twx/')} | {cell} | {merged.cells[env]} | {pairs.difference:+.2f} [{low:+.2f}, "
            f"{high:+.2f}] | {pairs.only_a}, {pairs.only_b} | {p_text(pairs.p)} | {kept} |"
        )
    labels = {f"{weight:g}": f"weight {weight:g} each" for weight in skills.weights}
    return "\n".join([*lines, "", "The choice on dev games:", "", *_grid(skills, choice, labels)]) + "\n"


def _grid(skills: Skills, found: Table, labels: dict[str, str]) -> list[str]:
    names = [env.removeprefix("twx/") for env in skills.envs]
    lines = ["| adapter | " + " | ".join([*names, ALL]) + " |", "|---|" + "---|" * (len(names) + 1)]
    for row in found.rows:
        cells = [str(row.cells[env]) for env in [*skills.envs, ALL]]
        lines.append(f"| {labels.get(row.arm, row.arm)} | " + " | ".join(cells) + " |")
    return lines


@boundary()
def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--config", type=Path, default=HERE / "skills.toml")
    options.add_argument("--folder", type=Path, default=Path("labs") / NAME, help="where the lab lies")
    options.add_argument("--output", type=Path, default=RESULT, help="the Markdown file of the table")
    options.add_argument("--table", action="store_true", help="only show what has been measured")
    given = options.parse_args(arguments)
    skills = parse(Skills, read_toml(given.config), given.config)
    if not given.table:
        with progress() as bars:
            work(skills, given.folder, bars)
    words = [word for word in (sys.argv[1:] if arguments is None else arguments) if word != "--table"]
    text = table(skills, given.folder, shlex.join(["python", "examples/skills.py", *words]))
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
