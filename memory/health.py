"""How well the memory is: what it holds, what repeats itself, what never served, what harms, and what it all costs."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
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
    """Active reflections that say what another of the same namespace and environment says.

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
        served_ended, served_won: served ones whose episode has ended, and was won.
        withheld_ended, withheld_won: the same of those left out.
        forgone: the wins that withholding is estimated to have cost: within each environment, the withheld ones times
            the difference of the two rates. Below 0 where withholding did good.
    """

    recalls: int
    withheld: int
    served_ended: int
    served_won: int
    withheld_ended: int
    withheld_won: int
    forgone: float


@dataclass(frozen=True, slots=True)
class Uplift:
    """What a reflection did for the episodes of one environment: success when served, less success when withheld.

    Which of the two was chance, so the difference is an effect. `low` and `high` are its 95 % interval.
    """

    env: str
    served: int
    served_won: int
    withheld: int
    withheld_won: int
    difference: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.difference:+.2f} [{self.low:+.2f}, {self.high:+.2f}] in {self.env or 'unknown'}: won "
            f"{self.served_won} of {self.served} served, {self.withheld_won} of {self.withheld} withheld"
        )


@dataclass(frozen=True, slots=True)
class IndexHealth:
    """The index of the texts: its file, how it searches, the vectors in it, and the file's bytes (0: not written)."""

    file: str
    kind: str
    items: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Health:
    """The state of a memory.

    Attributes:
        items: reflections of any status.
        statuses, tiers, kinds, sources, envs: how many of each, the most frequent first. The source '' is the agent.
        pinned: how many are pinned.
        repeats: how far the active ones repeat each other.
        never_recalled: active ones that never served an episode.
        harmful: ids of active ones whose uplift in some environment lies below 0 with its whole interval.
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
    """Look at the whole of `memory`. Nothing in the database is changed; the index follows it first."""
    database = memory.database
    statuses, tiers, kinds, sources, envs = (Counter[str]() for _ in range(5))
    pinned = 0
    for *names, pins, count in database.execute(
        "SELECT status, tier, kind, source, env, sum(pinned), count(*) FROM reflections GROUP BY 1, 2, 3, 4, 5"
    ):
        for counter, name in zip((statuses, tiers, kinds, sources, envs), names, strict=True):
            counter[name] += count
        pinned += pins
    # The texts come before the index, which may then hold more than these, but not less.
    texts = _texts(database)
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
            "SELECT count(*) FROM reflections WHERE status = 'active' AND NOT EXISTS "
            "(SELECT 1 FROM recalls WHERE recalls.reflection = reflections.id AND NOT withheld)"
        )[0][0],
        harmful=_harmful(database),
        prompt=_prompt_share(database),
        withholding=_withholding(database),
        index=_index(memory.index),
        database_bytes=_pragma(database, "page_count") * _pragma(database, "page_size"),
    )


# What repeats itself


def _texts(database: Database) -> list[list[tuple[int, int]]]:
    """(number, stamp) of the active reflections with a text, the older first, by namespace and environment."""
    groups: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for namespace, env, number, stamp in database.execute(
        "SELECT namespace, env, number, stamp FROM reflections WHERE status = 'active' AND text <> '' ORDER BY number"
    ):
        groups[namespace, env].append((number, stamp))
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


def uplifts(database: Database, id: str | None = None) -> dict[str, list[Uplift]]:
    """The measured effects of one reflection, or of all: by id, one for each environment, the best known first.

    Only reflections that were both served and withheld in episodes of the same environment have one.
    """
    whose = "IN (SELECT reflection FROM recalls WHERE withheld)" if id is None else "= ?"
    counts: dict[tuple[str, str], dict[int, tuple[int, int]]] = defaultdict(dict)
    for reflection, env, withheld, ended, won in database.execute(
        "SELECT reflection, env, withheld, count(DISTINCT episode), count(DISTINCT CASE WHEN won THEN episode END) "
        f"FROM recalls WHERE won IS NOT NULL AND reflection {whose} GROUP BY 1, 2, 3",
        () if id is None else (id,),
    ):
        counts[reflection, env][withheld] = (won, ended)
    found: dict[str, list[Uplift]] = defaultdict(list)
    for (reflection, env), sides in counts.items():
        if len(sides) == 2:
            (won, served), (without, withheld) = sides[0], sides[1]
            difference = won / served - without / withheld
            interval = _newcombe(won, served, without, withheld)
            found[reflection].append(Uplift(env, served, won, withheld, without, difference, *interval))
    for each in found.values():
        each.sort(key=lambda uplift: uplift.high - uplift.low)
    return dict(found)


def uplift_line(memory: ReflectionMemory, id: str) -> str:
    """The effect of the reflection with exactly this id, for a person: by environment, with interval and counts."""
    measured = uplifts(memory.database, id).get(id)
    if measured:
        return "; ".join(map(str, measured))
    return "not measured: no withheld recalls yet whose episodes have ended"


def _harmful(database: Database) -> list[str]:
    suspects = [id for id, measured in uplifts(database).items() if min(uplift.high for uplift in measured) < 0]
    return [
        id for id in suspects if database.execute("SELECT 1 FROM reflections WHERE id = ? AND status = 'active'", (id,))
    ]


def _newcombe(won: int, n: int, won_without: int, n_without: int) -> tuple[float, float]:
    """The 95 % interval of a difference of two independent rates (Newcombe 1998, method 10)."""
    rate, low, high = _wilson(won, n)
    without, low_without, high_without = _wilson(won_without, n_without)
    difference = rate - without
    return (
        difference - math.hypot(rate - low, high_without - without),
        difference + math.hypot(high - rate, without - low_without),
    )


def _wilson(won: int, n: int) -> tuple[float, float, float]:
    """A rate with its 95 % score interval (Wilson 1927)."""
    z = NormalDist().inv_cdf(0.975)
    rate = won / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    spread = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return rate, max(0.0, centre - spread), min(1.0, centre + spread)


# What it costs


def _withholding(database: Database) -> Withholding:
    recalls = withheld_recalls = 0
    totals = [[0, 0], [0, 0]]
    by_env: dict[str, dict[int, tuple[int, int, int]]] = defaultdict(dict)
    for env, withheld, count, ended, won in database.execute(
        "SELECT env, withheld, count(*), count(won), ifnull(sum(won), 0) FROM recalls GROUP BY 1, 2"
    ):
        recalls += count
        withheld_recalls += count if withheld else 0
        totals[withheld][0] += ended
        totals[withheld][1] += won
        if ended:
            by_env[env][withheld] = (count, ended, won)
    forgone = 0.0
    for sides in by_env.values():
        if len(sides) == 2:
            (_, ended, won), (count, ended_without, won_without) = sides[0], sides[1]
            forgone += count * (won / ended - won_without / ended_without)
    (served_ended, served_won), (withheld_ended, withheld_won) = totals
    return Withholding(recalls, withheld_recalls, served_ended, served_won, withheld_ended, withheld_won, forgone)


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
    return IndexHealth(index.path.name, "flat, exact", len(index), size)


def _pragma(database: Database, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}")[0][0])
