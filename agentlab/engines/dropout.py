"""Dropout for models that have none: each pass is then that of another model drawn around the same weights.

What such passes disagree about is what the model does not know (Gal & Ghahramani 2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from agentlab.errors import UnsupportedModel


@contextmanager
def dropped(model: Any, probability: float, seed: int) -> Iterator[None]:
    """While open, what every decoder layer hands on goes through dropout of this probability, below 1.

    What is kept is scaled up by 1 / (1 − probability). The seed decides alone what is dropped, pass by pass; no other
    chance is touched. Raises UnsupportedModel where the decoder layers are not found.
    """
    lots: dict[torch.device, torch.Generator] = {}

    def drop(hidden: torch.Tensor) -> torch.Tensor:
        if hidden.device not in lots:
            lots[hidden.device] = torch.Generator(hidden.device).manual_seed(seed)
        kept = torch.rand(hidden.shape, generator=lots[hidden.device], device=hidden.device) >= probability
        return hidden * kept / (1 - probability)

    def hook(module: Any, inputs: Any, output: Any) -> Any:
        return (drop(output[0]), *output[1:]) if isinstance(output, tuple) else drop(output)

    with ExitStack() as stack:
        for layer in _layers(model) if probability else ():
            stack.callback(layer.register_forward_hook(hook).remove)
        yield


def _layers(model: Any) -> torch.nn.ModuleList:
    count = getattr(model.config, "num_hidden_layers", None)
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return module
    raise UnsupportedModel(
        f"{type(model).__name__} has no list of {count} decoder layers to put dropout on; drop the selector "
        "'uncertainty' or use a decoder-only model such as those of the Llama family."
    )
