"""Small changes that are asked for while another process writes: done by that one, in order, each exactly once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentlab.cli.boundary import refusal
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import BadRequest, LabLocked
from agentlab.lab import Lab
from agentlab.workspace import folding
from agentlab.workspace.asking import Noted, ask
from agentlab.workspace.config import LabConfig
from agentlab.workspace.requests import Add, Drop, Edit, Mend, Outcome, Undo, client
from memory import Database, errors
from memory.records import Reflection
from memory.store import Entry, Operation, schema

HOLD = """
import sys
from agentlab.workspace import folding
from agentlab.workspace.workspace import Workspace
folding.APART = float(sys.argv[2])
with Workspace.open(sys.argv[1], progress=False) as lab:
    lab.database.settings.put("held", 1)
    print("held", flush=True)
    sys.stdin.read()
"""
NEVER = "1000"

KILLED = """
import os, signal, sys
from agentlab.workspace.folding import Folding
from agentlab.workspace.workspace import Workspace
from memory.store import Inbox, Mending

def dying(owner, name, *, before):
    done = getattr(owner, name)
    def now(self, *given, **named):
        if before:
            os.kill(os.getpid(), signal.SIGKILL)
        done(self, *given, **named)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, now)

moment = sys.argv[2]
if moment == "done, not marked":
    dying(Inbox, "settle", before=True)
elif moment == "marked, not kept":
    dying(Inbox, "settle", before=False)
elif moment == "not begun":
    dying(Mending, "apply", before=True)
else:
    dying(Folding, "_settled", before=False)
Workspace.open(sys.argv[1], progress=False)
"""

MANY = """
import sys
from pathlib import Path
from agentlab.workspace.asking import ask
from agentlab.workspace.requests import Add, client
who = sys.argv[2]
sys.stdin.read()
for number in range(25):
    ask(Path(sys.argv[1]), Add(text=f"Lesson {number} of {who}.", env="toy/doors"), client(who), patience=0.2)
