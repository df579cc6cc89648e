"""`agentlab models`: which models are known by name, and which are at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from agentlab.cli import output
from agentlab.cli.options import Json
from agentlab.cli.output import Column


def models(
    fetch: Annotated[
        list[str] | None, typer.Option("--fetch", help="Bring this model here now; repeat it for more.")
    ] = None,
    json: Json = False,
) -> None:
    """List the models that are known by name. A folder or a Hugging Face id (org/model) works wherever a name does."""
    from agentlab.engines import hub

    for name in fetch or []:
        folder = hub.resolve(name, say=output.note)
        output.note(f"{name} is at {folder}")
    columns = [
        Column("name"),
        Column("kind", head=True),
        Column("cached"),
        Column("mib", "MiB", digits=0),
        Column("about", wide=True),
        Column("path", wide=True),
    ]
    output.listing(catalogue(), columns, as_data=json, empty="No model is known by name.")


def catalogue() -> list[dict[str, Any]]:
    """One row a known model; size and path of those that are here."""
    from agentlab.engines import hub

    rows = []
    for name, model in hub.CATALOGUE.items():
        cached = hub.is_cached(name)
        folder = hub.cache_folder() / "models" / name
        rows.append(
            {
                "name": name,
                "kind": model.kind,
                "about": model.about,
                "cached": cached,
                "mib": size(folder) / 2**20 if cached else None,
                "path": str(folder) if cached else None,
                "source": ", ".join(requirement for requirement, _ in model.parts),
                "sha256": model.sha256,
            }
        )
    return rows


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
