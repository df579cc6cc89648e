from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import agentlab
import environments
from agentlab.agent.arms import BASE, BASE_MEMORY, RANDOM, Arm, RecallConfig, adapter_arms
from agentlab.agent.policy import Policy
from agentlab.agent.tasks import make_tasks
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import AgentLabError, BadConfig, NotALab, UnknownModel
from agentlab.experiments.evaluation import Table
from agentlab.lab import Lab
from agentlab.reflectors.base import reflection_of
from agentlab.workspace.config import LabConfig
from environments import Task, Turn, UnknownEnvironment
from environments.toy import Doors
from memory.errors import NewerDatabase
from memory.records import Episode, Reflection
from memory.store import EpisodeFilter, Filter
from trainers.adapters.record import AdapterRecord
from trainers.adapters.registry import AdapterRegistry
from trainers.errors import UnknownAdapter


def test_a_folder_without_a_lab_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(NotALab, match=r"does not exist; make one with `agentlab run`"):
        Lab.open(tmp_path / "lab")
    with pytest.raises(NotALab, match="is not a lab"):
        Lab.open(tmp_path)


def test_a_lab_is_made_only_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(NotALab, match="exists and is not a lab"):
        Lab.open(tmp_path, create=True)
    with pytest.raises(NotALab, match="exists and is not a lab"):
        Lab.open(tmp_path / "thesis.txt", create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_lab_keeps_the_settings_that_it_was_made_with(open_lab: Callable[..., Lab], tmp_path: Path) -> None:
    open_lab(seed=5).close()
    with Lab.open(tmp_path / "lab", create=True, config=LabConfig(seed=9)) as lab:
        assert lab.config.seed == 5


def test_a_database_of_a_newer_version_is_refused_and_left_alone(open_lab: Callable[..., Lab]) -> None:
    import sqlite3

    lab = open_lab()
    assert lab.database
    lab.close()
    with sqlite3.connect(lab.folder / "lab.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = (lab.folder / "lab.db").read_bytes()
    with pytest.raises(NewerDatabase, match="update the program"):
        _ = open_lab().database
    assert (lab.folder / "lab.db").read_bytes() == before


def test_looking_changes_nothing_and_may_not_work(open_lab: Callable[..., Lab], note_reader: ScriptedEngine) -> None:
    lab = open_lab()
    lab.run("toy/doors", seeds=[0], trials=1, arm="base")
    with Lab.open(lab.folder, write=False, engine=note_reader) as looking:
        assert looking.database.episodes.find() == lab.database.episodes.find() != []
        with pytest.raises(AgentLabError, match="opened for looking only"):
            looking.run("toy/doors", seeds=[1])
        with pytest.raises(AgentLabError, match="opened for looking only"):
            looking.round(agentlab.RoundConfig(envs=["toy/doors"]))


def test_arms_have_names(open_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> None:
    lab = open_lab()
    assert [lab.arm(name) for name in ("random", "base", "base + memory", "base+memory")] == [
        RANDOM,
        BASE,
        BASE_MEMORY,
        BASE_MEMORY,
    ]
    with pytest.raises(AgentLabError, match="No adapter serves yet"):
        lab.arm("adapter")
    with pytest.raises(UnknownAdapter, match=r"no arm 'basse'.*did you mean 'base'"):
        lab.arm("basse + memory")
    with pytest.raises(UnknownAdapter, match=r"'zzz'.*society and steering-ID@STRENGTH"):
        lab.arm("zzz")
    with pytest.raises(AgentLabError, match="'random' has no memory"):
        lab.arm("random + memory")
    monkeypatch.setattr(lab, "serving", lambda: "adapter-abc")
    assert lab.arm("adapter") == adapter_arms("adapter-abc")[0]
    assert lab.arm("adapter + memory") == adapter_arms("adapter-abc")[1]


def test_an_arm_is_what_it_does_and_not_its_name() -> None:
    assert Arm("a").identity == Arm("b").identity
    assert Arm("a").identity != Arm("a", recall=RecallConfig()).identity
    assert Arm("a", recall=RecallConfig()).identity != Arm("a", recall=RecallConfig(similarity=0.5)).identity
    assert BASE.with_(name="x") == Arm("x")


def test_tasks_are_each_environment_with_each_seed_once() -> None:
    tasks = make_tasks(["toy/doors?rooms=2", "toy/doors", "toy/doors?rooms=3"], "dev", [1, 0, 1])
    assert [task.id for task in tasks] == [
        "toy/doors:dev:1",
        "toy/doors:dev:0",
        "toy/doors?rooms=3:dev:1",
        "toy/doors?rooms=3:dev:0",
    ]


def test_tasks_that_make_no_sense_are_refused_before_anything_is_played(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    with pytest.raises(UnknownEnvironment, match="did you mean `toy/doors`"):
        lab.run(["toy/doors", "toy/dors"])
    for work in (lab.run, lab.evaluate):
        with pytest.raises(BadConfig, match="nothing to play"):
            work("toy/doors", seeds=[])
        with pytest.raises(BadConfig, match="nothing to play"):
            work([])
    assert lab.database.episodes.find() == []


def test_a_run_stores_episodes_reflections_and_its_progress(open_lab: Callable[..., Lab], told: Any) -> None:
    lab = open_lab(progress=told)
    results = lab.run("toy/doors", seeds=range(3), arm="base + memory")
    assert all(result.won_within(1) for result in results)
    assert told.stages == {"base + memory, train": (3, 3)}
    assert told.finished == ["base + memory, train"]
    assert {found.kind for found in lab.database.reflections.find()} == {"grounded", "exemplar"}
    (run,) = {row.run for row in lab.database.episodes.find()}
    assert run.startswith("run-train-")


def test_reflectors_are_a_setting_and_may_be_ones_own(open_lab: Callable[..., Lab]) -> None:
    engine = ScriptedEngine({"look": 0.0}, answers=["Do something else."])
    lab = open_lab(engine=engine, reflectors=["written"])
    lab.run("toy/doors", seeds=[0], trials=1, arm=BASE_MEMORY.with_(recall=RecallConfig(advice=False)))
    assert [found.text for found in lab.database.reflections.find()] == ["Do something else."]

    class Mine:
        name = "mine"

        def reflect(self, episode: Episode) -> list[Reflection]:
            return [reflection_of(episode, kind=self.name, text="Mine.", steps=[0])]

    lab.run("toy/doors", seeds=[1], trials=1, name="other", reflectors=[Mine()])
    assert [found.text for found in lab.database.reflections.find(Filter(kinds=["mine"], status=None))] == ["Mine."]


def test_what_a_run_wrote_serves_the_next_run(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    lab.run("toy/doors", seeds=range(3), trials=1, name="first")
    lab.run("toy/doors", split="test", seeds=range(2), trials=1, name="second")
    first, second = (
        [lab.database.episodes.get(row.id) for row in lab.database.episodes.find(EpisodeFilter(run=run))]
        for run in ("first", "second")
    )
    assert not any(episode.hints for episode in first)
    assert all("Example. Task:" in episode.hints for episode in second)


def test_other_games_are_another_run_which_recalls_what_the_first_one_taught(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    first = lab.run("toy/doors", seeds=range(3), trials=1)
    second = lab.run("toy/doors", seeds=range(3, 5), trials=1)
    known = [
        [lab.database.recalls.of_episode(result.trials[0].episode) for result in found] for found in (first, second)
    ]
    assert not any(known[0])
    assert all(known[1])
    for result, recalls in zip(second, known[1], strict=True):  # unless it was held out, it stood in the prompt
        assert bool(lab.database.episodes.get(result.trials[0].episode).hints) != recalls[0].held_out


def test_a_run_that_goes_on_without_what_was_learned_since_says_so(open_lab: Callable[..., Lab], told: Any) -> None:
    lab = open_lab(progress=told)
    lab.run("toy/doors", seeds=[0])
    lab.run("toy/doors", seeds=[0])
    assert told.messages == []
    lab.run("toy/doors", seeds=[1])
    lab.run("toy/doors", seeds=[0])
    (message,) = told.messages
    assert message.startswith("Going on with 'run-train-") and "--name" in message


def test_an_evaluation_after_more_learning_is_another_one_with_what_is_known_by_now(
    open_lab: Callable[..., Lab], told: Any
) -> None:
    lab = open_lab(progress=told)
    arms = ["base", "base + memory"]
    first = lab.evaluate("toy/doors", seeds=[0], arms=arms)
    assert lab.evaluate("toy/doors", seeds=[0], arms=arms) == first
    lab.run("toy/doors", seeds=[1])
    before = len(lab.database.episodes.find())
    second = lab.evaluate("toy/doors", seeds=[0], arms=arms)
    assert second.about["name"] != first.about["name"] and second.about["date"] > first.about["date"]
    assert len(lab.database.episodes.find()) == before + 1, "what depends on no memory is not played again"
    hints = [
        bool(lab.database.episodes.get(row.id).hints)
        for row in lab.database.episodes.find(EpisodeFilter(split="test", arm="base + memory"))
    ]
    assert hints == [False, True]
    assert lab.evaluate("toy/doors", seeds=[0], arms=arms) == second
    assert set(lab.database.evaluations.all()) == {first.about["name"], second.about["name"]}
    assert told.messages == [], "nothing old was shown, so there is nothing to say"


def test_what_no_memory_plays_in_is_told_again_whatever_was_learned(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    first = lab.evaluate("toy/doors", seeds=[0], arms=["base"])
    lab.run("toy/doors", seeds=[1])
    count = len(lab.database.episodes.find())
    assert lab.evaluate("toy/doors", seeds=[0], arms=["base"]) == first
    assert len(lab.database.episodes.find()) == count


def test_evaluations_of_other_games_have_records_of_their_own(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    measured = [
        lab.evaluate("toy/doors", seeds=[0], arms=["base"]),
        lab.evaluate("toy/doors?rooms=3", seeds=[0], arms=["base"]),
        lab.evaluate("toy/doors", seeds=[1], arms=["base"]),
        lab.evaluate("toy/doors", seeds=[0], arms=["random"]),
        lab.evaluate("toy/doors", seeds=[0], arms=["base"], split="dev"),
        lab.evaluate("toy/doors", seeds=[0], arms=["base"], trials=2),
        lab.evaluate("toy/doors", seeds=[0], arms=["base"], name="mine"),
        lab.evaluate("toy/doors", seeds=[2], arms=["base"], name="mine"),
    ]
    kept = lab.database.evaluations.all()
    assert len(kept) == len(measured)
    for table in measured:
        found = kept[table.about["name"]]
        assert found["envs"] == table.envs and found["about"] == table.about


def test_a_named_evaluation_grows_by_the_arms_and_trials_that_are_measured_on_its_games(
    open_lab: Callable[..., Lab],
) -> None:
    lab = open_lab()
    first = lab.evaluate("toy/doors", seeds=[0, 1], arms=["base"], trials=2, name="mine")
    second = lab.evaluate("toy/doors", seeds=[0, 1], arms=["random", "base"], name="mine")
    assert [row.arm for row in second.rows] == ["random", "base"], "told is what was asked for"
    stored = lab.database.evaluations.all()
    assert stored.keys() == {"mine"} and stored["mine"]["about"] == second.about
    rows = {row["arm"]: row for row in stored["mine"]["rows"]}
    assert list(rows) == ["base", "base + retry, 2 trials", "random"]
    for row in (*first.rows, *second.rows):
        assert rows[row.arm] == row.model_dump(mode="json")
    assert lab.evaluate("toy/doors", seeds=[0, 1], arms=["base"], trials=2, name="mine").rows == first.rows


def test_games_that_were_played_another_way_have_a_record_of_their_own_under_one_name(
    open_lab: Callable[..., Lab],
) -> None:
    engine = ScriptedEngine({}, replies=lambda request: (request.commands or ["wait"])[0])
    lab = open_lab(engine=engine, actor="write")
    written = lab.evaluate("toy/doors", seeds=[0], arms=["base"], name="mine")
    lab.config = lab.config.model_copy(update={"actor": "rank"})
    lab.evaluate("toy/doors", seeds=[0], arms=["random"], name="mine")
    kept = lab.database.evaluations.all()
    assert len(kept) == 2 and kept[written.about["name"]]["about"] == written.about


def test_another_arm_under_the_name_of_one_that_was_measured_takes_no_place(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    mild, hot = (BASE.with_(name="mine", policy=Policy(temperature=heat)) for heat in (0.1, 9.0))
    measured = [lab.evaluate("toy/doors", seeds=range(4), arms=arm, name="x") for arm in (mild, hot, mild, hot)]
    kept = lab.database.evaluations.all()
    assert len(kept) == 2 and measured[:2] == measured[2:]
    for table in measured[:2]:
        assert kept[table.about["name"]]["rows"] == [row.model_dump(mode="json") for row in table.rows]


def test_a_record_of_an_earlier_version_takes_no_other_games_and_no_other_adapter_under_one_name(
    open_lab: Callable[..., Lab], note_reader: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AdapterRegistry, "folder_of", lambda self, adapter, base=None: Path())
    monkeypatch.setattr(Lab, "fingerprint", "f")
    lab = open_lab()
    for id in ("adapter-a", "adapter-b"):
        record = AdapterRecord(id=id, base="b", fingerprint="f", path=f"adapters/{id}")
        lab.adapters.records.put(record)
    note_reader.by_adapter = {"adapter-b": {"look": 0.0}}
    lab.adapters.promote("adapter-a", force=True)
    won = lab.evaluate("toy/doors", seeds=[0, 1], arms=["adapter"], name="mine").row("adapter")
    record_of = lab.database.evaluations.get("mine")
    assert record_of is not None
    lab.database.evaluations.put("mine", record_of | {"about": {"name": "mine"}})
    lab.evaluate("toy/doors", seeds=[2], arms=["base"], name="mine")
    lab.evaluate("toy/doors", seeds=[0, 1], arms=["base"], name="mine")
    lab.adapters.promote("adapter-b", force=True)
    lost = lab.evaluate("toy/doors", seeds=[0, 1], arms=["adapter"], name="mine").row("adapter")
    assert won.cells["all"].wins == 2 and lost.cells["all"].wins == 0
    kept = Table.model_validate(lab.database.evaluations.get("mine"))
    assert [row.arm for row in kept.rows] == ["adapter", "base"] and kept.row("adapter") == won
    assert len(lab.database.evaluations.all()) == 3


def test_by_default_the_adapter_plays_and_is_measured_where_one_serves(
    open_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AdapterRegistry, "folder_of", lambda self, adapter, base=None: Path())
    monkeypatch.setattr(Lab, "fingerprint", "f")
    lab = open_lab()

    def played() -> tuple[str, str | None]:
        episode = lab.database.episodes.get(lab.run("toy/doors", seeds=[0], trials=1)[0].trials[0].episode)
        return episode.arm, episode.adapter

    assert played() == ("base + memory", None)
    assert [row.arm for row in lab.evaluate("toy/doors", seeds=[0]).rows] == ["random", "base", "base + memory"]
    lab.adapters.records.put(AdapterRecord(id="adapter-a", base="b", fingerprint="f", path="adapters/adapter-a"))
    lab.adapters.promote("adapter-a", force=True)
    assert played() == ("adapter + memory", "adapter-a")
    measured = [row.arm for row in lab.evaluate("toy/doors", seeds=[0]).rows]
    assert measured == ["random", "base", "base + memory", "adapter", "adapter + memory"]


def test_an_evaluation_that_errored_goes_on_with_the_memory_that_it_began_with(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    broken = True

    class Sometimes(Doors):
        def begin(self, task: Task) -> Turn:
            if broken and task.split == "test" and task.seed == 1:
                raise ConnectionError("the server is gone")
            return super().begin(task)

    environments.register("own/doors", lambda: Sometimes("own/doors"))
    try:
        first = lab.evaluate("own/doors", seeds=range(3), arms=["base + memory"])
        assert (first.rows[0].cells["all"].n, first.rows[0].cells["all"].errored) == (2, 1)
        lab.run("own/doors", seeds=[1])
        broken = False
        second = lab.evaluate("own/doors", seeds=range(3), arms=["base + memory"])
    finally:
        environments.unregister("own/doors")
    assert second.about == first.about
    assert (second.rows[0].cells["all"].n, second.rows[0].cells["all"].errored) == (3, 0)
    rows = lab.database.episodes.find(EpisodeFilter(split="test"))
    assert len(rows) == 3 and not any(lab.database.episodes.get(row.id).hints for row in rows)


def test_why_episodes_errored_is_said_once_for_each_cause(open_lab: Callable[..., Lab], told: Any) -> None:
    class Broken(Doors):
        def begin(self, task: Task) -> Turn:
            raise RuntimeError(f"no level for {'even' if task.seed % 2 else 'odd'} numbers")

    lab = open_lab(progress=told)
    environments.register("own/doors", lambda: Broken("own/doors"))
    try:
        results = lab.run("own/doors", seeds=range(6), arm="base")
    finally:
        environments.unregister("own/doors")
    assert all(trial.error_kind == "environment" for result in results for trial in result.trials)
    assert len(told.messages) == 2
    assert all("own/doors" in message and "no level for" in message for message in told.messages)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_looking_into_a_lab_in_which_nothing_was_played_makes_nothing(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    lab.close()
    before = files(lab.folder)
    with Lab.open(lab.folder, write=False) as looking:
        assert looking.database.episodes.find() == [] and looking.rounds() == [] and looking.serving() is None
        assert looking.memory.search("coin") == []
        with pytest.raises(AgentLabError, match="for looking only"):
            _ = looking.checkpointer
    assert files(lab.folder) == before


def test_looking_into_a_lab_changes_nothing_even_while_somebody_writes(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    lab.run("toy/doors", seeds=range(3), trials=1)
    lab.memory.save()
    before = {name: len(data) for name, data in files(lab.folder).items()}
    with Lab.open(lab.folder, write=False) as looking:
        assert looking.memory.search("coin")
        assert looking.database.episodes.find() == lab.database.episodes.find() != []
        assert {name: len(data) for name, data in files(lab.folder).items()} == before
    lab.run("toy/doors", seeds=[7], trials=1)


def test_a_lab_is_not_made_by_looking(tmp_path: Path) -> None:
    with pytest.raises(NotALab):
        Lab.open(tmp_path / "lab", create=True, write=False)
    assert not (tmp_path / "lab").exists()


def test_a_closed_lab_is_closed(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    lab.run("toy/doors", seeds=[0], trials=1)
    before = lab.database.episodes.find()
    lab.close()
    asked: list[Callable[[], Any]] = [
        lambda: lab.run("toy/doors", seeds=[1]),
        lambda: lab.evaluate("toy/doors", seeds=[1]),
        lambda: lab.round(agentlab.RoundConfig(envs=["toy/doors"])),
        lambda: lab.two_by_two("toy/doors"),
        lab.rounds,
        lambda: lab.database,
        lambda: lab.memory,
        lambda: lab.store,
        lambda: lab.checkpointer,
    ]
    for ask in asked:
        with pytest.raises(match="was closed; open it again"):
            ask()
    lab.close()
    with Lab.open(lab.folder) as again:
        assert again.database.episodes.find() == before


def test_an_evaluation_shows_every_arm_first_and_within_its_trials(open_lab: Callable[..., Lab]) -> None:
    lazy = ScriptedEngine({"look": 0.0}, floor=-1.0)
    lab = open_lab(engine=lazy)
    table = lab.evaluate("toy/doors?rooms=2", seeds=range(4), trials=6)
    assert [row.arm for row in table.rows] == [
        "random",
        "base",
        "base + retry, 6 trials",
        "base + memory",
        "base + memory, 6 trials",
    ]
    assert table.envs == ["toy/doors"]
    assert all(set(row.cells) == {"toy/doors", "all"} and row.cells["all"].n == 4 for row in table.rows)
    assert table.row("base").cells["all"].wins == 0
    assert table.row("base + retry, 6 trials").cells["all"].score > 0
    assert table.about["seeds"] == [0, 3] and table.about["split"] == "test"
    assert table.comparisons == [], "what is shown is the caller's choice; what is stored has them"
    assert lab.database.evaluations.get(table.about["name"]) == json.loads(table.compare_with_base().model_dump_json())


def test_the_same_evaluation_again_plays_nothing_and_gives_the_same_table(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    first = lab.evaluate("toy/doors", seeds=range(3), trials=2)
    count = len(lab.database.episodes.find())
    assert lab.evaluate("toy/doors", seeds=range(3), trials=2) == first
    assert len(lab.database.episodes.find()) == count


def test_arms_are_paired_they_meet_the_same_games_and_the_same_luck(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab(engine=ScriptedEngine({}))
    arms = [Arm("one", policy=Policy(temperature=1.0)), Arm("two", policy=Policy(temperature=1.0))]
    table = lab.evaluate("toy/doors", seeds=range(6), arms=arms)
    assert table.row("one").outcomes == table.row("two").outcomes


def test_the_engine_is_the_model_of_the_settings_loaded_once(tmp_path: Path, tiny_model: Path) -> None:
    config = LabConfig(model=str(tiny_model), embedder="hashing", threads=1, context=512, dtype="float32")
    with Lab.open(tmp_path / "lab", create=True, config=config) as lab:
        engine: Any = lab.engine
        assert (engine.folder, engine.name, engine.context) == (tiny_model, str(tiny_model), 512)
        assert lab.engine is engine
        assert lab.threads == 1
        (result,) = lab.run("toy/doors", seeds=[0], trials=1, arm="base")
        assert lab.database.episodes.get(result.trials[0].episode).token_ids


def test_a_model_that_nobody_knows_makes_no_lab(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="did you mean 'SmolLM2-135M-Instruct'"):
        Lab.open(tmp_path / "lab", create=True, config=LabConfig(model="SmolLM2-135M"))
    assert not (tmp_path / "lab").exists()


def test_the_random_arm_needs_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTLAB_CACHE", str(tmp_path / "cache"))
    with Lab.open(tmp_path / "lab", create=True, config=LabConfig(embedder="hashing")) as lab:
        assert len(lab.run("toy/doors", seeds=[0], arm="random")) == 1
    assert not (tmp_path / "cache").exists()


def test_all_processors_are_taken_unless_fewer_are_asked_for(open_lab: Callable[..., Lab]) -> None:
    import os

    lab = open_lab()
    lab.config = LabConfig(threads=0)
    assert lab.threads == len(os.sched_getaffinity(0))


def test_a_damaged_index_is_rebuilt_and_said(open_lab: Callable[..., Lab], told: Any) -> None:
    lab = open_lab()
    lab.run("toy/doors", seeds=range(3), trials=1)
    lab.close()
    index = lab.folder / "memory.faiss"
    index.write_bytes(index.read_bytes()[:40])
    again = open_lab(progress=told)
    assert len(again.memory.search("coin")) > 0
    assert len(told.messages) == 1


def test_damaged_checkpoints_are_named_and_may_go(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    lab.database.settings.put("opened", 1)
    file = lab.folder / "checkpoints.db"
    file.write_bytes(b"no database" * 100)
    with pytest.raises(NotALab, match=r"checkpoints\.db cannot be read .* delete it"):
        lab.run("toy/doors", seeds=[0], arm="base")
    file.unlink()
    assert lab.run("toy/doors", seeds=[0], arm="base")[0].won_within(1)


def test_ten_names_are_enough_and_importing_them_costs_nothing_heavy() -> None:
    for name in agentlab.__all__:
        assert getattr(agentlab, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Labb'"):
        _ = agentlab.Labb  # type: ignore[attr-defined]
    code = """
import sys
import agentlab, agentlab.lab, agentlab.workspace.config
heavy = {"torch", "transformers", "faiss", "langgraph", "peft", "sentence_transformers"}
print(sorted(heavy & set(sys.modules)))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize("package", ["agentlab", "trainers"])
def test_threads_that_wait_sleep_unless_somebody_has_said_otherwise(package: str) -> None:
    code = f"import {package}, os; print(os.environ['OMP_WAIT_POLICY'])"
    free = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    for given, expected in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        shown = subprocess.run(
            [sys.executable, "-c", code], env=free | given, capture_output=True, text=True, check=True
        )
        assert shown.stdout.strip() == expected


def test_a_lab_has_a_langgraph_store_in_its_own_files(open_lab: Callable[..., Lab]) -> None:
    with open_lab() as lab:
        lab.store.put(("notes",), "a", {"text": "the red door"})
        lab.store.put(("notes",), "b", {"text": "the green tree"})
        assert [item.key for item in lab.store.search(("notes",), query="green")] == ["b", "a"]
    assert (lab.folder / "memory.items.faiss").exists()
    with Lab.open(lab.folder, write=False) as lab:
        assert [item.key for item in lab.store.search((), query="red door", limit=1)] == ["a"]


def test_looking_leaves_a_lab_as_it_was(open_lab: Callable[..., Lab]) -> None:
    with open_lab() as lab:
        lab.run("toy/doors", seeds=range(2), trials=1)
    before = files(lab.folder)
    with Lab.open(lab.folder, write=False) as looking:
        assert (
            {row.seed for row in looking.database.episodes.find()} == {0, 1}
            and looking.memory.search("coin")
            and looking.rounds() == []
        )
        assert looking.adapters.list() == [] and looking.store.search(()) == []
    assert files(lab.folder) == before


def test_another_model_plays_from_the_moment_on_when_it_is_taken(open_lab: Callable[..., Lab], tmp_path: Path) -> None:
    lab = open_lab()
    before, engine = lab.fingerprint, lab.engine
    other = tmp_path / "other"
    shutil.copytree(lab.model_folder, other)
    weights = load_file(other / "model.safetensors")
    save_file({name: 0.99 * tensor for name, tensor in weights.items()}, other / "model.safetensors", {"format": "pt"})
    assert lab.take_model(str(other))
    assert lab.engine is not engine and lab.engine.name == str(other)
    assert lab.fingerprint != before


def test_a_run_without_reflectors_is_another_than_one_with_those_of_the_settings(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab(engine=ScriptedEngine({}))
    runs = [lab.run("toy/doors", seeds=[0], trials=1, reflectors=who) for who in (None, (), None)]
    first, without, again = (results[0].trials[0].episode for results in runs)
    assert first == again != without
