"""Ranking against writing: the same games by the same model, with and without memory, before and after one round.

    python benchmarks/writing.py --model SmolLM2-135M-Instruct --games 50 --lab FOLDER [--engine vllm]

For each way to play (rank; write without a thought; write with one of 32 tokens) one lab is made, in which the same
games are collected, remembered and distilled; then the arms are measured on held-out games: base, also with a second
try (Retry), base + memory, and the adapter of the round, whatever its gate said of it, with and without memory. What is
finished is not played again, so that the same command goes on after a stop. The table goes to
benchmarks/results/writing-MODEL.md; ways that were measured in another call stay in it.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from machine import describe

from agentlab import Lab, LabConfig, RoundConfig, RoundReport
from agentlab.bars import Lines
from agentlab.engines.batching import Batcher
from agentlab.experiments.evaluation import Table

GAMES = tuple(f"twx/{name}?step_limit=15" for name in ("coin", "twc", "mapreader", "cookingworld"))
WAYS = {"rank": {"actor": "rank"}, "write": {"actor": "write"}, "write, think 32": {"actor": "write", "think": 32}}
RESULTS = Path(__file__).parent / "results"


def trained(lab: Lab, config: RoundConfig) -> RoundReport:
    """The lab's one round, gone on with or begun where that is not done yet."""
    done = [report for report in lab.rounds() if report.ended]
    return done[0] if done else lab.round(config)


def verdict(report: RoundReport) -> str:
    """What the round came to, in a line."""
    if report.adapter is None:
        return f"The round trained nothing: {report.note or report.phase}."
    said = "promoted" if report.promoted else "refused"
    return f"The round's adapter {report.adapter} was {said} by its gate: {report.gate.get('reason', report.note)}"


def measured(lab: Lab, asked: argparse.Namespace, arms: list[str]) -> Table:
    """The arms on the same held-out games; of the base also its second try, which needs no other arm's."""
    named = f"{asked.split}-{asked.games}"
    games = {"split": asked.split, "seeds": range(asked.games), "name": named}
    first = lab.evaluate(asked.envs, arms=arms[:1], trials=2, **games)
    rest = lab.evaluate(asked.envs, arms=arms[1:], **games)
    return Table(envs=first.envs, rows=[*first.rows, *rest.rows]).compare_with_base()


def keep(asked: argparse.Namespace, blocks: dict[str, str]) -> None:
    """Write the file of results: the ways of this call, and those of earlier ones that were not measured again."""
    target = RESULTS / f"writing-{asked.model.replace('/', '-')}.md"
    before = target.read_text(encoding="utf-8").split("\n## ")[1:] if target.exists() else []
    earlier = {block.partition("\n")[0].partition(": ")[2]: f"## {block.rstrip()}\n" for block in before}
    found = {**earlier, **blocks}
    command = f"python benchmarks/writing.py --games {asked.games} --learn {asked.learn} --gate {asked.gate}"
    about = (
        f"# Ranking against writing, {asked.split} games\n\nMade by `{command}`: {', '.join(asked.envs)}; "
        f"{describe(os.cpu_count() or 1)}.\n\n"
    )
    target.write_text(about + "\n".join(found[way] for way in WAYS if way in found), encoding="utf-8")


def main() -> None:
    """Play, learn and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--envs", nargs="+", default=list(GAMES))
    parser.add_argument("--split", default="dev", choices=["dev", "test"], help="test only for the final table")
    parser.add_argument("--games", type=int, default=50, help="held-out games of each environment")
    parser.add_argument("--learn", type=int, default=30, help="train games of each environment")
    parser.add_argument("--gate", type=int, default=10, help="games of each environment at the gate")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--engine", default="transformers")
    parser.add_argument("--at-once", type=int, default=16, help="games in flight")
    parser.add_argument("--threads", type=int, default=0, help="of this process; 0 takes all that there are")
    parser.add_argument("--lab", type=Path, default=Path("labs-writing"))
    parser.add_argument("--no-round", action="store_true", help="leave the round out")
    asked = parser.parse_args()
    blocks: dict[str, str] = {}
    for way in asked.ways:
        config = LabConfig(
            model=asked.model, engine=asked.engine, threads=asked.threads, concurrency=asked.at_once, **WAYS[way]
        )
        folder = asked.lab / f"{asked.model.replace('/', '-')}-{way.replace(', ', '-').replace(' ', '-')}"
        with Lab.open(folder, create=True, config=config, progress=Lines()) as lab:
            if asked.engine == "transformers":
                lab.engine.batcher = Batcher()  # on a CPU too: what is read together differs in its last bits only
            lab.run(asked.envs, seeds=range(asked.learn), trials=2, name="learn")
            names, told = ["base", "base + memory"], ""
            if not asked.no_round:
                # The random policy explores, whoever plays: all ways learn from the same games.
                report = trained(lab, RoundConfig(envs=list(asked.envs), seeds=asked.learn, gate_seeds=asked.gate))
                names += [report.adapter, f"{report.adapter} + memory"] if report.adapter else []
                told = f"{verdict(report)}\n\n"
            if asked.engine != "transformers":
                told += f"Played by `--engine {asked.engine}`.\n\n"
            table = measured(lab, asked, names)
            blocks[way] = f"## {asked.model}: {way}\n\n{told}```\n{table}\n```\n"
            print(blocks[way], flush=True)
            keep(asked, blocks)


if __name__ == "__main__":
    main()
