from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agentlab.lab import Lab
from agentlab.views import home as module
from agentlab.views.home import home
from agentlab.workspace.workspace import Workspace
from memory.store.episodes import Episodes


@pytest.fixture
def lab(open_lab: Any) -> Lab:
    lab: Lab = open_lab()
    lab.run("toy/doors", seeds=range(2), trials=1, arm="random", name="first")
    return lab


@pytest.fixture
def looking(lab: Lab) -> Iterator[Workspace]:
    with Workspace.open(lab.folder, write=False, progress=False) as looking:
        yield looking


def test_home_says_what_was_played_learned_and_is_at_work(lab: Lab, looking: Workspace) -> None:
    seen = home(looking)
    assert (seen.took.episodes, seen.took.won + seen.took.lost + seen.took.truncated) == (2, 2)
    assert seen.memory.items == sum(seen.memory.statuses.values()) == lab.database.reflections.count()
    every = lab.database.episodes.find(newest=True)
    assert [row.id for row in seen.episodes] == [row.id for row in every if row.minimised_from is None]
    assert len(every) > len(seen.episodes), "shortened forms were played by nobody"
    assert seen.work is not None and seen.serving is None and seen.rounds == []


def test_what_is_played_beside_it_is_counted_at_once_in_a_small_lab(lab: Lab, looking: Workspace) -> None:
    assert home(looking).took.episodes == 2
    lab.run("toy/doors", seeds=range(2, 5), trials=1, arm="random", name="second")
    assert home(looking).took.episodes == 5


def test_the_sums_of_a_large_lab_are_made_seldom_and_not_at_all_while_nothing_is_written(
    lab: Lab, looking: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []
    totals = Episodes.totals
    monkeypatch.setattr(Episodes, "totals", lambda *given: (passes.append(1), totals(*given))[1])
    monkeypatch.setattr("agentlab.views.standings.QUICK", -1.0)  # as if they had taken long
    monkeypatch.setattr(module, "SELDOM", 1e9)
    for _ in range(3):
        assert home(looking).took.episodes == 2
    lab.run("toy/doors", seeds=range(2, 5), trials=1, arm="random", name="second")
    late = home(looking)
    assert late.took.episodes == 2 and len(late.episodes) > 4  # the newest ones are always there
    assert len(passes) == 1
    assert home(lab).took.episodes == 5  # who writes counts anew


def test_two_who_look_at_two_labs_see_their_own(open_lab: Any, looking: Workspace) -> None:
    other: Lab = open_lab("other")
    other.database.settings.put("a", "b")
    with Workspace.open(other.folder, write=False, progress=False) as second:
        assert (home(looking).took.episodes, home(second).took.episodes) == (2, 0)
