from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentlab.lab import Lab
from agentlab.views.episodes import EpisodeList, episodes
from agentlab.workspace.config import LabConfig
from memory.records import Episode


def lived(id: str, **values: Any) -> Episode:
    usual: dict[str, Any] = {"run": "r", "env": "toy/doors", "split": "train", "seed": 1}
    usual |= {"arm": "base", "status": "won"}
    return Episode(id=id, **{**usual, **values})


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder: Path = tmp_path_factory.mktemp("episodes") / "lab"
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing")) as made:
        for place in range(3):
            made.database.episodes.put(lived(f"won-{place}", seed=place, goal="Find the coin."))
        made.database.episodes.put(lived("lost", status="lost", arm="base + memory", adapter="adapter-x"))
        made.database.episodes.put(lived("other", env="toy/other", status="errored", error="e", error_kind="engine"))
        made.database.episodes.put(lived("short", minimised_from="won-0"))
        yield made


def counts(found: EpisodeList, facet: str) -> dict[str, int]:
    (one,) = [one for one in found.facets if one.name == facet]
    return {value.value: value.n for value in one.values}


def test_each_facet_is_counted_among_what_fits_all_the_others(lab: Lab) -> None:
    found = episodes(lab, {"env": "toy/doors", "status": "won"})
    assert [row.id for row in found.episodes] == ["won-2", "won-1", "won-0"] and found.total == 3
    assert counts(found, "env") == {"toy/doors": 3}
    assert counts(found, "status") == {"won": 3, "lost": 1}
    assert counts(found, "arm") == {"base": 3}
    assert counts(episodes(lab, {}), "env") == {"toy/doors": 4, "toy/other": 1}


def test_a_chosen_value_stays_to_be_taken_back_where_nothing_fits_it(lab: Lab) -> None:
    found = episodes(lab, {"env": "toy/other", "status": "lost"})
    assert (found.total, found.episodes) == (0, [])
    assert counts(found, "status") == {"lost": 0, "errored": 1}


def test_episodes_without_an_adapter_are_a_value_of_their_own(lab: Lab) -> None:
    assert counts(episodes(lab, {}), "adapter") == {"none": 4, "adapter-x": 1}
    assert [row.id for row in episodes(lab, {"adapter": "adapter-x"}).episodes] == ["lost"]
    assert episodes(lab, {"adapter": "none"}).total == 4


def test_what_failed_is_counted_where_something_did(lab: Lab) -> None:
    assert counts(episodes(lab, {}), "error_kind") == {"engine": 1}
    assert counts(episodes(lab, {"status": "won"}), "error_kind") == {}


@pytest.mark.parametrize(("form", "total"), [("played", 5), ("shortened", 1), ("all", 6)])
def test_shortened_forms_are_told_apart(lab: Lab, form: str, total: int) -> None:
    found = episodes(lab, {}, form=form)
    assert found.total == len(found.episodes) == total


def test_a_list_is_narrowed_by_run_task_and_goal(lab: Lab) -> None:
    assert episodes(lab, {}, run="none").total == 0
    assert [row.id for row in episodes(lab, {}, task="toy/doors:train:2").episodes] == ["won-2"]
    assert episodes(lab, {"split": "train"}, goal="COIN").total == 3


def test_a_page_beyond_the_end_is_empty_and_knows_how_many_there_are(lab: Lab) -> None:
    found = episodes(lab, {}, offset=100)
    assert (found.total, found.episodes, found.some) == (5, [], True)
