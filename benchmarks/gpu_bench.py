"""A card and the models on it, one at a time, for what `benchmarks/gpu.py` measures.

Models are in the shapes of real ones with random weights, which cost the same; SmolLM2 is itself where its folder is
given.
"""

from __future__ import annotations

import gc
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from cards import peak_of
from scoring import commands, observation

from agentlab.engines.transformers import TransformersEngine

Row = dict[str, Any]
"""What one measurement came to, as it is kept: plain values."""

GOAL = "Explore the house, find the coin, and put what is not in its place where it belongs."

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "SmolLM2-135M": (
        "Llama",
        {
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "vocab_size": 49152,
            "tie_word_embeddings": True,
        },
    ),
    "Qwen2.5-1.5B": (
        "Qwen2",
        {
            "hidden_size": 1536,
            "intermediate_size": 8960,
            "num_hidden_layers": 28,
            "num_attention_heads": 12,
            "num_key_value_heads": 2,
            "vocab_size": 151936,
            "tie_word_embeddings": True,
        },
    ),
    "Qwen2.5-7B": (
        "Qwen2",
        {
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152064,
            "tie_word_embeddings": False,
        },
    ),
}
"""The families and shapes of models, as their config.json has them."""

TINY: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 2048,
}
"""What of a shape is small in a dry run."""


@dataclass(frozen=True)
class Size:
    """How much is measured: seconds of each, examples a step of training, their tokens at most, episodes at once and
    their steps, the context in tokens, the side of a matrix."""

    seconds: float = 10.0
    batch: int = 16
    longest: int = 1000
    at_once: tuple[int, ...] = (1, 16, 64, 256)
    steps: int = 8
    compared: int = 32
    context: int = 1024
    product: int = 8192
    dry: bool = False


DRY = Size(0.0, 2, 150, at_once=(1, 4), steps=1, compared=4, context=256, product=64, dry=True)


class Bench:
    """The card, and the model that is on it: one at a time, kept from part to part."""

    def __init__(self, size: Size, smollm2: Path | None = None) -> None:
        self.size, self.smollm2 = size, smollm2
        self.device = "cuda" if torch.cuda.is_available() and not size.dry else "cpu"
        if self.device == "cpu":
            torch.set_num_threads(1)
        self.closing = ExitStack()
        self._key: tuple[Any, ...] = ()
        self._held: Any = None
        self._folders: dict[str, Path] = {}

    @property
    def card(self) -> str:
        """The name of the card."""
        return str(torch.cuda.get_device_name()) if self.device == "cuda" else "CPU"

    def held(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What `make` makes, or made for this key the last time; what was held for another one is gone first."""
        if self._key != key:
            self.clear()
            self._held, self._key = make(), key
        return self._held

    def clear(self) -> None:
        """Give the card's memory back."""
        self._held, self._key = None, ()
        if self.device == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def settle(self) -> float:
        """The time, once the card has done what it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def peak_memory(self) -> float | None:
        """The most memory that was in use since `fresh_peak`, in GiB; None where it is not counted."""
        return torch.cuda.max_memory_allocated() / 2**30 if self.device == "cuda" else None

    def fresh_peak(self) -> None:
        """Count memory anew from here."""
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()

    # -- models ------------------------------------------------------------------------------------------------------

    def config(self, name: str) -> Any:
        """The configuration of a model of SHAPES."""
        import transformers

        family, shape = SHAPES[name]
        if name == "SmolLM2-135M" and self.smollm2 is not None:
            return transformers.AutoConfig.from_pretrained(self.smollm2)
        usual = {"max_position_embeddings": 8192, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
        return getattr(transformers, f"{family}Config")(**usual, **(shape | (TINY if self.size.dry else {})))

    def model(self, name: str, dtype: torch.dtype, attention: str = "sdpa") -> Any:
        """A model of SHAPES, on the card: SmolLM2 itself where its folder is known, else with random weights."""
        from transformers import AutoModelForCausalLM

        asked = {"dtype": dtype, "attn_implementation": attention}
        if name == "SmolLM2-135M" and self.smollm2 is not None:
            return AutoModelForCausalLM.from_pretrained(self.smollm2, **asked).to(self.device)
        torch.manual_seed(0)
        with torch.device(self.device):
            return AutoModelForCausalLM.from_config(self.config(name), **asked)

    def folder(self, name: str) -> Path:
        """A model's folder, as an engine reads it; one with random weights is written once."""
        if name == "SmolLM2-135M" and self.smollm2 is not None:
            return self.smollm2
        if name not in self._folders:
            self.clear()
            folder = Path(self.closing.enter_context(tempfile.TemporaryDirectory()))
            self.model(name, torch.bfloat16).save_pretrained(folder)
            tokenizer().save_pretrained(folder)
            self._folders[name] = folder
        return self._folders[name]

    def engine(self, name: str, dtype: str) -> TransformersEngine:
        """The engine that plays with a model of SHAPES."""
        folder = self.folder(name)

        def made() -> TransformersEngine:
            return TransformersEngine(folder, name=name, device=self.device, dtype=dtype, context=self.size.context)

        return self.held(("engine", name, dtype), made)  # type: ignore[no-any-return]

    def title(self, name: str) -> str:
        """What a model of SHAPES is here."""
        real = name == "SmolLM2-135M" and self.smollm2 is not None
        return name if real else f"{name}, {'tiny, ' if self.size.dry else ''}random weights"


def tokenizer() -> Any:
    """A tokenizer of the words of the games: where there is no network there is none of the models' own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng = random.Random(0)
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TINY["vocab_size"],
        special_tokens=["</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [GOAL, *(f"{observation(rng)}\n> {command}" for _ in range(40) for command in commands(rng, 5))]
    raw.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", pad_token="</s>")


def card(bench: Bench) -> list[Row]:
    """What a product of two large matrices in bfloat16 comes to: the share of the peak that anything can have."""
    side = bench.size.product
    a, b = (torch.randn(side, side, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    start, times = bench.settle(), 10
    for _ in range(times):
        a @ b
    return [of_peak(bench, {"side": side}, 2 * side**3 * times / (bench.settle() - start))]


def of_peak(bench: Bench, row: Row, work: float) -> Row:
    """The row with work done in FLOP/s, and the share of the card's peak that it is, where that is known."""
    peak = peak_of(bench.card)
    return row | {"flops": work, "share": work / peak if peak else None}
