"""Shortcuts through episodes that were won after wandering about (Qian et al. 2024, Experiential Co-Learning, §3).

The states of an episode are the nodes of a graph, its steps the edges. On the shortest path from the first state to
the last one, of length L, the state at place i has the value V(i) = 0.95^(L − i) · score: the nearer to the end, the
better. A shortcut is a pair of states on that path, i < j, that

* are not neighbours (j − i ≥ 2; a direct edge between them would be a shorter path),
* were farther apart as they were walked: from when the first was left until the second was next reached, the episode
  took more than j − i steps, and
* are worth it: V(j) − V(i) is at least the gain that is asked for.

A reflection of the kind `shortcut` advises, in each state on the way, the action that leads along it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from memory.consolidation.job import Action, Job, Method, Proposal
from memory.records import Advice, Episode, Evidence, Reflection, Step, content_id
from memory.text.quoting import quoted

DISCOUNT = 0.95
"""What a step costs of the value that lies behind it."""


@dataclass(frozen=True, slots=True)
class Shortcut:
    """The way from place `start` to place `end` of the shortest path; `walked` steps were taken for it."""

    start: int
    end: int
    walked: int
    gain: float

    @property
    def length(self) -> int:
        return self.end - self.start


def shortest_path(steps: Sequence[Step]) -> list[Step]:
    """The fewest of `steps` that lead from the first state to the last one; of equally short ways the one walked first.

    Empty if the last state is the first one.
    """
    if not steps:
        return []
    edges: dict[str, dict[str, Step]] = {}
    for step in steps:
        edges.setdefault(step.state, {}).setdefault(step.next_state, step)
    start, end = steps[0].state, steps[-1].next_state
    came: dict[str, Step | None] = {start: None}
    queue = deque([start])
    while queue and end not in came:
        for state, step in edges.get(queue.popleft(), {}).items():
            if state not in came:
                came[state] = step
                queue.append(state)
    path: list[Step] = []
    while (last := came[end]) is not None:
        path.append(last)
        end = last.state
    return path[::-1]


def find_shortcuts(steps: Sequence[Step], score: float, least: float) -> tuple[list[Step], list[Shortcut]]:
    """The shortest path through an episode with this final score, and its shortcuts, the greatest gain first."""
    path = shortest_path(steps)
    if len(path) < 2 or len(path) == len(steps):
        return path, []
    states = [path[0].state, *(step.next_state for step in path)]
    values = [score * DISCOUNT ** (len(path) - place) for place in range(len(states))]
    found = []
    for start, state in enumerate(states):
        left = next((index for index, step in enumerate(steps) if step.state == state), len(steps))
        for end in range(start + 2, len(states)):
            reached = (count for count, step in enumerate(steps[left:], 1) if step.next_state == states[end])
            walked = next(reached, len(steps) - left)
            gain = values[end] - values[start]
            if walked > end - start and gain >= least:
                found.append(Shortcut(start, end, walked, gain))
    return path, sorted(found, key=lambda shortcut: (-shortcut.gain, shortcut.start, shortcut.end))


@dataclass(frozen=True)
class Shorten(Action):
    """Write down the shortcuts of one episode, the only one of `items`."""

    method: ClassVar[Method] = "shortcuts"

    def apply(self, job: Job) -> bool:
        episode = job.database.episodes.load(self.items)[0]
        made = reflection_on(job, episode)
        if made is None or job.database.reflections.has(made.id):
            return False
        with job.database.operations.record("shortcuts", episode.id):
            job.database.reflections.put(made, change="found a shorter way")
        return True


def plan(job: Job) -> Proposal:
    """The won episodes with shortcuts, among those played since the last time."""
    key = job.key("shortcuts", job.config.shortcut_gain)
    seen = job.mark(key)
    actions: list[Action] = []
    for lived in job.episodes(after=seen):
        seen = lived.number
        if lived.status != "won" or job.database.reflections.has(_id(job, lived.id)):
            continue
        episode = job.database.episodes.load([lived.id])[0]
        steps = episode.admissible_steps
        path, found = find_shortcuts(steps, episode.score, job.config.shortcut_gain)
        if found:
            reason = f"won in {len(steps)} steps where {len(path)} would do (greatest gain {found[0].gain:.2f})"
            actions.append(Shorten((lived.id,), reason))
    return Proposal(actions, {key: seen})


def reflection_on(job: Job, episode: Episode) -> Reflection | None:
    """The reflection that advises the shortcuts of an episode, or None if there is none worth it."""
    path, found = find_shortcuts(episode.admissible_steps, episode.score, job.config.shortcut_gain)
    kept = found[: job.config.shortcuts]
    if not kept:
        return None
    places = sorted({place for shortcut in kept for place in range(shortcut.start, shortcut.end)})
    worth = [episode.score * DISCOUNT ** (len(path) - 1 - place) for place in range(len(path))]
    best = kept[0]
    way = ", then ".join(f"'{step.action}'" for step in path[best.start : best.end])
    place_name = path[best.start].state.strip().split("\n")[0][:200]
    text = f'A shorter way ({best.length} steps instead of {best.walked}), from where it says "{place_name}": {way}.'
    return Reflection(
        id=_id(job, episode.id),
        kind="shortcut",
        env=episode.env,
        task=episode.task_id,
        goal=episode.goal,
        text=quoted(text),
        advice=[
            Advice(state=path[place].state, action=path[place].action, visits=1, value=min(1.0, worth[place]))
            for place in places
        ],
        evidence=[Evidence(episode=episode.id, steps=sorted(path[place].index for place in places))],
        importance=min(1.0, 0.5 + best.gain / 2),
        tags=[f"saved:{best.walked - best.length}"],
        oracle=episode.is_oracle,
        namespace=job.namespace,
        derived_from=job.resting_on(episode),
        run=episode.run,
        created_at=job.now(),
        updated_at=job.now(),
    )


def _id(job: Job, episode: str) -> str:
    return content_id("r", job.namespace, "shortcut", episode)
