"""The doors of trainers: each name is there, comes from one place, and is imported only when it is asked for."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest

DOORS = ("trainers", *(f"trainers.{room}" for room in ("adapters", "data", "gate", "objectives", "training")))


def test_importing_every_door_loads_nothing_heavy() -> None:
    code = (
        f"import sys, {', '.join(DOORS)}, trainers.job; "
        "from trainers import JobConfig, AdapterRegistry, select, decide; "
        "from trainers.adapters import MergeConfig, check_files, compose, distances, trace; "
        "from trainers.training import Canary, fingerprint, reference; "
        "print([m for m in ('torch', 'transformers', 'peft', 'numpy', 'sqlite_utils') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("name", DOORS)
def test_every_public_name_can_be_imported_and_no_other(name: str) -> None:
    door = import_module(name)
    assert all(getattr(door, public) for public in door.__all__)
    assert set(door.__all__) <= set(dir(door))
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        door.train  # noqa: B018


@pytest.mark.parametrize("name", DOORS)
def test_a_door_has_no_name_that_one_of_its_modules_bears(name: str) -> None:
    """What was imported last would decide which of the two it is."""
    door = import_module(name)
    assert not [public for public in door.__all__ if find_spec(f"{name}.{public}")]
