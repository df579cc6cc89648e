"""Any LangChain tool as a tool of a game; LangChain itself is not needed for that."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from environments.tools.base import Seen

Proposer = Callable[[Seen], Sequence[str | Mapping[str, Any]]]
"""Gives the arguments that make sense now: a text for a tool of one argument, else its arguments by their names."""


@dataclass(frozen=True)
class LangChainTool:
    """A `BaseTool` (whatever has `name`, `description`, `args` and `invoke`), called by `NAME ARGUMENTS`.

    The arguments of a call are one text, or a JSON object where there are several. `propose` gives those that a ranking
    agent is offered; without it only an agent that writes can call the tool.
    """

    tool: Any
    propose: Proposer = lambda seen: ()

    @property
    def name(self) -> str:
        return str(self.tool.name)

    @property
    def verbs(self) -> Sequence[str]:
        return (self.name,)

    @property
    def schema(self) -> dict[str, Any]:
        """Its arguments by their names, as JSON schemas: what an agent that writes is told."""
        return dict(self.tool.args)

    def calls(self, seen: Seen) -> Sequence[str]:
        return [f"{self.name} {self._typed(arguments)}".strip() for arguments in self.propose(seen)]

    def _typed(self, arguments: str | Mapping[str, Any]) -> str:
        return arguments if isinstance(arguments, str) else json.dumps(dict(arguments), sort_keys=True)

    def answer(self, call: str, seen: Seen) -> str:
        given = call.removeprefix(self.name).strip()
        names = list(self.schema)
        arguments: Any = {}
        if given.startswith("{"):
            arguments = json.loads(given)
        elif len(names) == 1:
            arguments = {names[0]: given}
        elif given:
            raise ValueError(f"it takes {', '.join(names) or 'nothing'}; write them as a JSON object")
        return " ".join(str(self.tool.invoke(arguments)).split())
