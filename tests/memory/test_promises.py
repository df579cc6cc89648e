"""What recall and credit promise, seen from this package: what is held out is not served; little proves no harm."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from memory import Credit, CreditConfig, Database, Recall, Reflection, ReflectionMemory
from memory.store import Filter


@pytest.mark.parametrize("channel", ["text", "exemplar", "advice"])
def test_recall_gives_what_is_served_and_never_what_is_held_out(
    memory: ReflectionMemory, database: Database, reflection: Callable[..., Reflection], channel: str
) -> None:
    memory.remember([reflection(f"r-{n}", f"Coin number {n} is in room {n}.") for n in range(4)])
    credit = Credit(database, CreditConfig(hold_out=0.5, max_cost=1.0))
    held_out = 0
    for number in range(20):
        episode = f"ep-{number}"
        hits = memory.recall(
            "coin", wanted=Filter(env="twx/coin"), episode=episode, k=4, credit=credit, channel=channel
        )  # type: ignore[arg-type]
        rows = database.connection.execute("SELECT reflection, held_out FROM recalls WHERE episode = ?", (episode,))
        assert {id for id, _ in rows} == {f"r-{n}" for n in range(4)}
        assert {hit.reflection.id for hit in hits} == {id for id, held_out in rows if not held_out}
        held_out += sum(held_out for _, held_out in rows)
    assert 0 < held_out < 80


def test_nothing_counts_as_harmful_on_less_evidence_than_was_asked_for(
    database: Database, reflection: Callable[..., Reflection]
) -> None:
    database.reflections.put(reflection("r-bad"))
    database.recalls.put(
        [
            Recall(episode=f"ep-{held_out}-{n}", reflection="r-bad", rank=0, query="", score=1.0, env="twx/coin",
                   won=held_out, held_out=held_out, propensity=0.5)
            for held_out in (True, False)
            for n in range(150)
        ]
    )  # fmt: skip
    wary, hasty = Credit(database, CreditConfig(min_n=200)), Credit(database, CreditConfig(min_n=100))
    assert wary.report().harmful == [] and wary.review(dry_run=True) == []
    assert [id for id, _ in hasty.report().harmful] == ["r-bad"]
    assert [verdict.reflection for verdict in hasty.review(dry_run=True)] == ["r-bad"]
