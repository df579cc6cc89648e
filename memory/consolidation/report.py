"""How well the memory is: what it holds, what repeats itself, what never served, what harms, and what it all costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memory.consolidation import duplicates
from memory.consolidation.job import ConsolidationConfig, Job
from memory.prompts.chat import messages
from memory.prompts.rendering import head, segments
from memory.records import task_parts
from memory.store.filters import EpisodeFilter

if TYPE_CHECKING:
    from memory.index.vector_index import VectorIndex
    from memory.reflection_memory import ReflectionMemory
    from memory.store.database import Database

COMPARISONS = 100_000_000
"""How many pairs of texts are compared at most, some seconds' work; with more, every n-th text is examined."""
EPISODES = 100
"""How many episodes, the newest, the share of the prompt is taken from."""


@dataclass(frozen=True, slots=True)
class Repeats:
    """Active reflections that say what another one says.

    Attributes:
        exact: those with exactly the text of an older one of the same kind, environment, fold and source.
        near: of the `examined` ones, those that consolidation would merge into another.
        examined: how many were compared with all others; fewer than `items` in a large memory.
        items: those that consolidation may merge: with a text, of the raw tier, on a fold whose reflections may be
            brought together.
        cosine: from which on consolidation takes two texts for the same (`ConsolidationConfig.duplicate`).
    """

    exact: int
    near: int
    examined: int
    items: int
    cosine: float


@dataclass(frozen=True, slots=True)
class PromptShare:
    """What the memory block takes of the transcripts that a model read.

    Attributes:
        episodes: how many of the newest were looked at.
        played: how many there are that a model played.
        with_block: how many of those looked at had a memory block.
        tokens: of all that were looked at.
        block_tokens: of their memory blocks, by the share of characters: blocks are not tokenised apart.
        share: `block_tokens` of `tokens`, in [0, 1].
    """

    episodes: int
    played: int
    with_block: int
    tokens: int
    block_tokens: int
    share: float


@dataclass(frozen=True, slots=True)
class HoldingOut:
    """What it costs to leave out recalled reflections now and then, so that their effect can be told from chance.

    Attributes:
        recalls: how often a reflection was chosen for an episode.
        held_out: how often of these it was left out.
        episodes: how many episodes were served and have ended.
        lost: how many of them holding out is estimated to have cost (see `memory.credit.Cost`).
    """

    recalls: int
    held_out: int
    episodes: int
    lost: float


@dataclass(frozen=True, slots=True)
class IndexHealth:
    """The index of the texts.

    Attributes:
        file: its name.
        kind: `flat` (exact) or `hnsw` (a graph).
        items: the vectors in it.
        bytes: of the file; 0 if it is not written yet.
        threshold: from how many vectors on it becomes a graph.
        recall: of the graph, the measured recall@10 against exhaustive search; None where search is exact.
    """

    file: str
    kind: str
    items: int
    bytes: int
    threshold: int
    recall: float | None


@dataclass(frozen=True, slots=True)
class Health:
    """The state of a memory.

    Attributes:
        items: reflections of any status.
        statuses, tiers, kinds, sources, envs: how many of each, the most frequent first. The source '' is the agent.
        pinned: how many are pinned.
        repeats: how far the active ones repeat each other.
        never_recalled: active ones that never served an episode, nor did what was merged into them.
        harmful: ids of active ones whose uplift is credibly below 0: pinned, restored, or not reviewed yet.
        prompt: what the memory block takes of the prompt.
        holding_out: what measuring the effect costs.
        index: the index of the texts.
        database_bytes: size of the database without its write-ahead log.
    """

    items: int
    statuses: dict[str, int]
    tiers: dict[str, int]
    kinds: dict[str, int]
    sources: dict[str, int]
    envs: dict[str, int]
    pinned: int
    repeats: Repeats
    never_recalled: int
    harmful: list[str]
    prompt: PromptShare
    holding_out: HoldingOut
    index: IndexHealth
    database_bytes: int


def health(memory: ReflectionMemory, config: ConsolidationConfig | None = None) -> Health:
    """Look at the whole of `memory` (one namespace). `config` says what a consolidation would merge.

    Nothing in the database is changed; the index follows it first.
    """
    database = memory.database
    statuses, tiers, kinds, sources, envs = (Counter[str]() for _ in range(5))
    pinned = 0
    for *names, pins, count in database.reflections.census(memory.namespace):
        for counter, name in zip((statuses, tiers, kinds, sources, envs), names, strict=True):
            counter[name] += count
        pinned += pins
    # The notes come before the index, which may then hold more than these, but not less.
    job = Job(memory, config or ConsolidationConfig())
    notes = duplicates.mergeable(job)
    memory.save()
    near = duplicates.repeats(job, notes, COMPARISONS)
    return Health(
        items=statuses.total(),
        statuses=dict(statuses.most_common()),
        tiers=dict(tiers.most_common()),
        kinds=dict(kinds.most_common()),
        sources=dict(sources.most_common()),
        envs=dict(envs.most_common()),
        pinned=pinned,
        repeats=Repeats(_exact(job), *near, job.config.duplicate),
        never_recalled=database.recalls.never_served(memory.namespace),
        harmful=[id for id, _ in memory.credit.report(0).harmful],
        prompt=_prompt_share(database),
        holding_out=_holding_out(memory),
        index=_index(memory.index),
        database_bytes=database.connection.size(),
    )


def _exact(job: Job) -> int:
    """How many active texts an older one of the same kind has too."""
    notes = job.notes()
    return len(notes) - len({(one.stamp, one.env, one.kind, one.source, task_parts(one.task).split) for one in notes})


# What it did


def uplift_line(memory: ReflectionMemory, id: str) -> str:
    """The effect of a reflection, for a person: with its interval and the counts it rests on."""
    uplift = memory.credit.uplift(id)
    if uplift.held_out and uplift.served:
        return str(uplift)
    return "not measured: no recall of it has been decided at random and ended, both served and held out"


# What it costs


def _holding_out(memory: ReflectionMemory) -> HoldingOut:
    recalls, held_out = memory.database.recalls.count(memory.namespace)
    cost = memory.credit.cost()
    return HoldingOut(recalls, held_out, cost.episodes, cost.lost)


def _prompt_share(database: Database) -> PromptShare:
    by_model = EpisodeFilter(by_model=True)
    played = database.episodes.count(by_model)
    ids = [row.id for row in database.episodes.find(by_model, limit=EPISODES, newest=True)]
    tokens = block_tokens = with_block = 0
    for id in ids:
        episode = database.episodes.load([id])[0]
        chat = episode.prompt.startswith("chat")
        written = sum(len(part.text) for part in (messages(episode) if chat else segments(episode)))
        block = len(head(episode.goal, episode.hints)) - len(head(episode.goal))
        tokens += len(episode.token_ids)
        block_tokens += round(len(episode.token_ids) * block / written)
        with_block += block > 0
    return PromptShare(len(ids), played, with_block, tokens, block_tokens, block_tokens / tokens if tokens else 0.0)


def _index(index: VectorIndex) -> IndexHealth:
    size = index.path.stat().st_size if index.path.exists() else 0
    known = index.stats()
    return IndexHealth(index.path.name, known.kind, known.items, size, known.threshold, known.recall)
