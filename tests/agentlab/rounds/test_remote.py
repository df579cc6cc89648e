"""A round whose adapter is trained on another machine is the same round, and trusts nothing that comes back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentlab.engines.base import Adapter
from agentlab.engines.model import Model
from agentlab.engines.transformers import TransformersEngine
from agentlab.errors import AgentLabError
from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport, TrainingConfig, abandon, export_round, import_round
from trainers import job
from trainers.adapters.registry import AdapterRegistry
from trainers.data.selection import SelectionConfig
from trainers.errors import BadAdapter, CanaryFailed, JobChanged, JobExists, NotAJob, WrongBase
from trainers.gate.gate import GateConfig
from trainers.training import seal

ENV = "toy/doors?colours=2,rooms=1,step_limit=4"
QUICK = RoundConfig(
    envs=[ENV],
    seeds=12,
    gate_seeds=14,
    held_out_seeds=5,
    selection=SelectionConfig(cap_per_task=1),
    training=TrainingConfig(learning_rate=5e-3, epochs=4, spike=0.0, save_every=50),
    gate=GateConfig(min_pairs=10),
)
WEIGHTS = "adapter/adapter_model.safetensors"


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, open_at: Callable[..., Lab]) -> Path:
    """A folder with a lab whose round was exported (`lab`), and that export, trained somewhere else (`away`).

    Do not change it: copy it.
    """
    place = tmp_path_factory.mktemp("sent")
    with open_at(place / "lab") as lab:
        report = export_round(lab, QUICK, place / "out")
        assert report.phase == "train" and lab.rounds() == [report] and lab.adapters.list() == []
        again = export_round(lab, QUICK, place / "out")
        assert again == report
    shutil.move(place / "out", place / "away")
    job.run(place / "away", base=tiny_model)
    return place


@pytest.fixture
def place(sent: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sent, tmp_path / "here"))


@pytest.fixture
def lab(place: Path) -> Iterator[Lab]:
    with Lab.open(place / "lab") as lab:
        yield lab


def seal_again(folder: Path) -> None:
    (folder / "done").write_text(seal.of(folder, job.load(folder).id).model_dump_json())


def untouched(lab: Lab) -> bool:
    """Whether the round still waits for its training."""
    (report,) = lab.rounds()
    return report.phase == "train" and lab.adapters.list() == [] and lab.serving() is None


def test_it_comes_back_is_gated_and_serves_as_if_it_had_been_trained_here(
    place: Path, timeless: Callable[..., dict[str, Any]]
) -> None:
    shutil.copytree(place / "lab", place / "other")
    with Lab.open(place / "other") as other:
        here = other.round(QUICK)
    with Lab.open(place / "lab") as lab:
        report = import_round(lab, place / "away")
        assert report.promoted and lab.serving() == report.adapter
        assert timeless(report) == timeless(here)
        assert lab.adapters.get(str(report.adapter)).lineage.round == "round-1"
        assert list(lab.checkpointer.list(None)) == []
        (lab.folder / "jobs" / "round-1" / WEIGHTS).stat()
        again = import_round(lab, place / "away")
        assert again == report and len(lab.adapters.list()) == len(lab.rounds()) == 1
        (place / "away" / "report.json").write_text((place / "away" / "report.json").read_text() + "\n")
        seal_again(place / "away")
        with pytest.raises(JobExists, match="a round gets one adapter"):
            import_round(lab, place / "away")


def test_killed_at_any_moment_the_same_call_goes_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentlab.rounds import gating, graph

    def killed(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    moments = [(seal, "of"), (AdapterRegistry, "register"), (gating, "rollout_of"), (AdapterRegistry, "_serve")]
    for owner, name in moments:
        with Lab.open(place / "lab") as lab, monkeypatch.context() as patch:
            patch.setattr(owner, name, killed)
            with pytest.raises(KeyboardInterrupt):
                import_round(lab, place / "away")
    with Lab.open(place / "lab") as lab, monkeypatch.context() as patch:
        keep = graph.save

        def save(lab: Lab, report: RoundReport, phase: str | None = None) -> None:
            keep(lab, report, phase)
            if phase == "done":
                raise KeyboardInterrupt

        patch.setattr(graph, "save", save)
        with pytest.raises(KeyboardInterrupt):
            import_round(lab, place / "away")
    shutil.copytree(place / "lab", place / "ended")
    with Lab.open(place / "lab") as lab:
        report = import_round(lab, place / "away")
        assert report.promoted and lab.serving() == report.adapter
        assert len(lab.adapters.history()) == 1 and list(lab.checkpointer.list(None)) == []
    with Lab.open(place / "ended") as lab:
        following = export_round(lab, QUICK.model_copy(update={"collect": "none"}), place / "next")
        assert (following.id, following.phase, following.incumbent) == ("round-2", "train", report.adapter)


def test_a_round_that_waits_can_be_trained_here_after_all(lab: Lab, place: Path, told: Any) -> None:
    lab.progress = told
    assert lab.round(QUICK).promoted
    assert any("was exported to be trained elsewhere" in message for message in told.messages)
    weights = bytearray((place / "away" / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (place / "away" / WEIGHTS).write_bytes(weights)
    seal_again(place / "away")
    with pytest.raises(JobExists, match="has its results already"):
        import_round(lab, place / "away")


def test_an_adapter_that_was_trained_already_is_not_sent_away(lab: Lab, place: Path) -> None:
    job.run(lab.folder / "jobs" / "round-1")
    with pytest.raises(AgentLabError, match="round-1 is trained already"):
        export_round(lab, QUICK, place / "again")
    assert not (place / "again").exists()


@pytest.mark.parametrize("target", ["notes.txt", "notes.txt/out", "full", "away"])
def test_a_round_is_not_begun_for_a_folder_that_it_cannot_be_written_to(
    place: Path, open_lab: Callable[..., Lab], target: str
) -> None:
    """A file, a place below one, a folder that holds something else, and the job of a round of another lab."""
    (place / "notes.txt").write_text("Mine.")
    (place / "full").mkdir()
    (place / "full" / "notes.txt").write_text("Mine.")
    lab = open_lab("new")
    with pytest.raises(JobExists, match="so no round can be exported to") as caught:
        export_round(lab, QUICK, place / target)
    assert "\n" not in str(caught.value)
    assert lab.rounds() == [] and lab.database.episodes.find() == []


def test_edited_examples_and_unfinished_work_are_refused(lab: Lab, place: Path) -> None:
    examples = place / "away" / "examples.jsonl"
    whole = examples.read_text()
    examples.write_text("".join(whole.splitlines(keepends=True)[1:]))
    with pytest.raises(JobChanged, match="its examples were changed"):
        import_round(lab, place / "away")
    examples.write_text(whole)
    (place / "away" / "done").unlink()
    with pytest.raises(NotAJob, match="not trained to its end"):
        import_round(lab, place / "away")
    assert untouched(lab)


def test_the_settings_of_the_machine_that_trained_are_its_own_affair_and_no_others(lab: Lab, place: Path) -> None:
    here = job.load(lab.folder / "jobs" / "round-1")
    assert (here.config.spike, here.config.save_every, here.config.report_to) == (0.0, 50, [])
    file = place / "away" / "job.json"
    written = json.loads(file.read_text())
    machine = {"threads": 16, "attention": "flash", "save_every": 5, "checkpointing": "off", "report_to": ["wandb"]}
    file.write_text(json.dumps({**written, **machine, "learning_rate": 1e-4}))
    with pytest.raises(JobChanged, match="its settings were changed"):
        import_round(lab, place / "away")
    assert untouched(lab)
    file.write_text(json.dumps({**written, **machine}))
    assert import_round(lab, place / "away").promoted


def test_a_round_whose_job_was_made_for_other_threads_goes_on_with_it(place: Path) -> None:
    file = place / "lab" / "jobs" / "round-1" / "job.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "threads": 16}))
    with Lab.open(place / "lab") as lab:
        assert import_round(lab, place / "away").promoted


def other_rank_of_tensors(folder: Path) -> None:
    """Weights of other shapes than the base has."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    save_file({name: tensor[:, :-1].contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)


