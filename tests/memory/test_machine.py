"""Whatever is done to the memory in whatever order, SQLite, the index of words and the vectors say the same.

The test suite does some thousand operations. More, for a night or a release:

    AGENTLAB_OPERATIONS=100000 python -m pytest tests/memory/test_machine.py
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memory import Database, HashingEmbedder, Reflection, ReflectionMemory
from memory.consolidation.consolidation import Consolidation, ConsolidationConfig
from memory.errors import CannotUndo
from memory.store.history import History

OPERATIONS = int(os.environ.get("AGENTLAB_OPERATIONS", "2000"))
STEPS = 50

WORDS = ["coin", "door", "key", "kitchen", "milk", "north", "oven", "red", "sort", "twelve"]
words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5)
texts = words.map(" ".join)
picks = st.integers(min_value=0, max_value=10_000)

Held = dict[str, tuple[str, str]]
"""What the memory should hold: id to (text, status)."""

CONFIG = ConsolidationConfig(summary=4, similar=0.3, duplicate=0.9)


class Remembering(RuleBasedStateMachine):
    """The memory beside a plain dictionary of what it should hold."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="agentlab-test-"))
        self.expected: Held = {}
        self.done: dict[str, tuple[Held, Held]] = {}
        """By operation what it changed: before, after."""
        self.last: str | None = None
        """The last operation, if nothing was changed since."""
        self.days = 0
        self.open()

    @initialize(first=texts)
    def begin(self, first: str) -> None:
        self.remember([first])

    def open(self) -> None:
        self.database = Database(self.folder / "lab.db")
        self.memory = ReflectionMemory(
            self.database, HashingEmbedder(16), self.folder / "texts.faiss", clock=lambda: self.now
        )
        self.history = History(self.database, clock=lambda: self.now)

    @property
    def now(self) -> str:
        return (datetime(2030, 1, 1, tzinfo=UTC) + timedelta(days=self.days)).isoformat(timespec="microseconds")

    @contextmanager
    def one_operation(self) -> Iterator[None]:
        """Note what the operation inside changed, so that it can be taken back."""
        before, known = dict(self.expected), self.operations()
        yield
        new = self.operations()[: -len(known) or None]
        assert len(new) <= 1
        for id in new:
            changed = [name for name, held in self.expected.items() if before[name] != held]
            self.done[id] = {name: before[name] for name in changed}, {name: self.expected[name] for name in changed}
            self.last = id

    def operations(self) -> list[str]:
        """The newest first."""
        return [operation.id for operation in self.history.operations()]

    def an_id(self, pick: int) -> str:
        return list(self.expected)[pick % len(self.expected)]

    def status(self, id: str, status: str) -> None:
        self.expected[id] = (self.expected[id][0], status)

    # What is done to it

    @rule(new=st.lists(texts, min_size=1, max_size=4))
    def remember(self, new: list[str]) -> None:
        notes = {f"rf-{len(self.expected) + place}": text for place, text in enumerate(new)}
        self.memory.remember([self.note(id, text) for id, text in notes.items()])
        for id, text in notes.items():
            kept = self.database.reflections.get(id)
            self.expected[id] = (text, kept.status)
            if kept.status == "repeated":
                assert self.expected[str(kept.merged_into)][0] == text, "only what is there can be said again"
            else:
                assert kept.status == "active" and kept.merged_into is None

    @rule(pick=picks, text=texts)
    def remember_again(self, pick: int, text: str) -> None:
        self.memory.remember([self.note(self.an_id(pick), text)])  # what is there stays as it is

    @rule(pick=picks, text=texts)
    def edit(self, pick: int, text: str) -> None:
        id = self.an_id(pick)
        held = self.database.reflections.find()
        heirs = [item.id for item in held if item.status == "repeated" and item.merged_into == id]
        counted = self.database.reflections.get(id).merged_into is not None
        with self.one_operation():
            self.memory.edit(id, text)
            old, status = self.expected[id]
            if text != old:
                # What said the old words again goes on saying them: its oldest stands as this one did.
                if heirs:
                    self.status(min(heirs, key=list(self.expected).index), "repeated" if counted else status)
                # Other words are no repetition.
                status = "active" if status == "repeated" else status
            self.expected[id] = (text, status)

    @rule(pick=picks)
    def forget(self, pick: int) -> None:
        id = self.an_id(pick)
        with self.one_operation():
            self.memory.forget(id)
            self.status(id, "forgotten")

    @rule(pick=picks)
    def restore(self, pick: int) -> None:
        id = self.an_id(pick)
        with self.one_operation():
            self.memory.restore(id)
            self.status(id, "active")

    @precondition(lambda self: len(self.expected) > 1)
    @rule(pick=picks, text=texts)
    def merge(self, pick: int, text: str) -> None:
        kept, gone = self.an_id(pick), self.an_id(pick + 1)
        with self.one_operation():
            with self.database.operations.record("merge"):
                one, other = self.database.reflections.get(kept), self.database.reflections.get(gone)
                self.database.reflections.put(one.model_copy(update={"text": text}), change="merged")
                self.database.reflections.put(
                    other.model_copy(update={"status": "merged", "merged_into": kept}), change="merged"
                )
            self.expected[kept] = (text, self.expected[kept][1])
            self.status(gone, "merged")

    @precondition(lambda self: self.done)
    @rule(pick=picks)
    def undo(self, pick: int) -> None:
        self.take_back(list(self.done)[pick % len(self.done)])

    @precondition(lambda self: self.last)
    @rule()
    def undo_the_last(self) -> None:
        assert self.take_back(self.last or "")

    def left_behind(self, id: str, text: str, put_back: Mapping[str, tuple[str, str]]) -> dict[str, str]:
        """What has repeated the words that are taken back: its oldest stands as what it repeated does."""
        words, status = self.expected[id]
        held = self.database.reflections.find()
        heirs = [
            item.id
            for item in held
            if (item.status, item.merged_into, item.text) == ("repeated", id, words) and item.id not in put_back
        ]
        if words == text or not heirs:
            return {}
        first = min(heirs, key=list(self.expected).index)
        counted = self.database.reflections.get(id).merged_into is not None
        after = self.expected | {id: (text, ""), first: ("", "")} | dict(put_back)
        raw = {item.id for item in held if item.tier == "raw"}
        said = {
            name for name, held in after.items() if held[0] == words and held[1] in ("active", "benched", "retired")
        }
        # What stands for these words already says them for all.
        return {first: "repeated" if counted or (status == "active" and said & raw) else status}

    def take_back(self, id: str) -> bool:
        before, after = self.done[id]
        stands = all(self.expected[name] == held for name, held in after.items())
        before, after = dict(before), dict(after)
        for name, (text, _) in list(before.items()):
            for heir, standing in self.left_behind(name, text, before).items():
                before[heir], after[heir] = (self.expected[heir][0], standing), self.expected[heir]
        try:
            undone = self.history.undo(id)
        except CannotUndo:  # and then nothing has changed
            return False
        assert stands
        self.expected.update(before)
        del self.done[id]
        self.done[undone.id], self.last = (after, before), undone.id
        return True

    @rule(days=st.sampled_from([0, 1, 40]))
    def consolidate(self, days: int) -> None:
        self.days += days
        Consolidation(self.memory, CONFIG).run()
        self.consolidated()
        assert not len(Consolidation(self.memory, CONFIG).run())

    @rule(days=st.sampled_from([0, 40]), actions=st.integers(1, 3))
    def consolidate_and_die(self, days: int, actions: int) -> None:
        self.days += days
        done = 0

        def die(*_: int) -> None:
            nonlocal done
            done += 1
            if done == actions:
                raise RuntimeError("killed")

        try:
            Consolidation(self.memory, CONFIG, progress=die).run()
        except RuntimeError:
            self.crash()
        self.consolidated()

    @rule()
    def consolidate_and_take_it_back(self) -> None:
        known, before = self.operations(), dict(self.expected)
        Consolidation(self.memory, CONFIG).run()
        self.consolidated()
        for id in self.operations()[: -len(known) or None]:
            self.history.undo(id)
        made = {id: (text, "forgotten") for id, (text, _) in self.expected.items() if id not in before}
        self.expected = before | made

    def consolidated(self) -> None:
        """Take over what consolidation did, if it is what consolidation may do."""
        self.last = None
        for item in self.database.reflections.find():
            if item.id not in self.expected:
                assert item.tier != "raw" and item.derived_from and set(item.derived_from) <= self.expected.keys()
            else:
                text, status = self.expected[item.id]
                assert item.text == text
                ended = ("merged", "forgotten", "repeated") if status == "active" else ("merged", "forgotten")
                assert item.status == status or (status in ("active", "repeated") and item.status in ended)
                assert item.status not in ("merged", "repeated") or item.merged_into in self.expected
            self.expected[item.id] = (item.text, item.status)

    @rule(pick=picks, text=texts)
    def fail_in_the_middle(self, pick: int, text: str) -> None:
        with pytest.raises(RuntimeError), self.database.operations.record("edit"):
            self.memory.remember([self.note("rf-never", text)])
            self.memory.edit(self.an_id(pick), text + " changed")
            raise RuntimeError("the caller failed")

    # What happens to it

    @rule()
    def look(self) -> None:
        self.memory.search("coin in the kitchen", k=3)

    @rule()
    def save(self) -> None:
        self.memory.save()

    @rule()
    def reopen(self) -> None:
        self.memory.close()
        self.database.close()
        self.open()

    @rule()
    def crash(self) -> None:
        self.database.close()  # the indexes are not written
        self.open()

    @rule(part=st.floats(0, 1), garbage=st.booleans())
    def crash_and_tear_the_index(self, part: float, garbage: bool) -> None:
        self.database.close()
        for file in self.folder.glob("*.faiss"):
            content = file.read_bytes()
            cut = int(len(content) * part)
            file.write_bytes(content[:cut] + (b"\x00" * (len(content) - cut) if garbage else b""))
        self.open()

    @rule()
    def delete_the_index(self) -> None:
        self.database.close()
        for file in self.folder.glob("*.faiss"):
            file.unlink()
        self.open()

    # What holds all the time

    @invariant()
    def the_database_holds_what_was_acknowledged(self) -> None:
        assert {item.id: (item.text, item.status) for item in self.database.reflections.find()} == self.expected

    @invariant()
    def the_words_agree(self) -> None:
        # SQLite compares the index with the texts in it and fails if they differ.
        self.database.connection.execute("INSERT INTO reflections_fts (reflections_fts) VALUES ('integrity-check')")
        held = self.database.connection.execute("SELECT rowid, text FROM reflections_fts ORDER BY rowid")
        assert held == self.database.connection.execute(
            "SELECT number, text FROM reflections WHERE text <> '' ORDER BY number"
        )

    @invariant()
    def the_vectors_agree(self) -> None:
        if not self.expected:
            return
        self.memory.search("anything", k=1)  # whoever looks has the index follow the database first
        rows = self.database.connection.execute("SELECT number, text FROM reflections ORDER BY number")
        assert len(self.memory.index) == len(rows)
        held = self.memory.index.vectors([number for number, _ in rows])
        np.testing.assert_array_equal(held, self.memory.embedder.embed([text for _, text in rows]))

    def note(self, id: str, text: str) -> Reflection:
        return Reflection(
            id=id, kind="grounded", env="toy/doors", task="toy/doors:train:0", text=text, created_at=self.now,
            updated_at=self.now,
        )  # fmt: skip

    def teardown(self) -> None:
        self.database.close()
        shutil.rmtree(self.folder)


TestRemembering = Remembering.TestCase
TestRemembering.settings = settings(
    max_examples=max(1, OPERATIONS // STEPS),
    stateful_step_count=STEPS,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
