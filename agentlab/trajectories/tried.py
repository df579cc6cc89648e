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

        So does a command that is known to lead to where one has been, beyond those of its kind that lead to where one
        has been less, or nobody knows. A command that cost reward costs in every state: the thing that was put wrongly
        is not put there again because a door was opened in between. Where most steps cost reward, that says nothing of
        any one of them.
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
    """Where one has been, and which commands are known to lead there again.

    That is known of a command that was given in the same state before; of one that undoes what led here (`move south`
    after `move north`), once some pair of them was seen to; and of one that leads to one place from everywhere (`go to
    drawer 1`). Which those are is found out for each kind of command, by its first word: a kind that led where it had
    led before, given from somewhere else, more often than not. There a place counts as long as what going leaves as it
    is, such as what one carries, is as it was then; where a state says nothing of that kind, it does not count.
    """

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._ends: dict[tuple[str, str], str] = {}
        self._came: dict[str, set[tuple[str, str]]] = {}
        self._undoes: Counter[tuple[str, str]] = Counter()
        self._ways: dict[str, _Way] = {}
        self._newest: dict[str, str] = {}
        self._right: Counter[str] = Counter()
        self._given: dict[str, Counter[Context]] = {}

    def observe(self, step: Step) -> None:
        """Take in one step of the episode."""
        if not self._seen:
            self._seen[step.state] += 1
        self._walk(step.action, step.state, step.next_state)
        self._go(step.action, step.state, step.next_state)
        self._seen[step.next_state] += 1

    def _walk(self, action: str, start: str, end: str) -> None:
        """Learn where a command leads from this state, and what undoes what."""
        self._ends[start, action] = end
        if start == end:
            return
        for before, led in self._came.get(start, ()):
            right = 1 if before == end else -1
            for pair in {(led, action), (action, led)}:
                if right > 0 or self._undoes[pair] > 0:
                    self._undoes[pair] += right
        self._came.setdefault(end, set()).add((start, action))

    def _go(self, action: str, start: str, end: str) -> None:
        """Learn whether a command leads to one place from everywhere."""
        kind, context = kind_of(action), _lines(start) & _lines(end)
        known = self._ways.get(action)
        if known is not None and known.start != start and known.context == context:
            self._right[kind] += 1 if known.end == end else -1
        # What is done in a place, such as opening it, is how it will be found.
        for other, command in self._newest.items():
            if other != kind:
                self._ways[command].end = end
        self._ways[action] = _Way(start, context, end)
        self._newest[kind] = action
        self._given.setdefault(action, Counter())[context] += 1

    def visits(self, state: str, commands: Sequence[str]) -> list[int]:
        """How often one has been where each command leads, as far as that is known, beyond the one of its kind that
        leads to where one has been least."""
        here = _lines(state)
        counts = [max(self._seen[self._end(state, one)], self._times(one, here)) for one in commands]
        least: dict[str, int] = {}
        for command, count in zip(commands, counts, strict=True):
            least[kind_of(command)] = min(least.get(kind_of(command), count), count)
        return [count - least[kind_of(command)] for command, count in zip(commands, counts, strict=True)]

    def _end(self, state: str, command: str) -> str:
        """The state to which a command leads from this one; none of those that were seen where that is not known, or it
        leads nowhere."""
        known = self._ends.get((state, command))
        if known is not None:
            return known if known != state else UNKNOWN
        back = (before for before, led in self._came.get(state, ()) if self._undoes[led, command] > 0)
        return max(back, key=self._seen.__getitem__, default=UNKNOWN)

    def _times(self, command: str, here: Context) -> int:
        """How often a command that leads to one place was given while all was as it is now but the place."""
        if self._right[kind_of(command)] <= 0:
            return 0
        contexts = self._given.get(command, Counter())
        return sum(times for context, times in contexts.items() if _tells(context) and context <= here)


UNKNOWN = "\0"
"""No state."""


def kind_of(command: str) -> str:
    """What sort of thing a command does: its first word."""
    return command.partition(" ")[0]


def _lines(state: str) -> Context:
    return frozenset(line for line in state.splitlines() if line)


def _tells(context: Context) -> bool:
    """Whether more is known to be as it was than the score."""
    return any(not line.startswith("Score:") for line in context)
