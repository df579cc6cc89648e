"""Replay: an episode step by step, with each part of each score, what was recalled, and what came of it."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence

from pydantic import BaseModel

from agentlab.views.home import EpisodeLine, episode_line
from agentlab.views.recalls import RecalledItem, recalled
from agentlab.workspace.workspace import Workspace
from environments.errors import EnvironmentsError
from environments.tools import tool
from memory.records import Episode, Reflection, Step, ToolUse, Usage
from memory.store import EpisodeFilter, EpisodeRow, Filter

SIBLINGS = 200
"""Other plays of the same task that are looked at, the newest."""

COMPARED = 4
"""Of these so many are read whole, to find the first step that differs."""

BORN = 500
"""Reflections on the same task of the same run that are looked at."""


class Option(BaseModel):
    """One command of a step, and the parts of its score.

    `logprob` is the model's (natural log), `bonus` what memory and the loop guard added in nats, `total` what the
    policy ranked by: logprob ÷ temperature + bonus. `probability` is that of being drawn; None where the best was
    taken. `sources` are the reflections of which it is recorded that they first spoke for or against it here.
    """

    command: str
    logprob: float | None
    bonus: float
    total: float | None
    probability: float | None
    chosen: bool
    sources: list[str] = []


class StepView(BaseModel):
    """One step; `options` are ranked, the best first. `tokens` were written, `cut` characters not read. `state` is the
    situation as far as the player can know it (look, inventory, score); `tool` the name of the tool that was called."""

    index: int
    observation: str
    state: str
    note: str
    thought: str
    options: list[Option]
    action: str
    invalid: bool
    tool: str
    logprob: float | None
    result: str
    reward: float
    score: float
    gained: float
    cut: int
    tokens: int
    recalled: list[RecalledItem]


class StepMark(BaseModel):
    """A step in the line of all steps."""

    index: int
    action: str
    score: float
    invalid: bool
    recalled: int


class Sibling(BaseModel):
    """Another play of the same task; `differs_at` is the first step that is not the same there, None if none is, or
    if that was not looked for (`compared` is then false)."""

    episode: EpisodeLine
    relation: str
    trial: int
    compared: bool = False
    differs_at: int | None = None


class Born(BaseModel):
    """A reflection that rests on steps of this episode."""

    id: str
    kind: str
    status: str
    text: str
    steps: list[int]


class Replay(BaseModel):
    """An episode at one step, or some of its steps at once.

    `step` is the first of the steps that are shown. `start` is what stood in the prompt from the beginning, or is
    recorded without a step.
    """

    id: str
    run: str
    task: str
    env: str
    split: str
    seed: int
    trial: int
    arm: str
    engine: str
    adapter: str | None
    temperature: float
    strength: float
    goal: str
    hints: str
    status: str
    score: float
    is_oracle: bool
    error: str | None
    error_kind: str | None
    minimised_from: str | None
    relabelled_from: str | None
    tools: list[ToolUse]
    started_at: str
    seconds: float
    usage: Usage
    command: str
    length: int
    step: int
    steps: list[StepView]
    line: list[StepMark]
    start: list[RecalledItem]
    first_loss: int | None
    siblings: list[Sibling]
    others: int
    born: list[Born]


class SideBySide(BaseModel):
    """An episode, and another one beside it if there is one; `differs_at` is the first step that is not the same."""

    episode: Replay
    beside: Replay | None = None
    differs_at: int | None = None


def side_by_side(workspace: Workspace, id: str, other: str | None, step: int = 0, *, most: int = 1) -> SideBySide:
    """An episode from a step on, and another one at the same steps. Raises UnknownEpisode."""
    if other is None:
        return SideBySide(episode=replay(workspace, id, step, most=most))
    one, two = (replay(workspace, each, step, most=most, around=False) for each in (id, other))
    left, right = (workspace.database.episodes.get(each).steps for each in (one.id, two.id))
    return SideBySide(episode=one, beside=two, differs_at=first_difference(left, right))


def replay(workspace: Workspace, id: str, step: int = 0, *, most: int = 1, around: bool = True) -> Replay:
    """An episode from a step on, `most` steps of it; a step beyond its end is its last.

    Without `around` neither siblings nor reflections are looked for. A beginning of the id is enough. Raises
    UnknownEpisode.
    """
    episode = workspace.database.episodes.get(id)
    items = recalled(workspace, episode)
    first = max(0, min(step, len(episode.steps) - 1))
    siblings, others = _siblings(workspace, episode) if around else ([], 0)
    kept = {name: getattr(episode, name) for name in Replay.model_fields if name in Episode.model_fields}
    counts = [sum(one.step == index for one in items) for index in range(len(episode.steps))]
    return Replay(
        **kept
        | {
            "task": episode.task_id,
            "command": shlex.join(["agentlab", "replay", episode.id, "--lab", str(workspace.folder)]),
            "length": len(episode.steps),
            "step": first,
            "steps": [_step(episode, index, items) for index in range(first, min(first + most, len(episode.steps)))],
            "line": [
                StepMark(index=at, action=one.action, score=one.score, invalid=one.invalid, recalled=counts[at])
                for at, one in enumerate(episode.steps)
            ],
            "start": [one for one in items if one.step is None],
            "first_loss": first_loss(episode.steps),
            "siblings": siblings,
            "others": others,
            "born": _born(workspace, episode) if around else [],
        }
    )


def first_loss(steps: Sequence[Step]) -> int | None:
    """The first step after which the score is lower than before, or the reward is negative; None if there is none."""
    before = 0.0
    for at, step in enumerate(steps):
        if step.score < before or step.reward < 0:
            return at
        before = step.score
    return None


def first_difference(one: Sequence[Step], other: Sequence[Step]) -> int | None:
    """The first step whose observation or action is not the same, or that only one has; None if there is none."""
    for at, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if (mine.observation, mine.action) != (theirs.observation, theirs.action):
            return at
    return None if len(one) == len(other) else min(len(one), len(other))


def options(step: Step, temperature: float, items: Sequence[RecalledItem] = ()) -> list[Option]:
    """The commands of a step with the parts of their scores, the best first, unranked ones as they were listed."""
    soft = temperature if temperature > 0 else 1.0
    length = len(step.admissible)
    # A record from elsewhere may have fewer scores than commands.
    scores = [*(step.scores or ()), *[None] * length][:length]
    bonus = [*(step.bonus or ()), *[0.0] * length][:length]
    totals = [None if one is None else one / soft + more for one, more in zip(scores, bonus, strict=True)]
    known = [total for total in totals if total is not None]
    odds = _softmax(known) if length and len(known) == length and temperature > 0 else None
    found = [
        Option(
            command=command,
            logprob=scores[at],
            bonus=bonus[at],
            total=totals[at],
            probability=odds[at] if odds else None,
            chosen=command == step.action and not step.invalid,
            sources=[one.reflection for one in items if not one.held_out and one.command == command],
        )
        for at, command in enumerate(step.admissible)
    ]
    # Unranked ones stay as they were listed, behind the others.
    return sorted(found, key=lambda option: (option.total is None, -(option.total or 0.0)))


def _softmax(totals: Sequence[float]) -> list[float]:
    top = max(totals)
    weights = [math.exp(total - top) for total in totals]
    return [weight / sum(weights) for weight in weights]


def _step(episode: Episode, at: int, items: Sequence[RecalledItem]) -> StepView:
    step = episode.steps[at]
    here = [one for one in items if one.step == at]
    return StepView(
        index=at,
        observation=step.observation,
        state=step.state,
        note=step.note,
        thought=step.thought,
        options=options(step, episode.temperature, here),
        action=step.action,
        invalid=step.invalid,
        tool=called(episode.env, step.action),
        logprob=step.logprob,
        result=step.result,
        reward=step.reward,
        score=step.score,
        gained=step.score - (episode.steps[at - 1].score if at else 0.0),
        cut=step.cut,
        tokens=len(step.token_ids),
        recalled=here,
    )


def called(env: str, action: str) -> str:
    """The tool whose verb an action begins with, among those that the environment's id names; empty for none."""
    named = re.search(r"[?,]tools=([^,]*)", env)
    for name in named[1].split("+") if named else ():
        try:
            verbs = tool(name.strip()).verbs
        except EnvironmentsError:  # one of a module that is not imported here
            continue
        if any(action == verb or action.startswith(f"{verb} ") for verb in verbs):
            return name.strip()
    return ""


