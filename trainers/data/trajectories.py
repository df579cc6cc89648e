"""Episodes as they were played, for on-policy learning: the tokens, and of each where it came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from memory.records import Episode, Step
from trainers.data.examples import Example, Tokenize, Turn, cut, window
from trainers.data.records import OTHERS, OWN, SYSTEM, Trajectory
from trainers.errors import BadExample, TooLong


class Sequenced(NamedTuple):
    """The tokens of an episode: of each its source, and its step (-1 before the first that is left)."""

    token_ids: list[int]
    sources: list[int]
    steps: list[int]
    logprob: float | None
    """Of all own tokens together, as they were played; None where that is not known."""

    @property
    def prompt(self) -> int:
        """How many tokens stand before the first that the agent wrote."""
        return self.sources.index(OWN)

    def weighted(self, advantages: Sequence[float]) -> list[float]:
        """The advantage of each token, those of the steps being given; 0 for what the agent did not write."""
        sourced = zip(self.sources, self.steps, strict=True)
        return [advantages[step] if source == OWN else 0.0 for source, step in sourced]

    def trajectory(self, episode: Episode, advantages: Sequence[float], reward: float, step: int) -> Trajectory:
        """The record of what was learned from it."""
        weights = self.weighted(advantages)
        example = Example(token_ids=self.token_ids, weights=weights, episode=episode.id, task=episode.task_id)
        return Trajectory(example=example, sources=self.sources, reward=reward, step=step)


def sequenced(episode: Episode, tokenize: Tokenize, *, max_tokens: int) -> Sequenced:
    """The tokens of an episode with their sources (LTC, Wang et al. 2023), as they were played.

    The head (task, memory block) is SYSTEM, what the agent wrote OWN, all else OTHERS. A token that had to be written,
    such as the mark between a thought and its command, nobody chose: it is SYSTEM too. A sequence longer than
    `max_tokens` loses its oldest turns, as for an Example.

    Raises BadExample if the episode has no action, or its turns are not those of its steps, TooLong if its last turn
    alone does not fit.
    """
    head, turns = cut(episode, tokenize, with_hints=True)
    if len(turns) != len(episode.steps):
        raise BadExample(f"episode {episode.id} has {len(turns)} turns and {len(episode.steps)} steps; leave it out")
    before, dropped = window(episode, head, [ids for ids, _ in turns], tokenize, max_tokens)
    token_ids, sources, steps = list(before), [SYSTEM] * len(before), [-1] * len(before)
    for at, (turn, step) in enumerate(zip(turns[dropped:], episode.steps[dropped:], strict=True), dropped):
        token_ids += turn[0]
        sources += _sources(turn, step)
        steps += [at] * len(turn[0])
    if len(token_ids) > max_tokens:
        raise TooLong(
            f"the last turn of episode {episode.id} needs {len(token_ids)} tokens with its task; the limit is "
            f"{max_tokens}; raise max_tokens or leave the episode out"
        )
    if OWN not in sources:
        raise BadExample(f"nothing in episode {episode.id} was chosen by who played it; leave it out")
    known = [step.logprob for step in episode.steps[dropped:]]
    total = None if dropped or None in known else sum(value for value in known if value is not None)
    return Sequenced(token_ids, sources, steps, total)


def _sources(turn: Turn, step: Step) -> list[int]:
    ids, chosen = turn
    sources = [OWN if mark else OTHERS for mark in chosen]
    first = len(ids) - len(step.token_ids)
    if step.token_ids and len(step.logprobs) == len(step.token_ids) and ids[first:] == step.token_ids:
        for place, logprob in enumerate(step.logprobs, first):
            if logprob == 0.0 and chosen[place]:  # it was certain: nobody chose it
                sources[place] = SYSTEM
    return sources
