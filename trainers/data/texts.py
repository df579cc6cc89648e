"""General texts as training examples: what a model rehearses so that it does not forget its language."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from memory.errors import MemoryStoreError
from memory.interchange import FILE_LIMIT, MIB, read_values
from trainers.data.examples import Example, Tokenize, opening
from trainers.data.selectors.base import Text
from trainers.errors import BadExample, BadTexts

PROSE = (".txt", ".text", ".md")
"""How files end that may be plain text; all others hold JSON or Parquet."""
LONGEST = 4000
"""Characters of a piece of plain text: about as many as are trained on at once."""

PAIRS = (
    ("prompt", "completion"), ("prompt", "chosen"), ("instruction", "output"), ("instruction", "response"),
    ("question", "answer"), ("query", "response"), ("input", "output"),
)  # fmt: skip
"""What asks and what answers, as the usual sets of training texts call it."""
ANSWERING = ("assistant", "gpt", "model", "bot", "chatbot")
_HALVES = re.compile("[\ud800-\udfff]")


def read_texts(path: Path) -> list[Text]:
    """The texts of a file, each once, in the usual forms of training texts.

    JSON lines, a JSON list, Parquet (see `memory.interchange.documents`) of

    - `text` (or `content`), or a mere text;
    - `prompt` and `completion`, `instruction`, `input` and `output`, and the like (`PAIRS`); what else is there is
      ignored;
    - a conversation, as `messages` of `role` and `content` or `conversations` of `from` and `value`: each answer is a
      text, and its prompt what was said before it, a turn a paragraph (`User: …`). One that is to look as a model's own
      chat template has it, is to be rendered with that first.

    Anything else that ends as `PROSE` does is plain text, each paragraph by itself. Half characters (lone surrogates)
    become U+FFFD. Raises BadTexts if the file cannot be read, or a line of it is no text.
    """
    texts: dict[str, Text] = {}
    try:
        for number, (where, value) in enumerate(read_values(path)):
            if number == 0 and _is_prose(path, value):
                return _paragraphs(path)
            found = list(_texts(value))
            if not found:
                raise BadTexts(
                    f"{where} of {path} is no text; each needs `text`, `prompt` and `completion`, or `messages` with "
                    "an answer; mend it"
                )
            texts |= {text.id: text for text in found if text.completion.strip()}
    except MemoryStoreError as error:
        if path.suffix.lower() in PROSE and path.is_file():
            return _paragraphs(path)
        raise BadTexts(f"{path} cannot be read: {error}") from None
    return list(texts.values())


def _is_prose(path: Path, first: Any) -> bool:
    return path.suffix.lower() in PROSE and not isinstance(first, dict)


def _paragraphs(path: Path) -> list[Text]:
    try:
        if path.stat().st_size > FILE_LIMIT:
            raise BadTexts(f"{path} has more than {FILE_LIMIT // MIB} MiB; divide it")
        whole = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadTexts(f"{path} cannot be read: {error}; give a file in UTF-8") from None
    pieces = (piece for part in re.split(r"\n\s*\n", whole) for piece in _pieces(part.strip()))
    return list({text.id: text for text in map(_text, pieces) if text.completion}.values())


def _pieces(text: str) -> Iterator[str]:
    """`text` in pieces of at most `LONGEST` characters, cut at the end of a line or of a word where there is one."""
    while len(text) > LONGEST:
        cut = max(text.rfind("\n", 1, LONGEST), 0) or max(text.rfind(" ", 1, LONGEST), 0) or LONGEST
        yield text[:cut].rstrip()
        text = text[cut:].lstrip()
    yield text


def _texts(value: Any) -> Iterator[Text]:
    """The texts of an entry; none where it is none."""
    if isinstance(value, str):
        value = {"text": value}
    if not isinstance(value, dict):
        return
    for name in ("messages", "conversations", "conversation"):
        if isinstance(value.get(name), list):
            yield from _answers(value[name])
            return
    for asked, answered in PAIRS:
        prompt, completion = value.get(asked), value.get(answered)
        if isinstance(prompt, list) and isinstance(completion, list):
            yield from list(_answers([*prompt, *completion]))[-1:]
            return
        if isinstance(prompt, str) and isinstance(completion, str):
            more = value.get("input") if asked == "instruction" else None
            if isinstance(more, str) and more.strip():
                prompt = f"{prompt}\n{more}"
            yield _text(completion, prompt)
            return
    for name in ("text", "content"):
        if isinstance(value.get(name), str):
            yield _text(value[name])
            return


def _answers(turns: list[Any]) -> Iterator[Text]:
    """Each answer of a conversation, after what was said before it."""
    said = ""
    for turn in turns:
        if not isinstance(turn, Mapping):
            continue
        role, content = str(turn.get("role") or turn.get("from") or "user"), _content(turn)
        if not content.strip():
            continue
        opening = f"{role.capitalize()}: "
        if role.lower() in ANSWERING:
            yield _text(content, said + opening)
        said += f"{opening}{content}\n\n"


def _content(turn: Mapping[str, Any]) -> str:
    """What was said: a text, or parts of which some are text."""
    content = turn.get("content", turn.get("value"))
    if isinstance(content, list):
        parts = (part.get("text") if isinstance(part, Mapping) else part for part in content)
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _text(completion: str, prompt: str = "") -> Text:
    return Text(completion=_HALVES.sub("\ufffd", completion), prompt=_HALVES.sub("\ufffd", prompt))


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
