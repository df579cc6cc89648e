"""Consolidation of a lab's memory: with its model as the writer, and after every so many episodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory import EpisodeFilter

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentlab.workspace.workspace import Workspace
    from memory.consolidation import Consolidation, Writer

LAST = "consolidated after episodes"


def consolidation(
    workspace: Workspace, *, write: bool = False, progress: Callable[[int, int], None] | None = None
) -> Consolidation:
    """The consolidation of a lab's memory; with `write` the model that serves writes rules and summaries, if it can."""
    from memory.consolidation import Consolidation

    return Consolidation(workspace.memory, writer=_writer(workspace) if write else None, progress=progress)


def consolidate_when_due(workspace: Workspace) -> None:
    """Consolidate if `LabConfig.consolidate_every` episodes were played since the last time.

    The model writes here too if one of the lab's reflectors is written by it.
    """
    # A refined form is not played by itself.
    played = workspace.database.episodes.count(EpisodeFilter(minimised=False))
    every, last = workspace.config.consolidate_every, f"{LAST}|{workspace.memory.namespace}"
    if not every or played - workspace.database.settings.get(last, 0) < every:
        return
    with workspace.spending.counted():
        done = consolidation(workspace, write=bool({*workspace.config.reflectors} - {"grounded", "exemplar"})).run()
    workspace.database.settings.put(last, played)
    if done.actions:
        counts = ", ".join(f"{count} {method}" for method, count in done.counts.items())
        workspace.progress.say(f"The memory was consolidated: {counts}.")


def _writer(workspace: Workspace) -> Writer | None:
    model = workspace.model(workspace.serving())
    return (lambda prompt, tokens: model.write(prompt, max_tokens=tokens).text) if model.writes else None
