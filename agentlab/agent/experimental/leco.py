"""LeCo: how sure the model is of a turn, by the probabilities of its tokens; the least sure one is written again
(Yao et al. 2024, Learning From Correctness Without Prompting).

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from agentlab.agent.actors import View
from agentlab.agent.writing import WritingActor, decision
from agentlab.engines.base import Turn
from agentlab.trajectories.transition import Decision
from memory.records import Step, Usage

FIRST = 3
"""Tokens of a turn by which the transition to it is judged."""

TAU = 0.3
"""The power of the divergence."""


def confidence(logprobs: Sequence[float], *, first: int = FIRST, tau: float = TAU) -> float:
    """mean(p) + mean(p₁…p_first) − ln(KL(p/Σp ‖ uniform)^tau + 1), with p the probabilities of a step's tokens.

    At most 2, where each token was certain; minus infinity without tokens.
    """
    if not logprobs:
        return -math.inf
    p = [math.exp(one) for one in logprobs]
    total, n, early = sum(p), len(p), p[:first]
    divergence = max(0.0, sum(one / total * math.log(one / total * n) for one in p if one > 0))
    return total / n + sum(early) / len(early) - math.log(divergence**tau + 1)


def chosen(logprobs: Sequence[float]) -> list[float]:
    """Those of tokens that there was a choice of: what had to be written was certain."""
    return [one for one in logprobs if one < 0]


@dataclass(frozen=True)
class LecoActor(WritingActor):
    """Writes a turn; one of which the model is less sure than of any before in the episode is written again.

    Of `samples` turns then, all but the first at temperature `spread` where the policy's is 0, the surest is taken. An
    engine that gives no log-probabilities has every turn taken as it is.
    """

    samples: int = 3
    name: str = "leco"

    def act(self, view: View) -> Decision:
        temperature = view.policy.temperature_at(view.trial)
        seeds = [view.rng.getrandbits(31) for _ in range(self.samples)]
        earlier = [sureness(step) for step in view.steps if step.logprobs]
        turn, command = self._turn(view, temperature, seeds[0])
        usage: Usage = turn.usage
        if command is None or (earlier and turn.logprobs and sureness(turn) < min(earlier)):
            again = [self._turn(view, temperature or self.spread, seed) for seed in seeds[1:]]
            usage = sum((other.usage for other, _ in again), usage)
            readable = [(other, found) for other, found in again if found is not None]
            first = [(turn, command)] if command is not None or not readable else []
            turn, command = max([*first, *readable], key=lambda pair: sureness(pair[0]))
        if command is None:
            return decision(turn, turn.command or turn.text or "…", view.commands, usage, invalid=True)
        return decision(turn, command, view.commands, usage)


def sureness(turn: Turn | Step) -> float:
    """The confidence of a turn, by the tokens that there was a choice of; where all were certain, by all."""
    return confidence(chosen(turn.logprobs) or turn.logprobs)
