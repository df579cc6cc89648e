"""A reflection is shown with its history, its recalls, and the steps that it rests on."""

from __future__ import annotations

from collections.abc import Callable

from memory import Database, Detail, Episode, Evidence, Recall, Reflection


def test_the_steps_that_a_reflection_rests_on_are_shown_if_they_are_kept(
    database: Database, reflection: Callable[..., Reflection], episode: Callable[..., Episode]
) -> None:
    database.episodes.put(episode("ep-1"))
    made = reflection(evidence=[Evidence(episode="ep-1", steps=[1, 9]), Evidence(episode="ep-gone", steps=[0])])
    database.reflections.put(made)
    detail = Detail.of(database, made)
    assert (detail.reflection, [version.reflection for version in detail.versions]) == (made, [made])
    here, gone = detail.evidence
    assert here.id == "ep-1" and here.episode is not None and here.episode.id == "ep-1"
    assert [step.index for step in here.steps] == [1]
    assert (gone.id, gone.episode, gone.steps) == ("ep-gone", None, [])


def test_the_recalls_are_those_of_the_whole_family_the_oldest_first(
    database: Database, reflection: Callable[..., Reflection]
) -> None:
    database.reflections.put(reflection("a"))
    database.reflections.put(reflection("b", status="merged", merged_into="a"))
    database.recalls.put(
        [
            Recall(episode=f"ep-{day}", reflection=id, rank=0, query="q", score=1.0, at=f"2025-01-0{day}")
            for id, day in (("a", 2), ("b", 1), ("b", 3))
        ]
    )
    found = Detail.of(database, database.reflections.get("a")).recalls
    assert [(recall.reflection, recall.episode) for recall in found] == [("b", "ep-1"), ("a", "ep-2"), ("b", "ep-3")]
