"""Chores: who searches the room and does what the task says wins; folds share no first sight."""

from __future__ import annotations

import re
from typing import Any

import pytest

from environments import make
from environments.check import check
from environments.household import GAMES

CHORES = [name for name in GAMES if name != "household/any"]


class Servant:
    """Does a chore by what is told alone."""

    def __init__(self, env: Any, seed: int, split: str = "train") -> None:
        self.env = env
        self.told, self.info = env.reset(seed=seed, options={"split": split})
        self.rewards = list[float]()
        self.furniture = re.findall(r"an? (\w+ \d+)", self.told)

    def do(self, command: str) -> None:
        assert command in self.info["admissible_commands"], (command, self.info["admissible_commands"])
        self.told, reward, *_, self.info = self.env.step(command)
        self.rewards.append(reward)

    def go(self, name: str) -> None:
        if f"go to {name}" in self.info["admissible_commands"]:
            self.do(f"go to {name}")
        else:
            self.do(f"examine {name}")
        if f"open {name}" in self.info["admissible_commands"]:
            self.do(f"open {name}")

    def find(self, kind: str, but: str = "") -> str:
        """Where it is seen: what of the kind, and on which furniture."""
        for name in self.furniture:
            if not but or name.partition(" ")[0] != but:
                self.go(name)
                if found := re.findall(rf"an? ({kind} \d+)", self.told):
                    return found[0]
        raise AssertionError(f"there is no {kind}")

    def take(self, kind: str, but: str = "") -> None:
        thing = self.find(kind, but)
        self.do(next(one for one in self.info["admissible_commands"] if one.startswith(f"take {thing} from")))

    def put(self, target: str) -> None:
        self.go(next(name for name in self.furniture if name.partition(" ")[0] == target))
        self.do(next(one for one in self.info["admissible_commands"] if one.partition(" ")[0] in ("move", "put")))

    def serve(self) -> Any:
        goal = self.info["goal"]
        kind, target = re.findall(r"(?:some|two|look at) (\w+).* (\w+)\.$", goal)[0]
        if "look at" in goal:
            self.take(kind)
            self.find(target)
            self.do(f"use {target} 1")
            return self.info
        for _ in range(2 if "two" in goal else 1):
            self.take(kind, but=target)
            for verb, tool in (("clean", "sinkbasin"), ("heat", "microwave"), ("cool", "fridge")):
                if f": {verb} " in goal:
                    self.go(next(name for name in self.furniture if name.partition(" ")[0] == tool))
                    self.do(next(one for one in self.info["admissible_commands"] if one.startswith(f"{verb} ")))
            self.put(target)
        return self.info


@pytest.mark.parametrize("split", ["train", "dev", "test"])
@pytest.mark.parametrize("old", [0, 1])
@pytest.mark.parametrize("name", CHORES)
def test_who_reads_and_searches_does_the_chore(name: str, old: int, split: str) -> None:
    env = make(f"{name}?old_grammar={old},step_limit=100")
    for seed in range(20):
        servant = Servant(env, seed, split)
        info = servant.serve()
        assert info["won"] and info["score"] == 1 and sum(servant.rewards) == pytest.approx(1)


@pytest.mark.parametrize("name", CHORES)
def test_nothing_else_wins(name: str) -> None:
    env = make(f"{name}?step_limit=100")
    servant = Servant(env, 0)
    kind, target = re.findall(r"(?:some|two|look at) (\w+).* (\w+)\.$", servant.info["goal"])[0]
    if name == "household/light":
        servant.find(target)
        servant.do(f"use {target} 1")
        assert not servant.info["won"] and servant.info["score"] == 0
        servant.take(kind)
        assert not servant.info["won"]
        return
    servant.take(kind, but=target)
    servant.put(target)
    assert servant.info["won"] == (name == "household/place")
    assert servant.info["score"] == {"household/place": 1, "household/two": 0.5}.get(name, 0)


def test_a_chore_by_lot_is_one_of_the_six_and_all_come() -> None:
    env = make("household/any")
    goals = [env.reset(seed=seed)[1]["goal"] for seed in range(60)]
    verbs = {" ".join(goal.split()[4:6]) for goal in goals}
    assert verbs == {"put some", "put two", "look at", "clean some", "heat some", "cool some"}


def test_folds_share_no_first_sight() -> None:
    env = make("household/any")
    sights = {}
    for split in ("train", "dev", "test"):
        for seed in range(200):
            observation, info = env.reset(seed=seed, options={"split": split})
            assert sights.setdefault((observation, info["goal"]), split) == split


def test_what_is_hot_stays_hot_when_it_is_cleaned_and_not_when_it_is_cooled() -> None:
    env = make("household/heat")
    env.reset(seed=0)
    game = env._game  # type: ignore[attr-defined]
    plate = next(iter(game.places))
    for verb, how in (
        ("heat", ("hot",)),
        ("clean", ("clean", "hot")),
        ("cool", ("clean", "cool")),
        ("heat", ("clean", "hot")),
    ):
        env._done(game, f"{verb} {plate} with tool 1")  # type: ignore[attr-defined]
        assert game.changed[plate] == how


def test_what_is_closed_hides_what_is_in_it_and_one_hand_holds_one_thing() -> None:
    env = make("household/two")
    servant = Servant(env, 1)
    drawer = next(name for name in servant.furniture if name.startswith(("drawer", "cabinet")))
    servant.do(f"go to {drawer}")
    assert servant.told.endswith(f"The {drawer} is closed.")
    assert not any(one.startswith("take") for one in servant.info["admissible_commands"])
    servant.do(f"open {drawer}")
    assert f"In the {drawer}, you see" in servant.told
    kind = re.findall(r"two (\w+)", servant.info["goal"])[0]
    servant.take(kind)
    assert not any(one.startswith("take") for one in servant.info["admissible_commands"])
    servant.do("inventory")
    assert kind in servant.told and kind in servant.info["state"]
    told, reward, *_ = env.step("take everything")
    assert told == "Nothing happens." and reward == 0


@pytest.mark.parametrize("name", ["household/any", "household/light?old_grammar=1"])
def test_the_contract_holds(name: str) -> None:
    report = check(name)
    assert report.ok, report
