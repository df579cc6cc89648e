"""Which episodes are trained on, and with what weight.

In the manner of ReST-EM (Singh et al. 2023, §3): a binary filter on success, a cap on solutions of one task, all data
accumulated over the rounds, training restarted from the base each time. Among successes the lowest trial is preferred:
a game won late was often won by elimination, which teaches the wrong thing. Ties are broken at random by seed, not by
length, since the shortest successes are those of the easiest tasks.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from memory.records import Episode

Start = tuple[str, str]


class SelectionConfig(BaseModel):
    """Settings of `select`.

    cap_per_task: at most this many episodes of one task (ReST-EM uses 10).
    cap_per_env: at most this many episodes of one environment; None for all.
    max_trial: episodes won later than in this trial are left out; None for all.
    hindsight: take episodes that were relabelled in hindsight (`Episode.relabelled_from`), after those that were won.
    balance: weigh episodes so that every environment has the same total weight; otherwise every episode weighs 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cap_per_task: int = Field(2, ge=1)
    cap_per_env: int | None = Field(30, ge=1)
    max_trial: int | None = Field(None, ge=0)
    hindsight: bool = False
    balance: bool = False


class Selected(BaseModel):
    """An episode to train on, and the weight of its actions in the loss."""

    model_config = ConfigDict(frozen=True)

    episode: Episode
    weight: float = 1.0


class Selection(BaseModel):
    """What was selected, and how many episodes were left out for which reason."""

    selected: list[Selected]
    left_out: dict[str, int]


def start_of(episode: Episode) -> Start:
    """How a game begins: `(goal, first observation)`. Two tasks that begin alike may be the same game."""
    return episode.goal.strip(), episode.steps[0].observation.strip() if episode.steps else ""


def select(
    episodes: Iterable[Episode], config: SelectionConfig, seed: int, *, held_out: Iterable[Start] = ()
) -> list[Selected]:
    """The episodes to train on; see `survey`, which also tells what was left out."""
    return survey(episodes, config, seed, held_out=held_out).selected


def survey(
    episodes: Iterable[Episode], config: SelectionConfig, seed: int, *, held_out: Iterable[Start] = ()
) -> Selection:
    """Choose the episodes to train on.

    Only won episodes of the train fold with at least one action are taken; of an episode and its minimised form only
    the latter; of episodes with the same start and actions only one; none that begins like a game in `held_out` (small
    games can coincide across folds). The result depends on the set of episodes, the settings and the seed, and not on
    the order in which the episodes come.
    """
    left_out: Counter[str] = Counter()
    pool = {episode.id: episode for episode in episodes}
    replaced = {episode.minimised_from for episode in pool.values()}
    forbidden = {(goal.strip(), observation.strip()) for goal, observation in held_out}

    candidates = []
    for episode in sorted(
        pool.values(), key=lambda e: (e.env, e.relabelled_from is not None, e.trial, _draw(seed, e.id), e.id)
    ):
        reason = _refusal(episode, config, replaced, forbidden)
        if reason:
            left_out[reason] += 1
        else:
            candidates.append(episode)

    chosen: list[Episode] = []
    seen: set[tuple[str, Start, tuple[str, ...]]] = set()
    per_task: Counter[str] = Counter()
    per_env: Counter[str] = Counter()
    for episode in candidates:
        identity = (episode.env, start_of(episode), tuple(episode.actions))
        if identity in seen:
            left_out["duplicate"] += 1
        elif per_task[episode.task_id] >= config.cap_per_task:
            left_out["task is full"] += 1
        elif config.cap_per_env is not None and per_env[episode.env] >= config.cap_per_env:
            left_out["environment is full"] += 1
        else:
            seen.add(identity)
            per_task[episode.task_id] += 1
            per_env[episode.env] += 1
            chosen.append(episode)

    def weight(episode: Episode) -> float:
        return len(chosen) / (len(per_env) * per_env[episode.env]) if config.balance else 1.0

    return Selection(
        selected=[Selected(episode=episode, weight=weight(episode)) for episode in chosen],
        left_out=dict(sorted(left_out.items())),
    )


def _refusal(episode: Episode, config: SelectionConfig, replaced: set[str | None], forbidden: set[Start]) -> str | None:
    """Why this episode is not trained on, whatever the others are; None if it may be."""
    if episode.split != "train":
        return "not of the train fold"
    if not episode.won:
        return "errored" if episode.status == "errored" else "not won"
    if not episode.steps:
        return "no actions"
    if episode.relabelled_from is not None and not config.hindsight:
        return "relabelled"
    if episode.id in replaced:
        return "minimised"
    if config.max_trial is not None and episode.trial > config.max_trial:
        return "won too late"
    if _begins_like(episode, forbidden):
        return "begins like a held-out game"
    return None


def _begins_like(episode: Episode, forbidden: set[Start]) -> bool:
    """A relabelled episode has a goal of its own, so there what the game looks like decides."""
    goal, observation = start_of(episode)
    if episode.relabelled_from is None:
        return (goal, observation) in forbidden
    return any(observation == held_out for _, held_out in forbidden)


def _draw(seed: int, episode_id: str) -> str:
    """A random number that belongs to an episode and a seed, whatever else is in the pool."""
    return hashlib.sha256(f"{seed}:{episode_id}".encode()).hexdigest()
