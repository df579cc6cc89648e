"""Scoring the admissible commands of a step: one forward pass over a token tree, against one forward per candidate.

    python benchmarks/scoring.py [--quick] [--threads N] [--tokens N ...] [--candidates N ...]

Ours is one step of an agent: the conversation so far is in the key/value cache, and the step pays for its new tokens
(the last action, the new observation) and for the tree. The naive loop runs the whole conversation and a candidate
through the model, for every candidate, and asks for logits only where they are needed. Both compute in float32, on the
same tokens, in one run. The exit code is 1 if scores differ by more than 1e-3, or if ours is less than 100 times
faster at 1,000 tokens and 30 candidates.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
from machine import describe

from agentlab.engines import hub
from agentlab.engines.cached import CachedConversation
from agentlab.engines.model import Model
from agentlab.engines.transformers import TransformersEngine

TOKENS = (200, 500, 1000, 1500)
CANDIDATES = (5, 30, 120)
DIFFERENCE = 1e-3
RATIO, RATIO_AT = 100, (1000, 30)

ROOMS = ("kitchen", "pantry", "corridor", "living room", "bedroom", "bathroom", "backyard", "laundry room", "driveway")
PLACES = ("counter", "dining table", "fridge", "kitchen cupboard", "cutlery drawer", "desk", "shelf", "trash can")
THINGS = (
    "apple",
    "knife",
    "white coat",
    "pair of shorts",
    "red potato",
    "cookbook",
    "coin",
    "brown sugar",
    "wet towel",
)
SIDES = ("North", "East", "South", "West")


@dataclass(frozen=True)
class Cell:
    """One measurement: sizes, the largest difference in log-probability, and seconds a step."""

    tokens: int
    candidates: int
    new_tokens: int
    difference: float
    ours: float
    naive: float

    @property
    def ratio(self) -> float:
        return self.naive / self.ours


def observation(rng: random.Random) -> str:
    """A look around a room, in the form and length of TextWorldExpress observations."""
    seen = ", ".join(f"a {'closed ' if rng.random() < 0.4 else ''}{place}" for place in rng.sample(PLACES, 4))
    exits = " ".join(f"To the {side} you see the {rng.choice(ROOMS)}." for side in rng.sample(SIDES, 2))
    return f"You are in the {rng.choice(ROOMS)}. You see {seen}. On it lies a {rng.choice(THINGS)}. {exits}"


def commands(rng: random.Random, count: int) -> list[str]:
    """`count` different commands as they are admissible in such rooms, sorted."""
    moves = ["inventory", "look around", *(f"move {side.lower()}" for side in SIDES)]
    doors = [f"{verb} door to {side.lower()}" for verb in ("open", "close") for side in SIDES]
    near = [f"{verb} {place}" for verb in ("open", "close", "examine") for place in PLACES]
    take = [f"{verb} {thing}" for verb in ("take", "examine") for thing in THINGS]
    put = [f"put {thing} in {place}" for thing in THINGS for place in PLACES]
    return sorted(rng.sample([*moves, *doors, *near, *take, *put], count))


def conversation(engine: TransformersEngine, tokens: int, rng: random.Random) -> CachedConversation:
    """An episode of about `tokens` tokens of which all but the last turn are in the cache."""
    talk = engine.conversation("Explore the house, find the coin, and put what is not in its place where it belongs.")
    talk.observe(observation(rng))
    while True:
        chosen, answer = rng.choice(commands(rng, 5)), observation(rng)
        Model(engine).score(talk, ["look around"])
        talk.act(chosen)
        talk.observe(answer)
        if len(talk.token_ids) > tokens - 30:
            return talk


def step(engine: TransformersEngine, talk: CachedConversation, candidates: Sequence[str]) -> tuple[list[float], float]:
    """Scores of one step and its seconds. The conversation is put back to where it was, so it can be repeated."""
    seen, pending = len(talk.seen), list(talk.pending)
    began = time.perf_counter()
    scores = Model(engine).score(talk, candidates).logprobs
    seconds = time.perf_counter() - began
    talk.seen, talk.pending = talk.seen[:seen], pending
    return scores, seconds


def naive(engine: TransformersEngine, talk: CachedConversation, candidates: Sequence[str]) -> tuple[list[float], float]:
    """The same scores, one full forward pass for each candidate, without a cache; and the seconds of all."""
    scores = []
    began = time.perf_counter()
    for command in candidates:
        wanted = engine.command_tokens(command)
        ids = torch.tensor([[*talk.token_ids, *wanted]], device=engine.device)
        with torch.inference_mode():
            logits = engine.weights()(input_ids=ids, use_cache=False, logits_to_keep=len(wanted) + 1).logits[0, :-1]
            chosen = torch.log_softmax(logits.float(), dim=-1)[range(len(wanted)), wanted]
        scores.append(float(chosen.double().sum()))
    return scores, time.perf_counter() - began


def measure(engine: TransformersEngine, tokens: int, count: int, repeats: int) -> Cell:
    """One cell of the table. Ours is timed on both sides of the naive loop, so that both see the same machine."""
    rng = random.Random(f"{tokens} {count}")
    talk, candidates = conversation(engine, tokens, rng), commands(rng, count)
    fresh = len(talk.pending)
    step(engine, talk, candidates)
    times = [step(engine, talk, candidates)[1] for _ in range(repeats)]
    reference, slow = naive(engine, talk, candidates)
    scores, _ = step(engine, talk, candidates)
    times += [step(engine, talk, candidates)[1] for _ in range(repeats)]
    difference = max(abs(one - other) for one, other in zip(scores, reference, strict=True))
    return Cell(len(talk.token_ids), count, fresh, difference, median(times), slow)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a bound is broken."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--quick", action="store_true", help="two cells only, the one with the bound among them")
    options.add_argument("--tokens", type=int, nargs="+", default=TOKENS)
    options.add_argument("--candidates", type=int, nargs="+", default=CANDIDATES)
    options.add_argument("--repeats", type=int, default=5, help="timed steps before and after the naive loop")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--model", default="SmolLM2-135M-Instruct")
    given = options.parse_args(arguments)
    grid = [(tokens, count) for tokens in given.tokens for count in given.candidates]
    if given.quick:
        grid = [(200, 5), RATIO_AT]
    print(f"{given.model}, float32; {describe(given.threads)}\n")
    engine = TransformersEngine(
        hub.resolve(given.model), dtype="float32", device="cpu", context=4096, threads=given.threads
    )
    print("| tokens | new tokens | candidates | max abs difference | ms ours | ms naive | ratio |")
    print("|---|---|---|---|---|---|---|", flush=True)
    broken = []
    for tokens, count in grid:
        cell = measure(engine, tokens, count, given.repeats)
        print(
            f"| {cell.tokens} | {cell.new_tokens} | {cell.candidates} | {cell.difference:.1e} "
            f"| {1000 * cell.ours:.1f} | {1000 * cell.naive:.0f} | {cell.ratio:.0f} |",
            flush=True,
        )
        if cell.difference > DIFFERENCE:
            broken.append(f"scores differ by {cell.difference:.1e} at {tokens} tokens and {count} candidates")
        if (tokens, count) == RATIO_AT and cell.ratio < RATIO:
            broken.append(f"only {cell.ratio:.0f} times faster at {tokens} tokens and {count} candidates")
    print("\n" + ("\n".join(f"BROKEN: {line}" for line in broken) or "All bounds hold."))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
