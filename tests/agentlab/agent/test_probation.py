"""What came from outside plays by lot on train games, and nowhere else, until it was measured to help."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentlab.agent.arms import Arm, RecallConfig
from agentlab.agent.recall import MemorySnapshot, Recalled
from agentlab.agent.spec import EpisodeSpec
from agentlab.lab import Lab
from agentlab.trajectories.advice import AdviceWeights
from agentlab.trajectories.tried import Tried
from environments import Task
from memory import CreditConfig, Database, HashingEmbedder, ReflectionMemory, Weights
from memory.records import Advice, Recall, Reflection, now

STATE = "You are in the attic. You see a note."
COMMANDS = ["look", "read note"]
EARLY = "2020-01-01T00:00:00+00:00"
ARM = Arm("m", recall=RecallConfig(exemplars=1, text=1, similarity=0.3, transfer=1.0))


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[ReflectionMemory]:
    with Database(tmp_path / "lab.db") as database:
        memory = ReflectionMemory(database, HashingEmbedder(), tmp_path / "memory.faiss", weights=Weights(recency=0.0))
        memory.remember([item("own", action="read note")])
        memory.remember([item(f"theirs-{n}", action="look", source="import:x") for n in range(9)])
        yield memory


def item(id: str, action: str, task: str = "toy/doors:train:777", **rest: Any) -> Reflection:
    """An example with an action prior that pulls towards its action."""
    return Reflection(
        id=id, kind="exemplar", env="toy/doors", task=task, text=f"In the attic: {action}. {id}", created_at=EARLY,
        advice=[Advice(state=STATE, action=action, visits=1, value=1.0)], **rest,
    )  # fmt: skip


def played(memory: ReflectionMemory, seed: int, split: str = "train", *, credit: bool = True) -> Recalled:
    """What an episode recalls, with the advice of its first step."""
    # Nothing of the lab's own is held out, so that only what came from outside can differ.
    snapshot = MemorySnapshot(memory, "now", now(), credit=CreditConfig(hold_out=0.0) if credit else None)
    recalled = snapshot.recall(EpisodeSpec("now", Task(env="toy/doors", split=split, seed=seed), ARM), "Win.", STATE)  # type: ignore[arg-type]
    recalled.bonuses(STATE, COMMANDS, Tried(), AdviceWeights())
    return recalled


def outside(recalled: Recalled) -> bool:
    return any(id.startswith("theirs") for id in recalled.ids)


@pytest.mark.parametrize(("split", "credit"), [("test", True), ("dev", True), ("train", False)])
def test_held_out_games_and_games_that_measure_nothing_are_played_without_it(
    memory: ReflectionMemory, split: str, credit: bool
) -> None:
    for seed in range(30):
        recalled = played(memory, seed, split, credit=credit)
        assert recalled.ids == ["own"] and [one.reflection for one in recalled.recalls][:1] == ["own"]
        assert recalled.bonuses(STATE, COMMANDS, Tried(), AdviceWeights())[0] == 0.0


def test_one_lot_decides_over_example_and_action_priors_and_where_it_says_no_the_own_ones_serve(
    memory: ReflectionMemory,
) -> None:
    found = [played(memory, seed) for seed in range(120)]
    assert 10 < sum(map(outside, found)) < 45
    for recalled in found:
        look, read = recalled.bonuses(STATE, COMMANDS, Tried(), AdviceWeights())
        # The own priors stand in either case; those from outside come in with the lot.
        assert read > 0 and (look > 0) == outside(recalled)
        assert outside(recalled) or ("own" in recalled.hints and "theirs" not in recalled.hints)
        lots = {one.held_out for one in recalled.recalls if one.reflection.startswith("theirs")}
        assert len(lots) == 1 and lots == {not outside(recalled)}


def test_a_resumed_episode_keeps_its_lot(memory: ReflectionMemory) -> None:
    for seed in range(30):
        first, snapshot = played(memory, seed), MemorySnapshot(memory, "now", now(), credit=CreditConfig(hold_out=0.0))
        spec = EpisodeSpec("now", Task(env="toy/doors", split="train", seed=seed), ARM)
        again = snapshot.restore(spec, first.ids, first.hints, first.recalls, before=None)
        assert again.bonuses(STATE, COMMANDS, Tried(), AdviceWeights()) == first.bonuses(
            STATE, COMMANDS, Tried(), AdviceWeights()
        )


def test_what_a_file_says_of_the_very_game_that_is_played_weighs_nothing(memory: ReflectionMemory) -> None:
    memory.remember([item("told", "look", task="toy/doors:train:3", source="import:y")])
    assert played(memory, 3).task_book.source(STATE, "look") is None
    memory.remember([item("lived", "look", task="toy/doors:train:3")])
    assert played(memory, 3).task_book.source(STATE, "look") == "lived"


def test_a_run_on_train_games_ends_a_trial_that_says_enough_and_says_so(
    open_lab: Callable[..., Lab], told: Any
) -> None:
    lab = open_lab(progress=told)
    for id, source, won in (("good", "import:x", (38, 40)), ("bad", "import:y", (2, 110))):
        lab.memory.remember([item(id, "look", source=source)])
        lab.database.recalls.put(
            [
                Recall(
                    episode=f"{id}-{side}-{n}", reflection=id, rank=0, query="q", score=1.0, env="toy/doors",
                    held_out=bool(side), propensity=0.2, won=n < won[side],
                )
                for side, of in ((0, 40), (1, 160))
                for n in range(of)
            ]
        )  # fmt: skip
    lab.run("toy/doors", split="train", seeds=[0], arm=ARM, trials=1)
    assert lab.database.reflections.get("bad").status == "benched"
    assert not lab.database.reflections.get("good").on_probation
    assert any("benched with what import:y brought" in line for line in told.messages)
    assert any("vouched with what import:x brought" in line for line in told.messages)
