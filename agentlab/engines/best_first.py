"""Best-first search for the best of very many commands: a trie of their tokens of which only what can win is read.

A command's log-probability is at most that of its beginning, so a beginning is an admissible bound for all that go on
from it (A*, Hart et al. 1968, with the largest bonus below as the heuristic). What is found is what scoring all of them
would find; of a thousand commands a few dozen tokens are read in place of thousands.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agentlab.engines.base import ScoreRequest
from agentlab.engines.conversation import TokenConversation

MANY = 256
"""Inner nodes of a trie from which on it is searched. A smaller one is read whole in about the same time."""
WIDTH = 32
"""Tokens that are read at once, if there is so much that is likely: a pass takes some time however little it reads."""
NEAR = 3.0
"""Beginnings that are read at once, in nats behind the most promising one."""
GROWTH = 2
"""By how much both grow with each pass, so that a model which knows nothing reads all in a few."""

Path = tuple[int, ...]


def searched(request: ScoreRequest) -> bool:
    """Whether a request asks for the best alone, and of so many commands that a search reads less."""
    if not request.bonus or request.asides or len(request.commands) < 2:
        return False
    conversation = request.conversation
    assert isinstance(conversation, TokenConversation), "made by `conversation`"
    commands = [tuple(conversation.command_tokens(command)) for command in request.commands]
    if sum(map(len, commands)) <= MANY:  # as usual, and known without a trie
        return False
    return len({command[:length] for command in commands for length in range(1, len(command))}) > MANY


@dataclass
class _Node:
    """A beginning: what it goes on with, the commands that end there by their last token, and the largest bonus."""

    ceiling: float = -math.inf
    children: set[int] = field(default_factory=set)
    ends: dict[int, list[int]] = field(default_factory=dict)

    @property
    def tokens(self) -> set[int]:
        return self.children | self.ends.keys()


class BestFirst:
    """The search among commands, each given as its tokens (at least one) with a bonus.

    `asked` are the beginnings whose next-token log-probabilities are wanted; `take` gives them, and `asked` are others,
    until there are none. `logprobs` are those of commands whose score is known, minus infinity for those that are known
    to be worse than the best.
    """

    def __init__(self, commands: Sequence[Sequence[int]], bonus: Sequence[float], room: int) -> None:
        self.logprobs = [-math.inf] * len(commands)
        self._bonus = bonus
        self._best = -math.inf
        self._room, self._passes = room, 0
        self._nodes: dict[Path, _Node] = {}
        for at, (command, extra) in enumerate(zip(commands, bonus, strict=True)):
            path = tuple(command)
            for length in range(len(path)):
                node = self._nodes.setdefault(path[:length], _Node())
                node.ceiling = max(node.ceiling, extra)
                if length + 1 < len(path):
                    node.children.add(path[length])
            self._nodes[path[:-1]].ends.setdefault(path[-1], []).append(at)
        self._reached: dict[Path, float] = {(): 0.0}
        self._open: list[tuple[float, Path]] = [(0.0, ())]
        self.asked: list[Path] = self._next()

    def tokens(self, path: Path) -> list[int]:
        """The tokens whose log-probabilities are wanted behind a beginning."""
        return sorted(self._nodes[path].tokens)

    def take(self, found: Sequence[Mapping[int, float]]) -> None:
        """The log-probabilities behind each of `asked`, in that order."""
        here = set(self.asked)
        for path, logprobs in zip(self.asked, found, strict=True):
            node, so_far = self._nodes[path], self._reached.pop(path)
            for token, logprob in logprobs.items():
                total = so_far + logprob
                for at in node.ends.get(token, ()):
                    self.logprobs[at] = total
                    self._best = max(self._best, total + self._bonus[at])
                if token in node.children:
                    child = (*path, token)
                    self._reached[child] = total
                    if child not in here:
                        heapq.heappush(self._open, (-(total + self._nodes[child].ceiling), child))
        self.asked = self._next()

    def _next(self) -> list[Path]:
        """What is to be read next, parents before children: the most promising beginnings that are not yet beaten."""
        chosen: list[Path] = []
        read: set[Path] = set()
        grown = GROWTH**self._passes
        self._passes += 1
        top = -self._open[0][0] if self._open else 0.0
        # A tie goes to the command that was listed first, so what may still be equal is read too.
        while self._open and -self._open[0][0] >= max(self._best, top - NEAR * grown):
            path = self._open[0][1]
            line = [path]
            # What has one continuation is read with it.
            while len(self._nodes[line[-1]].tokens) == 1 and self._nodes[line[-1]].children:
                line.append((*line[-1], *self._nodes[line[-1]].children))
            run = {line[-1][:length] for length in range(1, len(line[-1]) + 1)}
            if chosen and len(read | run) > min(WIDTH * grown, self._room):
                break
            heapq.heappop(self._open)
            chosen += line
            read |= run
        return chosen
