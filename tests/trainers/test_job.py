"""A job is a folder: written whole, checked when read, run by one process at a time."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from safetensors import SafetensorError

from trainers import job
from trainers.config import BaseRef
from trainers.data.examples import Example
from trainers.data.records import Judged
from trainers.errors import (
    DiskFull,
    JobBusy,
    JobExists,
    MissingDependency,
    NotAJob,
    NothingToTrain,
    TrainersError,
    WrongBase,
)
from trainers.training import reporting
from trainers.training import seal as seals

CONFIG = job.JobConfig(base=BaseRef(name="tiny", fingerprint="f" * 64))


def test_a_job_reads_back_as_it_was_written(tmp_path: Path, some_examples: list[Example]) -> None:
    lineage = job.Lineage(round="round-1", episodes=["e0"], seeds=[1])
    made = job.create(tmp_path / "job", CONFIG, some_examples, lineage)
    read = job.load(tmp_path / "job")
    assert (read.config, read.examples, read.lineage, read.id) == (CONFIG, some_examples, lineage, made.id)
    assert not read.done and job.result(tmp_path / "job") is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job"]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0c", "\x1c"])
def test_a_job_reads_back_names_that_hold_what_unicode_counts_as_a_line_end(
    tmp_path: Path, some_examples: list[Example], mark: str
) -> None:
    named = [one.model_copy(update={"episode": f"e{mark}{number}"}) for number, one in enumerate(some_examples)]
    job.create(tmp_path / "job", CONFIG, named)
    assert job.load(tmp_path / "job").examples == named


def test_making_the_same_job_again_changes_nothing(tmp_path: Path, some_examples: list[Example]) -> None:
    first = job.create(tmp_path, CONFIG, some_examples)
    moved = CONFIG.model_copy(update={"base": CONFIG.base.model_copy(update={"path": "/elsewhere"})})
    assert job.create(tmp_path, moved, some_examples).id == first.id
    assert job.load(tmp_path).config == CONFIG


def test_the_machine_that_trains_is_no_part_of_what_a_job_is(tmp_path: Path, some_examples: list[Example]) -> None:
    first = job.create(tmp_path, CONFIG, some_examples)
    machine = {"attention": "eager", "device": "cpu", "threads": 8, "save_every": 1, "checkpointing": "off"}
    other = CONFIG.model_copy(update={**machine, "report_to": ["wandb"]})
    assert job.create(tmp_path, other, some_examples).id == first.id
    assert job.load(tmp_path).config == CONFIG


def test_a_job_keeps_its_id_when_a_release_adds_a_setting(tmp_path: Path, some_examples: list[Example]) -> None:
    class Newer(job.JobConfig):
        new_setting: float = 0.5

    def id_of(config: job.JobConfig) -> str:
        return old.model_copy(update={"config": config}).id

    old = job.create(tmp_path, CONFIG, some_examples)
    newer = Newer(**CONFIG.model_dump())
    assert id_of(newer) == old.id
    others = {id_of(newer.model_copy(update=change)) for change in ({"new_setting": 0.6}, {"rank": 8}, {"seed": 5})}
    assert len(others - {old.id}) == 3


def test_settings_of_the_machine_can_be_given_for_one_run(
    tmp_path: Path, some_examples: list[Example], config: job.JobConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    job.create(tmp_path, config.model_copy(update={"report_to": ["wandbb"]}), some_examples)
    assert job.main([str(tmp_path), "--device", "cpu"]) == 2
    assert "did you mean wandb?" in capsys.readouterr().err
    assert job.main([str(tmp_path), "--report-to", "mlflw", "--report-to", "trackio"]) == 2
    assert "did you mean mlflow?" in capsys.readouterr().err
    assert job.load(tmp_path).config.report_to == ["wandbb"], "nothing is written"
    with pytest.raises(TypeError, match="not seed"):
        job.run(tmp_path, seed=3)
    with pytest.raises(ValidationError):
        job.run(tmp_path, threads=0)


def test_the_help_says_what_may_be_changed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        job.main(["--help"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*job.MACHINE, *reporting.REPORTERS, "--report-to", "--device"))


@pytest.mark.parametrize("change", ["config", "examples"])
def test_a_folder_is_never_given_to_another_job(tmp_path: Path, some_examples: list[Example], change: str) -> None:
    job.create(tmp_path, CONFIG, some_examples)
    config = CONFIG.model_copy(update={"seed": 1}) if change == "config" else CONFIG
    with pytest.raises(JobExists, match="another training job"):
        job.create(tmp_path, config, some_examples if change == "config" else some_examples[1:])


def test_a_job_without_loss_is_refused(tmp_path: Path) -> None:
    mute = Example(token_ids=[1, 2], weights=[0.0, 0.0], episode="e", task="t")
    with pytest.raises(NothingToTrain, match="collect won episodes first"):
        job.create(tmp_path / "job", CONFIG, [mute])
    assert not (tmp_path / "job").exists()


DAMAGED = {
    "half a line": ("examples.jsonl", b'{"token_ids":[1,2],"wei'),
    "no text": ("examples.jsonl", b"\xff\xfe\n"),
    "no record": ("examples.jsonl", b"7\n"),
    "no examples": ("examples.jsonl", b""),
    "nested": ("examples.jsonl", b"[" * 100_000),
    "no loss": ("examples.jsonl", b'{"token_ids":[1,2],"weights":[0,0],"episode":"e","task":"t"}\n'),
    "unknown setting": ("job.json", b'{"learning_rat": 1}'),
}


@pytest.mark.parametrize("damage", ["nothing", "missing", *DAMAGED])
def test_a_folder_that_is_no_job_is_told_so(tmp_path: Path, some_examples: list[Example], damage: str) -> None:
    folder = tmp_path / "job"
    if damage != "nothing":
        job.create(folder, CONFIG, some_examples)
    if damage == "missing":
        (folder / "lineage.json").unlink()
    if damage in DAMAGED:
        name, content = DAMAGED[damage]
        (folder / name).write_bytes(content)
    with pytest.raises(NotAJob, match="is not a training job") as error:
        job.load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("seed", "allowed"), [(-1, False), (0, True), (2**32 - 1, True), (2**32, False)])
def test_a_seed_is_what_all_that_draw_lots_can_take(
    tmp_path: Path, some_examples: list[Example], seed: int, allowed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    job.create(tmp_path, CONFIG.model_copy(update={"seed": seed}), some_examples)
    assert job.main([str(tmp_path)]) == 2
    assert ("is not a training job; 1 validation error for JobConfig seed" in capsys.readouterr().err) is not allowed


def test_a_job_from_which_its_objective_cannot_learn_is_told_so(tmp_path: Path, some_examples: list[Example]) -> None:
    few = [Judged(example=example, desirable=True) for example in some_examples[:2]]
    job.create(tmp_path, CONFIG.model_copy(update={"objective": "kto"}), few)
    lines = (tmp_path / "examples.jsonl").read_text().splitlines()
    (tmp_path / "examples.jsonl").write_text(lines[0] + "\n")
    with pytest.raises(NotAJob, match="one example has no other"):
        job.load(tmp_path)


def test_a_finished_job_is_not_trained_again(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trainers.training.training", None)
    outcome = job.run(trained)
    assert outcome.adapter == trained / "adapter" and job.load(trained).done
    assert outcome.report.steps == 10 and len(outcome.report.losses) == 10


def test_checkpoints_that_a_kill_left_beside_the_results_of_a_job_go(trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "job"))
    (folder / "checkpoints" / "checkpoint-4").mkdir(parents=True)
    assert job.run(folder).report == job.result(folder).report  # type: ignore[union-attr]
    assert not (folder / "checkpoints").exists()


def test_a_finished_job_that_lost_its_report_says_what_to_do(trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "job"))
    (folder / "report.json").unlink()
    with pytest.raises(NotAJob, match="delete `done`"):
        job.result(folder)


def test_a_job_in_the_hands_of_another_process_is_left_alone(tmp_path: Path, some_examples: list[Example]) -> None:
    import fcntl

    job.create(tmp_path, CONFIG, some_examples)
    with open(tmp_path / "lock", "w", encoding="utf-8") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write("4711")
        other.flush()
        with pytest.raises(JobBusy, match="process 4711"):
            job.run(tmp_path)


def test_a_job_for_other_weights_does_not_start(tmp_path: Path, some_examples: list[Example], tiny_model: Path) -> None:
    job.create(tmp_path, CONFIG, some_examples)
    with pytest.raises(WrongBase):
        job.run(tmp_path, base=tiny_model)


def test_a_missing_package_is_named(
    tmp_path: Path, some_examples: list[Example], config: job.JobConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.create(tmp_path, config, some_examples)
    monkeypatch.setitem(sys.modules, "trainers.training.training", None)
    with pytest.raises(MissingDependency, match="pip install"):
        job.run(tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_told_with_its_remedy(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(DiskFull, match="free some space"), job.room_on_disk(tmp_path / "not yet" / "there"):
        raise error


@pytest.mark.parametrize(
    "failed",
    [
        RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
    ],
)
def test_a_failed_write_on_a_full_disk_is_known_by_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failed: Exception
) -> None:
    with pytest.raises(RuntimeError, match=r"failed writing|unexpected pos"), job.room_on_disk(tmp_path):
        raise failed
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Full)
    with pytest.raises(DiskFull), job.room_on_disk(tmp_path / "not yet" / "there"):
        raise failed
    with pytest.raises(NothingToTrain, match="what it was"), job.room_on_disk(tmp_path):
        raise NothingToTrain("what it was")


class Full:
    """What a full disk says of itself."""

    free = 0


@pytest.mark.parametrize("writer", ["torch", "safetensors"])
def test_a_job_that_met_a_full_disk_says_so_in_a_line_and_goes_on_when_there_is_room(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], writer: str
) -> None:
    import torch
    from peft import PeftModel

    folder = tmp_path / "job"
    folder.mkdir()
    for name in ("job.json", "examples.jsonl", "lineage.json"):
        shutil.copy(trained / name, folder / name)

    def refused(*arguments: Any, **options: Any) -> None:
        if "checkpoint-6" not in str(arguments):
            return saved(*arguments, **options)
        raise {"torch": RuntimeError("unexpected pos 64 vs 0"), "safetensors": SafetensorError("No space left")}[writer]

    owner, name = (torch, "save") if writer == "torch" else (PeftModel, "save_pretrained")
    saved = getattr(owner, name)
    with monkeypatch.context() as full:
        full.setattr(owner, name, refused)
        full.setattr(shutil, "disk_usage", lambda path: Full)
        assert job.main([str(folder)]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("no room left on the disk of") and "run the same command again" in told
    begun: list[int] = []
    job.run(folder, progress=lambda done, total, metrics: begun.append(done))
    assert begun == [4, 5, 6, 7, 8, 9, 10]
    assert job.load(folder).done and seals.read(folder) is not None
    weights = Path("adapter") / "adapter_model.safetensors"
    assert (folder / weights).read_bytes() == (trained / weights).read_bytes()


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), job.room_on_disk(tmp_path):
        raise PermissionError(errno.EACCES, "no")


def test_the_command_prints_the_result_of_a_finished_job(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert job.main([str(trained)]) == 0
    assert "10 steps" in capsys.readouterr().out


def test_the_command_prints_an_error_as_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert job.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_says_after_ctrl_c_how_to_go_on(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        options["progress"](1, 10, {"loss": 2.0, "tokens_per_second": 100.0})
        options["progress"](2, 10, {"loss": 2.0, "tokens_per_second": 100.0})
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "run", interrupted)
    assert job.main([str(trained)]) == 130
    printed = capsys.readouterr().err
    assert "goes on" in printed and printed.count("step ") == 1


def test_every_error_of_the_package_has_the_same_base() -> None:
    from trainers import errors

    raised: Sequence[type] = [item for item in vars(errors).values() if isinstance(item, type)]
    assert all(issubclass(error, TrainersError) and error.__doc__ for error in raised)


def test_a_job_needs_neither_a_database_nor_an_index() -> None:
    code = (
        "import sys, trainers.job, trainers.training.training; "
        "print([m for m in ('sqlite_utils', 'faiss', 'langgraph', 'memory.store.database') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
