from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import memory.consolidation.report as health_module
from memory import Database, Episode, HashingEmbedder, Recall, Reflection, ReflectionMemory, Step
from memory.consolidation.consolidation import Consolidation, ConsolidationConfig
from memory.consolidation.report import health, uplift_line
from memory.store import Filter

LONG = "the safe door is the one that the note in the first room names so read the note before you open any door at all"


def item(id: str, text: str, **more: object) -> Reflection:
    return Reflection.model_validate(
        {"id": id, "kind": "written", "env": "toy/doors", "task": "toy/doors:train:1", "text": text} | more
    )


def served(
    reflection: str, episode: str, won: bool | None, *, held_out: bool = False, env: str = "toy/doors"
) -> Recall:
    return Recall(
        episode=episode, reflection=reflection, rank=0, query="q", score=1.0, won=won, env=env, held_out=held_out,
        propensity=0.5,
    )  # fmt: skip


@pytest.fixture
def kept(database: Database, tmp_path: Path) -> ReflectionMemory:
    return ReflectionMemory(database, HashingEmbedder(), tmp_path / "memory.faiss")


def test_an_empty_memory_is_healthy(kept: ReflectionMemory) -> None:
    found = health(kept)
    assert found.items == found.never_recalled == found.pinned == 0
    assert (found.statuses, found.envs, found.harmful) == ({}, {}, [])
    assert (found.repeats.exact, found.repeats.near, found.repeats.examined) == (0, 0, 0)
    assert found.prompt.share == 0.0
    assert found.holding_out.recalls == 0
    assert found.database_bytes > 0
    assert (found.index.file, found.index.items, found.index.bytes) == ("memory.faiss", 0, 0)


def test_items_are_counted_by_what_they_are(kept: ReflectionMemory) -> None:
    kept.remember(
        [
            item("r-1", "one", pinned=True),
            item("r-2", "two", tier="rule", source="mcp:someone"),
            item("r-3", "three", env="toy/other", kind="grounded"),
        ]
    )
    kept.forget("r-3")
    found = health(kept)
    assert found.items == 3
    assert found.statuses == {"active": 2, "forgotten": 1}
    assert found.tiers == {"raw": 2, "rule": 1}
    assert found.kinds == {"written": 2, "grounded": 1}
    assert found.sources == {"": 2, "mcp:someone": 1}
    assert list(found.envs.items()) == [("toy/doors", 2), ("toy/other", 1)]
    assert found.pinned == 1
    assert found.index.items == 3
    assert found.index.bytes == (kept.index.path).stat().st_size


def test_repeats_are_what_is_the_same_to_the_letter_and_what_would_be_merged(kept: ReflectionMemory, keep: Any) -> None:
    keep(
        kept.database,
        [
            item("r-1", LONG),
            item("r-2", LONG),
            item("r-3", LONG + " and again"),
            item("r-4", "Coins lie in the kitchen."),
            item("r-5", "Coins lie in the kitchen.", env="toy/other"),
            item("r-6", "Coins lie in the kitchen.", kind="grounded"),
            item("r-7", LONG),
            item("r-8", LONG, task="toy/doors:test:1"),
            item("r-9", LONG, tier="rule"),
        ],
    )
    kept.database.reflections.put(item("r-0", "Coins lie in the kitchen.", namespace="another"))
    kept.forget("r-7")
    repeats = health(kept).repeats
    assert repeats.exact == 2, "the same text of another kind, environment, fold or namespace, or out of use, is none"
    assert (repeats.near, repeats.cosine) == (1, 0.98), (
        "`again` makes it another text, and so does another kind or fold"
    )
    assert repeats.examined == repeats.items == 6
    looser = ConsolidationConfig(duplicate=0.8)
    assert health(kept, looser).repeats.near == 2
    Consolidation(kept).run(["merge"])
    assert kept.count(Filter(status="merged")) == repeats.near and health(kept).repeats.near == 0


def test_in_a_large_memory_a_sample_is_examined(
    kept: ReflectionMemory, monkeypatch: pytest.MonkeyPatch, keep: Any
) -> None:
    keep(kept.database, [item(f"r-{n}", LONG) for n in range(20)])
    monkeypatch.setattr(health_module, "COMPARISONS", 100)
    repeats = health(kept).repeats
    assert (repeats.near, repeats.examined, repeats.items) == (4, 5, 20), "the first of all is none that would go"


def test_what_was_only_held_out_was_never_recalled(kept: ReflectionMemory) -> None:
    kept.remember([item("r-1", "one"), item("r-2", "two"), item("r-3", "three"), item("r-4", "four")])
    kept.forget("r-4")
    kept.database.recalls.put([served("r-1", "ep-1", None), served("r-2", "ep-1", None, held_out=True)])
    assert health(kept).never_recalled == 2


