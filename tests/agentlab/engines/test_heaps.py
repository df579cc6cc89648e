from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

import pytest

from agentlab.engines.heaps import share_one_heap

CODE = """
import sys, threading, torch
from pathlib import Path
if sys.argv[1] == "shared":
    from agentlab.engines.heaps import share_one_heap
    share_one_heap()
before = Path("/proc/self/maps").read_text().count("\\n")
together = threading.Barrier(8)
def work():
    together.wait()
    kept = [torch.ones(2_000) for _ in range(50)]
    together.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
starts = [int(line.split("-")[0], 16) for line in Path("/proc/self/maps").read_text().splitlines()]
print(sum(start % 2**26 == 0 for start in starts))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_threads_share_one_heap(in_a_process: Callable[..., tuple[int, str]]) -> None:
    heaps = {}
    for how in ("shared", "each its own"):
        code, said = in_a_process(CODE, how)
        assert code == 0, said
        heaps[how] = int(said.split()[-1])
    assert heaps["shared"] + 4 <= heaps["each its own"]


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_elsewhere_nothing_happens(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str | None) -> None:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    share_one_heap()
