"""Token sequences as a trie, so that one forward pass scores them all and runs what they have in common once.

Nodes that no sequence continues from are never run through the model: their log-probability is read off their parent's
distribution. The tree mask lets a node see its ancestors and itself (and, where the tree grows out of a conversation
that the model has read already, that conversation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch


@dataclass
class TokenTree:
    """A trie of token sequences, flattened for one forward pass.

    tokens[i], depths[i], parents[i] describe the i-th node that is run (parents before children; parent -1 is what
    came before the tree). `edges[c]` lists, for sequence c, the pairs (node whose distribution is asked, token).
    """

    tokens: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    edges: list[list[tuple[int, int]]] = field(default_factory=list)
    _children: dict[tuple[int, int], int] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, candidates: Sequence[Sequence[int]], skipped: Sequence[int] = ()) -> TokenTree:
        """The trie of candidates, level by level. Each has at least one token; equal ones share all their nodes.

        Of each the first tokens, as many as `skipped` says, are read and not asked about.
        """
        tree = cls()
        inner = {tuple(ids[:cut]) for ids in candidates for cut in range(1, len(ids))}
        for prefix in sorted(inner, key=lambda prefix: (len(prefix), prefix)):
            tree.follow(prefix)
        for ids in candidates:
            tree.add(ids)
        for at, count in enumerate(skipped):
            tree.edges[at] = tree.edges[at][count:]
        return tree

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def asked(self) -> list[int]:
        """The nodes whose distributions are asked for, what came before the tree (-1) first; that alone if none is."""
        return sorted({node for path in self.edges for node, _ in path}) or [-1]

    def follow(self, ids: Sequence[int], after: int = -1) -> list[int]:
        """The nodes of `ids` one after another, the first a child of node `after`; made where there are none yet."""
        nodes = []
        for token in ids:
            node = self._children.setdefault((after, token), len(self.tokens))
            if node == len(self.tokens):
                self.tokens.append(token)
                self.depths.append(self.depths[after] + 1 if after >= 0 else 0)
                self.parents.append(after)
            nodes.append(node)
            after = node
        return nodes

    def add(self, ids: Sequence[int], after: int = -1) -> None:
        """Add one more sequence, which begins as a child of node `after`; its edges are the last of `edges`."""
        self.edges.append(list(zip([after, *self.follow(ids[:-1], after)], ids, strict=True)))

    def visible(self) -> torch.Tensor:
        """Bool (nodes, nodes): True where the row's node may attend to the column's node."""
        size = len(self.tokens)
        seen = torch.zeros(size, size, dtype=torch.bool)
        for index, parent in enumerate(self.parents):
            if parent >= 0:
                seen[index] = seen[parent]
            seen[index, index] = True
        return seen

    def sums(self, log_probabilities: torch.Tensor) -> list[float]:
        """Sum each sequence's log-probabilities, of which there is a row for each node of `asked`."""
        row_of = {node: row for row, node in enumerate(self.asked)}
        rows = [row_of[node] for path in self.edges for node, _ in path]
        columns = [token for path in self.edges for _, token in path]
        picked = log_probabilities[rows, columns].double().tolist()
        totals, start = [], 0
        for path in self.edges:
            totals.append(float(sum(picked[start : start + len(path)])))
            start += len(path)
        return totals


def parts(candidates: Sequence[Sequence[int]], most: int) -> list[list[int]]:
    """The candidates, by their indices, in parts whose trees have at most `most` nodes each (or one candidate).

    Neighbours in alphabetical order go together, since they share their beginnings.
    """
    made: list[list[int]] = []
    nodes = 0
    before: Sequence[int] = ()
    for at in sorted(range(len(candidates)), key=lambda at: list(candidates[at])):
        inner = candidates[at][:-1]
        fresh = len(inner) - _common(before, inner)
        if not made or nodes + fresh > most:
            made.append([])
            nodes, fresh = 0, len(inner)
        made[-1].append(at)
        nodes, before = nodes + fresh, inner
    return made


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    return next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other))
    )
