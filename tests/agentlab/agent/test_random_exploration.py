from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from agentlab.agent.policy import Policy
from agentlab.agent.random_exploration import random_exploration
from agentlab.trajectories.advice import facts_of
from environments import EnvironmentDied, Task, TextEnv, Turn, make


def test_it_ends_with_the_first_success(task: Callable[..., Task]) -> None:
    found = random_exploration(make("toy/doors"), task(1), run="r", trials=200)
    assert found.episode.won
    assert found.trials == found.episode.trial + 1
    assert found.episode.actions[-1] == "take coin"
    assert (found.episode.engine, found.episode.arm) == ("random", "random")


def test_it_gives_up_after_its_trials_and_keeps_what_they_showed(task: Callable[..., Task]) -> None:
    found = random_exploration(
        make("toy/doors?rooms=6,colours=6"), task(0, env="toy/doors?colours=6,rooms=6"), run="r", trials=2
    )
    assert not found.episode.won
    assert (found.trials, found.episode.trial) == (2, 1)
    assert sum(fact.lost for fact in found.book.facts.values()) >= 1
    last = {fact.key for fact in facts_of(found.episode.steps, lost=True)}
    assert last <= set(found.book.facts)


def test_the_same_seed_explores_the_same(task: Callable[..., Task]) -> None:
    def once(**options: Any) -> Any:
        found = random_exploration(make("toy/doors"), task(2), run="r", trials=30, **options)
        return found.trials, found.episode.id, found.episode.actions

    assert once() == once()
    assert len({once(seed=seed)[1] for seed in range(5)}) == 5
    assert len({str(once(seed=seed)[2]) for seed in range(5)}) > 1


def test_what_lost_a_trial_is_not_done_again(task: Callable[..., Task]) -> None:
    sure = Policy(temperature=0.1, retry_temperature=0.1, growth=0.0)
    seen = 0
    for seed in range(6):
        lost: list[tuple[str, str]] = []
        for trials in range(1, 12):
            found = random_exploration(make("toy/doors"), task(seed), run="r", trials=trials, policy=sure)
            if found.trials < trials:
                break
            if found.episode.status == "lost":
                last = found.episode.steps[-1]
                assert (last.state, last.action) not in lost
                lost.append((last.state, last.action))
        seen += len(lost)
    assert seen > 1


def test_its_steps_chain_and_its_score_is_the_last(task: Callable[..., Task]) -> None:
    steps = (episode := random_exploration(make("toy/doors"), task(3), run="r", trials=3).episode).steps
    assert [step.index for step in steps] == list(range(len(steps)))
    assert all(before.result == after.observation for before, after in pairwise(steps))
    assert steps[-1].score == episode.score


def test_an_environment_that_fails_says_so() -> None:
    class Broken(TextEnv):
        def begin(self, task: Task) -> Turn:
            return Turn("A room.", ["go"], goal="Leave.")

        def act(self, action: str) -> Turn:
            raise IndexError("no such room")

    with pytest.raises(EnvironmentDied, match="IndexError: no such room"):
        random_exploration(Broken("own/broken", 5), Task(env="own/broken", split="train", seed=0), run="r")


class Lock(TextEnv):
    """Thirty digits have to be turned in their order. Each right one counts, and there is time for few others."""

    digits = "315026413502614352106342516034"

    def begin(self, task: Task) -> Turn:
        self.at = 0
        return self.turn()

    def act(self, action: str) -> Turn:
        self.at += action == f"turn {self.digits[self.at]}"
        return self.turn()

    def turn(self) -> Turn:
        done = self.at / len(self.digits)
        return Turn("A dial.", [f"turn {digit}" for digit in range(7)], score=done, won=done == 1)


LOCK = Task(env="own/lock", split="train", seed=0)


def test_a_long_game_that_pays_on_the_way_is_won_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    explore = partial(random_exploration, Lock("own/lock", 36), LOCK, run="r", trials=250)
    assert explore().episode.won
    monkeypatch.setattr("agentlab.agent.random_exploration.RETURNS", 0)
    assert not explore().episode.won


def test_a_way_back_that_is_no_longer_there_is_left() -> None:
    """Every other game has other words for the same."""

    class Moving(Lock):
        games = 0

        def begin(self, task: Task) -> Turn:
            self.games += 1
            return super().begin(task)

        def turn(self) -> Turn:
            turn = super().turn()
            return turn._replace(admissible=[f"{one}{' again' * (self.games % 2)}" for one in turn.admissible or ()])

        def act(self, action: str) -> Turn:
            assert action in self.turn().admissible
            return super().act(action.removesuffix(" again"))

    assert random_exploration(Moving("own/lock", 36), LOCK, run="r", trials=40).episode.won


class Hall(TextEnv):
    """Behind hundreds of things to move about lies one to open."""

    things = tuple(f"move {what} to {where}" for what in range(20) for where in range(20))
    wanted, goal = "open door", "Leave."

    def begin(self, task: Task) -> Turn:
        return Turn("A hall full of things.", [*self.things, "open door"], goal=self.goal)

    def act(self, action: str) -> Turn:
        won = action == self.wanted
        return Turn("A hall full of things.", [*self.things, "open door"], score=float(won), won=won)


HALLS = [Task(env="own/hall", split="train", seed=seed) for seed in range(10)]


def test_of_hundreds_of_commands_the_rare_kinds_are_tried_as_well() -> None:
    assert all(random_exploration(Hall("own/hall", 10), game, run="r", trials=3).episode.won for game in HALLS)


def test_of_hundreds_of_commands_those_that_the_task_names_are_tried_first() -> None:
    hall = Hall("own/hall", 10)
    hall.wanted, hall.goal = "move 7 to 12", "Move the 7 to number 12."
    assert all(random_exploration(hall, game, run="r", trials=20).episode.won for game in HALLS)


class Flat(TextEnv):
    """In one of six rooms stands the right button among twelve; any other ends the game, in whatever room."""

    def begin(self, task: Task) -> Turn:
        self.room = 0
        return self.turn()

    def act(self, action: str) -> Turn:
        what, _, which = action.partition(" ")
        if what == "go":
            self.room = int(which)
            return self.turn()
        return Turn("That was all.", [], score=float(which == "7"), won=which == "7", lost=which != "7")

    def turn(self) -> Turn:
        return Turn(
            f"Room {self.room}.", [*(f"go {room}" for room in range(6)), *(f"press {one}" for one in range(12))]
        )


def test_what_lost_a_trial_is_put_off_in_every_room() -> None:
    trials = [
        random_exploration(Flat("own/flat", 20), Task(env="own/flat", split="train", seed=seed), run="r").trials
        for seed in range(20)
    ]
    assert max(trials) <= 13
