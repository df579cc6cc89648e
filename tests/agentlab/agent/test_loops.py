"""A greedy agent with memory does not go in circles, and what it recalls does not grow with every play."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from agentlab.agent.arms import Arm, RecallConfig
from agentlab.agent.episode import Play
from agentlab.agent.graph import build_graph, play_episode
from agentlab.agent.policy import Policy
from agentlab.agent.spec import EpisodeSpec
from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.lab import Lab
from agentlab.trajectories.advice import AdviceWeights
from environments import Task, TextEnv, Turn
from memory.records import Episode
from memory.store import EpisodeFilter

WITH_MEMORY = Arm("with memory", recall=RecallConfig())


class Drawer(TextEnv):
    """A drawer to open and close, an apple to take and to put back, which is worth half of the score, and an exit."""

    def __init__(self) -> None:
        super().__init__("own/drawer", 50)

    def begin(self, task: Task) -> Turn:
        self.open, self.apple = False, False
        return self.turn("A kitchen.")

    def act(self, action: str) -> Turn:
        if "drawer" in action:
            self.open = action == "open drawer"
        elif "apple" in action:
            self.apple = action == "take apple"
        return self.turn("Done.", won=action == "leave")

    def turn(self, said: str, won: bool = False) -> Turn:
        commands = [
            "close drawer" if self.open else "open drawer",
            "put apple" if self.apple else "take apple",
            "leave",
        ]
        score = 1.0 if won else 0.5 * self.apple
        return Turn(said, commands, score, won, state=f"open {self.open} apple {self.apple} {score}", goal="Leave.")


def played(likes: str, arm: Arm = WITH_MEMORY, other: float = -9.0) -> Episode:
    """An episode of a policy that likes commands with this word the most, by far if nothing else is said."""
    engine = ScriptedEngine(lambda text, command: -0.1 if likes in command else other)
    spec = EpisodeSpec("r", Task(env="own/drawer", split="train", seed=0), arm)
    return play_episode(Play(spec, Drawer(), Model(engine)), build_graph())


@pytest.mark.parametrize("likes", ["drawer", "apple"])
def test_a_greedy_agent_with_memory_leaves_a_loop_that_its_policy_would_stay_in(likes: str) -> None:
    alone, remembering = played(likes, Arm("alone")), played(likes)
    assert (alone.status, len(alone.steps)) == ("truncated", 50)
    assert remembering.status == "won"
    assert len(remembering.steps) <= 25


def test_a_gain_that_was_had_is_not_fetched_again_and_again() -> None:
    episode = played("apple", other=-4.0)
    taken = Counter(step.action for step in episode.steps)["take apple"]
    assert taken <= 2, "each time it is taken again the same half of the score would be gained"
    assert episode.won


def test_advice_that_learned_to_be_silent_still_does_not_go_in_circles() -> None:
    engine = ScriptedEngine(lambda text, command: -0.1 if "drawer" in command else -9.0)
    play = Play(EpisodeSpec("r", Task(env="own/drawer", split="train", seed=0), WITH_MEMORY), Drawer(), Model(engine))
    play.episode.strength = 0.0
    assert play_episode(play, build_graph()).status == "won"


def test_each_try_of_the_same_command_in_the_same_state_costs_the_same_again() -> None:
    cost = AdviceWeights().again
    episode = played("drawer", other=3 * cost - 0.05)
    opened = [step.index for step in episode.steps if step.action == "open drawer"]
    assert episode.won and len(opened) == 3, "a little more than three times the cost"
    assert all(after - before == 2 for before, after in pairwise(opened))


def test_what_is_recorded_of_advice_is_what_was_added(open_lab: Callable[..., Lab]) -> None:
    """Advice counts more with every trial; a teacher that is read off the record must be the one that played."""
    lab = open_lab()
    lab._engine = ScriptedEngine({"look": 0.0})
    arm = Arm("m", recall=RecallConfig(credit=False), policy=Policy(retry_temperature=0.0, growth=1.0))
    rollout = lab.rollout("grows", arm)
    try:
        rollout.play([Task(env="toy/doors", split="test", seed=0)], arm, trials=3, until_won=False)
    finally:
        rollout.close()
    for row in lab.database.episodes.find(EpisodeFilter(run="grows")):
        for step in lab.database.episodes.get(row.id).steps:
            totals = [score + extra for score, extra in zip(step.scores, step.bonus or [0.0] * 99, strict=False)]
            assert step.action == step.admissible[totals.index(max(totals))]


def test_many_plays_of_a_task_are_recalled_by_what_they_say_and_not_each_by_all(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    lab._engine = ScriptedEngine(lambda text, command: -(len(text) * len(command) % 7) / 3)
    arm = Arm("m", recall=RecallConfig(), policy=Policy(temperature=1.0))
    rollout = lab.rollout("many", arm)
    advice_for_task, read = lab.memory.advice_for_task, list[str]()

    def watched(*args: Any, **settings: Any) -> Any:
        found = advice_for_task(*args, **settings)
        read.extend(dict.fromkeys(reflection for reflection, _ in found))
        return found

    lab.memory.advice_for_task = watched  # type: ignore[method-assign]
    try:
        rollout.play([Task(env="toy/doors", split="train", seed=0)], arm, trials=40, until_won=False)
    finally:
        rollout.close()
    episodes = lab.database.episodes.find(EpisodeFilter(run="many"))
    rows = [one for row in episodes for one in lab.database.recalls.of_episode(row.id)]
    assert len(episodes) == 40
    assert 0 < len(rows) < 40 * 6, "each of all the earlier plays would be 780"
    assert len(read) <= 2 * 40, "what earlier plays taught is not read again for each"
