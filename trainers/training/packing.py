"""No padding: a batch runs through the model's body as one row, example after example, none of which sees another.

The padding is taken out where a batch enters the body (embedding and layers) and put back where its hidden states leave
it, so losses see padded batches as ever, and every one of them gains. Positions begin anew with each example, and
attention is computed for each example by itself: the work that padding and a mask over the whole row would add is never
done. The result is that of the padded batch to floating point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from importlib import import_module
from inspect import signature
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention, softmax

from trainers.errors import CannotPack
from trainers.training.attention import LAYER_KINDS, layer_kinds, layer_window, register_attention

LENGTHS = "packed_lengths"
"""The keyword by which the lengths of a row's examples travel to the attention."""

NAMES = {"eager": "packed_eager", "sdpa": "packed_sdpa", "flash": "packed_varlen"}
"""Under which transformers knows each attention; one with "flash" in its name it would look for itself."""

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float, list[int]], torch.Tensor]
"""From queries (1, heads, row, width), keys and values (1, key heads, row, width), the scale and the lengths of the
row's examples to the outcome (1, row, heads, width)."""


def why_not(model: Any, longest: int) -> str | None:
    """Why packing cannot compute what `model` computes for examples of at most `longest` tokens; None if it may.

    What can be told from the model's settings: `trainers.training.proof` tries it.
    """
    config = model.config.get_text_config(decoder=True)
    odd = sorted(layer_kinds(config) - LAYER_KINDS)
    seen = layer_window(config)
    if odd:
        return f"it has layers of {', '.join(odd)}"
    if not model._supports_attention_backend or model.base_model is model:
        return "it does not take its attention from transformers' interface"
    if seen is not None and longest > seen:
        return f"its layers see {seen} tokens, and the longest example has {longest}"
    return None


