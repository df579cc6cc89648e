"""Probation: what came from outside is served by lot, takes no place, and is let in or benched by what was measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory import CreditConfig, Database, HashingEmbedder, Recall, Reflection, ReflectionMemory, Weights
from memory.credit import Credit
from memory.records import Advice
from memory.store import Filter, History, Mending

ENV = "toy/doors"
SHARE = CreditConfig(probation=0.25)
STATE = "You are in the attic. You see a note."


@pytest.fixture
def memory(database: Database, tmp_path: Path) -> ReflectionMemory:
    return ReflectionMemory(database, HashingEmbedder(), tmp_path / "memory.faiss", weights=Weights(recency=0.0))


@pytest.fixture
def keep(memory: ReflectionMemory, reflection: Callable[..., Reflection]) -> Callable[..., None]:
    """Keeps a note of this lab's own, or of a `source`."""

    def put(id: str, text: str, **values: Any) -> None:
        memory.database.reflections.put(reflection(id, env=ENV, text=text, task=f"{ENV}:train:7", **values))

    return put


def served(memory: ReflectionMemory, episode: str, *, credit: Credit | None = None, lots: bool = True) -> list[str]:
    found = memory.recall(
        "read the note", episode=episode, wanted=Filter(env=ENV), k=1, credit=credit, lots=lots, recorded=[]
    )
    return [hit.reflection.id for hit in found]


def lived(
    database: Database, id: str, served: tuple[int, int], held_out: tuple[int, int], *, name: str = "past"
) -> None:
    """Episodes in which a lot of probation decided over `id`: (n, won), at now."""
    database.recalls.put(
        [
            Recall(
                episode=f"{name}-{id}-{side}-{n}", reflection=id, rank=0, query="q", score=1.0, env=ENV, held_out=side,
                propensity=0.25, won=n < won,
            )
            for side, (of, won) in ((False, served), (True, held_out))
            for n in range(of)
        ]
    )  # fmt: skip


def test_what_came_from_outside_serves_a_share_of_episodes_and_takes_no_place_in_the_others(
    memory: ReflectionMemory, keep: Callable[..., None]
) -> None:
    keep("own", "The note is worth a look.")
    keep("theirs", "Read the note, read the note.", source="import:x")
    credit = Credit(memory.database, SHARE)
    found = [served(memory, f"ep-{n}", credit=credit) for n in range(400)]
    share = sum("theirs" in ids for ids in found) / 400
    assert share == pytest.approx(0.25, abs=0.07)
    # Own notes are held out themselves now and then, in one of ten.
    assert sum("own" in ids for ids in found) / sum("theirs" not in ids for ids in found) > 0.85


def test_held_out_games_and_games_without_credit_never_recall_it(
    memory: ReflectionMemory, keep: Callable[..., None]
) -> None:
    keep("theirs", "Read the note.", source="mcp:helper")
    credit = Credit(memory.database, SHARE)
    off = Credit(memory.database, CreditConfig(probation=0.0))
    assert not any(served(memory, f"ep-{n}", credit=credit, lots=False) for n in range(50))
    assert not any(served(memory, f"ep-{n}", credit=off) for n in range(50))


def test_however_many_names_clients_give_themselves_one_lot_decides(
    memory: ReflectionMemory, keep: Callable[..., None]
) -> None:
    for n in range(12):
        keep(f"note-{n}", f"Read the note {n}.", source=f"mcp:helper-{n}")
    credit = Credit(memory.database, SHARE)
    for n in range(60):
        drawn = credit.split(f"ep-{n}", [f"note-{m}" for m in range(12)], env=ENV)
        assert len({draw.held_out for draw in drawn}) == 1


def test_what_two_origins_brought_is_decided_apart(memory: ReflectionMemory, keep: Callable[..., None]) -> None:
    keep("a", "Read the note.", source="import:a")
    keep("b", "Read the note!", source="import:b")
    credit = Credit(memory.database, SHARE)
    fell = {tuple(draw.held_out for draw in credit.split(f"ep-{n}", ["a", "b"], env=ENV)) for n in range(200)}
    assert len(fell) == 4


def test_its_action_priors_do_not_crowd_out_those_of_the_lab(memory: ReflectionMemory) -> None:
    def prior(id: str, state: str, source: str = "") -> Reflection:
        return Reflection(
            id=id, kind="grounded", env=ENV, task=f"{ENV}:train:7", text=id, source=source,
            advice=[Advice(state=state, action="read note", value=1.0)],
        )  # fmt: skip

    near = [prior(f"theirs-{n}", f"{STATE} {'!' * n}", "import:x") for n in range(9)]
    memory.remember([prior("own", f"{STATE} And a door."), *near])
    wanted = Filter(env=ENV)
    assert "own" in [id for _, _, id in memory.similar_states(STATE, wanted=wanted, k=3)]
    without = memory.similar_states(STATE, wanted=Filter(env=ENV, on_probation=False), k=3)
    assert [id for _, _, id in without] == ["own"]


