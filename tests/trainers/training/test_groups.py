"""What on-policy training plays, what its episodes are worth, and what is kept of them until it is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from memory.records import Episode
from trainers.config import OnPolicyConfig
from trainers.data.examples import Example
from trainers.data.records import OWN, SYSTEM, Trajectory
from trainers.objectives.advantages import group_relative
from trainers.training.groups import plan, rewards_of, scored
from trainers.training.played import NAME, PlayedLog

Make = Callable[..., Episode]


def test_every_game_is_played_before_any_is_played_again() -> None:
    planned = plan(games=5, steps=10, each=4, seed=1)
    assert [len(chosen) for chosen in planned] == [4] * 10
    played = [game for chosen in planned for game in chosen]
    for turn in range(8):
        assert sorted(played[5 * turn : 5 * turn + 5]) == [0, 1, 2, 3, 4]
    assert played[:5] != played[5:10] or played[5:10] != played[10:15]


def test_the_same_seed_plans_the_same_and_a_longer_plan_begins_alike() -> None:
    assert plan(6, 4, 3, seed=2) == plan(6, 8, 3, seed=2)[:4]
    assert plan(6, 4, 3, seed=2) != plan(6, 4, 3, seed=3)


def test_no_game_is_met_twice_in_a_step() -> None:
    for seed in range(20):
        assert all(len(set(chosen)) == 4 for chosen in plan(games=5, steps=10, each=4, seed=seed))


def test_a_win_is_earned_by_the_last_step(make_episode: Make) -> None:
    assert rewards_of(make_episode(), "won") == [0.0, 1.0]
    assert rewards_of(make_episode(status="lost"), "won") == [0.0, 0.0]


def test_a_score_is_earned_by_the_step_at_which_it_rose(make_episode: Make) -> None:
    episode = make_episode(actions=("north", "north", "take coin"))
    steps = [
        step.model_copy(update={"score": score}) for step, score in zip(episode.steps, (0.5, 0.25, 1.0), strict=True)
    ]
    assert rewards_of(episode.model_copy(update={"steps": steps}), "score") == [0.5, -0.25, 0.75]


@pytest.mark.parametrize("fields", [{"status": "errored", "error": "x"}, {"actions": ()}])
def test_what_came_to_no_end_has_no_reward(make_episode: Make, fields: dict[str, object]) -> None:
    assert rewards_of(make_episode(**fields), "won") is None


def test_attempts_are_compared_with_attempts_of_their_number(make_episode: Make) -> None:
    """The first member wins at once and the second at its second attempt, for which that one is rewarded more."""
    won, lost = make_episode("w", status="won"), make_episode("l", status="lost")
    found = scored([[won, won], [lost, won]], OnPolicyConfig(group=2, attempts=2, improvement=0.5))
    assert [one.reward for one in found] == [1.0, 1.0, 0.0, 1.5]
    first, later = group_relative([1.0, 0.0]), group_relative([1.0, 1.5])
    assert [one.advantages for one in found] == [[first[0]] * 2, [later[0]] * 2, [first[1]] * 2, [later[1]] * 2]


def test_an_errored_episode_is_compared_with_nothing(make_episode: Make) -> None:
    won, lost, errored = make_episode("w"), make_episode("l", status="lost"), make_episode("e", status="errored")
    found = scored([[won], [errored], [lost]], OnPolicyConfig(group=3))
    assert [one.reward for one in found] == [1.0, None, 0.0]
    assert [one.advantages[0] for one in found] == group_relative([1.0, None, 0.0])


def test_steps_are_compared_where_state_and_observation_are_the_same(make_episode: Make) -> None:
    won, lost = make_episode("w"), make_episode("l", status="lost")
    settings = OnPolicyConfig(group=2, step_weight=1.0, discount=0.5)
    alike = scored([[won], [lost]], settings)
    whole, first = group_relative([1.0, 0.0]), group_relative([0.5, 0.0])
    assert alike[0].advantages == [whole[0] + first[0], 2 * whole[0]]
    other = make_episode("l", status="lost", start="Another room.")
    apart = scored([[won], [other]], settings)
    assert apart[0].advantages == [whole[0], 2 * whole[0]]


def trajectory(step: int) -> Trajectory:
    example = Example(token_ids=[1, 2], weights=[0.0, 1.0], episode=f"e{step}", task="t")
    return Trajectory(example=example, sources=[SYSTEM, OWN], reward=1.0, step=step)


def test_what_was_learned_from_is_kept_up_to_the_checkpoint(tmp_path: Path) -> None:
    log = PlayedLog(tmp_path)
    log.begin(0)
    for step in range(3):
        log.add(step, [trajectory(step)], tokens=step)
    with (tmp_path / NAME).open("a") as stream:
        stream.write('{"step": 3, "tok')  # a kill
    again = PlayedLog(tmp_path)
    assert [one.step for one in again.trajectories()] == [0, 1, 2]
    again.begin(2)
    assert [one.step for one in again.trajectories()] == [0, 1] and again.tokens() == [0, 1]
    again.add(2, [], tokens=5)
    assert again.tokens() == [0, 1, 5]
