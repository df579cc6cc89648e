"""Tools by the names that an id gives them: `twx/arithmetic?tools=calculator+notes`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from environments.errors import BadParameter, EnvironmentsError, did_you_mean
from environments.tools.base import Tool
from environments.tools.calculator import Calculator
from environments.tools.checklist import Checklist
from environments.tools.navigator import Navigator
from environments.tools.notes import Notes
from environments.tools.recall import Recall
from environments.tools.sorter import Sorter

PARAMETER = "tools"
"""The parameter of every environment that names tools, with a plus between two."""

NONE = "none"
"""What it says where an environment is meant without tools, also where others are added by default."""

_SHIPPED: dict[str, Callable[[], Tool]] = {
    "calculator": Calculator,
    "checklist": Checklist,
    "navigator": Navigator,
    "notes": Notes,
    "recall": Recall,
    "sort": Sorter,
}
_own: dict[str, Callable[[], Tool]] = {}


def tool_names() -> list[str]:
    """The names of all tools."""
    return sorted([*_SHIPPED, *_own])


def tool(name: str) -> Tool:
    """The tool of a name. Raises BadParameter if there is none."""
    factory = _own.get(name) or _SHIPPED.get(name)
    if factory is None:
        raise BadParameter(f"there is no tool `{name}`; {did_you_mean(name, tool_names())}")
    return factory()


def register_tool(name: str, factory: Callable[[], Tool]) -> None:
    """Add a tool of one's own. Raises EnvironmentsError if the name is taken, or cannot stand in an id."""
    if not name or name == NONE or any(mark in name for mark in "+,=?:/ "):
        raise EnvironmentsError(f"`{name}` cannot name a tool; use letters, digits and hyphens; rename it")
    if name in _SHIPPED or name in _own:
        raise EnvironmentsError(f"the tool `{name}` is there already; choose another name")
    _own[name] = factory


def unregister_tool(name: str) -> None:
    """Remove a tool that was added; unknown names are ignored."""
    _own.pop(name, None)


def named(value: object) -> list[str]:
    """The names in a value of the parameter, sorted, each once. Raises BadParameter for no name, or an unknown one."""
    if value == NONE:
        return []
    names = sorted({name.strip() for name in str(value).split("+") if name.strip()})
    if not names:
        raise BadParameter(f"`{PARAMETER}` names no tool; name some of {', '.join(tool_names())}, with a + between")
    for name in names:
        tool(name)
    return names


def joined(names: Sequence[str]) -> str:
    """The names as the parameter has them."""
    return "+".join(names)
