"""A job folder goes to another machine and comes back: whole, movable, and nothing but what was asked for."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainers import job, transport
from trainers.config import BaseRef
from trainers.data.examples import Example
from trainers.data.records import Pair
from trainers.errors import BadAdapter, JobBusy, JobChanged, JobExists, NotAJob
from trainers.training import seal

RESULTS = ("adapter", "canary.json", "report.json", "done")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(trained: Path, tmp_path: Path) -> job.Job:
    """The job as the lab has it: not trained."""
    folder = Path(shutil.copytree(trained, tmp_path / "lab" / "jobs" / "round-1"))
    shutil.rmtree(folder / "adapter")
    for name in RESULTS[1:]:
        (folder / name).unlink()
    return job.load(folder)


@pytest.fixture
def came(here: job.Job, trained: Path, tmp_path: Path) -> Path:
    """An export of that job with what came out of it elsewhere."""
    folder = tmp_path / "came"
    transport.export(here.folder, folder)
    shutil.copytree(trained / "adapter", folder / "adapter")
    for name in RESULTS[1:]:
        shutil.copy(trained / name, folder / name)
    return folder


def test_settings_of_an_adapter_that_are_nested_without_end_are_refused(here: job.Job, came: Path) -> None:
    (came / "adapter" / "adapter_config.json").write_text("[" * 100_000)
    seal_again(came)
    with pytest.raises(BadAdapter):
        transport.check(came, here)


def seal_again(folder: Path) -> None:
    (folder / "done").write_text(seal.of(folder, job.load(folder).id).model_dump_json())


def changed(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_an_exported_folder_has_the_job_the_code_and_a_readme_but_no_path_of_this_machine(
    here: job.Job, tmp_path: Path
) -> None:
    folder = tmp_path / "away" / "first"
    sent = transport.export(here.folder, folder)
    assert (sent.id, sent.examples, sent.lineage) == (here.id, here.examples, here.lineage)
    assert sent.config.base.path is None and here.config.base.path is not None
    assert {path.name for path in folder.iterdir()} == {
        "job.json", "examples.jsonl", "lineage.json", "code", "README.md",
    }  # fmt: skip
    for package in ("memory", "trainers"):
        ours = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")}
        assert ours == {path.relative_to(folder / "code") for path in (folder / "code" / package).rglob("*.py")}
    for path in [*folder.glob("*.json*"), folder / "README.md"]:
        assert str(tmp_path).encode() not in path.read_bytes() and b"/home" not in path.read_bytes()
    assert [path.name for path in folder.parent.iterdir()] == ["first"], "nothing is left beside it"


def test_the_readme_says_what_to_install_and_what_to_run(here: job.Job, tmp_path: Path) -> None:
    transport.export(here.folder, tmp_path / "away")
    readme = (tmp_path / "away" / "README.md").read_text()
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for need in transport.NEEDS:
        assert f'"{need}"' in readme
        assert need in wanted
    assert "PYTHONPATH=code python -m trainers.job . --base" in readme
    assert here.config.base.fingerprint in readme
    assert all(f"`{name}`" in readme for name in job.MACHINE)
    assert "agentlab distill --import" in readme


def test_exporting_again_changes_nothing_and_never_writes_over_anything(here: job.Job, tmp_path: Path) -> None:
    folder = tmp_path / "away"
    folder.mkdir()
    transport.export(here.folder, folder)
    (folder / "adapter").mkdir()
    transport.export(here.folder, folder)
    assert (folder / "adapter").is_dir()
    other = job.create(tmp_path / "other", here.config.model_copy(update={"seed": 7}), here.examples, here.lineage)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    (tmp_path / "file").touch()
    for place, source in ((folder, other.folder), (tmp_path / "photos", here.folder), (tmp_path / "file", here.folder)):
        with pytest.raises(JobExists, match="choose a new folder"):
            transport.export(source, place)
    with pytest.raises(JobExists):
        transport.export(here.folder, here.folder)  # the job itself is no export of it


def test_an_export_that_was_killed_is_made_whole(
    here: job.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copytree", killed)
    with pytest.raises(KeyboardInterrupt):
        transport.export(here.folder, tmp_path / "away")
    assert not (tmp_path / "away").exists()
    monkeypatch.undo()
    transport.export(here.folder, tmp_path / "away")
    assert (tmp_path / "away" / "README.md").is_file()


def test_what_came_back_lies_there_as_if_it_had_been_trained_here(here: job.Job, came: Path, trained: Path) -> None:
    (came / "adapter" / "optimizer.txt").write_text("another program's")
    taken = transport.take_over(came, here)
    assert here.done and taken == job.result(here.folder)
    for name in (*seal.SEALED, "done"):
        assert (here.folder / name).read_bytes() == (trained / name).read_bytes()
    assert not (here.folder / "adapter" / "optimizer.txt").exists()
    assert transport.take_over(came, here) == taken


def test_checkpoints_of_a_training_that_was_begun_here_go(here: job.Job, came: Path) -> None:
    (here.folder / "checkpoints").mkdir()
    transport.take_over(came, here)
    assert not (here.folder / "checkpoints").exists()


def test_a_kill_while_it_is_taken_over_is_mended(here: job.Job, came: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(seal, "of", killed)
    with pytest.raises(KeyboardInterrupt):
        transport.take_over(came, here)
    assert not here.done
    monkeypatch.undo()
    transport.take_over(came, here)
    assert seal.check(here.folder, here.id)


def test_edited_examples_are_refused_in_one_line(here: job.Job, came: Path) -> None:
    lines = (came / "examples.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    first["weights"] = [0.0, *[5.0] * (len(first["weights"]) - 1)]
    (came / "examples.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    seal_again(came)
    with pytest.raises(JobChanged, match="its examples were changed; export it again") as error:
        transport.take_over(came, here)
    assert "\n" not in str(error.value) and not here.done


@pytest.mark.parametrize("what", ["settings", "base"])
def test_other_settings_and_another_base_are_refused(here: job.Job, came: Path, what: str) -> None:
    if what == "settings":
        changed(came / "job.json", learning_rate=0.1)
    else:
        changed(came / "job.json", base={"name": "tiny", "fingerprint": "0" * 64})
    seal_again(came)
    with pytest.raises(JobChanged, match="its settings were changed"):
        transport.check(came, here)


def test_what_concerns_the_machine_that_trains_may_be_changed_there(here: job.Job, tmp_path: Path) -> None:
    """A real training with the changed settings; what comes back is taken over as any other."""
    away = tmp_path / "away"
    transport.export(here.folder, away)
    machine = {"attention": "sdpa", "device": "cpu", "threads": 2, "save_every": 5, "checkpointing": "on"}
    assert {*machine, "report_to"} == set(job.MACHINE)
    changed(away / "job.json", **machine, report_to=["tensorboard"])
    edited = job.load(away)
    assert edited.id == here.id and edited.config.report_to == ["tensorboard"]
    base = here.config.base.path
    outcome = job.run(away, base=base, report_to=[])
    assert (outcome.report.attention, outcome.report.threads, outcome.report.checkpointing) == ("sdpa", 2, True)
    taken = transport.take_over(away, here)
    assert job.load(here.folder).done and taken.report == outcome.report
    assert job.load(here.folder).config == here.config, "the lab's own settings stay"


@pytest.mark.parametrize(
    "value",
    [{"learning_rate": 0.1}, {"spike": 0.0}, {"clip": 2.0}, {"warmup_ratio": 0.0}, {"targets": ["q_proj"]},
     {"dtype": "bfloat16"}, {"seed": 1}, {"epochs": 3}, {"batch_size": 2}],
    ids=str,
)  # fmt: skip
def test_what_decides_the_weights_may_not(here: job.Job, came: Path, value: dict[str, Any]) -> None:
    changed(came / "job.json", threads=2, **value)
    seal_again(came)
    with pytest.raises(JobChanged, match="its settings were changed"):
        transport.take_over(came, here)


def test_an_untrained_folder_has_nothing_to_bring(here: job.Job, came: Path) -> None:
    (came / "done").unlink()
    with pytest.raises(NotAJob, match="not trained to its end"):
        transport.check(came, here)


def of_another_base(folder: Path) -> None:
    for place in (folder, folder / "adapter"):
        changed(place / "canary.json", base="0" * 64)


def of_another_text(folder: Path) -> None:
    changed(folder / "canary.json", token_ids=[1, 2, 3], spans=[[1, 2]])


def of_another_rank(folder: Path) -> None:
    changed(folder / "adapter" / "adapter_config.json", r=4)


def without_settings(folder: Path) -> None:
    (folder / "adapter" / "adapter_config.json").write_text("[1]")


def with_settings_that_are_no_text(folder: Path) -> None:
    (folder / "adapter" / "adapter_config.json").write_bytes(b"\x80\x04.")


def with_pickles(folder: Path) -> None:
    (folder / "adapter" / "adapter_model.bin").write_bytes(b"\x80\x04.")


def cut_short(folder: Path) -> None:
    weights = folder / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (of_another_base, "its canary is of another base model"),
        (of_another_text, "its canary is no text of this job"),
        (of_another_rank, "r is 4"),
        (without_settings, "adapter_config.json"),
        (with_settings_that_are_no_text, "adapter_config.json"),
        (with_pickles, "pickled"),
        (cut_short, "damaged"),
    ],
)
def test_weights_that_do_not_belong_are_refused_even_with_a_new_seal(
    here: job.Job, came: Path, spoil: Callable[[Path], None], part: str
) -> None:
    spoil(came)
    seal_again(came)
    with pytest.raises(BadAdapter, match=part):
        transport.take_over(came, here)
    assert not here.done


def test_a_broken_seal_is_refused(here: job.Job, came: Path) -> None:
    weights = came / "adapter" / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BadAdapter, match="is not what job-"):
        transport.take_over(came, here)


def test_a_job_gets_one_adapter(here: job.Job, came: Path) -> None:
    transport.take_over(came, here)
    report = came / "report.json"
    report.write_text(report.read_text() + " ")
    seal_again(came)
    with pytest.raises(JobExists, match="has its results already"):
        transport.take_over(came, here)


def test_a_seal_names_the_job_as_the_version_before_did_too(here: job.Job, came: Path) -> None:
    """A job that was exported before an upgrade is sealed by the code that went with it."""
    sealed, (*_, former) = json.loads((came / "done").read_text()), here.ids
    (came / "done").write_text(json.dumps(sealed | {"job": former}))
    transport.take_over(came, here)
    assert seal.check(here.folder, here.id).files == sealed["files"], "sealed anew, as this version does"
    assert transport.take_over(came, here).report == transport.check(came, here).report, "and again, to no effect"
    (came / "done").write_text(json.dumps(sealed | {"job": "job-0123456789ab"}))
    with pytest.raises(BadAdapter, match="sealed as those of job-0123456789ab"):
        transport.take_over(came, here)


def test_the_former_id_of_a_job_is_the_one_that_the_version_before_gave_it() -> None:
    example = Example(token_ids=[5, 6, 7, 8], weights=[0.0, 0.0, 1.0, 0.5], episode="e0", task="toy/doors:train:0")
    worse = example.model_copy(update={"token_ids": [5, 6, 7, 9]})
    base = BaseRef(name="tiny", fingerprint="f" * 64, path="/here")
    taught = job.JobConfig(base=base, threads=4, device="cpu", learning_rate=3e-4, targets=["q_proj"], nll_weight=1.0)
    preferred = job.JobConfig(base=base, objective="dpo", nll_weight=1.0)
    ids = [
        job.Job(folder=Path("x"), config=config, examples=[record], lineage=job.Lineage()).ids[-1]
        for config, record in ((taught, example), (preferred, Pair(better=example, worse=worse)))
    ]
    assert ids == ["job-9da313f11127", "job-f25d6b8ff0df"]


def test_a_job_that_is_being_trained_here_is_left_alone(here: job.Job, came: Path) -> None:
    with job.only_one(here.folder), pytest.raises(JobBusy):
        transport.take_over(came, here)


def test_the_code_that_is_sent_is_complete(here: job.Job, tmp_path: Path) -> None:
    import subprocess

    transport.export(here.folder, tmp_path / "away")
    code = "import trainers.training.training, trainers.job; print(trainers.job.__file__)"
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code], env={"PYTHONPATH": "code"}, cwd=tmp_path / "away", capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert ran.stdout.strip().endswith("away/code/trainers/job.py"), ran.stderr
