"""Soft context distillation: what a teacher with the memory in its prompt thought becomes the target of a student
without it (Snell et al. 2022).

A policy over candidates has more to say than the action it took: the log-probabilities with which it chose are
recorded with every step, so the teacher need not be run again. (Hard distillation, the same actions for the bare
prompt, is what `trainers.data.examples.from_episode` makes.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from memory.records import Episode, Step
from trainers.data.examples import Tokenize, command_tokens, cut, join, window
from trainers.data.records import Choice, Distilled
from trainers.errors import BadExample, NothingToChoose


def from_teacher(
    episode: Episode,
    tokenize: Tokenize,
    *,
    temperature: float = 1.0,
    advice: float = 1.0,
    weight: float = 1.0,
    step_weights: Sequence[float] | None = None,
    max_tokens: int = 1024,
) -> Distilled:
    """The record that teaches, for the prompt without the memory block, how `episode` was chosen with it.

    The teacher's probability of a candidate is the softmax over the candidates of score / temperature + advice · bonus,
    where the bonus is what memory added when the step was played; `advice=0` leaves only what the prompt did. A lost
    episode teaches as well as a won one: the target is the policy, not its luck. Steps with a single candidate teach
    nothing, nor do those of which only the best candidate was looked for.

    Raises NothingToChoose if no step has scores, and as `from_episode` does.
    """
    if not (temperature > 0 and math.isfinite(temperature)):
        raise BadExample(
            f"the teacher's temperature is {temperature}; a distribution needs one above 0; 1 is as played"
        )
    head, turns = cut(episode, tokenize)
    of_steps = [1.0] * len(turns) if step_weights is None else step_weights
    if not len(of_steps) == len(turns) == len(episode.steps):
        raise BadExample(
            f"episode {episode.id} has {len(episode.steps)} steps, tokens of {len(turns)} and {len(of_steps)} step "
            "weights; they must be as many; leave the episode out or give a weight a step"
        )
    head, dropped = window(episode, head, [ids for ids, _ in turns], tokenize, max_tokens)
    weights = [weight * of_step for of_step in of_steps[dropped:]]
    example = join(episode, head, turns[dropped:], weights, max_tokens=max_tokens)
    choices, end = [], len(head)
    for step, (ids, chosen), worth in zip(episode.steps[dropped:], turns[dropped:], weights, strict=True):
        if step.all_scores is not None and len(step.admissible) > 1 and worth:
            candidates = [command_tokens(command, tokenize, episode) for command in step.admissible]
            thought = _softmax(_totals(step, temperature, advice))
            choices.append(Choice(at=end + chosen.index(True), candidates=candidates, probabilities=thought))
        end += len(ids)
    if not choices:
        raise NothingToChoose(
            f"no step of episode {episode.id} has both scores and a choice; a teacher's distribution is made of them; "
            "use episodes that a model played"
        )
    return Distilled(example=example, choices=choices)


def _totals(step: Step, temperature: float, advice: float) -> list[float]:
    bonus = step.bonus or [0.0] * len(step.admissible)
    return [score / temperature + advice * extra for score, extra in zip(step.all_scores or (), bonus, strict=True)]


def _softmax(totals: Sequence[float]) -> list[float]:
    top = max(totals)
    shares = [math.exp(total - top) for total in totals]
    return [share / sum(shares) for share in shares]
