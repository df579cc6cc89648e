from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from agentlab.agent.arms import BASE, RANDOM, Arm, RecallConfig
from agentlab.agent.episode import Play, digest
from agentlab.agent.policy import Policy
from agentlab.agent.spec import EpisodeSpec
from agentlab.agent.writing import WritingActor
from agentlab.engines.base import Turn, Writing
from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import ActorFailed, ReflectorFailed, ReplayMismatch
from agentlab.trajectories.transition import Decision
from environments import EnvironmentDied, Task, TextEnv, make
from environments import Turn as Answer
from memory.records import Usage

MEMORY = Arm("memory", recall=RecallConfig())


def begun(task: Task, engine: Any, arm: Arm = BASE, env: TextEnv | None = None) -> Play:
    """A play whose episode has begun."""
    play = Play(EpisodeSpec("r", task, arm), env or make(task.env), Model(engine))
    play.reset()
    play.start_prompt("", [])
    return play


def to_the_end(play: Play) -> list[str]:
    while not play.step(play.select_action()):
        pass
    play.finalize()
    return play.episode.actions


def test_the_id_follows_from_all_that_determines_an_episode(task: Callable[..., Task]) -> None:
    spec = EpisodeSpec("run", task(1), BASE, trial=0, seed=0, engine="e")
    others = [
        EpisodeSpec("other", task(1), BASE, engine="e"),
        EpisodeSpec("run", task(2), BASE, engine="e"),
        EpisodeSpec("run", task(1), RANDOM, engine="e"),
        EpisodeSpec("run", task(1), BASE.with_(policy=Policy(temperature=1.0)), engine="e"),
        EpisodeSpec("run", task(1), BASE.with_(adapter="ad-1"), engine="e"),
        EpisodeSpec("run", task(1), BASE, trial=1, engine="e"),
        EpisodeSpec("run", task(1), BASE, seed=1, engine="e"),
        EpisodeSpec("run", task(1), BASE, engine="f"),
    ]
    assert EpisodeSpec("run", task(1), BASE, trial=0, seed=0, engine="e").id == spec.id
    assert len({spec.id, *(other.id for other in others)}) == len(others) + 1


def test_all_arms_draw_the_same_random_numbers_at_the_same_step(task: Callable[..., Task]) -> None:
    draws = [EpisodeSpec("r", task(1), arm).rng(3).random() for arm in (BASE, RANDOM)]
    assert draws[0] == draws[1]
    assert EpisodeSpec("r", task(1), BASE).rng(4).random() != draws[0]
    assert EpisodeSpec("r", task(1), BASE, trial=1).rng(3).random() != draws[0]


def test_a_won_episode_holds_everything_that_happened(task: Callable[..., Task], note_reader: ScriptedEngine) -> None:
    play = begun(task(), note_reader)
    actions = to_the_end(play)
    episode = play.episode
    assert actions[0] == "read note" and actions[-1] == "take coin" and len(actions) == 5
    assert (episode.status, episode.score, episode.task_id) == ("won", 1.0, "toy/doors:train:0")
    assert [step.index for step in episode.steps] == [0, 1, 2, 3, 4]
    for before, after in zip(episode.steps, episode.steps[1:], strict=False):
        assert before.result == after.observation
        assert before.next_state == after.state
    for step in episode.steps:
        assert step.logprob == step.scores[step.admissible.index(step.action)]  # type: ignore[index]
        assert step.bonus is None
    assert sum(step.reward for step in episode.steps) == pytest.approx(1.0)


def test_a_wrong_door_is_a_loss_and_time_can_run_out(task: Callable[..., Task]) -> None:
    lost = begun(task(), ScriptedEngine(lambda _, command: float(command.startswith("open"))))
    to_the_end(lost)
    idle = begun(task(), ScriptedEngine({"look": 0.0}))
    to_the_end(idle)
    assert lost.episode.status == "lost"
    assert (idle.episode.status, len(idle.episode.steps)) == ("truncated", 10)


def test_with_memory_an_agent_does_not_repeat_in_vain_what_it_just_tried(task: Callable[..., Task]) -> None:
    lazy = ScriptedEngine({"look": 0.0, "read note": -1.0})
    without, with_memory = begun(task(), lazy), begun(task(), lazy, MEMORY)
    to_the_end(without)
    to_the_end(with_memory)
    assert set(without.episode.actions) == {"look"}
    assert with_memory.episode.actions[:2] == ["look", "read note"]
    assert with_memory.episode.steps[0].bonus is None
    look = with_memory.episode.steps[1].admissible.index("look")
    assert with_memory.episode.steps[1].bonus[look] < -2  # type: ignore[index]


@pytest.mark.parametrize(
    "arm",
    [
        MEMORY.with_(recall=RecallConfig(advice=False)),
        MEMORY.with_(policy=Policy(advice=False)),
    ],
)
def test_advice_can_be_left_out(task: Callable[..., Task], arm: Arm) -> None:
    play = begun(task(), ScriptedEngine({"look": 0.0}), arm)
    to_the_end(play)
    assert set(play.episode.actions) == {"look"}
    assert all(step.bonus is None for step in play.episode.steps)


def state_of(play: Play, *actions: str) -> dict[str, Any]:
    """What the graph would have checkpointed after these actions."""
    digests = [digest(play.game.observation)]
    for action in actions:
        play.step(play.select_action(forced=action))
        digests.append(digest(play.game.observation))
    return {"hints": "", "recalled": [], "actions": list(actions), "digests": digests, "ended": False}


