"""A language model of about a million parameters, made on the spot."""

from __future__ import annotations

from pathlib import Path


def make(folder: Path) -> None:
    """Write an untrained Llama with about 1M parameters and its tokenizer into a folder, the same each time.

    The tokenizer is a byte-level one, so that any text has tokens, with the words of the toy game whole. The context
    window is 2,048 tokens.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from environments.toy import COLOURS, GOAL, ROOMS

    corpus = [
        GOAL,
        "\n> look\n> read note\n> take coin\nYou take the coin. You win!\nHints:\nTask: Nothing happens.\n",
        *(f"You are in the {room}. You see a note, a door." for rooms in ROOMS.values() for room in rooms),
        *(f"The note says: the {colour} door is safe.\n> open {colour} door\n" for colour in COLOURS),
    ]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(corpus, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.1,  # wide enough that a small adapter can move what it predicts
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
