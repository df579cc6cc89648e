"""Which wins and which pairs of a lab are worth training on, found without holding its episodes in memory."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from memory.records import Episode
from memory.store import EpisodeFilter
from trainers.data import Preference, SelectionConfig, by_reward, draw, solution, start_of

if TYPE_CHECKING:
    from memory import Database

PER_TASK: int = SelectionConfig.model_fields["cap_per_task"].default
"""At most so many wins of one task, as in a round."""

COMPARED = 100
"""Of one task so many won and so many lost attempts are compared, the first of each."""

SEED = 0
"""Of the lots between wins of the same trial."""

Made = TypeVar("Made")


class _Row(NamedTuple):
    id: str
    task: str
    env: str
    trial: int
    status: str
    minimised_from: str | None


def wins(
    database: Database,
    wanted: EpisodeFilter,
    held_out: Set[tuple[str, str]],
    make: Callable[[Episode], Made | None],
    *,
    why_not: str,
    left_out: Counter[str],
    refined: bool = True,
) -> Iterator[Made]:
    """What `make` makes of the best wins of each train task, as a round chooses them. Where it makes nothing of one the
    next one counts; `why_not` says why it does not.

    The rules are those of `trainers.data.select`: the lowest trial first, no solution twice, none that begins like a
    game in `held_out`; without a bound for an environment. A refined form takes the place of its episode; without
    `refined` only what was played counts.
    """
    rows = [row for row in _rows(database, wanted) if row.status == "won"]
    if refined:
        replaced = {row.minimised_from for row in rows}
        rows = [row for row in rows if row.id not in replaced]
    else:
        rows = [row for row in rows if row.minimised_from is None]
    rows.sort(key=lambda row: (row.env, row.trial, draw(SEED, row.id), row.id))
    seen, tasks = set[bytes](), Counter[str]()

    def open_ids() -> Iterator[str]:
        for row in rows:
            if tasks[row.task] < PER_TASK:
                yield row.id
            else:  # and need not be read
                left_out["task is full"] += 1

    for episode in database.episodes.each(open_ids()):
        mark = hashlib.sha256(repr(solution(episode)).encode(errors="surrogatepass")).digest()
        if not episode.won or not episode.steps or episode.relabelled_from is not None:
            left_out["no success of its own"] += 1
        elif start_of(episode) in held_out:
            left_out["begins like a held-out game"] += 1
        elif mark in seen:
            left_out["duplicate"] += 1
        elif tasks[episode.task_id] >= PER_TASK:
            left_out["task is full"] += 1
        elif (made := make(episode)) is None:
            left_out[why_not] += 1
        else:
            seen.add(mark)
            tasks[episode.task_id] += 1
            yield made


def pairs(database: Database, wanted: EpisodeFilter, held_out: Set[tuple[str, str]]) -> Iterator[Preference]:
    """Won against lost attempts of each train task, those that part latest first (`trainers.data.by_reward`)."""
    tasks: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for row in _rows(database, wanted):
        side = tasks[row.task][row.status != "won"]
        # A refined form would be compared with the episode that it was made of.
        if row.status != "errored" and row.minimised_from is None and len(side) < COMPARED:
            side.append(row.id)
    for _, (won, lost) in sorted(tasks.items()):
        if won and lost:
            played = [_bare(one) for one in database.episodes.each([*won, *lost])]
            comparable = [one for one in played if one.relabelled_from is None and start_of(one) not in held_out]
            for pair in by_reward(comparable):
                better, worse = database.episodes.load([pair.better.id, pair.worse.id])
                yield pair.model_copy(update={"better": better, "worse": worse})


def _rows(database: Database, wanted: EpisodeFilter) -> list[_Row]:
    """Of what is wanted the train episodes: of others nothing is learned."""
    if wanted.split not in (None, "train"):
        return []
    return database.episodes.select(_Row, replace(wanted, split="train"))


def _bare(episode: Episode) -> Episode:
    """What two episodes are compared by, a small part of what they hold."""
    nothing: dict[str, Any] = {
        "state": "",
        "admissible": [],
        "result": "",
        "next_state": "",
        "scores": None,
        "bonus": None,
    }
    steps = [step.model_copy(update=nothing) for step in episode.steps]
    return episode.model_copy(update={"steps": steps, "token_ids": [], "action_spans": []})
