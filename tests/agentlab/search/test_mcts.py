from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest

from agentlab.engines.scripted import ScriptedEngine
from agentlab.search.config import SearchConfig
from agentlab.search.mcts import Known, Moments, mcts, puct, uct, width
from agentlab.search.task import search_task
from agentlab.search.walk import Player
from agentlab.trajectories.budget import Budget
from environments import Task, make


def test_uct_is_the_mean_and_agent_rs_bonus() -> None:
    # 0.5 + 0.25·sqrt(ln 8 / 2) = 0.5 + 0.25·1.019667
    assert uct(0.5, 2, 8, 0.25) == pytest.approx(0.754917, abs=1e-6)
    assert uct(0.0, 1, 1, 0.25) == 0.0
    assert uct(0.0, 0, 8, 0.25) == math.inf


def test_puct_weighs_the_bonus_by_the_prior() -> None:
    assert puct(0.5, 3, 16, 0.2, 1.25) == pytest.approx(0.5 + 1.25 * 0.2 * 4 / 4)
    assert puct(0.0, 0, 16, 0.2, 1.25) == pytest.approx(1.0)


def test_the_width_grows_with_the_visits() -> None:
    assert [width(visits, 0.5) for visits in (0, 1, 3, 4, 8, 9)] == [1, 2, 2, 3, 3, 4]
    assert width(0, None) == math.inf


def moments(known: dict[str, Known], **config: Any) -> Moments:
    found = Moments(SearchConfig(**config))
    found.known = dict(known)
    return found


RANKED = [("a", 0.6), ("b", 0.3), ("c", 0.1)]
COMMANDS = ["a", "b", "c"]


def test_uct_tries_what_is_untried_before_it_weighs_what_is_known() -> None:
    here = Known(2, 1.0, leads={"a": "A", "b": "B"})
    table = moments({"A": Known(1, 1.0), "B": Known(1, 0.0)}, rule="uct")
    assert table.choose(here, RANKED, COMMANDS) == "c"
    here.leads["c"], table.known["C"] = "C", Known(1, 0.5)
    assert table.choose(here, RANKED, COMMANDS) == "a"


def test_puct_may_leave_an_unlikely_command_untried() -> None:
    here = Known(2, 1.0, leads={"a": "A", "b": "B"})
    table = moments({"A": Known(1, 1.0), "B": Known(1, 0.0)})
    # a: 1 + 1.25·.6·√2/2 = 1.53; b: 0 + 1.25·.3·√2/2 = .27; c: the parent's .5 + 1.25·.1·√2 = .68
    assert table.choose(here, RANKED, COMMANDS) == "a"
    table.known["A"].total = 0.0
    # a: .53; c: .68
    assert table.choose(here, RANKED, COMMANDS) == "c"


def test_widening_keeps_further_commands_out_until_there_are_visits() -> None:
    here = Known(3, 0.0, leads={"a": "A", "b": "B"})
    table = moments({"A": Known(2, 0.0), "B": Known(1, 0.0)}, rule="uct", widening=0.5)
    assert table.choose(here, RANKED, COMMANDS) == "b"  # the width is 2
    here.visits = 4
    assert table.choose(here, RANKED, COMMANDS) == "c"  # the width is 3


def test_what_leads_back_or_is_exhausted_is_not_taken_again() -> None:
    here = Known(9, 9.0, leads={"a": "HERE", "b": "B", "c": "C"})
    table = moments({"HERE": here, "B": Known(3, 3.0, exhausted=True), "C": Known(5, 0.0)})
    assert table.choose(here, RANKED, COMMANDS) == "c"


def test_a_known_way_that_is_no_candidate_is_not_forgotten() -> None:
    here = Known(4, 2.0, leads={"z": "Z", "a": "A"})
    table = moments({"A": Known(2, 0.0), "Z": Known(2, 2.0)}, rule="uct")
    assert table.choose(here, [("a", 1.0)], ["a", "z"]) == "z"
    assert table.choose(here, [("a", 1.0)], ["a"]) == "a", "a call that another way made possible"


