"""Games that errored neither reject a candidate for good nor let one pass: they are played again first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentlab.agent.tasks import make_tasks
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import Undecided
from agentlab.lab import Lab
from agentlab.rounds import RoundReport
from agentlab.rounds.gating import gate
from agentlab.rounds.retiring import watch
from environments import TextEnv, Turn, register, registry
from memory.store import EpisodeFilter

Opened = Callable[..., Lab]
Made = Callable[..., RoundReport]
ENV = "own/hiccup"


class Hiccup(TextEnv):
    """`win` wins and any other command loses; the games in `fails` cannot begin so many more times."""

    fails: dict[int, int] = {}  # noqa: RUF012 - set by each test

    def __init__(self) -> None:
        super().__init__(ENV, 3)

    def begin(self, task: Any) -> Turn:
        if self.fails.get(task.seed, 0) > 0:
            self.fails[task.seed] -= 1
            raise RuntimeError("a hiccup")
        return Turn(f"Game {task.seed}.", ["lose", "win"], goal="Win.")

    def act(self, action: str) -> Turn:
        return Turn("The end.", [], float(action == "win"), won=action == "win", lost=action != "win")


@pytest.fixture(autouse=True)
def hiccup() -> Iterator[None]:
    Hiccup.fails = {}
    register(ENV, Hiccup)
    yield
    registry.unregister(ENV)


def wins(transcript: str, command: str) -> float:
    return 0.0 if command == "win" else -9.0


def loses(transcript: str, command: str) -> float:
    return 0.0 if command == "lose" else -9.0


@pytest.fixture
def opened(skilled: Opened) -> Opened:
    """Opens a lab whose base and adapter-bad lose every game, while adapter-good wins them."""

    def made(name: str = "lab", progress: Any = None) -> Lab:
        lab = skilled(name, progress)
        engine = lab.engine
        assert isinstance(engine, ScriptedEngine)
        engine.preferences, engine.by_adapter = loses, {"adapter-good": wins}
        return lab

    return made


@pytest.fixture
def usual(report: Made) -> Made:
    """The report of a round on one environment with the usual gate, which needs every one of its 20 games."""

    def made(adapter: str = "adapter-good", **settings: Any) -> RoundReport:
        return report(adapter, **{"envs": [ENV], "gate_seeds": 20, **settings})

    return made


@pytest.mark.parametrize("settings", [{}, {"gate": {"sequential": False}}])
def test_a_game_that_errors_once_at_the_gate_changes_nothing(
    opened: Opened, usual: Made, settings: dict[str, Any]
) -> None:
    smooth, made = usual(**settings), usual(**settings)
    gate(opened("smooth"), smooth)
    Hiccup.fails = {2: 1, 3: 1}
    assert gate(opened("hiccup"), made) == "retention"
    assert made.gate == smooth.gate and made.gate["promote"]


@pytest.mark.parametrize("settings", [{}, {"gate": {"sequential": False}}])
def test_where_what_errored_could_turn_the_decision_the_same_command_decides_as_an_unbroken_gate(
    opened: Opened, usual: Made, settings: dict[str, Any]
) -> None:
    smooth, made = usual(**settings), usual(**settings)
    gate(opened("smooth"), smooth)
    lab = opened("hiccup")
    Hiccup.fails = {2: 99}
    with pytest.raises(Undecided, match="a hiccup") as told:
        gate(lab, made)
    assert "\n" not in str(told.value) and made.gate == {} and lab.adapters.get("adapter-good").gate is None
    Hiccup.fails = {}
    assert gate(lab, made) == "retention" and made.gate["promote"]
    assert made.gate == smooth.gate


def test_what_errored_and_could_turn_nothing_does_not_keep_the_gate_from_deciding(opened: Opened, usual: Made) -> None:
    Hiccup.fails = {2: 99}
    lost = usual("adapter-bad", gate_seeds=40)
    assert gate(opened("lost"), lost) == "retention" and not lost.gate["promote"]
    Hiccup.fails = {2: 99}
    won = usual("adapter-good", gate_seeds=40)
    assert gate(opened("won"), won) == "retention" and won.gate["promote"] and won.gate["errored"] == 1


def test_a_round_whose_gate_cannot_decide_stays_at_its_gate(
    opened: Opened, usual: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentlab.rounds import graph
    from agentlab.rounds.report import save

    for node, following in (("collect", "select"), ("select", "train"), ("retention", "retire"), ("retire", "done")):
        monkeypatch.setitem(graph.NODES, node, lambda lab, report, following=following: following)
    graph._builder.cache_clear()
    try:
        lab, config = opened(), usual().config
        begun = graph.run_round(lab, config, until="train")
        begun.adapter = "adapter-good"
        save(lab, begun, "gate")
        lab.checkpointer.delete_thread(begun.id)
        Hiccup.fails = {2: 99}
        with pytest.raises(Undecided):
            graph.run_round(lab, config)
        (stored,) = lab.rounds()
        assert (stored.phase, stored.gate) == ("gate", {})
        Hiccup.fails = {}
        ended = graph.run_round(lab, config)
        assert (ended.id, ended.phase, ended.gate["promote"]) == ("round-1", "done", True)
    finally:
        graph._builder.cache_clear()


def test_a_game_that_errors_while_a_promoted_adapter_is_watched_is_played_again(opened: Opened, usual: Made) -> None:
    lab = opened()
    Hiccup.fails = {1: 1}
    watch(lab, usual(), "adapter-good", make_tasks(ENV, "train", range(3)))
    assert [row.status for row in lab.database.episodes.find(EpisodeFilter(run="round-1-retire"))] == ["won"] * 3
