from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from agentlab.cli import app
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import AgentLabError, BadConfig, UnreadableRecord
from agentlab.lab import Lab
from agentlab.progress import Progress
from agentlab.rounds import RoundConfig, RoundReport, TrainingConfig, abandon
from agentlab.rounds.graph import run_round
from agentlab.rounds.training import train
from environments import Task, TextEnv, Turn, register, registry
from memory.store import EpisodeFilter
from trainers import job
from trainers.data.selection import SelectionConfig
from trainers.errors import MissingDependency, UnknownReporter
from trainers.gate.gate import GateConfig
from trainers.training import reporting

ENV = "toy/doors?colours=2,rooms=1,step_limit=4"
QUICK = RoundConfig(
    envs=[ENV],
    seeds=12,
    gate_seeds=14,
    held_out_seeds=5,
    selection=SelectionConfig(cap_per_task=1),
    training=TrainingConfig(learning_rate=5e-3, epochs=4),
    gate=GateConfig(min_pairs=10),
)


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory, open_at: Callable[..., Lab]) -> Iterator[Lab]:
    """A lab in which a round has promoted its adapter."""
    with open_at(tmp_path_factory.mktemp("promoted") / "lab") as lab:
        lab.round(QUICK)
        yield lab


def test_a_round_says_what_it_did(promoted: Lab) -> None:
    (report,) = promoted.rounds()
    assert (report.id, report.number, report.phase, report.promoted) == ("round-1", 1, "done", True)
    assert report.config == QUICK
    assert set(report.collected) == {"random"}
    assert (report.collected["random"]["tasks"], report.collected["random"]["won"]) == (12, 12)
    assert report.collected["random"]["refining"] > 0
    assert report.selected == {ENV: 12}
    assert report.training["examples"] == 12
    assert report.training["last_loss"] < report.training["first_loss"]
    assert report.gate["promote"] is True and report.gate["paired"]["n"] + report.gate["saved"] == 14
    assert report.incumbent is None
    assert report.ended_at is not None and report.ended_at > report.started_at


def test_the_adapter_serves_and_knows_where_it_comes_from(promoted: Lab) -> None:
    (report,) = promoted.rounds()
    record = promoted.adapters.get(str(report.adapter))
    assert promoted.serving() == record.id
    assert record.status == "promoted"
    assert (record.lineage.round, record.lineage.parent, record.lineage.seeds) == ("round-1", None, [0])
    trained_on = promoted.database.episodes.load(record.lineage.episodes)
    assert len(trained_on) == 12
    assert all(episode.won and episode.split == "train" for episode in trained_on)
    assert record.gate is not None and record.gate.promote


def test_the_adapter_plays_better_than_the_base_where_nobody_has_played(promoted: Lab) -> None:
    table = promoted.evaluate(ENV, seeds=range(12), arms=["base", "adapter"])
    assert table.compare("adapter", "base").difference > 0.2
    assert {row.adapter for row in promoted.database.episodes.find(EpisodeFilter(arm="adapter"))} == {
        promoted.serving()
    }


