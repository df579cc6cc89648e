"""How well the memory is: what it holds, what repeats itself, what never served, what harms, and what it all costs."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memory.rendering import head, segments

if TYPE_CHECKING:
    from memory.database import Database
    from memory.index import VectorIndex
    from memory.reflection_memory import ReflectionMemory

NEAR = 0.95
"""From this cosine on, two different texts are near-duplicates."""
COMPARISONS = 100_000_000
"""How many pairs of texts are compared at most, some seconds' work; with more, every n-th text is examined."""
EPISODES = 100
"""How many episodes, the newest, the share of the prompt is taken from."""

_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Repeats:
    """Active reflections that say what another of the same environment says.

    Attributes:
        exact: those with exactly the text of an older one.
        near: of the `examined` ones, those with another text at a cosine of `NEAR` or more.
        examined: how many were compared with all others; fewer than `items` in a large memory.
        items: the active reflections with a text.
    """

    exact: int
    near: int
    examined: int
    items: int


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
class Withholding:
    """What it costs to leave out recalled reflections now and then, so that their effect can be told from chance.

    Attributes:
        recalls: how often a reflection was chosen for an episode.
        withheld: how often of these it was left out.
        episodes: how many episodes were served and have ended.
        lost: how many of them withholding is estimated to have cost (see `memory.credit.Cost`).
    """

    recalls: int
    withheld: int
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
        withholding: what measuring the effect costs.
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
    withholding: Withholding
    index: IndexHealth
    database_bytes: int


def health(memory: ReflectionMemory) -> Health:
    """Look at the whole of `memory` (one namespace).

    Nothing in the database is changed; the index follows it first.
    """
    database = memory.database
    statuses, tiers, kinds, sources, envs = (Counter[str]() for _ in range(5))
    pinned = 0
    for *names, pins, count in database.execute(
        "SELECT status, tier, kind, source, env, sum(pinned), count(*) FROM reflections WHERE namespace = ? "
        "GROUP BY 1, 2, 3, 4, 5",
        (memory.namespace,),
    ):
        for counter, name in zip((statuses, tiers, kinds, sources, envs), names, strict=True):
            counter[name] += count
        pinned += pins
    # The texts come before the index, which may then hold more than these, but not less.
    texts = _texts(database, memory.namespace)
    memory.save()
    return Health(
        items=statuses.total(),
        statuses=dict(statuses.most_common()),
        tiers=dict(tiers.most_common()),
        kinds=dict(kinds.most_common()),
        sources=dict(sources.most_common()),
        envs=dict(envs.most_common()),
        pinned=pinned,
        repeats=_repeats(memory.index, texts),
        never_recalled=database.execute(
            "WITH RECURSIVE served (id) AS (SELECT reflection FROM recall_totals WHERE n AND NOT withheld "
            "UNION SELECT merged_into FROM served JOIN reflections USING (id) WHERE merged_into IS NOT NULL) "
            "SELECT count(*) FROM reflections WHERE status = 'active' AND id NOT IN served AND namespace = ?",
            (memory.namespace,),
        )[0][0],
        harmful=[id for id, _ in memory.credit.report(0).harmful],
        prompt=_prompt_share(database),
        withholding=_withholding(memory),
        index=_index(memory.index),
        database_bytes=_pragma(database, "page_count") * _pragma(database, "page_size"),
    )


# What repeats itself


def _texts(database: Database, namespace: str) -> list[list[tuple[int, int]]]:
    """(number, stamp) of the active reflections with a text, the older first, by environment."""
    groups: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for env, number, stamp in database.execute(
        "SELECT env, number, stamp FROM reflections WHERE status = 'active' AND text <> '' AND namespace = ? "
        "ORDER BY number",
        (namespace,),
    ):
        groups[env].append((number, stamp))
    return list(groups.values())


def _repeats(index: VectorIndex, groups: Sequence[Sequence[tuple[int, int]]]) -> Repeats:
    exact = sum(len(group) - len({stamp for _, stamp in group}) for group in groups)
    step = max(1, math.ceil(sum(len(group) ** 2 for group in groups) / COMPARISONS))
    near = sum(_near(index, group, step) for group in groups)
    examined = sum(len(range(0, len(group), step)) for group in groups)
    return Repeats(exact, near, examined, sum(map(len, groups)))


def _near(index: VectorIndex, group: Sequence[tuple[int, int]], step: int) -> int:
    """How many of every `step`-th of `group` have a near-duplicate with another text in the group."""
    import numpy as np

    numbers, stamps = np.asarray(group, np.int64).T
    found = 0
    for start in range(0, len(numbers), step * _BLOCK):
        examined = slice(start, start + step * _BLOCK, step)
        vectors = index.vectors(numbers[examined].tolist())
        near = np.zeros(len(vectors), bool)
        for other in range(0, len(numbers), _BLOCK):
            others = slice(other, other + _BLOCK)
            likeness = vectors @ index.vectors(numbers[others].tolist()).T
            near |= ((likeness >= NEAR) & (stamps[examined, None] != stamps[None, others])).any(axis=1)
        found += int(near.sum())
    return found


# What it did


def uplift_line(memory: ReflectionMemory, id: str) -> str:
    """The effect of a reflection, for a person: with its interval and the counts it rests on."""
    uplift = memory.credit.uplift(id)
    if uplift.withheld and uplift.served:
        return str(uplift)
    return "not measured: no recall of it has been decided by lot and ended, both served and withheld"


# What it costs


def _withholding(memory: ReflectionMemory) -> Withholding:
    recalls, withheld = memory.database.execute(
        "SELECT count(*), ifnull(sum(withheld), 0) FROM recalls "
        "JOIN reflections ON reflections.id = recalls.reflection WHERE namespace = ?",
        (memory.namespace,),
    )[0]
    cost = memory.credit.cost()
    return Withholding(recalls, withheld, cost.episodes, cost.lost)


def _prompt_share(database: Database) -> PromptShare:
    by_model = "FROM episodes WHERE engine NOT IN ('', 'random')"
    played = database.execute(f"SELECT count(*) {by_model}")[0][0]
    ids = [row[0] for row in database.execute(f"SELECT id {by_model} ORDER BY number DESC LIMIT ?", (EPISODES,))]
    tokens = block_tokens = with_block = 0
    for id in ids:
        episode = database.load_episodes([id])[0]
        written = sum(len(segment.text) for segment in segments(episode))
        block = len(head(episode.goal, episode.hints)) - len(head(episode.goal))
        tokens += len(episode.token_ids)
        block_tokens += round(len(episode.token_ids) * block / written)
        with_block += block > 0
    return PromptShare(len(ids), played, with_block, tokens, block_tokens, block_tokens / tokens if tokens else 0.0)


def _index(index: VectorIndex) -> IndexHealth:
    size = index.path.stat().st_size if index.path.exists() else 0
    known = index.stats()
    return IndexHealth(index.path.name, known.kind, known.items, size, known.threshold, known.recall)


def _pragma(database: Database, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}")[0][0])
