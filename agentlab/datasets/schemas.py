"""The columns of each part of a data set, as `datasets` calls a part: a config."""

from __future__ import annotations

from typing import Any

EPISODES, SFT, SFT_TOKENS, PREFERENCES = "episodes", "sft", "sft_tokens", "preferences"
CONFIGS = (EPISODES, SFT, SFT_TOKENS, PREFERENCES)

SPLITS = {"train": "train", "dev": "validation", "test": "test"}
"""What Hugging Face calls each fold."""


def schemas(pa: Any) -> dict[str, Any]:
    """The schema of each config, of the module pyarrow."""
    text, number, whole, yes = pa.string(), pa.float64(), pa.int64(), pa.bool_()
    tokens, mask = pa.list_(pa.int32()), pa.list_(pa.int8())
    messages = pa.list_(pa.struct([("role", text), ("content", text)]))
    step = pa.struct(
        [
            ("observation", text), ("note", text), ("commands", pa.list_(text)), ("thought", text), ("action", text),
            ("invalid", yes), ("result", text), ("reward", number), ("score", number), ("logprob", number),
            ("scores", pa.list_(number)), ("bonus", pa.list_(number)), ("token_ids", tokens),
            ("logprobs", pa.list_(number)),
        ]
    )  # fmt: skip
    usage = pa.struct([("input_tokens", whole), ("output_tokens", whole), ("seconds", number), ("cost", number)])
    recalled = pa.list_(pa.struct([("reflection", text), ("text", text)]))
    trained = pa.list_(pa.struct([("adapter", text), ("round", text)]))
    return {
        EPISODES: pa.schema(
            [
                ("id", text), ("env", text), ("split", text), ("seed", whole), ("task", text), ("trial", whole),
                ("run", text), ("arm", text), ("engine", text), ("adapter", text), ("prompt", text),
                ("temperature", number), ("goal", text), ("hints", text), ("status", text), ("won", yes),
                ("score", number), ("reward", number), ("messages", messages), ("steps", pa.list_(step)),
                ("token_ids", tokens), ("own_mask", mask), ("usage", usage), ("started_at", text), ("seconds", number),
                ("error", text), ("error_kind", text), ("minimised_from", text), ("relabelled_from", text),
                ("recalled", recalled), ("trained", trained),
            ]
        ),
        SFT: pa.schema(
            [("messages", messages), ("episode", text), ("task", text), ("env", text), ("trial", whole),
             ("score", number)]
        ),
        SFT_TOKENS: pa.schema(
            [("input_ids", tokens), ("assistant_masks", mask), ("episode", text), ("task", text), ("env", text),
             ("trial", whole), ("score", number), ("engine", text), ("adapter", text), ("with_memory", yes)]
        ),
        PREFERENCES: pa.schema(
            [("prompt", messages), ("chosen", messages), ("rejected", messages), ("task", text), ("env", text),
             ("better", text), ("worse", text), ("shared", whole), ("weight", number)]
        ),
    }  # fmt: skip
