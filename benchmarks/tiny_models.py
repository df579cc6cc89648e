"""Tiny random models of the usual families, each in a folder as a real one comes: weights, configuration, tokenizer.

They play and train as the real ones do, in milliseconds, and show what of a family's form matters: where positions
come from, windows, tied embeddings, and what its tokenizer adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VOCABULARY = 384
"""Tokens of the tokenizer and rows of the embeddings: the 256 bytes, three special tokens, and merges."""

WINDOW = 128
"""Tokens that a layer of a model with a sliding window sees."""

CHAT_TEMPLATE = (
    "{{ bos_token or '' }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)

_TEXTS = (
    "Task: Find the coin and take it. In each room only one door is safe.\nHints:\nNothing happens.\n",
    "You are in the attic. You see a note, a red door, a blue door.\n> read note\n> take coin\n> look\n",
    "The note says: the green door is safe.\n> open green door\n> open black door\nYou take the coin. You win!\n",
)


@dataclass(frozen=True)
class Tokens:
    """What a tokenizer does: put BOS before a text, have a padding token, have a chat template."""

    bos: bool = False
    pad: bool = True
    template: bool = False


PLAIN = Tokens()


def _decoder(**changes: Any) -> dict[str, Any]:
    usual = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "bos_token_id": 1,
        "eos_token_id": 0,
        "pad_token_id": 2,
    }
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}


def _gpt2(**changes: Any) -> dict[str, Any]:
    names = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
    gone = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size")
    return _decoder(**names, **dict.fromkeys((*gone, "max_position_embeddings")), **changes)


def _gpt_neo() -> dict[str, Any]:
    names = {"num_layers": 2, "num_heads": 4, "window_size": WINDOW, "attention_types": [[["global", "local"], 1]]}
    gone = ("num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    return _decoder(**names, **dict.fromkeys(gone))


_MIXED = {
    "head_dim": 8,
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention"],
}

FAMILIES: Mapping[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "llama": ("Llama", _decoder),
    "qwen2": ("Qwen2", _decoder),
    "qwen3": ("Qwen3", lambda: _decoder(head_dim=8)),
    "mistral": ("Mistral", lambda: _decoder(sliding_window=WINDOW)),
    "gemma2": ("Gemma2", lambda: _decoder(**_MIXED, query_pre_attn_scalar=8)),
    "gemma3": ("Gemma3", lambda: _decoder(**_MIXED, query_pre_attn_scalar=8)),
    "phi3": ("Phi3", lambda: _decoder(sliding_window=None)),
    "gpt2": ("GPT2", _gpt2),
    "gpt_neox": ("GPTNeoX", lambda: _decoder(num_key_value_heads=None)),
    "opt": ("OPT", lambda: _decoder(intermediate_size=None, ffn_dim=64, init_std=0.2, word_embed_proj_dim=32)),
    "nemotron": ("Nemotron", _decoder),
}
"""Families that a table shows, by name: the stem of their classes in transformers, and their settings."""

ODD: Mapping[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "qwen2-window": ("Qwen2", lambda: _decoder(use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1)),
    "phi3-window": ("Phi3", lambda: _decoder(sliding_window=WINDOW)),
    "exaone4": ("Exaone4", lambda: _decoder(**_MIXED)),
    "gpt_oss": ("GptOss", lambda: _decoder(**_MIXED, num_local_experts=2, num_experts_per_tok=1)),
    "gpt_neo": ("GPTNeo", _gpt_neo),
    "bloom": ("Bloom", lambda: _decoder(num_attention_heads=None, num_hidden_layers=None, n_head=4, n_layer=2)),
    "mamba": ("Mamba", lambda: _decoder(num_attention_heads=None, num_key_value_heads=None, state_size=4)),
}
"""Families whose layers see less than everything, or remember it in another form than keys and values."""


def tokenizer(tokens: Tokens = PLAIN) -> Any:
    """A byte-level tokenizer: any text has tokens, and decodes to itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["</s>", "<s>", "<pad>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(_TEXTS, trainer)
    if tokens.bos:
        raw.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
        )
    known = {"bos_token": "<s>", "eos_token": "</s>"} | ({"pad_token": "<pad>"} if tokens.pad else {})
    made = PreTrainedTokenizerFast(tokenizer_object=raw, **known)
    if tokens.template:
        made.chat_template = CHAT_TEMPLATE
    return made


def make(
    folder: Path, family: str, tokens: Tokens = PLAIN, *, tied: bool = False, seed: int = 0, **settings: Any
) -> Path:
    """Write a model of `family` (of FAMILIES or ODD) into `folder`, and return that. Equal arguments, equal weights.

    `settings` are further ones of its configuration.
    """
    import torch
    import transformers
    from transformers.utils import logging

    stem, usual = (FAMILIES | ODD)[family]
    names = ("Gemma3Text", "Gemma3") if stem == "Gemma3" else (stem, stem)
    config = getattr(transformers, f"{names[0]}Config")(**{**usual(), "tie_word_embeddings": tied, **settings})
    kind = getattr(transformers, f"{names[1]}LMHeadModel" if stem == "GPT2" else f"{names[1]}ForCausalLM", None)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = (kind or transformers.AutoModelForCausalLM.from_config)(config)
        for parameter in model.parameters():
            # Biases and norms as trained ones are, so that nothing of the form is hidden behind zeros and ones.
            if parameter.ndim == 1:
                parameter.data += 0.05 * torch.randn_like(parameter)
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder)
    finally:
        if bars:
            logging.enable_progress_bar()
    tokenizer(tokens).save_pretrained(folder)
    return Path(folder)
