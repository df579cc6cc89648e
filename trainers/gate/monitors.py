"""What to watch over the rounds: success, how much of it lies within reach, how varied it is, how far weights drift.

Success can rise while everything else falls: a policy that wins one way, always the same, has nothing left to explore
(B-STaR, Zeng et al. 2025, §2). The samples of a task are to be drawn independently, by one policy at one temperature,
without memory between them, and not ended by the first success.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import NormalDist, stdev
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from memory.records import Episode, Step
from trainers.data.selectors.base import solution
from trainers.gate.statistics import wilson


class Estimate(BaseModel):
    """A mean over `n` things, and its 95 % interval where it has one."""

    model_config = ConfigDict(frozen=True)

    value: float
    n: int
    low: float | None = None
    high: float | None = None


class Monitors(BaseModel):
    """The monitors of a round; None where there was nothing to measure.

    Attributes:
        k, s: of Pass@K and Pass@K-S.
        pass_at_1, pass_at_k, pass_at_k_s: means over tasks, with Wilson's interval for so many tasks; it is wide
            enough, since values between 0 and 1 vary less than wins and losses do.
        too_few: tasks with fewer than k samples, which the latter two leave out.
        successes, distinct: won episodes, and different solutions among them.
        entropy: of the model's distribution over admissible commands, nats, a mean over steps with a choice.
        evenness: the same as a share of the highest that was possible there, in [0, 1].
        drift: MinorSFT's meter, nats a token; positive where the trained text became likelier.
    """

    k: int
    s: int
    pass_at_1: Estimate | None = None
    pass_at_k: Estimate | None = None
    pass_at_k_s: Estimate | None = None
    too_few: int = 0
    successes: int = 0
    distinct: int = 0
    entropy: Estimate | None = None
    evenness: Estimate | None = None
    drift: Estimate | None = None


class Scored(NamedTuple):
    """The log-probability of one answer under the policy and under the base, and its length in tokens."""

    policy: float
    reference: float
    tokens: int


class MonitorConfig(BaseModel):
    """k: samples of Pass@K; s: different successes among them that Pass@K-S asks for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    k: int = Field(4, ge=1)
    s: int = Field(2, ge=1)


def pass_at_k(n: int, correct: int, k: int) -> float:
    """The chance that at least one of k samples is correct, unbiased from n: 1 − C(n−c, k) / C(n, k).

    Chen et al. 2021, eq. 1. Raises ValueError unless 0 ≤ correct ≤ n and 1 ≤ k ≤ n.
    """
    if not 0 <= correct <= n or not 1 <= k <= n:
        raise ValueError(f"0 ≤ correct ≤ n and 1 ≤ k ≤ n are needed; got n = {n}, correct = {correct}, k = {k}")
    return 1 - math.comb(n - correct, k) / math.comb(n, k)


def pass_at_k_s(n: int, copies: Sequence[int], k: int, s: int) -> float:
    """The chance of at least s different correct solutions among k samples, unbiased from n (B-STaR, §2.2).

    `copies` says how often each different correct solution is among the n. All draws of k out of n are counted; with
    s = 1 this is `pass_at_k`. Raises ValueError unless 1 ≤ k ≤ n, s ≥ 1 and the copies are positive and at most n.
    """
    if not 1 <= k <= n or s < 1 or sum(copies) > n or any(count < 1 for count in copies):
        raise ValueError(
            f"1 ≤ k ≤ n, s ≥ 1 and at most n copies are needed; got n = {n}, k = {k}, s = {s}, {list(copies)}"
        )
    # ways[different, drawn]: ways to draw so many samples, of so many different solutions (from s on, the same).
    ways: Counter[tuple[int, int]] = Counter({(0, 0): 1})
    for count in copies:
        grown: Counter[tuple[int, int]] = Counter()
        for (different, drawn), number in ways.items():
            for take in range(min(count, k - drawn) + 1):
                grown[min(s, different + (take > 0)), drawn + take] += number * math.comb(count, take)
        ways = grown
    wrong = n - sum(copies)
    hits = sum(number * math.comb(wrong, k - drawn) for (different, drawn), number in ways.items() if different == s)
    return hits / math.comb(n, k)


def action_entropy(step: Step) -> float | None:
    """Entropy of softmax(scores) over the admissible commands of a step, in nats.

    None where no model scored all of them or there was no choice. Advice does not enter: the model is what is watched.
    """
    scores = step.all_scores
    if not scores or len(scores) < 2:
        return None
    top = max(scores)
    weights = [math.exp(score - top) for score in scores]
    total = math.fsum(weights)
    return -math.fsum(w / total * math.log(w / total) for w in weights if w > 0)


def drift(scored: Iterable[Scored]) -> Estimate | None:
    """How far a policy has drifted from its base: the mean of (1/m)·log(π/π_ref) over answers of m tokens.

    Xie et al. 2024 (MinorSFT); the interval is the normal one. Answers without tokens are left out.
    """
    rates = [(item.policy - item.reference) / item.tokens for item in scored if item.tokens > 0]
    if not rates:
        return None
    mean = math.fsum(rates) / len(rates)
    if len(rates) < 2:
        return Estimate(value=mean, n=1)
    spread = NormalDist().inv_cdf(0.975) * stdev(rates) / math.sqrt(len(rates))
    return Estimate(value=mean, n=len(rates), low=mean - spread, high=mean + spread)


def observe(
    episodes: Iterable[Episode],
    config: MonitorConfig | None = None,
    *,
    correct: Callable[[Episode], bool] = lambda episode: episode.won,
    scored: Iterable[Scored] = (),
) -> Monitors:
    """All monitors over the samples that a round played.

    Errored episodes are no samples, nor are those that were made from others (minimised, relabelled). `correct` decides
    what a success is; a filter put there tells what of it gets through. `scored` are answers for the drift.
    """
    config = config or MonitorConfig()
    tasks: dict[str, list[Episode]] = {}
    for episode in episodes:
        made = episode.minimised_from is not None or episode.relabelled_from is not None
        if not made and episode.status != "errored":
            tasks.setdefault(episode.task_id, []).append(episode)
    counts = {task: Counter(solution(e) for e in played if correct(e)) for task, played in tasks.items()}
    drawn = {task: len(played) for task, played in tasks.items()}
    enough = [task for task in sorted(tasks) if drawn[task] >= config.k]
    choices = [
        (entropy, math.log(len(step.admissible)))
        for played in tasks.values()
        for episode in played
        for step in episode.steps
        if (entropy := action_entropy(step)) is not None
    ]
    return Monitors(
        k=config.k,
        s=config.s,
        pass_at_1=_rate([pass_at_k(drawn[task], counts[task].total(), 1) for task in tasks]),
        pass_at_k=_rate([pass_at_k(drawn[task], counts[task].total(), config.k) for task in enough]),
        pass_at_k_s=_rate(
            [pass_at_k_s(drawn[task], list(counts[task].values()), config.k, config.s) for task in enough]
        ),
        too_few=len(tasks) - len(enough),
        successes=sum(count.total() for count in counts.values()),
        distinct=len({way for count in counts.values() for way in count}),
        entropy=_mean([entropy for entropy, _ in choices]),
        evenness=_mean([entropy / most for entropy, most in choices]),
        drift=drift(scored),
    )


def _mean(values: Sequence[float]) -> Estimate | None:
    return Estimate(value=math.fsum(values) / len(values), n=len(values)) if values else None


def _rate(values: Sequence[float]) -> Estimate | None:
    if not values:
        return None
    low, high = wilson(math.fsum(values), len(values))
    return Estimate(value=math.fsum(values) / len(values), n=len(values), low=low, high=high)
