from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agentlab.agent.arms import BASE, arm_of
from agentlab.engines.batching import Batcher
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import NotALab
from agentlab.experiments.evaluation import evaluate
from agentlab.experiments.run import run
from agentlab.lab import Lab
from agentlab.progress import Progress
from agentlab.workspace.config import LabConfig
from agentlab.workspace.workspace import Workspace
from memory.records import Reflection


def test_what_is_done_with_a_lab_needs_no_more_than_its_workspace(tmp_path: Path, note_reader: ScriptedEngine) -> None:
    config = LabConfig(embedder="hashing")
    with Workspace.open(tmp_path / "lab", create=True, config=config, engine=note_reader) as workspace:
        results = run(workspace, "toy/doors", seeds=range(2), trials=1, arm="base", name="played")
        table = evaluate(workspace, "toy/doors", split="dev", seeds=range(2), arms=["base"], name="measured")
        assert type(workspace) is Workspace
    assert [result.won_within(1) for result in results] == [True, True]
    with Lab.open(tmp_path / "lab", engine=note_reader) as lab:
        assert lab.arm("base + memory") == arm_of(lab, "base + memory")
        assert lab.run("toy/doors", seeds=range(2), trials=1, arm="base", name="played") == results
        assert lab.evaluate("toy/doors", split="dev", seeds=range(2), arms=["base"], name="measured") == table


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_lab_whose_database_is_gone_begins_nothing_anew(tmp_path: Path, how: str) -> None:
    with Lab.open(tmp_path / "lab", create=True, config=LabConfig(embedder="hashing")) as lab:
        lab.run("toy/doors", seeds=range(2), trials=1, arm="random")
    database = tmp_path / "lab" / "lab.db"
    database.unlink() if how == "missing" else database.write_bytes(b"")
    for write in (True, False):
        with Lab.open(tmp_path / "lab", write=write) as lab, pytest.raises(NotALab, match=how):
            lab.database.episodes.count()
    assert how == "missing" or database.read_bytes() == b""
    assert database.exists() == (how == "empty")


def test_as_many_games_are_in_flight_as_who_answers_takes_well(open_lab: Callable[..., Lab]) -> None:
    class Gathering(ScriptedEngine):
        batcher = Batcher()

    assert open_lab("one by one").concurrency == 2
    gathered = open_lab("gathered", engine=Gathering({}))
    assert gathered.rollout("run", BASE).concurrency == gathered.concurrency == 16
    served = open_lab("served")
    for engine, many in (("vllm", 16), ("chat", 4)):
        served.config = served.config.model_copy(update={"engine": engine})
        assert served.concurrency == many
    assert open_lab("as set", engine=Gathering({}), concurrency=3).concurrency == 3


def test_it_is_told_how_far_the_embedding_of_many_texts_is_and_of_few_nothing(
    tmp_path: Path, open_lab: Callable[..., Lab]
) -> None:
    class Heard(Progress):
        def __init__(self) -> None:
            self.told: list[tuple[str, object]] = []

        def start(self, stage: str, total: int) -> None:
            self.told.append((stage, total))

        def advance(self, stage: str, units: int = 1, note: str = "") -> None:
            self.told.append((stage, units))

        def finish(self, stage: str, note: str = "") -> None:
            self.told.append((stage, "done"))

    told = []
    for many in (700, 20):
        heard = Heard()
        with open_lab(str(many), progress=heard) as lab:
            known = {"kind": "grounded", "env": "toy/doors", "task": "toy/doors:train:0"}
            lab.memory.remember([Reflection(id=f"r{n}", text=f"Door {n} is safe.", **known) for n in range(many)])
        told.append(heard.told)
    stage = "embedding what was remembered"
    assert told[0] == [(stage, 700), (stage, 256), (stage, 256), (stage, 188), (stage, "done")]
    assert told[1] == []


def test_a_lab_gathers_on_a_processor_where_that_is_set_and_plays_the_same_games(
    tmp_path: Path, tiny_model: Path
) -> None:
    played, at_once = list[list[list[str]]](), list[int]()
    for gather in (None, False, True):
        config = LabConfig(
            model=str(tiny_model), embedder="hashing", dtype="float32", threads=1, context=512, gather=gather
        )
        with Lab.open(tmp_path / str(gather), create=True, config=config) as lab:
            results = lab.run("toy/doors?step_limit=3", seeds=range(6), trials=1, arm="base")
            at_once.append(lab.concurrency)
            played.append([lab.database.episodes.get(one.trials[0].episode).actions for one in results])
    assert at_once == [2, 2, 16] and played[0] == played[1] == played[2]
