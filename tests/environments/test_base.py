from __future__ import annotations

import sys

import pytest

from environments import BadTask, EnvironmentDied, NotPlaying, Task, TextEnv, Turn, make
from environments.base import AnyText, Split


class Counter(TextEnv):
    """Say `more` three times; `stop` loses."""

    def __init__(self) -> None:
        super().__init__("own/counter", step_limit=5)
        self.count = 0

    def begin(self, task: Task) -> Turn:
        self.count = 0
        return Turn("zero", ["more", "stop", "more"], goal="count to three")

    def act(self, action: str) -> Turn:
        if action == "break":
            raise RuntimeError("broken")
        self.count += action == "more"
        value = -1.0 if action == "stop" else self.count / 3
        score = max(0.0, value)
        return Turn(str(self.count), ["stop", "more"], score, won=value == 1, lost=value < 0, value=value)


def test_a_task_is_named_by_its_id_and_read_back_from_it() -> None:
    task = Task(env="gym/module:Name-v0", split="dev", seed=7)
    assert task.id == "gym/module:Name-v0:dev:7"
    assert Task.parse(task.id) == task


@pytest.mark.parametrize("text", ["", "twx/coin", "twx/coin:train", "twx/coin:all:1", "twx/coin:train:x", ":train:1"])
def test_what_is_not_a_task_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadTask, match="write it like"):
        Task.parse(text)


def test_admissible_commands_are_sorted_and_unique() -> None:
    assert Counter().reset(seed=0)[1]["admissible_commands"] == ["more", "stop"]


def test_the_reward_is_the_change_of_the_value() -> None:
    env = Counter()
    env.reset(seed=0)
    assert env.step("more")[1] == pytest.approx(1 / 3)
    assert env.step("wait")[1] == 0
    _, reward, terminated, truncated, info = env.step("stop")
    assert (reward, terminated, truncated) == (pytest.approx(-4 / 3), True, False)
    assert info["lost"] and info["score"] == 0


def test_state_and_goal_are_filled_in_when_a_turn_leaves_them_empty() -> None:
    env = Counter()
    env.reset(seed=0)
    info = env.step("more")[4]
    assert info["goal"] == "count to three"
    assert info["state"] == "1\nScore: 0.33"


def test_the_step_limit_truncates_and_a_win_at_the_limit_does_not() -> None:
    env = Counter()
    env.reset(seed=0)
    ends = [env.step("wait")[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]
    env.reset(seed=0)
    ends = [env.step(action)[2:4] for action in ("wait", "wait", "more", "more", "more")]
    assert ends[-1] == (True, False)


def test_what_is_left_out_of_a_turn_is_filled_in() -> None:
    class Short(Counter):
        def act(self, action: str) -> Turn:
            return Turn("Done.", [], won=action == "win", lost=action == "lose", cut=action == "wait")

    env = Short()
    for action, score, ended in (("win", 1.0, True), ("lose", 0.0, True), ("wait", 0.0, False)):
        env.start(Task(env=env.env_id, split="train", seed=0))
        _, reward, terminated, truncated, info = env.step(action)
        assert (info["score"], reward, terminated, truncated) == (score, score, ended, not ended)


def test_an_environment_that_would_end_the_program_when_asked_for_its_seeds_does_not() -> None:
    class Leaves(Counter):
        def seeds(self, split: Split) -> range:
            sys.exit(7)

    env = Leaves()
    with pytest.raises(EnvironmentDied):
        env.fold("train")
    with pytest.raises(EnvironmentDied):
        Leaves().start(Task(env=env.env_id, split="train", seed=0))


def test_stepping_without_a_running_episode_is_refused() -> None:
    env = Counter()
    with pytest.raises(NotPlaying, match="call reset"):
        env.step("more")
    env.reset(seed=0)
    env.step("stop")
    with pytest.raises(NotPlaying):
        env.step("more")


def test_an_exception_ends_the_episode() -> None:
    env = Counter()
    env.reset(seed=0)
    with pytest.raises(RuntimeError):
        env.step("break")
    with pytest.raises(NotPlaying):
        env.step("more")


def test_a_seed_outside_the_fold_is_refused() -> None:
    with pytest.raises(BadTask, match="no seed 1000 in fold train; they are 0 to 999"):
        Counter().reset(seed=1000)


def test_an_unknown_fold_is_answered_with_a_suggestion() -> None:
    with pytest.raises(BadTask, match="did you mean `train`"):
        Counter().reset(seed=0, options={"split": "trian"})


def test_a_task_of_another_environment_is_refused() -> None:
    with pytest.raises(BadTask, match="belongs to `toy/doors`"):
        Counter().start(Task(env="toy/doors", split="train", seed=0))


def test_without_a_seed_a_random_task_of_the_fold_is_played_and_remembered() -> None:
    env = make("toy/doors")
    env.reset(options={"split": "dev"})
    assert env.task is not None and env.task.split == "dev"
    first = env.task
    assert env.start(first) == env.start(first)


def test_the_spaces_hold_any_text_and_nothing_else() -> None:
    space = AnyText(max_length=5)
    assert "é\n→" in space
    assert "longer" not in space
    assert 5 not in space
