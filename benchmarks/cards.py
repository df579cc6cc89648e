"""What graphics cards can do at most, and what work training needs: both tell which share of a card was used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

PEAKS = {
    "B200": 2250,
    "H200 NVL": 835,
    "H200": 989,
    "H100 NVL": 835,
    "H100 PCIe": 756,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
    "RTX 4090": 165,
    "RTX 3090": 71,
}
"""Dense bfloat16 peaks of cards by what their names contain, in TFLOP/s: as NVIDIA's data sheets have them, half
of the figure where that is given "with sparsity" (H200: 1,979; H100 PCIe: 1,513; L40S: 733)."""


def peak_of(card: str) -> float | None:
    """The card's dense bfloat16 peak in FLOP/s; None if it is not known."""
    return next((1e12 * peak for part, peak in PEAKS.items() if part in card), None)


def useful_work(config: Mapping[str, Any], rank: int, examples: Iterable[tuple[int, int]]) -> float:
    """Floating point operations that one pass over whole episodes needs, whoever does it.

    `config` is the model's, `examples` are the lengths of episodes with how many of their tokens carry loss. Forward
    and the gradient of activations for frozen matrices, both and that of their weights for LoRA, causal attention, and
    the vocabulary head where there is loss. Nothing that is done twice, padded or masked counts.
    """
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    width = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries = width * config["num_attention_heads"]
    keys = width * config.get("num_key_value_heads", config["num_attention_heads"])
    matrices = [(hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden)]
    matrices += [(hidden, inner), (hidden, inner), (inner, hidden)]
    a_token = sum(2 * 2 * a * b + 3 * 2 * rank * (a + b) for a, b in matrices)
    total = 0.0
    for length, chosen in examples:
        attention = 3 * 2 * 2 * queries * length * length / 2
        total += layers * (a_token * length + attention) + 2 * 2 * hidden * config["vocab_size"] * chosen
    return total
