"""What faded is forgotten, by the corrected formula, and nothing that is wanted."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from memory import Database, Recall, Reflection, ReflectionMemory
from memory.consolidation import forgetting
from memory.consolidation.forgetting import retention
from memory.consolidation.job import Job

Maker = Callable[..., Reflection]


def day(number: int) -> str:
    """A day of June 2030; the job's clock stands at its 30th."""
    return f"2030-06-{number:02}T00:00:00.000000+00:00"


def faded(job: Job) -> list[str]:
    return [action.items[0] for action in forgetting.plan(job).actions]


def test_retention_falls_more_slowly_the_more_often_something_was_recalled() -> None:
    assert retention(0, 0) == 1
    assert retention(5, 0) == pytest.approx(math.exp(-1))
    assert retention(10, 1) == pytest.approx(math.exp(-1))
    assert retention(30, 2) == pytest.approx(math.exp(-2))
    assert retention(-1, 0) == 1


def test_what_lies_below_the_threshold_is_forgotten_and_can_be_restored(
    memory: ReflectionMemory, database: Database, reflection: Maker, job: Callable[..., Job]
) -> None:
    # exp(−t / 5) < 0.05 from t = 14.98 days on.
    memory.remember([reflection(f"d{at}", f"note {at}", created_at=day(at), updated_at=day(at)) for at in (15, 16)])
    here = job(forget_below=0.05)
    (action,) = forgetting.plan(here).actions
    assert (action.items, action.reason) == (("d15",), "never recalled, retention 0.0498")
    assert action.apply(here) and not action.apply(here)
    assert database.reflections.get("d15").status == "forgotten"
    assert database.versions.of("d15")[-1].change == "faded"
    memory.restore("d15")
    assert faded(job(forget_below=0.05)) == []
    assert faded(job(forget_below=0)) == []


def test_recalls_strengthen_and_a_win_keeps(
    memory: ReflectionMemory, database: Database, reflection: Maker, job: Callable[..., Job]
) -> None:
    old = {"created_at": "2030-01-01T00:00:00+00:00", "updated_at": "2030-01-01T00:00:00+00:00"}
    names = ("never", "lately", "twice", "won", "pinned", "summary", "edited")
    special = {"pinned": {"pinned": True}, "summary": {"tier": "summary"}, "edited": {"updated_at": day(29)}}
    memory.remember([reflection(id, f"note {id}", **{**old, **special.get(id, {})}) for id in names])
    recalls = [("lately", "ep-1", 29, False), ("twice", "ep-1", 1, False), ("twice", "ep-2", 2, None)]
    recalls.append(("won", "ep-3", 1, True))
    database.recalls.put(
        [
            Recall(episode=episode, reflection=id, rank=0, query="q", score=1.0, at=day(at), won=won)
            for id, episode, at, won in recalls
        ]
    )
    # `twice`: 28 days at S = 3, exp(−28 / 15) = 0.155.
    assert faded(job(forget_below=0.15)) == ["never"]
    assert faded(job(forget_below=0.16)) == ["never", "twice"]


def test_where_lots_were_drawn_only_a_measured_use_keeps(
    memory: ReflectionMemory, database: Database, reflection: Maker, job: Callable[..., Job]
) -> None:
    old = {"created_at": "2010-01-01T00:00:00+00:00", "updated_at": "2010-01-01T00:00:00+00:00"}
    # (served, won), (held out, won)
    sides = {
        "helps": ((40, 30), (40, 5)), "idle": ((40, 30), (40, 30)), "harms": ((40, 5), (40, 30)),
        "unsure": ((2, 2), (1, 0)), "open": ((1, None), (0, 0)),
    }  # fmt: skip
    memory.remember([reflection(id, f"note {id}", **old) for id in (*sides, "family")])
    memory.remember([reflection("twin", "note twin", status="merged", merged_into="family", **old)])
    for id, (served, held_out) in {**sides, "twin": sides["helps"]}.items():
        database.recalls.put(
            [
                Recall(
                    episode=f"{id}-{side}-{number}", reflection=id, rank=0, query="q", score=1.0, env="e",
                    held_out=side, at="2010-01-02T00:00:00+00:00", propensity=0.5,
                    won=None if won is None else number < won,
                )
                for side, (n, won) in ((False, served), (True, held_out))
                for number in range(n)
            ]
        )  # fmt: skip
    # One that lots were drawn over is not kept by a win that no lot decided.
    certain = Recall(
        episode="ep", reflection="open", rank=0, query="q", score=1.0, env="e", won=True, at=old["created_at"]
    )
    database.recalls.put([certain])
    here = job(forget_below=0.5)
    plan = forgetting.plan(here).actions
    assert [action.items[0] for action in plan] == ["idle", "harms", "unsure", "open"]
    assert plan[0].reason.startswith("recalled 40 times without a measured use, retention")
    assert memory.credit.helpful(["helps", "harms", "family", "absent"]) == {
        "helps": True, "harms": False, "family": True,
    }  # fmt: skip
    database.recalls.put(
        [
            Recall(episode=f"later-{n}-{side}", reflection="idle", rank=0, query="q", score=1.0, env="e", held_out=side,
                   at="2010-01-02T00:00:00+00:00", propensity=0.5, won=not side)
            for n in range(60) for side in (False, True)
        ]
    )  # fmt: skip
    assert [action.apply(here) for action in plan] == [False, True, True, True], "the first was found to help since"


def test_another_namespace_is_not_forgotten(database: Database, reflection: Maker, job: Callable[..., Job]) -> None:
    database.reflections.put(reflection("a", namespace="bob", created_at=day(1), updated_at=day(1)))
    assert faded(job(forget_below=0.5)) == []


def test_what_was_pinned_since_the_plan_stays(
    memory: ReflectionMemory, database: Database, reflection: Maker, job: Callable[..., Job]
) -> None:
    memory.remember([reflection("a", created_at=day(1), updated_at=day(1))])
    here = job(forget_below=0.5)
    (action,) = forgetting.plan(here).actions
    memory.pin("a")
    assert not action.apply(here) and database.reflections.get("a").status == "active"
