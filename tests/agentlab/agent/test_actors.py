"""Who decides: the usual actors, one's own, and environments that list no commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from agentlab.agent.actors import RankingActor, View
from agentlab.agent.arms import Arm, RecallConfig
from agentlab.agent.random_exploration import random_exploration
from agentlab.engines.base import WriteRequest, Writing
from agentlab.errors import AgentLabError, NoCommands
from agentlab.lab import Lab
from agentlab.trajectories.refinement import refine
from agentlab.trajectories.replay import replay
from agentlab.trajectories.transition import Decision, Game
from environments import EnvironmentDied, Task, TextEnv, Turn, make, register, unregister
from environments.check import check
from memory.records import Episode, Step, Usage

RIDDLE = "own/riddle"


class Riddle(TextEnv):
    """Takes any text; who says the word that the sign shows has won."""

    def begin(self, task: Task) -> Turn:
        self.word = f"{task.split}-{task.seed}"
        return Turn(f"The sign says {self.word}.", None, goal="Say the word.")

    def act(self, action: str) -> Turn:
        won = action == f"say {self.word}"
        return Turn("Right." if won else "Nothing happens.", None, float(won), won, goal="Say the word.")


@pytest.fixture(autouse=True)
def riddle() -> Iterator[None]:
    register(RIDDLE, lambda: Riddle(RIDDLE, step_limit=4))
    yield
    unregister(RIDDLE)


@dataclass(frozen=True)
class Speaker:
    """Says what the sign says, with a thought."""

    loud: bool = False
    name: str = "speaker"

    def act(self, view: View) -> Decision:
        word = view.observation.removeprefix("The sign says ").rstrip(".")
        return Decision(
            f"say {word.upper() if self.loud else word}",
            thought="It can be read.",
            token_ids=[7, 8],
            logprobs=[-0.5, -0.25],
            usage=Usage(input_tokens=20, output_tokens=2, cost=0.01),
        )


class Reader:
    """Proposes to say each word of the observation."""

    name = "reader"

    def commands(self, view: View) -> Sequence[str]:
        return [f"say {word.rstrip('.')}" for word in view.observation.split()]


def test_an_actor_of_one_s_own_plays_any_text_and_what_it_wrote_is_kept(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    arm = Arm("speaker", actor=Speaker(), recall=RecallConfig())
    results = lab.run(RIDDLE, seeds=range(2), arm=arm, trials=1)
    assert all(result.won_within(1) for result in results)
    episode = lab.database.episodes.get(results[0].trials[0].episode)
    (step,) = episode.steps
    assert (step.action, step.admissible, step.scores) == ("say train-0", [], None)
    assert (step.thought, step.token_ids, step.logprobs) == ("It can be read.", [7, 8], [-0.5, -0.25])
    assert step.logprob == -0.75 and episode.usage == Usage(input_tokens=20, output_tokens=2, cost=0.01)
    assert lab.database.reflections.find(), "it is reflected on as any other"


def test_a_ranking_actor_refuses_what_lists_no_commands_in_one_line_before_the_first_step(
    open_lab: Callable[..., Lab],
) -> None:
    lab = open_lab()
    with pytest.raises(NoCommands) as refused:
        lab.run(RIDDLE, seeds=range(2), arm="base", trials=1)
    assert "\n" not in str(refused.value) and RIDDLE in str(refused.value)
    assert lab.database.episodes.find() == []


class Muttering(Riddle):
    """Lists its commands at first, and later in every other game."""

    def begin(self, task: Task) -> Turn:
        self.lists = task.seed % 2 == 0
        return Turn("Speak.", ["sing", "hum"], goal="Speak.")

    def act(self, action: str) -> Turn:
        return Turn("You hear nothing.", ["sing", "hum"] if self.lists else None)


@pytest.mark.parametrize("arm", ["base", "random"])
def test_a_game_that_stops_listing_its_commands_is_errored_and_the_others_are_played(
    open_lab: Callable[..., Lab], arm: str
) -> None:
    register("own/muttering", lambda: Muttering("own/muttering", step_limit=3))
    try:
        played = open_lab().run("own/muttering", seeds=range(4), arm=arm, trials=1)
        assert [one.trials[0].status for one in played] == ["truncated", "errored", "truncated", "errored"]
        assert {one.trials[0].error_kind for one in played if one.errored} == {"environment"}
        assert "listed commands, and now none" in str(played[1].trials[0].error)
        with pytest.raises(EnvironmentDied, match="now none"):
            random_exploration(make("own/muttering"), Task(env="own/muttering", split="train", seed=1), run="r")
    finally:
        unregister("own/muttering")


def test_a_ranking_actor_chooses_among_what_a_source_proposes(open_lab: Callable[..., Lab], note_reader: Any) -> None:
    note_reader.preferences = lambda text, command: float("train-" in command)
    lab = open_lab()
    (result,) = lab.run(RIDDLE, seeds=[3], arm=Arm("proposed", actor=RankingActor(Reader())), trials=1)
    step = lab.database.episodes.get(result.trials[0].episode).steps[0]
    assert result.won_within(1) and step.admissible == ["say The", "say sign", "say says", "say train-3"]
    assert step.scores == [0.0, 0.0, 0.0, 1.0]


def test_any_text_is_checked_replayed_and_refined_and_not_explored() -> None:
    assert check(RIDDLE).ok
    env, task = make(RIDDLE), Task(env=RIDDLE, split="train", seed=5)
    played = replay(env, task, ["sing", "say train-5"])
    assert played is not None and played.won
    game = Game(env, task)
    for action in ("sing", "dance", "say train-5"):
        game.step(Decision(action))
    lived = Episode(id="e", run="r", env=RIDDLE, split="train", seed=5, status="won", score=1.0, steps=game.steps)
    assert refine(lived, env).actions == ["say train-5"]
    with pytest.raises(NoCommands, match="takes any text"):
        random_exploration(env, task, run="r")


def test_what_an_actor_is_set_to_makes_it_another_arm() -> None:
    arms = [Arm("a"), *(Arm("a", actor=actor) for actor in (Speaker(), Speaker(loud=True), RankingActor(Reader())))]
    assert len({arm.identity for arm in arms}) == 4
    assert Arm("a", actor=Speaker()).identity == Arm("b", actor=Speaker()).identity


def test_an_arm_without_a_model_loads_none_and_is_recorded_by_its_name(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab(engine=None)
    lab.config = lab.config.model_copy(update={"model": "nowhere/at-all"})
    (result,) = lab.run(RIDDLE, seeds=[1], arm=Arm("rules", engine="rules", actor=Speaker()), trials=1)
    assert lab.database.episodes.get(result.trials[0].episode).engine == "rules"
    with pytest.raises(AgentLabError, match="without a model"):
        lab.run("toy/doors", seeds=[1], arm=Arm("ranks", engine="rules", actor=RankingActor()), trials=1)


@pytest.mark.parametrize("fault", ["inventive", "broken"])
def test_an_actor_that_fails_ends_its_episode_with_a_kind_of_its_own(open_lab: Callable[..., Lab], fault: str) -> None:
    class Faulty:
        name = "faulty"

        def act(self, view: View) -> Decision:
            if fault == "broken":
                raise ZeroDivisionError("of mine")
            return Decision("fly", list(view.commands or ()))

    lab = open_lab()
    (result,) = lab.run("toy/doors", seeds=[0], arm=Arm("faulty", actor=Faulty()), trials=1)
    assert (result.trials[0].status, result.trials[0].error_kind) == ("errored", "actor")


def test_an_engine_that_only_writes_ranks_nothing_and_says_so_before_the_first_step(
    open_lab: Callable[..., Lab],
) -> None:
    class Author:
        name = "author"

        def write(self, requests: Sequence[WriteRequest]) -> list[Writing]:
            return [Writing("Hello.") for _ in requests]

    lab = open_lab(engine=Author())
    with pytest.raises(AgentLabError, match="only writes"):
        lab.run("toy/doors", seeds=[0], arm="base", trials=1)
    assert lab.database.episodes.find() == []


def test_a_step_of_old_reads_and_what_is_empty_is_not_written() -> None:
    step = Step(index=0, observation="", state="", admissible=["look"], action="look", result="", next_state="")
    stored = step.model_dump_json()
    assert not {"thought", "token_ids", "logprobs"} & set(step.model_dump())
    assert Step.model_validate_json(stored) == step
    full = step.model_copy(update={"thought": "Hm.", "token_ids": [1], "logprobs": [-1.0]})
    assert Step.model_validate_json(full.model_dump_json()) == full
