"""Every environment at a glance: its contract, its speed, and what chance, the base and the base with memory come to.

    python benchmarks/environments.py --games 20 --learn 10 --lab FOLDER [--envs sciworld/boil household/any]

For each environment one lab is made: the base plays train games twice and remembers; then dev games are played at
random, by the base, and by the base with that memory. Steps a second are those of the environment alone, one after the
other, with its list of commands. What needs something that is not here says so in its line. Finished games are not
played again, so the same command goes on after a stop; environments that were measured in another call stay in the
table, benchmarks/results/environments.md.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from pathlib import Path

from machine import describe

from agentlab import Lab, LabConfig
from agentlab.bars import Lines
from environments import EnvironmentsError, TextEnv, families, make
from environments.check import check

RESULTS = Path(__file__).parent / "results" / "environments.md"
ARMS = ("random", "base", "base + memory")
SCIENCE = ("boil", "chemistry-mix", "find-living-thing", "find-plant", "grow-plant", "lifespan-longest-lived",
           "power-component", "use-thermometer")  # fmt: skip
ARENA = ("2048-v0-3x3", "Blackjack-v0", "FrozenLake-v0-random", "LightsOut-v0", "Sokoban-v0", "TowerOfHanoi-v0")
HEADS = ["environment", "contract", "commands", "steps/s", *ARMS]
SECONDS = 5.0
"""How long an environment is played for its speed."""


def environments() -> list[str]:
    """One or more of each family: all of the small ones, eight tasks of ScienceWorld, six games of TextArena."""
    small = [name for family in families() if family.name not in ("sciworld", "own") for name in family.environment_ids]
    return [*small, *(f"sciworld/{task}?step_limit=30" for task in SCIENCE), *(f"textarena/{game}" for game in ARENA)]


def speed(env: TextEnv) -> tuple[float, float]:
    """Steps a second of a random player, and how many commands are listed in the mean."""
    chance, steps, listed, taken = random.Random(0), 0, 0, 0.0
    while taken < SECONDS:
        _, info = env.reset(seed=chance.choice(env.seeds("train")))
        over = False
        while not over and taken < SECONDS:
            commands = info["admissible_commands"] or ["look"]
            begun = time.perf_counter()
            _, _, terminated, truncated, info = env.step(chance.choice(commands))
            taken += time.perf_counter() - begun
            steps, listed, over = steps + 1, listed + len(commands), terminated or truncated
    return steps / taken, listed / steps


def measured(env: str, asked: argparse.Namespace) -> list[str]:
    """The line of an environment: what is said of it, in the order of HEADS."""
    try:
        made = make(env)
        dev = list(made.seeds("dev"))[: asked.games]
        train = list(made.seeds("train"))[: asked.learn]
        rate, commands = speed(made)
        made.close()
    except EnvironmentsError as error:
        return [f"`{env}`", "not here", str(error), "", "", "", ""]
    kept = check(env, episodes=1, starts=4 if rate < 100 else 20).ok
    line = [f"`{env}`", "kept" if kept else "BROKEN", f"{commands:.0f}", f"{rate:,.0f}"]
    slug = env.replace("/", "-").replace("?", "-").replace(",", "-").replace("=", "")
    config = LabConfig(model=asked.model, threads=asked.threads, concurrency=asked.at_once)
    with Lab.open(asked.lab / slug, create=True, config=config, progress=Lines()) as lab:
        lab.run([env], seeds=train, trials=2, name="learn")
        table = lab.evaluate([env], split="dev", seeds=dev, arms=list(ARMS), name=f"dev-{len(dev)}")
    cells = [next(iter(table.row(arm).cells.values())) for arm in ARMS]
    return [*line, *(f"{cell}, score {cell.score:.2f}" for cell in cells)]


def kept_lines() -> dict[str, str]:
    """The lines of the table so far, by the environment."""
    before = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    return {line.split("|")[1].strip(): line for line in before if line.startswith("| `")}


def write(lines: dict[str, str], asked: argparse.Namespace) -> None:
    """Write the table."""
    command = f"python benchmarks/environments.py --games {asked.games} --learn {asked.learn}"
    about = (
        f"# Environments\n\nMade by `{command}` with {asked.model}, dev games: wins with 95 % intervals, "
        f"mean scores; {describe(asked.threads or os.cpu_count() or 1)}.\n\n"
    )
    head = f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}\n"
    RESULTS.write_text(about + head + "\n".join(lines[name] for name in sorted(lines)) + "\n", encoding="utf-8")


def main() -> None:
    """Check, time and play."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=environments())
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--games", type=int, default=20, help="dev games of each, as far as there are so many")
    parser.add_argument("--learn", type=int, default=10, help="train games of each, from which is remembered")
    parser.add_argument("--at-once", type=int, default=2, help="games in flight")
    parser.add_argument("--threads", type=int, default=0, help="of this process; 0 takes all that there are")
    parser.add_argument("--lab", type=Path, default=Path("labs-environments"))
    asked = parser.parse_args()
    lines = kept_lines()
    for env in asked.envs:
        line = f"| {' | '.join(measured(env, asked))} |"
        print(line, flush=True)
        lines[f"`{env}`"] = line
        write(lines, asked)


if __name__ == "__main__":
    main()