"""


def reflection(id: str, **values: Any) -> Reflection:
    given = {"kind": "grounded", "env": "toy/doors", "task": "toy/doors:train:1", "text": f"Door {id} is safe."}
    return Reflection(id=id, **{**given, **values})


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    with Lab.open(tmp_path / "lab", create=True, config=LabConfig(embedder="hashing"), progress=False) as opened:
        opened.memory.remember([reflection(f"r-{number}") for number in range(4)])
    return tmp_path / "lab"


@contextmanager
def held(folder: Path, apart: str = "0.05") -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lab open for writing, and looks into its inbox so often, until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), apart], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            if process.poll() is None and process.stdin is not None:
                process.stdin.close()
                process.wait()


def state(folder: Path) -> dict[str, tuple[str, bool, str]]:
    with Lab.open(folder, write=False, progress=False) as looking:
        found = looking.database.reflections.find()
        return {item.id: (item.status, item.pinned, item.text) for item in found}


def operations(folder: Path) -> list[Operation]:
    """What was done, the oldest first."""
    with Lab.open(folder, write=False, progress=False) as looking:
        return looking.database.operations.recent()[::-1]


def rows(folder: Path) -> list[Entry]:
    with Database(folder / "lab.db", readonly=True) as database:
        numbers = [number for (number,) in database.connection.execute("SELECT number FROM inbox ORDER BY number")]
        return [entry for number in numbers if (entry := database.inbox.get(number)) is not None]


def raw(folder: Path, values: Sequence[Sequence[Any]]) -> None:
    """Rows as a stranger writes them: of any type, whoever is said to ask."""
    with closing(sqlite3.connect(folder / "lab.db")) as file, file:
        file.executemany("INSERT INTO inbox (at, asked_by, verb, payload) VALUES ('', ?, ?, ?)", values)


def test_what_is_asked_for_while_another_process_writes_is_done_by_it_in_order_and_undone_as_one(lab: Path) -> None:
    with held(lab) as process:
        done = [
            ask(lab, Mend(verb="pin", ids=["r-0"], namespace=""), "cli"),
            ask(lab, Mend(verb="forget", ids=["r-1", "r-2"], reason="old", namespace=""), "screen"),
            ask(lab, Edit(id="r-3", text="The red door.", namespace=""), "cli"),
            ask(lab, Add(text="Look twice.", env="toy/doors"), client("a b")),
        ]
        assert process.poll() is None
        assert [one.line for one in done[:2]] == ["Pinned r-0.", "Forgot 2 reflections."]
        found = state(lab)
        assert found["r-0"][1] and found["r-1"][0] == found["r-2"][0] == "forgotten"
        assert found["r-3"][2] == "The red door."
        assert found[done[3].id][2] == "Look twice."
        kept = operations(lab)
        assert [one.id for one in kept] == [one.operation for one in done]
        assert [one.asked_by for one in kept] == ["cli", "screen", "cli", "mcp:a b"]
        assert kept[1].detail == "2 reflections: old" and kept[3].detail.endswith("by mcp:a b")
        undone = ask(lab, Undo(operation=str(done[1].operation), namespace=""), "cli")
        assert undone.line.startswith(f"Undid {done[1].operation} (forgotten): 2 reflections as before.")
        assert state(lab)["r-1"][0] == "active"
    assert all(entry.payload == b"" for entry in rows(lab)), "of what was asked nothing is left in the table"


def test_what_is_refused_is_told_as_the_lab_tells_it_and_hinders_nothing(lab: Path) -> None:
    with held(lab):
        ask(lab, Mend(verb="pin", ids=["r-0"]), "cli")
        for request, by, kind, part in [
            (Mend(verb="forget", ids=["r-0"]), "cli", errors.PinnedReflection, "r-0 is pinned, so it is not forgotten"),
            (Mend(verb="forget", ids=["r-nine"]), "cli", errors.UnknownReflection, "No reflection has the id"),
            (Edit(id="r-1", text="\x1b[2J "), "screen", errors.InvalidReflection, "The new text is empty"),
            (Undo(operation="op-none"), "cli", errors.UnknownOperation, "No operation has the id"),
            (Drop(id="r-0"), "mcp:x", errors.PinnedReflection, "pinned"),
            (Drop(id="r-0"), "cli", BadRequest, "is nothing that cli can ask for"),
        ]:
            with pytest.raises(kind, match=part) as refused:
                ask(lab, request, by)
            assert "\n" not in str(refused.value)
        assert ask(lab, Mend(verb="bench", ids=["r-2"]), "cli").line == "Benched r-2."
    assert [one.name for one in operations(lab)] == ["pinned", "benched"]
    assert [entry.refusal for entry in rows(lab)] == [None, None], "what was told is kept no longer"


def test_what_takes_longer_is_noted_and_done_before_the_lock_is_given_back(lab: Path) -> None:
    with held(lab, NEVER) as process:
        noted = ask(lab, Mend(verb="pin", ids=["r-0"]), "cli", patience=0.0)
        assert isinstance(noted, Noted) and noted.number == 1
        assert noted.line.startswith(f"Noted as 1: process {process.pid} on ") and "\n" not in noted.line
        assert not state(lab)["r-0"][1]
    assert process.returncode == 0
    assert state(lab)["r-0"][1] and len(operations(lab)) == 1


def test_whoever_waits_does_it_where_the_writer_is_gone_meanwhile(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with held(lab, NEVER) as process:
        looked = Database.__init__

        def killed(self: Database, *given: Any, **named: Any) -> None:
            process.kill()
            process.wait()
            looked(self, *given, **named)

        monkeypatch.setattr(Database, "__init__", killed)
        assert ask(lab, Mend(verb="pin", ids=["r-0"]), "cli").line == "Pinned r-0."
    assert len(operations(lab)) == 1 and len(rows(lab)) == 1


@pytest.mark.parametrize("moment", ["not begun", "done, not marked", "marked, not kept", "kept"])
def test_a_writer_that_is_killed_leaves_each_change_to_be_made_exactly_once(lab: Path, moment: str) -> None:
    with held(lab, NEVER) as process:
        for number in range(3):
            ask(lab, Mend(verb="pin", ids=[f"r-{number}"]), "cli", patience=0.0)
        process.kill()
    assert not any(pinned for _, pinned, _ in state(lab).values()) and not operations(lab)
    ended = subprocess.run([sys.executable, "-c", KILLED, str(lab), moment], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    done = 1 if moment == "kept" else 0
    assert len(operations(lab)) == sum(pinned for _, pinned, _ in state(lab).values()) == done
    Lab.open(lab, progress=False).close()
    Lab.open(lab, progress=False).close()
    assert [one.detail for one in operations(lab)] == ["r-0", "r-1", "r-2"]
    assert all(entry.done_at and not entry.refusal for entry in rows(lab))


@pytest.mark.parametrize("writer", ["nobody", "a writer that is killed"])
def test_of_a_hundred_changes_by_four_processes_none_is_lost_and_none_made_twice(lab: Path, writer: str) -> None:
    def started(who: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", MANY, str(lab), who]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    names = ["ann", "ben", "cas", "dia"]

    def go() -> list[subprocess.Popen[str]]:
        asking = [started(who) for who in names]
        for one in asking:
            assert one.stdin is not None
            one.stdin.close()
        return asking

    if writer == "nobody":
        asking_ = go()
    else:
        with held(lab) as process:
            asking_ = go()
            while len(operations(lab)) < 5:
                assert process.poll() is None
            process.kill()
    for one in asking_:
        assert one.stderr is not None
        with one:
            said = one.stderr.read()
        assert one.returncode == 0, said
    Lab.open(lab, progress=False).close()
    texts = [text for _, _, text in state(lab).values() if text.startswith("Lesson")]
    assert sorted(texts) == sorted(f"Lesson {number} of {who}." for who in names for number in range(25))
    kept = operations(lab)
    assert len(kept) == 100
    with Lab.open(lab, write=False, progress=False) as looking:
        said = [looking.database.reflections.get(one.detail.split()[0]).text for one in kept]
    for who in names:
        assert [text for text in said if text.endswith(f"{who}.")] == [f"Lesson {n} of {who}." for n in range(25)]


HOSTILE: list[tuple[Any, Any, Any]] = [
    ("cli", "mend", "no JSON"),
    ("cli", "mend", ""),
    ("cli", "mend", "null"),
    ("cli", "mend", "[" * 100_000),
    ("cli", "mend", b"\xff\xfe\x00"),
    ("cli", b"\xff\xfe", "{}"),
    (b"\xff", "mend", "{}"),
    ("cli", "mend", sqlite3.Binary(b"\x80" * 1000)),
    ("cli", "mend", json.dumps({"verb": "purge", "ids": ["r-0"]})),
    ("cli", "mend", json.dumps({"verb": "forget", "ids": ["r-0"], "namespace": "other"})),
    ("cli", "mend", json.dumps({"verb": "forget", "ids": ["r-0"], "status": "active"})),
    ("cli", "mend", json.dumps({"verb": "forget", "ids": "r-0"})),
    ("cli", "mend", json.dumps({"verb": "forget", "ids": [[["r-0"]]]})),
    ("cli", "mend", json.dumps({"verb": "forget", "ids": []})),
    ("cli", "mend", '{"verb": "forget", "ids": ["\\ud800"]}'),
    ("cli", "edit", json.dumps({"id": "r-0", "text": "x" * 1_000_000})),
    ("cli", "edit", json.dumps({"id": "r-0", "text": "x" * 400_000})),
    ("cli", "edit", '{"id": "r-0", "text": NaN}'),
    ("cli", "edit", '{"id": "r-0", "text": "\\ud800"}'),
    ("cli", "undo", json.dumps({"operation": "op-' OR 1=1 --"})),
    ("cli", "undo", json.dumps({"operation": "x" * 100_000})),
    ("cli", "purge", json.dumps({"ids": ["r-0"]})),
    ("cli", "__class__", "{}"),
    ("cli", "add", json.dumps({"text": "Mine.", "env": "toy/doors"})),
    ("", "mend", json.dumps({"verb": "forget", "ids": ["r-0"]})),
    ("the agent", "mend", json.dumps({"verb": "forget", "ids": ["r-0"]})),
    ("cli\n", "mend", json.dumps({"verb": "forget", "ids": ["r-0"]})),
    ("mcp:x", "mend", json.dumps({"verb": "forget", "ids": ["r-0"]})),
    ("mcp:x", "drop", json.dumps({"id": "r-0", "namespace": "other"})),
    ("mcp:x", "drop", json.dumps({"id": "r-other"})),
    ("mcp:x", "add", json.dumps({"text": "Mine.", "env": "toy/doors", "source": "", "pinned": True})),
    ("mcp:x", "add", json.dumps({"text": "Mine.", "env": "toy/nothing"})),
    ("mcp:x", "add", json.dumps({"text": "Mine.", "env": "toy/doors", "task": "twx/coin:train:1"})),
    ("mcp:x", "add", json.dumps({"text": "\u200b", "env": "toy/doors"})),
    ("mcp:", "add", json.dumps({"text": "Mine.", "env": "toy/doors"})),
    ("mcp: x", "add", json.dumps({"text": "Mine.", "env": "toy/doors"})),
    ("mcp:" + "x" * 100_000, "add", json.dumps({"text": "Mine.", "env": "toy/doors"})),
    ("import:mine", "add", json.dumps({"text": "Mine.", "env": "toy/doors"})),
    ("chat:x", "mend", json.dumps({"verb": "forget", "ids": ["r-0"]})),
    ("chat:x", "drop", json.dumps({"id": "r-0"})),
    ("chat:x", "add", json.dumps({"text": "Mine.", "env": "toy/doors"})),
    ("chat:x", "note", json.dumps({"text": "Mine.", "kind": "fact", "namespace": "", "env": "toy/doors"})),
    ("chat:x", "note", json.dumps({"text": "Mine.", "kind": "fact", "namespace": "", "pinned": True})),
    ("chat:x", "note", json.dumps({"text": "Mine.", "kind": "fact", "namespace": "n" * 1000})),
    ("chat:x", "note", json.dumps({"text": "\u200b", "kind": "fact", "namespace": ""})),
    ("chat: x", "note", json.dumps({"text": "Mine.", "kind": "fact", "namespace": ""})),
    ("mcp:x", "note", json.dumps({"text": "Mine.", "kind": "fact", "namespace": "other"})),
    ("cli", "note", json.dumps({"text": "Mine.", "kind": "fact", "namespace": ""})),
]


def test_hostile_rows_change_nothing_and_keep_nobody_behind_them(lab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Lab.open(lab, progress=False) as opened:
        opened.database.reflections.put(reflection("r-other", namespace="other"))
    before = state(lab)
    raw(lab, [*HOSTILE, ("cli", "mend", json.dumps({"verb": "pin", "ids": ["r-1"]}))])
    Lab.open(lab, progress=False).close()
    *refused, good = rows(lab)
    assert [(entry.refusal or "").count("\n") for entry in refused] == [0] * len(HOSTILE)
    left = [(row, entry.outcome) for row, entry in zip(HOSTILE, refused, strict=True) if not entry.refusal]
    assert left == [] and good.refusal is None
    assert all(len(entry.refusal or "") <= folding.LINE for entry in refused)
    faults = [entry.refusal for entry in refused if "This could not be done" in (entry.refusal or "")]
    assert faults == []
    after = state(lab)
    assert {id for id in after if after[id] != before.get(id)} == {"r-1"} and set(after) == set(before)
    assert [one.detail for one in operations(lab)] == ["r-1"]
    printed = capfd.readouterr()
    assert "Traceback" not in printed.err + printed.out


def test_a_forged_outcome_is_told_in_a_line(lab: Path) -> None:
    with held(lab, NEVER):
        with closing(sqlite3.connect(lab / "lab.db")) as file, file:
            file.execute(
                "CREATE TRIGGER forged AFTER INSERT ON inbox BEGIN UPDATE inbox SET done_at = 'x', outcome = x'ff' "
                "WHERE number = new.number; END"
            )
        with pytest.raises(BadRequest, match="cannot be read"):
            ask(lab, Mend(verb="pin", ids=["r-0"]), "cli")
        with closing(sqlite3.connect(lab / "lab.db")) as file, file:
            file.execute("DROP TRIGGER forged")


def test_clients_have_their_quota_in_the_inbox_too(lab: Path) -> None:
    text = (lab / "lab.toml").read_text()
    (lab / "lab.toml").write_text("".join(f"{line}\n" for line in text.splitlines() if "source_quota" not in line))
    (lab / "lab.toml").write_text("source_quota = 2\n" + (lab / "lab.toml").read_text())
    with held(lab):
        for number in range(2):
            ask(lab, Add(text=f"Lesson {number}.", env="toy/doors"), client(str(number)))
        with pytest.raises(errors.QuotaExceeded, match="source_quota"):
            ask(lab, Add(text="One more.", env="toy/doors"), client("another"))
    assert len(state(lab)) == 6


def test_a_database_of_an_earlier_version_has_no_inbox_and_its_lock_is_told_of_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:12])
        patch.setattr(schema, "VERSION", 12)
        folder = tmp_path / "lab"
        with Lab.open(folder, create=True, config=LabConfig(embedder="hashing"), progress=False):
            Database(folder / "lab.db").close()
    with (folder / ".lock").open() as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LabLocked, match="is being written by"):
            ask(folder, Mend(verb="pin", ids=["r-0"]), "cli")
    with pytest.raises(errors.UnknownReflection):  # nobody writes: it is brought up to date, and looked into
        ask(folder, Mend(verb="pin", ids=["r-0"]), "cli")
    with closing(sqlite3.connect(folder / "lab.db")) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)


def test_a_full_disk_is_told_of_in_a_line_and_nothing_is_noted(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with held(lab, NEVER):
        opened = Database.__init__

        def full(self: Database, *given: Any, **named: Any) -> None:
            opened(self, *given, **named)
            if named.get("guest"):
                pages = self.connection.execute("PRAGMA page_count")[0][0]
                self.connection.execute(f"PRAGMA max_page_count = {pages}")

        monkeypatch.setattr(Database, "__init__", full)
        with pytest.raises(errors.DiskFull, match="the disk is full; make room") as told:
            ask(lab, Mend(verb="pin", ids=["r-0"], reason="long " * 40_000), "cli")
        assert "\n" not in str(told.value)
    assert rows(lab) == []


def test_a_lab_that_nobody_closed_and_nobody_has_any_more_is_looked_into_no_more(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gc
    import threading

    monkeypatch.setattr(folding, "APART", 0.01)
    left: Lab | None = Lab.open(lab, progress=False)
    (thread,) = [one for one in threading.enumerate() if one.name == "inbox"]
    left = None
    gc.collect()
    thread.join(10)
    assert left is None and not thread.is_alive()


def test_the_work_of_the_lab_has_no_part_in_what_others_ask_for(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "APART", 0.01)
    with Lab.open(lab, progress=False) as opened, opened.database.operations.batch("consolidate"):
        with opened.database.operations.record("theirs"):
            opened.database.reflections.put(reflection("r-new"))
            number = _put(lab, Mend(verb="pin", ids=["r-0"]), opened)
        while (entry := opened.database.inbox.get(number)) is None or entry.done_at is None:
            pass
        ours, theirs = opened.database.operations.recent()
    assert (ours.name, ours.batch, ours.asked_by) == ("pinned", None, "cli")
    assert (theirs.name, theirs.changed, theirs.asked_by) == ("theirs", 1, "") and theirs.batch


def _put(folder: Path, request: Mend, opened: Lab) -> int:
    from agentlab.workspace.requests import payload_of, verb_of

    return opened.database.inbox.put("cli", verb_of(request), payload_of(request))


def test_a_lab_that_is_open_sees_what_was_folded_in(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "APART", 0.01)
    with Lab.open(lab, progress=False) as opened:
        assert {hit.reflection.id for hit in opened.memory.search("safe door")} == {f"r-{n}" for n in range(4)}
        ask(lab, Mend(verb="forget", ids=["r-1"]), "cli")
        ask(lab, Edit(id="r-2", text="A lamp hangs here."), "cli")
        assert opened.memory.search("lamp", k=1)[0].text == "A lamp hangs here."
        assert {hit.reflection.id for hit in opened.memory.search("safe door")} == {"r-0", "r-2", "r-3"}


@pytest.mark.parametrize("arm", ["base", "base + memory"])
def test_arms_that_recall_are_measured_with_one_memory_and_what_is_asked_for_meanwhile_comes_after(
    lab: Path, arm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "APART", 0.01)
    told: list[Outcome] = []

    def asks(transcript: str, command: str) -> float:
        if not told:
            told.append(ask(lab, Mend(verb="pin", ids=["r-0"]), "cli", patience=0.5 if "memory" in arm else 30))
        return 0.0

    with Lab.open(lab, engine=ScriptedEngine(asks), progress=False) as opened:
        opened.evaluate("toy/doors", split="dev", seeds=range(2), arms=arm)
        assert isinstance(told[0], Noted) == ("memory" in arm)
    assert [one.detail for one in operations(lab)] == ["r-0"]


@pytest.mark.parametrize(
    ("may_lock", "part"), [(False, ".lock: not allowed"), (True, "lab.db may not be written to; check who owns it")]
)
def test_who_may_not_write_there_is_told_so_in_a_line(
    lab: Path, readable: Path, as_nobody: Callable[[Callable[[], str]], str], may_lock: bool, part: str
) -> None:
    folder = Path(shutil.copytree(lab, readable / "lab"))

    def asking() -> str:
        try:
            return ask(folder, Mend(verb="pin", ids=["r-0"]), "cli", patience=0.0).line
        except OSError as error:
            return refusal(error)
        except errors.MemoryStoreError as error:
            return str(error)

    with held(folder, NEVER):
        for path in (folder, *folder.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)
        if may_lock:
            (folder / ".lock").chmod(0o666)
        line = as_nobody(asking)
    assert part in line and "\n" not in line
    assert rows(folder) == []


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that everybody may look into."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def as_nobody() -> Callable[[Callable[[], str]], str]:
    """Has a copy of this process do something without the rights of its user, and gives what it says."""

    def done(work: Callable[[], str]) -> str:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.setresuid(65534, 65534, 65534) if os.geteuid() == 0 else None
                os.write(writing, work().encode())
            except BaseException as error:
                os.write(writing, repr(error).encode())
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        with os.fdopen(reading) as said:
            return said.read()

    return done
