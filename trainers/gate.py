"""The gate: whether a candidate adapter may replace the one that serves, decided on held-out tasks.

Candidate and incumbent play the same tasks with the same seeds, and the pairs are compared (McNemar 1947): a round of
training can hurt (ReST-MCTS*, Zhang et al. 2024, reports 29.3 → 31.1 → 24.4 on MATH), and unpaired rates of few games
would not show it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from pydantic import BaseModel, ConfigDict, Field

from trainers.errors import NotComparable
from trainers.statistics import Paired, paired, wilson

Results = Mapping[Hashable, bool | None]
"""Won or not, by task id or by (task id, seed); None where the environment failed."""


class GateConfig(BaseModel):
    """Settings of the gate.

    alpha: the two-sided p-value of the paired test must lie below this.
    min_pairs: with fewer usable pairs nothing is promoted.
    refuse_regressions: also refuse a candidate that is worse than the incumbent, at the same alpha, on any single
        environment.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(0.05, gt=0.0, lt=1.0)
    min_pairs: int = Field(20, ge=1)
    refuse_regressions: bool = True


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

    def __str__(self) -> str:
        return f"{self.won}/{self.n} = {self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


class GateResult(BaseModel):
    """The decision and everything it rests on.

    `paired.only_a` counts the pairs that only the candidate won. `envs` holds the same comparison for every
    environment, `regressions` names those where the candidate is worse at alpha. `errored` pairs were left out since
    the environment failed for one side; `unpaired` are tasks that only one side played.
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


def rate(won: int, n: int) -> Rate:
    """`won` of `n` with its Wilson 95 % interval."""
    low, high = wilson(won, n)
    return Rate(won=won, n=n, low=low, high=high)


def decide(candidate: Results, incumbent: Results, config: GateConfig | None = None) -> GateResult:
    """Compare candidate and incumbent, task by task, and say whether the candidate may serve.

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
    regressions = [env for env, part in envs.items() if part.difference < 0 and part.p < config.alpha]
    promote, reason = _verdict(whole, regressions, config)
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
    )


def _verdict(whole: Paired, regressions: list[str], config: GateConfig) -> tuple[bool, str]:
    if whole.n < config.min_pairs:
        return False, f"only {whole.n} usable pairs; the gate needs {config.min_pairs}; play more held-out tasks"
    low, high = whole.interval
    facts = (
        f"won {whole.both + whole.only_a} of {whole.n} against {whole.both + whole.only_b}, "
        f"{100 * whole.difference:+.0f} points [{100 * low:+.0f}, {100 * high:+.0f}], p = {whole.p:.2g}"
    )
    if whole.difference <= 0:
        return False, f"not better than the incumbent: {facts}"
    if whole.p >= config.alpha:
        return False, f"better, but it could be chance (p must be below {config.alpha:g}): {facts}"
    if regressions and config.refuse_regressions:
        return False, f"better in all, but worse on {', '.join(regressions)}: {facts}"
    return True, f"better: {facts}"


def _env(key: Hashable) -> str:
    """The environment of a task id `env:split:seed`, alone or with a seed beside it."""
    task = key[0] if isinstance(key, tuple) else key
    return str(task).split(":", 1)[0]
