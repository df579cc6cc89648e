"""Successes made exemplary, by replay in the environment: first short, then straight, informed, and searching.

Short: actions are deleted while the replay still wins with the same score, those that depended on them as well.

Straight: actions are moved later where that brings the gains forward, so that what serves a goal stands next to it.

Informed: a success that was found by trying things teaches guessing. So what tells the player something is done before
what it explains: steps that bring news are moved as early as the replay allows, and looks that single out the next
action among its alternatives ("The current task is to take the grape" before `take grape`) are inserted.

Searching: a shortened success walks straight to what nobody had seen yet, which would teach to know where things lie,
and not what to do where they do not. So the places that were looked through in vain before are put back.

An action that was written keeps its thought wherever it goes, and takes it along when it is deleted. What is inserted
has none: nobody thought it, and a sentence made here would be learned as the way to think. Actions that were
not admissible are left out first.

Only sequences that were replayed, and won with the same score, are returned. Replays are steps in the environment: they
are counted, and bounded by a multiple of the success's length, the shortening first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence, Set
from contextlib import AbstractContextManager, suppress

from agentlab.errors import OutOfBudget
from agentlab.text import words
from agentlab.trajectories.budget import Budget, Cost, Meter
from agentlab.trajectories.replay import Move, Replay, moves, replay
from environments import EnvironmentsError, Task, TextEnv
from memory.records import Episode, Step, Usage, content_id

STEPS = 30  # steps in the environment that refining may take for each step of the success
LEAST = 400  # and that any success may take
MIN_NEW_WORDS = 3  # words a result must bring that no earlier text had, to be worth hearing early


class Refiner:
    """Refines successes, each once, whoever asks, in environments that `lent` lends by their id; `cost` is what that
    took so far.

    A success that cannot be replayed, because the environment fails, stays as it was played.
    """

    def __init__(self, lent: Callable[[str], AbstractContextManager[TextEnv]]) -> None:
        self.lent = lent
        self.cost = Cost()
        self._refined: dict[str, Episode] = {}

    def __call__(self, episode: Episode) -> Episode:
        """The refined form of a success; the episode itself if it is none, or is refined already."""
        if episode.id not in self._refined:
            meter, shown = allowance(episode), episode
            if episode.won:
                with suppress(EnvironmentsError), self.lent(episode.env) as env:
                    shown = refine(episode, env, meter)
            self.cost += meter.cost
            self._refined[episode.id] = shown
        return self._refined[episode.id]


def allowance(episode: Episode) -> Meter:
    """What refining an episode may cost."""
    return Meter(Budget(steps=max(LEAST, STEPS * len(episode.steps))))


def refine(episode: Episode, env: TextEnv, meter: Meter | None = None) -> Episode:
    """The shortest informed form of a success that a local search by replay finds; the episode itself if it is that.

    The search ends where `meter` (by default one with the `allowance` of the episode) holds it, with the best that it
    has found. The result has neither token ids nor usage (no model played it) and names its origin in `minimised_from`.

    Raises EnvironmentDied.
    """
    if not episode.won:
        return episode
    search = Search(env, Task(env=episode.env, split=episode.split, seed=episode.seed), meter or allowance(episode))
    try:
        if not search.begin(moves(episode.admissible_steps)):
            return episode
        minimise(search, episode.goal)
        reorder_for_return(search)
        move_observations_early(search, episode.goal)
        insert_lookups(search, episode.goal)
        search_before_finding(search, episode.admissible_steps)
    except OutOfBudget:
        pass
    best = search.best
    if best is None or best.actions == episode.actions:
        return episode
    return played_otherwise(episode, content_id("ep", episode.id, "refined"), best.steps, best.score)


def played_otherwise(episode: Episode, id: str, steps: Sequence[Step], score: float) -> Episode:
    """A success with other steps that were replayed: no model played these, and nothing was recalled for them."""
    return episode.model_copy(
        update={
            "id": id,
            "steps": list(steps),
            "score": score,
            "token_ids": [],
            "action_spans": [],
            "hints": "",
            "recalled": [],
            "usage": Usage(),
            "tools": [],
            "minimised_from": episode.minimised_from or episode.id,
        }
    )


class Search:
    """A local search among sequences of actions that win a task with the same score.

    `best` is the sequence that it stands at; None before a success was replayed.
    """

    def __init__(self, env: TextEnv, task: Task, meter: Meter | None = None) -> None:
        self.env, self.task, self.meter = env, task, meter
        self.best: Replay | None = None

    def play(self, actions: Sequence[str | Move], *, skip: bool = False) -> Replay | None:
        """Replay `actions`. Raises OutOfBudget, EnvironmentDied."""
        return replay(self.env, self.task, actions, self.meter, skip=skip)

    def begin(self, actions: Sequence[str | Move]) -> bool:
        """Start at `actions`, if they win."""
        played = self.play(actions)
        self.best = played if played is not None and played.won and played.steps else None
        return self.best is not None

    @property
    def steps(self) -> list[Step]:
        """The steps of the best sequence."""
        return self.best.steps if self.best is not None else []

    @property
    def actions(self) -> list[str]:
        return [step.action for step in self.steps]

    @property
    def moves(self) -> list[Move]:
        """The actions of the best sequence with their thoughts."""
        return moves(self.steps)

    def tried(self, actions: Sequence[str | Move], *, skip: bool = False) -> Replay | None:
        """The replay of `actions` if they win with the same score; with `skip` of those that are still admissible."""
        played = self.play(actions, skip=skip)
        wins = self.best is not None and played is not None and played.won and played.score >= self.best.score
        return played if wins else None

    def takes(self, actions: Sequence[str | Move], *, skip: bool = False) -> bool:
        """Go on from `actions` if they win with the same score."""
        played = self.tried(actions, skip=skip)
        if played is not None:
            self.best = played
        return played is not None


def minimise(search: Search, goal: str = "") -> None:
    """Leave out what is not needed: detours that come back to where they left, then ever smaller blocks. What can no
    longer be done without these goes with them, as putting down goes with taking.

    (The blocks as in delta debugging, Zeller and Hildebrandt 2002; at the end all single actions and adjacent pairs
    have been tried.) Looks whose text singles out a later action, or names what the goal is about, stay.
    """
    while any(
        search.takes(shorter, skip=True)
        for shorter in _without_detours(search.steps, informative_steps(search.steps, goal))
    ):
        pass
    width = len(search.steps) // 2
    while width > 2:
        _delete(search, goal, width, stride=width)
        width //= 2
    while _delete(search, goal, 1) or _delete(search, goal, 2):
        pass


def _without_detours(steps: Sequence[Step], keep: set[int]) -> list[list[Move]]:
    """The actions without one detour each, for the longest that begins at each state; the longest of all first."""
    actions = moves(steps)
    back = {step.next_state: step.index for step in steps}
    detours = [
        (start, end)
        for start, end in ((step.index, back.get(step.state, -1) + 1) for step in steps)
        if end - start >= 1 and end < len(steps) and not keep.intersection(range(start, end))
    ]
    return [actions[:start] + actions[end:] for start, end in sorted(detours, key=lambda detour: detour[0] - detour[1])]


def _delete(search: Search, goal: str, width: int, stride: int = 1) -> bool:
    """Try to do without each block of so many actions, the last first; whether one could go."""
    keep = informative_steps(search.steps, goal)
    start, shortened = len(search.steps) - width, False
    while start >= 0:
        block = range(start, start + width)
        without = search.moves[:start] + search.moves[start + width :]
        if not keep.intersection(block) and search.takes(without, skip=True):
            shortened, keep = True, informative_steps(search.steps, goal)
            start = min(start, len(search.steps) - width + stride)
        start -= stride
    return shortened


def reorder_for_return(search: Search) -> None:
    """Move single actions later while that raises the discounted return: gains come as early as they can."""
    improved = True
    while improved:
        improved = False
        for start in range(len(search.steps) - 1):
            for end in range(start + 1, len(search.steps)):
                # Only what is put behind a gain brings it forward, and nothing is played behind the last step.
                if (
                    not any(step.reward > 0 for step in search.steps[start + 1 : end + 1])
                    or end == len(search.steps) - 1
                ):
                    continue
                actions = search.moves
                actions.insert(end, actions.pop(start))
                tried = search.tried(actions)
                if tried is not None and search.best is not None and _return(tried) > _return(search.best) + 1e-9:
                    search.best, improved = tried, True
                    break
            if improved:
                break


def _return(played: Replay) -> float:
    return sum(0.95**step.index * step.reward for step in played.steps)


def move_observations_early(search: Search, goal: str = "") -> None:
    """Move steps that bring news as early as the replay allows: read the problem before picking an answer."""
    for at in range(1, len(search.steps)):
        if not _brings_new_words(search.steps, at, goal):
            continue
        for target, width in ((target, width) for target in range(at) for width in (1, 2) if target + width <= at):
            actions = search.moves
            block = actions[at - width + 1 : at + 1]
            del actions[at - width + 1 : at + 1]
            actions[target:target] = block
            if all(_brings_new_words(search.steps, earlier, goal) for earlier in range(target, at)):
                continue  # news does not overtake news
            tried = search.tried(actions)
            if tried is not None and len(tried.steps) == len(search.steps):
                search.best = tried
                break


def insert_lookups(search: Search, goal: str = "") -> None:
    """Insert looks that single out the next action among its alternatives, or at the start speak of the goal."""
    answers: dict[tuple[str, str], Step | None] = {}

    def answer(at: int, look: str) -> Step | None:
        """What `look` brings before step `at`. The same state answers the same."""
        key = search.steps[at].state, look
        if key not in answers:
            played = search.play([*search.moves[:at], Move(look)])
            answers[key] = played.steps[at] if played is not None and len(played.steps) == at + 1 else None
        return answers[key]

    for look in search.steps[0].admissible:
        shown = answer(0, look)
        if look not in search.actions and shown is not None and informative_steps([shown], goal):
            search.takes([Move(look), *search.moves])
    at = 0
    while at < len(search.steps):
        step = search.steps[at]
        if at == 0 or not singles_out(step.observation, step.action, step.admissible):
            for look in step.admissible:
                if look == step.action or words(look) == words(step.action):
                    continue
                shown = answer(at, look)
                if shown is None or shown.next_state != shown.state or shown.reward != 0:
                    continue
                if words(shown.result) <= words(shown.state):
                    continue
                if singles_out(shown.result, step.action, step.admissible) and search.takes(
                    [*search.moves[:at], Move(look), *search.moves[at:]]
                ):
                    at += 1
                    break
        at += 1


def search_before_finding(search: Search, lived: Sequence[Step]) -> None:
    """Put back where the player looked in vain, before the step that shows what the next action names for the first
    time: the other places that were gone to before, as they were `lived`, each once, as far as the replay allows.

    What can only be done at such a place, and shows something (to open a cupboard), is done there.
    """
    at = 0
    while at < len(search.steps) - 1:
        found, start = _found(search.steps, at), at
        while start and search.steps[start].action not in search.steps[start - 1].admissible:
            start -= 1  # to open what one has gone to begins with going there
        end = next((step.index for step in lived if found & _names(step.result)), 0) if found else 0
        kind, anywhere = search.steps[start].action.split()[0], set(search.steps[start].admissible)
        for action in dict.fromkeys(step.action for step in lived[:end] if step.action.split()[0] == kind):
            if action in search.actions[: start + 1] or not _shows(search, start, action):
                continue
            start, at = start + 1, at + 1
            for more in sorted(set(search.steps[start].admissible) - anywhere):
                if more.split()[0] != kind and _shows(search, start, more):
                    start, at = start + 1, at + 1
        at += 1


def _shows(search: Search, at: int, action: str) -> bool:
    """Insert `action` before step `at` if it can be done there and shows something new, and what follows goes on."""
    if action not in search.steps[at].admissible:
        return False
    played = search.tried([*search.moves[:at], Move(action), *search.moves[at:]])
    if played is None or len(played.steps) != len(search.steps) + 1:
        return False
    step, told = played.steps[at], {step.result for step in played.steps[:at]}
    if step.state == step.next_state or step.reward != 0 or step.result in told:
        return False
    search.best = played
    return True


def _found(steps: Sequence[Step], at: int) -> set[str]:
    """What step `at` shows for the first time, of what the next action names."""
    known = set[str]().union(*(_names(step.observation) for step in steps[: at + 1]))
    return (_names(steps[at].result) & _names(steps[at + 1].action)) - known


def _names(text: str) -> set[str]:
    """The words of a text, each with the number that follows it."""
    return set(re.findall(r"[^\W\d_]+(?: \d+)?", text.lower()))


def named(command: str, said: Set[str]) -> float:
    """What share of the words of a command was said."""
    asked = words(command)
    return len(asked & said) / len(asked) if asked else 0.0


def singles_out(text: str, action: str, alternatives: Sequence[str], least: float = 0.99) -> bool:
    """Whether `text` names `action` more fully than any of its alternatives; at least this share of its words."""
    said = words(text)
    fully = named(action, said)
    return fully >= least and all(named(other, said) < fully for other in alternatives if other != action)


def informative_steps(steps: Sequence[Step], goal: str) -> set[int]:
    """Indices of looks (nothing changed, new text) that single out the next action or speak of the goal's things.

    What speaks of these says something that was not heard yet, or of what is done later more than of anything else.
    """
    start = steps[0].observation if steps else ""
    wanted = words(goal) - words(start)
    seen, heard = {start.strip(), goal.strip()}, words(start)
    kept = set()
    for step in steps:
        text = step.result.strip()
        known = words(text) <= words(step.state)
        if text not in seen and not known and step.state == step.next_state and step.reward == 0:
            later = steps[step.index + 1 :]
            speaks_of_goal = words(text) & wanted and len(words(text) - words(start)) >= MIN_NEW_WORDS
            news = len(words(text) - heard) >= MIN_NEW_WORDS
            if any(singles_out(text, after.action, after.admissible) for after in later[:1]) or (
                speaks_of_goal and (news or any(singles_out(text, one.action, one.admissible, 0.01) for one in later))
            ):
                kept.add(step.index)
        seen.add(text)
        heard |= words(text) | words(step.action)
    return kept


def _brings_new_words(steps: Sequence[Step], at: int, goal: str) -> bool:
    """Whether step `at` shows at least NEWS words that neither the goal nor the start had, without moving on."""
    step = steps[at]
    known = words(goal) | words(steps[0].observation)
    place, place_after = (text.split(".")[0] for text in (step.state, step.next_state))
    return place == place_after and len(words(step.result) - known - words(step.action)) >= MIN_NEW_WORDS
