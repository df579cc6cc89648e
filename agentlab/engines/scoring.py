"""The commands of one request as trees of tokens behind its conversation, and their scores as they come in."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from agentlab.engines.base import Adapter, ScoreRequest
from agentlab.engines.cached import CachedConversation
from agentlab.engines.passes import Reading
from trainers.objectives import TokenTree, parts


@dataclass
class Scoring:
    """One request on its way: the trees that are still to be read, the scores so far, and how many tokens they took."""

    conversation: CachedConversation
    adapter: Adapter | None
    trees: list[tuple[list[int], TokenTree]]
    needed: int
    scores: list[float]
    read: int = 0

    @classmethod
    def of(cls, request: ScoreRequest, most: int) -> Scoring:
        """The request with trees of at most `most` nodes. Raises ContextExceeded if a command does not fit."""
        conversation = request.conversation
        assert isinstance(conversation, CachedConversation), "made by `conversation`"
        skipped, commands = zip(*conversation.continuations(request), strict=True) if request.commands else ((), ())
        chosen = parts(commands, min(conversation.room_for(commands), most))
        trees = [(part, TokenTree.of([commands[at] for at in part], [skipped[at] for at in part])) for part in chosen]
        return cls(
            conversation,
            request.adapter,
            trees,
            max((len(tree) for _, tree in trees), default=0),
            [0.0] * len(commands),
        )

    def reading(self) -> Reading:
        """What is to be read for the next tree."""
        self.conversation.make_room(self.needed)
        slot = self.conversation.open_cache(self.adapter)
        reading = Reading(slot, self.conversation.pending, self.trees[0][1])
        self.read += reading.width
        return reading

    def take(self, logprobs: torch.Tensor) -> None:
        """The log-probabilities (asked nodes, vocabulary) of that tree."""
        part, tree = self.trees.pop(0)
        for at, score in zip(part, tree.sums(logprobs), strict=True):
            self.scores[at] = score
        self.conversation.read()
