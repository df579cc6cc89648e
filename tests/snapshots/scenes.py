"""What games decide and score, what a round selects, trains and concludes: each scene as plain data.

`SNAPSHOTS=write python -m pytest tests/snapshots` writes the files beside it anew; without that the tests hold every
change to them. Ids and what a clock says are left out: they may change where no decision does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from agentlab import Lab, LabConfig, RoundConfig
from agentlab.engines import hub
from agentlab.engines.scripted import ScriptedEngine
from agentlab.engines.transformers import TransformersEngine
from agentlab.rounds import TrainingConfig
from trainers.data.selection import SelectionConfig
from trainers.gate.gate import GateConfig

TINY = "snapshots/tiny"
"""A small model of random weights; the tests say where it lies."""
TOY = "toy/doors?colours=2,rooms=1,step_limit=4"
GAMES = {"toy": (TOY, 4), "twx": ("twx/coin?step_limit=6", 2), "tw": ("tw/quest?step_limit=6", 2)}
"""The game of each family, and how many seeds of it are played."""


def preference(transcript: str, command: str) -> float:
    """A taste of its own for each command, which changes in the course of a game."""
    return -float(sum(map(ord, command)) * (1 + transcript.count("\n")) % 97) / 10


def played(lab: Lab) -> list[dict[str, Any]]:
    """Every episode of a lab: what it was served, what it could do, what that scored, what it did."""
    texts = {found.id: found.text for found in lab.database.reflections.find()}
    found = lab.database.episodes.load([row.id for row in lab.database.episodes.find()])
    return [
        {
            "task": episode.task_id, "trial": episode.trial, "arm": episode.arm, "status": episode.status,
            "score": episode.score, "hints": episode.hints, "tokens": len(episode.token_ids),
            "recalls": recalled(lab, episode.id, texts),
            "steps": [
                {"could": step.admissible, "scores": step.scores, "bonus": step.bonus, "did": step.action}
                for step in episode.steps
            ],
        }
        for episode in sorted(found, key=lambda episode: (episode.arm, episode.task_id, episode.trial))
    ]  # fmt: skip


def recalled(lab: Lab, episode: str, texts: dict[str, str]) -> list[dict[str, Any]]:
    """What served an episode, with the parts of its score that no clock decides."""
    found = sorted(lab.database.recalls.of_episode(episode), key=lambda recall: (recall.channel, recall.rank))
    return [
        {
            "text": texts.get(recall.reflection, ""), "rank": recall.rank, "score": recall.score,
            "face": recall.channel,
            "parts": {name: part for name, part in recall.parts.items() if name != "hours"},
            "withheld": recall.held_out,
        }
        for recall in found
    ]  # fmt: skip


def learned(lab: Lab) -> list[dict[str, Any]]:
    """Every reflection of a lab: what it says, and what it advises."""
    found = [
        {
            "kind": one.kind, "task": one.task, "text": one.text, "status": one.status, "importance": one.importance,
            "advice": sorted(([each.action, each.visits, each.value, each.blame] for each in one.advice), key=str),
        }
        for one in lab.database.reflections.find()
    ]  # fmt: skip
    return sorted(found, key=str)


@cache
def loaded(model: str) -> TransformersEngine:
    """Real weights, loaded once for all games."""
    return TransformersEngine(hub.resolve(model), name=model, dtype="float32", threads=1, context=512)


def game(family: str, model: str | None, folder: Path, *, short: bool = False) -> dict[str, Any]:
    """Train games with memory, twice each, then dev games without and with it, which recall those."""
    env, seeds = (GAMES[family][0].replace("limit=6", "limit=3"), 1) if short else GAMES[family]
    config = LabConfig(
        model=model or "scripted", embedder="hashing", dtype="float32", threads=1, concurrency=1, context=512
    )
    engine = loaded(model) if model and short else None if model else ScriptedEngine(preference)
    with Lab.open(folder, create=True, config=config, engine=engine) as lab:
        lab.run(env, split="train", seeds=range(seeds), trials=2)
        for arm in ("base", "base + memory"):
            lab.run(env, split="dev", seeds=range(seeds), trials=1, arm=arm)
        return {"episodes": played(lab), "learned": learned(lab)}


def distilled(folder: Path) -> dict[str, Any]:
    """A round in the toy game: what it selected, each loss of its job, what the gate saw and said, and the table."""
    config = LabConfig(model=TINY, embedder="hashing", dtype="float32", threads=1, concurrency=1, context=512)
    round_config = RoundConfig(
        envs=[TOY],
        collect="both",
        seeds=12,
        model_trials=2,
        gate_seeds=14,
        held_out_seeds=5,
        selection=SelectionConfig(cap_per_task=1),
        training=TrainingConfig(learning_rate=5e-3, batch_size=2, epochs=4),
        gate=GateConfig(min_pairs=10),
    )
    with Lab.open(folder, create=True, config=config) as lab:
        report = lab.round(round_config)
        arms = ["random", "base", "base + memory", "adapter", "adapter + memory"]
        table = lab.evaluate(TOY, seeds=range(5), arms=arms, trials=2)
        assert report.adapter is not None
        losses = json.loads((lab.folder / "jobs" / report.id / "report.json").read_text(encoding="utf-8"))["losses"]
        return {
            "collected": report.collected, "selected": report.selected, "left out": report.left_out,
            "losses": losses, "gate": report.gate, "promoted": report.promoted,
            "wins": {row.arm: row.cells["all"].wins for row in table.rows},
        }  # fmt: skip


SCENES: dict[str, Callable[[Path], dict[str, Any]]] = {
    **{f"{family}, scripted": partial(game, family, None) for family in GAMES},
    **{f"{family}, tiny": partial(game, family, TINY) for family in GAMES},
    **{f"{family}, SmolLM2": partial(game, family, "SmolLM2-135M-Instruct", short=True) for family in GAMES},
    "round": distilled,
}
"""Every scene by its name: it is played in a folder that is not there yet."""
