"""The writing actor: a thought within its budget, then a command (ReAct, Yao et al. 2023)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agentlab.agent.actors import View
from agentlab.engines.base import Turn
from agentlab.trajectories.transition import Decision
from memory.prompts import Prompting
from memory.records import Usage

ARTICLES = frozenset({"a", "an", "the", "some"})

SHOWN = 40
"""Commands that an objection names."""


@dataclass(frozen=True)
class WritingActor:
    """Has the model write its turn: a thought of at most `think` tokens (0: none), then a command.

    The command is held to the admissible ones where the engine can do that; else the one is taken that was meant. A
    reply in which no admissible command can be read is asked for once more, with what was wrong; then it is played as
    it stands, and recorded as invalid.

    With `samples` it votes: so many turns are written, and of the most frequent command the first is taken
    (self-consistency, Wang et al. 2023). One of them is drawn at temperature `spread` where the policy's is 0.
    """

    think: int = 0
    samples: int = 1
    max_tokens: int = 32
    spread: float = 0.7
    chat: bool = True
    name: str = "writing"

    @property
    def prompting(self) -> Prompting:
        """How it wants the model to read an episode, where the model can."""
        return Prompting(chat=self.chat, thought=self.think > 0)

    def act(self, view: View) -> Decision:
        return self.decided(view)

    def decided(self, view: View, plan: str = "", go_on: str = "") -> Decision:
        """The decision of a turn. `plan` is what the model thought of beforehand, and `go_on` what it is asked then:
        both stand in the prompt of this turn, and not in the conversation."""
        temperature = view.policy.temperature_at(view.trial)
        if self.samples > 1:
            temperature = temperature or self.spread
        seeds = [view.rng.getrandbits(31) for _ in range(self.samples)]
        turns = [self._turn(view, temperature, seed, plan, go_on) for seed in seeds]
        usage = sum((turn.usage for turn, _ in turns), Usage())
        votes = Counter(command for _, command in turns if command is not None)
        if not votes:
            turn, _ = turns[0]
            return decision(turn, turn.command or turn.text or "…", view.commands, usage, invalid=True)
        (chosen, _), *_ = votes.most_common(1)
        turn = next(turn for turn, command in turns if command == chosen)
        return decision(turn, chosen, view.commands, usage)

    def _turn(
        self, view: View, temperature: float, seed: int, plan: str = "", go_on: str = ""
    ) -> tuple[Turn, str | None]:
        """A turn, and the command in it; None if even the second try has none."""
        asked = {"think": self.think, "max_tokens": self.max_tokens, "temperature": temperature, "seed": seed}
        first = view.write(view.commands, **asked, refused=plan, objection=go_on)
        if plan:  # its probabilities are of a text that is not in the conversation
            first = replace(first, logprobs=[])
        command = meant(first.command, view.commands)
        if command is not None:
            return first, command
        second = view.write(
            view.commands, **asked, refused=first.text.strip() or "…", objection=objection(first, view.commands)
        )
        usage = first.usage + second.usage
        # It was written behind the objection, which is not in the conversation either.
        turn = replace(second, usage=usage, logprobs=[])
        return turn, meant(second.command, view.commands)


def meant(written: str, commands: Sequence[str] | None) -> str | None:
    """The admissible command that was meant: the only one of the same words and signs.

    Case, articles before a word and punctuation do not count. None if there is no such command, or more than one.
    """
    if not written:
        return None
    if commands is None or written in commands:
        return written
    mine = _words(written)
    found = [command for command in commands if _words(command) == mine] if mine else []
    return found[0] if len(found) == 1 else None


def _words(command: str) -> list[str]:
    words = re.findall(r"\w+|[-+*/=<>]", command.casefold())
    return [word for at, word in enumerate(words) if word not in ARTICLES or at + 1 == len(words)]


def objection(turn: Turn, commands: Sequence[str] | None) -> str:
    """What is said to a reply without an admissible command."""
    what = f"'{turn.command}' is not possible here." if turn.command else "No command could be read in that."
    if commands is None:
        return f"{what} Answer with one command on one line."
    rest = f" and {len(commands) - SHOWN} more" if len(commands) > SHOWN else ""
    return f"{what} Answer with one of these commands: {'; '.join(commands[:SHOWN])}{rest}."


def decision(
    turn: Turn, command: str, commands: Sequence[str] | None, usage: Usage, *, invalid: bool = False
) -> Decision:
    """The decision for a command that was read in a turn."""
    # What was written stands in the conversation as it is, unless another command was meant by it.
    as_written = invalid or turn.command == command
    return Decision(
        command,
        list(commands or ()),
        thought=turn.thought,
        token_ids=turn.token_ids if as_written else [],
        logprobs=turn.logprobs if as_written else [],
        usage=usage,
        invalid=invalid,
    )