def test_a_restored_episode_goes_on_as_if_nothing_had_happened(
    task: Callable[..., Task], note_reader: ScriptedEngine
) -> None:
    whole = begun(task(), note_reader)
    to_the_end(whole)
    state = state_of(begun(task(), note_reader), *whole.episode.actions[:2])
    resumed = Play(EpisodeSpec("r", task(), BASE), make("toy/doors"), Model(note_reader))
    resumed.restore(state)  # type: ignore[arg-type]
    assert resumed.episode.steps == whole.episode.steps[:2]
    to_the_end(resumed)
    assert resumed.episode.steps == whole.episode.steps
    assert resumed.conversation.text == whole.conversation.text  # type: ignore[union-attr]


def test_an_environment_that_answers_otherwise_is_noticed(
    task: Callable[..., Task], note_reader: ScriptedEngine
) -> None:
    state = state_of(begun(task(), note_reader), "look", "read note")
    for at in range(3):
        changed = {**state, "digests": [*state["digests"][:at], "0" * 12, *state["digests"][at + 1 :]]}
        play = Play(EpisodeSpec("r", task(), BASE), make("toy/doors"), Model(note_reader))
        with pytest.raises(ReplayMismatch, match=f"answered step {at} differently"):
            play.restore(changed)  # type: ignore[arg-type]


def test_a_recorded_action_that_is_no_longer_there_is_noticed(
    task: Callable[..., Task], note_reader: ScriptedEngine
) -> None:
    state = state_of(begun(task(), note_reader), "look")
    play = Play(EpisodeSpec("r", task(), BASE), make("toy/doors"), Model(note_reader))
    with pytest.raises(ReplayMismatch, match="'dance' is no longer admissible at step 0"):
        play.restore({**state, "actions": ["dance"]})  # type: ignore[typeddict-item]


def test_a_failed_episode_says_why(task: Callable[..., Task], note_reader: ScriptedEngine) -> None:
    play = begun(task(), note_reader)
    play.step(play.select_action())
    play.fail("The JVM died.")
    play.finalize()
    assert (play.episode.status, play.episode.error, len(play.episode.steps)) == ("errored", "The JVM died.", 1)
    assert not play.episode.won


class Broken(TextEnv):
    """Breaks its contract in the way that it is told."""

    def __init__(self, fault: str) -> None:
        super().__init__("own/broken", 5)
        self.fault = fault

    def begin(self, task: Task) -> Answer:
        if self.fault == "begin":
            raise RuntimeError("no board\nat all")
        return Answer("A room.", [] if self.fault == "speechless" else ["go"], goal="Leave.")

    def act(self, action: str) -> Answer:
        raise KeyError("room 7")


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("begin", "RuntimeError.*no board"),
        ("act", "KeyError.*room 7"),
        ("speechless", "no admissible command"),
    ],
)
def test_a_bug_in_an_environment_ends_its_episode(fault: str, cause: str, note_reader: ScriptedEngine) -> None:
    with pytest.raises(EnvironmentDied, match=cause) as caught:
        play = begun(Task(env="own/broken", split="train", seed=0), note_reader, env=Broken(fault))
        play.step(play.select_action())
    assert "\n" not in str(caught.value)
    assert "own/broken" in str(caught.value)


WRITES = Arm("writes", actor=WritingActor(think=4))


def record(**changes: Any) -> dict[str, Any]:
    """What a checkpoint keeps of a turn."""
    kept = {"command": "look", "candidates": None, "scores": None, "bonus": None, "thought": "I look.", "token_ids": []}
    return {**kept, "logprobs": [], "invalid": False, "usage": Usage().model_dump(), **changes}


def test_a_turn_comes_back_from_its_record_and_what_cannot_be_chosen_any_more_is_told(
    task: Callable[..., Task],
) -> None:
    play = begun(task(), ScriptedEngine({}), WRITES)
    listed = play.game.admissible()
    for decision in (
        Decision("look", list(listed or ()), thought="I look.", usage=Usage(input_tokens=3)),
        Decision("look", ["look", "wait"], scores=[-1.0, -2.0], thought="Of two."),
        Decision("sing", list(listed or ()), invalid=True),
    ):
        assert play.recorded(json.loads(json.dumps(play.record(decision)))) == decision
    with pytest.raises(ReplayMismatch, match="'fly' is no longer admissible"):
        play.recorded(record(command="fly"))


def test_what_was_written_before_an_actor_or_a_reflector_failed_is_paid_for(task: Callable[..., Task]) -> None:
    class Paid(ScriptedEngine):
        def write_turns(self, requests: Any) -> Any:
            return [Turn("look", "look", usage=Usage(output_tokens=5)) for _ in requests]

        def write(self, requests: Any) -> Any:
            return [Writing("a lesson", usage=Usage(output_tokens=7)) for _ in requests]

    class Breaks(WritingActor):
        def act(self, view: Any) -> Decision:
            super().act(view)
            raise RuntimeError("broken")

    class Reflects:
        name = "breaks"

        def reflect(self, episode: Any) -> list[Any]:
            play.model.write("What was learned?")
            raise RuntimeError("broken")

    play = begun(task(), Paid({}), Arm("breaks", actor=Breaks()))
    with pytest.raises(ActorFailed):
        play.select_action()
    assert play.episode.usage == Usage(output_tokens=5)
    play.reflectors = [Reflects()]
    with pytest.raises(ReflectorFailed):
        play.reflect()
    assert play.episode.usage == Usage(output_tokens=12)
