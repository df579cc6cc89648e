"""Results that show themselves as a table: as text at a Python prompt, as HTML in a notebook."""

from __future__ import annotations

from html import escape


class Grid:
    """What has a `grid`: lines of cells, the titles first. A class puts it before its other bases."""

    @property
    def grid(self) -> list[list[str]]:
        """Titles, then a line of cells for each row."""
        raise TypeError(f"{type(self).__name__} has no grid")

    def __repr__(self) -> str:
        """The table as a person reads it."""
        widths = [max(map(len, column)) for column in zip(*self.grid, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in self.grid]
        return "\n".join(line.rstrip() for line in lines)

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        titles, *lines = [[escape(cell) for cell in line] for line in self.grid]
        head = "".join(f"<th>{cell}</th>" for cell in titles)
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in lines)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
