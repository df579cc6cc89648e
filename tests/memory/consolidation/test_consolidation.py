"""A plan that can be read before it is done, and a job that may be killed anywhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from memory import Database, HashingEmbedder, Reflection, ReflectionMemory
from memory.consolidation.consolidation import METHODS, Consolidation, ConsolidationConfig
from memory.store.history import History

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ConsolidationConfig(summary=3, batch=2, similar=0.2, duplicate=0.95)

FILL = """
import os, signal, sys
from pathlib import Path
from memory import Advice, Database, Episode, Evidence, HashingEmbedder, Recall, Reflection, ReflectionMemory, Step
from memory.consolidation.consolidation import Consolidation, ConsolidationConfig

CONFIG = ConsolidationConfig(summary=3, batch=2, similar=0.2, duplicate=0.95)
NOW = "2030-06-30T00:00:00.000000+00:00"
OLD = "2030-01-01T00:00:00.000000+00:00"

def opened(folder):
    database = Database(folder / "lab.db")
    return ReflectionMemory(database, HashingEmbedder(64), folder / "texts.faiss", clock=lambda: NOW)

def walk(states, actions, won):
    pairs = zip(states, states[1:], actions)
    return [
        Step(index=i, observation=a, state=a, admissible=[], action=act, result="", next_state=b,
             reward=float(won and i == len(actions) - 1))
        for i, (a, b, act) in enumerate(pairs)
    ]

def fill(memory):
    database = memory.database
    for seed in range(4):
        for trial, won in enumerate((False, True)):
            id = f"ep-{seed}-{trial}"
            states = "SASABE" if won else "SAS"
            actions = ["go a", "go back", "go a", "look at b", "take coin"] if won else ["go a", "jump in pit"]
            database.episodes.put(Episode(
                id=id, run="r", env="e", split="train", seed=seed, trial=trial, goal="Take the coin.",
                status="won" if won else "lost", score=float(won), steps=walk(states, actions, won)))
            memory.remember([Reflection(
                id=f"g-{seed}-{trial}", kind="grounded", env="e", task=f"e:train:{seed}", run="r", tags=["won"],
                text=f"The coin of game {seed} {trial} lay in room {seed} behind {trial} doors.", created_at=NOW,
                updated_at=NOW, advice=[Advice(state="S", action="go a", visits=1, value=0.5)],
                evidence=[Evidence(episode=id, steps=[0])])])
    for number in range(4):
        for copy in range(3):
            database.reflections.put(Reflection(
                id=f"w-{number}-{copy}", kind="written", env="e", task=f"e:train:{copy}", run="r", created_at=NOW,
                updated_at=NOW, text=f"Lesson {number}: try door {number} before all the others, it is open.",
                pinned=(number, copy) == (3, 2)))
    for number in range(3):
        memory.remember([Reflection(
            id=f"old-{number}", kind="written", env="e", task="e:train:0", run="r", created_at=OLD, updated_at=OLD,
            text=f"An old story number {number} that nobody ever asked for again {number}.", pinned=number == 2)])
    database.reflections.put(Reflection(
        id="bob", kind="written", env="e", task="e:train:0", run="r", namespace="bob", created_at=OLD, updated_at=OLD,
        text="Lesson 0: try door 0 before all the others, it is open."))
    database.recalls.put([
        Recall(episode=f"ep-{seed}-0", reflection=id, rank=0, query="q", score=1.0, at=OLD, won=False)
        for seed in range(2) for id in ("g-0-0", "g-1-0")])
"""

KILLED = """
memory = opened(Path(sys.argv[1]))
database, left = memory.database, int(sys.argv[2])

def counted(write):
    def wrapper(*arguments, **named):
        global left
        result = write(*arguments, **named)
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapper

for repository, name in (
    (database.reflections, "put"), (database.links, "apply"), (database.journal, "put"), (database.settings, "put")
):
    setattr(repository, name, counted(getattr(repository, name)))
