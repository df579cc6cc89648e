"""A served model against the same one in this process: the scores of all commands, and whole episodes.

    python benchmarks/served.py [--model M] [--server URL] [--games N] [--env ENV] [--lab FOLDER]

The same games are played at temperature 0 by a transformers engine and by a vLLM server (one that runs already, or one
of its own), both in float32: by the base ranking commands, by an adapter that is trained here on what was played first,
and by the base writing its commands. The exit code is 1 if a command's log-probability differs by more than 1e-3, or if
an episode is another one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass, replace
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
COLUMNS = ("who plays", "games", "steps", "log-probabilities", "max abs difference", "mean", "same episodes")


@dataclass(frozen=True)
class Arm:
    """Who plays: `actor` as in lab.toml, `adapter` if it is not the base, on so many games."""

    name: str
    games: int
    actor: str = "rank"
    think: int = 0
    adapter: str | None = None


def played(folder: Path, engine: str, server: str, env: str, arm: Arm) -> dict[int, Episode]:
    """The episodes of an arm by their seeds."""
    with Lab.open(folder, progress=Lines()) as lab:
        lab.config = lab.config.model_copy(
            update={"engine": engine, "server": server, "actor": arm.actor, "think": arm.think}
        )
        seeds = list(SEEDS[: arm.games])
        name = f"{arm.name} {engine}"
        results = lab.run(env, seeds=seeds, trials=1, arm=arm.adapter or "base", name=name)
        episodes = lab.database.episodes.load([result.trials[-1].episode for result in results])
    return {episode.seed: episode for episode in episodes}


def compared(arm: Arm, here: dict[int, Episode], there: dict[int, Episode]) -> tuple[list[str], bool]:
    """A row of the table, and whether it is as it should be."""
    apart: list[float] = []
    steps = same = 0
    for seed, one in here.items():
        other = there[seed]
        steps += len(one.steps)
        same += one.error is None and [step.action for step in one.steps] == [step.action for step in other.steps]
        for step, again in zip(one.steps, other.steps, strict=False):
            if step.state != again.state or step.admissible != again.admissible:
                break  # another game from here on
            known = zip(step.scores or step.logprobs, again.scores or again.logprobs, strict=False)
            # A search for the best of very many leaves most without a score.
            apart += [abs(a - b) for a, b in known if a is not None and b is not None]
    most, games = max(apart), len(here)
    row = [arm.name, str(games), str(steps), str(len(apart)), f"{most:.1e}", f"{sum(apart) / len(apart):.1e}"]
    return [*row, f"{same} of {games}"], most <= DIFFERENCE and same == games


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
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--server", default="", help="a vLLM server that runs already")
    parser.add_argument("--games", type=int, default=30)
    parser.add_argument("--env", default="twx/coin?step_limit=10")
    parser.add_argument("--lab", type=Path, help="a new folder; by default one that is thrown away")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.lab or Path(scratch) / "lab"
        config = LabConfig(model=given.model, dtype="float32", embedder="hashing", concurrency=8)
        Lab.open(folder, create=True, config=config).close()
        print(f"Made by `python benchmarks/served.py`: {config.model}, float32, {given.env}; {describe(2)}.")
        print(f"\n| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
        fewer, first, right = max(given.games // 3, 1), [], True
        arms = [Arm("base, ranking", given.games), Arm("adapter, ranking", fewer)]
        arms += [Arm("base, writing", fewer, "write"), Arm("base, writing with a thought of 16", fewer, "write", 16)]
        for arm in arms:
            if arm.name.startswith("adapter"):
                arm = replace(arm, adapter=trained(folder, first[:4]))
            here, there = (played(folder, engine, given.server, given.env, arm) for engine in ENGINES)
            first = first or list(here.values())
            row, as_meant = compared(arm, here, there)
            print(f"| {' | '.join(row)} |", flush=True)
            right = right and as_meant
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
