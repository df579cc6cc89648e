"""The format of prompts as data: what a program without this package needs to have a model play as it was trained."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from memory import prompts
from memory.prompts import Prompting
from memory.records import PromptName
from trainers.data.examples import Tokenizer

Pieces = list[str | list[int]]
"""Texts, in which `{names}` stand for what is put there, and token ids. Each becomes tokens by itself; what looks like
a special token in a text is read as the characters that it is made of."""

FILE = "prompt.json"

_ABOUT = {
    "transcript": "a plain transcript, in which an action stands behind `>`",
    "chat": "a chat in the base's own template, one turn a step",
}


class PromptFormat(BaseModel):
    """How an episode becomes tokens: the head, then for each step the turn and what the agent answers.

    Attributes:
        format: its name.
        head: the task (`{goal}`), and what a model is told about playing.
        head_with_hints: the same with a memory block (`{hints}`).
        first: the first turn, up to where the model answers: `{observation}`, in a chat also `{commands}`.
        later: every turn after that.
        thought: what stands before a command (`{thought}`); nothing where nothing is thought.
        command: a command (`{command}`) and what ends the turn.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: PromptName
    head: Pieces
    head_with_hints: Pieces
    first: Pieces
    later: Pieces
    thought: Pieces = []
    command: Pieces

    @classmethod
    def of(cls, tokenize: Tokenizer, prompting: Prompting) -> PromptFormat:
        """The format of a model's prompts. Raises NoChatTemplate where it has no such chat."""
        if not prompting.chat:
            turn: Pieces = [prompts.turn("{observation}")]
            opening: Pieces = [list(tokenize.opening)] if tokenize.opening else []
            return cls(
                format=prompting.name,
                head=[*opening, prompts.head("{goal}")],
                head_with_hints=[*opening, prompts.head("{goal}", "{hints}")],
                first=turn,
                later=turn,
                thought=[*prompts.thought("{thought}")] if prompting.thought else [],
                command=[prompts.action("{command}"), prompts.LINE_END],
            )
        chat = tokenize.chat
        seen, task = prompts.seen("{observation}", ["{commands}"]), prompts.task("{goal}")
        begin, middle = (list(tokenize.rendered(part)) for part in (chat.frames.begin, chat.frames.middle))
        *thought, command = prompts.answer("{command}", "{thought}", prompting=prompting)
        return cls(
            format=prompting.name,
            head=[begin, prompts.system("", prompting), middle, task],
            head_with_hints=[begin, prompts.system("{hints}", prompting), middle, task],
            first=[seen, chat.answer],
            later=[chat.between, seen, chat.answer],
            thought=[*thought],
            command=[command, chat.end],
        )

    @property
    def words(self) -> str:
        """The same for a person, as Markdown."""
        parts = {
            "the task, once": self.head,
            "what is seen, at each step": self.first,
            "the thought": self.thought,
            "the command": self.command,
        }
        shown = "\n".join(f"- {title}: `{_shown(pieces)}`" for title, pieces in parts.items() if pieces)
        thinks = ", with a thought before each command" if self.thought else ""
        tokens = "`…` are special tokens. " if "…" in shown else ""
        return (
            f"It was trained on {_ABOUT[self.format.removesuffix('+thought')]}{thinks}:\n\n{shown}\n\n"
            f"{tokens}`{FILE}` has all of it for a program: each piece of a list becomes tokens by itself, without "
            "special ones; pieces that are lists of token ids are taken as they are. "
            "Of the admissible commands the one whose tokens have the largest summed log-probability is taken. A "
            "memory block goes into `head_with_hints`."
        )


def _shown(pieces: Pieces) -> str:
    return "".join(piece.replace("\n", "\\n") if isinstance(piece, str) else "…" for piece in pieces)
