"""What questions made of the memory are worth: rounds that train on episodes alone, and on questions beside them.

    python benchmarks/questions.py [--folder FOLDER] [--games N] [--explored N] [--share S] [--env ENV] [--model M]

Without `--model` a novice plays (`novices.py`). Each training seed explores train games of its own at random, in two
labs alike: one round trains on episodes alone, the other on questions too, and both are asked the same held-out ones.
Then base and adapters play the same dev games, the novice once at temperature 1, another model by its best command,
without memory, whatever a gate would have said. The labs stay in the folder, and the same command goes on where it
stopped.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from machine import describe
from novices import TOY, drawn, novice, rate, told

from agentlab import Lab, LabConfig, RoundConfig
from agentlab.bars import Lines
from agentlab.protocols.running import DEV_FIRST, ended_round
from agentlab.rounds import RoundReport
from agentlab.rounds.questions import Answered
from trainers.gate import paired

ARMS = ("the base", "episodes alone", "episodes and questions")


def learned(lab: Lab, asked: argparse.Namespace, seed: int, share: float) -> RoundReport:
    """The round of a lab, gone on with or begun where that is not done yet; trained, whatever its gate says."""
    settings = RoundConfig(
        envs=[asked.env], collect="random", seeds=asked.explored, first_seed=seed * asked.explored, seed=seed,
        random_trials=asked.trials, gate_seeds=6, gate={"min_pairs": 6}, retire="off", forgetting={"seeds": 0},
        selection={"cap_per_task": 1, "cap_per_env": asked.explored},
        # To a novice a question is far stranger than an episode, so that a batch of them looks like a broken one.
        training={"learning_rate": asked.learning_rate, "spike": 0.0},
        questions={"share": share, "held_out": asked.held_out, "asked": asked.questions},
    )  # fmt: skip
    return ended_round(lab, 0, settings)


def main() -> None:
    """Print a table of each seed and of all, and the arms against each other."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--folder", type=Path, default=Path("labs-questions"))
    options.add_argument("--games", type=int, default=50, help="dev games of each seed")
    options.add_argument("--explored", type=int, default=60, help="train games")
    options.add_argument("--trials", type=int, default=30, help="random trials of a game")
    options.add_argument("--share", type=float, default=0.5, help="of questions in what is trained on")
    options.add_argument("--held-out", type=float, default=0.3, help="share of the train games that are asked about")
    options.add_argument("--questions", type=int, default=100, help="that are asked, at most")
    options.add_argument("--learning-rate", type=float, default=1e-3)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--env", default=TOY)
    options.add_argument("--model")
    options.add_argument("--threads", type=int, default=1)
    asked = options.parse_args()
    model = asked.model or str(novice(asked.folder / "novice", asked.env))
    config = LabConfig(model=model, threads=asked.threads, **({} if asked.model else {"embedder": "hashing"}))
    print(f"{asked.env}, {asked.model or 'a novice'}: {asked.explored} train games; {describe(asked.threads)}\n")
    print("| seed | trained on | held-out questions right | commands | lessons | dev games won |")
    print("|---|---|---|---|---|---|")
    right, won = (defaultdict[str, dict[str, bool]](dict) for _ in range(2))
    for seed in range(asked.seeds):
        seeds = range(DEV_FIRST + seed * asked.games, DEV_FIRST + (seed + 1) * asked.games)
        for arm, share in ((ARMS[1], 0.0), (ARMS[2], asked.share)):
            with Lab.open(asked.folder / f"{seed}-{share}", create=True, config=config, progress=Lines()) as lab:
                report = learned(lab, asked, seed, share)
                found = Answered.model_validate(report.questions["answered"])
                for name, adapter, at in [(ARMS[0], None, 0)] * (not share) + [(arm, report.adapter, 1)]:
                    answers = {f"{seed}-{id}": result[at] for id, result in found.results.items()}
                    games = _played(lab, asked, adapter, seeds)
                    right[name] |= answers
                    won[name] |= games
                    kinds = [f"{kind[1 + at]} of {kind[0]}" for kind in found.kinds.values()]
                    what = ", ".join(f"{count} {which}" for which, count in report.selected.items() if count and at)
                    cells = [str(seed), f"{name}: {what}" if what else name, rate(answers), *kinds, rate(games)]
                    print(f"| {' | '.join(cells)} |", flush=True)
    for name in ARMS:
        print(f"| all | {name} | {rate(right[name])} | | | {rate(won[name])} |")
    print(f"\nBy chance {found.chance:.2f} of the questions. Paired, by question and by game (McNemar's exact test):\n")
    for one, other in ((1, 0), (2, 0), (2, 1)):
        a, b = ARMS[one], ARMS[other]
        print(f"- {a} against {b}: questions {told(paired(right[a], right[b]))}; games {told(paired(won[a], won[b]))}")


def _played(lab: Lab, asked: argparse.Namespace, adapter: str | None, seeds: range) -> dict[str, bool]:
    if not asked.model:
        return drawn(lab, asked.env, adapter, seeds)
    row = lab.evaluate(asked.env, split="dev", seeds=seeds, arms=[adapter or "base"]).rows[0]
    return {task: won for task, won in row.outcomes.items() if won is not None}


if __name__ == "__main__":
    main()
