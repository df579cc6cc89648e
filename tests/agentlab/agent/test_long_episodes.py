"""In an episode too long for the context the recipe stays that was read at its first step, whoever reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from agentlab.agent.actors import View
from agentlab.agent.arms import Arm
from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.lab import Lab
from agentlab.search.calls import write_calls
from agentlab.search.config import SearchConfig
from agentlab.search.tasks import search_tasks
from agentlab.trajectories.budget import Budget
from agentlab.trajectories.replay import replay
from agentlab.trajectories.transition import Decision
from environments import Task, TextEnv, Turn, make, register, unregister
from memory.prompts import Reading
from memory.records import Episode
from trainers.data.examples import from_episode

ENV = "own/kitchen"
RECIPE = "The note says: roast the red bread, then take it to the attic."
READ = Reading("read cookbook", RECIPE)


class Kitchen(TextEnv):
    """What the cookbook says is told when it is read; the meal may be eaten at any time."""

    def begin(self, task: Task) -> Turn:
        return self.turn("You are in the kitchen. You see a cookbook.")

    def act(self, action: str) -> Turn:
        said = RECIPE if action == "read cookbook" else "You are in the kitchen. You see a cookbook."
        return self.turn(said, won=action == "eat meal")

    def turn(self, said: str, won: bool = False) -> Turn:
        commands = ["eat meal", "look around", "read cookbook"]
        state = "You are in the kitchen. You see a cookbook."
        return Turn(said, commands, float(won), won, False, state, "Eat the meal.")


@pytest.fixture(autouse=True)
def kitchen() -> Iterator[None]:
    register(ENV, lambda: Kitchen(ENV, step_limit=60))
    yield
    unregister(ENV)


class Looking:
    """Reads the cookbook first, and then looks around for ever; it remembers what the model read at each step."""

    name = "looking"

    def __init__(self) -> None:
        self.read: list[str] = []

    def act(self, view: View) -> Decision:
        commands = list(view.commands or ())
        scores = view.score(commands)
        tokens = view.conversation.context_ids  # type: ignore[attr-defined]
        self.read.append(view.model.engine.tokenizer.decode(tokens))  # type: ignore[union-attr]
        chosen = "look around" if view.steps else "read cookbook"
        return Decision(chosen, commands, scores.logprobs, usage=scores.usage)


def test_the_model_that_plays_reads_it_at_every_step_and_so_does_training(
    open_at: Callable[..., Lab], tmp_path: Path
) -> None:
    actor = Looking()
    with open_at(tmp_path / "lab") as lab:
        (result,) = lab.run(ENV, arm=Arm("looking", actor=actor), seeds=[0], trials=1, reflectors=[])
        episode = lab.database.episodes.get(result.trials[0].episode)
        tokenize = lab.engine.tokenize  # type: ignore[union-attr]
        example = from_episode(episode, tokenize, max_tokens=256)
        trained = lab.engine.tokenizer.decode(example.token_ids)  # type: ignore[union-attr]
    assert len(episode.token_ids) > 2 * 512 and len(actor.read) == 60
    assert all(RECIPE in text for text in actor.read[1:])
    assert f"Read before: read cookbook: {RECIPE}" in actor.read[-1]
    assert f"Read before: read cookbook: {RECIPE}" in trained


class Listening(ScriptedEngine):
    """Finds all alike, and remembers what was read in the conversations that it was asked about."""

    def __init__(self) -> None:
        super().__init__({})
        self.heard: set[Reading | None] = set()

    def score(self, requests):  # type: ignore[no-untyped-def]
        for request in requests:
            self.heard.update(request.conversation.readings.values())
        return super().score(requests)


def test_who_weighs_calls_or_guides_a_search_has_it_too(open_lab: Callable[..., Lab]) -> None:
    env, task = f"{ENV}?tools=notes", Task(env=f"{ENV}?tools=notes", split="train", seed=0)
    won = replay(make(env), task, ["read cookbook", "look around", "eat meal"])
    assert won is not None and won.won
    success = Episode(id="e", run="r", env=env, split="train", seed=0, goal="Eat the meal.", steps=won.steps)
    engine = Listening()
    list(write_calls(Model(engine), lambda id: nullcontext(make(id)), [success]))
    assert READ in engine.heard
    guide = Listening()
    task = Task(env=ENV, split="train", seed=0)
    config = SearchConfig(wins=9)
    search_tasks(open_lab(engine=guide), "s", [task], engine="model", budget=Budget(steps=40), config=config)
    assert READ in guide.heard
