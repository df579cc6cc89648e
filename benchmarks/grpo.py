"""What on-policy learning is worth: a model before and after a round with `training = { objective = "grpo" }`.

    python benchmarks/grpo.py [--folder FOLDER] [--games N] [--steps N] [--seeds N] [--env ENV] [--model M]

Without `--model` a novice plays (`novices.py`). Each seed is a lab of its own with one round, and its own dev games,
each of which is played once before and once after, at temperature 1, as the policy is that was trained, with the same
random numbers, without memory, whatever the gate said; with `--greedy`, by the best command.
The labs stay in the folder, and the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from machine import describe
from novices import TOY, drawn, novice, rate, told

from agentlab import Lab, LabConfig, RoundConfig
from agentlab.bars import Lines
from agentlab.protocols.running import DEV_FIRST, ended_round
from agentlab.rounds import RoundReport
from trainers.gate import paired

METHODS: Mapping[str, dict[str, Any]] = {
    "GRPO": {},
    "GRPO with step-level groups (GiGPO)": {"step_weight": 1.0},
    "GRPO, two attempts, improvement rewarded (SCoRe)": {"attempts": 2, "improvement": 1.0},
}


def main() -> None:
    """Print a table of before and after, each method over all seeds."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--folder", type=Path, default=Path("labs-grpo"))
    options.add_argument("--games", type=int, default=50, help="dev games of each seed")
    options.add_argument("--explored", type=int, default=40, help="train games")
    options.add_argument("--steps", type=int, default=30, help="steps of the optimizer")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--first-seed", type=int, default=0, help="for several of these beside each other")
    options.add_argument("--per-step", type=int, default=4, help="train games of a step")
    options.add_argument("--group", type=int, default=8, help="episodes of a game")
    options.add_argument("--methods", type=int, nargs="+", default=[*range(len(METHODS))], help="rows, counted from 0")
    options.add_argument("--learning-rate", type=float, default=5e-3)
    options.add_argument("--beta", type=float, default=0.04)
    options.add_argument("--greedy", action="store_true", help="before and after by the best command")
    options.add_argument("--env", default=TOY)
    options.add_argument("--model")
    options.add_argument("--threads", type=int, default=1)
    asked = options.parse_args()
    model = asked.model or str(novice(asked.folder / "novice", asked.env))
    config = LabConfig(model=model, threads=asked.threads, **({} if asked.model else {"embedder": "hashing"}))
    print(
        f"{asked.env}, {asked.model or 'a novice'}: {asked.steps} steps, each of {asked.per_step} games "
        f"of {asked.explored} × {asked.group} episodes; learning rate {asked.learning_rate:g}, beta {asked.beta:g}; "
        f"{describe(asked.threads)}\n"
    )
    print("| method | seed | won before | won after | paired | episodes | s | reward, first and last ten steps | KL |")
    print("|---|---|---|---|---|---|---|---|---|")
    for at in asked.methods:
        name, settings = [*METHODS.items()][at]
        before, after = dict[str, bool](), dict[str, bool]()
        for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
            first = DEV_FIRST + seed * asked.games
            round_config = RoundConfig.model_validate({
                "envs": [asked.env], "seeds": asked.explored, "gate_seeds": 20, "seed": seed,
                "retire": "off", "forgetting": {"seeds": 0},
                "training": {
                    "objective": "grpo", "learning_rate": asked.learning_rate, "beta": asked.beta, "batch_size": 32,
                },
                "on_policy": {"steps": asked.steps, "games": asked.per_step, "group": asked.group, **settings},
            })  # fmt: skip
            with Lab.open(asked.folder / f"{at}-{seed}", create=True, config=config, progress=Lines()) as lab:
                report = ended_round(lab, 0, round_config)
                seeds = range(first, first + asked.games)
                mine = [_played(lab, asked, adapter, seeds) for adapter in (None, report.adapter)]
                curve = [float(point.measures["reward"]) for point in _curve(lab, report)]
            before |= mine[0]
            after |= mine[-1]
            pair = paired(mine[-1], mine[0])
            print(
                f"| {name} | {seed} | {rate(mine[0])} | {rate(mine[-1])} | {told(pair)} "
                f"| {report.collected.get('grpo', {}).get('tasks', 0)} | {report.training.get('seconds', 0):.0f} "
                f"| {_mean(curve[:10]):.2f}, {_mean(curve[-10:]):.2f} | {report.training.get('kl', 0):.3f} |",
                flush=True,
            )
        pair = paired(after, before)
        print(f"| {name} | all | {rate(before)} | {rate(after)} | {told(pair)} | | | | |", flush=True)


def _played(lab: Lab, asked: argparse.Namespace, adapter: str | None, seeds: Sequence[int]) -> dict[str, bool]:
    if not asked.greedy:
        return drawn(lab, asked.env, adapter, seeds)
    row = lab.evaluate(asked.env, split="dev", seeds=seeds, arms=[adapter or "base"]).rows[0]
    return {task: won for task, won in row.outcomes.items() if won is not None}


def _curve(lab: Lab, report: RoundReport) -> list[Any]:
    from trainers.training import read_curve

    return read_curve(lab.folder / "jobs" / report.id)


def _mean(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)


if __name__ == "__main__":
    main()
