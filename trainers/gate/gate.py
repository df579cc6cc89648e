"""The gate: whether a candidate adapter may replace the one that serves, decided on held-out tasks.

Candidate and incumbent play the same tasks with the same seeds, and the pairs are compared (McNemar 1947): a round of
training can hurt (ReST-MCTS*, Zhang et al. 2024, reports 29.3 → 31.1 → 24.4 on MATH), and unpaired rates of few games
would not show it. The pairs are compared once, when all are played (`decide`), or several times, until the answer is
clear (`SequentialGate`).

What serves is challenged by one candidate after the other, and each could pass by chance. So the k-th challenge of one
incumbent is held to `alpha / (k (k + 1))`, one-sided: these add up to alpha, and what serves is ever replaced by
something that is not better with a probability of at most alpha, however many challenge it. A promotion begins a new
count, since there is a new incumbent. That is an alpha-investing rule (Foster & Stine 2008): of what is promoted, the
share that is not better, E[V] / (E[R] + 1), is at most alpha. It needs games for each challenge that no earlier one
has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

from pydantic import BaseModel, ConfigDict, Field

from memory.records import task_parts
from trainers.errors import NotComparable
from trainers.gate.sequential import Boundary, predictive_power
from trainers.gate.statistics import Paired, mcnemar, p_text, paired, wilson

Results = Mapping[Hashable, bool | None]
"""Won or not, by task id or by (task id, seed); None where the environment failed."""

LEANS_WORSE = 0.5
"""A p-value below this, on one environment and to the worse, holds an early promotion up: 3 pairs lost and none won."""


class GateConfig(BaseModel):
    """Settings of the gate.

    alpha: the probability with which what serves may be replaced by something that is not better, over all looks and
        all challenges together. The first challenge has half of it (as a two-sided p-value below alpha), later ones
        less (see `level`).
    min_pairs: with fewer usable pairs nothing is promoted.
    refuse_regressions: also refuse a candidate that is worse than the incumbent, at a two-sided p-value below alpha, on
        any single environment.
    sequential: look several times and stop when the answer is clear; otherwise all pairs are played, and compared once.
    looks: how many times, at most.
    futility: a sequential gate also stops when the predicted probability of passing it falls below this.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(0.05, gt=0.0, lt=1.0)
    min_pairs: int = Field(20, ge=1)
    refuse_regressions: bool = True
    sequential: bool = True
    looks: int = Field(5, ge=1, le=50)
    futility: float = Field(0.05, ge=0.0, lt=1.0)

    def level(self, challenge: int = 1) -> float:
        """What the two-sided p-value of the `challenge`-th candidate against one incumbent must lie below."""
        if challenge < 1:
            raise ValueError(f"challenges count from 1; got {challenge}")
        return 2 * self.alpha / (challenge * (challenge + 1))

    def least_pairs(self, challenge: int = 1) -> int:
        """With how many pairs, all won by the candidate alone, the gate can be passed; with fewer it never is."""
        pairs = self.min_pairs
        while mcnemar(pairs, 0) >= self.level(challenge):
            pairs += 1
        return pairs


