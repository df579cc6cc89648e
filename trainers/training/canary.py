"""The canary: a recorded text whose score proves that an adapter is really on.

An adapter that is silently off is the commonest bug of LoRA training loops: the base model plays while everybody
believes that it learned. So the trainer records how the base and the adapter score one training example, and whoever
loads the adapter must measure the adapter's score again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from trainers.data.examples import Example
from trainers.errors import BadAdapter, CanaryFailed, NothingToTrain

SHARE_OF_GAP = 0.15
"""How far a measurement may be off, as a share of the distance between base and adapter."""

ROUNDING = 0.5
"""What bfloat16, merging and another attention implementation may add up to over one example, in nats."""


class Canary(BaseModel):
    """A text and its scores. Log-probabilities are natural, summed over the tokens in `spans`.

    `spans` are half-open ranges of `token_ids`; `base` is the fingerprint of the base model's weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_ids: list[int] = Field(min_length=2)
    spans: list[tuple[int, int]] = Field(min_length=1)
    base_logprob: float
    adapter_logprob: float
    base: str

    @property
    def tolerance(self) -> float:
        """The largest accepted distance of a measurement from the recorded score, in nats."""
        return SHARE_OF_GAP * abs(self.adapter_logprob - self.base_logprob) + ROUNDING

    @property
    def discriminates(self) -> bool:
        """True if the base itself would fail the check; false only where the adapter changed next to nothing."""
        return abs(self.adapter_logprob - self.base_logprob) > self.tolerance

    def check(self, measured: float) -> None:
        """Compare a fresh measurement with the recorded one. Raises CanaryFailed if they differ too much."""
        # Written so that not-a-number fails as well.
        if abs(measured - self.adapter_logprob) <= self.tolerance:
            return
        like_base = abs(measured - self.base_logprob) <= self.tolerance
        cause = "the base model answers, so the adapter is off" if like_base else "another adapter or base is loaded"
        raise CanaryFailed(
            f"canary scored {measured:.2f}, the trainer measured {self.adapter_logprob:.2f} ± {self.tolerance:.2f}; "
            f"{cause}; load the adapter again on the base it was trained on, or train it again"
        )

    @classmethod
    def load(cls, path: Path) -> Canary:
        """Read a canary. Raises BadAdapter if it is missing or damaged."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise BadAdapter(f"no usable canary at {path}; {reason}; train the adapter again") from error

    def save(self, path: Path) -> None:
        """Write the canary as JSON."""
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


def make(
    examples: Sequence[Example],
    base_score: Callable[[Example], float],
    adapter_score: Callable[[Example], float],
    base: str,
    *,
    tried: int = 4,
) -> Canary:
    """Record the example on which base and adapter differ most, among the first `tried` that carry loss.

    The two functions give the summed log-probability of an example's chosen tokens. Raises NothingToTrain if no
    example carries loss.
    """
    best: Canary | None = None
    for example in [example for example in examples if example.spans][:tried]:
        canary = Canary(
            token_ids=example.token_ids,
            spans=example.spans,
            base_logprob=base_score(example),
            adapter_logprob=adapter_score(example),
            base=base,
        )
        if best is None or _gap(canary) > _gap(best):
            best = canary
    if best is None:
        raise NothingToTrain("no example carries loss; a canary needs chosen tokens; check the examples' weights")
    return best


def _gap(canary: Canary) -> float:
    return abs(canary.adapter_logprob - canary.base_logprob)
