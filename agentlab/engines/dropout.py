"""Dropout for models that have none: each pass is then that of another model drawn around the same weights.

What such passes disagree about is what the model does not know (Gal & Ghahramani 2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from agentlab.engines.layers import change_layers


@contextmanager
def dropped(model: Any, probability: float, seed: int) -> Iterator[None]:
    """While open, what every decoder layer hands on goes through dropout of this probability, below 1.

    What is kept is scaled up by 1 / (1 − probability). The seed decides alone what is dropped, pass by pass; no other
    chance is touched. Raises UnsupportedModel where the decoder layers are not found.
    """
    lots: dict[torch.device, torch.Generator] = {}

    def drop(at: int, hidden: torch.Tensor) -> torch.Tensor:
        if hidden.device not in lots:
            lots[hidden.device] = torch.Generator(hidden.device).manual_seed(seed)
        kept = torch.rand(hidden.shape, generator=lots[hidden.device], device=hidden.device) >= probability
        return hidden * kept / (1 - probability)

    with change_layers(model, drop) if probability else nullcontext():
        yield
