"""Lineage: what the adapters of a workspace were trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from memory.store import chunks, marks

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace


class TrainedOn(NamedTuple):
    """An episode that an adapter was trained on."""

    episode: str
    env: str
    task: str


def trained_on(workspace: Workspace, adapter: str) -> list[TrainedOn]:
    """The episodes of the lab that an adapter was trained on; those of a merged one are those of its parents."""
    found: list[TrainedOn] = []
    for part in chunks(workspace.adapters.get(adapter).lineage.episodes):
        rows = workspace.database.execute(
            f"SELECT id, env, task FROM episodes WHERE id IN {marks(part)} ORDER BY number", part
        )
        found += [TrainedOn(*row) for row in rows]
    return found


def families(workspace: Workspace, *adapters: str) -> list[str]:
    """The environments that adapters were trained on, sorted."""
    from trainers.adapters import by_env

    return list(
        by_env(workspace.database, [id for one in adapters for id in workspace.adapters.get(one).lineage.episodes])
    )
