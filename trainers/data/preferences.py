"""Which of two episodes is better, from where on, and how sure that is; and how such preferences become records.

A preference is about what follows a common beginning. `by_reward` reads it off the environment's score, `by_votes`
off the model's agreement with itself.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from pydantic import BaseModel, ConfigDict, Field, model_validator

from memory.records import Episode
from trainers.data.examples import Tokenize, cut, from_episode, join, teachable, window
from trainers.data.records import Judged, Pair
from trainers.errors import NothingTaught, SameSides


class Preference(BaseModel):
    """Two episodes of one task that have the first `shared` steps in common; what is compared follows those.

    `weight` is the preference's weight in the loss, `source` says who prefers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    better: Episode
    worse: Episode
    shared: int = Field(ge=0)
    weight: float = Field(1.0, gt=0.0)
    source: str

    @model_validator(mode="after")
    def _a_common_beginning(self) -> Preference:
        if min(len(self.better.steps), len(self.worse.steps)) <= self.shared:
            raise ValueError(f"both episodes need a step after the {self.shared} that they share")
        if self.better.actions[: self.shared] != self.worse.actions[: self.shared]:
            raise ValueError(f"the first {self.shared} actions of the episodes are not the same")
        return self


def from_preference(
    preference: Preference,
    tokenize: Tokenize,
    *,
    steps: int | None = None,
    with_hints: bool = False,
    max_tokens: int = 1024,
) -> Pair:
    """The pair that teaches a preference, with the tokens as they were played.

    `steps` is how many steps of each side are compared: 1 for step-level DPO, None for all. Shared steps and head are
    those of the better episode on both sides, so that one prompt is answered twice; where a side would be longer than
    `max_tokens`, both lose their oldest shared steps.

    An action of the better side that was not admissible is not preferred. Raises TooLong if what is compared does not
    fit even so, SameSides if it is the same on both sides, NothingTaught if the better side has nothing else.
    """
    better, worse, shared = preference.better, preference.worse, preference.shared
    end = None if steps is None else shared + steps
    head, turns = cut(better, tokenize, with_hints=with_hints)
    common, chosen, rejected = turns[:shared], turns[shared:end], cut(worse, tokenize, with_hints=with_hints)[1]
    rejected = rejected[shared:end]
    longest = max(sum(len(ids) for ids, _ in side) for side in (chosen, rejected))
    head, dropped = window(better, head, [*(ids for ids, _ in common), range(longest)], tokenize, max_tokens)
    common = common[dropped:]
    counts = teachable(better, turns)[shared:end]
    if not any(counts):
        raise NothingTaught(
            f"what episode {better.id} does after step {shared} was not admissible; it cannot be preferred; leave the "
            "pair out"
        )
    sides = [
        join(episode, head, [*common, *own], [0.0] * len(common) + weights, max_tokens=max_tokens)
        for episode, own, weights in ((better, chosen, counts), (worse, rejected, [1.0] * len(rejected)))
    ]
    if sides[0].token_ids == sides[1].token_ids:
        raise SameSides(
            f"episodes {better.id} and {worse.id} do the same after step {shared}; there is nothing to prefer; "
            "compare the steps at which they part"
        )
    return Pair(better=sides[0], worse=sides[1], weight=preference.weight)


def from_outcome(
    episode: Episode,
    tokenize: Tokenize,
    *,
    weight: float = 1.0,
    step_weights: Sequence[float] | None = None,
    max_tokens: int = 1024,
    desirable: bool | None = None,
) -> Judged:
    """An episode as KTO learns from it: desirable if it was won, where nothing else is said.

    Takes and raises what `from_episode` does. Step weights only tell which steps count: KTO weighs whole answers.
    """
    example = from_episode(episode, tokenize, step_weights=step_weights, max_tokens=max_tokens)
    return Judged(example=example, desirable=episode.won if desirable is None else desirable, weight=weight)


def fork(one: Episode, other: Episode) -> int | None:
    """How many steps two episodes share before they act differently in the same place; None if they never do.

    Episodes with different goals, or that saw different things before they acted differently, cannot be compared.
    """
    if one.goal.strip() != other.goal.strip():
        return None
    for shared, (left, right) in enumerate(zip(one.steps, other.steps, strict=False)):
        if left.observation != right.observation:
            return None
        if left.action != right.action:
            return shared
    return None


def by_reward(episodes: Iterable[Episode], *, per_task: int = 4) -> list[Preference]:
    """Won episodes against lost ones of the same task, with the difference of their scores as the weight.

    Of each task at most `per_task` pairs, those with the longest common beginning first: the later two episodes part,
    the more surely the parting made the difference. Every lost episode is used once. Only the train fold counts.
    """
    preferences = []
    for played in of_tasks(episodes):
        won, lost = [e for e in played if e.won], [e for e in played if not e.won]
        pairs = [pair for pair in closest(won, lost) if pair[0].score > pair[1].score]
        preferences += [
            Preference(better=better, worse=worse, shared=shared, weight=better.score - worse.score, source="reward")
            for better, worse, shared in _once(pairs)[:per_task]
        ]
    return preferences


def ending(episode: Episode) -> str:
    """The state in which an episode ended, which is what its attempts at a task can agree on."""
    return episode.steps[-1].next_state


def by_votes(
    episodes: Iterable[Episode],
    *,
    answer: Callable[[Episode], str] = ending,
    threshold: float = 0.5,
    per_task: int = 4,
) -> list[Preference]:
    """The answer that most attempts at a task came to against the one that fewest did; no reward is looked at.

    The weight is w = (V⁺ − V⁻) / k, where V are the votes of the two answers among k attempts; a task counts if its
    best answer has at least the share `threshold` of them (ScPO, Prasad et al. 2024, §3). Otherwise as `by_reward`.
    """
    preferences = []
    for played in of_tasks(episodes):
        votes = Counter(answer(episode) for episode in played)
        ranked = sorted(votes, key=lambda text: (votes[text], text))
        margin, share = (votes[ranked[-1]] - votes[ranked[0]]) / len(played), votes[ranked[-1]] / len(played)
        if margin == 0 or share < threshold:
            continue
        pairs = closest(*([e for e in played if answer(e) == end] for end in (ranked[-1], ranked[0])))
        preferences += [
            Preference(better=better, worse=worse, shared=shared, weight=margin, source="votes")
            for better, worse, shared in _once(pairs)[:per_task]
        ]
    return preferences


Parted = tuple[Episode, Episode, int]
"""A better and a worse episode, and the number of steps before they part."""


def of_tasks(episodes: Iterable[Episode]) -> list[list[Episode]]:
    """The episodes of the train fold that were played to an end, by task; their order does not depend on that given."""
    tasks: dict[str, dict[str, Episode]] = defaultdict(dict)
    for episode in episodes:
        if episode.split == "train" and episode.status != "errored" and episode.steps:
            tasks[episode.task_id][episode.id] = episode
    return [[played[id] for id in sorted(played)] for _, played in sorted(tasks.items())]


def closest(betters: Sequence[Episode], worses: Sequence[Episode]) -> list[Parted]:
    """Every pair that can be compared, those that part latest first."""
    forks = [(better, worse, fork(better, worse)) for better in betters for worse in worses]
    return sorted(((b, w, at) for b, w, at in forks if at is not None), key=lambda pair: -pair[2])


def _once(pairs: Sequence[Parted]) -> list[Parted]:
    """The first pair of every worse episode."""
    first: dict[str, Parted] = {}
    for pair in pairs:
        first.setdefault(pair[1].id, pair)
    return list(first.values())
