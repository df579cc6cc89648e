"""What a job wrote is known again: nothing of it can be swapped, changed or missing without being noticed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from trainers import job
from trainers.errors import BadAdapter
from trainers.training import seal


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "job"))


def test_a_finished_job_is_sealed_with_its_id_and_its_results(folder: Path) -> None:
    found = seal.read(folder)
    assert found is not None and found.job == job.load(folder).id
    assert set(found.files) == set(seal.SEALED)
    assert found.files["report.json"] == seal.sha256(folder / "report.json")
    assert seal.check(folder, found.job) == found


def test_an_unfinished_job_and_an_empty_mark_have_no_seal(folder: Path) -> None:
    (folder / "done").write_text("")
    assert seal.read(folder) is None
    with pytest.raises(BadAdapter, match="have no seal"):
        seal.check(folder, "job-1")
    (folder / "done").unlink()
    assert seal.read(folder) is None


@pytest.mark.parametrize("name", seal.SEALED)
def test_a_changed_or_missing_result_breaks_the_seal(folder: Path, name: str) -> None:
    id = job.load(folder).id
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + b"?")
    with pytest.raises(BadAdapter, match=f"{name} in .* is not what {id} wrote there"):
        seal.check(folder, id)
    (folder / name).unlink()
    with pytest.raises(BadAdapter, match=f"has no {name}"):
        seal.check(folder, id)


def test_the_seal_of_another_job_does_not_count(folder: Path) -> None:
    sealed = json.loads((folder / "done").read_text())
    (folder / "done").write_text(json.dumps(sealed | {"job": "job-other"}))
    with pytest.raises(BadAdapter, match="are sealed as those of job-other"):
        seal.check(folder, sealed["job"])