def test_a_round_that_had_ended_unsaid_does_not_answer_for_another(
    tmp_path: Path, open_at: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_at(tmp_path / "lab") as lab:
        delete = type(lab.checkpointer).delete_thread

        def killed(saver: Any, id: str) -> None:
            if id == "round-1":
                raise KeyboardInterrupt
            delete(saver, id)

        with monkeypatch.context() as patched:
            patched.setattr(type(lab.checkpointer), "delete_thread", killed)
            with pytest.raises(KeyboardInterrupt):
                run_round(lab, QUICK)
        assert lab.rounds()[0].ended
        other = QUICK.model_copy(update={"seed": 7})
        assert run_round(lab, other, until="select").id == "round-2"


def test_a_job_that_a_kill_left_while_it_was_chosen_stands_in_nobodys_way(
    tmp_path: Path, open_at: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    create = job.create

    def killed(*made: Any) -> None:
        create(*made)
        raise KeyboardInterrupt

    with open_at(tmp_path / "lab") as lab:
        with monkeypatch.context() as patched:
            patched.setattr(job, "create", killed)
            with pytest.raises(KeyboardInterrupt):
                lab.round(QUICK)
        before = job.load(lab.folder / "jobs" / "round-1")
        lab.explore(ENV, seeds=range(40, 44))
        report = run_round(lab, QUICK, until="train")
        assert report.phase == "train" and report.selected[ENV] > 12
        assert job.load(lab.folder / "jobs" / "round-1").id != before.id


def test_a_round_of_another_version_is_named_in_a_line(tmp_path: Path, open_at: Callable[..., Lab]) -> None:
    with open_at(tmp_path / "lab") as lab:
        stored = RoundReport(id="round-1", number=1, config=QUICK, phase="done").model_dump(mode="json")
        stored["config"]["of_the_next_version"] = 1
        lab.database.rounds.put("round-1", stored)
        with pytest.raises(UnreadableRecord, match="round-1"):
            lab.round(QUICK)
    listed = CliRunner().invoke(app, ["rounds", "list", "--lab", str(tmp_path / "lab")])
    assert listed.exit_code == 0 and "round-1" in listed.stderr
    refused = CliRunner().invoke(app, ["rounds", "run", ENV, "--dry-run", "--lab", str(tmp_path / "lab")])
    assert refused.exit_code == 2


def test_a_finished_round_leaves_no_checkpoint(promoted: Lab) -> None:
    assert list(promoted.checkpointer.list(None)) == []


def test_the_next_round_takes_the_next_seeds_and_both_explore(promoted: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainers import job

    class Reached(Exception):
        pass

    def reached(folder: Path, *_: Any, **__: Any) -> Any:
        raise Reached

    before = promoted.serving()
    monkeypatch.setattr(job, "run", reached)
    with pytest.raises(Reached):
        promoted.round(QUICK.model_copy(update={"model_trials": 1}))
    monkeypatch.undo()
    report = promoted.rounds()[-1]
    assert (report.number, report.phase, report.incumbent) == (2, "train", before)
    assert set(report.collected) == {"random", "model"}
    assert {row.seed for row in promoted.database.episodes.find(EpisodeFilter(run="round-2"))} == set(range(12, 24))
    lineage = job.load(promoted.folder / "jobs" / "round-2").lineage
    assert lineage.parent == before
    finished = promoted.round(QUICK)
    assert finished.id == "round-2" and finished.phase == "done"
    assert finished.config.model_trials == 1


def test_training_that_gives_the_serving_weights_again_ends_without_a_change(
    tmp_path: Path, open_at: Callable[..., Lab]
) -> None:
    with open_at(tmp_path / "lab") as lab:
        first = lab.round(QUICK)
        again = lab.round(QUICK.model_copy(update={"collect": "none"}))
        assert first.promoted and again.promoted is False
        assert (again.adapter, lab.serving()) == (first.adapter, first.adapter)
        assert "they keep serving" in again.note
        assert lab.adapters.get(str(first.adapter)).status == "promoted"


def test_an_engine_that_may_hold_the_gpu_makes_room_before_anything_is_trained(
    open_lab: Callable[..., Lab], report: Callable[..., RoundReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Roomy(ScriptedEngine):
        made = False

        def make_room(self) -> None:
            self.made = True

    engine = Roomy({})

    def trains(*_: object, **__: object) -> None:
        raise RuntimeError("in time" if engine.made else "too early")

    monkeypatch.setattr("trainers.job.run", trains)
    monkeypatch.setattr(Lab, "model_folder", Path())
    lab, made = open_lab(engine=engine), report()
    (lab.folder / "jobs" / made.id).mkdir(parents=True)
    with pytest.raises(RuntimeError, match="in time"):
        train(lab, made)


def test_an_adapter_that_does_not_pass_the_gate_is_kept_as_rejected(
    tmp_path: Path, open_at: Callable[..., Lab]
) -> None:
    # All 14 games would have to be won by the candidate alone.
    strict = QUICK.model_copy(
        update={"gate": GateConfig(alpha=2e-4, min_pairs=1, sequential=False), "training": TrainingConfig(epochs=1)}
    )
    with open_at(tmp_path / "lab") as lab:
        report = lab.round(strict)
        assert report.promoted is False
        assert report.gate["promote"] is False and report.gate["paired"]["n"] == 14
        assert lab.serving() is None
        record = lab.adapters.get(str(report.adapter))
        assert record.status == "rejected"
        assert (lab.folder / record.path / "adapter_model.safetensors").exists()


class Interrupts(Progress):
    """Presses Ctrl-C when a stage begins, once."""

    def __init__(self, stage: str) -> None:
        self.stage: str | None = stage
        self.messages: list[str] = []
        self.stages: list[str] = []

    def say(self, message: str) -> None:
        self.messages.append(message)

    def start(self, stage: str, total: int) -> None:
        self.stages.append(stage)
        if self.stage and stage.startswith(self.stage):
            self.stage = None
            raise KeyboardInterrupt


def test_an_unfinished_round_is_finished_first_with_its_own_settings(
    tmp_path: Path, open_at: Callable[..., Lab]
) -> None:
    progress = Interrupts("gate: candidate")
    with open_at(tmp_path / "lab", progress) as lab:
        with pytest.raises(KeyboardInterrupt):
            lab.round(QUICK)
        progress.stages.clear()
        report = lab.round(QUICK.model_copy(update={"seeds": 99}))
        assert report.id == "round-1" and report.config == QUICK
        assert progress.messages[-2:] == [
            "Going on with round-1 at 'gate'.",
            "Its settings differ from those given now; it keeps its own.",
        ]
        assert [stage.split()[0] for stage in progress.stages] == ["gate:", "gate:"]


def test_what_the_gate_did_not_compare_with_is_not_replaced(
    tmp_path: Path, open_at: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_at(tmp_path / "lab") as lab:
        with monkeypatch.context() as patch:
            patch.setattr(lab.adapters, "promote", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                lab.round(QUICK)
        lab.database.settings.put("serving adapter", "adapter-other")  # a person's doing, before the round goes on
        report = lab.round(QUICK)
        assert (report.phase, report.promoted) == ("done", False)
        assert "adapter-other was promoted meanwhile" in report.note
        assert lab.serving() == "adapter-other"


def test_a_round_without_a_success_says_so_and_the_next_call_is_a_new_round(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    hopeless = RoundConfig(envs=["toy/doors?rooms=6,colours=6"], seeds=2, random_trials=1, held_out_seeds=0)
    for number in (1, 2):
        with pytest.raises(AgentLabError, match=f"round-{number} found no success to train on.*give it more seeds"):
            lab.round(hopeless)
    assert [report.phase for report in lab.rounds()] == ["failed", "failed"]
    assert len(lab.database.episodes.find()) == 4
    assert list(lab.checkpointer.list(None)) == []


class OneDoor(TextEnv):
    """A game of one action. `form` is how it begins, with the task's name in it if its folds are to differ."""

    def __init__(self, form: str = "A door.", goal: str = "Open it.") -> None:
        super().__init__("own/door", 3)
        self.form, self.goal = form, goal

    def begin(self, task: Task) -> Turn:
        return Turn(self.form.format(task.id), ["open"], goal=self.goal)

    def act(self, action: str) -> Turn:
        return Turn("Open.", ["open"], 1.0, won=True)


@pytest.fixture
def registered() -> Iterator[Callable[[Callable[[], TextEnv]], None]]:
    """Registers a game as own/door for the time of a test."""
    yield lambda factory: register("own/door", factory)
    registry.unregister("own/door")


def test_a_success_that_is_too_long_to_train_on_is_left_out_and_counted(
    tmp_path: Path, open_at: Callable[..., Lab], registered: Callable[..., None]
) -> None:
    registered(lambda: OneDoor("Door {}.", "Open the door after reading all of this. " * 20))
    settings = RoundConfig(envs=["own/door"], seeds=2, held_out_seeds=0, training=TrainingConfig(max_tokens=64))
    with open_at(tmp_path / "lab") as lab, pytest.raises(AgentLabError, match="2 too long"):
        lab.round(settings)


def test_what_begins_like_a_held_out_game_is_not_trained_on(
    open_lab: Callable[..., Lab], registered: Callable[..., None]
) -> None:
    registered(OneDoor)
    lab = open_lab()
    with pytest.raises(AgentLabError, match="2 begins like a held-out game"):
        lab.round(RoundConfig(envs=["own/door"], seeds=2, held_out_seeds=0))
    assert lab.rounds()[0].collected["random"]["won"] == 2


@pytest.mark.parametrize("more", [{"seeds": 4}, {"gate_seeds": 4}, {"first_seed": 2}])
def test_a_round_that_needs_more_games_than_there_are_is_refused_and_does_not_block_the_next(
    open_lab: Callable[..., Lab], registered: Callable[..., None], more: dict[str, int]
) -> None:
    class Few(OneDoor):
        def seeds(self, split: str) -> range:  # type: ignore[override]
            return range(3)

    registered(Few)
    lab = open_lab()
    with pytest.raises(BadConfig, match=r"own/door has no (train|dev) game 3"):
        gate = GateConfig(min_pairs=1, alpha=0.9)
        lab.round(RoundConfig(**{"envs": ["own/door"], "seeds": 2, "gate_seeds": 2, "gate": gate, **more}))
    assert lab.rounds() == [] and lab.database.episodes.find() == []


@pytest.mark.parametrize(("name", "error"), [("wandbb", UnknownReporter), ("trackio", MissingDependency)])
def test_a_round_whose_curves_cannot_go_where_they_should_is_refused_before_anything_is_played(
    open_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch, name: str, error: type[Exception]
) -> None:
    monkeypatch.setattr(reporting, "find_spec", lambda package: None)
    lab = open_lab()
    config = RoundConfig(envs=[ENV], seeds=2, training=TrainingConfig(report_to=[name]))
    with pytest.raises(error):
        lab.round(config)
    assert lab.rounds() == [] and lab.database.episodes.find() == []
    if error is MissingDependency:  # where it is sent to, it may be installed
        assert run_round(lab, config, until="balance").phase == "collect"


@pytest.mark.parametrize(
    "wrong", [{"envs": []}, {"envs": ["toy/doors"], "sedes": 3}, {"envs": ["toy/doors"], "temperature": 0}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RoundConfig(**wrong)


def test_a_round_that_fails_the_same_way_each_time_can_be_abandoned(
    tmp_path: Path, open_at: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainers import job
    from trainers.errors import TrainersError

    def fails(folder: Path, *_: Any, **__: Any) -> Any:
        raise TrainersError("the disk is full")

    with open_at(tmp_path / "lab") as lab:
        monkeypatch.setattr(job, "run", fails)
        for _ in range(2):
            with pytest.raises(TrainersError):
                lab.round(QUICK)
        assert [report.phase for report in lab.rounds()] == ["train"]
        episodes = lab.database.episodes.find()
        given_up = abandon(lab, "round-1", "no disk")
        assert (given_up.phase, given_up.promoted) == ("abandoned", None) and given_up.ended_at is not None
        assert "Abandoned at 'train': no disk." in given_up.note
        assert list(lab.checkpointer.list(None)) == []
        assert lab.database.episodes.find() == episodes and (lab.folder / "jobs" / "round-1").exists()
        with pytest.raises(TrainersError):
            lab.round(QUICK)
        assert [report.phase for report in lab.rounds()] == ["abandoned", "train"], "the next call is a new round"
        with pytest.raises(AgentLabError, match="round-1 has ended"):
            abandon(lab, "round-1")


def test_reports_survive_being_stored() -> None:
    report = RoundReport(id="round-1", number=1, config=QUICK)
    assert RoundReport.model_validate(report.model_dump(mode="json")) == report
