"""At its end a round takes memory out of use that the adapter no longer needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentlab.lab import Lab
from agentlab.rounds import RoundReport
from agentlab.rounds.retiring import retire, rollback
from memory.records import Advice, Episode, Recall, Reflection
from memory.store import EpisodeFilter, Filter
from trainers.adapters.registry import SERVING

Opened = Callable[..., Lab]
Made = Callable[..., RoundReport]
ENV = "toy/doors?colours=2,rooms=1,step_limit=4"


def example(id: str, **more: Any) -> Reflection:
    fields = {"kind": "exemplar", "env": ENV, "task": f"{ENV}:train:900", "text": "Read the note first."}
    return Reflection.model_validate({"id": id, "created_at": "2020-01-01T00:00:00+00:00", **fields, **more})


def lived(lab: Lab, adapter: str | None, served: int, held_out: int, of: int = 60) -> None:
    """As if rf-1 had been served to and held out from `of` episodes each, of which so many were won."""
    for side, won in (("s", served), ("w", held_out)):
        for n in range(of):
            id = f"{adapter}-{side}-{n}"
            status: Any = "won" if n < won else "lost"
            lab.database.episodes.put(
                Episode(id=id, run="r", env=ENV, split="train", seed=n, adapter=adapter, status=status)
            )
            recall = Recall(
                episode=id, reflection="rf-1", rank=0, query="q", score=1.0, env=ENV, won=n < won,
                held_out=side == "w", propensity=0.5,
            )  # fmt: skip
            lab.database.recalls.put([recall])


@pytest.fixture
def lab(skilled: Opened) -> Lab:
    """A lab where adapter-good serves and has internalised rf-1, which helped the base."""
    lab = skilled()
    lab.memory.remember([example("rf-1")])
    lab.database.settings.put(SERVING, "adapter-good")
    lived(lab, None, served=50, held_out=20)
    lived(lab, "adapter-good", served=178, held_out=178, of=180)
    return lab


def test_what_the_adapter_has_learned_is_retired_with_the_reason_and_can_be_undone(lab: Lab, report: Made) -> None:
    made = report()
    assert retire(lab, made) == "done"
    assert lab.database.reflections.get("rf-1").status == "retired"
    assert list(made.retired) == ["rf-1"] and made.retired["rf-1"].endswith("under adapter-good")
    assert lab.database.rounds.get("round-1") is not None, "stored in the same transaction"
    assert lab.memory.recall("note", wanted=Filter(env=ENV), episode="e") == []
    lab.memory.restore("rf-1")
    assert lab.database.reflections.get("rf-1").status == "active"


def test_a_dry_run_only_says_what_it_would_do(lab: Lab, report: Made) -> None:
    made = report(retire="dry-run")
    retire(lab, made)
    assert list(made.retired) == ["rf-1"] and lab.database.reflections.get("rf-1").status == "active"


def test_a_node_that_is_done_again_keeps_what_it_reported(lab: Lab, report: Made) -> None:
    made = report()
    retire(lab, made)
    said = dict(made.retired)
    retire(lab, made)
    assert made.retired == said and len(lab.database.operations.recent()) == 1


def test_without_an_adapter_or_when_it_is_off_nothing_is_looked_at(lab: Lab, report: Made) -> None:
    retire(lab, off := report(retire="off"))
    lab.database.settings.put(SERVING, None)
    retire(lab, base := report())
    assert off.retired == base.retired == {} and lab.database.reflections.get("rf-1").status == "active"


def test_a_promoted_adapter_is_watched_where_that_is_asked_for(skilled: Opened, report: Made, told: Any) -> None:
    lab = skilled(progress=told)
    advice = [Advice(state="elsewhere", action="look", visits=1, value=0.5)]
    lab.memory.remember([example("rf-1", advice=advice)])
    lab.database.settings.put(SERVING, "adapter-good")
    made = report(envs=[ENV], retire_games=20)
    made.promoted = True
    retire(lab, made)
    rows = lab.database.episodes.find(EpisodeFilter(run="round-1-retire"))
    assert {row.adapter for row in rows} == {"adapter-good"}
    assert {row.seed for row in rows} == set(range(5, 25)), "games behind those of the round"
    drawn = lab.database.recalls.of_reflection("rf-1")
    assert {recall.propensity for recall in drawn} == {0.5} and {recall.held_out for recall in drawn} == {True, False}
    assert lab.memory.count() == 1, "nothing is learned from them"
    rejected = report(envs=[ENV], retire_games=20)
    rejected.promoted = False
    retire(lab, rejected)
    assert len(lab.database.episodes.find(EpisodeFilter(run="round-1-retire"))) == 20


def test_what_was_retired_for_an_adapter_comes_back_with_its_rollback(
    lab: Lab, report: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainers.adapters.registry import AdapterRegistry

    retire(lab, report())
    lab.memory.remember([example("rf-2", text="Look behind the red door.")])
    lab.memory.forget("rf-2")
    monkeypatch.setattr(AdapterRegistry, "rollback", lambda self: self.database.settings.put(SERVING, None))
    assert rollback(lab) == (None, ["rf-1"])
    assert lab.database.reflections.get("rf-1").status == "active"
    assert lab.database.reflections.get("rf-2").status == "forgotten", "a person's own doing stays"
    assert lab.database.versions.of("rf-1")[-1].change == "restored: adapter-good was rolled back"


def test_what_was_retired_for_another_adapter_stays_out(lab: Lab, report: Made) -> None:
    from memory.credit.retirement import Retirement

    retire(lab, report())
    assert Retirement(lab.database, "adapter-goo").undo() == Retirement(lab.database, "good").undo() == []
    assert lab.database.reflections.get("rf-1").status == "retired"