@pytest.mark.parametrize("seed", range(10))
def test_a_game_whose_calls_of_tools_depend_on_the_way_is_searched(seed: int) -> None:
    name = "toy/doors?tools=notes"
    config = SearchConfig(wins=4)
    found = search_task(make(name), Task(env=name, split="train", seed=seed), budget=Budget(steps=150), config=config)
    assert found.error is None and found.episodes


def doors(**settings: Any) -> tuple[Any, Task]:
    name = "toy/doors?" + ",".join(f"{key}={value}" for key, value in settings.items()) if settings else "toy/doors"
    env = make(name)
    return env, Task(env=env.env_id, split="train", seed=0)


@pytest.mark.parametrize("rule", ["uct", "puct"])
@pytest.mark.parametrize("transpositions", [True, False])
def test_no_episode_is_played_twice_and_a_small_game_is_searched_to_its_end(
    rule: str, transpositions: bool, player: Callable[..., Player]
) -> None:
    env, task = doors(rooms=1, colours=2, step_limit=3)
    found = player(env, task, rule=rule, transpositions=transpositions, advice=False, steps=10_000)
    episodes = list(mcts(found))  # it ends by itself
    lines = [tuple(episode.actions) for episode in episodes]
    assert len(set(lines)) == len(lines)
    assert any(episode.won for episode in episodes) and any(episode.status == "lost" for episode in episodes)
    if not transpositions:
        # Room: look, read note, safe door, wrong door; treasury: look, take coin; three steps.
        # wrong (1) + safe,take (1) + safe,look,* (2) + {look,note}·[wrong 1, safe,* 2, {look,note}·4 → 8] = 4 + 22
        assert len(lines) == 26


def test_states_that_are_the_same_share_what_is_known(player: Callable[..., Player]) -> None:
    env, task = doors(rooms=1, colours=2, step_limit=3)
    assert len(list(mcts(player(env, task, advice=False)))) < 8  # of 26 ways to play


def test_a_lost_game_is_not_taken_for_the_room_it_was_lost_in(player: Callable[..., Player]) -> None:
    env, task = doors(rooms=2, colours=6)
    episodes = list(islice(mcts(player(env, task, advice=False, steps=5000)), 40))
    last = [(episode.steps[-1].state, episode.actions[-1]) for episode in episodes if episode.status == "lost"]
    assert len(set(last)) == len(last)


def test_the_engine_is_asked_once_a_moment_and_its_favourite_goes_first(
    player: Callable[..., Player], note_reader: ScriptedEngine
) -> None:
    env, task = doors()
    found = player(env, task, engine=note_reader, advice=False, temperature=0.1)
    episode = next(mcts(found))
    assert episode.won and len(episode.steps) == 5
    assert found.meter.cost.calls == 5
    assert episode.steps[0].scores is not None
    assert episode.steps[0].logprob == max(episode.steps[0].scores)
    second = next(islice(mcts(found), 1))
    assert second.actions == episode.actions and found.meter.cost.calls == 5  # all was known
    assert found.meter.cost.replayed == 5


def test_candidates_are_the_likeliest_by_the_engine(player: Callable[..., Player], note_reader: ScriptedEngine) -> None:
    env, task = doors(step_limit=5)
    found = player(env, task, engine=note_reader, advice=False, candidates=1, transpositions=False)
    episodes = list(islice(mcts(found), 3))
    # From its second visit on the start offers nothing but the note.
    assert {episode.actions[0] for episode in episodes[1:]} == {"read note"}


def test_rollouts_at_random_ask_no_engine(player: Callable[..., Player], note_reader: ScriptedEngine) -> None:
    env, task = doors()
    found = player(env, task, engine=note_reader, rollout="random")
    next(mcts(found))
    assert found.meter.cost.calls == 0
