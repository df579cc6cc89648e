"""Advice from other games: carried by wording, and as strong as it was seen to help."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentlab.agent.arms import Arm, RecallConfig
from agentlab.agent.recall import MemorySnapshot, Recalled
from agentlab.agent.spec import EpisodeSpec
from agentlab.agent.strength import GRID, Strength, note
from agentlab.lab import Lab
from agentlab.trajectories.advice import AdviceWeights
from agentlab.trajectories.tried import Tried
from environments import Task
from memory import CreditConfig, Database, HashingEmbedder, ReflectionMemory
from memory.records import Advice, Reflection
from memory.store import Filter

THERE = "You are in the kitchen. You see a fridge, a milk."
HERE = "You are in the kitchen. You see a fridge, a cheese."
COMMANDS = ["look", "put cheese in fridge", "take cheese"]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[ReflectionMemory]:
    gain = Advice(state=THERE, action="put milk in fridge", visits=1, value=0.5)
    with Database(tmp_path / "lab.db") as database:
        memory = ReflectionMemory(database, HashingEmbedder(), tmp_path / "memory.faiss")
        memory.remember(
            [
                Reflection(
                    id="far", kind="grounded", env="toy/doors", task="toy/doors:train:7", text="milk belongs there",
                    advice=[gain], created_at="2020-01-01T00:00:00+00:00",
                )
            ]
        )  # fmt: skip
        yield memory


def recalled_here(memory: ReflectionMemory, **config: Any) -> Recalled:
    arm = Arm("m", recall=RecallConfig(similarity=0.3, transfer=1.0, **config))
    spec = EpisodeSpec("now", Task(env="toy/doors", split="test", seed=0), arm)
    return MemorySnapshot(memory, "now", "2026-01-01").recall(spec, "Tidy up.", "")


def bonuses(memory: ReflectionMemory, commands: list[str], **config: Any) -> list[float]:
    return recalled_here(memory, **config).bonuses(HERE, commands, Tried(), AdviceWeights())


def test_advice_on_a_thing_that_is_not_here_serves_the_command_worded_alike(memory: ReflectionMemory) -> None:
    ((_, cosine, _),) = memory.similar_states(HERE, wanted=Filter(env="toy/doors"))
    # likeness 0.75 (three of four words), gain 3 * (0.5 + 0.5)
    recalled = recalled_here(memory)
    found = recalled.bonuses(HERE, COMMANDS, Tried(), AdviceWeights())
    assert found == [0.0, pytest.approx(0.75 * cosine * 3.0), 0.0]
    assert [(one.reflection, one.channel) for one in recalled.recalls] == [("far", "advice")]


def test_without_wording_only_the_very_command_counts(memory: ReflectionMemory) -> None:
    assert bonuses(memory, COMMANDS, wording=False) == [0.0, 0.0, 0.0]
    assert bonuses(memory, [*COMMANDS, "put milk in fridge"], wording=False)[3] > 0


def test_where_the_very_command_is_admissible_no_other_profits(memory: ReflectionMemory) -> None:
    assert [bonus > 0 for bonus in bonuses(memory, [*COMMANDS, "put milk in fridge"])] == [False, False, False, True]


def spec(seed: int, split: str, **config: Any) -> EpisodeSpec:
    task = Task(env="toy/doors", split=split, seed=seed)  # type: ignore[arg-type]
    return EpisodeSpec("now", task, Arm("m", recall=RecallConfig(**config)))


def test_held_out_games_use_the_best_strength_and_train_games_also_try_others(memory: ReflectionMemory) -> None:
    for place in range(20):
        note(memory.database, "toy/doors", None, f"ep-{place}", 2.0, True, at="2025-01-01")
        note(memory.database, "toy/doors", None, f"late-{place}", 4.0, True, at="2027-01-01")
    recaller = MemorySnapshot(memory, "now", "2026-01-01", credit=CreditConfig())
    assert {recaller.strength(spec(seed, "test")) for seed in range(40)} == {2.0}
    tried = [recaller.strength(spec(seed, "train")) for seed in range(200)]
    assert set(tried) <= set(GRID)
    assert 0.6 < tried.count(2.0) / 200 < 1
    assert tried == [recaller.strength(spec(seed, "train")) for seed in range(200)]
    assert recaller.strength(spec(0, "train", credit=False)) == 1.0
    assert recaller.strength(spec(0, "train", advice=False)) == 1.0


def test_a_run_on_train_games_teaches_the_strength_and_a_held_out_one_does_not(
    open_lab: Callable[..., Lab],
) -> None:
    lab = open_lab()
    arm = Arm("m", recall=RecallConfig())
    lab.run("toy/doors", split="train", seeds=range(12), arm=arm, trials=1)
    lab.run("toy/doors", split="dev", seeds=range(3), arm=arm, trials=1)
    known = Strength.known(lab.database, "toy/doors", None, before="9999")
    assert sum(known.won.values()) + sum(known.lost.values()) == 12
    played = [row.id for row in lab.database.episodes.find() if row.minimised_from is None]
    episodes = lab.database.episodes.load(played)
    used = [episode.strength for episode in episodes if episode.split == "train" and episode.won]
    assert sorted(used) == sorted(known.won.elements())


def test_advice_that_says_too_little_to_be_given_is_not_recalled(memory: ReflectionMemory) -> None:
    full = bonuses(memory, COMMANDS)
    recalled = recalled_here(memory)
    assert recalled.bonuses(HERE, COMMANDS, Tried(), AdviceWeights(), max(full) + 0.1) == [0.0] * len(COMMANDS)
    assert recalled.recalls == [] and recalled.ids == []
    assert recalled.bonuses(HERE, COMMANDS, Tried(), AdviceWeights(), max(full) - 0.1) == full
    assert recalled.ids == ["far"]
