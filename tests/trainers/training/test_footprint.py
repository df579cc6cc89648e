"""What goes through the model at once is halved until it fits."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest
import torch

from trainers.errors import OutOfMemory
from trainers.training import packing
from trainers.training.footprint import Footprint, give_back, ran_out


class Model:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def zero_grad(self, set_to_none: bool) -> None:
        assert set_to_none
        self.told.append("gradients gone")

    def activation_checkpointing_enable(self, options: dict[str, Any]) -> None:
        assert options == {"use_reentrant": False}
        self.told.append("compute again")


def test_examples_are_halved_then_activations_computed_again_then_it_ends() -> None:
    model, small = Model(), Footprint(8)
    found = []
    for _ in range(3):
        small.shrink(model, 5)
        found.append(small.examples)
    # A share of five goes through as three, two, one.
    assert found == [3, 2, 1] and not small.checkpointing
    small.shrink(model, 5)
    assert small == Footprint(1, checkpointing=True) and model.told == ["gradients gone"] * 4 + ["compute again"]
    with pytest.raises(OutOfMemory, match="larger machine"):
        small.shrink(model, 5)


def test_masks_that_are_kept_go_when_memory_runs_out() -> None:
    packing.future(3, 1, torch.float32, torch.device("cpu"))
    Footprint(2).shrink(Model(), 2)
    assert packing.future.cache_info().currsize == 0


def test_what_was_switched_off_is_not_tried() -> None:
    with pytest.raises(OutOfMemory):
        Footprint(1, may_checkpoint=False).shrink(Model(), 1)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_lack_of_memory_is_told_from_other_errors(error: Exception, expected: bool) -> None:
    assert ran_out(error) is expected


def resident() -> int:
    """What this process holds, in MiB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) // 1024


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators give back by themselves")
def test_what_was_freed_under_something_alive_goes_back_to_the_system() -> None:
    blocks = [bytearray(b"x" * 50_000) for _ in range(4000)]
    full, last = resident(), blocks[-1]
    blocks.clear()
    give_back()
    assert full - resident() > 150
    assert len(last) == 50_000
