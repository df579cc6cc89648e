"""The decoder layers of a model, and what changes what they hand on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Any

import torch

from agentlab.errors import UnsupportedModel

Change = Callable[[int, torch.Tensor], torch.Tensor]
"""What becomes of the hidden states (1, tokens, width) that a layer, by its number from 0, hands on."""


def change_layers(model: Any, change: Change, chosen: Collection[int] | None = None) -> ExitStack:
    """Change what the `chosen` decoder layers hand on (None: each), until what is returned is closed.

    Raises UnsupportedModel where the decoder layers are not found.
    """

    def hook(at: int) -> Callable[..., Any]:
        def changed(module: Any, inputs: Any, output: Any) -> Any:
            return (change(at, output[0]), *output[1:]) if isinstance(output, tuple) else change(at, output)

        return changed

    stack = ExitStack()
    for at, layer in enumerate(decoder_layers(model)):
        if chosen is None or at in chosen:
            stack.callback(layer.register_forward_hook(hook(at)).remove)
    return stack


def decoder_layers(model: Any) -> torch.nn.ModuleList:
    """The decoder layers of a model. Raises UnsupportedModel where they are not found."""
    count = getattr(model.config, "num_hidden_layers", None)
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return module
    raise UnsupportedModel(
        f"{type(model).__name__} has no list of {count} decoder layers whose states could be changed; leave out what "
        "asks for that (the selector 'uncertainty', steering), or use a decoder-only model such as those of the Llama "
        "family."
    )
