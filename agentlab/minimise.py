"""Successes made exemplary, by replay in the environment: first short, then straight, then informed.

Short: actions are deleted while the replay still wins with the same score.

Straight: actions are moved later where that brings the gains forward, so that what serves a goal stands next to it.

Informed: a success that was found by trying things teaches guessing. So what tells the player something is done before
what it explains: steps that bring news are moved as early as the replay allows, and looks that single out the next
action among its alternatives ("The current task is to take the grape" before `take grape`) are inserted.

Only sequences that were replayed, and won with the same score, are returned.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from agentlab import failures
from environments import Task, TextEnv
from memory.records import Episode, Step, content_id

NEWS = 3  # words a result must bring that no earlier text had, to be worth hearing early
STOP_WORDS = frozenset(
    {
        "a",
        "an",
        "and",
        "are",
        "at",
        "for",
        "from",
        "go",
        "has",
        "have",
        "in",
        "into",
        "is",
        "it",
        "now",
        "of",
        "on",
        "or",
    }
    | {"that", "the", "then", "there", "this", "to", "was", "with", "you", "your"}
)


@dataclass(frozen=True)
class Replay:
    """What an environment answered to a list of actions."""

    steps: list[Step]
    won: bool
    score: float

    @property
    def actions(self) -> list[str]:
        return [step.action for step in self.steps]


def replay(env: TextEnv, task: Task, actions: Sequence[str]) -> Replay | None:
    """Play `actions` from the task's start. None if one of them is not admissible when its turn comes."""
    with failures.environment(task.env):
        observation, info = env.start(task)
    steps: list[Step] = []
    for index, action in enumerate(actions):
        if action not in info["admissible_commands"]:
            return None
        with failures.environment(task.env):
            result, reward, terminated, truncated, after = env.step(action)
        steps.append(
            Step(
                index=index,
                observation=observation,
                state=info["state"],
                admissible=info["admissible_commands"],
                action=action,
                result=result,
                next_state=after["state"],
                reward=float(reward),
                score=float(after["score"]),
            )
        )
        observation, info = result, after
        if terminated or truncated:
            break
    return Replay(steps, bool(info["won"]), float(info["score"]))


def refine(episode: Episode, env: TextEnv) -> Episode:
    """The shortest informed form of a success that a local search by replay finds; the episode itself if it is that.

    The result has no token ids (no model played it) and names its origin in `minimised_from`.
    """
    if not episode.won:
        return episode
    task = Task(env=episode.env, split=episode.split, seed=episode.seed)
    best = replay(env, task, episode.actions)
    if best is None or not best.won or not best.steps:
        return episode
    best = minimise(best, env, task, episode.goal)
    best = straighten(best, env, task)
    best = inform(hasten(best, env, task, episode.goal), env, task, episode.goal)
    if best.actions == episode.actions:
        return episode
    return episode.model_copy(
        update={
            "id": content_id("ep", episode.id, "refined"),
            "steps": best.steps,
            "score": best.score,
            "token_ids": [],
            "action_spans": [],
            "hints": "",
            "recalled": [],
            "minimised_from": episode.id,
        }
    )


def minimise(best: Replay, env: TextEnv, task: Task, goal: str = "") -> Replay:
    """Delete single actions and adjacent pairs, last first, until nothing more can go.

    Looks whose text singles out a later action, or names what the goal is about, stay.
    """
    shortened = True
    while shortened:
        shortened = False
        actions = best.actions
        keep = telling(best.steps, goal)
        for width in (1, 2):
            for start in range(len(actions) - width, -1, -1):
                if keep.intersection(range(start, start + width)):
                    continue
                tried = _still_wins(env, task, actions[:start] + actions[start + width :], best)
                if tried is not None:
                    best, shortened = tried, True
                    break
            if shortened:
                break
    return best


def straighten(best: Replay, env: TextEnv, task: Task) -> Replay:
    """Move single actions later while that raises the discounted return: gains come as early as they can."""
    improved = True
    while improved:
        improved = False
        for start in range(len(best.steps) - 1):
            for end in range(start + 1, len(best.steps)):
                actions = best.actions
                actions.insert(end, actions.pop(start))
                tried = _still_wins(env, task, actions, best)
                if tried is not None and _return(tried) > _return(best) + 1e-9:
                    best, improved = tried, True
                    break
            if improved:
                break
    return best


