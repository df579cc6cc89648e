"""The table of reflections, with every version of each and the states that its advice speaks of."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from memory import errors
from memory.records import Advice, Reflection, content_id, state_key
from memory.store.connection import Connection
from memory.store.filters import EVERYTHING, Filter
from memory.store.sql import Row, chunks, full_ids, marks
from memory.store.versions import Versions, stored
from memory.text.moments import seconds
from memory.text.segmentation import segmented

_COLUMNS = (
    "id", "kind", "env", "task", "run", "status", "pinned", "importance", "text", "tags", "created_at", "namespace",
    "source", "vouched", "tier", "topic", "merged_into", "changed", "stamp", "payload",
)  # fmt: skip
_PUT = (
    f"INSERT INTO reflections ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    "ON CONFLICT(id) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])
)
_ROW = "number, id, pinned, importance, created_at"


class ReflectionRow(NamedTuple):
    """What ranking needs to know of a reflection.

    `number` is its name in the index, `pinned` is 0 or 1, and `created` when it was written, in seconds since 1970.
    """

    number: int
    id: str
    pinned: int
    importance: float
    created: float


def stamp(text: str) -> int:
    """A signed 64-bit hash of `text`, by which a cache sees whether it still holds what the database says."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


class Reflections:
    """The repository of reflections. Within an operation a change carries its number, and is undone with it."""

    def __init__(self, connection: Connection, versions: Versions) -> None:
        self.connection = connection
        self.versions = versions

    def put(self, reflection: Reflection, *, change: str = "") -> bool:
        """Keep `reflection` as the newest version of its id; True if that changed anything.

        `change` says what was done, for the history; by default `written` or `changed`.
        """
        with self.connection.transaction():
            old = self.connection.execute(
                "SELECT number, text, payload FROM reflections WHERE id = ?", (reflection.id,)
            )
            if old and same(stored(old[0][2]), reflection):
                return False
            payload = zlib.compress(reflection.model_dump_json().encode(), 1)
            # What only repeats is not searched: its text is found where it was said first.
            text = "" if reflection.status == "repeated" else reflection.text
            survivor = reflection.merged_into if reflection.status in ("merged", "repeated") else None
            changed = self.connection.execute("SELECT ifnull(max(changed), 0) + 1 FROM reflections")[0][0]
            self.connection.execute(
                _PUT,
                (
                    reflection.id, reflection.kind, reflection.env, reflection.task, reflection.run,
                    reflection.status, reflection.pinned, reflection.importance, text,
                    json.dumps(reflection.tags), reflection.created_at, reflection.namespace, reflection.source,
                    reflection.vouched, reflection.tier, reflection.topic, survivor, changed, stamp(text), payload,
                ),
            )  # fmt: skip
            if old:
                number = old[0][0]
            else:
                number = self.connection.execute("SELECT number FROM reflections WHERE id = ?", (reflection.id,))[0][0]
            self.versions.add(number, payload, change or ("changed" if old else "written"))
            self._put_states(number, reflection)
            if not old or old[0][1] != text:
                self._put_words(number, text, new=not old)
        return True

    def _put_words(self, number: int, text: str, *, new: bool) -> None:
        try:
            if not text:
                # No text is none to search: neither what only gives advice nor what only repeats is counted there.
                if not new:
                    self.connection.execute("DELETE FROM reflections_fts WHERE rowid = ?", (number,))
                return
            verb = "INSERT" if new else "INSERT OR REPLACE"
            self.connection.execute(
                f"{verb} INTO reflections_fts (rowid, text) VALUES (?, ?)", (number, segmented(text))
            )
        except errors.DamagedDatabase:
            self.connection.index_texts()

    def _put_states(self, number: int, reflection: Reflection) -> None:
        worth = [(place, item) for place, item in enumerate(reflection.advice) if item.value > 0]
        self.connection.execute("DELETE FROM advice WHERE reflection = ?", (number,))
        self.connection.executemany(
            "INSERT INTO states (env, key, stamp, text) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            [(reflection.env, state_key(item.state), stamp(item.state), item.state) for _, item in worth],
        )
        self.connection.executemany(
            "INSERT INTO advice (reflection, position, state) "
            "SELECT ?, ?, number FROM states WHERE env = ? AND key = ?",
            [(number, place, reflection.env, state_key(item.state)) for place, item in worth],
        )

    def get(self, id: str, namespace: str | None = None) -> Reflection:
        """The reflection. A beginning of its id is enough if it fits no other.

        Those outside `namespace` are as if they were not there; None looks into all.

        Raises:
            UnknownReflection: with the nearest id, or with those that the beginning fits.
        """
        full = self.full_id(id, namespace)
        return stored(self.connection.execute("SELECT payload FROM reflections WHERE id = ?", (full,))[0][0])

    def full_id(self, beginning: str, namespace: str | None = None) -> str:
        """The whole id that begins so. Raises `UnknownReflection` as `get` does."""
        found = full_ids(self.connection, "reflections", beginning, {"namespace": namespace})
        if not found:
            near = self.connection.execute(
                "SELECT id FROM reflections WHERE ? IS NULL OR namespace = ? ORDER BY number DESC LIMIT 2000",
                (namespace, namespace),
            )
            listing = (
                "`agentlab memory list`" if near else "the memory is empty until `agentlab run` fills it: a listing"
            )
            raise errors.UnknownReflection(errors.unknown("reflection", beginning, [row[0] for row in near], listing))
        if len(found) > 1:
            raise errors.UnknownReflection(errors.ambiguous("reflection", beginning, found))
        return found[0]

    def number(self, id: str, namespace: str | None = None) -> int:
        """Its number, which grows with each that is added. Raises `UnknownReflection` as `get` does."""
        full = self.full_id(id, namespace)
        return int(self.connection.execute("SELECT number FROM reflections WHERE id = ?", (full,))[0][0])

    def has(self, id: str) -> bool:
        """True if a reflection has exactly this id."""
        return self.namespace_of(id) is not None

    def namespace_of(self, id: str) -> str | None:
        """The namespace of the reflection with exactly this id, or None if there is none."""
        rows = self.connection.execute("SELECT namespace FROM reflections WHERE id = ?", (id,))
        return rows[0][0] if rows else None

    def own_id(self, id: str, namespace: str) -> str:
        """`id`, or the one that stands for it in `namespace` if another namespace has it: always the same."""
        return id if self.namespace_of(id) in (None, namespace) else content_id("rf", namespace, id)

    def with_text(self, text: str, env: str, namespace: str) -> list[str]:
        """The ids of those that have exactly this text, the oldest first; of those that only repeat it none."""
        rows = self.connection.execute(
            "SELECT id FROM reflections WHERE stamp = ? AND text = ? AND env = ? AND namespace = ? ORDER BY number",
            (stamp(text), text, env, namespace),
        )
        return [row[0] for row in rows]

    def last_change(self, wanted: Filter = EVERYTHING) -> int:
        """A number that grows whenever a reflection that is `wanted` is written."""
        where, values = wanted.sql()
        return int(
            self.connection.execute(f"SELECT ifnull(max(changed), 0) FROM reflections WHERE {where}", values)[0][0]
        )

    def newest(self, before: str | None = None) -> int:
        """The number of the newest reflection that was written before that moment (ISO 8601); 0 if there is none."""
        # Found from the end: what is asked for is seldom far from it.
        where, values = ("created_at < ?", [before]) if before is not None else ("1", [])
        return self.connection.execute(f"SELECT ifnull(max(number), 0) FROM reflections WHERE {where}", values)[0][0]

    def find(self, wanted: Filter = EVERYTHING, *, limit: int | None = None, newest: bool = False) -> list[Reflection]:
        """The reflections that are `wanted`, the oldest first, or the `newest` first."""
        where, values = wanted.sql()
        # The numbers first: they are sorted and cut without reading what the rows hold.
        order = f"ORDER BY number {'DESC' if newest else 'ASC'}"
        rows = self.connection.execute(
            "SELECT payload FROM reflections WHERE number IN "
            f"(SELECT number FROM reflections WHERE {where} {order} LIMIT ?) {order}",
            [*values, -1 if limit is None else limit],
        )
        return [stored(row[0]) for row in rows]

    def numbers_of(self) -> dict[str, int]:
        """The number of every reflection, by its id."""
        return dict(self.connection.execute("SELECT id, number FROM reflections"))

    def namespaces(self) -> dict[str, int]:
        """How many reflections there are in each namespace."""
        return dict(self.connection.execute("SELECT namespace, count(*) FROM reflections GROUP BY namespace"))

    def written_in(self, episodes: Sequence[str]) -> list[int]:
        """The numbers of the reflections on the tasks of these episodes, written in their runs, which may rest on
        them."""
        found: list[int] = []
        for part in chunks(episodes):
            rows = self.connection.execute(
                "SELECT DISTINCT reflections.number FROM episodes JOIN reflections ON reflections.task = episodes.task "
                f"AND reflections.run = episodes.run WHERE episodes.id IN {marks(part)}",
                part,
            )
            found += [number for (number,) in rows]
        return sorted(set(found))

    def ids(self, numbers: Sequence[int]) -> list[str]:
        """The ids of the reflections with these numbers, in this order."""
        found: dict[int, str] = {}
        for part in chunks(numbers):
            found.update(
                self.connection.execute(f"SELECT number, id FROM reflections WHERE number IN {marks(part)}", part)
            )
        return [found[number] for number in numbers]

    def load(self, numbers: Sequence[int]) -> dict[int, Reflection]:
        """The reflections with these numbers; numbers that nothing has are left out."""
        found: dict[int, Reflection] = {}
        for part in chunks(numbers):
            rows = self.connection.execute(
                f"SELECT number, payload FROM reflections WHERE number IN {marks(part)}", part
            )
            found.update((number, stored(payload)) for number, payload in rows)
        return found

    def select(self, row: type[Row], wanted: Filter) -> list[Row]:
        """The reflections that are `wanted`, the oldest first, each as a named tuple `row` of some of its columns."""
        where, values = wanted.sql()
        columns = ", ".join(row._fields)
        rows = self.connection.execute(f"SELECT {columns} FROM reflections WHERE {where} ORDER BY number", values)
        return [row._make(found) for found in rows]

    def census(self, namespace: str) -> list[tuple[Any, ...]]:
        """(status, tier, kind, source, env, pinned, count) of all reflections of a namespace."""
        return self.connection.execute(
            "SELECT status, tier, kind, source, env, sum(pinned), count(*) FROM reflections WHERE namespace = ? "
            "GROUP BY 1, 2, 3, 4, 5",
            (namespace,),
        )

    def texts_after(self, changed: int, upto: int, limit: int) -> list[tuple[int, int, str]]:
        """(change, number, text) of those changed after `changed` whose number is at most `upto`, by rising change."""
        rows = self.connection.execute(
            "SELECT changed, number, text FROM reflections WHERE changed > ? AND number <= ? ORDER BY changed LIMIT ?",
            (changed, upto, limit),
        )
        return [(change, number, text) for change, number, text in rows]

    def rows(self, numbers: Sequence[int], filter: Filter) -> dict[int, ReflectionRow]:
        """Light rows of those among `numbers` that fit `filter`."""
        where, values = filter.sql()
        found: dict[int, ReflectionRow] = {}
        for part in chunks(numbers):
            rows = self.connection.execute(
                f"SELECT {_ROW} FROM reflections WHERE number IN {marks(part)} AND {where}", [*part, *values]
            )
            found.update(
                (number, ReflectionRow(number, id, pinned, importance, seconds(at)))
                for number, id, pinned, importance, at in rows
            )
        return found

    def numbers(self, filter: Filter, among: Sequence[int] | None = None) -> list[int]:
        """The numbers of all reflections that fit `filter`, or of those `among` these numbers."""
        where, values = filter.sql()
        if among is None:
            return [row[0] for row in self.connection.execute(f"SELECT number FROM reflections WHERE {where}", values)]
        found: list[int] = []
        for part in chunks(among):
            rows = self.connection.execute(
                f"SELECT number FROM reflections WHERE number IN {marks(part)} AND {where}", [*part, *values]
            )
            found += [row[0] for row in rows]
        return found

    def count(self, wanted: Filter = EVERYTHING) -> int:
        """How many reflections are `wanted`."""
        where, values = wanted.sql()
        return int(self.connection.execute(f"SELECT count(*) FROM reflections WHERE {where}", values)[0][0])

    def advised_states(self, wanted: Filter) -> list[int]:
        """The numbers of the states in which a reflection that is `wanted` advises what gained something, rising."""
        where, values = wanted.sql()
        rows = self.connection.execute(
            "SELECT DISTINCT advice.state FROM reflections JOIN advice ON advice.reflection = reflections.number "
            f"WHERE {where} ORDER BY advice.state",
            values,
        )
        return [row[0] for row in rows]

    def state_advice(self, states: Sequence[int], wanted: Filter) -> list[tuple[int, str, Advice]]:
        """What the reflections that are `wanted` advise in the states with these numbers, if it gained something.

        Returns (state number, reflection id, advice), in the order of the reflections' making.
        """
        where, values = wanted.sql()
        rows: list[tuple[int, int, int]] = []
        for part in chunks(states):
            rows += self.connection.execute(
                # CROSS: from the few states, not from all reflections of the environment.
                "SELECT advice.state, advice.reflection, advice.position FROM advice "
                "CROSS JOIN reflections ON reflections.number = advice.reflection "
                f"WHERE advice.state IN {marks(part)} AND {where}",
                [*part, *values],
            )
        loaded = self.load(sorted({number for _, number, _ in rows}))
        ordered = sorted(rows, key=lambda row: row[1:])
        return [(state, loaded[number].id, loaded[number].advice[place]) for state, number, place in ordered]

    def pinned(self, ids: Sequence[str]) -> set[str]:
        """Those of these reflections that are pinned."""
        found: set[str] = set()
        for part in chunks(ids):
            rows = self.connection.execute(f"SELECT id FROM reflections WHERE id IN {marks(part)} AND pinned", part)
            found.update(row[0] for row in rows)
        return found


def same(one: Reflection, other: Reflection) -> bool:
    """True if they differ in nothing but the time of their last change."""
    return one.model_copy(update={"updated_at": other.updated_at}) == other