def nothing_learned(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_file({name: tensor * 0 for name, tensor in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("spoil", "error", "part"),
    [
        (other_rank_of_tensors, BadAdapter, "cannot be laid on tiny-llama"),
        (nothing_learned, CanaryFailed, "the base model answers, so the adapter is off"),
    ],
)
def test_weights_that_do_not_score_as_their_trainer_says_leave_the_round_as_it_was(
    lab: Lab, place: Path, spoil: Callable[[Path], None], error: type[Exception], part: str
) -> None:
    spoil(place / "away")
    with pytest.raises(BadAdapter, match="is not what job-"):
        import_round(lab, place / "away")
    seal_again(place / "away")
    with pytest.raises(error, match=part):
        import_round(lab, place / "away")
    assert untouched(lab) and lab.model().adapter is None


def test_an_engine_that_answers_with_the_base_is_found_out(
    lab: Lab, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = lab.engine
    monkeypatch.setattr(engine._models, "_merged", lambda folder: engine._models.base)
    with pytest.raises(CanaryFailed, match="the adapter is off"):
        import_round(lab, place / "away")
    assert untouched(lab)


def test_a_lab_whose_base_changed_meanwhile_takes_no_adapter(place: Path, tiny_model: Path) -> None:
    from agentlab.workspace.config import read_config, write_config

    base = Path(shutil.copytree(tiny_model, place / "base"))
    weights = bytearray((base / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (base / "model.safetensors").write_bytes(weights)
    file = place / "lab" / "lab.toml"
    write_config(file, read_config(file).model_copy(update={"model": str(base)}))
    with Lab.open(place / "lab") as lab:
        with pytest.raises(WrongBase, match="an adapter fits only the weights it was made for"):
            import_round(lab, place / "away")
        assert untouched(lab)


def test_a_round_of_another_lab_and_one_that_was_given_up_are_refused(lab: Lab, place: Path) -> None:
    with Lab.open(place / "new", create=True) as new, pytest.raises(AgentLabError, match="this lab does not have"):
        import_round(new, place / "away")
    abandon(lab, "round-1")
    with pytest.raises(AgentLabError, match="round-1 was abandoned"):
        import_round(lab, place / "away")


def test_nothing_in_the_folder_names_a_place_of_this_machine(sent: Path, tiny_model: Path) -> None:
    files = [path for path in (sent / "away").rglob("*") if path.is_file() and "code" not in path.parts]
    assert any(path.name == "adapter_config.json" for path in files)
    for path in files:
        for name in (str(sent), str(tiny_model), str(Path.home())):
            assert name.encode() not in path.read_bytes(), f"{name} stands in {path.name}"
    config = json.loads((sent / "away" / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny-llama"


def test_an_adapter_trained_in_another_number_format_is_recognised_here(
    sent: Path, tmp_path: Path, tiny_model: Path
) -> None:
    """What a GPU does: bfloat16 there, float32 here."""
    here = job.load(sent / "lab" / "jobs" / "round-1")
    config = here.config.model_copy(update={"dtype": "bfloat16", "epochs": 1})
    job.create(tmp_path / "job", config, here.examples[:6], here.lineage)
    outcome = job.run(tmp_path / "job")
    assert outcome.report.dtype == "bfloat16" and outcome.canary.discriminates
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu", context=512, threads=1)
    assert Model(engine, Adapter("from a GPU", outcome.adapter)).adapter_id == "from a GPU"
