"""What `auto` comes to on a machine: device, number format and attention of a job."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, NamedTuple

import torch

from trainers.config import JobConfig

SHORT = 512
"""Up to this many tokens plain attention beats the fused kernel on a CPU; beyond, its square of memory hurts."""


class Setup(NamedTuple):
    """What `auto` came to on this machine."""

    device: str
    dtype: torch.dtype
    attention: str
    why_padded: str | None = None

    def precision(self) -> Any:
        """The number format of the forward pass."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.dtype is torch.bfloat16)


def resolve(config: JobConfig, longest: int, *, fused: bool = True) -> Setup:
    """Choose device, number format and attention for this machine.

    `longest` is the longest example in tokens; `fused` whether the model's class has PyTorch's fused attention.

    What learns on-policy has float32 where nobody asks for a format. What a step changes is less than half of what
    bfloat16 can tell apart in a layer's output, so that adding it there loses it; the engine, which adds it to the
    weights, plays it. They would be two policies (see Qi et al. 2025).
    """
    device = "cuda" if config.device == "auto" and torch.cuda.is_available() else "cpu"
    if config.dtype == "auto":
        native = torch.cuda.is_bf16_supported() if device == "cuda" else _cpu_computes_bfloat16()
        dtype = torch.bfloat16 if native and config.objective != "grpo" else torch.float32
    else:
        dtype = getattr(torch, config.dtype)
    attention = config.attention
    if attention == "auto" and (not fused or (device == "cpu" and longest <= SHORT)):
        attention = "eager"
    elif attention == "auto" and device == "cpu":
        attention = "sdpa"
    elif attention == "auto":
        # Its kernels know no float32.
        attention = "flash" if find_spec("flash_attn") and dtype is torch.bfloat16 else "sdpa"
    return Setup(device, dtype, attention)


def _cpu_computes_bfloat16() -> bool:
    # Without these instructions bfloat16 is emulated, and slower than float32.
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
