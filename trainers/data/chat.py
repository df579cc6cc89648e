"""A model's own chat template, cut into the frames between its messages, so that a chat only ever grows at its end.

What was played is then what is trained, token by token, and a key/value cache lives as long as the episode. A template
that writes its history anew (drops thoughts of earlier turns, say) has no such frames, and is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from memory import prompts
from memory.prompts import Prompting
from trainers.errors import NoChatTemplate

Tokenize = Callable[[str], Sequence[int]]
"""Maps a piece of text to token ids."""

_MARKS = ["\u2983first\u2984", "\u2983second\u2984", "\u2983third\u2984", "\u2983fourth\u2984", "\u2983fifth\u2984"]


@dataclass(frozen=True)
class ChatFrames:
    """What a template writes around the texts of messages.

    Attributes:
        begin: before the first text, which is the system's, or begins the user's first message where the template knows
            no system.
        middle: between the system's text and the user's first one; what parts the two texts where it knows no system.
        answer: behind a text of the user, up to the answer.
        between: behind an answer, up to the next text of the user. Its first token ends the answer.
    """

    begin: str
    middle: str
    answer: str
    between: str

    @classmethod
    def of(cls, tokenizer: Any) -> ChatFrames:
        """The frames of a tokenizer's template, proved on chats of one, two and three turns.

        Raises NoChatTemplate where it has no template, or one whose chats do not only grow at their end.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise NoChatTemplate("its tokenizer has no chat template; play it on the plain transcript")
        try:
            frames = cls._found(tokenizer, system=True)
        except NoChatTemplate:
            frames = cls._found(tokenizer, system=False)
        return frames

    @classmethod
    def _found(cls, tokenizer: Any, *, system: bool) -> ChatFrames:
        first, user, reply, again, last = _MARKS
        start: list[dict[str, str]] = [{"role": "system", "content": first}] if system else []
        opened = user if system else f"{first}\n\n{user}"

        def rendered(*texts: str) -> str:
            chat = [
                *start,
                *({"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)),
            ]
            try:
                return str(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
            except Exception as error:  # a template is a program, which raises what it likes
                reason = " ".join(str(error).split())[:120]
                raise NoChatTemplate(f"its chat template refuses a game's messages ({reason})") from error

        one, two = rendered(opened), rendered(opened, reply, again)
        begin, found, rest = one.partition(first)
        middle, found_user, answer = rest.partition(user)
        between = two.removeprefix(one + reply).partition(again)[0]
        frames = cls(begin, middle, answer, between)
        whole = [one, two, rendered(opened, reply, again, last, user)]
        meant = f"{begin}{first}{middle}{user}{answer}"
        grown = [meant]
        for said, seen in ((reply, again), (last, user)):
            meant += f"{said}{between}{seen}{answer}"
            grown.append(meant)
        if not found or not found_user or not between or grown != whole:
            raise NoChatTemplate(
                "its chat template writes earlier turns anew when later ones come, so that what was played would not "
                "be what is trained; play it on the plain transcript"
            )
        return frames


class ChatTokens:
    """The tokens of the parts of a chat, each by itself: texts as characters, frames with their special tokens."""

    def __init__(self, frames: ChatFrames, text: Tokenize, rendered: Tokenize) -> None:
        self.frames = frames
        self._text = text
        self._rendered = rendered
        self.answer = self._framed(frames.answer)
        between = self._framed(frames.between)
        self.end, self.between = between[:1], between[1:]
        """What ends an answer, and what comes then before the user's next text."""

    def _framed(self, text: str) -> list[int]:
        return list(self._rendered(text)) if text else []

    def head(self, goal: str, hints: str, prompting: Prompting) -> list[int]:
        """What never leaves the window: the system's message and the task."""
        begin, middle = self._framed(self.frames.begin), self._framed(self.frames.middle)
        return [*begin, *self._text(prompts.system(hints, prompting)), *middle, *self._text(prompts.task(goal))]

    def turn(self, seen: str, *, first: bool) -> list[int]:
        """A message of the user, and how the answer to it is opened."""
        return [*(() if first else self.between), *self._text(seen), *self.answer]

    def said(self, *pieces: str) -> list[int]:
        """An answer with its end."""
        return [*(token for piece in pieces for token in self._text(piece)), *self.end]


def chat_of(tokenizer: Any, text: Tokenize) -> ChatTokens | NoChatTemplate:
    """The chat of a tokenizer, or why it has none. `text` reads a text without special tokens."""
    try:
        frames = ChatFrames.of(tokenizer)
    except NoChatTemplate as refusal:
        return refusal
    return ChatTokens(frames, text, lambda piece: tokenizer(piece, add_special_tokens=False).input_ids)
