"""How much of a batch goes through the model at once, found by trying: halved whenever memory runs out.

The batch stays what it is: its parts are accumulated, so the weights do not depend on the memory at hand.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from trainers.errors import OutOfMemory
from trainers.training.packing import future


@dataclass
class Footprint:
    """`examples` a forward pass; whether activations are computed again instead of kept, and may be."""

    examples: int
    checkpointing: bool = False
    may_checkpoint: bool = True

    def apply(self, model: Any) -> None:
        """Tell `model` to keep its activations or not."""
        if self.checkpointing:
            # transformers is about to drop the older name.
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": False})

    def shrink(self, model: Any, tried: int) -> None:
        """Ask for less memory than `tried` examples at once took, and give back what is held.

        Halves the examples; a single one has its activations computed again, which costs a third of the time. Raises
        OutOfMemory when that was not enough.
        """
        model.zero_grad(set_to_none=True)
        future.cache_clear()
        give_back()
        at_once = min(self.examples, tried)
        if at_once > 1:
            self.examples = (at_once + 1) // 2
        elif self.may_checkpoint and not self.checkpointing:
            self.checkpointing = True
            self.apply(model)
        else:
            raise OutOfMemory(
                "memory runs out with a single example at once; the model or the example is too large for this "
                "machine; leave out long episodes (max_tokens), set checkpointing to auto, or use a larger machine"
            )


def give_back() -> None:
    """Return to the system what is not used any more.

    The allocator of most Linux systems keeps freed blocks that lie under living ones: after a training that was 1 of
    1.8 GiB, for as long as the process plays on.
    """
    gc.collect()
    clear_device_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def ran_out(error: Exception) -> bool:
    """Whether an error says that memory ran out, on any device."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or should_reduce_batch_size(error)
