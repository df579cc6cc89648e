"""A tool that knows the safe door, a model that believes it, and successes of the game without it."""

from __future__ import annotations

from collections.abc import Sequence

from agentlab.trajectories.replay import replay
from environments import Task, make
from environments.tools import Seen
from memory.records import Episode

ENV, SEED = "toy/doors?tools=oracle", 3


class Oracle:
    """Knows the safe door, and the weather; asked about the weather it talks of that alone."""

    name, verbs = "oracle", ("ask",)

    def calls(self, seen: Seen) -> Sequence[str]:
        return ["ask about doors", "ask about the weather"]

    def answer(self, call: str, seen: Seen) -> str:
        if call != "ask about doors":
            return "It rains."
        twin = make("toy/doors")
        twin.start(Task(env="toy/doors", split="train", seed=SEED))
        for told in seen.told[1:]:
            twin.step(told.action)
        return twin.step("read note")[0].removeprefix("The note says: ")


def knowing(text: str, command: str) -> float:
    """Opens a door that was named last with certainty, and guesses otherwise."""
    last = text.rstrip(">").rstrip().splitlines()[-1]
    if command.startswith("open "):
        return -0.1 if f"the {command.removeprefix('open ')} is safe" in last else -2.0
    return -0.1


def won(*actions: str, env: str = ENV, seed: int = SEED) -> Episode:
    """A success by these actions; without any by guessing right at once."""
    if not actions:
        twin, found = make("toy/doors"), list[str]()
        twin.start(Task(env="toy/doors", split="train", seed=seed))
        for _ in range(2):
            safe = twin.step("read note")[0].removeprefix("The note says: the ").removesuffix(" is safe.")
            found.append(f"open {safe}")
            twin.step(found[-1])
        actions = (*found, "take coin")
    played = replay(make(env), Task(env=env, split="train", seed=seed), actions)
    assert played is not None and played.won
    return Episode(
        id=f"ep-{len(actions)}", run="r", env=env, split="train", seed=seed, status="won", score=1.0,
        goal="Find the coin.", steps=played.steps,
    )  # fmt: skip
