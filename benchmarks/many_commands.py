"""The best of a thousand commands: a best-first search of their trie against a pass over all of it.

    python benchmarks/many_commands.py [--steps N] [--threads N] [--model M] [--envs ENV ...]

A random player walks through worlds that list very many commands; at each step a model is asked for the best of them,
and then for the scores of all, behind the same conversation of which nothing new is to be read. The exit code is 1 if
the search ever finds another command, or one whose log-probability differs by more than 1e-3.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

from machine import describe

from agentlab.agent.policy import Policy
from agentlab.engines import hub
from agentlab.engines.base import ScoreRequest
from agentlab.engines.best_first import searched
from agentlab.engines.model import Model
from agentlab.engines.transformers import TransformersEngine
from environments import make

ENVS = ("sciworld/boil", "sciworld/find-plant", "sciworld/grow-plant", "sciworld/use-thermometer")
DIFFERENCE = 1e-3


class Asked(NamedTuple):
    """One question: the commands, and seconds and tokens of the search and of the whole trie."""

    commands: int
    searched: bool
    seconds: tuple[float, float]
    tokens: tuple[int, int]
    same: bool
    difference: float


def ask(model: Model, conversation: Any, commands: Sequence[str]) -> Asked:
    """The best of these commands, twice."""
    # What was observed is read before, so that both pay for the commands alone.
    model.score(conversation, commands[:1])
    policy, chance, nothing = Policy(), random.Random(0), [0.0] * len(commands)
    seconds, tokens, found = [], [], []
    for bonus in (nothing, []):
        begun = time.perf_counter()
        scores = model.score(conversation, commands, bonus=bonus)
        seconds.append(time.perf_counter() - begun)
        tokens.append(scores.usage.input_tokens)
        at = policy.choose(scores.logprobs, nothing, 0, chance)
        found.append((at, scores.logprobs[at]))
    (one, its), (other, whole) = found
    search = searched(ScoreRequest(conversation, commands, bonus=nothing))
    return Asked(
        len(commands), search, (seconds[0], seconds[1]), (tokens[0], tokens[1]), one == other, abs(its - whole)
    )


def walk(model: Model, env_id: str, steps: int) -> list[Asked]:
    """The questions of one walk."""
    env, chance = make(env_id), random.Random(0)
    observation, info = env.reset(seed=0)
    conversation = model.conversation(info["goal"])
    conversation.observe(observation)
    asked = []
    for _ in range(steps):
        commands = info["admissible_commands"]
        asked.append(ask(model, conversation, commands))
        # Through the doors, where there is more; to focus on the wrong thing loses the game.
        ways = [one for one in commands if one.startswith(("open door", "go"))]
        others = [one for one in commands if not one.startswith("focus")]
        action = chance.choice(ways if ways and chance.random() < 0.5 else others or commands)
        observation, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            break
        conversation.act(action)
        conversation.observe(observation)
    env.close()
    return asked


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if the search is wrong."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--steps", type=int, default=15, help="of each walk")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--model", default="SmolLM2-135M-Instruct")
    options.add_argument("--envs", nargs="*", default=ENVS)
    given = options.parse_args(arguments)
    engine = TransformersEngine(
        hub.resolve(given.model), dtype="float32", device="cpu", context=2048, threads=given.threads
    )
    print(f"{given.model}, float32; {describe(given.threads)}\n")
    print("| world | steps | commands | seconds, search | whole | ratio | tokens, search | whole | same choice |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    wrong = 0
    for env_id in given.envs:
        asked = [one for one in walk(Model(engine), env_id, given.steps) if one.searched]
        if not asked:
            print(f"| {env_id} | 0 | no step with so many that they are searched | | | | | | |", flush=True)
            continue
        wrong += sum(not one.same or one.difference > DIFFERENCE for one in asked)
        mine, whole = (sum(one.seconds[at] for one in asked) for at in (0, 1))
        read, all_of_it = (median(one.tokens[at] for one in asked) for at in (0, 1))
        print(
            f"| {env_id} | {len(asked)} | {median(one.commands for one in asked):.0f} | {mine / len(asked):.2f} "
            f"| {whole / len(asked):.2f} | {whole / mine:.1f} | {read:.0f} | {all_of_it:.0f} "
            f"| {sum(one.same for one in asked)} of {len(asked)} |",
            flush=True,
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
