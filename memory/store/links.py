"""The table of links between reflections, with what each of them was before an operation changed it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from memory.records import Link
from memory.store.connection import Connection
from memory.store.operations import Operations

_COLUMNS = "source, target, kind, weight, at"
_KEY = "source = ? AND target = ? AND kind = ?"


class LinkChange(NamedTuple):
    """One link before and after; None where there was none."""

    before: Link | None
    after: Link | None

    @property
    def link(self) -> Link:
        """The later of the two that there is."""
        return self.after or self.before  # type: ignore[return-value]


class Links:
    """The repository of links. Within an operation a change carries its number, and is undone with it."""

    def __init__(self, connection: Connection, operations: Operations) -> None:
        self.connection = connection
        self.operations = operations

    def put(self, links: Sequence[Link]) -> None:
        """Keep `links`; one between the same two of the same kind is replaced, if its weight is another."""
        with self.connection.transaction():
            for link in links:
                old = self.get(link)
                if old is None or old.weight != link.weight:
                    self.apply(LinkChange(old, link))

    def replace(self, source: str, kind: str, links: Sequence[Link]) -> None:
        """Make `links` all that there are of this kind from `source`."""
        with self.connection.transaction():
            wanted = {link.target for link in links}
            for old in self._links("source = ? AND kind = ?", source, kind):
                if old.target not in wanted:
                    self.apply(LinkChange(old, None))
            self.put(links)

    def drop(self, id: str, *, kind: str | None = None) -> None:
        """Remove the links from and to one reflection."""
        with self.connection.transaction():
            for old in self.of(id, kind=kind):
                self.apply(LinkChange(old, None))

    def apply(self, change: LinkChange) -> None:
        """Put what is after in the place of what is before, and keep that in the history of links."""
        key = (change.link.source, change.link.target, change.link.kind)
        with self.connection.transaction():
            self.connection.execute(
                f"INSERT INTO link_versions ({_COLUMNS}, operation, ended) "
                f"SELECT {_COLUMNS}, operation, ? FROM links WHERE {_KEY}",
                (self.operations.current, *key),
            )
            self.connection.execute(f"DELETE FROM links WHERE {_KEY}", key)
            if change.after is not None:
                self.connection.execute(
                    f"INSERT INTO links ({_COLUMNS}, operation) VALUES (?, ?, ?, ?, ?, ?)",
                    (*key, change.after.weight, change.after.at, self.operations.current),
                )

    def get(self, like: Link) -> Link | None:
        """The link between the same two of the same kind, if there is one."""
        found = self._links(_KEY, like.source, like.target, like.kind)
        return found[0] if found else None

    def of(self, id: str, *, kind: str | None = None) -> list[Link]:
        """The links from and to one reflection, the strongest first."""
        return self._links("(source = ? OR target = ?) AND (? IS NULL OR kind = ?)", id, id, kind, kind)

    def among(self, kind: str, namespace: str) -> list[Link]:
        """The links of one kind from reflections of a namespace; of each source the strongest first."""
        rows = self.connection.execute(
            f"SELECT {', '.join(f'links.{name}' for name in _COLUMNS.split(', '))} FROM links "
            "JOIN reflections ON reflections.id = links.source WHERE links.kind = ? AND namespace = ? "
            "ORDER BY links.source, weight DESC, target",
            (kind, namespace),
        )
        return [_link(row) for row in rows]

    def ever(self, kind: str) -> set[tuple[str, str]]:
        """(source, target) of every link of this kind that there is or was."""
        rows = self.connection.execute(
            "SELECT source, target FROM links WHERE kind = ? UNION SELECT source, target FROM link_versions "
            "WHERE kind = ?",
            (kind, kind),
        )
        return {(source, target) for source, target in rows}

    def undone(self, kind: str, operation: str, namespace: str) -> set[tuple[str, str]]:
        """(source, target) of the links of this kind that an operation of this name made or ended and that was undone.

        Only those from reflections of a namespace.
        """
        rows = self.connection.execute(
            "SELECT DISTINCT links.source, target FROM link_versions AS links "
            "JOIN operations ON operations.number IN (operation, ended) "
            "JOIN reflections ON reflections.id = links.source "
            "WHERE links.kind = ? AND name = ? AND undone AND namespace = ?",
            (kind, operation, namespace),
        )
        return {(source, target) for source, target in rows}

    def _links(self, where: str, *values: Any) -> list[Link]:
        rows = self.connection.execute(
            f"SELECT {_COLUMNS} FROM links WHERE {where} ORDER BY weight DESC, source, target, kind", values
        )
        return [_link(row) for row in rows]

    def changes(self, operation: int) -> list[LinkChange]:
        """What the operation with this number did to links, each once, by their ends and kind."""
        before: dict[tuple[Any, ...], Link | None] = {}
        after: dict[tuple[Any, ...], Link | None] = {}
        rows = self.connection.execute(
            f"SELECT {_COLUMNS}, operation, ended, number FROM link_versions WHERE operation = ? OR ended = ? "
            f"UNION ALL SELECT {_COLUMNS}, operation, NULL, NULL FROM links WHERE operation = ? "
            "ORDER BY number NULLS LAST",
            (operation, operation, operation),
        )
        for row in rows:
            key, (made, ended) = row[:3], row[5:7]
            before.setdefault(key, None if made == operation else _link(row))
            after[key] = None if ended == operation else _link(row)
        changes = [LinkChange(before[key], after[key]) for key in sorted(before)]
        return [change for change in changes if change.before != change.after]


def _link(row: Sequence[Any]) -> Link:
    return Link.stored({"source": row[0], "target": row[1], "kind": row[2], "weight": row[3], "at": row[4]})
