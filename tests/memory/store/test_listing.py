from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memory.records import Episode, Step, Usage
from memory.store import Database, EpisodeFilter
from memory.store.filters import ALL_EPISODES
from memory.store.listing import EpisodeListing


def lived(id: str, **values: Any) -> Episode:
    usual: dict[str, Any] = {"run": "r", "env": "toy/doors", "split": "train", "seed": 1}
    usual |= {"arm": "base", "status": "won"}
    return Episode(id=id, **{**usual, **values})


def steps(count: int) -> list[Step]:
    return [
        Step(index=at, observation="o", state="s", admissible=["a"], action="a", result="r", next_state="s")
        for at in range(count)
    ]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "lab.db") as made:
        made.episodes.put(lived("a", score=0.5, steps=steps(3), usage=Usage(input_tokens=5), goal="Find 100% of it"))
        made.episodes.put(lived("b", score=0.1, steps=steps(1), usage=Usage(output_tokens=9), adapter="adapter-x"))
        made.episodes.put(lived("c", env="toy/other", status="errored", error="x", error_kind="engine", seconds=3.0))
        made.episodes.put(lived("d", minimised_from="a", score=0.5, steps=steps(2), goal="find a COIN"))
        yield made


def ids(listing: EpisodeListing, wanted: EpisodeFilter = ALL_EPISODES, **rest: Any) -> list[str]:
    return [row.id for row in listing.page(wanted, **{"limit": 10, **rest})]


@pytest.mark.parametrize(
    ("sort", "order"),
    [("newest", "dcba"), ("oldest", "abcd"), ("score", "dabc"), ("-score", "cbda"), ("steps", "adbc"),
     ("-tokens", "dcab"), ("tokens", "badc"), ("seconds", "cdba")],
)  # fmt: skip
def test_episodes_come_in_the_order_that_is_asked_for(database: Database, sort: Any, order: str) -> None:
    assert "".join(ids(database.episode_listing, sort=sort)) == order


def test_a_page_begins_where_the_last_one_ended(database: Database) -> None:
    assert ids(database.episode_listing, limit=2, offset=1) == ["c", "b"]


def test_a_row_of_a_page_is_the_row_of_the_table(database: Database) -> None:
    rows = {row.id: row for row in database.episodes.find()}
    assert all(rows[row.id] == row for row in database.episode_listing.page(limit=10))


def test_a_goal_is_searched_for_as_it_stands_in_capitals_or_not(database: Database) -> None:
    assert ids(database.episode_listing, EpisodeFilter(goal="FIND A coin")) == ["d"]
    assert ids(database.episode_listing, EpisodeFilter(goal="100%")) == ["a"]
    assert ids(database.episode_listing, EpisodeFilter(goal="_")) == []


def test_episodes_are_counted_by_combinations_of_their_facets(database: Database) -> None:
    counts = database.episode_listing.counts
    assert counts(("env", "status")) == {("toy/doors", "won"): 3, ("toy/other", "errored"): 1}
    assert counts(("adapter",), EpisodeFilter(env="toy/doors")) == {(None,): 2, ("adapter-x",): 1}
    assert counts(("env",), EpisodeFilter(minimised=True)) == {("toy/doors",): 1}
    assert counts(("error_kind",), EpisodeFilter(error_kind="engine")) == {("engine",): 1}


@pytest.mark.parametrize(
    "wanted", [ALL_EPISODES, EpisodeFilter(run="r"), EpisodeFilter(env="e", adapter="", minimised=False)]
)
def test_a_listing_reads_no_row_with_its_payload(database: Database, wanted: EpisodeFilter) -> None:
    asked: list[tuple[str, Any]] = []
    execute = database.connection.execute

    def noted(statement: str, values: Any = ()) -> Any:
        asked.append((statement, values))
        return execute(statement, values)

    database.connection.execute = noted  # type: ignore[method-assign]
    database.episode_listing.counts(("env", "adapter"), wanted)
    database.episode_listing.page(wanted, "score", limit=1)
    for statement, values in asked[:2]:
        plan = " ".join(row[3] for row in execute(f"EXPLAIN QUERY PLAN {statement}", values))
        assert "USING COVERING INDEX episodes_listed" in plan
    assert all(len(values) == 1 for _, values in asked[2:]), "the rest is read of the rows that are shown"
    assert not any("payload" in statement for statement, _ in asked)


def test_a_goal_is_searched_for_without_reading_the_rows(database: Database) -> None:
    where, values = EpisodeFilter(goal="coin").sql()
    statement = f"EXPLAIN QUERY PLAN SELECT number FROM episodes INDEXED BY episodes_listed WHERE {where}"
    plan = " ".join(row[3] for row in database.connection.execute(statement, values))
    assert "USING COVERING INDEX episodes_goals" in plan


def test_what_runs_played_of_some_games_is_found_without_shortened_forms(database: Database) -> None:
    database.episodes.put(lived("e", run="other"))
    found = database.episode_listing.of_tasks(["toy/doors:train:1", "toy/doors:train:2"], ["r"])
    assert [one.id for one in found] == ["a", "b"]
