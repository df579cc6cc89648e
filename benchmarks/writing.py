"""Ranking against writing: the same games by the same model, with and without memory, before and after one round.

    python benchmarks/writing.py --model SmolLM2-135M-Instruct --games 50 --lab FOLDER [--engine vllm]

For each way to play (rank; write without a thought; write with one of 32 tokens) one lab is made, in which the same
games are collected, remembered and distilled; then the arms are measured on held-out games: base, base + memory, each
with a second try (Retry), and the adapter of the round, whatever its gate said of it, with and without memory. What is
finished is not played again, so that the same command goes on after a stop. The table goes to
benchmarks/results/writing-MODEL.md.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from machine import describe

from agentlab import Lab, LabConfig, RoundConfig, RoundReport
from agentlab.bars import Lines

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
    parser.add_argument("--lab", type=Path, default=Path("labs-writing"))
    parser.add_argument("--no-round", action="store_true", help="leave the round out")
    asked = parser.parse_args()
    blocks = []
    for way in asked.ways:
        config = LabConfig(model=asked.model, engine=asked.engine, **WAYS[way])
        folder = asked.lab / f"{asked.model.replace('/', '-')}-{way.replace(', ', '-').replace(' ', '-')}"
        with Lab.open(folder, create=True, config=config, progress=Lines()) as lab:
            lab.run(asked.envs, seeds=range(asked.learn), trials=2, name="learn")
            names, told = ["base", "base + memory"], ""
            if not asked.no_round:
                # The random policy explores, whoever plays: all ways learn from the same games.
                report = trained(lab, RoundConfig(envs=list(asked.envs), seeds=asked.learn, gate_seeds=asked.gate))
                names += [report.adapter, f"{report.adapter} + memory"] if report.adapter else []
                told = f"{verdict(report)}\n\n"
            table = lab.evaluate(asked.envs, split=asked.split, seeds=range(asked.games), arms=names, trials=2)
            blocks.append(f"## {asked.model}: {way}\n\n{told}```\n{table}\n```\n")
            print(blocks[-1], flush=True)
    target = RESULTS / f"writing-{asked.model.replace('/', '-')}.md"
    about = f"# Ranking against writing, {asked.split} games\n\n{describe(os.cpu_count() or 1)}\n\n"
    target.write_text(about + "\n".join(blocks), encoding="utf-8")


if __name__ == "__main__":
    main()
