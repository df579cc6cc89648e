"""What was measured decides what is recalled: on train games at random, on held-out games as far as it is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentlab.agent.arms import Arm, RecallConfig
from agentlab.agent.recall import MemorySnapshot
from agentlab.agent.spec import EpisodeSpec
from agentlab.lab import Lab
from agentlab.trajectories.advice import AdviceWeights
from agentlab.trajectories.tried import Tried
from environments import Task
from memory import CreditConfig, Database, HashingEmbedder, ReflectionMemory, Weights
from memory.records import Advice, Recall, Reflection

HALF = CreditConfig(hold_out=0.5, max_cost=1.0)
STATE = "You are in the attic. You see a note."
ONE = Arm("m", recall=RecallConfig(exemplars=1, similarity=0.3, transfer=1.0))


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[ReflectionMemory]:
    with Database(tmp_path / "lab.db") as database:
        memory = ReflectionMemory(database, HashingEmbedder(), tmp_path / "memory.faiss", weights=Weights(recency=0.0))
        memory.remember([example("good"), example("bad")])
        yield memory


def example(id: str, **rest: Any) -> Reflection:
    fields = {"kind": "exemplar", "env": "toy/doors", "task": "toy/doors:train:777", "text": f"Read the note. {id}"}
    return Reflection.model_validate({"id": id, "created_at": "2020-01-01T00:00:00+00:00", **fields, **rest})


def spec(seed: int, split: str = "train") -> EpisodeSpec:
    return EpisodeSpec("now", Task(env="toy/doors", split=split, seed=seed), ONE)  # type: ignore[arg-type]


def measured(memory: ReflectionMemory, id: str, served: int, held_out: int, of: int = 60) -> None:
    """As if `id` had been served and held out in `of` episodes each, of which so many were won."""
    memory.database.recalls.put(
        [
            Recall(
                episode=f"{id}-{side}-{n}", reflection=id, rank=0, query="q", score=1.0, env="toy/doors",
                held_out=side == "w", propensity=0.5, won=n < won, at="2025-01-01T00:00:00+00:00",
            )
            for side, won in (("s", served), ("w", held_out))
            for n in range(of)
        ]
    )  # fmt: skip


def recaller(memory: ReflectionMemory) -> MemorySnapshot:
    return MemorySnapshot(memory, "now", "2026-01-01", credit=HALF)


def test_on_train_games_some_are_held_out_by_lot_and_recorded_so(memory: ReflectionMemory) -> None:
    found = [recaller(memory).recall(spec(seed), "Find the coin.", STATE) for seed in range(40)]
    hints, drawn = [one.hints for one in found], [one.recalls[0] for one in found]
    assert 8 < sum(recall.held_out for recall in drawn) < 32
    assert {recall.propensity for recall in drawn} == {0.5}
    for block, recall in zip(hints, drawn, strict=True):
        assert (recall.reflection in block) == (not recall.held_out)
    again = [recaller(memory).recall(spec(seed), "Find the coin.", STATE).hints for seed in range(40)]
    assert again == hints, "an episode that is played again draws the same lots"


def test_on_held_out_games_nothing_is_held_out_and_the_better_one_is_recalled(memory: ReflectionMemory) -> None:
    measured(memory, "good", served=50, held_out=20)
    measured(memory, "bad", served=20, held_out=50)
    for seed in range(10):
        found = recaller(memory).recall(spec(seed, "test"), "Find the coin.", STATE)
        assert found.hints.endswith("good")
        assert [recall.held_out for recall in found.recalls] == [False]


def test_advice_of_other_games_is_held_out_where_it_would_have_entered_a_score(memory: ReflectionMemory) -> None:
    gain = [Advice(state=STATE, action="read note", visits=1, value=0.5)]
    memory.remember([example("tip", kind="grounded", advice=gain)])
    outcomes = set()
    for seed in range(20):
        recalled = recaller(memory).recall(spec(seed), "Find the coin.", STATE)
        bonus = recalled.bonuses(STATE, ["look", "read note"], Tried(), AdviceWeights())
        assert recalled.bonuses(STATE, ["look", "read note"], Tried(), AdviceWeights()) == bonus
        (recall,) = [one for one in recalled.recalls if one.channel == "advice"]
        assert recall.held_out == (bonus[1] == 0.0)
        assert ("tip" in recalled.ids) == (not recall.held_out)
        outcomes.add(recall.held_out)
    assert outcomes == {True, False}


def test_a_run_on_train_games_benches_what_credibly_harms_and_says_so(open_lab: Callable[..., Lab], told: Any) -> None:
    lab = open_lab(progress=told)
    lab.memory.remember([example("bad")])
    measured(lab.memory, "bad", served=10, held_out=50)
    lab.run("toy/doors", split="train", seeds=[0], arm=ONE, trials=1)
    assert lab.database.reflections.get("bad").status == "benched"
    assert any("bad is benched" in line and "restore" in line for line in told.messages)
    lab.memory.restore("bad")
    lab.run("toy/doors", split="train", seeds=[1], arm=ONE, trials=1)
    assert lab.database.reflections.get("bad").status == "active", "a person overruled it"


def test_an_episode_from_which_all_was_held_out_counts_as_one_without(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab(hold_out=0.5, hold_out_cost=1.0)
    lab.memory.remember([example("only")])
    lab.run("toy/doors", split="train", seeds=range(12), arm=ONE, trials=1, reflectors=[])
    drawn = lab.database.recalls.of_reflection("only")
    assert {one.held_out for one in drawn} == {True, False}
    assert all(one.won is not None for one in drawn)


def test_without_credit_nothing_is_held_out_and_nobody_is_judged(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab(credit=False)
    lab.memory.remember([example("bad")])
    measured(lab.memory, "bad", served=10, held_out=50)
    lab.run("toy/doors", split="train", seeds=range(30), arm=ONE, trials=1)
    served = [
        one
        for one in lab.database.recalls.of_reflection("bad")
        if one.won is not None and one.episode.startswith("ep-")
    ]
    assert served and not any(recall.held_out for recall in served)
    assert lab.database.reflections.get("bad").status == "active"
