"""What is recalled, in which order, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from memory import Database, Recall, Reflection, ReflectionMemory, Weights
from memory.retriever import scale

NOON = "2025-06-01T12:00:00.000000+00:00"
MORNING = "2025-06-01T02:00:00.000000+00:00"
Maker = Callable[..., Reflection]


class Angles:
    """A text is an angle in degrees, so that its cosine to a query is known by heart."""

    model_id = "angles"
    dimensions = 2

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        radians = np.radians([float(text) for text in texts])
        return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


@pytest.fixture
def angles(open_memory: Callable[..., ReflectionMemory]) -> Callable[..., ReflectionMemory]:
    def opened(**weights: float) -> ReflectionMemory:
        return open_memory(Angles(), clock=lambda: NOON, weights=Weights(**{"diversity": 0.0, **weights}))

    return opened


def ids(hits: Sequence[object]) -> list[str]:
    return [hit.reflection.id for hit in hits]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], []), ([3.0], [1.0]), ([2.0, 2.0], [1.0, 1.0]), ([1.0, 3.0, 2.0], [0.0, 1.0, 0.5])],
)
def test_values_are_spread_between_their_least_and_greatest(values: list[float], expected: list[float]) -> None:
    assert scale(values) == pytest.approx(expected)


def test_small_differences_are_not_stretched() -> None:
    assert scale([0.1, 0.2], least=1.0) == pytest.approx([0.9, 1.0])


def test_the_score_is_the_weighted_sum_of_the_scaled_parts(
    angles: Callable[..., ReflectionMemory], reflection: Maker
) -> None:
    memory = angles(relevance=2.0, recency=1.0, importance=0.5)
    memory.remember(
        [
            reflection("near", "0", importance=0.2, created_at=MORNING),
            reflection("half", "60", importance=0.8, created_at=NOON),
            reflection("far", "90", importance=0.5, created_at=MORNING),
        ]
    )
    hits = {hit.reflection.id: hit for hit in memory.recall("0", episode="ep-1")}
    near, half, far = hits["near"], hits["half"], hits["far"]
    assert near.parts["cosine"] == pytest.approx(1)
    assert (near.parts["hours"], near.parts["decay"]) == (10, pytest.approx(0.995**10))
    assert [hit.parts["relevance"] for hit in (near, half, far)] == pytest.approx([1, 0.5, 0])
    assert [hit.parts["recency"] for hit in (near, half, far)] == pytest.approx([0, 1, 0])
    assert [hit.parts["importance"] for hit in (near, half, far)] == pytest.approx([0, 1, 0.5])
    assert [hit.score for hit in (near, half, far)] == pytest.approx([2.0, 1.0 + 1.0 + 0.5, 0.25])
    assert half.explanation == (
        "2.50 = relevance 2×0.50 (cosine 0.50) + recency 1×1.00 (0 min ago) + importance 0.5×1.00 (rated 0.80)"
        "; likeness to the hits above 0.00; never recalled"
    ).replace("; likeness to the hits above 0.00", "")


def test_recent_beats_old_when_all_else_is_equal(angles: Callable[..., ReflectionMemory], reflection: Maker) -> None:
    memory = angles()
    memory.remember([reflection("old", "0", created_at=MORNING), reflection("new", "0", created_at=NOON)])
    assert ids(memory.recall("0", episode="ep-1")) == ["new", "old"]


def test_a_recall_makes_an_old_item_recent_again(
    angles: Callable[..., ReflectionMemory], database: Database, reflection: Maker
) -> None:
    memory = angles()
    memory.remember([reflection(id, "0", created_at="2025-05-01T00:00:00+00:00") for id in ("a", "b")])
    database.put_recalls([Recall(episode="ep-0", reflection="b", rank=0, query="0", score=1, at=MORNING)])
    assert ids(memory.recall("0", episode="ep-1")) == ["b", "a"]


def test_what_is_pinned_counts_as_fully_important(angles: Callable[..., ReflectionMemory], reflection: Maker) -> None:
    memory = angles()
    memory.remember([reflection(id, "0", created_at=NOON, importance=0.9) for id in ("a", "b")])
    assert ids(memory.recall("0", episode="ep-1")) == ["a", "b"]
    memory.pin("b")
    first, _ = memory.recall("0", episode="ep-2")
    assert first.reflection.id == "b"
    assert "importance 1×1.00 (pinned)" in first.explanation


def test_a_weight_of_nought_leaves_a_part_out(angles: Callable[..., ReflectionMemory], reflection: Maker) -> None:
    memory = angles(recency=0.0, importance=0.0)
    memory.remember([reflection("new", "30", created_at=NOON), reflection("old", "10", created_at=MORNING)])
    first, second = memory.recall("0", episode="ep-1")
    assert [first.reflection.id, second.reflection.id] == ["old", "new"]
    assert "recency" not in first.explanation


def test_diversity_prefers_something_else_to_the_same_again(
    angles: Callable[..., ReflectionMemory], reflection: Maker
) -> None:
    same = {"created_at": NOON, "importance": 0.5}
    items = [reflection("a", "0", **same), reflection("a again", "1", **same), reflection("b", "-50", **same)]
    plain = {"recency": 0.0, "importance": 0.0}
    alike, diverse = angles(**plain), angles(**plain, diversity=0.5)
    alike.remember([*items, reflection("far", "180", **same)])
    assert ids(alike.recall("0", episode="ep-1", k=2)) == ["a", "a again"]
    hits = diverse.recall("0", episode="ep-2", k=2)
    assert ids(hits) == ["a", "b"]
    assert hits[1].parts["overlap"] == pytest.approx(np.cos(np.radians(50)), abs=1e-3)
    assert "likeness to the hits above 0.64" in hits[1].explanation


def test_a_hit_says_how_often_it_was_recalled_and_with_what_result(
    angles: Callable[..., ReflectionMemory], reflection: Maker
) -> None:
    memory = angles()
    memory.remember([reflection("a", "0", created_at="2025-05-01T00:00:00+00:00")])
    assert memory.recall("0", episode="ep-1")[0].recalled == 0
    memory.recall("0", episode="ep-2")
    memory.recall("0", episode="ep-3")
    memory.outcome("ep-1", True)
    memory.outcome("ep-2", False)
    (hit,) = memory.search("0")
    assert (hit.recalled, hit.ended, hit.won) == (3, 2, 1)
    assert hit.explanation.endswith("recalled 3×, won 1 of 2 ended")


@pytest.mark.parametrize(
    ("hours", "said"),
    [("2025-06-01T11:30:00+00:00", "30 min"), (MORNING, "10 h"), ("2025-05-22T12:00:00+00:00", "10 days")],
)
def test_the_age_is_told_in_fitting_units(
    hours: str, said: str, angles: Callable[..., ReflectionMemory], reflection: Maker
) -> None:
    memory = angles()
    memory.remember([reflection("a", "0", created_at=hours)])
    assert f"({said} ago)" in memory.search("0")[0].explanation


def test_a_filter_that_leaves_few_still_finds_them_among_many(
    angles: Callable[..., ReflectionMemory], reflection: Maker
) -> None:
    memory = angles()
    many = [reflection(f"rf-{number}", f"{number / 100}") for number in range(400)]
    memory.remember([*many, reflection("elsewhere", "120", env="twx/twc")])
    assert ids(memory.recall("0", episode="ep-1", env="twx/twc")) == ["elsewhere"]
    assert ids(memory.recall("0", episode="ep-1", env="twx/none")) == []
    assert memory.recall("0", episode="ep-1", k=0) == []


@pytest.mark.parametrize(
    "wrong",
    [{"relevance": -1.0}, {"relevance": 0.0, "recency": 0.0, "importance": 0.0}, {"decay": 0.0}, {"diversity": 1.0}],
)
def test_weights_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="recall must"):
        Weights(**wrong)
