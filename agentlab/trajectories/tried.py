"""What the running episode tried, and what it costs to try it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memory.records import Step, state_key

if TYPE_CHECKING:
    from agentlab.trajectories.advice import AdviceWeights

Context = frozenset[str]
"""The lines of a state that going elsewhere leaves as they are, such as what one carries."""


class Tried:
    """How often each action was tried in each state, how often one cost reward, and which places were gone to."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._setbacks: Counter[str] = Counter()
        self._places = Places()

    def observe(self, step: Step) -> None:
        """Take in one step of the episode."""
        self._counts[state_key(step.state), step.action] += 1
        if step.reward < 0:
            self._setbacks[step.action] += 1
        self._places.observe(step)

    def __len__(self) -> int:
        """How many steps were taken in."""
        return self._counts.total()

    def times(self, state: str, commands: Sequence[str]) -> list[int]:
        """How often each command was tried in `state`."""
        here = state_key(state)
        return [self._counts[here, command] for command in commands]

    def costs(self, state: str, commands: Sequence[str], weights: AdviceWeights) -> list[float]:
        """What trying each command again costs, in nats: it grows linearly, so no preference of the policy, however
        strong, goes in circles for long.

        A command that leads to one place from everywhere counts as tried wherever it was given, beyond those of its
        kind that were tried least. A command that cost reward costs in every state: the thing that was put wrongly is
        not put there again because a door was opened in between. Where most steps cost reward, that says nothing of any
        one of them.
        """
        setbacks = self._setbacks if 2 * self._setbacks.total() <= len(self) else Counter()
        again = zip(self.times(state, commands), self._places.visits(state, commands), strict=True)
        return [
            weights.again * max(times) + weights.negative * setbacks[command]
            for command, times in zip(commands, again, strict=True)
        ]


@dataclass
class _Way:
    """Where a command led when it was given last: from which state, with what left as it was, and to which state."""

    start: str
    context: Context
    end: str


class Places:
    """Which commands lead to one place from everywhere (`go to drawer 1`), and which of these places were gone to.

    That is found out for each kind of command, by its first word: those of a kind that led where they had led before,
    given from somewhere else, more often than not. `move north` does not. What was gone to counts as long as what
    going leaves as it is, such as what one carries, is as it was then; where a state says nothing of that kind, nothing
    counts.
    """

    def __init__(self) -> None:
        self._ways: dict[str, _Way] = {}
        self._newest: dict[str, str] = {}
        self._right: Counter[str] = Counter()
        self._visits: dict[str, Counter[Context]] = {}

    def observe(self, step: Step) -> None:
        """Take in one step of the episode."""
        kind, start, end = _kind(step.action), step.state, step.next_state
        context = _lines(start) & _lines(end)
        known = self._ways.get(step.action)
        if known is not None and known.start != start and known.context == context:
            self._right[kind] += 1 if known.end == end else -1
        # What is done in a place, such as opening it, is how it will be found.
        for other, command in self._newest.items():
            if other != kind:
                self._ways[command].end = end
        self._ways[step.action] = _Way(start, context, end)
        self._newest[kind] = step.action
        self._visits.setdefault(step.action, Counter())[context] += 1

    def visits(self, state: str, commands: Sequence[str]) -> list[int]:
        """How often each command was given before more than the one of its kind that was given least; 0 for those
        that lead elsewhere from elsewhere."""
        here = _lines(state)
        counts: dict[str, int] = {}
        least: dict[str, int] = {}
        for command in commands:
            kind = _kind(command)
            if self._right[kind] > 0:
                counts[command] = self._given(command, here)
                least[kind] = min(least.get(kind, counts[command]), counts[command])
        return [counts[command] - least[_kind(command)] if command in counts else 0 for command in commands]

    def _given(self, command: str, here: Context) -> int:
        """How often a command was given while all was as it is now but the place."""
        contexts = self._visits.get(command, Counter())
        return sum(times for context, times in contexts.items() if _tells(context) and context <= here)


def _kind(command: str) -> str:
    return command.partition(" ")[0]


def _lines(state: str) -> Context:
    return frozenset(line for line in state.splitlines() if line)


def _tells(context: Context) -> bool:
    """Whether more is known to be as it was than the score."""
    return any(not line.startswith("Score:") for line in context)
