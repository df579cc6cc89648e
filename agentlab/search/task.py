"""The search of one task, by any method, within a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agentlab.engines.model import Model
from agentlab.errors import OutOfBudget
from agentlab.failures import FAILURES, kind_of
from agentlab.search.config import Method, SearchConfig
from agentlab.search.experimental.deepening import deepening
from agentlab.search.experimental.sampling import best_of_n, self_explore
from agentlab.search.mcts import mcts
from agentlab.search.tree import worth
from agentlab.search.walk import Player
from agentlab.trajectories.advice import AdviceBook
from agentlab.trajectories.budget import Budget, Cost
from environments import Task, TextEnv
from memory.prompts import Prompting
from memory.records import Episode, ErrorKind

_METHODS: dict[Method, Callable[[Player], Iterator[Episode]]] = {
    "mcts": mcts,
    "best_of_n": best_of_n,
    "deepening": deepening,
    "self_explore": self_explore,
}


@dataclass(frozen=True)
class Found:
    """What the search of one task came to.

    Attributes:
        episodes: all that were played to their end, in order, and one that errored, if one did.
        cost: what it cost.
        book: the advice that its episodes gave.
        error: why it ended early; None if it did not. error_kind: of which kind that is.
    """

    task: Task
    episodes: list[Episode]
    cost: Cost
    book: AdviceBook
    error: str | None = None
    error_kind: ErrorKind | None = None

    @property
    def successes(self) -> list[Episode]:
        """Won episodes with different actions, in order."""
        won = (episode for episode in self.episodes if episode.won)
        return list({tuple(episode.actions): episode for episode in reversed(list(won))}.values())[::-1]

    @property
    def best(self) -> Episode | None:
        """The episode that is worth most; of equals the shortest, of these the first. None without any."""
        played = [episode for episode in self.episodes if episode.status != "errored"]
        return max(played, key=lambda episode: (worth(episode), -len(episode.steps)), default=None)

    def relabelled(self) -> list[Episode]:
        """Its failures as successes at the goals that they did reach (hindsight, Colas et al. 2023)."""
        from agentlab.reflectors.experimental.hindsight import HindsightReflector

        relabel = HindsightReflector().relabel
        return [made for episode in self.episodes if not episode.won for made in relabel(episode)]


def search_task(
    env: TextEnv,
    task: Task,
    *,
    method: Method = "mcts",
    model: Model | None = None,
    budget: Budget | None = None,
    seed: int = 0,
    config: SearchConfig | None = None,
    run: str = "",
    prompting: Prompting | None = None,
) -> Found:
    """Search `task` until it is won `config.wins` times, the budget is spent, or `config.iterations` were played.

    The model's probabilities are the prior and the rollout policy, as it reads the game by `prompting`; without a model
    chance plays, and no calls are counted. The result depends on the arguments alone. An environment or an engine that
    fails, or a replay that is answered otherwise than before, ends the search with what it had found.

    Self-Explore ends by itself; its probes ask what the policy can do, so no advice speaks in them.
    """
    config = config or SearchConfig()
    if method == "self_explore":
        config = config.model_copy(update={"advice": False})
    player = Player(env, task, model, config, budget or Budget(), run=run, arm=method, seed=seed, prompting=prompting)
    error, kind, won = None, None, set[tuple[str, ...]]()
    try:
        for episode in _METHODS[method](player):
            if episode.won:
                won.add(tuple(episode.actions))
            if not episode.steps:
                break  # the game is over before it begins
            if len(player.episodes) == config.iterations or (method != "self_explore" and len(won) >= config.wins):
                break
    except OutOfBudget:
        pass
    except FAILURES as failure:
        error, kind = str(failure), kind_of(failure)
        player.fail(failure)
    return Found(task, player.episodes, player.meter.cost, player.book, error, kind)
