"""A part of `tests.e2e.hostile`: what nobody means, by each door, with hypothesis as the source of chance."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.hostile import DOORS, OUTSIDE, knock, knocks
from tests.e2e.hostile_doors import Door
from tests.e2e.hostile_values import Chance

pytestmark = pytest.mark.slow

FEW = {"pages": 4, "models": 6, "answers": 8, "chat": 8, "mcp": 12}
"""Inputs by the doors that take long."""
DURING = settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))


class Drawn(Chance):
    """Chance that hypothesis draws, which can make what fails smaller."""

    def __init__(self, source: random.Random) -> None:
        super().__init__(0)
        self.source = source

    def random(self) -> float:
        return self.source.random()

    def getrandbits(self, k: int, /) -> int:
        return self.source.getrandbits(k)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[str], Door]]:
    """Opens a door by its name."""
    doors: list[Door] = []

    def made(name: str) -> Door:
        doors.append(DOORS[name](tmp_path / name))
        return doors[-1]

    yield made
    for door in doors:
        door.close()


@pytest.mark.parametrize("name", DOORS)
def test_no_input_is_a_traceback_a_write_elsewhere_or_a_change_without_its_operation(
    name: str, opened: Callable[[str], Door]
) -> None:
    door = opened(name)
    before = door.changes()
    OUTSIDE.found.clear()

    @given(st.randoms(use_true_random=False))
    @settings(DURING, max_examples=FEW.get(name, 20))
    def sent(source: random.Random) -> None:
        assert knock(door, Drawn(source), OUTSIDE) == ""

    sent()
    assert OUTSIDE.found == []
    assert door.changes() == before


def test_a_door_that_lets_something_through_is_found_out(tmp_path: Path) -> None:
    class Open(Door):
        name = "open"

        def knock(self, chance: Chance) -> None:
            (tmp_path / "elsewhere").write_text("x")
            if chance.random() < 0.5:
                raise KeyError

    found = knocks(Open, tmp_path / "doors", seed=1, inputs=20, until=float("inf"))
    assert found["inputs"] == 20 and 0 < found["tracebacks"] < 20 and found["outside"] == 20