class Rate(BaseModel):
    """A success rate with its Wilson 95 % interval."""

    won: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The rate itself; 0 without trials."""
        return self.won / self.n if self.n else 0.0

    @property
    def brief(self) -> str:
        """The rate and its interval, where n stands elsewhere."""
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"

    def __str__(self) -> str:
        return f"{self.won}/{self.n} = {self.brief}"


class Look(BaseModel):
    """What a sequential gate saw when `played` of the planned pairs were played.

    `needed` is how many pairs the candidate must have won alone to be better (None: no number would do yet), `spent`
    the one-sided error spent by now, `chance` the predicted probability that the gate is passed in the end.
    """

    played: int
    usable: int
    only_candidate: int
    only_incumbent: int
    needed: int | None
    spent: float
    chance: float


class GateResult(BaseModel):
    """The decision and everything it rests on.

    `paired.only_a` counts the pairs that only the candidate won. `envs` holds the same comparison for every
    environment, `regressions` names those where the candidate is worse at alpha. `errored` pairs were left out since
    the environment failed for one side; `unpaired` are tasks that only one side played. `challenge` counts the
    candidates against this incumbent, this one included.
    """

    promote: bool
    reason: str
    candidate: Rate
    incumbent: Rate
    paired: Paired
    envs: dict[str, Paired]
    regressions: list[str]
    errored: int
    unpaired: int
    config: GateConfig
    looks: list[Look] = []
    planned: int = 0
    saved: int = 0
    challenge: int = 1

    @property
    def level(self) -> float:
        """What the two-sided p-value had to lie below."""
        return self.config.level(self.challenge)


def rate(won: int, n: int) -> Rate:
    """`won` of `n` with its Wilson 95 % interval."""
    low, high = wilson(won, n)
    return Rate(won=won, n=n, low=low, high=high)


def decide(
    candidate: Results, incumbent: Results, config: GateConfig | None = None, *, challenge: int = 1
) -> GateResult:
    """Compare candidate and incumbent, task by task, and say whether the candidate may serve.

    `challenge` counts the candidates against this incumbent, this one included.

    Raises NotComparable if both have results but not one task in common.
    """
    config = config or GateConfig()
    shared = candidate.keys() & incumbent.keys()
    if not shared and candidate and incumbent:
        raise NotComparable(
            f"candidate ({len(candidate)} tasks) and incumbent ({len(incumbent)} tasks) share no task; "
            "they can only be compared in pairs; play the same tasks with both"
        )
    usable = [key for key in shared if candidate[key] is not None and incumbent[key] is not None]
    ours = {key: bool(candidate[key]) for key in usable}
    theirs = {key: bool(incumbent[key]) for key in usable}
    whole = paired(ours, theirs)
    envs = {
        env: paired({key: ours[key] for key in usable if _env(key) == env}, theirs)
        for env in sorted({_env(key) for key in usable})
    }
    regressions = [env for env, part in envs.items() if part.lost(config.alpha)]
    promote, reason = _verdict(whole, regressions, config, config.level(challenge))
    return GateResult(
        promote=promote,
        reason=reason,
        candidate=rate(whole.both + whole.only_a, whole.n),
        incumbent=rate(whole.both + whole.only_b, whole.n),
        paired=whole,
        envs=envs,
        regressions=regressions,
        errored=len(shared) - len(usable),
        unpaired=len(candidate.keys() ^ incumbent.keys()),
        config=config,
        planned=len(shared),
        challenge=challenge,
    )


def swayed(
    promote: bool, candidate: Results, incumbent: Results, judge: Callable[[Results, Results], bool | None]
) -> bool:
    """Whether what errored could turn the decision: it would not be `promote` if all of that spoke against it.

    `judge` decides on results of which none is unknown; None where it would want more.
    """
    if None not in candidate.values() and None not in incumbent.values():
        return False
    ours = {key: not promote if won is None else won for key, won in candidate.items()}
    theirs = {key: promote if won is None else won for key, won in incumbent.items()}
    return judge(ours, theirs) != promote


class SequentialGate:
    """A gate that looks at what was played so far, and says when no more is needed.

    Args:
        planned: the pairs that are played if it never stops early.
        config: its settings.
        challenge: counts the candidates against this incumbent, this one included.

    It promotes early a candidate that reached its bound (`trainers.gate.sequential`) and leans to the worse on no
    environment (`LEANS_WORSE`). One that does is played on, and whether it regressed is judged once, on all pairs. It
    gives up early when the predicted probability of passing falls below `config.futility`. The same results give the
    same looks, so that a gate that was killed goes on as if nothing had happened.
    """

    def __init__(self, planned: int, config: GateConfig | None = None, *, challenge: int = 1) -> None:
        self.planned = planned
        self.config = config or GateConfig()
        self.challenge = challenge
        self.looks: list[Look] = []
        self._error = self.config.level(challenge) / 2
        self._boundary = Boundary(self._error)
        self._better: Look | None = None
        """The look at which the candidate had won enough."""

    def look(self, candidate: Results, incumbent: Results) -> GateResult | None:
        """Look at all results so far: the decision, or None if more pairs must be played. Raises as `decide` does."""
        found = decide(candidate, incumbent, self.config, challenge=self.challenge)
        whole, played = found.paired, found.planned
        last = played >= self.planned
        needed = None
        if whole.n >= self.config.min_pairs:
            needed = self._boundary.look(whole.only_a + whole.only_b, min(1.0, played / self.planned))
        # What errored has taken its pair with it: only what is still to be played can bring more.
        chance = predictive_power(whole.only_a, whole.only_b, whole.n, whole.n + self.planned - played, self._error)
        seen = Look(
            played=played, usable=whole.n, only_candidate=whole.only_a, only_incumbent=whole.only_b, needed=needed,
            spent=self._boundary.spent, chance=chance,
        )  # fmt: skip
        self.looks.append(seen)
        if self._better is None and needed is not None and whole.only_a >= needed:
            self._better = seen
        better = self._better is not None and whole.difference > 0
        doubt = self.config.alpha if last else LEANS_WORSE
        spoils = any(part.lost(doubt) for part in found.envs.values())
        promote = better and not (spoils and self.config.refuse_regressions)
        hopeless = self._better is None and chance < self.config.futility
        if not (last or promote or hopeless):
            return None
        return found.model_copy(
            update={
                "promote": promote,
                "reason": self._reason(found, promote),
                "looks": self.looks,
                "planned": self.planned,
                "saved": self.planned - played,
            }
        )

    def _reason(self, found: GateResult, promote: bool) -> str:
        """In words; `found` is what a fixed gate would say to the same pairs."""
        seen, whole = self.looks[-1], found.paired
        facts = f"{_facts(whole)}; look {len(self.looks)}, {seen.played} of {self.planned} pairs played"
        if promote and self._better is not None:
            enough = f"{self._better.needed} of {self._better.only_candidate + self._better.only_incumbent}"
            return f"better: {facts}, {enough} that only one side won would do"
        if seen.played < self.planned:
            return f"passing has become unlikely (predicted {seen.chance:.2g}): {facts}"
        if whole.n < self.config.min_pairs:
            return found.reason
        if whole.difference <= 0:
            return f"not better than the incumbent: {facts}"
        if self._better is None:
            needed = "more" if seen.needed is None else seen.needed
            return f"better, but it could be chance (won {whole.only_a} pairs alone, needed {needed}): {facts}"
        return f"better in all, but worse on {', '.join(found.regressions)}: {facts}"


def _verdict(whole: Paired, regressions: list[str], config: GateConfig, level: float) -> tuple[bool, str]:
    if whole.n < config.min_pairs:
        return False, f"only {whole.n} usable pairs; the gate needs {config.min_pairs}; play more held-out tasks"
    facts = f"{_facts(whole)}, p (McNemar) {p_text(whole.p, '= ')}"
    if whole.difference <= 0:
        return False, f"not better than the incumbent: {facts}"
    if whole.p >= level:
        return False, f"better, but it could be chance (p must be below {level:.2g}): {facts}"
    if regressions and config.refuse_regressions:
        return False, f"better in all, but worse on {', '.join(regressions)}: {facts}"
    return True, f"better: {facts}"


def _facts(whole: Paired) -> str:
    low, high = whole.interval
    return (
        f"won {whole.both + whole.only_a} of {whole.n} against {whole.both + whole.only_b}, "
        f"{100 * whole.difference:+.0f} points [{100 * low:+.0f}, {100 * high:+.0f}]"
    )


def _env(key: Hashable) -> str:
    """The environment of a task id `env:split:seed`, alone or with a seed beside it."""
    task = key[0] if isinstance(key, tuple) else key
    return task_parts(str(task)).env
