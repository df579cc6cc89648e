"""Iterative deepening: everything that can be done in few steps is tried before anything that needs more.

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from agentlab.search.tree import Node
from agentlab.search.walk import Player, Walk
from memory.records import Episode


def deepening(player: Player) -> Iterator[Episode]:
    """Episodes that depth-first passes with a growing limit come upon (Korf 1985), until there is nothing deeper.

    Candidates go in the order of their priors. What an earlier pass knows is not played again but on the way to what
    it left. With transpositions a pass goes on from a state only where it was met with the fewest steps.
    """
    search = _Deepening(player)
    for limit in count(player.config.stride, player.config.stride):
        search.cut_off = False
        yield from search.to(limit)
        if not search.cut_off:
            return


class _Deepening:
    """What the passes share."""

    def __init__(self, player: Player) -> None:
        self.player = player
        self.walk = player.walk()
        self.root = self.walk.node
        self.first: dict[str, Node] = {self.root.state: self.root}
        self.orders: dict[Node, list[str]] = {}
        self.cut_off = False  # whether the last pass left anything because of its limit

    def to(self, limit: int) -> Iterator[Episode]:
        """One pass, down to `limit` steps."""
        line = [(self.root, iter(self.order(self.root)))]
        while line:
            node, rest = line[-1]
            action = next(rest, None)
            if action is None:
                line.pop()
                continue
            child = node.children.get(action)
            if child is None:
                self.at(node).step(action)
                child = self.walk.node
                if self.walk.ended:
                    yield self.player.keep(self.walk)
            if child.ended or self.known_nearer(child):
                continue
            if child.depth >= limit:
                self.cut_off = True
            else:
                line.append((child, iter(self.order(child))))

    def at(self, node: Node) -> Walk:
        """A walk that stands at `node`: the present one if it does, else a new one that is led there."""
        if self.walk.node is not node:
            self.walk = self.player.walk()
            self.walk.follow(node.actions)
        return self.walk

    def order(self, node: Node) -> list[str]:
        """The candidates at `node`, the likeliest first; the same in every pass. None where the game is over."""
        if node.ended:
            return []
        if node not in self.orders:
            ranked = self.player.ranked(self.at(node), self.player.rng("deepening", *node.actions))
            self.orders[node] = [action for action, _ in ranked]
        return self.orders[node]

    def known_nearer(self, child: Node) -> bool:
        """Whether the state of `child` was met with fewer steps, or as few but earlier."""
        if not self.player.config.transpositions:
            return False
        first = self.first.setdefault(child.state, child)
        if child.depth < first.depth:
            self.first[child.state] = first = child
        return first is not child
