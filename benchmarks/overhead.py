"""What LangGraph, checkpoints, records and storage add to a step, against the bare loop.

    python benchmarks/overhead.py [--env twx/coin] [--episodes N] [--threads N] [--model M]

The same episodes are played by a bare loop (environment, `engine.score`, argmax, nothing kept) and by the agent with
one part more at a time, up to the whole `Rollout` of a lab: its graph, LangGraph's SQLite saver, the database. Every
agent episode has a bare twin that takes the same actions, so both do the same steps on the same tokens, in turns.

The model's time varies by more than what is sought. So the time inside engine and environment is counted apart, and
`added` is by how much the rest of a step grew (wall clock, so waiting for the disk counts). What a background thread
does while the model computes is not in it; it is in the processor time of the whole process, which is compared too.
The exit code is 1 if the whole adds more than 5 % by either measure. The last row, with advice, is shown beside it: its
recall embeds every new state, which is the memory's work and not the frame's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from machine import describe

from agentlab import Arm, Lab, LabConfig, RecallConfig, Task, TextEnv, make
from agentlab.agent.arms import BASE
from agentlab.agent.episode import Play
from agentlab.agent.graph import build_graph, play_episode
from agentlab.agent.spec import EpisodeSpec
from agentlab.engines.base import Engine
from agentlab.engines.model import Model

LIMIT = 0.05
WHOLE = "+ storage (the whole)"
ADVICE = Arm("advice", recall=RecallConfig())


class Stopwatch:
    """Adds up the time that calls take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, with its time counted."""

        def timed(*args: Any, **keywords: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*args, **keywords)
            finally:
                self.seconds += time.perf_counter() - began

        return timed


@dataclass(frozen=True)
class Taken:
    """What an episode took, in seconds a step: wall clock, of it outside of engine and environment, processor time."""

    wall: float
    own: float
    cpu: float


@dataclass(frozen=True)
class Pair:
    """One episode played by the agent and by the bare loop."""

    steps: int
    agent: Taken
    bare: Taken


@dataclass
class Bench:
    """What the loops share."""

    lab: Lab
    engine: Engine
    env: TextEnv
    inside: Stopwatch

    def taken(self, work: Callable[[], list[str]]) -> tuple[list[str], Taken]:
        """The actions of an episode and what it took."""
        before, cpu, wall = self.inside.seconds, time.process_time(), time.perf_counter()
        actions = work()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        steps = len(actions)
        return actions, Taken(wall / steps, (wall - self.inside.seconds + before) / steps, cpu / steps)

    def bare(self, task: Task, actions: list[str]) -> list[str]:
        """The bare loop. It decides at every step, and then takes the action that its twin took."""
        observation, info = self.env.start(task)
        model = Model(self.engine)
        conversation = model.conversation(info["goal"])
        conversation.observe(observation)
        for at, action in enumerate(actions):
            scores = model.score(conversation, info["admissible_commands"]).logprobs
            max(range(len(scores)), key=scores.__getitem__)
            observation, _, _, _, info = self.env.step(action)
            conversation.act(action)
            if at + 1 < len(actions):
                conversation.observe(observation)
        conversation.close()
        return actions

    def records(self, run: str, task: Task) -> list[str]:
        """The moves of an episode with policy and records, without a graph."""
        play = Play(EpisodeSpec(run, task, BASE), self.env, Model(self.engine))
        play.reset()
        play.start_prompt("", [])
        while not play.step(play.select_action()):
            pass
        play.finalize()
        return play.episode.actions

    def graph(self, run: str, task: Task, checkpointer: Any = None) -> list[str]:
        """The same as a LangGraph graph, checkpointed if there is a checkpointer."""
        play = Play(EpisodeSpec(run, task, BASE), self.env, Model(self.engine))
        return play_episode(play, build_graph(checkpointer)).actions

    def rollout(self, run: str, task: Task, arm: Arm) -> list[str]:
        """The whole, as `Lab.run` does it; its environment is the one that all use."""
        rollout = self.lab.rollout(run, arm)
        rollout.pool.factory = lambda *_: self.env
        rollout.concurrency = 1
        result = rollout.play([task], arm)[0]
        return self.lab.database.episodes.get(result.trials[0].episode).actions


def measure(bench: Bench, env_id: str, episodes: int) -> dict[str, list[Pair]]:
    """Pairs by part, in an order that rotates from episode to episode."""
    checkpointer = bench.lab.checkpointer
    parts: dict[str, Callable[[str, Task], list[str]]] = {
        "records": bench.records,
        "+ graph": bench.graph,
        "+ checkpoints": lambda run, task: bench.graph(run, task, checkpointer),
        WHOLE: lambda run, task: bench.rollout(run, task, BASE),
        "with advice": lambda run, task: bench.rollout(run, task, ADVICE),
    }
    found: dict[str, list[Pair]] = {name: [] for name in parts}
    for number in range(-1, episodes):  # the first is for warming up
        task = Task(env=env_id, split="train", seed=max(number, 0))
        for turn in range(len(parts)):
            name = list(parts)[(turn + number) % len(parts)]
            play = partial(parts[name], f"{name} {number}", task)
            actions, agent = bench.taken(play)
            _, bare = bench.taken(partial(bench.bare, task, actions))
            if number >= 0:
                found[name].append(Pair(len(actions), agent, bare))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if the bound is broken."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--env", default="twx/coin")
    options.add_argument("--episodes", type=int, default=15)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--model", default="SmolLM2-135M-Instruct")
    given = options.parse_args(arguments)
    print(f"{given.model} on {given.env}; {describe(given.threads)}\n")
    config = LabConfig(model=given.model, threads=given.threads)
    with tempfile.TemporaryDirectory() as scratch, Lab.open(Path(scratch) / "lab", create=True, config=config) as lab:
        env, engine, inside = make(given.env), lab.engine, Stopwatch()
        engine.score = inside.around(engine.score)  # type: ignore[method-assign]
        env.start, env.step = inside.around(env.start), inside.around(env.step)  # type: ignore[method-assign]
        found = measure(Bench(lab, engine, env, inside), env.env_id, given.episodes)
        env.close()
    print("| what | steps | bare ms/step | ms/step | ms added | added | processor time | wall ratio |")
    print("|---|---|---|---|---|---|---|---|")
    worst = 0.0
    for name, pairs in found.items():
        bare = median(pair.bare.wall for pair in pairs)
        wall = median(pair.agent.wall / pair.bare.wall for pair in pairs)
        own = median(pair.agent.own - pair.bare.own for pair in pairs)
        cpu = median(pair.agent.cpu / pair.bare.cpu for pair in pairs) - 1
        print(
            f"| {name} | {sum(pair.steps for pair in pairs)} | {1000 * bare:.1f} "
            f"| {1000 * median(pair.agent.wall for pair in pairs):.1f} | {1000 * own:+.2f} "
            f"| {100 * own / bare:+.1f} % | {100 * cpu:+.1f} % | {wall:.3f} |"
        )
        if name == WHOLE:
            worst = max(own / bare, cpu)
    print(f"\nThe whole adds {100 * worst:.1f} % to a step; the bound is {100 * LIMIT:.0f} %.")
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
