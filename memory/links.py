"""The table of links between reflections."""

from __future__ import annotations

from collections.abc import Sequence

from memory.connection import Connection
from memory.records import Link

_COLUMNS = "source, target, kind, weight, at"


class Links(Connection):
    """What can be done with links."""

    def put_links(self, links: Sequence[Link]) -> None:
        """Keep `links`; one between the same two of the same kind is replaced."""
        self.executemany(
            f"INSERT INTO links ({_COLUMNS}) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (source, target, kind) DO UPDATE SET weight = excluded.weight, at = excluded.at",
            [(link.source, link.target, link.kind, link.weight, link.at) for link in links],
        )

    def links_of(self, id: str, *, kind: str | None = None) -> list[Link]:
        """The links from and to one reflection, the strongest first."""
        rows = self.execute(
            f"SELECT {_COLUMNS} FROM links WHERE (source = ? OR target = ?) AND (? IS NULL OR kind = ?) "
            "ORDER BY weight DESC, source, target, kind",
            (id, id, kind, kind),
        )
        return [Link(source=row[0], target=row[1], kind=row[2], weight=row[3], at=row[4]) for row in rows]

    def drop_links(self, id: str, *, kind: str | None = None) -> None:
        """Remove the links from and to one reflection."""
        self.execute(
            "DELETE FROM links WHERE (source = ? OR target = ?) AND (? IS NULL OR kind = ?)", (id, id, kind, kind)
        )
