"""Goals that a trajectory reached, each with the predicate on recorded states and results that says so.

Colas et al. 2023 (LMA3) have a model both describe what was reached and judge it. Here a model may propose, but only
the trajectory judges: a goal without a predicate that holds on a step, and did not hold before, is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from agentlab.text import words
from memory.records import Episode, Step

Kind = Literal["score", "deed", "place", "sight"]
KINDS: tuple[Kind, ...] = ("score", "deed", "place", "sight")
LONGEST = 12  # words of a goal that a model proposes

_PLACE = re.compile(
    r"(?:you are|you're|you find yourself)(?: now)? (?:in|at|on|inside) (?P<name>[^.\n]+)", re.IGNORECASE
)
_HOLDING = re.compile(r"^inventory[^:\n]*:(?P<things>.*)$", re.IGNORECASE | re.MULTILINE)
_ARTICLE = re.compile(r"^(?:an?|the|some)\s+", re.IGNORECASE)
_GOING = frozenset({"go", "reach", "enter", "visit", "arrive"})
_SEEING = frozenset({"find", "see", "discover", "spot", "notice"})
_NOT = frozenset({"no", "not", "never", "without", "avoid", "nothing", "don", "stop"})


@dataclass(frozen=True)
class Goal:
    """A goal in words and its predicate.

    `score`: the score is `score` or more. `place`: the player stands where `things` are in the place's name. `sight`:
    the game speaks of all `things`. `deed`: an action that opens with `verb` changed the state, and action and result
    name all `things`.
    """

    text: str
    kind: Kind
    things: frozenset[str] = frozenset()
    verb: str = ""
    score: float = 0.0

    def reached_by(self, step: Step) -> bool:
        """Whether the goal is reached by `step`: it holds afterwards and did not before."""
        if self.kind == "score":
            return step.reward > 0 and step.score >= self.score
        if self.kind == "place":
            return self.things <= words(place(step.next_state)) and not self.things <= words(place(step.state))
        if self.kind == "sight":
            seen = words(f"{step.result}\n{step.next_state}")
            return self.things <= seen and not self.things <= words(f"{step.observation}\n{step.state}")
        said = words(f"{step.action}\n{step.result}")
        return _opens(step.action) == self.verb and self.things <= said and step.state != step.next_state


@dataclass(frozen=True)
class Reached:
    """A goal and the position of the first step that reached it."""

    goal: Goal
    position: int
    proposed: bool = False


def first_reached(goal: Goal, episode: Episode, *, proposed: bool = False) -> Reached | None:
    """Where `episode` first reached `goal`; None if nowhere, if it held from the start, or only in the losing step."""
    steps = episode.steps[:-1] if episode.status == "lost" else episode.steps
    if steps and goal.kind in ("place", "sight"):
        first = steps[0]
        there = place(first.state) if goal.kind == "place" else f"{first.observation}\n{first.state}"
        if goal.things <= words(there):
            return None
    position = next((at for at, step in enumerate(steps) if goal.reached_by(step)), None)
    return None if position is None else Reached(goal, position, proposed)


def read_off(episode: Episode) -> list[Reached]:
    """The goals that the trajectory shows by itself: its best score, what was obtained, where it led; latest first."""
    found = (first_reached(goal, episode) for goal in dict.fromkeys(_shown(episode)))
    return by_worth([reached for reached in found if reached is not None])


def by_worth(found: Sequence[Reached]) -> list[Reached]:
    """The latest goal of each kind (scores, deeds, places, sights), then the next latest of each, and so on."""
    ranked: list[tuple[int, int, Reached]] = []
    for order, kind in enumerate(KINDS):
        of_kind = sorted((one for one in found if one.goal.kind == kind), key=lambda one: -one.position)
        ranked += [(rank, order, one) for rank, one in enumerate(of_kind)]
    return [one for _, _, one in sorted(ranked, key=lambda entry: entry[:2])]


def proposed(text: str, episode: Episode) -> Reached | None:
    """The goal that a model put into words, if the trajectory bears it out."""
    said = re.findall(r"[a-z0-9]+", text.lower())
    if (
        not 2 <= len(said) <= LONGEST
        or _NOT.intersection(said)
        or said == re.findall(r"[a-z0-9]+", episode.goal.lower())
    ):
        return None
    verb, things = said[0], words(" ".join(said[1:]))
    if not things:
        return None
    sentence = f"{text[0].upper()}{text[1:].rstrip('.!')}."
    if verb in _GOING:
        goal = Goal(sentence, "place", things)
    elif verb in _SEEING:
        goal = Goal(sentence, "sight", things)
    else:
        goal = Goal(sentence, "deed", things, verb)
    return first_reached(goal, episode, proposed=True)


def _shown(episode: Episode) -> Iterator[Goal]:
    best = 0.0
    for step in episode.steps:
        if step.reward > 0 and step.score > best:
            best = step.score
        if step.state == step.next_state:
            continue
        where = place(step.next_state)
        if where and where != place(step.state):
            yield Goal(f"Go to {where}.", "place", words(where))
        for thing in sorted(holdings(step.next_state) - holdings(step.state)):
            yield Goal(f"Get the {thing}.", "deed", words(thing), _opens(step.action))
    if best:
        task = episode.goal.strip()
        yield Goal(f"Do a part of this task, up to a score of {best:.2f}. {task}".strip(), "score", score=best)


def place(state: str) -> str:
    """The place that a state says the player is in, such as `the kitchen`; empty if it does not say."""
    found = _PLACE.match(state.strip())
    return found["name"].strip() if found else ""


def holdings(state: str) -> frozenset[str]:
    """What the player holds, where a state has a line `Inventory: a coin, a map`; without articles."""
    found = _HOLDING.search(state)
    things = found["things"].strip(" .").split(",") if found else []
    return frozenset(_ARTICLE.sub("", thing.strip()) for thing in things) - {"", "empty", "nothing"}


def _opens(action: str) -> str:
    """The first word of an action."""
    return next(iter(re.findall(r"[a-z0-9]+", action.lower())), "")
