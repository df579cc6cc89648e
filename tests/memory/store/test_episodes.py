"""Episodes go in whole and come out whole, by id, by a beginning of it, or by what they are."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import NamedTuple

import pytest

from memory import Database, Episode, errors
from memory.store import EpisodeFilter

Maker = Callable[..., Episode]


def test_an_episode_comes_back_as_it_was(database: Database, episode: Maker) -> None:
    lived = episode(token_ids=[1, 2, 3], action_spans=[(1, 2)], recalled=["rf-1"], status="won", score=1.0, hints="ü\n")
    database.episodes.put(lived)
    assert database.episodes.get("ep-1") == lived


def test_an_episode_of_an_earlier_version_has_the_bonus_that_was_added(database: Database, episode: Maker) -> None:
    lived = episode(strength=4.0, trial=2)
    lived.steps[0].bonus = [0.5] * len(lived.steps[0].admissible)
    database.episodes.put(lived)
    assert database.episodes.get("ep-1") == lived
    earlier = lived.model_dump_json(exclude={"steps": {"__all__": {"cut"}}})
    database.connection.execute("UPDATE episodes SET payload = ?", (zlib.compress(earlier.encode()),))
    assert database.episodes.get("ep-1").steps[0].bonus == [4.0] * len(lived.steps[0].admissible)


def test_putting_an_episode_again_replaces_it(database: Database, episode: Maker) -> None:
    database.episodes.put(episode())
    database.episodes.put(episode(status="won"))
    assert [row.status for row in database.episodes.find()] == ["won"]
    assert database.episodes.get("ep-1").won


def test_a_beginning_of_the_id_is_enough(database: Database, episode: Maker) -> None:
    for id in ("ep-aa1", "ep-ab2", "ep-ab"):
        database.episodes.put(episode(id))
    assert database.episodes.get("ep-aa").id == "ep-aa1"
    assert database.episodes.get("ep-ab").id == "ep-ab"
    with pytest.raises(errors.UnknownEpisode, match="more than one episode \\(ep-aa1, ep-ab, ep-ab2\\)"):
        database.episodes.get("ep-a")


def test_an_unknown_episode_is_answered_with_the_nearest(database: Database, episode: Maker) -> None:
    with pytest.raises(errors.UnknownEpisode, match="no episodes yet"):
        database.episodes.get("ep-12345")
    database.episodes.put(episode("ep-12345"))
    with pytest.raises(errors.UnknownEpisode, match="did you mean 'ep-12345'"):
        database.episodes.get("ep-12354")
    with pytest.raises(errors.UnknownEpisode, match="`agentlab episodes` shows"):
        database.episodes.get("")
    with pytest.raises(errors.UnknownEpisode):
        database.episodes.get("%")


def test_episodes_are_listed_by_what_they_are(database: Database, episode: Maker) -> None:
    database.episodes.put(episode("a", status="won", arm="retry"))
    database.episodes.put(episode("b", env="twx/twc", adapter="ad-1", run="run-2"))
    database.episodes.put(episode("c", split="dev", seed=4, status="won"))

    def ids(**wanted: object) -> list[str]:
        return [row.id for row in database.episodes.find(EpisodeFilter(**wanted))]  # type: ignore[arg-type]

    assert ids() == ["a", "b", "c"]
    assert [row.id for row in database.episodes.find(newest=True, limit=2)] == ["c", "b"]
    assert ids(run="run-2") == ids(env="twx/twc") == ids(adapter="ad-1") == ["b"]
    assert ids(adapter="") == ids(status="won") == ["a", "c"]
    assert ids(arm="retry") == ["a"]
    assert ids(split="dev") == ids(task="twx/coin:dev:4") == ["c"]
    assert ids(split="dev", env="twx/twc") == []


def test_a_row_says_what_a_listing_shows(database: Database, episode: Maker) -> None:
    database.episodes.put(episode(status="errored", error="the game died", score=0.25))
    (row,) = database.episodes.find()
    assert (row.task, row.steps, row.goal, row.error, row.score) == (
        "twx/coin:train:3", 2, "Find it.", "the game died", 0.25,
    )  # fmt: skip
    assert not row.won


def test_of_many_episodes_a_few_columns_are_enough(database: Database, episode: Maker) -> None:
    class Ended(NamedTuple):
        id: str
        status: str

    for id, status in (("ep-2", "won"), ("ep-1", "lost"), ("ep-3", "won")):
        database.episodes.put(episode(id=id, status=status))
    assert database.episodes.select(Ended) == [("ep-2", "won"), ("ep-1", "lost"), ("ep-3", "won")]
    assert database.episodes.select(Ended, EpisodeFilter(status="won")) == [("ep-2", "won"), ("ep-3", "won")]


def test_many_episodes_are_loaded_in_the_order_asked_for(database: Database, episode: Maker) -> None:
    for number in range(1203):
        database.episodes.put(episode(f"ep-{number}", steps=[]))
    wanted = [f"ep-{number}" for number in (1202, 7, *range(100, 1200), 7)]
    assert [episode.id for episode in database.episodes.load(wanted)] == wanted
    assert database.episodes.load([]) == []
    with pytest.raises(errors.UnknownEpisode, match="ep-9999"):
        database.episodes.load(["ep-7", "ep-9999"])


def test_episodes_are_chosen_by_who_played_and_by_whether_they_are_shortened(
    database: Database, episode: Maker
) -> None:
    database.episodes.put(episode("a", engine="smollm2", seed=3, seconds=2.0))
    database.episodes.put(episode("b", engine="random", seed=9, run="run-2"))
    database.episodes.put(episode("c", engine="smollm2", seed=4, minimised_from="a"))

    def ids(wanted: EpisodeFilter) -> list[str]:
        return [row.id for row in database.episodes.find(wanted)]

    assert ids(EpisodeFilter(by_model=True)) == ["a", "c"] and ids(EpisodeFilter(by_model=False)) == ["b"]
    assert ids(EpisodeFilter(minimised=True)) == ["c"]
    assert database.episodes.count(EpisodeFilter(minimised=False)) == 2
    assert [row.id for row in database.episodes.rows(["b", "a", "b", "none"])] == ["a", "b"], "the oldest first"
    assert database.episodes.runs(EpisodeFilter(split="train")) == {"run-1", "run-2"}
    everywhere = EpisodeFilter(env="twx/coin")
    assert [database.episodes.last_seed(everywhere, runs) for runs in (["run-1"], ["run-1", "run-2"], ["x"])] == [
        4,
        9,
        None,
    ]
