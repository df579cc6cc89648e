"""An episode as the messages of a chat: the memory block is the system's part, each step a turn of user and assistant.

The texts of the messages are made here; between them stand the frames of the model's own template (`trainers.data`),
or the roles of somebody's API.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from memory.prompts.rendering import one_line
from memory.records import Episode, PromptName
from memory.text.thoughts import split_thought

ROLE = "You play a text game. Each message tells you what you see; you answer with your next command."
THINKING = (
    f"{ROLE} First write one short sentence that begins with `Thought:`, about what to do next and why; then, on a "
    "line that begins with `Action:`, the command and nothing else."
)
PLAIN = f"{ROLE} Write the command and nothing else."
THOUGHT, ACTION = "Thought:", "Action:"

_PARTS = re.compile(r"^[\s>*#`]*(thought|think|action|command)\s*\**\s*:\**[ \t]*", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Prompting:
    """How a model reads an episode: as the messages of a `chat` or as a transcript, with thoughts before commands or
    without."""

    chat: bool = False
    thought: bool = False

    @property
    def name(self) -> PromptName:
        """As an episode records it."""
        if self.chat:
            return "chat+thought" if self.thought else "chat"
        return "transcript+thought" if self.thought else "transcript"

    @classmethod
    def named(cls, name: PromptName) -> Prompting:
        """The one of that name."""
        return cls(name.startswith("chat"), name.endswith("+thought"))


class Reply(NamedTuple):
    """What was read in an answer; `command` is empty where there is none in it."""

    thought: str
    command: str


def system(hints: str, prompting: Prompting) -> str:
    """The message of the system: what is asked for, and the memory block."""
    block = f"\n\nHints from earlier games:\n{hints.strip()}" if hints.strip() else ""
    return (THINKING if prompting.thought else PLAIN) + block


def task(goal: str) -> str:
    """How the first message of the user begins."""
    return f"Task: {goal.strip()}\n\n"


def seen(observation: str, commands: Sequence[str] | None = None, note: str = "") -> str:
    """A message of the user, after the task in the first one: what is seen, what was noted, and what may be done."""
    parts = [observation.strip()]
    if note:
        parts.append(f"({note})")
    if commands:
        parts.append("Commands: " + "; ".join(one_line(command) for command in commands))
    return "\n".join(part for part in parts if part) or "(Nothing is said.)"


def answer(command: str, thought: str = "", *, prompting: Prompting) -> list[str]:
    """The message of the assistant, in its pieces; the last one is the command."""
    if not prompting.thought:
        return [one_line(command)]
    thought = one_line(thought)
    return [THOUGHT, f" {thought}" if thought else "", f"\n{ACTION}", f" {one_line(command)}"]


def read(text: str) -> Reply:
    """The thought and the command in a reply, in whatever of the usual forms it has them.

    A tagged thought (`<think>…</think>`) is one. Of lines that begin with `Thought:` and `Action:` the first of each
    counts; without an `Action:` the command is the first line of what is no thought.
    """
    said, _ = split_thought(text)
    parts: dict[str, str] = {}
    marks = list(_PARTS.finditer(said))
    for at, mark in enumerate(marks):
        end = marks[at + 1].start() if at + 1 < len(marks) else len(said)
        name = THOUGHT if mark[1].lower().startswith("th") else ACTION
        parts.setdefault(name, said[mark.end() : end].strip())
    thought = one_line(parts.get(THOUGHT, ""))
    if ACTION not in parts:
        before = said[: marks[0].start()] if marks else said
        parts[ACTION] = before.strip() if not thought else ""
    lines = [line.strip() for line in parts[ACTION].splitlines() if line.strip(" `*>\t")]
    command = lines[0].strip("`*").strip() if lines else ""
    return Reply(thought, one_line(command.removeprefix(">").strip("\"' ") if command else ""))


class Message(NamedTuple):
    """One message of a chat; `chosen` marks what the agent wrote."""

    role: str
    text: str
    chosen: bool = False


def messages(episode: Episode, *, with_hints: bool = True) -> Iterator[Message]:
    """`episode` as the messages of the chat that it was, with or without what memory said: the block and the notes."""
    prompting = Prompting.named(episode.prompt)
    yield Message("system", system(episode.hints if with_hints else "", prompting))
    for step in episode.steps:
        begun = task(episode.goal) if step is episode.steps[0] else ""
        yield Message("user", begun + seen(step.observation, step.admissible, step.note if with_hints else ""))
        said = "".join(answer(step.action, step.thought, prompting=prompting))
        yield Message("assistant", said, chosen=True)
