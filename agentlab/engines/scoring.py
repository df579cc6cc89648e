"""The commands of one request as trees of tokens behind its conversation, and their scores as they come in."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from agentlab.engines.base import ScoreRequest
from agentlab.engines.best_first import WIDTH, BestFirst, searched
from agentlab.engines.cached import CachedConversation
from agentlab.engines.passes import Reading
from trainers.objectives import TokenTree, parts


class Scoring(ABC):
    """One request on its way: what is still to be read, the scores so far, and how many tokens they took.

    No pass asks for the distributions of more than `most` nodes. Raises ContextExceeded if a command does not fit.
    """

    def __init__(self, request: ScoreRequest, most: int) -> None:
        conversation = request.conversation
        assert isinstance(conversation, CachedConversation), "made by `conversation`"
        self.conversation, self.adapter, self.read = conversation, request.adapter, 0

    @property
    @abstractmethod
    def scores(self) -> list[float]:
        """The scores, once nothing `waits`."""

    @property
    @abstractmethod
    def waits(self) -> bool:
        """Whether something is still to be read."""

    @abstractmethod
    def reading(self) -> Reading:
        """What is to be read next."""

    @abstractmethod
    def take(self, logprobs: torch.Tensor) -> None:
        """The log-probabilities (asked nodes, vocabulary) of that."""

    def _behind(self, needed: int, tree: TokenTree) -> Reading:
        """A tree behind the conversation, which makes room for `needed` tokens."""
        self.conversation.make_room(needed)
        reading = Reading(self.conversation.open_cache(self.adapter), self.conversation.pending, tree)
        self.read += reading.width
        return reading


class Whole(Scoring):
    """Every command has its score, from one tree or, of very many commands, from a few."""

    def __init__(self, request: ScoreRequest, most: int) -> None:
        super().__init__(request, most)
        its = self.conversation.continuations(request)
        skipped, commands = zip(*its, strict=True) if its else ((), ())
        chosen = parts(commands, min(self.conversation.room_for(commands), most))
        self._trees = [
            (part, TokenTree.of([commands[at] for at in part], [skipped[at] for at in part])) for part in chosen
        ]
        self._needed = max((len(tree) for _, tree in self._trees), default=0)
        self._scores = [0.0] * len(commands)

    @property
    def scores(self) -> list[float]:
        return self._scores

    @property
    def waits(self) -> bool:
        return bool(self._trees)

    def reading(self) -> Reading:
        return self._behind(self._needed, self._trees[0][1])

    def take(self, logprobs: torch.Tensor) -> None:
        part, tree = self._trees.pop(0)
        for at, score in zip(part, tree.sums(logprobs), strict=True):
            self._scores[at] = score
        self.conversation.read()


class Best(Scoring):
    """The best command, and those that had to be scored to know that it is."""

    def __init__(self, request: ScoreRequest, most: int) -> None:
        super().__init__(request, most)
        commands = [tokens for _, tokens in self.conversation.continuations(request)]
        room = min(self.conversation.room_for(commands), most)
        self._search = BestFirst(commands, request.bonus, room)
        self._needed = min(room, WIDTH + max(map(len, commands)))
        self._tree = TokenTree()

    @property
    def scores(self) -> list[float]:
        return self._search.logprobs

    @property
    def waits(self) -> bool:
        return bool(self._search.asked)

    def reading(self) -> Reading:
        self._tree = TokenTree()
        for path in self._search.asked:
            node = self._tree.follow(path)[-1] if path else -1
            self._tree.edges.append([(node, token) for token in self._search.tokens(path)])
        return self._behind(self._needed, self._tree)

    def take(self, logprobs: torch.Tensor) -> None:
        row_of = {node: row for row, node in enumerate(self._tree.asked)}
        found = []
        for edges in self._tree.edges:
            tokens = [token for _, token in edges]
            found.append(dict(zip(tokens, logprobs[row_of[edges[0][0]], tokens].double().tolist(), strict=True)))
        self.conversation.read()
        self._search.take(found)


def scoring(request: ScoreRequest, most: int) -> Scoring:
    """The way in which a request is answered with the least reading."""
    return (Best if searched(request) else Whole)(request, most)
