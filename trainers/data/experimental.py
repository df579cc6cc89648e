"""Preferences by a judge: between attempts, and between judgements of one attempt.

Experimental: no table shows yet that they help.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from memory.records import Episode
from trainers.data.examples import Example
from trainers.data.preferences import Preference, closest, of_tasks
from trainers.data.records import Pair
from trainers.errors import BadExample, SameSides, TooLong

PRIOR = 0.1
"""Battles won by either side of every two, on top of those fought: who never lost has a rating all the same."""


def by_judge(episodes: Iterable[Episode], scores: Mapping[str, float], *, tolerance: float = 0.0) -> list[Preference]:
    """The best attempt at a task against the worst one, by the `scores` of a judge; no reward is looked at.

    `scores` are by the id of the episode; one without is not compared, nor are two that never act differently in the
    same place (see `fork`). Of several that score best or worst those are taken that part last, as `by_reward` does
    (Yuan et al. 2024, Self-Rewarding, §2.3). With a `tolerance` ρ, below .5, the length rule of Meta-Rewarding picks
    (Wu et al. 2024, §2.1): the better side is the shortest of those that score at least (1 − ρ)·best + ρ·worst, the
    worse side the longest of those that score at most (1 − ρ)·worst + ρ·best. Where all score the same there is no
    pair; only the train fold counts.
    """
    found = []
    for tried in of_tasks(episodes):
        played = [episode for episode in tried if episode.id in scores]
        given = [scores[episode.id] for episode in played]
        if not given or max(given) - min(given) < 1e-9:
            continue
        margin = tolerance * (max(given) - min(given)) + 1e-9
        best = [one for one in played if scores[one.id] >= max(given) - margin]
        worst = [one for one in played if scores[one.id] <= min(given) + margin]
        pairs = closest(best, worst)
        if tolerance:
            pairs.sort(key=lambda pair: (len(pair[0].steps), -len(pair[1].steps)))
        for better, worse, shared in pairs[:1]:
            found.append(Preference(better=better, worse=worse, shared=shared, source="judge"))
    return found


class Battle(NamedTuple):
    """A comparison of two items, by their indices, in the order in which they were read; None is no verdict."""

    first: int
    second: int
    first_won: bool | None


def won_battles(battles: Sequence[Battle], count: int, among: Sequence[Battle] | None = None) -> list[list[float]]:
    """The matrix (count, count) of how often each item won against each, weighted against the bias of position.

    A win in first place weighs ω₁ = n₂ / (n₁ + n₂) and one in second place ω₂ = n₁ / (n₁ + n₂), where n₁ and n₂ count
    the wins of each place `among` all battles of the judge, by default these (Wu et al. 2024, Meta-Rewarding, §2.2). A
    judge that always takes the first says nothing.
    """
    verdicts = [battle.first_won for battle in (battles if among is None else among)]
    places = verdicts.count(True), verdicts.count(False)
    wins = [[0.0] * count for _ in range(count)]
    for first, second, first_won in battles:
        if first_won is not None:
            winner, loser = (first, second) if first_won else (second, first)
            wins[winner][loser] += places[first_won] / sum(places)
    return wins


def bradley_terry(wins: Sequence[Sequence[float]], *, prior: float = PRIOR, sweeps: int = 1000) -> list[float]:
    """Bradley–Terry ratings (Elo's, in nats): the ε with the largest Σ wins[i][j] · log σ(ε_i − ε_j); their mean is 0.

    `wins` may be fractions. By minorisation–maximisation (Hunter 2004), with `prior` wins more for either side of every
    two.
    """
    count = len(wins)
    if count < 2:
        return [0.0] * count
    strengths = [1.0] * count
    others = [[j for j in range(count) if j != i] for i in range(count)]
    for _ in range(sweeps):
        before = strengths
        strengths = [
            sum(wins[i][j] + prior for j in others[i])
            / sum((wins[i][j] + wins[j][i] + 2 * prior) / (before[i] + before[j]) for j in others[i])
            for i in range(count)
        ]
        scale = math.exp(math.fsum(map(math.log, strengths)) / count)
        strengths = [strength / scale for strength in strengths]
        if all(abs(now - then) < 1e-12 for now, then in zip(strengths, before, strict=True)):
            break
    return [math.log(strength) for strength in strengths]


def from_judgements(
    episode: Episode, prompt: Sequence[int], better: Sequence[int], worse: Sequence[int], *, max_tokens: int = 1024
) -> Pair:
    """The pair that teaches to judge `episode` as the better of two judgements does; all are tokens as they were read
    and written.

    Raises BadExample where these are not known, SameSides if both say the same, TooLong if it does not fit.
    """
    if not (prompt and better and worse):
        raise BadExample(f"the tokens of the judgements of episode {episode.id} are not known; leave them out")
    if list(better) == list(worse):
        raise SameSides(f"both judgements of episode {episode.id} are the same; leave them out")
    if len(prompt) + max(len(better), len(worse)) > max_tokens:
        raise TooLong(f"a judgement of episode {episode.id} has more than {max_tokens} tokens; raise max_tokens")
    sides = [
        Example(
            token_ids=[*prompt, *said],
            weights=[0.0] * len(prompt) + [1.0] * len(said),
            episode=episode.id,
            task=episode.task_id,
        )
        for said in (better, worse)
    ]
    return Pair(better=sides[0], worse=sides[1])