def _return(played: Replay) -> float:
    return sum(0.95**step.index * step.reward for step in played.steps)


def hasten(best: Replay, env: TextEnv, task: Task, goal: str = "") -> Replay:
    """Move steps that bring news as early as the replay allows: read the problem before picking an answer."""
    for at in range(1, len(best.steps)):
        if not _brings_news(best.steps, at, goal):
            continue
        for target, width in ((target, width) for target in range(at) for width in (1, 2) if target + width <= at):
            actions = best.actions
            block = actions[at - width + 1 : at + 1]
            del actions[at - width + 1 : at + 1]
            actions[target:target] = block
            if all(_brings_news(best.steps, earlier, goal) for earlier in range(target, at)):
                continue  # news does not overtake news
            tried = _still_wins(env, task, actions, best)
            if tried is not None and len(tried.steps) == len(best.steps):
                best = tried
                break
    return best


def inform(best: Replay, env: TextEnv, task: Task, goal: str = "") -> Replay:
    """Insert looks that single out the next action among its alternatives, or at the start speak of the goal."""
    for look in best.steps[0].admissible:
        answer = replay(env, task, [look])
        if look not in best.actions and answer is not None and telling(answer.steps, goal):
            best = _still_wins(env, task, [look, *best.actions], best) or best
    at = 0
    while at < len(best.steps):
        step = best.steps[at]
        if at == 0 or not singles_out(step.observation, step.action, step.admissible):
            for look in step.admissible:
                if look == step.action or words(look) == words(step.action):
                    continue
                answer = replay(env, task, [*best.actions[:at], look])
                if answer is None or len(answer.steps) != at + 1:
                    continue
                shown = answer.steps[at]
                if shown.next_state != shown.state or shown.reward != 0:
                    continue
                if words(shown.result) <= words(shown.state):
                    continue
                if singles_out(shown.result, step.action, step.admissible):
                    tried = _still_wins(env, task, [*best.actions[:at], look, *best.actions[at:]], best)
                    if tried is not None:
                        best, at = tried, at + 1
                        break
        at += 1
    return best


def _still_wins(env: TextEnv, task: Task, actions: Sequence[str], best: Replay) -> Replay | None:
    tried = replay(env, task, actions)
    return tried if tried is not None and tried.won and tried.score >= best.score else None


def words(text: str) -> frozenset[str]:
    """The content words of a text, lower case."""
    return frozenset(re.findall(r"[a-z0-9]+", text.lower())) - STOP_WORDS


def singles_out(text: str, action: str, alternatives: Sequence[str]) -> bool:
    """Whether `text` names `action` more fully than any of its alternatives does."""
    told = words(text)

    def named(command: str) -> float:
        said = words(command)
        return len(said & told) / len(said) if said else 0.0

    return named(action) >= 0.99 and all(named(other) < named(action) for other in alternatives if other != action)


def telling(steps: Sequence[Step], goal: str) -> set[int]:
    """Indices of looks (nothing changed, new text) that single out the next action or speak of the goal's things."""
    start = steps[0].observation if steps else ""
    wanted = words(goal) - words(start)
    seen = {start.strip(), goal.strip()}
    kept = set()
    for step in steps:
        text = step.result.strip()
        known = words(text) <= words(step.state)
        if text not in seen and not known and step.state == step.next_state and step.reward == 0:
            later = steps[step.index + 1 :]
            speaks_of_goal = words(text) & wanted and len(words(text) - words(start)) >= NEWS
            if speaks_of_goal or any(singles_out(text, after.action, after.admissible) for after in later[:1]):
                kept.add(step.index)
        seen.add(text)
    return kept


def _brings_news(steps: Sequence[Step], at: int, goal: str) -> bool:
    """Whether step `at` shows at least NEWS words that neither the goal nor the start had, without moving on."""
    step = steps[at]
    known = words(goal) | words(steps[0].observation)
    place, place_after = (text.split(".")[0] for text in (step.state, step.next_state))
    return place == place_after and len(words(step.result) - known - words(step.action)) >= NEWS
