"""Candidates as a token trie, so that one forward pass scores them all.

Nodes that no candidate continues from are never run through the model: their log-probability is read off their
parent's distribution. The tree mask lets a node see the conversation, its ancestors and itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class TokenTree:
    """A trie of candidate token sequences, flattened for one forward pass.

    tokens[i], depths[i], parents[i] describe the i-th node that is run (parents before children; parent -1 is the last
    token of the conversation). `edges[c]` lists, for candidate c, the pairs (node whose distribution is asked, token).
    """

    tokens: list[int]
    depths: list[int]
    parents: list[int]
    edges: list[list[tuple[int, int]]]

    @classmethod
    def of(cls, candidates: Sequence[Sequence[int]]) -> TokenTree:
        """Build the trie. Every candidate has at least one token; equal candidates share all their nodes."""
        inner = {tuple(ids[:cut]) for ids in candidates for cut in range(1, len(ids))}
        order = sorted(inner, key=lambda prefix: (len(prefix), prefix))
        node = {prefix: index for index, prefix in enumerate(order)}
        node[()] = -1
        return cls(
            tokens=[prefix[-1] for prefix in order],
            depths=[len(prefix) - 1 for prefix in order],
            parents=[node[prefix[:-1]] for prefix in order],
            edges=[[(node[tuple(ids[:at])], ids[at]) for at in range(len(ids))] for ids in candidates],
        )

    def __len__(self) -> int:
        return len(self.tokens)

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
        """Sum each candidate's log-probabilities. Row 0 is the conversation's last token, row i+1 node i."""
        rows = [at + 1 for path in self.edges for at, _ in path]
        columns = [token for path in self.edges for _, token in path]
        picked = log_probabilities[rows, columns].double().tolist()
        totals, start = [], 0
        for path in self.edges:
            totals.append(float(sum(picked[start : start + len(path)])))
            start += len(path)
        return totals
