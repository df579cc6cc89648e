"""Hindsight relabelling (Colas et al. 2023, LMA3): a failure is a success at the goals that it did reach.

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentlab.engines.model import Model
from agentlab.reflectors.base import reflection_of
from agentlab.reflectors.experimental.goals import Reached, by_worth, proposed, read_off
from agentlab.reflectors.experimental.writing import LINE_LIMIT, CheckedWriter, unnumbered
from agentlab.reflectors.experimental.written import OPENING
from agentlab.reflectors.grounded import quote
from agentlab.text import words
from agentlab.trajectories.advice import GAIN_DISCOUNT, facts_of
from memory import prompts
from memory.records import Advice, Episode, Reflection, Step, Usage, content_id

PROPOSE = (
    "Name up to {most} things that the player did achieve, one a line, as goals that begin with a verb, such as: Take "
    "the key."
)
GOAL_LIMIT = 3  # goals of one episode
SIDE_VALUE = 0.2  # what reaching a goal that serves the task is worth as advice, where the score did not tell


class HindsightReflector:
    """Reflects on the goals that a failed episode did reach, and relabels it as a success at each of them.

    Goals are read off the recorded states; a model that writes proposes more, and those are kept
    that the trajectory bears out (`goals.proposed`). So every goal rests on what the environment showed, and not on a
    model's judgement.

    A reflection tells how the goal was reached. It carries advice only for goals that serve the task (the score rose,
    or the goal speaks of something that the task speaks of), since advice is not asked for its goal when it is used.
    """

    name = "hindsight"
    oracle = True

    def __init__(self, model: Model | None = None, *, goals: int = GOAL_LIMIT) -> None:
        self.writer = CheckedWriter(model) if model is not None else None
        self.goals = goals

    def reached(self, episode: Episode) -> list[Reached]:
        """At most `goals` goals that a failed episode reached, the most telling first."""
        if episode.won or episode.status == "errored" or not episode.steps:
            return []
        found = [*read_off(episode), *self._proposed(episode)]
        return by_worth(list({one.goal.text.casefold(): one for one in reversed(found)}.values()))[: self.goals]

    def reflect(self, episode: Episode) -> list[Reflection]:
        return [
            reflection_of(
                episode,
                kind=self.name,
                text=f"Reached in a game that was not won: {reached.goal.text} It took: {quote(way)}.",
                steps=[step.index for step in way],
                advice=_advice(episode, reached),
                tags=[f"reached:{reached.goal.kind}", *(["proposed"] if reached.proposed else [])],
                goal=reached.goal.text,
            )
            for reached in self.reached(episode)
            if (way := direct(episode.steps[: reached.position + 1]))
        ]

    def relabel(self, episode: Episode) -> list[Episode]:
        """`episode` as a success at each goal that it reached; see `relabelled`."""
        return [relabelled(episode, reached) for reached in self.reached(episode)]

    def _proposed(self, episode: Episode) -> list[Reached]:
        if self.writer is None:
            return []
        report = prompts.report(episode, outcome=False)
        asked = f"{OPENING}\n{report}\n{PROPOSE.format(most=self.goals)}\n"
        lines = self.writer.lines(asked, most=self.goals, limit=LINE_LIMIT)
        found = (proposed(unnumbered(line), episode) for line in lines)
        return [reached for reached in found if reached is not None]


def relabelled(episode: Episode, reached: Reached) -> Episode:
    """The episode up to the step that reached the goal, with that goal as its task, won.

    It names its origin in `relabelled_from` and has neither token ids nor usage, so training renders it anew. It is for
    training only: no agent won its task. Where the game repeats its task in an observation, the new goal stands there.
    What its steps knew of other commands is left out: they were scored and advised for the old goal, so nothing may be
    distilled from that for the new one.
    """
    old, new = episode.goal.strip(), reached.goal.text

    def with_new_goal(text: str) -> str:
        return text.replace(old, new) if old else text

    steps = [
        step.model_copy(
            update={
                "observation": with_new_goal(step.observation),
                "result": with_new_goal(step.result),
                "logprob": None,
                "scores": None,
                "bonus": None,
                "thought": "",
                "token_ids": [],
                "logprobs": [],
            }
        )
        for step in episode.steps[: reached.position + 1]
    ]
    return episode.model_copy(
        update={
            "id": content_id("ep", episode.id, "relabelled", new),
            "goal": new,
            "steps": steps,
            "status": "won",
            "score": 1.0,
            "token_ids": [],
            "action_spans": [],
            "hints": "",
            "recalled": [],
            "usage": Usage(),
            "relabelled_from": episode.id,
        }
    )


def direct(steps: Sequence[Step]) -> list[Step]:
    """`steps` without the circles: whatever led back to a state that had been left is cut out."""
    way: list[Step] = []
    for step in steps:
        back = next((at for at, earlier in enumerate(way) if earlier.state == step.state), None)
        if back is not None:
            del way[back:]
        way.append(step)
    return way


def _advice(episode: Episode, reached: Reached) -> list[Advice]:
    """What the way to the goal advises: a value that fades with the distance, and nothing for other goals' sake."""
    way = direct(episode.steps[: reached.position + 1])
    if reached.goal.kind == "score":
        return [fact for fact in facts_of(way, lost=False) if fact.value > 0]
    if not reached.goal.things & words(episode.goal):
        return []
    last = len(way) - 1
    return [
        Advice(state=step.state, action=step.action, visits=1, value=SIDE_VALUE * GAIN_DISCOUNT ** (last - at))
        for at, step in enumerate(way)
    ]
