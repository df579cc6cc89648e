"""`agentlab demo`: the whole loop once, on real games, ending with a table."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentlab.cli import output, scoreboard
from agentlab.cli.bars import progress, span
from agentlab.cli.options import DEFAULT_LAB, Json, LabFolder
from agentlab.cli.runs import Model, compare, opened

if TYPE_CHECKING:
    from agentlab.evaluation import Table
    from agentlab.lab import Lab
    from agentlab.progress import Progress
    from agentlab.rounds import RoundConfig, RoundReport

GAMES = ("twx/coin", "twx/mapreader", "twx/twc")
ARMS = ("random", "base", "base + memory", "adapter", "adapter + memory")


def demo(
    envs: Annotated[list[str] | None, typer.Argument(help=f"Games instead of {', '.join(GAMES)}.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Games of each kind to learn from.")] = 40,
    gate_seeds: Annotated[
        int, typer.Option("--gate-seeds", min=1, help="Held-out games of each kind at the gate.")
    ] = 20,
    test_seeds: Annotated[int, typer.Option("--test-seeds", min=1, help="Games of each kind for the table.")] = 20,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Tries at each game in the table.")] = 2,
    model: Model = None,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Play, reflect, recall, try again, distil, gate, and compare on games never seen: the whole loop.

    The same command after Ctrl-C or a kill goes on where it stopped.
    """
    from agentlab.lab import make_tasks

    games = list(dict.fromkeys(task.env for task in make_tasks(list(envs or GAMES), "train", range(1))))
    began = time.monotonic()
    with progress() as bars, opened(lab, model, bars) as here:
        report = _distilled(here, _config(games, seeds, gate_seeds), bars)
        bars.say("Three: measure every arm on games that nobody has seen.")
        arms = [arm for arm in ARMS if here.serving() or not arm.startswith("adapter")]
        table = here.evaluate(games, seeds=range(test_seeds), arms=arms, trials=trials, name="demo")
        reflection = next((item.id for item in here.database.reflections(env=games[0], limit=1)), "ID")
        shown = next(row.id for row in here.database.episodes(run="demo", newest=True))
        folder = here.folder
    compare(table)
    if json:
        output.as_json({"lab": folder, "round": report, "table": table, "seconds": time.monotonic() - began})
        return
    output.say("")
    scoreboard.show(table, title="Games never seen before")
    _farewell(folder, lab, report, table, reflection, shown, time.monotonic() - began)


def _config(games: list[str], seeds: int, gate_seeds: int) -> RoundConfig:
    from agentlab.rounds import RoundConfig
    from trainers.gate import GateConfig

    return RoundConfig(envs=games, seeds=seeds, gate_seeds=gate_seeds, gate=GateConfig(alpha=0.01))


def _distilled(lab: Lab, config: RoundConfig, bars: Progress) -> RoundReport:
    """Play a little, then one round; a round that an earlier call has finished is not run again."""
    bars.say("One: play with memory, reflect on failures, recall, try again.")
    lab.run(config.envs, seeds=range(5), trials=3, arm="base + memory", name="demo")
    done = [report for report in lab.rounds() if report.phase == "done"]
    if done:
        return done[0]
    bars.say("Two: explore, distil the successes into an adapter, and gate it on held-out games.")
    return lab.round(config)


def _farewell(
    folder: Path, lab: Path, report: RoundReport, table: Table, reflection: str, episode: str, seconds: float
) -> None:
    place = "" if lab == DEFAULT_LAB else f" --lab {lab}"
    verdict = "promoted" if report.promoted else "rejected, the base model goes on serving"
    pairs: list[tuple[str, Any]] = [
        ("gate", f"{report.adapter} {verdict}: {report.gate.get('reason', '')}"),
        ("lab", folder),
        ("time", span(seconds)),
    ]
    output.say("")
    output.facts(pairs)
    output.say("")
    output.say("Look further:")
    for command, what in (
        (
            f"agentlab memory show {reflection}{place}",
            "what was written down, from which steps, whom it served",
        ),
        (f"agentlab replay {episode}{place}", "play an episode again, step by step, and verify it"),
        (f"agentlab rounds run{place}", "another round, starting from the adapter that serves"),
    ):
        output.say(f"  {command}")
        output.say(f"      {what}", "dim")