Consolidation(memory, CONFIG).run()
print(int(sys.argv[2]) - left)
"""

_names: dict[str, Any] = {}
exec(FILL, _names)
opened, fill = _names["opened"], _names["fill"]


@pytest.fixture
def filled(tmp_path: Path) -> ReflectionMemory:
    memory: ReflectionMemory = opened(tmp_path)
    fill(memory)
    return memory


def state(memory: ReflectionMemory) -> dict[str, Any]:
    """All that a consolidation leaves, without the moments and names that chance gives."""
    database = memory.database
    versions = "SELECT reflection, count(*) FROM reflection_versions GROUP BY reflection"
    return {
        "reflections": {item.id: item.model_dump() for item in database.reflections.find()},
        "versions": sorted(count for _, count in database.connection.execute(versions)),
        "links": database.connection.execute(
            "SELECT source, target, kind, round(weight, 5) FROM links ORDER BY 1, 2, 3"
        ),
        "journal": database.connection.execute("SELECT scope, key, payload FROM journal ORDER BY 1, 2"),
        "operations": sorted((item.name, item.detail) for item in database.operations.recent()),
    }


def tables(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    names = database.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {name: database.connection.execute(f"SELECT * FROM {name}") for (name,) in names}


def test_a_plan_says_what_and_why_and_changes_nothing(filled: ReflectionMemory) -> None:
    filled.save()
    before = tables(filled.database)
    plan = Consolidation(filled, CONFIG).plan()
    assert tables(filled.database) == before
    assert set(plan.counts) == set(METHODS) and sum(plan.counts.values()) == len(plan)
    assert [METHODS.index(action.method) for action in plan] == sorted(METHODS.index(item.method) for item in plan)
    lines = str(plan).splitlines()
    assert "merge: w-0-0, w-0-1, w-0-2: say the same (cosine ≥ 1.000): 'Lesson 0: try door 0" in str(plan)
    assert len(lines) == len(plan) and all(action.items and action.reason for action in plan)
    taken = {id for action in plan if action.method == "merge" for id in action.items[1:]}
    taken |= {action.items[0] for action in plan if action.method == "forget"}
    assert not taken & {id for action in plan if action.method == "links" for id in action.items}


def test_a_dry_run_on_a_database_for_reading_only_leaves_its_bytes(filled: ReflectionMemory, tmp_path: Path) -> None:
    filled.database.close()
    before = (tmp_path / "lab.db").read_bytes()
    with Database(tmp_path / "lab.db", readonly=True) as database:
        looking = ReflectionMemory(database, HashingEmbedder(64), tmp_path / "texts.faiss", clock=lambda: _names["NOW"])
        assert len(Consolidation(looking, CONFIG).plan()) > 10
    assert (tmp_path / "lab.db").read_bytes() == before
    assert not (tmp_path / "texts.faiss").exists()


def test_doing_it_again_finds_nothing_left(filled: ReflectionMemory) -> None:
    job = Consolidation(filled, CONFIG)
    done = job.run()
    assert set(done.counts) == set(METHODS)
    after = state(filled)
    assert len(job.run()) == len(job.plan()) == 0
    assert state(filled) == after


def test_a_plan_applied_twice_does_nothing_the_second_time(filled: ReflectionMemory) -> None:
    steps: list[tuple[int, int]] = []
    job = Consolidation(filled, CONFIG, progress=lambda done, total: steps.append((done, total)))
    plan = job.plan(["merge", "forget", "rules", "shortcuts", "summaries"])
    assert len(job.apply(plan)) == len(plan)
    assert steps == [(place, len(plan)) for place in range(1, len(plan) + 1)]
    assert len(job.apply(plan)) == 0


def test_only_the_methods_that_are_wanted_are_applied(filled: ReflectionMemory) -> None:
    job = Consolidation(filled, CONFIG)
    assert job.plan(["forget"]).counts == {"forget": 2}
    assert job.run(["forget", "merge"]).counts == {"merge": 4, "forget": 2}
    assert filled.database.connection.execute("SELECT DISTINCT kind FROM links") == [("merged",)]


def test_each_action_is_an_operation_of_its_own(filled: ReflectionMemory) -> None:
    done = Consolidation(filled, CONFIG).run(["merge", "shortcuts", "summaries", "forget"])
    assert len(filled.database.operations.recent()) == len(done)
    assert {operation.name for operation in filled.database.operations.recent()} == {
        "merge", "shortcuts", "summary", "forget",
    }  # fmt: skip


def test_pinned_items_and_other_namespaces_stay_as_they_are(filled: ReflectionMemory) -> None:
    before = {id: filled.database.reflections.get(id) for id in ("old-2", "bob", "w-3-2")}
    Consolidation(filled, CONFIG).run()
    after = {id: filled.database.reflections.get(id) for id in before}
    assert after["old-2"] == before["old-2"] and after["bob"] == before["bob"]
    assert after["w-3-2"].status == "active" and after["w-3-2"].text == before["w-3-2"].text
    others = [id for link in filled.database.links.of("bob") for id in (link.source, link.target)]
    assert others == [] and filled.database.reflections.get("old-0").status == "forgotten"


def test_another_namespace_is_consolidated_by_its_own_memory(
    filled: ReflectionMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {item.id: item for item in filled.database.reflections.find()}
    monkeypatch.setattr(filled, "namespace", "bob", raising=False)
    Consolidation(filled, CONFIG).run()
    changed = [item for item in filled.database.reflections.find() if before.get(item.id) != item]
    assert changed and {item.namespace for item in changed} == {"bob"}


def test_settings_out_of_range_are_refused() -> None:
    for wrong in ({"duplicate": 1.5}, {"batch": 1}, {"forget_below": 1.0}, {"unknown": 1}):
        with pytest.raises(ValidationError):
            ConsolidationConfig.model_validate(wrong)


def killed(folder: Path, writes: int) -> int:
    """Consolidate in a process that kills itself after so many writes; how it ended."""
    code = FILL + KILLED
    return subprocess.run(
        [sys.executable, "-c", code, str(folder), str(writes)],
        stdout=subprocess.DEVNULL, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    ).returncode  # fmt: skip


def test_a_killed_consolidation_goes_on_to_the_same_end(tmp_path: Path) -> None:
    def made(name: str) -> Path:
        folder = tmp_path / name
        memory = opened(folder)
        fill(memory)
        memory.database.close()
        return folder

    unbroken = opened(made("unbroken"))
    Consolidation(unbroken, CONFIG).run()
    expected = state(unbroken)
    for writes in (1, 9, 23, 37, 58):
        folder = made(f"killed-{writes}")
        assert killed(folder, writes) == -signal.SIGKILL
        if writes == 9:
            assert killed(folder, 4) == -signal.SIGKILL  # Again, soon after it went on.
        memory = opened(folder)
        assert memory.database.connection.execute("PRAGMA integrity_check") == [("ok",)]
        Consolidation(memory, CONFIG).run()
        assert state(memory) == expected
        memory.database.close()


def test_an_error_in_the_middle_of_an_action_leaves_nothing_of_it(
    filled: ReflectionMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(links: object) -> None:
        raise RuntimeError("no more")

    before = state(filled)
    monkeypatch.setattr(filled.database.links, "put", fails)
    with pytest.raises(RuntimeError, match="no more"):
        Consolidation(filled, CONFIG).run(["merge"])
    assert state(filled) == before


def test_each_action_can_be_undone_and_is_then_not_done_again(filled: ReflectionMemory) -> None:
    before = {item.id: item.status for item in filled.database.reflections.find()}
    job, history = Consolidation(filled, CONFIG), History(filled.database)
    job.run()
    operations = filled.database.operations.recent()
    assert {operation.name for operation in operations} >= {"merge", "links", "summary"}
    links = filled.database.connection.execute("SELECT source, target, kind, weight FROM links ORDER BY 1, 2, 3")
    for operation in operations:
        history.undo(operation.id)
    after = {item.id: item.status for item in filled.database.reflections.find()}
    assert {id: after[id] for id in before} == before
    assert {status for id, status in after.items() if id not in before} == {"forgotten"}
    assert filled.database.connection.execute("SELECT count(*) FROM links") == [(0,)]
    again = job.plan()
    assert set(again.counts) <= {"links"}, "what was merged when links were made is near to others too"
    planned = {(action.items[0], target) for action in again for target in action.items[1:]}
    assert not planned & {(source, target) for source, target, kind, _ in links if kind == "similar"}
    for operation in filled.database.operations.recent()[: len(operations)]:
        history.undo(operation.id)
    assert (
        filled.database.connection.execute("SELECT source, target, kind, weight FROM links ORDER BY 1, 2, 3") == links
    )


def test_notes_that_learn_from_their_links_come_to_rest_in_one_run(tmp_path: Path) -> None:
    with Database(tmp_path / "lab.db") as database:
        memory = ReflectionMemory(database, HashingEmbedder(16), tmp_path / "texts.faiss")
        job = Consolidation(memory, ConsolidationConfig(summary=4, similar=0.3, duplicate=0.999))
        texts = ["coin", "coin coin coin", "coin coin coin", "coin coin red", "coin coin", "coin coin coin", "coin"]
        note = Reflection(id="n", kind="grounded", env="e", task="e:train:0", text="?")
        memory.remember([note.model_copy(update={"id": f"n{n}", "text": text}) for n, text in enumerate(texts)])
        history = History(database)
        for _ in range(2):  # a person takes everything back, so that these links are never made again
            known = len(history.operations())
            job.run()
            for operation in history.operations()[: -known or None]:
                history.undo(operation.id)
        memory.edit("n5", "sort coin coin")
        memory.remember([note.model_copy(update={"id": "n7", "text": "coin coin key coin"})])
        assert len(job.run())
        assert not len(job.run())


def test_what_a_writer_thinks_is_left_out_of_what_it_writes(memory: ReflectionMemory) -> None:
    job = Consolidation(memory, writer=lambda prompt, tokens: "<think>Coins?</think>Coins are in kitchens.")._job()
    assert job.writer is not None
    assert job.writer("What holds?", 100) == "Coins are in kitchens."
