"""Lineage: what the adapters of a workspace were trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace


class TrainedOn(NamedTuple):
    """An episode that an adapter was trained on."""

    episode: str
    env: str
    task: str


def trained_on(workspace: Workspace, adapter: str) -> list[TrainedOn]:
    """The episodes of the lab that an adapter was trained on; those of a merged one are those of its parents."""
    rows = workspace.database.episodes.rows(workspace.adapters.get(adapter).lineage.episodes)
    return [TrainedOn(row.id, row.env, row.task) for row in rows]


def families(workspace: Workspace, *adapters: str) -> list[str]:
    """The environments that adapters were trained on, sorted."""
    from trainers.adapters import by_env

    return list(
        by_env(workspace.database, [id for one in adapters for id in workspace.adapters.get(one).lineage.episodes])
    )
