"""What a ladder of easier variants is worth: one round with it and one without, on games that chance hardly wins.

    python benchmarks/ladder.py [--folder FOLDER] [--games N] [--explored N] [--model M] [--threads N]

Both rounds explore the same train games at random, with as many trials a game, and train one adapter; without the
ladder nothing may be won, so that nothing is trained and the base plays on. Then base and adapters play the same dev
games of the environment that was asked for, without memory, whatever a gate would have said. The labs stay in the
folder, and the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from machine import describe

from agentlab import Lab, LabConfig, RoundConfig
from agentlab.bars import Lines
from agentlab.protocols.running import DEV_FIRST, ended_round
from agentlab.rounds import RoundReport
from trainers.gate import p_text, paired, wilson

ENVS = (
    "toy/doors?colours=4,rooms=4,step_limit=15",
    "twx/simonsays?gameLength=8,numDistractors=4",
)


def learned(lab: Lab, env: str, ladder: bool, explored: int, trials: int) -> RoundReport:
    """The round of a lab, gone on with or begun where that is not done yet; trained, whatever its gate says."""
    asked = RoundConfig(
        envs=[env], collect="random", seeds=explored, random_trials=trials, ladder=ladder, gate_seeds=6, retire="off",
        gate={"min_pairs": 6}, selection={"cap_per_task": 1, "cap_per_env": explored},
    )  # fmt: skip
    return ended_round(lab, 0, asked)


def played(lab: Lab, env: str, arm: str, seeds: Sequence[int]) -> dict[str, bool]:
    """Whether each dev game was won."""
    row = lab.evaluate(env, split="dev", seeds=seeds, arms=[arm]).rows[0]
    return {task: won for task, won in row.outcomes.items() if won is not None}


def main() -> None:
    """Print the table, and each arm against the one before."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--folder", type=Path, default=Path("labs-ladder"))
    options.add_argument("--games", type=int, default=30, help="dev games")
    options.add_argument("--explored", type=int, default=20, help="train games of an environment")
    options.add_argument("--trials", type=int, default=5, help="random trials of a game")
    options.add_argument("--env", nargs="+", default=list(ENVS))
    options.add_argument("--model")
    options.add_argument("--threads", type=int, default=0)
    asked = options.parse_args()
    config = LabConfig(threads=asked.threads, **({} if asked.model is None else {"model": asked.model}))
    seeds = range(DEV_FIRST, DEV_FIRST + asked.games)
    print(f"{asked.explored} train games, {asked.trials} random trials of each; {describe(asked.threads)}\n")
    print("| environment | who plays | won | explored | trained on |\n|---|---|---|---|---|")
    lines = []
    for at, env in enumerate(asked.env):
        outcomes = dict[str, dict[str, bool]]()
        for name, ladder in (("one round", False), ("one round with a ladder", True)):
            with Lab.open(asked.folder / f"{at}-{ladder}", create=True, config=config, progress=Lines()) as lab:
                report = learned(lab, env, ladder, asked.explored, asked.trials)
                if not ladder:
                    outcomes["base"] = played(lab, env, "base", seeds)
                outcomes[name] = played(lab, env, report.adapter, seeds) if report.adapter else outcomes["base"]
            found = report.collected["random"]
            what = ", ".join(f"{count} of `{which}`" for which, count in report.selected.items() if count)
            for arm in ["base", name] if not ladder else [name]:
                won = list(outcomes[arm].values())
                low, high = wilson(sum(won), len(won))
                told = ("", "") if arm == "base" else (f"{found['won']} of {found['tasks']}", what or "nothing")
                rate = f"{sum(won) / len(won):.2f} ({sum(won)}/{len(won)}) [{low:.2f}, {high:.2f}]"
                print(f"| `{env}` | {arm} | {rate} | {' | '.join(told)} |", flush=True)
        pair = paired(outcomes["one round with a ladder"], outcomes["one round"])
        lines.append(f"- `{env}`: with a ladder {pair.difference:+.2f} on {pair.n} pairs, p {p_text(pair.p, '= ')}")
    print("\nPaired by game (McNemar's exact test):\n\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
