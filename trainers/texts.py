"""General texts as training examples: what a model rehearses so that it does not forget its language."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from trainers.errors import BadExample, BadTexts
from trainers.examples import Example, Tokenize, opening
from trainers.selectors.base import Text


def read_texts(path: Path) -> list[Text]:
    """The texts of a JSON Lines file: `{"text": …}` or `{"prompt": …, "completion": …}` a line, each text once.

    A conversation is to be rendered with its model's chat template first. Raises BadTexts if the file cannot be read.
    """
    texts: dict[str, Text] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadTexts(f"{path} cannot be read: {error}; give a JSON Lines file in UTF-8") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if isinstance(fields, dict) and "text" in fields:
                fields = {"completion": fields["text"]}
            text = Text.model_validate(fields)
        except (ValueError, ValidationError):
            raise BadTexts(
                f"line {number} of {path} is no text; each line needs `text`, or `prompt` and `completion`; mend it"
            ) from None
        texts[text.id] = text
    return list(texts.values())


def from_text(text: Text, tokenize: Tokenize, *, weight: float = 1.0, max_tokens: int = 1024) -> Example:
    """The example that rehearses `text`: every token of its completion has `weight`, those of its prompt none.

    What is longer than `max_tokens` is cut at its end. Raises BadExample if nothing is left that carries loss.
    """
    # What a chat template made holds special tokens, the first of them perhaps already at its beginning.
    read = getattr(tokenize, "rendered", tokenize)
    prompt, completion, first = (
        list(read(text.prompt)) if text.prompt else [],
        list(read(text.completion)),
        opening(tokenize),
    )
    if (prompt or completion)[: len(first)] != first:
        prompt = first + prompt
    token_ids = (prompt + completion)[:max_tokens]
    silent = max(len(prompt), 1)  # nothing predicts the first token
    if len(token_ids) <= silent:
        raise BadExample(
            f"general text {text.id} has no token to predict within {max_tokens} tokens; leave it out or raise "
            "max_tokens"
        )
    weights = [0.0] * silent + [weight] * (len(token_ids) - silent)
    return Example(token_ids=token_ids, weights=weights, episode=text.id, task="general")
