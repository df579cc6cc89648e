"""In play one tool of a game is held out now and then, by lot: on train games alone, recorded, and the same again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from agentlab.cli.episodes import compare
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import Stopped
from agentlab.lab import Lab
from agentlab.search.tasks import tree_of
from environments import Task, make
from environments.tools import Seen, register_tool, unregister_tool
from memory.credit import ToolCredit, ToolPlace
from memory.records import Episode

ENV = "toy/doors?tools=oracle+weather"


def begun(seed: int) -> str:
    return make("toy/doors").start(Task(env="toy/doors", split="train", seed=seed))[0]


SEEDS = sorted({begun(seed): seed for seed in range(50)}.values())
"""Games that begin each in its own way."""


class Oracle:
    """Knows the safe doors of these train games by heart."""

    name, verbs = "oracle", ("ask",)

    def __init__(self) -> None:
        self.seeds = {begun(seed): seed for seed in SEEDS}

    def calls(self, seen: Seen) -> Sequence[str]:
        return ["ask about doors"] if any(one.startswith("open ") for one in seen.commands) else []

    def answer(self, call: str, seen: Seen) -> str:
        twin = make("toy/doors")
        seed = self.seeds.get(seen.told[0].answer, 0)
        twin.start(Task(env="toy/doors", split="train", seed=seed))
        for told in seen.told[1:]:
            twin.step(told.action)
        return twin.step("read note")[0].removeprefix("The note says: ")


class Weather:
    """Talks of the weather."""

    name, verbs = "weather", ("rain",)

    def calls(self, seen: Seen) -> Sequence[str]:
        return ["rain today"]

    def answer(self, call: str, seen: Seen) -> str:
        return "It rains."


def asking(text: str, command: str) -> float:
    """Asks the oracle before each door, and opens any without; reads no notes."""
    last = text.rstrip(">").rstrip().splitlines()[-1]
    if command.startswith("open "):
        return -0.1 if f"the {command.removeprefix('open ')} is safe" in last else -2.0
    return {"take coin": 0.0, "ask about doors": -1.0}.get(command, -9.0)


@pytest.fixture(autouse=True)
def tools() -> Iterator[None]:
    register_tool("oracle", Oracle)
    register_tool("weather", Weather)
    yield
    unregister_tool("oracle")
    unregister_tool("weather")


@pytest.fixture
def lab(open_lab: Callable[..., Lab]) -> Lab:
    return open_lab(engine=ScriptedEngine(asking), reflectors=[], hold_out=0.5, hold_out_cost=1.0, concurrency=1)


def episodes(lab: Lab, run: str) -> list[Episode]:
    rows = [row for row in lab.database.episodes.find() if row.run == run and not row.minimised_from]
    return lab.database.episodes.load([row.id for row in rows])


def test_some_train_games_are_played_without_one_of_their_tools_and_say_so(lab: Lab) -> None:
    lab.run(ENV, seeds=SEEDS, trials=1, arm="base", name="r")
    found = episodes(lab, "r")
    assert {one.env for one in found} == {ENV}, "the id stays"
    without = {one.id: one.without_tools for one in found}
    assert 8 < sum(map(bool, without.values())) < 32 and max(map(len, without.values())) == 1
    assert {name for names in without.values() for name in names} == {"oracle", "weather"}
    for one in found:
        use = {use.tool: use for use in one.tools}
        assert use.keys() == {"oracle", "weather"} and sorted(u.propensity for u in one.tools) == [0.5, 1.0]
        offered = any("ask about doors" in step.admissible for step in one.steps)
        assert offered == ("oracle" not in one.without_tools) == bool(use["oracle"].steps)
        assert use["oracle"].made == one.actions.count("ask about doors")
        if "oracle" not in one.without_tools:
            assert one.won and use["oracle"].made == 2
    worth = ToolCredit(lab.database, lab.credit_config).uplifts()
    assert worth[ToolPlace("oracle", ENV)].low > 0
    assert worth[ToolPlace("weather", ENV)].low < 0 < worth[ToolPlace("weather", ENV)].high


def test_the_same_run_draws_the_same_and_another_one_others(open_lab: Callable[..., Lab]) -> None:
    def without(lab: Lab, name: str) -> dict[tuple[int, int], list[str]]:
        lab.run(ENV, seeds=SEEDS[:20], trials=2, arm="base", name=name)
        return {(one.seed, one.trial): one.without_tools for one in episodes(lab, name)}

    one, two = (
        open_lab(name, engine=ScriptedEngine(asking), reflectors=[], hold_out=0.5, hold_out_cost=1.0)
        for name in ("one", "two")
    )
    assert without(one, "r") == without(two, "r") != without(one, "s")


def test_a_game_that_was_stopped_goes_on_with_the_same_tools(open_lab: Callable[..., Lab]) -> None:
    whole = open_lab("whole", engine=ScriptedEngine(asking), reflectors=[], hold_out=0.5, hold_out_cost=1.0)
    whole.run(ENV, seeds=SEEDS[:12], trials=1, arm="base", name="r")
    asked = 0

    class Stopping(ScriptedEngine):
        def score(self, requests):  # type: ignore[no-untyped-def]
            nonlocal asked
            asked += 1
            if asked in (2, 9, 14, 21):
                raise Stopped("enough")
            return super().score(requests)

    lab = open_lab("parts", engine=Stopping(asking), reflectors=[], hold_out=0.5, hold_out_cost=1.0, concurrency=1)
    for _ in range(4):
        with pytest.raises(Stopped):
            lab.run(ENV, seeds=SEEDS[:12], trials=1, arm="base", name="r")
    lab.run(ENV, seeds=SEEDS[:12], trials=1, arm="base", name="r")

    def told(lab: Lab) -> dict[int, object]:
        return {one.seed: (one.tools, one.actions, one.status) for one in episodes(lab, "r")}

    assert told(lab) == told(whole)
    # What was drawn stands, whatever is set meanwhile.
    seed = next(one.seed for one in episodes(whole, "r") if one.without_tools and len(one.steps) > 2)
    again = open_lab("again", engine=Stopping(asking), reflectors=[], hold_out=0.5, hold_out_cost=1.0)
    asked = 0
    with pytest.raises(Stopped):
        again.run(ENV, seeds=[seed], trials=1, arm="base", name="r")
    again.config = again.config.model_copy(update={"hold_out": 0.0})
    again.run(ENV, seeds=[seed], trials=1, arm="base", name="r")
    assert told(again) == {seed: told(whole)[seed]}


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_what_measures_an_arm_holds_nothing_out(lab: Lab, split: str) -> None:
    lab.evaluate(ENV, split=split, seeds=SEEDS[:20], arms=["base", "base + memory"])  # type: ignore[arg-type]
    rows = lab.database.episodes.find()
    found = lab.database.episodes.load([row.id for row in rows])
    assert len(found) >= 40 and not any(one.without_tools for one in found)
    assert {use.propensity for one in found for use in one.tools} == {1.0}


def test_held_out_games_chance_and_a_lab_that_measures_nothing_keep_their_tools(
    lab: Lab, open_lab: Callable[..., Lab]
) -> None:
    lab.run(ENV, split="dev", seeds=SEEDS[:20], trials=1, arm="base", name="dev")
    lab.run(ENV, seeds=SEEDS[:20], trials=1, arm="random", name="chance")
    lab.explore(ENV, seeds=SEEDS[:5], trials=2, name="explore")
    off = open_lab("off", engine=ScriptedEngine(asking), reflectors=[], credit=False)
    off.run(ENV, seeds=SEEDS[:20], trials=1, arm="base", name="off")
    for here, run in ((lab, "dev"), (lab, "chance"), (lab, "explore"), (off, "off")):
        found = episodes(here, run)
        assert found and not any(one.without_tools for one in found)
        assert all(use.propensity == 1.0 for one in found for use in one.tools) and found[0].tools


def test_a_replay_leaves_out_what_was_left_out_and_searches_take_no_offence(lab: Lab) -> None:
    lab.run(ENV, seeds=SEEDS, trials=2, arm="base", name="r")
    lab.explore(ENV, seeds=SEEDS, trials=3, name="explore")
    found = episodes(lab, "r")
    assert any(one.without_tools for one in found)
    for one in found:
        assert list(compare(one)) == []
    trees = [tree_of(lab, None, Task(env=ENV, split="train", seed=seed)) for seed in SEEDS]
    held_out = {one.id for one in found if one.without_tools}
    assert not held_out & {one.id for tree in trees for one in tree.episodes}


def test_what_could_ask_a_memory_is_in_no_tree_with_what_could_not(lab: Lab) -> None:
    env = "toy/doors?tools=recall"
    lab.run(env, seeds=SEEDS[:3], trials=2, arm="base + memory", name="remembering")
    lab.explore(env, seeds=SEEDS[:3], trials=3, name="chance")
    trees = [tree_of(lab, None, Task(env=env, split="train", seed=seed)) for seed in SEEDS[:3]]
    assert {one.run for tree in trees for one in tree.episodes} == {"chance"}
