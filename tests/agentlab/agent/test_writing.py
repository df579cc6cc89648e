"""The writing actor: what it plays, what it asks again, and what stands in the record."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from agentlab.agent.arms import Arm, RecallConfig
from agentlab.agent.episode import Play
from agentlab.agent.graph import build_graph, play_episode
from agentlab.agent.spec import EpisodeSpec
from agentlab.agent.writing import WritingActor, meant
from agentlab.engines.base import TurnRequest
from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.testing import check_actor
from environments import Task, make
from memory.records import Episode


def played(replies: Sequence[str] | Callable[[TurnRequest], str], actor: WritingActor, seed: int = 0) -> Episode:
    engine = ScriptedEngine({}, replies=replies)
    arm = Arm("base", actor=actor, recall=RecallConfig())
    spec = EpisodeSpec("run", Task(env="toy/doors", split="train", seed=seed), arm)
    return play_episode(Play(spec, make("toy/doors"), Model(engine)), build_graph())


def test_it_keeps_what_an_actor_keeps() -> None:
    engine = ScriptedEngine({}, replies=lambda request: (request.commands or ["wait"])[0])
    check_actor(WritingActor(), engine=engine).raise_for_failures()
    check_actor(WritingActor(think=8, samples=3), engine=engine).raise_for_failures()


def test_a_thought_stands_in_its_step_and_in_the_transcript() -> None:
    episode = played(["Thought: I want to see.\nAction: look"], WritingActor(think=16))
    assert episode.prompt == "transcript+thought"
    assert {step.thought for step in episode.steps} == {"I want to see."}
    assert {step.action for step in episode.steps} == {"look"}


def test_what_is_nearly_a_command_is_taken_for_it() -> None:
    assert meant("Open Black Door", ["look", "open black door"]) == "open black door"
    assert meant("open the black door", ["look", "open black door"]) == "open black door"
    assert meant("Open the black door.", ["look", "open black door"]) == "open black door"
    assert meant("go to box a", ["go to box a", "go to box"]) == "go to box a"
    assert meant("sing a song", ["look", "open black door"]) is None
    assert meant("sing a song", None) == "sing a song"


@pytest.mark.parametrize(
    ("written", "command"),
    [
        ("move west", "move east"),
        ("turn off stove", "turn on stove"),
        ("unlock the door", "lock the door"),
        ("take 13 apples", "take 18 apples"),
        ("put 3g of iron in box", "put 3kg of iron in box"),
        ("read the map again", "read the map"),
        ("go northeast", "go northwest"),
        ("deactivate lamp", "activate lamp"),
        ("eat potato", "heat potato"),
        ("calculate 3 + 4", "calculate 3 * 4"),
        ("put -5 in box", "put 5 in box"),
        ("go to box a", "go to box"),
        ("press", "press a"),
        ("...", "?"),
    ],
)
def test_a_command_of_other_words_is_never_taken_for_the_one_that_was_written(written: str, command: str) -> None:
    assert meant(written, ["look", command]) is None


def test_what_may_mean_two_commands_means_none() -> None:
    assert meant("take red ball", ["take the red ball", "take a red ball"]) is None


def test_a_reply_without_a_command_is_asked_once_more() -> None:
    asked: list[TurnRequest] = []

    def reply(request: TurnRequest) -> str:
        asked.append(request)
        return "look" if request.objection else "I am sorry, I cannot do that."

    episode = played(reply, WritingActor())
    assert {step.action for step in episode.steps} == {"look"} and not any(step.invalid for step in episode.steps)
    first, second = asked[:2]
    assert not first.objection and second.refused.startswith("I am sorry") and "read note" in second.objection
    assert len(asked) == 2 * len(episode.steps)


def test_a_second_reply_without_one_is_played_as_it_stands_and_recorded() -> None:
    episode = played(["sing"], WritingActor())
    assert episode.status == "truncated"
    assert all(step.invalid and step.action == "sing" and "look" in step.admissible for step in episode.steps)


def test_turns_vote_on_the_command() -> None:
    said = iter(["look", "read note", "read note"] * 100)
    episode = played(lambda _: next(said), WritingActor(samples=3))
    assert {step.action for step in episode.steps} == {"read note"}


def test_what_changed_nothing_here_is_said_in_words() -> None:
    seen: list[str] = []

    def reply(request: TurnRequest) -> str:
        seen.append(request.conversation.text)
        return "look"

    episode = played(reply, WritingActor())
    assert "(Did not help here before: look.)" not in seen[0]
    assert "(Did not help here before: look.)" in seen[1]
    assert episode.steps[0].note == "" and episode.steps[1].note == "Did not help here before: look."


@pytest.mark.parametrize("samples", [1, 3])
def test_it_is_repeatable(samples: int) -> None:
    def reply(request: TurnRequest) -> str:
        commands = request.commands or []
        return commands[request.seed % len(commands)]

    arm = WritingActor(samples=samples)
    assert played(reply, arm).actions == played(reply, arm).actions
