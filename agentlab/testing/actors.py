"""The conformance of an actor."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from agentlab.agent.actors import Actor, Prompted, View
from agentlab.agent.arms import Arm
from agentlab.agent.episode import Play
from agentlab.agent.graph import build_graph, play_episode
from agentlab.agent.spec import EpisodeSpec
from agentlab.engines.base import Engine
from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import AgentLabError
from agentlab.testing.report import HOSTILE, Report, expect
from agentlab.trajectories.transition import Decision
from environments import Task, dispose, make

COMMANDS = ("go east", "go west", "look", "open blue door")
ENV = "toy/doors"


def check_actor(actor: Actor, *, engine: Engine | None = None) -> Report:
    """What an actor keeps; `engine` is the one that it may ask, by default one that likes short commands."""
    report = Report(f"actor {getattr(actor, 'name', type(actor).__name__)}")
    model = Model(engine or ScriptedEngine(lambda text, command: -float(len(command))))

    def view(commands: Sequence[str] | None, said: str = "A room.", goal: str = "Find the coin.", **rest: Any) -> View:
        talk = model.conversation(goal, "", actor.prompting if isinstance(actor, Prompted) else None)
        talk.observe(said, commands)
        return View(
            "own/env", goal, said, said or "nothing", commands, talk, model, rng=random.Random(7),
            advise=lambda commands: [0.0] * len(commands), **rest,
        )  # fmt: skip

    def picked(commands: list[str], **rest: Any) -> Decision:
        decision = actor.act(view(commands, **rest))
        expect(isinstance(decision, Decision), f"it gave {decision!r}, which is no Decision")
        expect(decision.command in commands, f"it decided for {decision.command!r}, which was not offered")
        return decision

    with report.that("it has a name"):
        expect(isinstance(actor.name, str) and bool(actor.name), "it has none")
    with report.that("it decides for what is offered"):
        for trial in range(3):
            picked(list(COMMANDS), trial=trial)
        expect(picked(["wait"]).command == "wait", "of one command it took another")
    with report.that("the same view gives the same decision, whatever other episodes ask in between"):
        first = picked(list(COMMANDS))
        picked(["sing", "wait"], said="A stage.", goal="Please the crowd.")
        again = picked(list(COMMANDS))
        expect(first.command == again.command, f"first {first.command!r}, then {again.command!r}")
    with report.that("it leaves what it sees as it is"):
        offered = list(COMMANDS)
        picked(offered)
        expect(offered == list(COMMANDS), f"the commands are now {offered}")
    with report.that("no text of an environment harms it"):
        for text in HOSTILE:
            picked(["look", text[:200] or "wait"], said=text)
    with report.that("where any text is taken it gives one, or refuses in one line"):
        try:
            decision = actor.act(view(None))
        except AgentLabError as refused:
            expect("\n" not in str(refused), "the refusal has several lines")
        else:
            expect(bool(decision.command.strip()), "the text is empty")
    with report.that("it plays a game to an end"):
        env = make(ENV)
        try:
            spec = EpisodeSpec("check", Task(env=ENV, split="train", seed=0), Arm("checked", actor=actor))
            episode = play_episode(Play(spec, env, model), build_graph())
            expect(episode.status != "errored", str(episode.error))
            expect(bool(episode.steps), "it did nothing")
        finally:
            dispose(env)
    return report
