from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentlab.engines.scripted import ScriptedEngine
from agentlab.search.experimental.deepening import deepening
from agentlab.search.walk import Player

Players = Callable[..., Player]


def test_the_first_win_is_a_shortest_one(player: Players) -> None:
    won = next(episode for episode in deepening(player()) if episode.won)
    assert won.actions == ["east", "east", "east"]


def test_with_transpositions_each_state_is_left_once_by_each_command(player: Players) -> None:
    found = player()
    episodes = list(deepening(found))  # it ends by itself, long before the budget
    # Three places, with the lamp and without it, and two ways out of each; and the lamp is taken once: 3·2·2 + 1 = 13.
    # With the lamp and without it, one way loses and one wins.
    assert sorted((episode.status, episode.actions[0]) for episode in episodes) == [
        ("lost", "take lamp"),
        ("lost", "west"),
        ("won", "east"),
        ("won", "take lamp"),
    ]
    assert found.meter.cost.steps - found.meter.cost.replayed == 13


def test_without_transpositions_every_way_is_gone(player: Players, corridor: Any) -> None:
    episodes = list(deepening(player(corridor(step_limit=2), transpositions=False)))
    # west | lamp: west, east | east: west, east
    assert sorted(episode.actions for episode in episodes) == [
        ["east", "east"],
        ["east", "west"],
        ["take lamp", "east"],
        ["take lamp", "west"],
        ["west"],
    ]


def test_a_longer_stride_replays_less_and_finds_the_same_ends(player: Players) -> None:
    short, long = player(), player(stride=3)
    ends = [sorted({episode.steps[-1].next_state for episode in deepening(one)}) for one in (short, long)]
    assert ends[0] == ends[1]
    assert long.meter.cost.replayed < short.meter.cost.replayed


def test_the_engine_says_what_is_tried_first_and_what_not_at_all(player: Players) -> None:
    engine = ScriptedEngine({"east": 0.0, "take lamp": -1.0, "west": -2.0})
    found = player(engine=engine, candidates=1, advice=False)
    assert [episode.actions for episode in deepening(found)] == [["east", "east", "east"]]
    assert found.meter.cost.calls == 3
