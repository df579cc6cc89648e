"""The register of adapters: what serves is known, changed whole, and can be taken back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory.store.database import Database
from trainers import job
from trainers.adapters.files import check_files
from trainers.adapters.registry import AdapterRegistry
from trainers.errors import (
    AdapterInUse,
    BadAdapter,
    NotAJob,
    NothingToRollBack,
    PromotionRefused,
    UnknownAdapter,
    WrongBase,
)
from trainers.gate.gate import GateResult, decide

PASSED: GateResult = decide({f"a:dev:{n}": True for n in range(30)}, {f"a:dev:{n}": False for n in range(30)})
FAILED: GateResult = decide({f"a:dev:{n}": False for n in range(30)}, {f"a:dev:{n}": True for n in range(30)})


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[AdapterRegistry]:
    database = Database(tmp_path / "lab.db")
    yield AdapterRegistry(database, tmp_path)
    database.close()


@pytest.fixture
def three(registry: AdapterRegistry, trained: Path, tmp_path: Path) -> list[str]:
    """The ids of three candidates with different weights."""
    ids = []
    for number in range(3):
        copy = Path(shutil.copytree(trained, tmp_path / f"job{number}"))
        weights = copy / "adapter" / "adapter_model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= number
        weights.write_bytes(content)
        ids.append(registry.register(copy).id)
    return ids


def test_the_adapter_of_a_finished_job_becomes_a_candidate(registry: AdapterRegistry, trained: Path) -> None:
    record = registry.register(trained)
    assert (record.status, record.base, record.gate) == ("candidate", "tiny", None)
    assert record.lineage.round == "round-1" and "e0" in record.lineage.episodes
    folder = registry.folder_of(record.id)
    assert folder == registry.folder / record.path
    for name in ("adapter_model.safetensors", "adapter_config.json", "canary.json"):
        assert (folder / name).read_bytes() == (trained / "adapter" / name).read_bytes()
    assert registry.serving() is None


def test_registering_again_changes_nothing(registry: AdapterRegistry, trained: Path) -> None:
    record = registry.register(trained)
    registry.promote(record.id, PASSED)
    assert registry.register(trained).status == "promoted"
    assert len(registry.list()) == 1


def test_registering_mends_what_a_kill_left_behind(registry: AdapterRegistry, trained: Path) -> None:
    expected = registry.register(trained)
    torn = registry.folder / (expected.path + ".partial")
    shutil.move(registry.folder / expected.path, torn)
    (torn / "adapter_model.safetensors").write_bytes(b"half")
    registry.register(trained)
    check_files(registry.folder / expected.path)
    assert not torn.exists()


def test_the_lineage_can_be_given_anew(registry: AdapterRegistry, trained: Path) -> None:
    record = registry.register(trained, job.Lineage(round="other", parent="adapter-0"))
    assert (record.lineage.round, record.parent) == ("other", "adapter-0")


def test_an_unfinished_job_has_no_adapter(registry: AdapterRegistry, trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "unfinished"))
    (folder / "done").unlink()
    with pytest.raises(NotAJob, match="not trained to its end"):
        registry.register(folder)


def test_an_adapter_is_found_by_the_beginning_of_its_id(registry: AdapterRegistry, three: list[str]) -> None:
    for id in three:
        assert registry.get(id[:-3]).id == id
        assert registry.get(id.removeprefix("adapter-")[:8]).id == id
    with pytest.raises(UnknownAdapter, match="fits 3 adapters"):
        registry.get("adapter-")


def test_an_unknown_adapter_is_answered_with_a_suggestion(registry: AdapterRegistry, three: list[str]) -> None:
    typo = three[0][:-1] + "_"
    with pytest.raises(UnknownAdapter, match=f"did you mean {three[0]}"):
        registry.get(typo)
    with pytest.raises(UnknownAdapter, match="there are 3"):
        registry.get("")


def test_nothing_serves_without_a_passed_gate(registry: AdapterRegistry, three: list[str]) -> None:
    with pytest.raises(PromotionRefused, match="was not evaluated at a gate"):
        registry.promote(three[0])
    with pytest.raises(PromotionRefused, match="not better"):
        registry.promote(three[0], FAILED)
    assert registry.serving() is None and registry.get(three[0]).status == "candidate"


def test_a_passed_gate_lets_an_adapter_serve_and_is_kept(registry: AdapterRegistry, three: list[str]) -> None:
    registry.promote(three[0], PASSED)
    record = registry.get(three[0])
    assert registry.serving() == three[0]
    assert (record.status, record.gate, record.forced) == ("promoted", PASSED, False)
    assert [item.id for item in registry.list("promoted")] == [three[0]]


def test_a_forced_promotion_says_so_in_the_record(registry: AdapterRegistry, three: list[str]) -> None:
    registry.reject(three[0], FAILED)
    assert registry.promote(three[0], force=True).forced
    assert registry.serving() == three[0]


def test_promoting_twice_is_promoting_once(registry: AdapterRegistry, three: list[str]) -> None:
    registry.promote(three[0], PASSED)
    registry.promote(three[1], PASSED)
    registry.promote(three[1], PASSED)
    assert len(registry.history()) == 2
    assert registry.rollback() == three[0]


def test_a_promotion_that_breaks_off_leaves_nothing_half_done(
    registry: AdapterRegistry, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.promote(three[0], PASSED)

    def broken(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "_serve", broken)
    with pytest.raises(KeyboardInterrupt):
        registry.promote(three[1], PASSED)
    monkeypatch.undo()
    assert registry.serving() == three[0] and registry.get(three[1]).status == "candidate"
    registry.promote(three[1], PASSED)
    assert registry.rollback() == three[0]


def test_a_rejected_adapter_is_kept_with_its_gate(registry: AdapterRegistry, three: list[str]) -> None:
    registry.reject(three[0], FAILED)
    registry.reject(three[0], FAILED)
    record = registry.get(three[0])
    assert (record.status, record.gate) == ("rejected", FAILED)
    assert registry.folder_of(three[0]).is_dir()


def test_rollback_goes_back_step_by_step_to_the_base(registry: AdapterRegistry, three: list[str]) -> None:
    for id in three:
        registry.promote(id, PASSED)
    assert [registry.rollback(), registry.rollback(), registry.rollback()] == [three[1], three[0], None]
    assert registry.serving() is None
    assert {record.status for record in registry.list()} == {"retired"}
    with pytest.raises(NothingToRollBack):
        registry.rollback()
    events = [(change.event, change.before, change.serving) for change in registry.history()]
    assert events[0] == ("promoted", None, three[0]) and events[-1] == ("rolled back", three[0], None)
    assert len(events) == 6


@pytest.mark.parametrize("end", ["reject", "retire"])
def test_rollback_passes_over_what_was_put_away_since(registry: AdapterRegistry, three: list[str], end: str) -> None:
    for id in three:
        registry.promote(id, PASSED)
    getattr(registry, end)(three[1])
    assert registry.rollback() == three[0]


@pytest.mark.parametrize("end", ["reject", "retire"])
def test_what_serves_cannot_be_put_away(registry: AdapterRegistry, three: list[str], end: str) -> None:
    registry.promote(three[0], PASSED)
    with pytest.raises(AdapterInUse, match="roll back first"):
        getattr(registry, end)(three[0])


def test_an_adapter_for_another_base_is_refused(registry: AdapterRegistry, three: list[str]) -> None:
    fingerprint = registry.get(three[0]).fingerprint
    registry.folder_of(three[0], base=fingerprint)
    with pytest.raises(WrongBase, match="made for tiny"):
        registry.folder_of(three[0], base="0" * 64)


def test_pickled_weights_are_refused(registry: AdapterRegistry, three: list[str]) -> None:
    (registry.folder_of(three[0]) / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(BadAdapter, match="pickled"):
        registry.promote(three[0], PASSED)
    assert registry.serving() is None


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_that_lost_a_file_is_refused(registry: AdapterRegistry, three: list[str], name: str) -> None:
    (registry.folder_of(three[0]) / name).unlink()
    with pytest.raises(BadAdapter, match=f"has no {name}"):
        registry.folder_of(three[0])


HEADERS = {
    "no tensors": {"__metadata__": {}},
    "a list": [],
    "a tensor that is text": {"t": "F32"},
    "a tensor without an end": {"t": {"data_offsets": [0]}},
    "an end that is no number": {"t": {"data_offsets": [0, "4"]}},
}


@pytest.mark.parametrize("damage", ["cut", "empty", "huge header", "no JSON", *HEADERS])
def test_damaged_weights_are_refused(registry: AdapterRegistry, three: list[str], damage: str) -> None:
    weights = registry.folder_of(three[0]) / "adapter_model.safetensors"
    content = weights.read_bytes()
    header = json.dumps(HEADERS.get(damage)).encode()
    weights.write_bytes(
        {
            "cut": content[:-100],
            "empty": b"",
            "huge header": b"\xff" * 8 + content[8:],
            "no JSON": content[:8] + b"?" * (len(content) - 8),
        }.get(damage, len(header).to_bytes(8, "little") + header + b"rest")
    )
    with pytest.raises(BadAdapter, match="damaged"):
        registry.folder_of(three[0])


@pytest.mark.parametrize(
    "settings",
    [
        "{}", "[]", "null", "{", '{"peft_type": "LORA"}', '{"peft_type": "IA3", "r": 4, "lora_alpha": 8}',
        '{"peft_type": "LORA", "r": 0, "lora_alpha": 8, "target_modules": ["q_proj"]}',
        '{"peft_type": "LORA", "r": "x", "lora_alpha": 8, "target_modules": ["q_proj"]}',
    ],
)  # fmt: skip
def test_an_adapter_whose_settings_say_nothing_is_refused_in_one_line(
    registry: AdapterRegistry, three: list[str], settings: str
) -> None:
    (registry.folder / registry.get(three[0]).path / "adapter_config.json").write_text(settings)
    with pytest.raises(BadAdapter, match=r"adapter_config\.json") as refused:
        registry.folder_of(three[0])
    assert "\n" not in str(refused.value)


def test_a_pointer_in_place_of_an_adapters_weights_is_said_to_be_one(
    registry: AdapterRegistry, three: list[str]
) -> None:
    weights = registry.folder / registry.get(three[0]).path / "adapter_model.safetensors"
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(BadAdapter, match="Git LFS"):
        registry.folder_of(three[0])
