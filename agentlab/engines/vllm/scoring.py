"""Exact scores from a server: the next-token distributions at all inner nodes of the trie of commands, in one request;
where only the best of very many is asked for, at those that a search for it reads.

Each node is a prompt of its own (the conversation, then the tokens down to the node), of which the server's prefix
cache keeps what they have in common; asked for are the log-probabilities of the node's children among all tokens. So a
command has the score that one forward pass over all of it would give.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentlab.engines.base import Adapter, ScoreRequest, Scores
from agentlab.engines.best_first import WIDTH, BestFirst, searched
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


class Ranking:
    """One request to score commands: `nodes` are to be asked next, as prompts, until there are none.

    Its conversation makes room for them. Raises ContextExceeded if one has none.
    """

    def __init__(self, request: ScoreRequest) -> None:
        conversation = request.conversation
        assert isinstance(conversation, ServedConversation), "made by `conversation`"
        self._conversation, self._adapter, self._read = conversation, request.adapter, 0
        self._search: BestFirst | None = None
        self._tree, self._asked, self._scores = TokenTree(), list[int](), list[float]()
        its = conversation.continuations(request)
        skipped, commands = zip(*its, strict=True) if its else ((), ())
        room = max(conversation.room_for(commands), 1)
        if searched(request):
            self._search = BestFirst(commands, request.bonus, room)
            conversation.make_room(min(room, WIDTH + max(map(len, commands))))
        else:
            # As much as a local engine needs, so that both read the same turns of a long episode.
            self._tree, pieces = TokenTree.of(commands, skipped), parts(commands, room)
            several = [TokenTree.of([commands[at] for at in part]) for part in pieces]
            conversation.make_room(max(map(len, several)) if len(several) > 1 else len(self._tree))
        self._begun = list(conversation.context_ids)
        self.nodes = self._of_search() if self._search else self._of_tree()

    def _of_tree(self) -> list[Node]:
        """All inner nodes of the tree."""
        paths: list[tuple[int, ...]] = []
        for token, parent in zip(self._tree.tokens, self._tree.parents, strict=True):
            paths.append((*(paths[parent] if parent >= 0 else ()), token))
        children: dict[int, set[int]] = {}
        for edges in self._tree.edges:
            for node, token in edges:
                children.setdefault(node, set()).add(token)
        self._read = len(self._tree)
        self._asked = sorted(children)
        return [self._node(paths[node] if node >= 0 else (), children[node]) for node in self._asked]

    def _of_search(self) -> list[Node]:
        """The nodes that the search reads next."""
        assert self._search is not None
        asked = self._search.asked
        self._read += len({path[:length] for path in asked for length in range(1, len(path) + 1)})
        return [self._node(path, self._search.tokens(path)) for path in asked]

    def _node(self, path: Sequence[int], children: Iterable[int]) -> Node:
        return Node([*self._begun, *path], frozenset(children), self._adapter)

    def take(self, distributions: Sequence[dict[int, float]]) -> None:
        """The log-probabilities at each of `nodes`."""
        if self._search:
            self._search.take(distributions)
            self.nodes = self._of_search()
            self._read += bool(self.nodes)  # a local engine reads its last token again
            return
        at = dict(zip(self._asked, distributions, strict=True))
        self._scores = [sum(at[node][token] for node, token in edges) for edges in self._tree.edges]
        self.nodes = []

    @property
    def scores(self) -> Scores:
        """The score of each command, once there are no more `nodes`."""
        usage = Usage(input_tokens=self._conversation.read(self._begun) + self._read)
        return Scores(self._search.logprobs if self._search else self._scores, usage)
