"""A real vLLM, where AGENTLAB_VLLM_PYTHON names a Python that has it: its server is killed in the middle of a round."""

from __future__ import annotations

import os
import runpy
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentlab import Lab, LabConfig, RoundReport, Table
from agentlab.engines.vllm import PYTHON
from agentlab.errors import AgentLabError
from agentlab.progress import Progress
from agentlab.rounds.graph import run_round
from trainers.adapters.registry import AdapterRegistry

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get(PYTHON), reason=f"{PYTHON} names no Python that has vLLM"),
]
ROUND = runpy.run_path(str(Path(__file__).with_name("round_script.py")))
MOMENTS = {
    "a run": "exploring with the model:4",
    "the incumbent at the gate": "gate: base:5",
    "the candidate at the gate": "gate: candidate:6",
    "the promotion": "",
}


def served(folder: Path, model: Path, progress: Progress | None = None, **playing: Any) -> Lab:
    """A lab whose model is played by a vLLM server of its own."""
    config = LabConfig(engine="vllm", model=str(model), embedder="hashing", dtype="float32", threads=1, context=512)
    lab = Lab.open(folder, create=True, config=config, progress=progress)
    lab.config = lab.config.model_copy(update=playing)
    return lab


def kill_server(lab: Any) -> None:
    """Kill the servers, as the system does where memory runs out."""
    for place in lab.engine._places.values():
        supervisor = place.own._process
        (server,) = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text().split()
        os.kill(int(server), signal.SIGKILL)
        supervisor.wait()


class Killing(Progress):
    """Kills the server of a lab when so many units of a stage are done."""

    lab: Lab | None = None

    def __init__(self, stage: str, units: int) -> None:
        self.stage, self.left = stage, units

    def advance(self, stage: str, units: int = 1, note: str = "") -> None:
        if stage.startswith(self.stage) and self.left > 0:
            self.left -= units
            if self.left <= 0:
                kill_server(self.lab)


def outcome(folder: Path, model: Path, killing: Killing | None = None) -> tuple[RoundReport, Table, bytes, int]:
    """A round, its table and its adapter's weights, by the call that is made again where it fails; how often it did."""
    with served(folder, model, killing) as lab:
        if killing is not None:
            killing.lab = lab
        calls = 0
        while True:
            calls += 1
            try:
                report = lab.round(ROUND["ROUND"])
                table = lab.evaluate(ROUND["ENV"], seeds=range(3), arms=ROUND["ARMS"], trials=2)
            except AgentLabError:
                assert calls < 3
                continue
            if not any(cell.errored for row in table.rows for cell in row.cells.values()):
                break
        assert report.adapter is not None
        weights = lab.folder / lab.adapters.get(report.adapter).path / "adapter_model.safetensors"
        return report, table, weights.read_bytes(), calls


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[tuple[RoundReport, Table, bytes]]:
    report, table, weights, calls = outcome(tmp_path_factory.mktemp("unbroken") / "lab", tiny_model)
    assert calls == 1 and report.promoted
    yield report, table, weights


@pytest.mark.parametrize("moment", MOMENTS)
def test_where_the_server_is_killed_the_same_call_gives_what_an_unbroken_one_gives(
    moment: str,
    unbroken: tuple[RoundReport, Table, bytes],
    tmp_path: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage, _, units = MOMENTS[moment].rpartition(":")
    killing = Killing(stage or "-", int(units or 0))
    if not stage:
        promote: Callable[..., Any] = AdapterRegistry.promote

        def killed_first(*arguments: Any, **settings: Any) -> Any:
            kill_server(killing.lab)
            return promote(*arguments, **settings)

        monkeypatch.setattr(AdapterRegistry, "promote", killed_first)
    report, table, weights, _ = outcome(tmp_path / "lab", tiny_model, killing)
    meant, rows, same = unbroken
    assert killing.left <= 0
    assert (report.promoted, report.gate, weights == same) == (True, meant.gate, True)
    assert table.rows == rows.rows


def test_what_vllm_played_is_trained_here_and_judged_by_transformers(
    unbroken: tuple[RoundReport, Table, bytes], tmp_path: Path, tiny_model: Path
) -> None:
    with served(tmp_path / "lab", tiny_model) as lab:
        assert run_round(lab, ROUND["ROUND"], until="gate").phase == "gate"
    with served(tmp_path / "lab", tiny_model, engine="transformers") as lab:
        report = lab.round(ROUND["ROUND"])
        here = lab.evaluate(ROUND["ENV"], seeds=range(3), arms=ROUND["ARMS"], trials=2)
    meant, rows, _ = unbroken
    assert report.adapter is not None and report.promoted
    assert report.gate == meant.gate
    assert [(row.arm, row.outcomes) for row in here.rows] == [(row.arm, row.outcomes) for row in rows.rows]
    with served(tmp_path / "lab", tiny_model) as lab:  # which proves the canary on the server
        assert lab.model(report.adapter).adapter_id == report.adapter
