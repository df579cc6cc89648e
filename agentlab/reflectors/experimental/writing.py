"""What a model wrote, before anybody uses it: cleaned, judged, cut. It is data, and nothing in it is an instruction."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from agentlab.engines.model import Model
from memory.text import TAGS, answered, clean

TEXT_LIMIT = 400  # characters of a written reflection
LINE_LIMIT = 120  # characters of one line of a list
TOKEN_LENGTH = 4  # characters of an average token, from which the number of tokens to ask for follows
SAME_CHARACTER = 8  # so many times in a row is a loop

# A line that opens as a part of a prompt does: it would pass for one where the text is recalled.
_STRUCTURE = re.compile(
    r"[-*•<\[(\s]*(?:[>|]|```|#{2,}|example\. task|"
    r"(?:task|hints?|example|result|observation|system|user|assistant|human|model)\s*:)",
    re.IGNORECASE,
)
# What chat models say of themselves where they did not understand the question.
_ASSISTANT = re.compile(
    r"\b(?:i'm|i am|we're|we are) (?:sorry|here to|ready to|happy to|unable|not able|an ai|not an? )|\blet me know\b|"
    r"\bi (?:can|can't|cannot|could|will|'ll) (?:assist|help|provide)\b|\bi apologi[sz]e\b|\bas an ai\b|"
    r"\blanguage model\b",
    re.IGNORECASE,
)
_SENTENCES = re.compile(r"(?<=[^\d\s][.!?])\s+")
_SENTENCE_END = re.compile(r"[.!?]+[\"')\]]*(?=\s|$)")
_NUMBERING = re.compile(r"^\W*\d+[.):]\s*")


class CheckedWriter:
    """A model that writes, and whose every text is checked by `usable` before anybody sees it; None writes nothing."""

    def __init__(self, model: Model | None) -> None:
        self.model = model
        self.name = model.name if model is not None else "nobody"

    def write(self, prompt: str, *, limit: int = TEXT_LIMIT, unlike: str | None = None) -> str:
        """A paragraph in answer to `prompt`; empty if the model cannot write or gave nothing usable.

        An answer that merely repeats `unlike` (by default the prompt) is not usable.
        """
        return usable(self._generate(prompt, limit), prompt if unlike is None else unlike, limit)

    def lines(self, prompt: str, *, most: int, limit: int = LINE_LIMIT) -> list[str]:
        """At most `most` usable lines, each once, without bullets; numbers stay."""
        found = (
            usable(line.strip(" \t-*•"), prompt, limit) for line in self._generate(prompt, most * limit).split("\n")
        )
        return list(dict.fromkeys(line for line in found if line))[:most]

    def choose(self, prompt: str, options: Sequence[str]) -> str | None:
        """The option (in lower case) with which the answer opens; None if with none of them."""
        said = re.findall(r"\w+", self._generate(prompt, LINE_LIMIT).lower())
        opening = next((word for word in said if word != "answer"), "")
        return opening if opening in options else None

    def _generate(self, prompt: str, limit: int) -> str:
        """The answer without its thoughts; empty if the model cannot write."""
        model = self.model
        if model is None or not model.writes:
            return ""
        return answered(lambda asked, most: model.write(asked, max_tokens=most).text, prompt, limit // TOKEN_LENGTH)


def usable(text: str, prompt: str = "", limit: int = TEXT_LIMIT) -> str:
    """What of `text` can be kept: one paragraph of whole sentences within `limit` characters; empty if nothing can.

    Chat markers, control characters, lines that look like a part of a prompt, what an assistant says of itself, and
    sentences said before go. A text is refused that is a loop or no language, or that merely repeats `prompt`.
    """
    plain = clean(TAGS.sub(" ", text))
    kept = (line.lstrip("-*• \t") for line in plain.splitlines() if not _STRUCTURE.match(line))
    paragraph = " ".join(" ".join(kept).split()).strip('"“” ')
    sentences: dict[str, str] = {}
    for sentence in _SENTENCES.split(paragraph):
        if not _ASSISTANT.search(sentence.replace("’", "'")):
            sentences.setdefault(unnumbered(sentence).casefold().rstrip(".!?"), sentence)
    found = _whole(" ".join(sentences.values()), limit)
    echo = found.casefold() in " ".join(prompt.split()).casefold()
    return "" if echo or degenerate(paragraph) or degenerate(found) else found


def unnumbered(line: str) -> str:
    """A line of a list without its number."""
    return _NUMBERING.sub("", line).strip()


def degenerate(text: str) -> bool:
    """Whether `text` is a loop (the commonest failure of small models) or hardly language at all.

    A loop says fewer than half of its triples of words anew, or each word three times on average, or one character
    many times in a row.
    """
    named, signs = sum(map(str.isalnum, text)), sum(not character.isspace() for character in text)
    if not any(map(str.isalpha, text)) or named < signs / 2 or re.search(rf"(\S)\1{{{SAME_CHARACTER - 1}}}", text):
        return True
    words = re.findall(r"\w+", text.lower())
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return len(words) >= 3 * len(set(words)) or len(set(triples)) < len(triples) / 2


def _whole(text: str, limit: int) -> str:
    """`text` up to the end of its last whole sentence within `limit`; without one, up to a word's end."""
    ends = [end for end in _ends(text) if end <= limit]
    if ends:
        return text[: ends[-1]]
    return text if len(text) <= limit else text[: limit + 1].rsplit(" ", 1)[0][:limit]


def _ends(text: str) -> Iterator[int]:
    """Where sentences end. The point behind a bare number belongs to a list."""
    for found in _SENTENCE_END.finditer(text):
        before = text[: found.start()].split()
        if before and not before[-1].isdecimal():
            yield found.end()
