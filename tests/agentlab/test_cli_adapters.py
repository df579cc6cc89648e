from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentlab.cli import app
from agentlab.config import LabConfig
from agentlab.lab import Lab
from trainers.adapters import AdapterRecord
from trainers.gate import decide
from trainers.job import Lineage

RUNNER = CliRunner()
TASKS = [f"toy/doors:dev:{seed}" for seed in range(30)]
WON, LOST = dict.fromkeys(TASKS, True), dict.fromkeys(TASKS, False)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A lab with an adapter that passed its gate, one that did not, and one that has not stood at one."""
    folder = tmp_path / "lab"
    gates = {"adapter-aaa": decide(WON, LOST), "adapter-bbb": decide(LOST, LOST), "adapter-ccc": None}
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing")) as opened:
        for id, gate in gates.items():
            place = folder / "adapters" / id
            place.mkdir(parents=True)
            (place / "adapter_config.json").write_text("{}")
            header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
            (place / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
            record = AdapterRecord(
                id=id,
                base="tiny",
                fingerprint="f" * 64,
                path=f"adapters/{id}",
                lineage=Lineage(round="round-1", episodes=[f"ep-{number}" for number in range(9)]),
                gate=gate,
            )
            opened.database.put_adapter(record.model_dump(mode="json"))
    return folder


def adapters(lab: Path, *arguments: str) -> Result:
    return RUNNER.invoke(app, ["adapters", *arguments, "--lab", str(lab)])


def listed(lab: Path) -> dict[str, tuple[str, bool]]:
    rows = json.loads(adapters(lab, "list", "--json").stdout)
    return {row["id"]: (row["status"], row["serving"]) for row in rows}


def test_adapters_are_listed_with_their_gates(lab: Path) -> None:
    assert listed(lab) == {f"adapter-{name}": ("candidate", False) for name in ("aaa", "bbb", "ccc")}
    shown = adapters(lab, "list").stdout
    assert "won 30 of 30 against 0" in shown
    assert "has not stood at a gate" in shown


def test_a_lab_without_adapters_says_how_to_make_one(tmp_path: Path) -> None:
    with Lab.open(tmp_path / "lab", create=True):
        pass
    assert "agentlab distill" in adapters(tmp_path / "lab", "list").stdout


def test_one_adapter_is_shown_with_lineage_and_gate(lab: Path) -> None:
    shown = adapters(lab, "show", "aaa").stdout
    for part in (
        "adapter-aaa",
        "round-1",
        "9: ep-0, ep-1, ep-2, ep-3, …",
        "better: won 30 of 30",
        "only the adapter 30",
    ):
        assert part in shown
    assert "has not stood at a gate" in adapters(lab, "show", "ccc").stdout
    assert len(json.loads(adapters(lab, "show", "aaa", "--json").stdout)["lineage"]["episodes"]) == 9


def test_promotion_and_rollback_change_what_serves(lab: Path) -> None:
    result = adapters(lab, "promote", "aaa")
    assert result.exit_code == 0, result.output
    assert listed(lab)["adapter-aaa"] == ("promoted", True)
    assert adapters(lab, "rollback").stdout == "The base model serves now.\n"
    assert listed(lab)["adapter-aaa"] == ("retired", False)


@pytest.mark.parametrize("adapter", ["bbb", "ccc"])
def test_an_adapter_that_did_not_pass_is_refused_unless_forced(lab: Path, adapter: str) -> None:
    result = adapters(lab, "promote", adapter)
    assert result.exit_code == 2
    assert "may not serve" in result.stderr
    assert adapters(lab, "promote", adapter, "--force").exit_code == 0
    assert listed(lab)[f"adapter-{adapter}"] == ("promoted", True)
    assert json.loads(adapters(lab, "show", adapter, "--json").stdout)["forced"] is True


def test_an_adapter_whose_weights_are_gone_is_found_by_the_doctor(
    lab: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AGENTLAB_CACHE", str(tmp_path / "cache"))
    adapters(lab, "promote", "aaa")
    (lab / "adapters" / "adapter-aaa" / "adapter_model.safetensors").unlink()
    (lab / "adapters" / "adapter-bbb" / "adapter_model.safetensors").write_bytes(b"short")
    result = RUNNER.invoke(app, ["doctor", "--quick", "--json", "--lab", str(lab)])
    found = {finding["check"]: finding for finding in json.loads(result.stdout)}
    assert result.exit_code == 1
    assert found["adapter-aaa"]["verdict"] == "problem"
    assert found["adapter-bbb"]["verdict"] == "warning"
    assert "adapter-ccc" not in found


@pytest.mark.parametrize(
    ("arguments", "part"), [(["show", "adapter-aab"], "did you mean"), (["rollback"], "nothing served")]
)
def test_bad_input_is_one_line(lab: Path, arguments: list[str], part: str) -> None:
    result = adapters(lab, *arguments)
    assert result.exit_code == 2
    assert part in result.stderr
    assert result.stderr.count("\n") == 1
