"""The tree of what was tried at one task: a view of its episodes, which can be built from them at any time.

So nothing but episodes is ever stored. What trees teach (pairs, revisions, step values) is read off them again after a
kill, in a later round, or from episodes that no search played, such as the trials of an ordinary rollout.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from agentlab.errors import ReplayMismatch
from environments.tools.recall import HERE
from memory.records import Episode, Step

if TYPE_CHECKING:
    from memory.store import EpisodeRow


def worth(episode: Episode | EpisodeRow) -> float:
    """What the end of an episode is worth, in [0, 1]: 1 if won, 0 if lost, else the environment's score."""
    return 1.0 if episode.won else 0.0 if episode.status == "lost" else episode.score


class Node:
    """A moment of the game, reached by one sequence of actions.

    Attributes:
        action: what led here from `parent`; None at the root.
        observation: what was said on arriving.
        state: the situation as far as the player can know it.
        admissible: commands that may follow; empty where the game ended or nothing was tried from here.
        scores: the engine's log-probabilities of these, if they were asked for.
        ended: whether the game ended here.
        visits: episodes that came through.
        total: the sum of what they were worth.
        best: the most that one of them was worth; 0 without any.
        to_win: steps from here to the nearest win that is known; None without one.
    """

    __slots__ = (
        "action",
        "admissible",
        "best",
        "children",
        "depth",
        "ended",
        "observation",
        "parent",
        "scores",
        "state",
        "to_win",
        "total",
        "visits",
    )

    def __init__(self, observation: str, state: str, parent: Node | None = None, action: str | None = None) -> None:
        self.observation = observation
        self.state = state
        self.parent = parent
        self.action = action
        self.depth: int = parent.depth + 1 if parent is not None else 0
        self.admissible: list[str] = []
        self.scores: list[float] | None = None
        self.ended = False
        self.children: dict[str, Node] = {}
        self.visits = 0
        self.total = 0.0
        self.best = 0.0
        self.to_win: int | None = None

    @property
    def value(self) -> float:
        """The mean of what the episodes that came through were worth; 0 without any."""
        return self.total / self.visits if self.visits else 0.0

    @property
    def actions(self) -> list[str]:
        """The actions that lead here from the start."""
        return [node.action for node in self.line() if node.action is not None]

    def line(self) -> list[Node]:
        """The nodes from the root to this one, both included."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]

    def enter(self, action: str, observation: str, state: str) -> Node:
        """The child behind `action`, which is new or known.

        Raises ReplayMismatch if it is known and the environment said or showed something else there.
        """
        child = self.children.get(action)
        if child is None:
            child = self.children[action] = Node(observation, state, self, action)
        else:
            child.same(observation, state)
        return child

    def same(self, observation: str, state: str) -> None:
        """Raise ReplayMismatch unless this node was met with this observation and state."""
        for now, known in ((observation, self.observation), (state, self.state)):
            if now != known:
                raise self._differs(now, known)

    def offers(self, commands: list[str]) -> None:
        """Take in the commands that may follow. Raise ReplayMismatch if they had been others."""
        if self.admissible and self.admissible != commands:
            raise self._differs(", ".join(commands), ", ".join(self.admissible))
        self.admissible = commands

    def _differs(self, now: str, known: str) -> ReplayMismatch:
        after = f"after {self.actions!r}" if self.depth else "at the start"
        return ReplayMismatch(
            f"A replay differs {after}: the environment gave {_clip(now)!r} where it had given {_clip(known)!r}; "
            "it is not deterministic by seed, so it cannot be searched (check it with `agentlab doctor`)."
        )


class Tree:
    """All that was tried at one task, merged where it began alike. `episodes` are in it in the order they came."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.episodes: list[Episode] = []
        self._ids: set[str] = set()

    @classmethod
    def of(cls, episodes: Iterable[Episode]) -> Tree:
        """The tree of episodes of one task. Those that errored, and those made up in hindsight, are left out, and those
        in which other commands were admissible: that were played without a tool, or could ask a memory (`recall`),
        which neither a search nor chance has.

        Raises ReplayMismatch if two of them contradict each other.
        """
        tree = cls()
        for episode in episodes:
            lived = episode.status != "errored" and episode.relabelled_from is None and episode.steps
            if lived and not episode.without_tools and not _could_recall(episode):
                tree.add(episode)
        return tree

    def begin(self, observation: str, state: str) -> Node:
        """The root. Raises ReplayMismatch if the game had begun otherwise."""
        if self.root is None:
            self.root = Node(observation, state)
        else:
            self.root.same(observation, state)
        return self.root

    def add(self, episode: Episode) -> Node:
        """Merge a finished episode into the tree; its last node is returned. One that is in it changes nothing."""
        node = self.begin(episode.steps[0].observation, episode.steps[0].state)
        for step in episode.steps:
            node = take(node, step)
        if episode.id in self._ids:
            return node
        self._ids.add(episode.id)
        self.episodes.append(episode)
        node.ended = True
        value = worth(episode)
        for distance, passed in enumerate(reversed(node.line())):
            passed.visits += 1
            passed.total += value
            passed.best = max(passed.best, value)
            if episode.won:
                passed.to_win = min(distance, passed.to_win if passed.to_win is not None else distance)
        return node

    def line(self, episode: Episode) -> list[Node]:
        """The nodes of an episode that is in the tree, the root first: one more than it has steps."""
        assert self.root is not None
        nodes = [self.root]
        for step in episode.steps:
            nodes.append(nodes[-1].children[step.action])
        return nodes

    def nodes(self) -> Iterator[Node]:
        """All nodes, parents before children, in the order in which they were first met."""
        waiting = [self.root] if self.root is not None else []
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children.values()))


def take(node: Node, step: Step) -> Node:
    """Go on from `node` by a step that was lived."""
    node.offers(step.admissible)
    node.scores = node.scores or step.all_scores
    return node.enter(step.action, step.result, step.next_state)


def _could_recall(episode: Episode) -> bool:
    return any(HERE in step.admissible for step in episode.steps)


def _clip(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"
