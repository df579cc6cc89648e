"""What share of a card was used rests on two numbers: its peak, and the work that training needs."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

Load = Callable[[str], ModuleType]


def test_useful_work_is_counted_by_hand(load: Load) -> None:
    config = {
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 32,
    }
    # Queries and output 8 × 8, keys and values 8 × 4, and three of 8 × 16; LoRA of rank 1 on each.
    frozen = 2 * 64 + 2 * 32 + 3 * 128
    low_rank = 2 * 16 + 2 * 12 + 3 * 24
    layer = 7 * (4 * frozen + 6 * low_rank) + 3 * (4 * 8 * 7 * 7 / 2)
    assert load("cards").useful_work(config, 1, [(7, 3)]) == 2 * layer + 4 * 8 * 32 * 3


@pytest.mark.parametrize(
    ("card", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L40", 181e12),
        ("NVIDIA L4", 121e12),
        ("Some card", None),
    ],
)
def test_a_cards_peak_is_known_by_its_name_or_said_to_be_unknown(card: str, peak: float | None, load: Load) -> None:
    assert load("cards").peak_of(card) == peak
