"""Random exploration, beside itself without each of the things that make it find wins.

    python benchmarks/exploring.py [--games N] [--trials N] [--envs …]

All explore the same train games, with as many trials and the same facts of earlier ones: what is compared is how many
they win, and how many steps each win costs. No model is involved.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from machine import describe

from agentlab.agent import random_exploration
from agentlab.agent.tasks import make_tasks
from agentlab.experiments.evaluation import Cell
from agentlab.protocols.tales import COOKING, TASKS
from agentlab.protocols.wang2023 import GAMES
from environments import make
from trainers.gate import p_text, paired, wilson

ENVS = {
    **{f"{name}, of `wang2023`": env for name, env in GAMES.items()},
    "simonsays, 10 commands": TASKS["SimonSays10"],
    "cookingworld, of TALES": TASKS["CookingWorld"],
    "cooking, level 7 of TALES": COOKING["TWCookingLevel7"],
    "household": "household/any",
}
WHOLE = {name: getattr(random_exploration, name) for name in ("RETURNS", "KINDS", "NAMED", "LOST")}
WAYS = {
    "as it is": WHOLE,
    "always from the beginning": WHOLE | {"RETURNS": 0.0},
    "kinds by their numbers": WHOLE | {"KINDS": 0.0},
    "what the task names as other commands": WHOLE | {"NAMED": 0.0},
    "what lost is put off in its state only": WHOLE | {"LOST": 0.0},
}


class Explored(NamedTuple):
    """What one way came to in an environment: games won, the mean of their best scores, steps and seconds of all."""

    won: dict[int, bool]
    best: float
    steps: int
    seconds: float

    def __str__(self) -> str:
        wins = sum(self.won.values())
        low, high = wilson(wins, len(self.won))
        each = f"{self.steps / wins:,.0f}" if wins else "–"
        rate = Cell(wins=wins, n=len(self.won), low=low, high=high, score=0.0)
        return f"{rate} | {self.best:.2f} | {each} | {self.seconds:.0f}"


def explored(env_id: str, settings: Mapping[str, float], games: int, trials: int) -> Explored:
    """Explore the first train games of an environment."""
    for name, value in settings.items():
        setattr(random_exploration, name, value)
    env = make(env_id)
    step, steps, best, won = env.step, 0, dict[int, float](), dict[int, bool]()

    def counted(action: str) -> Any:
        nonlocal steps
        outcome = step(action)
        steps, best[seed] = steps + 1, max(best[seed], outcome[4]["score"])
        return outcome

    env.step = counted  # type: ignore[method-assign]
    begun = time.perf_counter()
    for task in make_tasks([env_id], "train", range(games)):
        seed, best[task.seed] = task.seed, 0.0
        found = random_exploration.random_exploration(env, task, run="bench", trials=trials)
        won[seed] = found.episode.won
    env.close()
    return Explored(won, sum(best.values()) / len(best), steps, time.perf_counter() - begun)


def main() -> None:
    """Print the table, and the two ways against each other."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--games", type=int, default=20, help="train games of each")
    options.add_argument("--trials", type=int, default=100, help="of each game")
    options.add_argument("--envs", nargs="+", help="others than those of the table")
    asked = options.parse_args()
    envs = {env: env for env in asked.envs} if asked.envs else ENVS
    print(f"{asked.games} train games of each, at most {asked.trials} trials; {describe(1)}\n")
    print("| game | exploring | won | best score | steps a win | seconds |\n|---|---|---|---|---|---|", flush=True)
    outcomes = {name: dict[str, bool]() for name in WAYS}
    for game, env in envs.items():
        for name, settings in WAYS.items():
            found = explored(env, settings, asked.games, asked.trials)
            outcomes[name] |= {f"{game} {seed}": won for seed, won in found.won.items()}
            print(f"| {game} | {name} | {found} |", flush=True)
    whole, *others = WAYS
    for other in others:
        pair = paired(outcomes[whole], outcomes[other])
        low, high = pair.interval
        print(
            f"\n{whole} against {other}: {pair.difference:+.2f} [{low:+.2f}, {high:+.2f}] of {pair.n} games, by",
            end=" ",
        )
        print(f"McNemar's exact test of pairs by game and seed p {p_text(pair.p, '= ')}.")


if __name__ == "__main__":
    main()
