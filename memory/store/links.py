"""The table of links between reflections, with what each of them was before an operation changed it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from memory.records import Link
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


class Links(Operations):
    """What can be done with links. Within an operation a change carries its number, and is undone with it."""

    def put_links(self, links: Sequence[Link]) -> None:
        """Keep `links`; one between the same two of the same kind is replaced, if its weight is another."""
        with self.transaction():
            for link in links:
                old = self.link(link)
                if old is None or old.weight != link.weight:
                    self.set_link(LinkChange(old, link))

    def replace_links(self, source: str, kind: str, links: Sequence[Link]) -> None:
        """Make `links` all that there are of this kind from `source`."""
        with self.transaction():
            wanted = {link.target for link in links}
            for old in self._links("source = ? AND kind = ?", source, kind):
                if old.target not in wanted:
                    self.set_link(LinkChange(old, None))
            self.put_links(links)

    def drop_links(self, id: str, *, kind: str | None = None) -> None:
        """Remove the links from and to one reflection."""
        with self.transaction():
            for old in self.links_of(id, kind=kind):
                self.set_link(LinkChange(old, None))

    def set_link(self, change: LinkChange) -> None:
        """Put what is after in the place of what is before, and keep that in the history of links."""
        key = (change.link.source, change.link.target, change.link.kind)
        with self.transaction():
            self.execute(
                f"INSERT INTO link_versions ({_COLUMNS}, operation, ended) "
                f"SELECT {_COLUMNS}, operation, ? FROM links WHERE {_KEY}",
                (self._operation, *key),
            )
            self.execute(f"DELETE FROM links WHERE {_KEY}", key)
            if change.after is not None:
                self.execute(
                    f"INSERT INTO links ({_COLUMNS}, operation) VALUES (?, ?, ?, ?, ?, ?)",
                    (*key, change.after.weight, change.after.at, self._operation),
                )

    def link(self, like: Link) -> Link | None:
        """The link between the same two of the same kind, if there is one."""
        found = self._links(_KEY, like.source, like.target, like.kind)
        return found[0] if found else None

    def links_of(self, id: str, *, kind: str | None = None) -> list[Link]:
        """The links from and to one reflection, the strongest first."""
        return self._links("(source = ? OR target = ?) AND (? IS NULL OR kind = ?)", id, id, kind, kind)

    def _links(self, where: str, *values: Any) -> list[Link]:
        rows = self.execute(
            f"SELECT {_COLUMNS} FROM links WHERE {where} ORDER BY weight DESC, source, target, kind", values
        )
        return [_link(row) for row in rows]

    def link_changes(self, operation: int) -> list[LinkChange]:
        """What the operation with this number did to links, each once, by their ends and kind."""
        before: dict[tuple[Any, ...], Link | None] = {}
        after: dict[tuple[Any, ...], Link | None] = {}
        rows = self.execute(
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
