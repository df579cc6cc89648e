"""SelfGoal: subgoals are decomposed from the goal as the game goes on, and stand in the prompt of one turn alone."""

from __future__ import annotations

from agentlab.agent.arms import Arm
from agentlab.agent.episode import Play
from agentlab.agent.experimental.selfgoal import SelfGoalActor, cosine, listed_lines, novel, picked
from agentlab.agent.graph import build_graph, play_episode
from agentlab.agent.spec import EpisodeSpec
from agentlab.engines.base import WriteRequest, Writing
from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.testing import check_actor
from agentlab.trajectories.transition import Decision
from environments import Task, make
from memory.records import Usage


class Planner(ScriptedEngine):
    """Decomposes the goal into reading and walking, and whatever else into what there is; finds the last one useful."""

    def write(self, requests: list[WriteRequest]) -> list[Writing]:  # type: ignore[override]
        return [Writing(self._plan(request.prompt), usage=Usage(output_tokens=5)) for request in requests]

    def _plan(self, prompt: str) -> str:
        self.prompts.append(prompt)
        if "numbers" in prompt:
            return f"{prompt.count('. ')} and 1"
        if "of the subgoal" in prompt:
            return "- read the note"
        return "1. read the note\n2. walk through a door\n3. Read the note!"


def played(actor: SelfGoalActor, engine: ScriptedEngine, steps: int) -> Play:
    env = f"toy/doors?step_limit={steps}"
    spec = EpisodeSpec("run", Task(env=env, split="train", seed=0), Arm("selfgoal", actor=actor))
    play = Play(spec, make(env), Model(engine))
    play_episode(play, build_graph())
    return play


def test_the_subgoals_stand_behind_each_turn_and_not_in_the_conversation() -> None:
    engine = Planner({}, replies=["look"])
    play = played(SelfGoalActor(), engine, 3)
    first = engine.asked[0]
    assert first.refused.splitlines() == ["- read the note", "- walk through a door"]
    assert play.conversation is not None and "walk through a door" not in play.conversation.text
    assert all(not step.logprobs for step in play.episode.steps), "they are of another text"
    # Decomposed again, both are like what is there already, and stay.
    assert engine.asked[2].refused.splitlines() == ["- read the note", "- walk through a door"]


def test_what_growing_the_tree_took_is_counted() -> None:
    engine = Planner({}, replies=["look"])
    play = played(SelfGoalActor(), engine, 2)
    assert play.episode.usage.output_tokens == 5 * len(engine.prompts) > 0


def test_a_resumed_episode_grows_the_same_tree() -> None:
    actor, engine = SelfGoalActor(), Planner({}, replies=["look"])
    play = played(actor, engine, 3)
    asked, prompts = engine.asked[-1].refused, list(engine.prompts)
    again = Planner({}, replies=["look"])
    other = Play(play.spec, make(play.spec.task.env), Model(again))
    other.reset()
    other.start_prompt("", [])
    for step in play.episode.steps[:2]:
        other.step(Decision(step.action, list(step.admissible)))
    actor.act(other.view())
    assert again.asked[-1].refused == asked and again.prompts == prompts


def test_a_subgoal_like_another_one_is_left_out() -> None:
    assert cosine("read the note", "Read the note!") == 1.0
    assert cosine("read", "walk") == 0.0
    assert novel(["read the note", "open a door", "open the door"], ["read the note"], 0.6) == ["open a door"]


def test_lists_and_numbers_are_read_in_whatever_form_they_come() -> None:
    assert listed_lines("1. go\n\n- find it\n  * take it\n2) leave") == ["go", "find it", "take it", "leave"]
    assert picked("Subgoals 3 and 1, 3.", ["a", "b", "c"], 2) == ["c", "a"]
    assert picked("none of them", ["a", "b", "c"], 2) == ["c", "b"]


def test_it_keeps_what_an_actor_keeps() -> None:
    engine = Planner({}, replies=lambda request: (request.commands or ["wait"])[0])
    check_actor(SelfGoalActor(), engine=engine).raise_for_failures()
