"""Benchmarks as modules: they are scripts, not a part of any package."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def load() -> Iterator[Callable[[str], ModuleType]]:
    """Loads a benchmark by its name."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        # As a script it would find its neighbours by itself.
        monkeypatch.setattr(sys, "path", [*sys.path, str(FOLDER)])

        def loaded(name: str) -> ModuleType:
            spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look names up
            spec.loader.exec_module(module)
            return module

        yield loaded
