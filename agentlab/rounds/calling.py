"""Calling: calls of tools are written into the successes of games that have tools, by the model of the round.

They are kept in the journal, which is no place for episodes: nothing but the training of their round ever sees them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agentlab.agent.playing import asked_prompting
from agentlab.rounds.candidates import successes
from agentlab.rounds.config import RoundConfig
from agentlab.rounds.report import RoundReport
from agentlab.search.calls import Called, Kept, write_calls
from memory.records import Episode

if TYPE_CHECKING:
    from agentlab.trajectories.environment_pool import EnvironmentPool
    from agentlab.workspace.workspace import Workspace
    from memory.store import EpisodeRow

STORED = 16
"""Successes whose calls are entered into the journal together."""

ENOUGH = 1.25
"""How many times the cap of an environment are given calls: duplicates, and what begins like a held-out game, go."""


class WithCalls(NamedTuple):
    """A success as it is trained on, or the reason why it is not; and the calls in it."""

    episode: Episode | None
    reason: str
    calls: list[Kept]


def has_tools(env: str) -> bool:
    """Whether an environment's id names tools."""
    from environments.parameters import split_id
    from environments.tools.shelf import PARAMETER

    return PARAMETER in split_id(env)[1]


def writes_calls(config: RoundConfig) -> bool:
    """Whether a round writes calls: some of its games have tools, and it learns from successes as they could have been.

    What is learned from as it was played, recall and all, or in pairs, is left as it is.
    """
    as_played = config.learn_from == "recalled" or config.training.objective == "soft_distill"
    return not as_played and not config.training.in_pairs and any(map(has_tools, config.envs))


def call(workspace: Workspace, report: RoundReport) -> str:
    """Write calls into successes of games with tools, once in each round, into so many as its selection has room for.

    Raises EngineFailed, LimitReached.
    """
    from agentlab.trajectories.environment_pool import EnvironmentPool

    journal, stage, failed = workspace.database.journal, "writing calls of tools", set[str]()
    rows = [row for row in successes(workspace, report) if has_tools(row.env)]
    environments = EnvironmentPool()
    try:
        while True:
            known = journal.items(_scope(report))
            # A game whose environment failed is tried once more by a round that goes on.
            done = {id: entry for id, entry in known.items() if id in failed or not entry.get("error")}
            if not (todo := due(rows, done, report.config)):
                break
            workspace.progress.start(stage, len(todo))
            failed |= _write(workspace, report, todo, environments, stage)
            workspace.progress.finish(stage)
    finally:
        environments.close()
    report.calls = _counted(journal.items(_scope(report)))
    return "select"


def due(rows: Sequence[EpisodeRow], done: Mapping[str, Mapping[str, Any]], config: RoundConfig) -> list[str]:
    """The successes whose turn it is to be given calls; none when there are enough, or no more.

    The selection takes so many of an environment, those of the lowest trials first, so these come first here. They come
    in blocks, as large as what is still wanted, so that which ones are written does not depend on where a round was
    interrupted.
    """
    selection = config.selection
    cap = selection.cap_per_env if selection.selectors is None else None
    enough, found = len(rows) if cap is None else math.ceil(ENOUGH * cap), list[str]()
    for env in dict.fromkeys(row.env for row in rows):
        waiting = sorted((row for row in rows if row.env == env), key=lambda row: (row.trial, row.id))
        kept = Counter[str]()
        while block := waiting[: enough - kept.total()]:
            if missing := [row.id for row in block if row.id not in done]:
                found += missing
                break
            kept.update(row.task for row in block if done[row.id]["episode"] is not None)
            waiting = waiting[len(block) :]
            if cap is not None:  # of a task that has enough the selection takes no more
                kept = Counter({task: min(count, selection.cap_per_task) for task, count in kept.items()})
                waiting = [row for row in waiting if kept[row.task] < selection.cap_per_task]
    return found


def _write(
    workspace: Workspace, report: RoundReport, todo: Sequence[str], environments: EnvironmentPool, stage: str
) -> set[str]:
    """Write calls into these successes, and enter them into the journal; returns those whose environment failed."""
    database, waiting, failed = workspace.database, dict[str, dict[str, Any]](), set[str]()

    def store() -> None:
        with database.transaction():
            for id, entry in waiting.items():
                database.journal.put(_scope(report), id, entry)
        waiting.clear()

    made = write_calls(
        workspace.model(report.incumbent),
        environments.lent,
        database.episodes.each(todo),
        report.config.calls,
        asked_prompting(workspace),
    )
    try:
        while True:
            with workspace.spending.counted():
                came = next(made, None)
            if came is None:
                break
            episode, called = came
            waiting[episode.id] = _as_stored(called)
            if called.error:
                failed.add(episode.id)
                workspace.progress.say(f"{episode.task_id} is left out: {called.error}")
            workspace.progress.advance(stage, 1)
            if len(waiting) >= STORED:
                store()
    finally:
        store()
        made.close()
    return failed


def with_calls(workspace: Workspace, report: RoundReport) -> dict[str, WithCalls]:
    """The successes of games with tools as this round has written calls into them, by the id of what they were."""
    entries = workspace.database.journal.items(_scope(report))
    return {
        id: WithCalls(
            Episode.model_validate(entry["episode"]) if entry["episode"] else None,
            entry["reason"],
            [Kept(*kept) for kept in entry["calls"]],
        )
        for id, entry in entries.items()
    }


def _counted(entries: dict[str, dict[str, Any]]) -> dict[str, int]:
    """How many successes were looked at, how many can be learned from, and how many calls of which beginning stand in
    those."""
    found = Counter[str](successes=len(entries))
    for entry in entries.values():
        if entry["episode"]:
            found["learned from"] += 1
            found["with calls"] += bool(entry["calls"])
            found.update(Kept(*kept).call.split()[0] for kept in entry["calls"])
    return dict(found)


def _scope(report: RoundReport) -> str:
    return f"calls|{report.id}"


def _as_stored(called: Called) -> dict[str, Any]:
    return {
        "episode": called.episode.model_dump(mode="json") if called.episode is not None else None,
        "reason": called.reason,
        "calls": [list(kept) for kept in called.calls],
        "error": called.error,
    }
