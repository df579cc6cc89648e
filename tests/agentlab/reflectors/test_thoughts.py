"""Thoughts stand in examples and nowhere else in memory; what memory said is not remembered through them."""

from __future__ import annotations

from typing import Any

from agentlab.agent.arms import Arm, RecallConfig
from agentlab.agent.episode import Play
from agentlab.agent.graph import build_graph, play_episode
from agentlab.agent.spec import EpisodeSpec
from agentlab.agent.writing import WritingActor
from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.reflectors.exemplar import ExemplarReflector
from agentlab.reflectors.grounded import GroundedReflector
from environments import Task, make
from memory import prompts
from memory.records import Episode, Reflection, Step


def won(**fields: Any) -> Episode:
    steps = [
        Step(index=0, observation="A hall.", state="a", admissible=["look", "go"], action="go", result="Won.",
             next_state="b", reward=1.0, thought="The way\nis clear.", note=fields.pop("note", "")),
    ]  # fmt: skip
    known: dict[str, Any] = {"id": "ep", "run": "r", "env": "toy/doors", "split": "train", "seed": 0, "goal": "Go."}
    return Episode.model_validate({**known, "steps": steps, "status": "won", "score": 1.0, **fields})


def test_an_example_shows_what_was_thought_before_each_action() -> None:
    (made,) = ExemplarReflector().reflect(won())
    assert made.text == "Example. Task: Go.\nA hall.\n> think: The way is clear.\n> go"


def test_where_memory_had_a_word_in_the_prompt_an_example_has_no_thought() -> None:
    for told in (won(hints="- The way is clear."), won(note="Helped here before: go.")):
        (made,) = ExemplarReflector().reflect(told)
        assert made.text == "Example. Task: Go.\nA hall.\n> go"


def test_no_other_reflection_and_no_report_has_a_thought_in_it() -> None:
    for made in GroundedReflector().reflect(won()):
        assert "clear" not in made.text
    assert "clear" not in prompts.report(won(), outcome=True)


def test_a_reply_that_was_no_command_is_nothing_to_reflect_on() -> None:
    replies = iter(["Thought: Open sesame, I say.", "Open sesame, I say."] + ["look"] * 50)
    arm = Arm("base", actor=WritingActor(think=8), recall=RecallConfig())
    spec = EpisodeSpec("run", Task(env="toy/doors", split="train", seed=0), arm)
    kept: list[Reflection] = []

    class Sink:
        def put(self, result: Any) -> None:
            kept.extend(result.reflections)

        def known(self, run: str, id: str) -> None:
            return None

    engine = ScriptedEngine({}, replies=lambda _: next(replies))
    play = Play(spec, make("toy/doors"), Model(engine), reflectors=[GroundedReflector()], sink=Sink())
    episode = play_episode(play, build_graph())
    assert episode.steps[0].invalid and "sesame" in episode.steps[0].action
    assert kept and not any("sesame" in one.model_dump_json().lower() for one in kept)
