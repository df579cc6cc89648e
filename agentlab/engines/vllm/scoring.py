"""Exact scores from a server: the next-token distributions at all inner nodes of the trie of commands, in one request.

Each node is a prompt of its own (the conversation, then the tokens down to the node), of which the server's prefix
cache keeps what they have in common; asked for are the log-probabilities of the node's children among all tokens. So a
command has the score that one forward pass over all of it would give.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentlab.engines.base import Adapter, ScoreRequest, Scores
from agentlab.engines.vllm.client import nonsense
from agentlab.engines.vllm.conversation import ServedConversation
from memory.records import Usage
from trainers.objectives import TokenTree, parts

LOWEST = -1e9
"""The log-probability of a token that cannot come, which a server writes as minus infinity."""


@dataclass(frozen=True)
class Node:
    """A place in a text: the tokens up to it, those of which the log-probability is asked, and the adapter asked."""

    token_ids: Sequence[int]
    children: frozenset[int]
    adapter: Adapter | None = None


@dataclass
class Batch:
    """Nodes that are asked in one request: they share an adapter, and what they ask for is asked at each of them."""

    adapter: Adapter | None
    nodes: list[int] = field(default_factory=list)
    prompts: list[Sequence[int]] = field(default_factory=list)
    children: set[int] = field(default_factory=set)

    def body(self) -> dict[str, Any]:
        """The request."""
        return {
            "prompt": [list(prompt) for prompt in self.prompts],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": len(self.children),
            "logprob_token_ids": sorted(self.children),
            "return_tokens_as_token_ids": True,
        }

    def read(self, answer: dict[str, Any]) -> Iterable[tuple[int, dict[int, float]]]:
        """The log-probabilities of each node. Raises ServerFailed where the answer has not what was asked for."""
        try:
            choices = {int(choice["index"]): choice["logprobs"]["top_logprobs"][0] for choice in answer["choices"]}
            for at, node in enumerate(self.nodes):
                found = choices[at]
                yield node, {token: finite(found[f"token_id:{token}"]) for token in self.children}
        except (LookupError, TypeError, ValueError) as error:
            raise nonsense(f"no log-probabilities of what was asked for: {type(error).__name__} {error}") from error


def finite(value: Any) -> float:
    """A log-probability. Raises ValueError for what is none."""
    found = max(float(value), LOWEST)
    if not found <= 1e-3:  # not a number is none either
        raise ValueError(f"a log-probability of {found}")
    return min(found, 0.0)


def batches(nodes: Sequence[Node], most: int) -> list[Batch]:
    """Nodes in requests of at most `most` tokens that are asked for; a node with more children is in several."""
    made: list[Batch] = []
    for at, node in enumerate(nodes):
        children = sorted(node.children)
        for start in range(0, len(children), most):
            piece = set(children[start : start + most])
            fitting = (
                batch
                for batch in made
                if batch.adapter == node.adapter and batch.nodes[-1] != at and len(batch.children | piece) <= most
            )
            batch = next(fitting, None)
            if batch is None:
                made.append(batch := Batch(node.adapter))
            batch.nodes.append(at)
            batch.prompts.append(node.token_ids)
            batch.children |= piece
    return made


@dataclass(frozen=True)
class Ranking:
    """One request to score commands: the trie of their tokens, and those of its nodes that are asked, as prompts."""

    tree: TokenTree
    asked: list[int]
    nodes: list[Node]
    usage: Usage

    @classmethod
    def of(cls, request: ScoreRequest) -> Ranking:
        """The nodes of a request; its conversation makes room for them. Raises ContextExceeded if one has none."""
        conversation = request.conversation
        assert isinstance(conversation, ServedConversation), "made by `conversation`"
        skipped, commands = zip(*conversation.continuations(request), strict=True) if request.commands else ((), ())
        # As much as a local engine needs, so that both read the same turns of a long episode.
        tree, pieces = TokenTree.of(commands, skipped), parts(commands, max(conversation.room_for(commands), 1))
        several = [TokenTree.of([commands[at] for at in part]) for part in pieces] if len(pieces) > 1 else [tree]
        conversation.make_room(max(map(len, several)))
        begun = conversation.context_ids
        paths: list[tuple[int, ...]] = []
        for token, parent in zip(tree.tokens, tree.parents, strict=True):
            paths.append((*(paths[parent] if parent >= 0 else ()), token))
        children: dict[int, set[int]] = {}
        for edges in tree.edges:
            for node, token in edges:
                children.setdefault(node, set()).add(token)
        asked = sorted(children)
        nodes = [
            Node([*begun, *(paths[node] if node >= 0 else ())], frozenset(children[node]), request.adapter)
            for node in asked
        ]
        return cls(tree, asked, nodes, Usage(input_tokens=conversation.read(begun) + len(tree)))

    def scores(self, distributions: Sequence[dict[int, float]]) -> Scores:
        """The score of each command, from the log-probabilities at each node."""
        at = dict(zip(self.asked, distributions, strict=True))
        return Scores([sum(at[node][token] for node, token in edges) for edges in self.tree.edges], self.usage)
