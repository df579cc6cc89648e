"""What helped before, and under an adapter credibly changes little, is retired; nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from memory import Database, Reflection
from memory.credit.retirement import Retirement, RetirementConfig
from memory.credit.uplift import Strata
from memory.records import Episode, Recall
from memory.store.history import History
from memory.store.recalls import RecallEvidence


@pytest.fixture
def lived(database: Database, reflection: Callable[..., Reflection]) -> Callable[..., None]:
    """As if a reflection had been served to and held out from `of` episodes each, with so many wins; and that
    `times`."""

    def made(
        adapter: str | None, served: int, held_out: int, of: int = 60, times: int = 1, id: str = "rf-1",
        batch: str = "", **more: Any
    ) -> None:  # fmt: skip
        if not database.reflections.has(id):
            database.reflections.put(reflection(id, **more))
        for side, won in (("s", served), ("w", held_out)):
            for n in range(of * times):
                episode = f"{id}-{adapter}-{side}-{n}{batch}"
                status: Any = "won" if n % of < won else "lost"
                database.episodes.put(
                    Episode(id=episode, run="r", env="e", split="train", seed=n, adapter=adapter, status=status)
                )
                recall = Recall(
                    episode=episode, reflection=id, rank=0, query="q", score=1.0, env="e", won=n % of < won,
                    held_out=side == "w", propensity=0.5,
                )  # fmt: skip
                database.recalls.put([recall])

    return made


def run(database: Database, **config: Any) -> list[str]:
    found = Retirement(database, "new", RetirementConfig(**config)).run()
    return [verdict.reflection for verdict in found]


def test_what_helped_and_no_longer_does_is_retired_in_one_operation(database: Database, lived: Any) -> None:
    lived(None, 50, 20)
    lived("new", 58, 58)
    assert run(database) == [], "its interval would say so, but one may look at any time"
    lived("new", 58, 58, times=2, batch="more")
    lived(None, 50, 20, id="rf-2")
    lived("new", 59, 60, times=3, id="rf-2")
    (first, second) = Retirement(database, "new").run()
    assert (first.reflection, second.reflection) == ("rf-2", "rf-1"), "the surest first"
    assert second.before.low > 0.2 and abs(second.under.mean) < 0.01 and second.under.high < 0.1
    assert (second.under.served, second.under.served_won, second.under.held_out, second.under.p) == (180, 174, 180, 1.0)
    assert second.reason.startswith("uplift +0.38") and " before, " in second.reason
    assert second.reason.endswith("under new")
    (operation,) = database.operations.recent()
    assert (operation.name, operation.changed) == ("retire", 2)
    assert database.versions.of("rf-1")[-1].change == f"retired: {second.reason}"
    History(database).undo(operation.id)
    assert {database.reflections.get(id).status for id in ("rf-1", "rf-2")} == {"active"}


@pytest.mark.parametrize(
    ("before", "under", "why"),
    [
        ((50, 20), (59, 40), "it still helps"),
        ((50, 20), (35, 35), "there is too little to say so"),
        ((22, 20), (59, 59), "it never credibly helped"),
        ((20, 50), (59, 59), "it harmed: that is another verdict"),
        ((50, 20), (53, 47), "what it is worth still is as much as is asked for"),
    ],
)
def test_what_is_not_credibly_gone_stays(database: Database, lived: Any, before: Any, under: Any, why: str) -> None:
    lived(None, *before)
    lived("new", *under, times=3)
    assert run(database) == [], why


def test_without_evidence_under_the_adapter_nothing_is_retired(database: Database, lived: Any) -> None:
    lived(None, 50, 20)
    lived("other", 59, 59, times=3)
    assert run(database) == []
    lived("new", 9, 9, of=9)
    assert run(database, worth=0.9) == [], "fewer than min_n on a side"
    lived("new", 59, 59, times=3, batch="more")
    assert run(database, worth=0.9) == ["rf-1"]


def test_evidence_of_all_others_counts_as_before(database: Database, lived: Any) -> None:
    lived("older", 50, 20)
    lived("new", 59, 59, times=3)
    assert run(database) == ["rf-1"]


def test_pinned_and_foreign_ones_are_left_alone_and_a_dry_run_changes_nothing(database: Database, lived: Any) -> None:
    lived(None, 50, 20, pinned=True)
    lived("new", 59, 59, times=3)
    lived(None, 50, 20, id="rf-2", namespace="theirs")
    lived("new", 59, 59, times=3, id="rf-2")
    assert Retirement(database, "new", namespace="").run() == []
    (found,) = Retirement(database, "new").run(dry_run=True)
    assert found.reflection == "rf-2" and database.reflections.get("rf-2").status == "active"
    assert database.operations.recent() == []


def test_one_that_was_brought_back_is_judged_by_what_was_recalled_since(database: Database, lived: Any) -> None:
    lived(None, 50, 20)
    lived("new", 59, 59, times=3)
    assert run(database) == ["rf-1"]
    back = database.reflections.get("rf-1").model_copy(update={"status": "active"})
    database.reflections.put(back, change="restored")
    assert run(database) == []
    lived("new", 59, 59, times=3, batch="later")
    assert run(database) == ["rf-1"]


def test_what_was_merged_into_one_counts_for_it_on_both_sides(
    database: Database, lived: Any, reflection: Callable[..., Reflection]
) -> None:
    lived(None, 50, 20, id="member")
    lived("new", 59, 59, times=3, id="member")
    lived("new", 9, 9, of=9)
    database.reflections.put(reflection("member", status="merged", merged_into="rf-1"))
    (found,) = Retirement(database, "new").run(dry_run=True)
    assert found.reflection == "rf-1"
    assert (found.before.served, found.before.held_out) == (60, 60)
    assert (found.under.served, found.under.served_won, found.under.held_out) == (189, 186, 189)
    lived("new", 60, 0, times=3, batch="survivor")
    assert run(database) == [], "the survivor's own episodes count beside those of its members"


def test_a_persons_word_on_what_was_merged_since_stands(
    database: Database, lived: Any, reflection: Callable[..., Reflection]
) -> None:
    lived(None, 50, 20, id="member")
    lived("new", 59, 59, times=3, id="member")
    assert run(database) == ["member"]
    database.reflections.put(reflection("member", status="active"), change="restored")
    database.reflections.put(reflection("rf-1"))
    database.reflections.put(reflection("member", status="merged", merged_into="rf-1"))
    assert run(database) == []


@pytest.mark.parametrize("wrong", [{"worth": 0.0}, {"level": 0.5}, {"min_n": 0}, {"prior": 0}, {"worht": 0.1}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        RetirementConfig(**wrong)  # type: ignore[arg-type]


def test_what_is_worth_just_as_much_as_is_asked_for_is_seldom_retired_however_often_it_is_looked_at() -> None:
    """An interval of 95 % at each of thirty looks would retire it in every fifth case."""
    chance, retired, odds, use = np.random.default_rng(0), 0, 0.5, 0.1
    for _ in range(100):
        served = chance.random(600) < odds
        won = chance.random(600) < np.where(served, 0.5 + use, 0.5)
        for count in range(20, 601, 20):
            s, w = served[:count], won[:count]
            seen = RecallEvidence("rf-1", "e", odds, s.sum(), (s & w).sum(), (~s).sum(), (~s & w).sum())
            if Strata(["rf-1"], [seen], {}, 10.0).less_than(use)[0] <= 0.05:
                retired += 1
                break
    assert retired <= 0.05 * 100 + 2 * (0.05 * 0.95 * 100) ** 0.5


def test_what_an_adapter_has_made_useless_is_retired_in_the_end() -> None:
    chance, found = np.random.default_rng(1), 0
    for _ in range(50):
        served, won = chance.random(2000) < 0.5, chance.random(2000) < 0.8
        seen = RecallEvidence("rf-1", "e", 0.5, *(int(x.sum()) for x in (served, served & won, ~served, ~served & won)))
        found += Strata(["rf-1"], [seen], {}, 10.0).less_than(0.1)[0] <= 0.05
    assert found >= 45
