"""A copy of a lab as it is now, over which somebody else plays for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from agentlab.engines.experimental import vectors
from agentlab.errors import AgentLabError
from agentlab.workspace.config import write_config

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace


def copy_lab(workspace: Workspace, target: Path, *, adapters: Iterable[str], threads: int) -> None:
    """Copy what playing needs into `target`, which is new: settings, database, index, and links to these adapters, of
    which some may be steering vectors.

    `threads` are the processor threads of whoever plays there, where the settings say nothing.

    Raises AgentLabError if an engine was given to the lab, which is nowhere else.
    """
    if workspace.engine_given:
        raise AgentLabError("An engine of one's own plays in this process only; open the lab without workers.")
    if "memory" in workspace.__dict__:
        workspace.memory.save()  # once here, or each would embed what is new
    target.mkdir(parents=True)
    workspace.database.copy(target / "lab.db")
    for index in workspace.folder.glob("memory*.faiss"):
        shutil.copyfile(index, target / index.name)
    (target / "adapters").mkdir()
    (target / "steering").mkdir()
    for id in adapters:
        kept = Path("steering" if id.startswith(vectors.PREFIX) else "adapters", id.partition("@")[0])
        (target / kept).symlink_to(workspace.folder / kept, target_is_directory=True)
    config = workspace.config
    write_config(target / "lab.toml", config.model_copy(update={"threads": config.threads or threads}))