def test_an_origin_that_hurts_is_benched_whole_in_one_operation(database: Database, keep: Callable[..., None]) -> None:
    for id in ("bad", "untried"):
        keep(id, f"Look. {id}", source="import:x")
    keep("other", "Look.", source="import:y")
    lived(database, "bad", (30, 2), (90, 60))
    (judged,) = Credit(database, SHARE).probation.review()
    assert (judged.outcome, judged.reflections) == ("benched", ["bad", "untried"])
    assert [database.reflections.get(id).status for id in ("bad", "untried", "other")] == [
        "benched",
        "benched",
        "active",
    ]
    (operation,) = History(database).operations(limit=1)
    assert (operation.name, operation.changed) == ("bench", 2)
    assert Credit(database, SHARE).probation.review() == []


def test_what_a_person_brought_back_is_judged_only_by_what_was_recalled_since(
    database: Database, keep: Callable[..., None]
) -> None:
    keep("bad", "Look.", source="import:x")
    lived(database, "bad", (30, 2), (90, 60))
    credit = Credit(database, SHARE)
    credit.probation.review()
    Mending(database).apply("restore", ["bad"])
    assert credit.probation.review() == []
    assert database.reflections.get("bad").on_probation
    lived(database, "bad", (30, 2), (90, 60), name="since")
    assert [one.outcome for one in credit.probation.review()] == ["benched"]


def test_of_an_origin_that_helps_only_what_was_tried_and_did_not_lose_is_let_in(
    database: Database, keep: Callable[..., None]
) -> None:
    for id in ("good", "ridden", "untried"):
        keep(id, f"Read the note. {id}", source="import:x")
    lived(database, "good", (40, 38), (120, 50))
    lived(database, "ridden", (5, 0), (15, 10))
    (judged,) = Credit(database, SHARE).probation.review()
    assert (judged.outcome, judged.reflections) == ("vouched", ["good"])
    assert {id: database.reflections.get(id).on_probation for id in ("good", "ridden", "untried")} == {
        "good": False, "ridden": True, "untried": True
    }  # fmt: skip
    # The trial of the others begins anew: what the good one won says nothing for them.
    assert Credit(database, SHARE).probation.review() == []


def test_what_makes_no_difference_stays_on_probation(database: Database, keep: Callable[..., None]) -> None:
    keep("idle", "Look.", source="import:x")
    lived(database, "idle", (60, 30), (240, 120))
    assert Credit(database, SHARE).probation.review() == []
    assert database.reflections.get("idle").on_probation


def test_an_episode_counts_once_however_much_of_an_origin_it_met(database: Database, keep: Callable[..., None]) -> None:
    for n in range(10):
        keep(f"note-{n}", f"Look {n}.", source="import:x")
    database.recalls.put(
        [
            Recall(
                episode=f"ep-{episode}", reflection=f"note-{n}", rank=n, query="q", score=1.0, env=ENV,
                held_out=episode % 2 == 0, propensity=0.25, won=episode % 2 == 0,
            )
            for episode in range(8)
            for n in range(10)
        ]
    )  # fmt: skip
    # Eight episodes are too few, though there are eighty recalls.
    assert Credit(database, SHARE).probation.review() == []


def test_holding_out_what_is_on_probation_costs_the_lab_nothing(database: Database, keep: Callable[..., None]) -> None:
    keep("good", "Read the note.", source="import:x")
    lived(database, "good", (40, 38), (120, 50))
    assert Credit(database, SHARE).cost().held_out == 0


def test_a_person_vouches_or_pins_and_an_undo_takes_it_back(database: Database, keep: Callable[..., None]) -> None:
    for id in ("theirs", "pinned"):
        keep(id, "Read the note.", source="import:x")
    keep("own", "Read it.")
    done = Mending(database).apply("vouch", ["theirs", "own"])
    Mending(database).apply("pin", ["pinned"])
    assert [one.id for one in done.changed] == ["theirs"]
    assert not any(database.reflections.get(id).on_probation for id in ("theirs", "pinned", "own"))
    assert database.reflections.count(Filter(on_probation=True)) == 0
    History(database).undo(done.operation or "")
    assert database.reflections.get("theirs").on_probation
    assert Mending(database).meant("vouch", Filter()) == ["theirs"]


@pytest.mark.parametrize("share", [-0.1, 0.5, 1.0])
def test_the_share_of_probation_is_less_than_half(share: float) -> None:
    with pytest.raises(ValueError, match="probation"):
        CreditConfig(probation=share)
