"""What was done to the memory: listed, compared between two times, and taken back."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from memory import errors
from memory.records import Reflection, now
from memory.store import repeats
from memory.store.database import Database
from memory.store.links import LinkChange
from memory.store.operations import PURGED, Batch, Operation
from memory.store.reflections import same
from memory.store.versions import Version, stored
from memory.text import moments

ChangeKind = Literal["added", "removed", "returned", "changed"]
UNDO = "undo"


@dataclass(frozen=True, slots=True)
class Change:
    """One reflection before and after; `before` is None where there was none."""

    before: Reflection | None
    after: Reflection

    @property
    def id(self) -> str:
        return self.after.id

    @property
    def kind(self) -> ChangeKind:
        """`removed` and `returned` speak of use: a reflection that is not active serves nobody, but is kept."""
        if self.before is None:
            return "added"
        was, is_ = self.before.status == "active", self.after.status == "active"
        return "changed" if was == is_ else "returned" if is_ else "removed"

    def fields(self) -> dict[str, tuple[Any, Any]]:
        """Each field that differs as (before, after), apart from the text and the time of the change."""
        if self.before is None:
            return {}
        pairs = {name: (getattr(self.before, name), getattr(self.after, name)) for name in Reflection.model_fields}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and name not in ("text", "updated_at")}

    def text_diff(self) -> list[str]:
        """The lines of a unified diff of the text, without its heading; empty if the text is the same."""
        before = self.before.text if self.before else ""
        lines = difflib.unified_diff(before.split("\n"), self.after.text.split("\n"), lineterm="", n=1)
        return list(lines)[2:] if before != self.after.text else []


@dataclass(frozen=True, slots=True)
class Diff:
    """What became of the memory after `start` and up to `end` (stored times), the oldest reflection first.

    `touched` is how many reflections of any namespace had a version between them.
    """

    start: str
    end: str
    changes: list[Change]
    touched: int = 0

    def of(self, kind: ChangeKind) -> list[Change]:
        """The changes of one kind."""
        return [change for change in self.changes if change.kind == kind]


class History:
    """Operations, versions and differences of a memory.

    With a `namespace` only what was done in it is seen, and an operation that also reached into another cannot be
    undone from there. `clock` gives the present as `records.now` does.
    """

    def __init__(self, database: Database, clock: Callable[[], str] = now, namespace: str | None = None):
        self.database = database
        self.clock = clock
        self.namespace = namespace

    # Looking back

    def operations(self, *, limit: int | None = None) -> list[Operation]:
        """What was done, the newest first."""
        return self.database.operations.recent(limit=limit, namespace=self.namespace)

    def batches(self, *, limit: int = -1, offset: int = 0) -> list[Batch]:
        """What was done, each command once, the newest first, from the one at `offset` on."""
        return self.database.operations.batches(limit=limit, offset=offset, namespace=self.namespace)

    def batch(self, id: str) -> list[Operation]:
        """The operations of one command, the newest first. Raises `UnknownOperation`."""
        return [self.operation(one.id) for one in self.database.operations.of_batch(id)]

    def operation(self, id: str) -> Operation:
        """One operation; a beginning of its id is enough. Raises `UnknownOperation`."""
        found = self.database.operations.get(id)
        reached = self.database.operations.namespaces(found.number)
        if self.namespace is not None and self.namespace not in reached and found.name != PURGED:
            raise errors.UnknownOperation(errors.unknown("operation", id, [], "`agentlab memory history`"))
        return found

    def changes(self, id: str, *, limit: int = -1, offset: int = 0) -> list[Change]:
        """What an operation did to each reflection that it changed, or to `limit` from the one at `offset` on, the
        oldest first. Raises `UnknownOperation`."""
        rows = self.database.connection.execute(
            "SELECT before.payload, after.payload FROM ("
            "SELECT reflection, min(version) AS first, max(version) AS last FROM reflection_versions "
            "WHERE operation = ? GROUP BY reflection ORDER BY reflection LIMIT ? OFFSET ?) AS touched "
            "JOIN reflection_versions AS after ON after.reflection = touched.reflection AND after.version = last "
            "LEFT JOIN reflection_versions AS before "
            "ON before.reflection = touched.reflection AND before.version = first - 1 ORDER BY touched.reflection",
            (self.operation(id).number, limit, offset),
        )
        changes = [_change(*row) for row in rows]
        # An import that brought old versions along has put the reflection behind its own last one: it is new here.
        changes = [Change(None, item.after) if _stands(item.before, item.after) else item for item in changes]
        return [item for item in changes if self.namespace in (None, item.after.namespace)]

    def links(self, id: str) -> list[LinkChange]:
        """What an operation did to links. Raises `UnknownOperation`."""
        return self.database.links.changes(self.operation(id).number)

    def versions(self, id: str, newest: int | None = None) -> list[tuple[Version, Change]]:
        """Every version of a reflection, or so many of the `newest`, the first one first, each with what it changed.
        Raises `UnknownReflection`."""
        # One more, which the first of them has changed.
        most = -1 if newest is None else newest + 1
        found = self.database.versions.of(self.database.reflections.full_id(id, self.namespace), most)
        before = [None, *(version.reflection for version in found)]
        changes = [(version, Change(old, version.reflection)) for old, version in zip(before, found, strict=False)]
        return changes if newest is None else changes[-newest:]

    def diff(self, start: str, end: str = "now", *, limit: int = -1, offset: int = 0) -> Diff:
        """What differs between two times, each as `moments.typed` understands it: of all that had a version between
        them, or of `limit` from the one at `offset` on, the oldest first. Raises `BadMoment`."""
        present = self.clock()
        first, last = moments.typed(start, present), moments.typed(end, present)
        if first > last:
            raise errors.BadMoment(f"'{start}' is later than '{end}'; give the earlier time first.")
        # From the beginning, nearly all versions are meant: they are read one after the other, not each by an index.
        at = "+at" if first == moments.START else "at"
        between = f"FROM reflection_versions WHERE {at} > ? AND {at} <= ?"
        state = "SELECT payload FROM reflection_versions WHERE reflection = number AND at <= ? ORDER BY version DESC"
        rows = self.database.connection.execute(
            f"SELECT ({state} LIMIT 1), ({state} LIMIT 1) FROM reflections "
            f"WHERE number IN (SELECT reflection {between}) AND (? IS NULL OR namespace = ?) "
            "ORDER BY number LIMIT ? OFFSET ?",
            (first, last, first, last, self.namespace, self.namespace, limit, offset),
        )
        changes = [_change(*row) for row in rows]
        touched = self.database.connection.execute(f"SELECT count(DISTINCT reflection) {between}", (first, last))
        return Diff(
            first, last, [change for change in changes if not _stands(change.before, change.after)], touched[0][0]
        )

    # Taking back

    def undo(self, id: str) -> Operation:
        """Put every reflection and link that an operation changed back to what it was before, as an operation.

        A reflection that the operation made becomes `forgotten`, one that it reworded says its old words; where others
        have said the same since, what stands for that already says it from then on, or else the oldest of them. A link
        that it made goes, one that it removed comes back. Undoing an undo does the operation again. Recalls stay: they
        are records of what happened, and whom they count for follows from the reflections (see `merges`).

        Raises:
            UnknownOperation, or CannotUndo: if it is undone already, if something that it changed was changed again
                since, if it reaches into another namespace, or if there is nothing to take back.
        """
        with self.database.transaction():
            target = self.operation(id)
            self._check(target)
            changes, links = self.changes(target.id), self.links(target.id)
            for change in changes:
                self._check_untouched(target, change)
            for link in links:
                self._check_link(target, link)
            left = self._left_behind(changes)
            with self.database.operations.record(UNDO, target.id) as number:
                written = [self.database.reflections.put(self._taken_back(item), change="undone") for item in changes]
                for heirs in left:
                    written += self._stand(heirs)
                for link in links:
                    self.database.links.apply(LinkChange(link.after, link.before))
                if not any(written) and not links:
                    raise errors.CannotUndo(
                        f"There is nothing to take back of {target.id}: what it made is out of use already."
                    )
                self._mark(target, undone=True)
            done = self.database.operations.id_of(number)
            return self.database.operations.get(done or "")

    def undo_batch(self, id: str) -> list[Operation]:
        """Take back all that one command did and that still stands, the newest first: all of it, or nothing.

        What takes it back is a batch too, so that undoing that one does the command again.

        Raises:
            UnknownOperation, or CannotUndo: as `undo` does, and if all of it is undone already.
        """
        with self.database.transaction():
            standing = [one for one in self.batch(id) if not one.undone]
            if not standing:
                raise errors.CannotUndo(f"All that {id} did is undone already.")
            with self.database.operations.batch(UNDO):
                return [self.undo(one.id) for one in standing]

    def _check(self, target: Operation) -> None:
        if target.name == PURGED:
            raise errors.CannotUndo(f"{target.id} deleted {target.detail} for good; nothing is left to bring back.")
        if target.undone:
            rows = self.database.connection.execute(
                "SELECT id FROM operations WHERE name = ? AND detail = ? AND NOT undone ORDER BY number DESC LIMIT 1",
                (UNDO, target.id),
            )
            again = f"; `agentlab memory undo {rows[0][0]}` does it again" if rows else ""
            raise errors.CannotUndo(f"{target.id} ({target.name}) is undone already{again}.")
        if self.namespace is not None and self.database.operations.namespaces(target.number) != {self.namespace}:
            raise errors.CannotUndo(
                f"{target.id} ({target.name}) also changed what is in another namespace; undo it with --all-namespaces."
            )

    def _check_untouched(self, target: Operation, change: Change) -> None:
        """What a later operation changed and an undo put back is as the target left it: only the outcome counts."""
        if _stands(self.database.reflections.get(change.id), change.after):
            return
        number = "(SELECT number FROM reflections WHERE id = ?)"
        later, name, what = self.database.connection.execute(
            "SELECT operations.id, name, change FROM reflection_versions LEFT JOIN operations ON number = operation "
            f"WHERE reflection = {number} AND NOT ifnull(undone, 0) AND version > "
            f"(SELECT max(version) FROM reflection_versions WHERE reflection = {number} AND operation = ?) "
            "ORDER BY version DESC LIMIT 1",
            (change.id, change.id, target.number),
        )[0]
        by = f"by {later} ({name}); undo that one first" if later else f"({what}); mend it with `agentlab memory edit`"
        raise errors.CannotUndo(f"{target.id} cannot be undone: {change.id} was changed later {by}.")

    def _check_link(self, target: Operation, change: LinkChange) -> None:
        link = change.link
        if self.database.links.get(link) == change.after:
            return
        here = "source = :source AND target = :target AND kind = :kind"
        rows = self.database.connection.execute(
            "SELECT id, name FROM operations WHERE number > :number AND NOT undone AND number IN "
            f"(SELECT operation FROM links WHERE {here} UNION SELECT ended FROM link_versions WHERE {here}) "
            "ORDER BY number DESC LIMIT 1",
            {"number": target.number, "source": link.source, "target": link.target, "kind": link.kind},
        )
        later = (
            f" by {rows[0][0]} ({rows[0][1]}); undo that one first." if rows else ", and nothing tells how; leave it."
        )
        what = f"the link '{link.kind}' from {link.source} to {link.target}"
        raise errors.CannotUndo(f"{target.id} cannot be undone: {what} was changed later{later}")

    def _taken_back(self, change: Change) -> Reflection:
        values = {"updated_at": self.clock()}
        if change.before is None:
            return change.after.model_copy(update=values | {"status": "forgotten"})
        return change.before.model_copy(update=values)

    def _left_behind(self, changes: Sequence[Change]) -> list[list[Reflection]]:
        """What repeats words that are taken back, as it is to be kept, those of one sentence together; what is itself
        put back is not among it."""
        present, known = self.clock(), {change.id for change in changes}
        left = list[list[Reflection]]()
        for change in changes:
            now = self.database.reflections.get(change.id)
            if change.before is None:
                heirs = repeats.heirs(self.database, change.id, lambda item: item.id not in known)
                left.append([heir.model_copy(update={"updated_at": present}) for heir in heirs])
            elif change.before.text != now.text:
                # A merge rewords without taking leave of those that said the old words: they are back where they were.
                said = partial(_repeats, text=now.text, but=known)
                left.append(repeats.left_behind(self.database, now, present, said))
        return left

    def _stand(self, heirs: Sequence[Reflection]) -> list[bool]:
        """Keep those that repeat one sentence; where another one says it by now, all of them repeat that."""
        if not heirs:
            return []
        first = repeats.counted(self.database, heirs[0])
        into = first.merged_into or first.id
        others = [heir.model_copy(update={"merged_into": into}) for heir in heirs[1:]]
        return [self.database.reflections.put(heir, change="said first") for heir in (first, *others)]

    def _mark(self, operation: Operation, *, undone: bool) -> None:
        """An undo that is undone means that what it had undone holds again, and so on down."""
        self.database.operations.mark_undone(operation.number, undone)
        if operation.name == UNDO:
            self._mark(self.database.operations.get(operation.detail), undone=not undone)


def _repeats(item: Reflection, text: str, but: set[str]) -> bool:
    return item.text == text and item.id not in but


def _stands(before: Reflection | None, after: Reflection) -> bool:
    return before is not None and same(before, after)


def _change(before: bytes | None, after: bytes) -> Change:
    return Change(stored(before) if before else None, stored(after))