def _siblings(workspace: Workspace, episode: Episode) -> tuple[list[Sibling], int]:
    """Other plays of the same task, the nearest first, and how many more there are of other runs."""
    database = workspace.database
    rows = database.episodes.find(EpisodeFilter(task=episode.task_id), limit=SIBLINGS, newest=True)
    near = [(relation, row) for row in rows if row.id != episode.id and (relation := _relation(episode, row))]
    near.sort(key=lambda pair: (_RELATIONS.index(pair[0]), abs(pair[1].trial - episode.trial), pair[1].arm))
    found = []
    for place, (relation, row) in enumerate(near):
        one = Sibling(episode=episode_line(row), relation=relation, trial=row.trial)
        if place < COMPARED and relation != "shortened form":
            one.compared = True
            one.differs_at = first_difference(episode.steps, database.episodes.load([row.id])[0].steps)
        found.append(one)
    return found, len(rows) - len(near) - 1


_RELATIONS = ("trial", "other arm", "shortened form")


def _relation(episode: Episode, row: EpisodeRow) -> str:
    if row.minimised_from is not None:
        return "shortened form" if row.minimised_from == episode.id else ""
    if _measured(row.run) != _measured(episode.run):
        return ""
    return "trial" if row.arm == episode.arm else "other arm"


def _measured(run: str) -> str:
    """The run itself; of the runs of one evaluation, whose arms without memory are played once for all, one of them."""
    return re.sub(r"-\d+$", "", run) if run.startswith("eval-") else run


def _born(workspace: Workspace, episode: Episode) -> list[Born]:
    """The reflections that rest on steps of this episode. Their task and run are the episode's."""
    wanted = Filter(task=episode.task_id, run=episode.run, status=None, namespace=workspace.config.namespace)
    found = workspace.database.reflections.find(wanted, limit=BORN, newest=True)
    return [one for reflection in found if (one := _rests_on(reflection, episode.id)) is not None]


def _rests_on(reflection: Reflection, episode: str) -> Born | None:
    steps = [source.steps for source in reflection.evidence if source.episode == episode]
    if not steps:
        return None
    return Born(id=reflection.id, kind=reflection.kind, status=reflection.status, text=reflection.text, steps=steps[0])
