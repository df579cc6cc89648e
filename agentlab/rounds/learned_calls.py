"""What a round learned to call when: the calls in what it trains on, by tool and environment, with examples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from memory.records import Episode

EXAMPLES = 5
"""Examples of a tool in an environment, those that gained most, no two of one action after one call."""

LONGEST = 400
"""Characters of a text in an example; of what was seen the end, which was read last."""


class LearnedCall(BaseModel):
    """One call: what was seen before it, what it was answered, and the `action` that followed, whose log-probability
    the answer raised by `gain` nats. `episode` is the success that it was written into, `step` its place there."""

    episode: str
    seed: int
    step: int
    seen: str
    call: str
    answer: str
    action: str
    gain: float


class LearnedTool(BaseModel):
    """A tool in an environment: `calls` of it stand in `episodes` of what the round trains on; `gain` is their mean, in
    nats."""

    tool: str
    env: str
    calls: int
    episodes: int
    gain: float
    examples: list[LearnedCall]


def learned(made: Mapping[str, tuple[Episode, Iterable[Any]]]) -> list[LearnedTool]:
    """What the calls teach that were written into successes: by the id of a success its form with calls, and these.

    A tool without a name, as an earlier version entered it, is left out.
    """
    found: dict[tuple[str, str], list[LearnedCall]] = {}
    for id, (episode, calls) in made.items():
        for kept in calls:
            if not kept.tool:
                continue
            step = episode.steps[kept.step]
            one = LearnedCall(
                episode=id,
                seed=episode.seed,
                step=kept.step,
                seen=step.observation[-LONGEST:],
                call=kept.call,
                answer=step.result[:LONGEST],
                action=kept.action,
                gain=kept.gain,
            )
            found.setdefault((kept.tool, episode.env), []).append(one)
    return [
        LearnedTool(
            tool=tool,
            env=env,
            calls=len(calls),
            episodes=len({call.episode for call in calls}),
            gain=sum(call.gain for call in calls) / len(calls),
            examples=_telling(calls),
        )
        for (tool, env), calls in sorted(found.items())
    ]


def _telling(calls: Iterable[LearnedCall]) -> list[LearnedCall]:
    """Those that gained most, each call with each action once."""
    best: dict[tuple[str, str], LearnedCall] = {}
    for call in sorted(calls, key=lambda one: (-one.gain, one.episode, one.step)):
        best.setdefault((call.call, call.action), call)
    return list(best.values())[:EXAMPLES]
