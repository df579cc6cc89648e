"""What is recalled, in which order, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from memory import Database, Recall, Reflection, ReflectionMemory, Weights
from memory.retrieval.retriever import ranks
from memory.store import Filter

NOON = "2025-06-01T12:00:00.000000+00:00"
MORNING = "2025-06-01T02:00:00.000000+00:00"
Maker = Callable[..., Reflection]


class Angles:
    """A text begins with an angle in degrees, so that its cosine to a query is known by heart."""

    model_id = "angles"
    dimensions = 2

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        radians = np.radians([float(text.split()[0]) for text in texts])
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
    [
        ([], []),
        ([0.5], [1]),
        ([0.1, 0.9, 0.5], [3, 1, 2]),
        ([0.5, 0.9, 0.5, 0.1], [2.5, 1, 2.5, 4]),
        ([1.0, 1 - 1e-9], [1.5, 1.5]),
        ([0.5, 0.5, 0.5], [2, 2, 2]),
    ],
)
def test_equals_share_the_mean_of_their_ranks(values: list[float], expected: list[float]) -> None:
    assert ranks(values) == expected


def test_half_of_the_recency_is_left_after_the_half_life() -> None:
    assert Weights(half_life=24).left(24) == Weights(half_life=24).left(0) / 2 == 0.5
    assert Weights().left(1) == pytest.approx(0.995)


def test_the_score_is_the_weighted_sum_of_the_parts(angles: Callable[..., ReflectionMemory], reflection: Maker) -> None:
    memory = angles(relevance=2.0, recency=1.0, importance=0.5)
    memory.remember(
        [
            reflection("near", "0", importance=0.2, created_at=MORNING),
            reflection("half", "60 seven", importance=0.8, created_at=NOON),
            reflection("far", "90", importance=0.5, created_at=MORNING),
        ]
    )
    # The words find "half" by "seven" as well as "near" by "0", and rank the longer text lower.
    hits = {hit.reflection.id: hit for hit in memory.recall("0 seven", episode="ep-1")}
    near, half, far = hits["near"], hits["half"], hits["far"]
    assert near.parts["cosine"] == pytest.approx(1)
    assert (near.parts["hours"], near.parts["recency"]) == (10, pytest.approx(0.995**10))
    assert [(hit.parts["cosine_rank"], hit.parts["bm25_rank"]) for hit in (near, half, far)] == [(1, 1), (2, 2), (3, 0)]
    assert [hit.parts["rrf"] for hit in (near, half, far)] == pytest.approx([2 / 5, 2 / 6, 1 / 7])
    # By its own scale: the first of both searches has 1, the last is not pushed down to 0.
    assert [hit.parts["relevance"] for hit in (near, half, far)] == pytest.approx([1, 5 / 6, 2.5 / 7])
    assert [hit.parts["recency"] for hit in (near, half, far)] == pytest.approx([0.995**10, 1, 0.995**10])
    assert [hit.parts["importance"] for hit in (near, half, far)] == pytest.approx([0.2, 0.8, 0.5])
    assert [hit.score for hit in (near, half, far)] == pytest.approx(
        [2.1 + 0.995**10, 10 / 6 + 1.4, 5 / 7 + 0.25 + 0.995**10]
    )
    assert half.explanation == (
        "3.07 = relevance 2×0.83 (rrf 0.3333: cosine 0.50 #2, bm25 0.42 #2) + recency 1×1.00 (0 min ago) + "
        "importance 0.5×0.80 (as rated); never recalled"
    )
    assert "#3, bm25 0.00 unranked)" in far.explanation
    assert half.text == half.reflection.text == "60 seven"


def test_recent_beats_old_when_all_else_is_equal(
    angles: Callable[..., ReflectionMemory], reflection: Maker, keep: Any
) -> None:
    memory = angles()
    keep(memory.database, [reflection("old", "0", created_at=MORNING), reflection("new", "0", created_at=NOON)])
    assert ids(memory.recall("0", episode="ep-1")) == ["new", "old"]


def test_a_recall_makes_an_old_item_recent_again(
    angles: Callable[..., ReflectionMemory], database: Database, reflection: Maker, keep: Any
) -> None:
    memory = angles()
    keep(memory.database, [reflection(id, "0", created_at="2025-05-01T00:00:00+00:00") for id in ("a", "b")])
    database.recalls.put([Recall(episode="ep-0", reflection="b", rank=0, query="0", score=1, at=MORNING)])
    assert ids(memory.recall("0", episode="ep-1")) == ["b", "a"]


def test_what_is_pinned_counts_as_fully_important(
    angles: Callable[..., ReflectionMemory], reflection: Maker, keep: Any
) -> None:
    memory = angles()
    keep(memory.database, [reflection(id, "0", created_at=NOON, importance=0.9) for id in ("a", "b")])
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
    alike.remember(items)
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
    assert ids(memory.recall("0", wanted=Filter(env="twx/twc"), episode="ep-1")) == ["elsewhere"]
    assert ids(memory.recall("0", wanted=Filter(env="twx/none"), episode="ep-1")) == []
    assert memory.recall("0", episode="ep-1", k=0) == []


def test_what_has_the_words_of_the_query_is_found_however_far_its_meaning(
    angles: Callable[..., ReflectionMemory], reflection: Maker
) -> None:
    memory = angles(recency=0.0, importance=0.0)
    memory.remember([reflection(f"rf-{number}", f"{20 + number}") for number in range(150)])
    memory.remember([reflection("worded", "175 silver key")])
    first, second, third = memory.recall("9 silver key", episode="ep-1")
    assert ids([first, second, third]) == ["worded", "rf-0", "rf-1"]
    assert first.parts["cosine"] == pytest.approx(np.cos(np.radians(166)), abs=1e-6)
    # It leads by words and comes last by meaning; the second leads by meaning and has no words.
    assert (first.parts["cosine_rank"], first.parts["bm25_rank"]) == (33, 1)
    assert (second.parts["cosine_rank"], second.parts["bm25_rank"], second.parts["bm25"]) == (1, 0, 0)
    assert [hit.parts["relevance"] for hit in (first, second, third)] == pytest.approx(
        [2.5 / 5 + 2.5 / 37, 2.5 / 5, 2.5 / 6]
    )
    assert "cosine -0.97 #33" in first.explanation


def test_where_no_words_are_shared_meaning_alone_decides(
    angles: Callable[..., ReflectionMemory], reflection: Maker
) -> None:
    memory = angles(recency=0.0, importance=0.0)
    memory.remember([reflection(id, angle) for id, angle in (("far", "80"), ("near", "10"), ("middle", "40"))])
    hits = memory.recall("5", episode="ep-1")
    assert ids(hits) == ["near", "middle", "far"]
    assert [hit.parts["bm25_rank"] for hit in hits] == [0, 0, 0]
    assert [hit.parts["relevance"] for hit in (hits[0], hits[2])] == pytest.approx([2.5 / 5, 2.5 / 7])


def test_of_equals_the_older_comes_first(angles: Callable[..., ReflectionMemory], reflection: Maker, keep: Any) -> None:
    memory = angles(recency=0.0)
    keep(memory.database, [reflection(f"rf-{number}", "0 coin") for number in range(9)])
    assert ids(memory.recall("0 coin", episode="ep-1", k=9)) == [f"rf-{number}" for number in range(9)]


def test_measured_use_counts_where_it_is_given(
    angles: Callable[..., ReflectionMemory], reflection: Maker, keep: Any
) -> None:
    memory = angles(recency=0.0, importance=0.0, relevance=1.0, use=2.0)
    keep(memory.database, [reflection(id, "0", created_at=NOON) for id in ("poor", "unknown", "good")])
    assert "use" not in memory.recall("0", episode="ep-1")[0].parts
    asked: list[tuple[list[str], str | None, int]] = []

    def use(ids: Sequence[str], env: str | None, seed: int) -> dict[str, float]:
        asked.append((list(ids), env, seed))
        return {"poor": -0.25, "good": 0.75}

    memory.use = use
    hits = memory.recall("0", wanted=Filter(env="twx/coin"), episode="ep-1")
    assert ids(hits) == ["good", "unknown", "poor"]
    assert [hit.parts["use"] for hit in hits] == [0.75, 0, -0.25]
    # Three equals stand second in both searches.
    assert [hit.score for hit in hits] == pytest.approx([5 / 6 + 1.5, 5 / 6, 5 / 6 - 0.5])
    assert "use 2×0.75 (measured)" in hits[0].explanation
    memory.recall("0", wanted=Filter(env="twx/coin"), episode="ep-1")
    memory.recall("0", wanted=Filter(env="twx/coin"), episode="ep-2")
    (ids_of, env, seed), again, other = asked
    assert (sorted(ids_of), env) == (["good", "poor", "unknown"], "twx/coin")
    assert again[2] == seed != other[2]
    memory.search("0")
    assert len(asked) == 3
    memory.use = lambda ids, env, seed: {}
    assert "use" not in memory.recall("0", episode="ep-3")[0].parts


def test_a_difference_in_use_or_importance_is_not_made_greater_by_what_else_was_found(
    angles: Callable[..., ReflectionMemory], reflection: Maker
) -> None:
    memory = angles(recency=0.0)
    memory.remember([
        reflection("fits", "0", created_at=NOON, importance=0.50),
        reflection("helps", "80", created_at=NOON, importance=0.51),
    ])  # fmt: skip
    memory.use = lambda ids, env, seed: {"fits": 0.0, "helps": 0.006}
    first, second = memory.recall("0", wanted=Filter(env="twx/coin"), episode="ep-1")
    assert ids([first, second]) == ["fits", "helps"]
    # The second of the two by meaning has no word of the query.
    assert first.score - second.score == pytest.approx(1 - 2.5 / 6 - 0.01 - 0.006)
    only = memory.recall("80", wanted=Filter(env="twx/coin"), episode="ep-2", k=1)[0]
    assert (only.parts["use"], only.parts["importance"]) == (0.006, 0.51), "nor where it is alone at the top"


@pytest.mark.parametrize(
    "wrong",
    [
        {"relevance": -1.0},
        {"relevance": 0.0, "recency": 0.0, "importance": 0.0},
        {"half_life": 0.0},
        {"diversity": 1.0},
        {"use": -0.1},
    ],
)
def test_weights_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="recall must"):
        Weights(**wrong)
