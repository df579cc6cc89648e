"""What it is worth to learn when to call a tool: no tools, tools alone, and tools whose calls were learned.

    python benchmarks/ablation.py [--folder FOLDER] [--games N] [--explored N] [--model M]

Everything learns from its own random exploration of the same train games of the protocol `wang2023`, and plays the same
dev games. The rows: no tools, after one round; tools that the base was never taught to call; tools, and a round on the
wins as they are, without any call in them; tools, and a round on the wins with calls written into them by Toolformer's
criterion; and a second round, which writes them anew with the adapter of the first. The adapter of a round plays
whatever its gate said. The labs stay in the folder, and the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from machine import describe

from agentlab import Lab, LabConfig
from agentlab.bars import Lines
from agentlab.experiments.evaluation import Cell
from agentlab.protocols import protocol
from agentlab.protocols.running import DEV_FIRST, games_of, learn_round, told
from trainers.gate import p_text, paired, wilson

WANG = protocol("wang2023")
WITHOUT, WITH = "without tools", "with tools"
NO_CALLS = {"calls": {"unsure": 1e9}}
"""Never unsure, so no call is tried, and every win is kept without those that chance has made."""


class Row(NamedTuple):
    """Who plays: the way, how many rounds it has learned (0 is the base), and whether calls were written in them."""

    name: str
    way: str
    rounds: int
    calls: bool = True

    @property
    def settings(self) -> dict[str, Any]:
        return {} if self.calls else NO_CALLS

    @property
    def lab(self) -> str:
        return f"{self.way.replace(' ', '-')}{'' if self.calls else '-no-calls'}"


ROWS = [
    Row("no tools, one round", WITHOUT, 1),
    Row("tools, nothing learned", WITH, 0),
    Row("tools, one round without calls", WITH, 1, calls=False),
    Row("tools, one round with calls", WITH, 1),
    Row("tools, a second round", WITH, 2),
]
Won = dict[str, dict[int, bool]]


def played(row: Row, asked: argparse.Namespace) -> tuple[Won, str]:
    """The games of a row, by game and seed, and what its last round came to."""
    way = next(way for way in WANG.ways if way.name == row.way)
    rounds = [{**WANG.rounds[0], **row.settings, "seeds": asked.explored}] * row.rounds
    config = LabConfig(threads=asked.threads, **({} if asked.model is None else {"model": asked.model}))
    with Lab.open(asked.folder / row.lab, create=True, config=config, progress=Lines()) as lab:
        done = [learn_round(lab, replace(WANG, rounds=rounds), number, way, 0) for number in range(row.rounds)]
        arm = next((one.adapter for one in reversed(done) if one.adapter), "base")
        seeds = range(DEV_FIRST, DEV_FIRST + asked.games)
        table = lab.evaluate(list(way.envs.values()), split="dev", seeds=seeds, arms=[arm])
        found = games_of(lab, way, [table], arm)
    won = {name: {seed: game.won for seed, game in games.items()} for name, games in found.items()}
    return won, f"{row.name}: {told(done[-1])}" if done else ""


def cell(won: Sequence[bool]) -> Cell:
    """A rate with its n and interval."""
    low, high = wilson(sum(won), len(won)) if won else (0.0, 1.0)
    return Cell(wins=sum(won), n=len(won), low=low, high=high, score=0.0)


def flat(won: Won) -> dict[str, bool]:
    """All games of a row under one name each."""
    return {f"{name} {seed}": outcome for name, games in won.items() for seed, outcome in games.items()}


def main() -> None:
    """Print the table, and each row against the one before."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--folder", type=Path, default=Path("labs-ablation"))
    options.add_argument("--games", type=int, default=50, help="dev games of each")
    options.add_argument("--explored", type=int, default=WANG.rounds[0]["seeds"], help="train games of each, a round")
    options.add_argument("--model")
    options.add_argument("--threads", type=int, default=0)
    asked = options.parse_args()
    found, lines = dict[str, Won](), list[str]()
    for row in ROWS:
        found[row.name], said = played(row, asked)
        lines += [said] if said else []
    games = list(WANG.ways[0].envs)
    print(f"{asked.explored} train games of each a round, {asked.games} dev games; {describe(asked.threads)}\n")
    print(f"| who plays | {' | '.join(games)} | all |\n{'|---' * (len(games) + 2)}|")
    for name, won in found.items():
        cells = [cell(list(won[game].values())) for game in games]
        print(f"| {name} | {' | '.join(map(str, cells))} | {cell(list(flat(won).values()))} |")
    print("\nPaired by game and seed (McNemar's exact test):\n")
    for first, second in pairwise(ROWS):
        pair = paired(flat(found[second.name]), flat(found[first.name]))
        print(f"- {second.name} against {first.name}: {pair.difference:+.2f} on {pair.n}, p {p_text(pair.p, '= ')}")
    print("\n" + "\n".join(f"- {line}" for line in lines))


if __name__ == "__main__":
    main()
