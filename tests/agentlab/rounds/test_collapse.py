"""A job fed with wrong successes is stopped by the gate, and what serves goes on serving."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, TrainingConfig
from memory.store import EpisodeFilter
from trainers import job
from trainers.data.selection import SelectionConfig
from trainers.gate.gate import GateConfig

ENV = "toy/doors?colours=2,rooms=1,step_limit=4"
GOOD = RoundConfig(
    envs=[ENV],
    seeds=12,
    gate_seeds=30,
    held_out_seeds=5,
    selection=SelectionConfig(cap_per_task=1, cap_per_env=None),
    training=TrainingConfig(learning_rate=5e-3, epochs=4),
    gate=GateConfig(min_pairs=10),
)


def flip(lab: Lab, count: int) -> set[str]:
    """Play at random on games that nobody played yet, and enter `count` of the lost episodes as won."""
    lab.run(ENV, seeds=range(100, 180), trials=1, arm="random", name="mislabelled")
    rows = lab.database.episodes.find(EpisodeFilter(run="mislabelled", status="lost"))[:count]
    assert len(rows) == count
    for episode in lab.database.episodes.load([row.id for row in rows]):
        lab.database.episodes.put(episode.model_copy(update={"status": "won", "score": 1.0}))
    return {row.id for row in rows}


def test_wrong_successes_do_not_get_past_the_gate(tmp_path: Path, open_at: Callable[..., Lab]) -> None:
    with open_at(tmp_path / "lab") as lab:
        first = lab.round(GOOD)
        assert first.promoted and lab.serving() == first.adapter
        wrong = flip(lab, 8)
        won = {row.id for row in lab.database.episodes.find(EpisodeFilter(run="mislabelled", status="won"))} - wrong
        for id in won:  # what chance did win is left out, so that the share of wrong ones is known
            lab.database.episodes.put(lab.database.episodes.get(id).model_copy(update={"split": "dev"}))

        second = lab.round(GOOD.model_copy(update={"collect": "none"}))

        trained_on = job.load(lab.folder / "jobs" / second.id).lineage.episodes
        assert len(wrong & set(trained_on)) == 8 and len(trained_on) == 20, "40 % of them are wrong"
        assert second.promoted is False and second.adapter != first.adapter
        assert lab.serving() == first.adapter
        assert lab.adapters.get(str(second.adapter)).status == "rejected"
        rates = second.gate["candidate"], second.gate["incumbent"]
        assert rates[0]["won"] <= rates[1]["won"], "it plays no better than what serves"
        lab.run(ENV, split="test", seeds=[0], trials=1, arm="adapter")
        assert {row.adapter for row in lab.database.episodes.find(EpisodeFilter(arm="adapter"))} == {first.adapter}
