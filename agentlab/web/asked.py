"""What an address asks for: its path and its query, read with care, since anybody can type one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from agentlab.errors import AgentLabError

LONGEST = 2000
"""Characters of one value."""


class BadAddress(AgentLabError):
    """An address, or a form, holds something that makes no sense."""


@dataclass(frozen=True)
class Asked:
    """The values in an address by their names: those of its path, whose names are `fixed`, and those of its query.

    A page that is written as a file (`as_file`) has an address without a query.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    fixed: frozenset[str] = frozenset()
    as_file: bool = False

    def text(self, name: str, default: str = "", *, longest: int = LONGEST) -> str:
        """A value, without blanks around it. Raises BadAddress if it is longer than anything that is looked for."""
        value = self.values.get(name, "").strip()
        if len(value) > longest:
            raise BadAddress(f"'{name}' is longer than {longest} characters; shorten it.")
        return value or default

    def maybe(self, name: str) -> str | None:
        """A value; None if it is not there, or empty."""
        return self.text(name) or None

    def number(self, name: str, default: int, *, least: int = 0, most: int = 10**9) -> int:
        """A whole number within bounds. Raises BadAddress for anything else."""
        text = self.text(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most):
            raise BadAddress(f"'{name}' is {text!r}, and must be a whole number from {least} to {most}.")
        return int(text)

    def choice(self, name: str, among: tuple[str, ...], default: str = "") -> str:
        """One of some words. Raises BadAddress for another one."""
        text = self.text(name, default)
        if text != default and text not in among:
            raise BadAddress(f"'{name}' is {text!r}, and must be one of: {', '.join(among)}.")
        return text

    def extended(self, ending: str) -> Asked:
        """The same of a path that goes on so."""
        return replace(self, values={**self.values, **{name: self.values[name] + ending for name in self.fixed}})

    def query(self, **changed: object) -> str:
        """The query of the same address with some values changed (None or empty: left out); with its `?`."""
        kept = {name: value for name, value in {**self.values, **changed}.items() if value not in (None, "")}
        kept = {name: value for name, value in kept.items() if name not in self.fixed}
        shown = kept and not self.as_file
        return f"?{urlencode({name: str(value) for name, value in kept.items()})}" if shown else ""
