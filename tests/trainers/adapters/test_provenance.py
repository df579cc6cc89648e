"""From an adapter one finds the episodes, the reflections, the round and the evaluations, each by its id."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memory.records import Episode, Recall, Reflection
from memory.store.database import Database
from trainers.adapters.episodes import by_env
from trainers.adapters.provenance import difference, trace
from trainers.adapters.record import AdapterRecord
from trainers.adapters.registry import AdapterRegistry
from trainers.errors import UnknownAdapter
from trainers.gate.gate import decide
from trainers.job import Lineage

PASSED = decide({f"a:dev:{n}": True for n in range(30)}, {f"a:dev:{n}": False for n in range(30)})


@pytest.fixture
def registry(tmp_path: Path, make_episode: Callable[..., Episode]) -> Iterator[AdapterRegistry]:
    """Two adapters of five episodes in two environments; the second shares two with the first. No weights."""
    database = Database(tmp_path / "lab.db")
    for id, env in (("e1", "x/one"), ("e2", "x/one"), ("e3", "x/two"), ("e4", "x/two"), ("e5", "x/one")):
        database.episodes.put(make_episode(id, env=env))
    rows = {
        "adapter-a": (["e1", "e3", "e2"], {"rank": 16, "seed": 0}),
        "adapter-b": (["e3", "e4", "e2", "gone"], {"rank": 16, "seed": 1, "beta": 0.1}),
    }
    registry = AdapterRegistry(database, tmp_path)
    for id, (episodes, settings) in rows.items():
        record = AdapterRecord(
            id=id,
            base="tiny",
            fingerprint="f" * 64,
            path=f"adapters/{id}",
            lineage=Lineage(round=f"round-{id[-1]}", episodes=episodes, code_version="1.0"),
            settings=settings,
            training={"device": "cpu", "dtype": "float32"},
        )
        registry.records.put(record)
    yield registry
    database.close()


def recall(database: Database, episode: str, reflection: str, **values: object) -> None:
    usual = {"channel": "advice", "rank": 0, "query": "q", "score": 1.0, "env": "x/one"}
    database.recalls.put([Recall.model_validate({"episode": episode, "reflection": reflection, **usual, **values})])


def test_episodes_are_told_by_environment_and_lost_ones_by_name(registry: AdapterRegistry) -> None:
    assert trace(registry, "adapter-a").episodes == {"x/one": ["e1", "e2"], "x/two": ["e3"]}
    found = trace(registry, "adapter-b")
    assert found.episodes == {"x/one": ["e2"], "x/two": ["e3", "e4"]} and found.missing == ["gone"]
    assert by_env(registry.database, ["e1", "e1"]) == {"x/one": ["e1", "e1"]}
    with pytest.raises(UnknownAdapter):
        trace(registry, "adapter-c")


def hold(registry: AdapterRegistry, adapter: str, episodes: list[str]) -> None:
    """Write down that an adapter was held to its base on these."""
    record = registry.get(adapter)
    held = record.model_copy(update={"lineage": record.lineage.model_copy(update={"kl_episodes": episodes})})
    registry.records.put(held)


def test_where_it_was_held_to_its_base_is_told_and_which_of_these_are_lost(registry: AdapterRegistry) -> None:
    hold(registry, "adapter-b", ["e5", "lost", "gone"])
    found = trace(registry, "adapter-b")
    assert found.kl_episodes == {"x/one": ["e5"]} and found.missing == ["gone", "lost"]
    assert found.episodes == {"x/one": ["e2"], "x/two": ["e3", "e4"]}


def test_adapters_that_differ_only_in_where_they_were_held_are_told_apart(registry: AdapterRegistry) -> None:
    same = difference(registry, "adapter-a", "adapter-a")
    assert not same.kl_episodes.only_a and not same.kl_episodes.only_b and not same.kl_episodes.both
    hold(registry, "adapter-a", ["e4", "e5"])
    hold(registry, "adapter-b", ["e5", "lost"])
    held = difference(registry, "adapter-a", "adapter-b").kl_episodes
    assert (held.only_a, held.only_b, held.both) == ({"x/two": ["e4"]}, {"unknown": ["lost"]}, {"x/one": ["e5"]})


def test_reflections_are_those_recalled_in_these_episodes(
    registry: AdapterRegistry, make_episode: Callable[..., Episode]
) -> None:
    database = registry.database
    for id in ("rf-1", "rf-2", "rf-3", "rf-4"):
        database.reflections.put(Reflection(id=id, kind="k", env="x/one", task="t", run="r", text=id))
    recall(database, "e1", "rf-1")
    recall(database, "e1", "rf-1", channel="text")
    recall(database, "e1", "rf-2")
    recall(database, "e2", "rf-2")
    recall(database, "e3", "rf-3", held_out=True)
    recall(database, "e5", "rf-4")
    assert trace(registry, "adapter-a").reflections == {"rf-2": 2, "rf-1": 1}
    # e2 was made from a longer episode, which was the one that was played.
    database.episodes.put(make_episode("played", env="x/one"))
    database.episodes.put(make_episode("e2", env="x/one", minimised_from="played"))
    recall(database, "played", "rf-3")
    assert trace(registry, "adapter-a").reflections == {"rf-2": 2, "rf-1": 1, "rf-3": 1}


def test_reflections_that_the_job_named_itself_are_told_too(registry: AdapterRegistry) -> None:
    record = registry.get("adapter-a")
    named = record.lineage.model_copy(update={"reflections": ["rf-9"]})
    registry.records.put(record.model_copy(update={"lineage": named}))
    assert trace(registry, "adapter-a").reflections == {"rf-9": 0}


def test_what_it_replaced_and_what_replaced_it(registry: AdapterRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "folder_of", lambda id: Path())
    registry.promote("adapter-a", PASSED)
    registry.promote("adapter-b", PASSED)
    first = trace(registry, "adapter-a")
    assert not first.serving
    assert [(change.event, change.before, change.serving) for change in first.changes] == [
        ("promoted", None, "adapter-a"),
        ("promoted", "adapter-a", "adapter-b"),
    ]
    second = trace(registry, "adapter-b")
    assert second.serving and len(second.changes) == 1


def test_its_uses_are_told_with_rates_evaluations_first(
    registry: AdapterRegistry, make_episode: Callable[..., Episode]
) -> None:
    played = [
        ("round-1-gate", "candidate adapter-a", "dev", "won", 0),
        ("round-1-gate", "candidate adapter-a", "dev", "lost", 0),
        ("eval-test", "adapter", "test", "won", 0),
        ("eval-test", "adapter", "test", "lost", 0),
        ("eval-test", "adapter", "test", "errored", 0),
        ("eval-test", "adapter", "test", "won", 1),
        ("eval-test", "adapter + memory", "test", "won", 0),
        ("mine", "adapter", "train", "truncated", 0),
    ]
    for number, (run, arm, split, status, trial) in enumerate(played):
        registry.database.episodes.put(
            make_episode(
                f"p{number}",
                run=run,
                arm=arm,
                split=split,
                status=status,
                trial=trial,
                adapter="adapter-a",
                started_at=f"2026-01-01T00:00:0{number}",
            )
        )
    registry.database.evaluations.put("eval-test", {})
    uses = trace(registry, "adapter-a").uses
    assert [(use.run, use.kind, use.arm, use.split, use.result.won, use.result.n) for use in uses] == [
        ("eval-test", "evaluation", "adapter", "test", 1, 2),
        ("eval-test", "evaluation", "adapter + memory", "test", 1, 1),
        ("round-1-gate", "gate", "candidate adapter-a", "dev", 1, 2),
        ("mine", "play", "adapter", "train", 0, 1),
    ]
    assert uses[0].result.low < 0.5 < uses[0].result.high
    assert trace(registry, "adapter-b").uses == []


def test_two_adapters_are_compared_by_what_they_were_made_from(registry: AdapterRegistry) -> None:
    found = difference(registry, "adapter-a", "adapter-b")
    assert (found.a.id, found.b.id) == ("adapter-a", "adapter-b")
    assert found.settings == {"seed": (0, 1), "beta": (None, 0.1)}
    assert found.only_a == {"x/one": ["e1"]}
    assert found.only_b == {"x/two": ["e4"], "unknown": ["gone"]}
    assert found.both == {"x/two": ["e3"], "x/one": ["e2"]}
    assert difference(registry, "adapter-a", "adapter-a").settings == {}


def test_what_they_ran_on_counts_as_a_setting(registry: AdapterRegistry) -> None:
    record = registry.get("adapter-b")
    elsewhere = {"training": {"device": "cuda", "dtype": "bfloat16"}, "base": "other"}
    registry.records.put(record.model_copy(update=elsewhere))
    settings = difference(registry, "adapter-a", "adapter-b").settings
    assert settings["ran with device"] == ("cpu", "cuda") and settings["ran with dtype"] == ("float32", "bfloat16")
    assert settings["base"] == ("tiny", "other")
