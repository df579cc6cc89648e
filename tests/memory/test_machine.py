"""Whatever is done to the memory in whatever order, SQLite, the index of words and the vectors say the same.

The test suite does some thousand operations. More, for a night or a release:

    AGENTLAB_OPERATIONS=100000 python -m pytest tests/memory/test_machine.py
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memory import Database, HashingEmbedder, Reflection, ReflectionMemory

OPERATIONS = int(os.environ.get("AGENTLAB_OPERATIONS", "2000"))
STEPS = 50

WORDS = ["coin", "door", "key", "kitchen", "milk", "north", "oven", "red", "sort", "twelve"]
words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5)
texts = words.map(" ".join)
picks = st.integers(min_value=0, max_value=10_000)


class Remembering(RuleBasedStateMachine):
    """The memory beside a plain dictionary of what it should hold: id to (text, status)."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="agentlab-test-"))
        self.expected: dict[str, tuple[str, str]] = {}
        self.open()

    @initialize(first=texts)
    def begin(self, first: str) -> None:
        self.remember([first])

    def open(self) -> None:
        self.database = Database(self.folder / "lab.db")
        self.memory = ReflectionMemory(self.database, HashingEmbedder(16), self.folder / "texts.faiss")

    def an_id(self, pick: int) -> str:
        return list(self.expected)[pick % len(self.expected)]

    def status(self, id: str, status: str) -> None:
        self.expected[id] = (self.expected[id][0], status)

    # What is done to it

    @rule(new=st.lists(texts, min_size=1, max_size=4))
    def remember(self, new: list[str]) -> None:
        notes = {f"rf-{len(self.expected) + place}": text for place, text in enumerate(new)}
        self.memory.remember([self.note(id, text) for id, text in notes.items()])
        self.expected.update({id: (text, "active") for id, text in notes.items()})

    @rule(pick=picks, text=texts)
    def remember_again(self, pick: int, text: str) -> None:
        self.memory.remember([self.note(self.an_id(pick), text)])  # what is there stays as it is

    @rule(pick=picks, text=texts)
    def edit(self, pick: int, text: str) -> None:
        id = self.an_id(pick)
        self.memory.edit(id, text)
        self.expected[id] = (text, self.expected[id][1])

    @rule(pick=picks)
    def forget(self, pick: int) -> None:
        id = self.an_id(pick)
        self.memory.forget(id)
        self.status(id, "forgotten")

    @rule(pick=picks)
    def restore(self, pick: int) -> None:
        id = self.an_id(pick)
        self.memory.restore(id)
        self.status(id, "active")

    @precondition(lambda self: len(self.expected) > 1)
    @rule(pick=picks, text=texts)
    def merge(self, pick: int, text: str) -> None:
        kept, gone = self.an_id(pick), self.an_id(pick + 1)
        with self.database.operation("merge"):
            one, other = self.database.reflection(kept), self.database.reflection(gone)
            self.database.put_reflection(one.model_copy(update={"text": text}), change="merged")
            self.database.put_reflection(
                other.model_copy(update={"status": "merged", "merged_into": kept}), change="merged"
            )
        self.expected[kept] = (text, self.expected[kept][1])
        self.status(gone, "merged")

    @rule(pick=picks, text=texts)
    def fail_in_the_middle(self, pick: int, text: str) -> None:
        with pytest.raises(RuntimeError), self.database.operation("edit"):
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
        assert {item.id: (item.text, item.status) for item in self.database.reflections()} == self.expected

    @invariant()
    def the_words_agree(self) -> None:
        # SQLite compares the index with the table and fails if they differ.
        self.database.execute("INSERT INTO reflection_words (reflection_words, rank) VALUES ('integrity-check', 1)")

    @invariant()
    def the_vectors_agree(self) -> None:
        if not self.expected:
            return
        self.memory.search("anything", k=1)  # whoever looks has the index follow the database first
        rows = self.database.execute("SELECT number, text FROM reflections ORDER BY number")
        assert len(self.memory.index) == len(rows)
        held = self.memory.index.vectors([number for number, _ in rows])
        np.testing.assert_array_equal(held, self.memory.embedder.embed([text for _, text in rows]))

    @staticmethod
    def note(id: str, text: str) -> Reflection:
        return Reflection(id=id, kind="grounded", env="toy/doors", task="toy/doors:train:0", text=text)

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
