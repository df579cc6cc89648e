"""The one place where an episode becomes text for a model. Acting and training both use it.

The transcript is append-only, so that a key/value cache lives as long as the episode:

    Task: {goal}
    [Hints:
    {hints}
    ]
    {observation}
    > {action}
    {observation}
    >

It is made of segments, each tokenised by itself; therefore the tokens of a prefix never depend on what follows.

Who thinks before it acts writes `> think: {thought}` on a line of its own before that.

A model that writes about an episode, rather than playing it, reads a `report`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from memory.records import Episode, Step
from memory.text import quoting

_ENDS = "\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
_LINE_ENDS = re.compile(f"[{_ENDS}]")
# The place before a `>`, also a wide one, with which a line begins.
_TURNS = re.compile(rf"(?:^|(?<=[{_ENDS}]))(?=[^\S{_ENDS}]*[>\uff1e])")


class Segment(NamedTuple):
    """A piece of the transcript; `chosen` marks what the agent chose (an action and its line end)."""

    text: str
    chosen: bool


def head(goal: str, hints: str = "") -> str:
    """The part that never leaves the context window: the task and the memory block."""
    block = f"Hints:\n{hints.strip()}\n\n" if hints.strip() else ""
    return f"Task: {_no_turns(goal.strip())}\n{block}"


def head_line(title: str, texts: Sequence[str]) -> str:
    """Texts behind each other, as a line that stands behind the head; empty for none."""
    return f"{title}{' / '.join(_no_turns(one_line(text)) for text in texts)}\n" if texts else ""


def turn(observation: str, note: str = "") -> str:
    """An observation, and the mark after which an action is expected. No line of it can pass for such a mark."""
    noted = f"\n({_no_turns(one_line(note))})" if note else ""
    return f"{_no_turns(observation.strip())}{noted}\n>"


def _no_turns(text: str) -> str:
    return _TURNS.sub(quoting.MARK, text) if ">" in text or "\uff1e" in text else text


def action(command: str) -> str:
    """An action as the model sees and chooses it, on one line. Its line end is a token of its own."""
    return f" {one_line(command)}"


def one_line(text: str) -> str:
    """`text` without its line ends."""
    lines = (line.strip() for line in _LINE_ENDS.split(text.strip()))
    return " ".join(line for line in lines if line)


LINE_END = "\n"


def thought(text: str) -> list[str]:
    """A thought before an action, in its pieces (Yao et al. 2023, ReAct); an empty one has nothing in the middle."""
    return [" think:", action(text) if one_line(text) else "", "\n>"]


REPORT_STEPS = 15  # the last steps matter most
REPORT_WIDTH = 200  # characters of each text that the environment said


def segments(episode: Episode, *, with_hints: bool = True) -> Iterator[Segment]:
    """The transcript of `episode`, with or without what memory said in its prompt: the block and the notes.

    Where nothing was thought, the place of the thought was not chosen.
    """
    yield Segment(head(episode.goal, episode.hints if with_hints else ""), False)
    thinks = episode.prompt.endswith("+thought")
    for step in episode.steps:
        yield Segment(turn(step.observation, step.note if with_hints else ""), False)
        for piece in thought(step.thought) if thinks else ():
            yield Segment(piece, bool(step.thought))
        yield Segment(action(step.action), True)
        yield Segment(LINE_END, True)


def reported(episode: Episode) -> list[Step]:
    """The steps that a report shows."""
    return episode.steps[-REPORT_STEPS:]


def report(episode: Episode, *, outcome: bool) -> str:
    """What happened in `episode`, for a model that writes about it: the task and the last steps, by their indices.

    The memory block is left out, or memories would breed memories. What the environment said is quoted. `outcome` adds
    how it ended, which only the environment knows.
    """
    steps = reported(episode)
    lines = [f"Task: {quoting.quoted_line(episode.goal)}"]
    for at, step in enumerate(steps):
        if at == 0:
            lines.append(quoted(step.observation[:REPORT_WIDTH]))
        lines += [f"[{step.index}] >{action(quoting.quoted_line(step.action))}", quoted(step.result[:REPORT_WIDTH])]
    if outcome:
        lines.append(f"Result: {episode.status}, score {episode.score:.2f}.")
    return "\n".join(lines)


def quoted(text: str) -> str:
    """`text` as somebody's words: each line behind a bar, and no token of a chat format, so that nothing in it can
    pass for a part of the prompt."""
    lines = quoting.quoted(text).splitlines() or [""]
    return "\n".join(quoting.MARK + line.removeprefix(quoting.MARK).strip() for line in lines)
