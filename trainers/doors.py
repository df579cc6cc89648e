"""The doors of this package and of its rooms: names that are imported when they are first asked for.

So a program that wants one record gets just that; PyTorch, transformers and peft only when something runs on them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy(door: str, homes: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and the `__dir__` of the package `door`; `homes` are the names that it has, by their module.

    What is asked for is looked up in its module every time, so that a name which was replaced there is so here.
    """
    home = {name: module for module, names in homes.items() for name in names}

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {door!r} has no attribute {name!r}")
        return getattr(import_module(home[name]), name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[door]), *home})

    return find, names
