"""Which of two trajectories of a tree is better: whole ones by their ends, single steps by what followed them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentlab.search.tree import Node, Tree, worth
from memory.records import Episode
from trainers.data import Preference

if TYPE_CHECKING:
    from memory.store import EpisodeRow

ALPHA = 0.5
BETA = 0.2


@dataclass(frozen=True)
class Fork:
    """A good and a bad episode of one task, which act alike in their first `shared` steps and then no more."""

    good: Episode
    bad: Episode
    shared: int

    @property
    def gap(self) -> float:
        """By how much the good one's end is worth more."""
        return worth(self.good) - worth(self.bad)


def is_good(end: Episode | EpisodeRow, alpha: float) -> bool:
    """Whether an end is worth what `alpha` asks for. It rises 0.5 → 0.7 → 1.0 over the iterations of Agent-R; at 1.0
    only a win is good."""
    return end.won if alpha >= 1.0 else worth(end) >= alpha


def forks(tree: Tree, *, alpha: float = ALPHA, beta: float = BETA) -> list[Fork]:
    """Every bad end beside the good one that it left last (Yuan et al. 2025, Agent-R, §3.2); see `partings`."""
    return [left[0] for bad in tree.episodes if (left := partings(tree, bad, alpha=alpha, beta=beta))]


def partings(tree: Tree, bad: Episode, *, alpha: float = ALPHA, beta: float = BETA) -> list[Fork]:
    """The forks at which one end left those that are good, by `alpha`, and worth more than it by over `beta`.

    The last fork comes first. Of those that are as late the best is the first, then the shortest.
    """
    good = (one for one in tree.episodes if is_good(one, alpha))
    left = [Fork(one, bad, at) for one in good if (at := parting(one, bad)) is not None]
    return sorted(
        (fork for fork in left if fork.gap > beta),
        key=lambda fork: (-fork.shared, -fork.gap, len(fork.good.steps)),
    )


def parting(one: Episode, other: Episode) -> int | None:
    """How many steps two episodes of a tree share; None if one of them only goes on where the other stopped."""
    for shared, (first, second) in enumerate(zip(one.actions, other.actions, strict=False)):
        if first != second:
            return shared
    return None


def preferences(tree: Tree, *, alpha: float = ALPHA, beta: float = BETA) -> list[Preference]:
    """The forks of a tree as preferences over all that follows them, weighted by the gap."""
    return [
        Preference(better=fork.good, worse=fork.bad, shared=fork.shared, weight=fork.gap, source="tree")
        for fork in forks(tree, alpha=alpha, beta=beta)
    ]


def step_preferences(tree: Tree, *, gap: float = BETA, visits: int = 1) -> list[Preference]:
    """At each moment the step that is worth most against that which is worth least, weighted by the difference.

    A step is worth the mean of the episodes that took it; steps that fewer than `visits` took are not compared, nor
    are differences up to `gap`. For step-level objectives: what follows the first step after `shared` is not the pair's
    own merit.
    """
    through = _through(tree)
    found = []
    for node in tree.nodes():
        steps = [child for child in node.children.values() if child.visits >= visits]
        if len(steps) < 2:
            continue
        best, worst = max(steps, key=lambda step: step.value), min(steps, key=lambda step: step.value)
        if best.value - worst.value > gap:
            found.append(_pair(through[best][0], through[worst][-1], node.depth, best.value - worst.value, "step"))
    return found


def first_pits(tree: Tree, *, probes: int = 4) -> list[Preference]:
    """The first pit of every failure against a step that still won (Hwang et al. 2024, Self-Explore, §3.2).

    A pit is the first step from which nothing won: neither the `probes` or more other episodes that took it, or it
    ended the game. The better side is the shortest win that does otherwise at that moment; without one there is no
    pair.
    """
    through = _through(tree)
    found: dict[Node, Preference] = {}
    for episode in tree.episodes:
        line = tree.line(episode)
        pit = next((node for node in line[1:] if node.to_win is None), None)
        if episode.won or pit is None or pit in found or pit.parent is None:
            continue
        proven = pit.ended or pit.visits - 1 >= probes
        wins = [other for other in through[pit.parent] if other.won]
        if proven and wins:
            better = min(wins, key=lambda other: len(other.steps))
            found[pit] = _pair(better, episode, pit.parent.depth, 1.0, "first pit")
    return list(found.values())


def _pair(better: Episode, worse: Episode, shared: int, weight: float, source: str) -> Preference:
    return Preference(better=better, worse=worse, shared=shared, weight=weight, source=source)


def _through(tree: Tree) -> dict[Node, list[Episode]]:
    """The episodes that came through each node, those worth most first."""
    found: dict[Node, list[Episode]] = {}
    for episode in sorted(tree.episodes, key=worth, reverse=True):
        for node in tree.line(episode):
            found.setdefault(node, []).append(episode)
    return found
