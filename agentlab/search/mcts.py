"""Monte Carlo tree search over an environment that is restored by reset and replay.

An iteration is one episode: through what is known by UCT or PUCT, one step beyond it, then on by the rollout policy to
the game's end, whose worth is backed up. Steps cost and memory does not, so the whole episode enters the tree.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from agentlab.search.config import SearchConfig
from agentlab.search.tree import worth
from agentlab.search.walk import Player, Walk
from memory.records import Episode


@dataclass
class Known:
    """What is known of a moment: episodes that came through, the sum of their worth, and where actions led.

    `candidates` are the commands to try, none where the game ended, None where that is not known yet. A moment is
    `exhausted` if no way leads from it to one where something is untried: nothing new can be seen there.
    """

    visits: int = 0
    total: float = 0.0
    candidates: list[str] | None = None
    leads: dict[str, Hashable] = field(default_factory=dict)
    exhausted: bool = False

    @property
    def value(self) -> float:
        return self.total / self.visits if self.visits else 0.0


def uct(value: float, visits: int, parent_visits: int, constant: float) -> float:
    """Q + c·sqrt(ln N_parent / N) (Kocsis & Szepesvári 2006; Agent-R has c = 0.25). Infinite without visits."""
    return value + constant * math.sqrt(math.log(max(1, parent_visits)) / visits) if visits else math.inf


def puct(value: float, visits: int, parent_visits: int, prior: float, constant: float) -> float:
    """Q + c·P·sqrt(N_parent) / (1 + N) (Silver et al. 2017)."""
    return value + constant * prior * math.sqrt(parent_visits) / (1 + visits)


def width(visits: int, widening: float | None) -> float:
    """How many commands of a moment are considered after so many visits: ceil((visits + 1) ** widening)
    (progressive widening, Coulom 2007); all without one."""
    return math.inf if widening is None else math.ceil((visits + 1) ** widening)


def mcts(player: Player) -> Iterator[Episode]:
    """Episodes of a tree search, one an iteration, until nothing is left that could be tried."""
    moments = Moments(player.config)
    for iteration in count():
        rng = player.rng("mcts", iteration)
        walk = player.walk()
        path = [moments.key(walk)]
        here = moments.known.get(path[0])
        while not walk.ended:
            if here is not None:
                action = moments.choose(here, player.ranked(walk, rng), walk.commands)
            elif player.config.rollout == "random":
                action = rng.choice(walk.commands)
            else:
                action = player.sample(walk, rng)
            walk.step(action)
            path.append(moments.key(walk))
            if here is not None:
                here.leads[action] = path[-1]  # at once: the same moment may come again in this episode
                here = moments.known.get(path[-1])
        episode = player.keep(walk)
        moments.learn(path, episode)
        yield episode
        if moments.known[path[0]].exhausted:
            return


class Moments:
    """What a search knows of the moments of its task."""

    def __init__(self, config: SearchConfig) -> None:
        self.config = config
        self.known: dict[Hashable, Known] = {}

    def key(self, walk: Walk) -> Hashable:
        """What identifies where `walk` stands: the actions that led there, or with transpositions the state (and
        whether the game was won or lost there)."""
        if self.config.transpositions:
            return walk.state, walk.status if walk.status in ("won", "lost") else None
        return tuple(step.action for step in walk.steps)

    def choose(self, here: Known, ranked: Sequence[tuple[str, float]], commands: Sequence[str]) -> str:
        """The command to take at a known moment: one that was tried there, or of the likeliest others, up to the width.

        `ranked` are the candidates with their priors, the likeliest first, of the `commands` that there are now: calls
        of tools depend on the way that led here. UCT takes the untried first; under PUCT an untried command is expected
        to be worth what the moment is.
        """
        config = self.config
        here.candidates = [action for action, _ in ranked]
        tried = {action: self.known[lead] for action, lead in here.leads.items() if lead in self.known}
        # What is exhausted, or leads back here, has nothing new to show; it neither counts nor is it taken again.
        alive = {action: after for action, after in tried.items() if after is not here and not after.exhausted}
        untried = [action for action in here.candidates if action not in here.leads]
        room = width(here.visits, config.widening) - len(alive)
        fresh = untried[: max(0, int(min(room, len(untried))))]
        if fresh and config.rule == "uct":
            return fresh[0]
        prior = dict(ranked)
        # In the order of `ranked`, so that chance breaks ties; what only a rollout tried is no candidate, but known.
        options = [action for action in prior if action in alive or action in fresh]
        options += [action for action in alive if action not in prior and action in commands]

        def rated(action: str) -> float:
            after = alive.get(action)
            value, visits = (after.value, after.visits) if after is not None else (here.value, 0)
            if config.rule == "uct":
                return uct(value, visits, here.visits, config.constant)
            return puct(value, visits, here.visits, prior.get(action, 0.0), config.constant)

        return max(options or here.candidates, key=rated)

    def learn(self, path: Sequence[Hashable], episode: Episode) -> None:
        """Back up the end of an episode to the moments it passed, once to each, and see what is exhausted by it."""
        value = worth(episode)
        for key in dict.fromkeys(path):
            known = self.known.setdefault(key, Known())
            known.visits += 1
            known.total += value
        for key, step, after in zip(path, episode.steps, path[1:], strict=False):
            self.known[key].leads[step.action] = after
            self.known[key].candidates = self.known[key].candidates or step.admissible
        # A state in which the steps ran out may be met again with steps left.
        if episode.status != "truncated" or not self.config.transpositions:
            self.known[path[-1]].candidates = []
        self._exhaust()

    def _exhaust(self) -> None:
        """Mark the moments from which nothing untried can be reached any more."""
        before: dict[Hashable, list[Hashable]] = {}
        open_ends = []
        for key, known in self.known.items():
            known.exhausted = True
            for lead in known.leads.values():
                before.setdefault(lead, []).append(key)
            if known.candidates is None or any(action not in known.leads for action in known.candidates):
                open_ends.append(key)
        while open_ends:
            key = open_ends.pop()
            if self.known[key].exhausted:
                self.known[key].exhausted = False
                open_ends.extend(before.get(key, ()))