@contextmanager
def packed(model: Any, attention: str) -> Iterator[list[int]]:
    """While open, `model` (a transformers model, not a wrapper) takes the padding out of its batches.

    `attention` is "eager", "sdpa" or "flash". Batches with another mask than one of padding, or with positions of their
    own, pass as they are. Gives the lengths in tokens of the rows that went through so far, in a list that grows.

    A pass raises CannotPack where the model's attention asks for more than is computed here.
    """
    before = model.config._attn_implementation
    model.set_attn_implementation(NAMES[attention])
    places: list[tuple[torch.Tensor, torch.Size]] = []
    rows: list[int] = []
    names = list(signature(model.base_model.forward).parameters)

    def take_out(_body: Any, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        inputs = dict(zip(names, args, strict=False)) | given
        mask, ids = inputs.get("attention_mask"), inputs.get("input_ids")
        if mask is None or ids is None or mask.dim() != 2 or inputs.get("position_ids") is not None:
            return args, given
        kept = mask.flatten().nonzero().squeeze(-1)
        places.append((kept, mask.shape))
        rows.append(len(kept))
        row = {
            "input_ids": ids.flatten().index_select(0, kept).unsqueeze(0),
            "position_ids": (mask.cumsum(-1) - 1).flatten().index_select(0, kept).unsqueeze(0),
            # A mask of four dimensions is handed on as it is, instead of one over the whole row being made.
            "attention_mask": mask.new_zeros(1, 1, 1, 1),
            LENGTHS: mask.sum(-1).tolist(),
        }
        return (), inputs | row

    def put_back(_body: Any, args: tuple[Any, ...], inputs: dict[str, Any], output: Any) -> Any:
        if LENGTHS in inputs:
            kept, shape = places.pop()
            hidden = output.last_hidden_state.squeeze(0)
            whole = hidden.new_zeros(shape.numel(), hidden.shape[-1]).index_copy(0, kept, hidden)
            output.last_hidden_state = whole.view(*shape, -1)
        return output

    body = model.base_model
    handles = [
        body.register_forward_pre_hook(take_out, with_kwargs=True),
        body.register_forward_hook(put_back, with_kwargs=True),
    ]
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()
        model.set_attn_implementation(before)
        future.cache_clear()


def _eager(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, lengths: list[int]) -> Any:
    """Plain attention, example by example; queries that share a key head are laid one below the other."""
    groups = query.shape[1] // key.shape[1]
    outcomes = []
    # In the softmax sums are of float32 whatever the format; autocast would widen the whole matrix.
    with torch.autocast(query.device.type, enabled=False):
        for q, k, v in zip(*(part[0].split(lengths, dim=1) for part in (query, key, value)), strict=True):
            below = q.reshape(k.shape[0], groups * k.shape[1], -1)
            mask = future(k.shape[1], groups, q.dtype, q.device)
            scores = torch.baddbmm(mask, below, k.transpose(1, 2), alpha=scale)
            outcomes.append((softmax(scores, dim=-1) @ v).view(q.shape))
    return torch.cat(outcomes, dim=1).transpose(0, 1).unsqueeze(0)


# Every layer of a pass asks for the masks of the same few lengths. One is made in a hundredth of the time that its
# attention takes, but may hold megabytes.
@lru_cache(maxsize=16)
def future(length: int, groups: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """What is added to scores (1, groups · length, length), so that no token sees a later one.

    It is kept for the next layer until `future.cache_clear()`.
    """
    mask = torch.full((length, length), torch.finfo(dtype).min, dtype=dtype, device=device).triu(1)
    return mask.repeat(groups, 1).unsqueeze(0)


def _sdpa(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, lengths: list[int]) -> Any:
    """PyTorch's fused attention, example by example."""
    outcomes = [
        scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
        for q, k, v in zip(*(part.split(lengths, dim=2) for part in (query, key, value)), strict=True)
    ]
    return torch.cat(outcomes, dim=2).transpose(1, 2)


def _flash(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, lengths: list[int]) -> Any:
    """FlashAttention over examples of different lengths in one kernel (Dao 2023)."""
    attend = import_module("flash_attn").flash_attn_varlen_func
    ends = torch.tensor([0, *lengths], device=query.device).cumsum(0).to(torch.int32)
    row = (part[0].transpose(0, 1) for part in (query, key, value))
    longest = max(lengths)
    outcome = attend(*row, ends, ends, longest, longest, softmax_scale=scale, causal=True)
    return outcome.unsqueeze(0)


KNOWN = {
    "cache_position", "dropout", "is_causal", "output_attentions", "output_hidden_states", "output_router_logits",
    "position_ids", "scaling", "sliding_window", "use_cache",
}  # fmt: skip
"""What a model may tell its attention without asking for more than is computed here. Dropout is off, see `training`."""


def _interface(attend: Attend, unpacked: Callable[..., Any]) -> Callable[..., Any]:
    def forward(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **options: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        lengths = options.pop(LENGTHS, None)
        if lengths is None:
            if attention_mask is not None and attention_mask.numel() < query.shape[2]:
                raise CannotPack("the lengths of the examples do not come to its attention; do not pack them")
            outcome: tuple[torch.Tensor, torch.Tensor | None] = unpacked(
                module, query, key, value, attention_mask, **options
            )
            return outcome
        asked = [name for name, said in options.items() if said is not None and said is not False and name not in KNOWN]
        if asked or options.get("is_causal") is False or (options.get("sliding_window") or max(lengths)) < max(lengths):
            what = ", ".join(asked) or "a window, or to look ahead"
            raise CannotPack(f"its attention asks for {what}, which packing does not compute; do not pack its examples")
        scale = options.get("scaling") or query.shape[-1] ** -0.5
        return attend(query, key, value, scale, lengths), None

    return forward


for _name, _like, _attend in (("eager", "eager", _eager), ("sdpa", "sdpa", _sdpa), ("flash", "sdpa", _flash)):
    register_attention(NAMES[_name], _like, partial(_interface, _attend))
