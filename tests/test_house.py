"""The house as `docs/architecture.md` draws it: imports go down only, no circle, no module of two nouns."""

from __future__ import annotations

import statistics
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("environments", "memory", "trainers", "agentlab")


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """All imports between modules, those for annotations and those inside functions too."""
    return grimp.build_graph(*PACKAGES, exclude_type_checking_imports=False, cache_dir=None)


def circles(graph: grimp.ImportGraph) -> list[set[str]]:
    """Groups of modules that reach each other (strongly connected components of two and more, Tarjan 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        stack.append(module)
        for other in graph.find_modules_directly_imported_by(module):
            if other not in order:
                visit(other)
            if other in stack:
                low[module] = min(low[module], low[other])
        if low[module] == order[module]:
            at = stack.index(module)
            found.append(set(stack[at:]))
            del stack[at:]

    for module in sorted(graph.modules):
        if module not in order:
            visit(module)
    return [group for group in found if len(group) > 1]


def test_no_modules_import_each_other_in_a_circle(graph: grimp.ImportGraph) -> None:
    assert circles(graph) == []
    graph.add_import(importer="memory.records", imported="memory.reflection_memory")
    assert any("memory.records" in group for group in circles(graph))
    graph.remove_import(importer="memory.records", imported="memory.reflection_memory")


def test_outsiders_come_in_by_a_door(graph: grimp.ImportGraph) -> None:
    inside = [module for module in graph.modules if module.split(".")[0] in ("memory", "trainers")]
    deep = [module for module in inside if module.count(".") >= 2]
    entered = {
        (outsider, module)
        for module in deep
        for outsider in graph.find_modules_that_directly_import(module)
        if outsider.split(".")[0] != module.split(".")[0]
    }
    assert entered == set()


def test_a_module_is_one_noun_and_short() -> None:
    lengths = {
        path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines())
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert {path: length for path, length in lengths.items() if length > 400} == {}
    assert statistics.median(lengths.values()) < 130


def test_the_architecture_names_every_room() -> None:
    drawn = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = [path.parent.name for package in PACKAGES for path in (ROOT / package).glob("*/__init__.py")]
    assert rooms and [room for room in rooms if f"`{room}/`" not in drawn] == []
