"""What steering (experimental) is worth: success and suffix scores of a base as it is, steered, and pushed at random.

    python benchmarks/steering.py [--folder FOLDER] [--env ENV] [--model M] [--train N] [--games N] [--seeds N]

Without `--model` a novice plays (`novices.py`). Vectors are made from train games that the base plays, at temperature
1. The strength of each method is the one that wins most of some dev games (of equals the least). What is told is of
other dev games, each played once by all with the same random numbers, at temperature 1 (with `--greedy`, by the best
command), without memory. Every seed has other steps, another random direction, and other games. The lab stays in the
folder, and the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from machine import describe
from novices import TOY, drawn, novice, rate, told

from agentlab import Lab, LabConfig
from agentlab.agent.tasks import make_tasks
from agentlab.bars import Lines
from agentlab.engines.base import Opened
from agentlab.engines.experimental.vectors import Card, read_vectors
from agentlab.experiments.experimental import judged_steps, suffix_scores
from agentlab.protocols.running import DEV_FIRST
from agentlab.rounds.sampling import sample
from trainers.gate import paired

METHODS = ("random", "self-control", "mean-difference")


def main() -> None:
    """Print a table: the base, and each method at the strength that was chosen for it, over all seeds."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--folder", type=Path, default=Path("labs-steering"))
    options.add_argument("--env", default=TOY)
    options.add_argument("--model")
    options.add_argument("--train", type=int, default=150, help="train games that the base plays")
    options.add_argument("--games", type=int, default=100, help="dev games of each seed that are told")
    options.add_argument("--tries", type=int, default=50, help="dev games of each seed that choose a strength")
    options.add_argument("--steps", type=int, default=64, help="steps that a vector is made from")
    options.add_argument("--strengths", type=float, nargs="+", default=[0.03, 0.1, 0.3, 1.0])
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--greedy", action="store_true", help="dev games by the best command, not at temperature 1")
    options.add_argument("--threads", type=int, default=1)
    asked = options.parse_args()
    model = asked.model or str(novice(asked.folder / "novice", asked.env))
    config = LabConfig(model=model, threads=asked.threads, embedder="hashing")
    print(f"{asked.env}, {asked.model or 'a novice'}; {describe(asked.threads)}\n")
    print(
        "| player | seed | strength | won | against the base | against random | suffix score, base and steered "
        "| behind steps of won and lost games |"
    )
    print("|---|---|---|---|---|---|---|---|")
    outcomes: dict[str, dict[str, bool]] = {}
    with Lab.open(asked.folder / "lab", create=True, config=config, progress=Lines()) as lab:
        sample(lab, "train", make_tasks([asked.env], "train", range(asked.train)), adapter=None, temperature=1.0,
               trials=1, seed=0)  # fmt: skip
        firsts = [DEV_FIRST + seed * (asked.tries + asked.games) for seed in range(asked.seeds)]
        games = [range(first + asked.tries, first + asked.tries + asked.games) for first in firsts]
        bases = [_played(lab, asked, None, its) for its in games]  # all first: suffix scores are of steps of these
        for seed, (first, base) in enumerate(zip(firsts, bases, strict=True)):
            outcomes["base"] = outcomes.get("base", {}) | base
            print(f"| base | {seed} | | {rate(base)} | | | | |", flush=True)
            mine = {"base": base}
            for method in METHODS:
                best, card = _chosen(lab, asked, method, seed, range(first, first + asked.tries))
                won = _played(lab, asked, f"{card.id}@{best:g}", games[seed])
                mine[method] = won
                outcomes[method] = outcomes.get(method, {}) | won
                scores = _scores(lab, asked.env, card, best)
                print(
                    f"| {method} | {seed} | {best:g} | {rate(won)} | {_against(mine, method)} "
                    f"| {scores['base']:.2f}, {scores['steered']:.2f} | {scores['won']:.2f}, {scores['lost']:.2f} |",
                    flush=True,
                )
        for method, won in outcomes.items():
            print(f"| {method} | all | | {rate(won)} | {_against(outcomes, method)} | | |")


def _against(outcomes: dict[str, dict[str, bool]], method: str) -> str:
    """What a method won beyond the base, and beyond a random direction: two cells."""
    return " | ".join(
        "" if other == method or method == "base" else told(paired(outcomes[method], outcomes[other]))
        for other in ("base", "random")
    )


def _played(lab: Lab, asked: argparse.Namespace, adapter: str | None, seeds: Sequence[int]) -> dict[str, bool]:
    if not asked.greedy:
        return drawn(lab, asked.env, adapter, seeds)
    row = lab.evaluate(asked.env, split="dev", seeds=seeds, arms=[adapter or "base"]).rows[0]
    return row.known


def _chosen(lab: Lab, asked: argparse.Namespace, method: str, seed: int, tries: Sequence[int]) -> tuple[float, Card]:
    """The strength with which most is won, of equals the least, and the vector."""
    card = lab.steer(asked.env, method=method, steps=asked.steps, seed=seed)
    won = {
        strength: sum(_played(lab, asked, f"{card.id}@{strength:g}", tries).values()) for strength in asked.strengths
    }
    print(f"{method}, seed {seed}, dev games won at each strength: {won} of {len(tries)}", file=sys.stderr, flush=True)
    return max(sorted(won), key=lambda strength: won[strength]), card


def _scores(lab: Lab, env: str, card: Card, strength: float) -> dict[str, float]:
    """Suffix scores behind steps of dev games, which the vector was not made from."""
    steps, engine = judged_steps(lab, [env], card.made, "dev"), lab.engine
    assert isinstance(engine, Opened)
    with engine.opened() as model:
        settings = model.config
        found = read_vectors(lab.folder / "steering" / card.id, settings.num_hidden_layers, settings.hidden_size)
        return suffix_scores(model, steps, {at: strength * vector for at, vector in found.items()})


if __name__ == "__main__":
    main()
