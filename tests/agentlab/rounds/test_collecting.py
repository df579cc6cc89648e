"""A round explores at random, with the model, or by search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentlab.agent.tasks import make_tasks
from agentlab.errors import RunFailed
from agentlab.lab import Lab
from agentlab.rounds import RoundReport
from agentlab.rounds.collecting import collect
from agentlab.search.tasks import search_tasks
from agentlab.trajectories.budget import Budget
from memory.store import EpisodeFilter

Opened = Callable[..., Lab]
Made = Callable[..., RoundReport]
ENV = "toy/doors?colours=2,rooms=1,step_limit=4"


def collecting(report: Made, **settings: Any) -> RoundReport:
    return report(adapter=None, envs=[ENV], **{"random_trials": 5, "model_trials": 1, **settings})


def ids(lab: Lab, run: str = "round-1") -> set[str]:
    return {row.id for row in lab.database.episodes.find(EpisodeFilter(run=run))}


@pytest.mark.parametrize(
    ("given", "incumbent", "ways"),
    [
        ("auto", None, ["random"]),
        ("auto", "adapter-good", ["random", "model"]),
        ("both", None, ["random", "model"]),
        ("none", "adapter-good", []),
        ("mcts", None, ["mcts"]),
        (["deepening", "random", "deepening"], None, ["deepening", "random"]),
        ([], None, []),
    ],
)
def test_one_way_or_several_explore(report: Made, given: Any, incumbent: str | None, ways: list[str]) -> None:
    assert report(collect=given).config.ways(incumbent) == ways


@pytest.mark.parametrize("method", ["mcts", "best_of_n", "deepening", "self_explore"])
def test_a_search_collects_within_its_budget_and_says_what_it_cost(spelling: Opened, report: Made, method: str) -> None:
    lab = spelling()
    made = collecting(report, collect=method, search={"budget": {"steps": 30}})
    assert collect(lab, made) == "select"
    found = made.collected[method]
    assert found["tasks"] == 5 and 0 < found["won"] <= 5
    assert 0 < found["steps"] <= 150 and found["calls"] == found["tokens"] == 0, "chance guides it"
    assert found["episodes"] == sum(
        row.minimised_from is None for row in lab.database.episodes.find(EpisodeFilter(run="round-1"))
    )
    assert {row.engine for row in lab.database.episodes.find()} == {"random"}


def test_the_model_guides_a_search_where_that_is_asked_for(spelling: Opened, report: Made) -> None:
    lab = spelling()
    search = {"guide": "model", "budget": {"steps": 30}, "settings": {"wins": 2}}
    made = collecting(report, collect=["mcts", "random"], search=search)
    collect(lab, made)
    assert made.collected["mcts"]["calls"] > 0 and set(made.collected) == {"random", "mcts"}
    played = [row for row in lab.database.episodes.find(EpisodeFilter(arm="mcts")) if row.minimised_from is None]
    assert {row.engine for row in played} == {lab.model().name}


def test_a_search_that_was_stopped_collects_what_an_unbroken_one_does(
    spelling: Opened, report: Made, breaks: Any
) -> None:
    settings = {"collect": "mcts", "search": {"budget": {"steps": 30}}}
    whole, broken = collecting(report, **settings), collecting(report, **settings)
    collect(unbroken := spelling("unbroken"), whole)
    lab = spelling("broken", progress=breaks("searching", 3))
    with pytest.raises(KeyboardInterrupt):
        collect(lab, broken)
    assert 0 < len(ids(lab)) < len(ids(unbroken))
    collect(lab, broken)
    assert broken.collected == whole.collected and ids(lab) == ids(unbroken)


def test_the_model_explores_with_all_that_is_known_only_where_that_is_asked_for(spelling: Opened, report: Made) -> None:
    lab = spelling(script={"look": 0.0})
    search_tasks(lab, "before", make_tasks(ENV, "train", range(100, 105)), budget=Budget(steps=60))
    for number, memory in enumerate(["trials", "all"], 1):
        made = collecting(report, collect="model", memory=memory).model_copy(update={"id": f"round-{number}"})
        collect(lab, made)
    own, all_of_it = (lab.database.episodes.load(sorted(ids(lab, run))) for run in ("round-1", "round-2"))
    assert not any(episode.recalled or episode.hints for episode in own)
    assert all(episode.recalled for episode in all_of_it)
    assert any(episode.hints for episode in all_of_it), (
        "but for what is held out at random, examples stand in the prompt"
    )


def test_a_balanced_round_explores_at_the_temperature_that_was_picked(spelling: Opened, report: Made) -> None:
    lab, made = spelling(), collecting(report, collect="model", temperature=0.9)
    made.balance = {"temperature": 0.25, "threshold": 1.0, "score": 0.5}
    collect(lab, made)
    assert {episode.temperature for episode in lab.database.episodes.load(sorted(ids(lab)))} == {0.25}


@pytest.mark.parametrize(
    "settings", [{"collect": "mcts", "search": {"guide": "model"}}, {"collect": "model"}], ids=["search", "model"]
)
def test_a_round_whose_engine_is_broken_while_it_collects_waits_for_a_whole_one(
    spelling: Opened, report: Made, settings: dict[str, Any]
) -> None:
    def broken(text: str, command: str) -> float:
        raise ZeroDivisionError("of this minute")

    lab, made = spelling(script=broken), collecting(report, **settings)
    with pytest.raises(RunFailed):
        lab.round(made.config)
    assert [(found.phase, found.note) for found in lab.rounds()] == [("collect", "")]
