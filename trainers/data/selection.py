"""Which episodes are trained on, and with what weight.

First what may never be trained on is left out, whatever the others are. Then come the selectors of the settings, in
their order; without any, duplicates and caps, in the manner of ReST-EM (Singh et al. 2023, §3): a binary filter on
success, a cap on solutions of one task, all data accumulated over the rounds, training restarted from the base each
time. Among successes the lowest trial is preferred: a game won late was often won by elimination, which teaches the
wrong thing. Ties are broken at random by seed, not by length, since the shortest successes are those of the easiest
tasks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from memory.records import Episode
from trainers.data.selectors import (
    Cap,
    Context,
    Dedupe,
    Diversity,
    Importance,
    Rehearsal,
    Selected,
    Selection,
    Selector,
    Shortest,
    Spread,
    StepValues,
    Threshold,
    Uncertainty,
    Votes,
    Won,
    chain,
)
from trainers.data.selectors.base import Start, start_of, starts_of
from trainers.data.selectors.caps import admit

AnySelector = Annotated[
    Cap
    | Dedupe
    | Diversity
    | Importance
    | Rehearsal
    | Shortest
    | Spread
    | StepValues
    | Threshold
    | Uncertainty
    | Votes
    | Won,
    Field(discriminator="kind"),
]


class SelectionConfig(BaseModel):
    """Settings of `select`.

    cap_per_task: at most this many episodes of one task (ReST-EM uses 10).
    cap_per_env: at most this many episodes of one environment; None for all.
    max_trial: episodes won later than in this trial are left out; None for all.
    hindsight: take episodes that were relabelled in hindsight (`Episode.relabelled_from`), after those that were won.
    only_won: leave out what was not won, save revisions that reached what was asked of them (`Selected.admitted`).
        None: so, unless a selector is named that decides it, `threshold` or `votes`.
    selectors: the steps after that, in their order; they take the place of duplicates and caps, which they can name
        themselves (`dedupe`, `cap`). For example `[{kind = "threshold", at = [0.3, 0.6, 0.9]}, {kind = "dedupe"}]`.
    balance: at the end, weigh episodes so that every environment has the same total weight.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cap_per_task: int = Field(2, ge=1)
    cap_per_env: int | None = Field(30, ge=1)
    max_trial: int | None = Field(None, ge=0)
    hindsight: bool = False
    only_won: bool | None = None
    selectors: list[AnySelector] | None = None
    balance: bool = False

    @property
    def wins_only(self) -> bool:
        """Whether what was not won is left out before the selectors come: as `only_won` says, or as it follows."""
        if self.only_won is not None:
            return self.only_won
        return not any(isinstance(selector, Threshold | Votes) for selector in self.selectors or ())

    @model_validator(mode="after")
    def _capped_in_one_place(self) -> SelectionConfig:
        fields = type(self).model_fields
        changed = [name for name in ("cap_per_task", "cap_per_env") if getattr(self, name) != fields[name].default]
        if self.selectors is not None and changed:
            raise ValueError(f"{' and '.join(changed)} cannot stand beside selectors; add one of kind 'cap' to them")
        return self


def select(
    episodes: Iterable[Episode], config: SelectionConfig, seed: int, *, held_out: Iterable[Start] = ()
) -> list[Selected]:
    """The episodes to train on; see `survey`, which also tells what was left out."""
    return survey(episodes, config, seed, held_out=held_out).selected


def survey(
    episodes: Iterable[Episode | Selected],
    config: SelectionConfig,
    seed: int,
    *,
    held_out: Iterable[Start] = (),
    context: Context | None = None,
) -> Selection:
    """Choose the episodes to train on.

    Only episodes of the train fold with at least one action are taken, and unless the settings say otherwise only won
    ones; of an episode and its minimised form only the latter; none that begins like a game in `held_out` (small games
    can coincide across folds); then the selectors decide. An episode may come with weights, as `Selected`. `context` is
    what selectors know of the round; its seed is `seed`. The result depends on the set of episodes, the settings and
    the seed, and not on the order in which the episodes come.

    Raises CannotSelect if a selector needs what the context does not hold.
    """
    given = (item if isinstance(item, Selected) else Selected(episode=item) for item in episodes)
    pool = {item.episode.id: item for item in given}
    context = replace(context or Context(), seed=seed)
    replaced = {item.episode.minimised_from for item in pool.values()}
    forbidden = starts_of(held_out)
    anchors = [episode for episode in context.anchors if not _refusal(episode, config, set(), forbidden)]
    context = replace(context, anchors=anchors)

    left_out: Counter[str] = Counter()
    candidates = []
    for item in pool.values():
        reason = _refusal(item.episode, config, replaced, forbidden, admitted=item.admitted)
        if reason:
            left_out[reason] += 1
        else:
            candidates.append(item)

    selectors: Sequence[Selector] = [_usual(config)] if config.selectors is None else config.selectors
    chosen = chain(candidates, selectors, context)
    left_out.update(chosen.left_out)
    selected = _balanced(chosen.selected) if config.balance else chosen.selected
    return chosen.model_copy(update={"selected": selected, "left_out": dict(sorted(left_out.items()))})


def _usual(config: SelectionConfig) -> Selector:
    def step(pool: Sequence[Selected], context: Context) -> Selection:
        return admit(pool, context, per_task=config.cap_per_task, per_env=config.cap_per_env)

    return step


def _balanced(selected: list[Selected]) -> list[Selected]:
    """The same total weight for each environment, and the same as before for all together."""
    weights: dict[str, list[float]] = {}
    for item in selected:
        weights.setdefault(item.episode.env, []).append(item.weight)
    totals = {env: math.fsum(parts) for env, parts in weights.items()}
    share = math.fsum(totals.values()) / max(len(totals), 1)
    return [item.times(share / totals[item.episode.env]) if totals[item.episode.env] else item for item in selected]


def _refusal(
    episode: Episode,
    config: SelectionConfig,
    replaced: set[str | None],
    forbidden: Set[Start],
    *,
    admitted: bool = False,
) -> str | None:
    """Why this episode is not trained on, whatever the others are; None if it may be."""
    if episode.split != "train":
        return "not of the train fold"
    if episode.status == "errored":
        return "errored"
    if config.wins_only and not (episode.won or admitted):
        return "not won"
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


def _begins_like(episode: Episode, forbidden: Set[Start]) -> bool:
    """A relabelled episode has a goal of its own, so there what the game looks like decides."""
    goal, observation = start_of(episode)
    if episode.relabelled_from is None:
        return (goal, observation) in forbidden
    return any(observation == held_out for _, held_out in forbidden)
