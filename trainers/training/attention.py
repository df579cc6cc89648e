"""Attention of our own, by names under which transformers hands it queries, keys and values of any model's layers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

LAYER_KINDS = frozenset({"full_attention", "sliding_attention"})
"""Kinds of layers whose masks are known here."""


def layer_kinds(config: Any) -> set[str]:
    """The kinds of layers of a model with this configuration, as far as it tells."""
    return set(getattr(config, "layer_types", None) or ())


def layer_window(config: Any) -> int | None:
    """How many tokens the layers of a model with this configuration see that do not see all; None if there are none."""
    found: int | None = getattr(config, "sliding_window", None)
    return None if layer_kinds(config) == {"full_attention"} else found


def _own_eager(module: Any, *tensors: Any, **options: Any) -> Any:
    """The plain attention of the family that `module` is of."""
    return sys.modules[type(module).__module__].eager_attention_forward(module, *tensors, **options)


PLAIN: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "eager": (_own_eager, eager_mask),
    "sdpa": (sdpa_attention_forward, sdpa_mask),
}
"""Attention as transformers computes it, and what makes its masks."""


def register_attention(name: str, like: str, own: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Have transformers know, by `name`, what `own` makes of the plain attention `like`, with the masks of that."""
    attend, mask = PLAIN[like]
    AttentionInterface.register(name, own(attend))
    AttentionMaskInterface.register(name, mask)
