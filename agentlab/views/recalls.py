"""Recalls of an episode: which reflections had a part in it, from which step on, and by what they were chosen."""

from __future__ import annotations

from pydantic import BaseModel

from agentlab.workspace.workspace import Workspace
from memory.errors import UnknownReflection
from memory.records import Episode, Recall, Reflection


class RecalledItem(BaseModel):
    """A reflection that was recalled for an episode, with its text as it is now.

    `step` is where it first had a part; None for what stood in the prompt from the beginning, and for action priors of
    which no step was recorded. `parts` are those of its `score`: for a text or an example as a search has them, for an
    action prior the `bonus` in nats, the place of the `command` that it first spoke of, and the `cosine` of the states
    where it comes from another task. What was `held_out` was chosen, but not served, with this `propensity` of being
    served. `kind` and `status` are empty where the reflection is gone.
    """

    reflection: str
    channel: str
    step: int | None
    rank: int
    query: str
    score: float
    parts: dict[str, float]
    held_out: bool
    propensity: float
    won: bool | None
    at: str
    command: str = ""
    kind: str = ""
    status: str = ""
    text: str = ""


class EpisodeRecalls(BaseModel):
    """What was recalled for an episode, or had a part at one `step` of it."""

    episode: str
    task: str
    step: int | None
    recalls: list[RecalledItem]


def recalls(workspace: Workspace, episode: str, step: int | None = None) -> EpisodeRecalls:
    """What was recalled for an episode; with a `step`, what first had a part there, or stood in its prompt anyway.

    A beginning of the episode's id is enough. Raises UnknownEpisode.
    """
    found = workspace.database.episodes.get(episode)
    items = [one for one in recalled(workspace, found) if step is None or one.step in (None, step)]
    return EpisodeRecalls(episode=found.id, task=found.task_id, step=step, recalls=items)


def recalled(workspace: Workspace, episode: Episode) -> list[RecalledItem]:
    """What was recalled for an episode: what stood in the prompt first, then step by step."""
    found = workspace.database.recalls.of_episode(episode.id)
    known = {id: _reflection(workspace, id) for id in {one.reflection for one in found}}
    ranked = sorted(found, key=lambda one: (-1 if one.step is None else one.step, one.channel, one.rank))
    return [_item(one, known[one.reflection], episode) for one in ranked]


def _item(one: Recall, reflection: Reflection | None, episode: Episode) -> RecalledItem:
    own = {} if reflection is None else {name: getattr(reflection, name) for name in ("kind", "status", "text")}
    return RecalledItem(
        **one.model_dump(exclude={"episode", "env", "step"}), step=one.step, command=_command(one, episode), **own
    )


def _command(one: Recall, episode: Episode) -> str:
    """The command of which the place is recorded; empty where nothing fits that."""
    place = one.parts.get("command", -1)
    if one.step is None or not 0 <= one.step < len(episode.steps):
        return ""
    listed = episode.steps[one.step].admissible
    return listed[int(place)] if 0 <= place < len(listed) else ""


def _reflection(workspace: Workspace, id: str) -> Reflection | None:
    try:
        return workspace.database.reflections.get(id, workspace.config.namespace)
    except UnknownReflection:
        return None