def test_the_uplift_of_an_item_is_told_with_what_it_rests_on(kept: ReflectionMemory) -> None:
    kept.remember([item("r-1", "one"), item("r-2", "two")])
    kept.database.recalls.put(
        [
            *(served("r-1", f"ep-{n}", n < 8) for n in range(10)),
            *(served("r-1", f"ep-w{n}", n < 3, held_out=True) for n in range(10)),
            served("r-1", "ep-open", None),
            served("r-2", "ep-0", True),
        ]
    )
    assert uplift_line(kept, "r-1") == str(kept.credit.uplift("r-1"))
    assert "won 8 of 10 served, 3 of 10 held out" in uplift_line(kept, "r-1")
    assert "not measured" in uplift_line(kept, "r-2")


def test_an_active_item_that_credibly_does_harm_is_named(kept: ReflectionMemory) -> None:
    kept.remember([item(id, id) for id in ("r-bad", "r-unclear", "r-gone")])
    for id in ("r-bad", "r-gone"):
        kept.database.recalls.put(
            [
                *(served(id, f"ep-{n}", False) for n in range(12)),
                *(served(id, f"ep-w{n}", True, held_out=True) for n in range(12)),
            ]
        )
    kept.database.recalls.put([served("r-unclear", "ep-0", False), served("r-unclear", "ep-w0", True, held_out=True)])
    kept.forget("r-gone")
    assert health(kept).harmful == ["r-bad"]


def test_what_holding_out_cost_is_shown(kept: ReflectionMemory) -> None:
    kept.remember([item("r-1", "one")])
    kept.database.recalls.put(
        [
            *(served("r-1", f"ep-{n}", n < 30) for n in range(40)),
            *(served("r-1", f"ep-w{n}", n < 10, held_out=True) for n in range(40)),
            served("r-1", "ep-open", None, held_out=True),
        ]
    )
    found, cost = health(kept).holding_out, kept.credit.cost()
    assert (found.recalls, found.held_out, found.episodes) == (81, 41, cost.episodes)
    assert found.lost == cost.lost > 0


def test_another_namespace_has_no_part_in_it(kept: ReflectionMemory, tmp_path: Path) -> None:
    kept.remember([item("r-1", LONG)])
    other = ReflectionMemory(kept.database, HashingEmbedder(), tmp_path / "memory.faiss", namespace="other")
    for id in ("r-2", "r-3"):
        kept.database.reflections.put(item(id, LONG, namespace="other"))
    kept.database.recalls.put([served("r-2", "ep-0", True)])
    assert (health(kept).items, health(other).items) == (1, 2)
    assert (health(kept).repeats.exact, health(other).repeats.exact) == (0, 1)
    assert (health(kept).holding_out.recalls, health(other).holding_out.recalls) == (0, 1)
    assert health(other).never_recalled == 2 - len(other.database.recalls.of_reflection("r-2"))


def test_the_share_of_the_prompt_is_that_of_the_block_in_what_a_model_read(
    kept: ReflectionMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Step(index=0, observation="o" * 85, state="s", admissible=["go"], action="go", result="r", next_state="t")

    def episode(id: str, hints: str, **more: object) -> Episode:
        fields = {"id": id, "run": "r", "env": "toy/doors", "split": "train", "seed": 1, "engine": "model"}
        return Episode.model_validate(
            fields | {"goal": "g", "hints": hints, "steps": [step], "token_ids": list(range(50))} | more
        )

    # "Task: g\n" (8) + 85 + "\n>" (2) + " go" (3) + "\n" (1) are 99 characters; a block adds "Hints:\n" and "\n\n" (9).
    kept.database.episodes.put(episode("ep-old", "x" * 999))
    kept.database.episodes.put(episode("ep-with", "x" * 90))
    kept.database.episodes.put(episode("ep-without", ""))
    kept.database.episodes.put(episode("ep-random", "", engine="random", token_ids=[]))
    monkeypatch.setattr(health_module, "EPISODES", 2)
    prompt = health(kept).prompt
    assert (prompt.episodes, prompt.played, prompt.with_block, prompt.tokens) == (2, 3, 1, 100)
    assert prompt.block_tokens == 25
    assert prompt.share == 0.25


def test_health_changes_nothing(path: Path, tmp_path: Path, kept: ReflectionMemory) -> None:
    kept.remember([item("r-1", LONG)])
    kept.save()
    kept.database.close()
    with Database(path, readonly=True) as database:
        assert health(ReflectionMemory(database, HashingEmbedder(), tmp_path / "memory.faiss")).items == 1
