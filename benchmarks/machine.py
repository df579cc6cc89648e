"""What a measurement was made on.

Imported first by every benchmark: from then on the packages come before the benchmarks, one of which is `memory.py`.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
if sys.path[0] == str(_HERE):
    # What an installation in place adds is only asked after every path.
    sys.path[:] = [*sys.path[1:], str(_HERE.parent), str(_HERE)]


def describe(threads: int) -> str:
    """Processor, cores, threads used, load before the start, and the versions that matter, in one line."""
    import torch
    import transformers

    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    return (
        f"{processor}, {len(os.sched_getaffinity(0))} cores, {threads} thread(s), load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"
    )
