"""The grounded reflector: facts read off the trajectory, no model involved.

It tells what changed the score, what had no effect, where the agent went in circles, and which steps led to the loss;
and files all of it as advice on actions in states. Where a thing was found is a sentence of its own, in words that are
the same in every game that shows it: the memory counts them (*The coin was in the kitchen in 12 of 30 games*).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from agentlab.reflectors.base import reflection_of
from agentlab.trajectories.advice import facts_of
from memory.records import Episode, Reflection, Step

MOST_FINDS = 4
"""So many things that were found are told of one episode."""
_PLACE = re.compile(r"-=([^=]+)=-|you are (?:in|at|on) (?:the |an? )?([^.,;!\n]+)", re.IGNORECASE)
"""How text games say where one is: TextWorld's heading of a room, and the sentence of TextWorldExpress."""

LOOP_LENGTH = 3  # the same action more often than this in one state's neighbourhood is a loop (Reflexion's detector)


class GroundedReflector:
    """Reads facts off a finished episode. Every sentence can be checked against the steps it names."""

    name = "grounded"
    oracle = True

    def reflect(self, episode: Episode) -> list[Reflection]:
        if episode.status == "errored" or not episode.steps:
            return []
        sentences: list[str] = []
        evidence: list[int] = []
        for finder in (_gains, _no_effect, _loops, _loss):
            text, steps = finder(episode)
            if text:
                sentences.append(text)
                evidence += steps
        outcome = {"won": "The game was won", "lost": "The game was lost", "truncated": "Time ran out"}[episode.status]
        return [
            reflection_of(
                episode,
                kind=self.name,
                # No numbers of this one game: games that went alike say the same, and are counted.
                text=" ".join([f"{outcome}.", *sentences]),
                steps=evidence,
                advice=facts_of(episode.steps, lost=episode.status == "lost"),
                importance=_importance(episode),
                tags=["facts"],
            ),
            *(
                reflection_of(
                    episode,
                    kind=self.name,
                    text=f"The {thing} was in the {place}.",
                    topic=f"where: {thing}",
                    steps=[index],
                    tags=["facts"],
                )
                for thing, (place, index) in _found(episode).items()
            ),
        ]


def quote(steps: Sequence[Step], limit: int = 6) -> str:
    """The distinct actions of `steps` in order, quoted; at most `limit` of them."""
    actions = list(dict.fromkeys(step.action for step in steps))
    more = f" and {len(actions) - limit} more" if len(actions) > limit else ""
    return ", ".join(f"'{action}'" for action in actions[:limit]) + more


def _gains(episode: Episode) -> tuple[str, list[int]]:
    steps = [step for step in episode.steps if step.reward > 0]
    worse = [step for step in episode.steps if step.reward < 0]
    text = f"What raised the score: {quote(steps)}." if steps else "Nothing raised the score."
    if worse:
        text += f" What lowered it: {quote(worse)}."
    return text, [step.index for step in [*steps, *worse]]


def _found(episode: Episode) -> dict[str, tuple[str, int]]:
    """Where each thing was when it was taken first, and at which step; only where the look says what place it is."""
    finds: dict[str, tuple[str, int]] = {}
    for step in episode.steps:
        thing = step.action.removeprefix("take ").split(" from ")[0].strip().lower()
        if not step.action.startswith("take ") or step.no_effect or not thing or thing in finds:
            continue
        named = ((place[1] or place[2]).strip().lower() for place in _PLACE.finditer(step.state))
        if place := next(filter(None, named), ""):
            finds[thing] = place, step.index
    return dict(list(finds.items())[:MOST_FINDS])


def _no_effect(episode: Episode) -> tuple[str, list[int]]:
    steps = [step for step in episode.steps if step.state == step.next_state and step.reward == 0]
    return (f"What changed nothing: {quote(steps)}.", [step.index for step in steps]) if steps else ("", [])


def _loops(episode: Episode) -> tuple[str, list[int]]:
    counts = Counter((step.state, step.action) for step in episode.steps)
    looped = {pair for pair, count in counts.items() if count >= LOOP_LENGTH}
    steps = [step for step in episode.steps if (step.state, step.action) in looped]
    return (f"Went in circles with {quote(steps)}.", [step.index for step in steps]) if steps else ("", [])


def _loss(episode: Episode) -> tuple[str, list[int]]:
    if episode.status != "lost":
        return "", []
    last = episode.steps[-3:]
    return f"The steps that led to the loss: {quote(last)}.", [step.index for step in last]


def _importance(episode: Episode) -> float:
    """A win teaches most, a loss or a partial score something, an aimless walk little."""
    if episode.status == "won":
        return 1.0
    return round(min(1.0, 0.3 + 0.4 * max(0.0, episode.score) + (0.3 if episode.status == "lost" else 0.0)), 3)
