"""LeCo: the confidence of a turn, and that the least sure one is written again."""

from __future__ import annotations

import math

import pytest

from agentlab.agent.arms import Arm
from agentlab.agent.episode import Play
from agentlab.agent.experimental.leco import LecoActor, confidence, sureness
from agentlab.agent.graph import build_graph, play_episode
from agentlab.agent.spec import EpisodeSpec
from agentlab.engines.base import Turn, TurnRequest
from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.testing import check_actor
from environments import Task, make


def test_the_confidence_of_a_step_is_mean_and_beginning_less_divergence() -> None:
    # p = ½, ¼, ¼, 1: the mean is ½, the first three ⅓; normalised ¼, ⅛, ⅛, ½ against a quarter each.
    divergence = 0.25 * math.log(1) + 2 * 0.125 * math.log(0.5) + 0.5 * math.log(2)
    found = confidence([math.log(one) for one in (0.5, 0.25, 0.25, 1.0)])
    assert found == pytest.approx(0.5 + 1 / 3 - math.log(divergence**0.3 + 1))
    assert confidence([0.0, 0.0]) == pytest.approx(2.0)
    assert confidence([math.log(0.5)] * 5) == pytest.approx(1.0), "even probabilities diverge from nothing"
    assert confidence([]) == -math.inf


class Unsure(ScriptedEngine):
    """Writes turns one after the other, each with the probability of its only token."""

    def __init__(self, *turns: tuple[str, float]) -> None:
        super().__init__({})
        self.turns = list(turns)

    def write_turns(self, requests: list[TurnRequest]) -> list[Turn]:  # type: ignore[override]
        return [
            Turn(text, text, token_ids=[7], logprobs=[math.log(p)])
            for text, p in (self.turns.pop(0) if len(self.turns) > 1 else self.turns[0] for _ in requests)
        ]


def test_a_turn_less_sure_than_all_before_is_written_again_and_the_surest_is_taken() -> None:
    engine = Unsure(
        ("look", 0.5),
        ("read note", 0.6),
        ("look", 0.1),
        ("sing", 0.99),
        ("look", 0.8),
        ("read note", 0.4),
        ("look", 0.9),
    )
    spec = EpisodeSpec("run", Task(env="toy/doors", split="train", seed=0), Arm("leco", actor=LecoActor()))
    episode = play_episode(Play(spec, make("toy/doors"), Model(engine)), build_graph())
    assert episode.actions[:4] == ["look", "read note", "read note", "look"]
    assert episode.steps[2].logprobs == [pytest.approx(math.log(0.4))]


def test_it_keeps_what_an_actor_keeps() -> None:
    engine = ScriptedEngine({}, replies=lambda request: (request.commands or ["wait"])[0])
    check_actor(LecoActor(), engine=engine).raise_for_failures()


def test_a_turn_of_which_all_was_certain_is_the_surest() -> None:
    assert sureness(Turn("look", "look", logprobs=[0.0])) > sureness(Turn("look", "look", logprobs=[math.log(0.9)]))
    engine = Unsure(("look", 0.5), ("look", 1.0), ("read note", 0.9))
    spec = EpisodeSpec("run", Task(env="toy/doors", split="train", seed=0), Arm("leco", actor=LecoActor()))
    assert play_episode(Play(spec, make("toy/doors"), Model(engine)), build_graph()).actions[1] == "look"


def test_a_turn_without_a_command_is_written_again() -> None:
    engine = Unsure(("sing a song", 0.9), ("sing a song", 0.9), ("look", 0.2), ("read note", 0.3), ("look", 0.9))
    spec = EpisodeSpec("run", Task(env="toy/doors", split="train", seed=0), Arm("leco", actor=LecoActor()))
    episode = play_episode(Play(spec, make("toy/doors"), Model(engine)), build_graph())
    assert episode.actions[0] == "read note" and not episode.steps[0].invalid
