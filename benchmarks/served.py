"""A served model against the same one in this process: the scores of all commands, and whole episodes.

    python benchmarks/served.py [--server URL] [--games N] [--env ENV] [--lab FOLDER]

The same games are played at temperature 0 by a transformers engine and by a vLLM server (one that runs already, or one
of its own), both in float32: by the base ranking commands, by an adapter that is trained here on what was played first,
and by the base writing its commands. The exit code is 1 if a command's log-probability differs by more than 1e-3, or if
an episode is another one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from machine import describe

from agentlab.bars import Lines
from agentlab.lab import Lab
from agentlab.workspace.config import LabConfig
from memory.records import Episode
from trainers import job
from trainers.data import from_episode
from trainers.training import reference

DIFFERENCE = 1e-3
SEEDS = range(1000)
ENGINES = ("transformers", "vllm")
COLUMNS = (
    "who plays", "games", "steps", "log-probabilities", "max abs difference", "mean", "same episodes", "s here",
    "s served",
)  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """Who plays: `actor` as in lab.toml, `adapter` if it is not the base, on so many games."""

    name: str
    games: int
    actor: str = "rank"
    think: int = 0
    adapter: str | None = None


def played(folder: Path, engine: str, server: str, env: str, arm: Arm) -> tuple[dict[int, Episode], float]:
    """The episodes of an arm by their seeds, and the seconds that they took once the model was there."""
    with Lab.open(folder, progress=Lines()) as lab:
        lab.config = lab.config.model_copy(
            update={"engine": engine, "server": server, "actor": arm.actor, "think": arm.think}
        )
        lab.model().score(lab.model().conversation("Warm up."), ["look"])
        began = time.perf_counter()
        seeds = list(SEEDS[: arm.games])
        name = f"{arm.name} {engine}"
        results = lab.run(env, seeds=seeds, trials=1, arm=arm.adapter or "base", name=name)
        seconds = time.perf_counter() - began
        episodes = lab.database.episodes.load([result.trials[-1].episode for result in results])
    return {episode.seed: episode for episode in episodes}, seconds


def compared(arm: Arm, here: tuple[dict[int, Episode], float], there: tuple[dict[int, Episode], float]) -> list[object]:
    """A row of the table."""
    apart: list[float] = []
    for seed, one in here[0].items():
        other = there[0][seed]
        for step, again in zip(one.steps, other.steps, strict=False):
            if step.state != again.state or step.admissible != again.admissible:
                break
            apart += [
                abs(a - b) for a, b in zip(step.scores or step.logprobs, again.scores or again.logprobs, strict=False)
            ]
    same = sum(
        one.error is None and [step.action for step in one.steps] == [step.action for step in there[0][seed].steps]
        for seed, one in here[0].items()
    )
    steps = sum(len(episode.steps) for episode in here[0].values())
    return [
        arm.name,
        len(here[0]),
        steps,
        len(apart),
        max(apart),
        sum(apart) / len(apart),
        f"{same}/{len(here[0])}",
        here[1],
        there[1],
    ]


def trained(folder: Path, episodes: list[Episode]) -> str:
    """The id of an adapter that learned what was done, good or bad: it is to differ from the base."""
    with Lab.open(folder, progress=Lines()) as lab:
        tokenize = lab.engine.tokenize
        examples = [from_episode(episode, tokenize, max_tokens=512) for episode in episodes]
        place = lab.folder / "jobs" / "served"
        settings = job.JobConfig(base=reference(lab.config.model, lab.model_folder), epochs=1, dtype="float32")
        job.create(place, settings, examples, job.Lineage())
        job.run(place)
        return lab.adapters.register(place).id


def main() -> int:
    """Play, compare, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="", help="a vLLM server that runs already")
    parser.add_argument("--games", type=int, default=30)
    parser.add_argument("--env", default="twx/coin?step_limit=10")
    parser.add_argument("--lab", type=Path, help="a new folder; by default one that is thrown away")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.lab or Path(scratch) / "lab"
        config = LabConfig(dtype="float32", embedder="hashing")
        Lab.open(folder, create=True, config=config).close()
        rows: list[list[object]] = []
        fewer, first = max(given.games // 3, 1), []
        arms = [Arm("base, ranking", given.games), Arm("adapter, ranking", fewer)]
        arms += [Arm("base, writing", fewer, "write"), Arm("base, writing with a thought of 16", fewer, "write", 16)]
        for arm in arms:
            if arm.name.startswith("adapter"):
                arm = Arm(arm.name, arm.games, adapter=trained(folder, first[:4]))
            here, there = (played(folder, engine, given.server, given.env, arm) for engine in ENGINES)
            first = first or list(here[0].values())
            rows.append(compared(arm, here, there))
    print(
        f"Made by `python benchmarks/served.py`: {config.model}, float32, {given.env}; {describe(config.threads or 2)}."
    )
    print(f"\n| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    for name, games, steps, count, most, mean, same, here, there in rows:
        print(f"| {name} | {games} | {steps} | {count} | {most:.1e} | {mean:.1e} | {same} | {here:.0f} | {there:.0f} |")
    right = all(row[4] <= DIFFERENCE and row[6] == f"{row[1]}/{row[1]}" for row in rows)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
