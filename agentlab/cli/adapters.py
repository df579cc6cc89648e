"""`agentlab adapters`: what was trained, from what, how it did at the gate, and which one serves."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentlab.cli import output
from agentlab.cli.help import Sections
from agentlab.cli.options import DEFAULT_LAB, Json, LabFolder, opened
from agentlab.cli.output import Column

if TYPE_CHECKING:
    from trainers.adapters import AdapterRecord

app = typer.Typer(cls=Sections, no_args_is_help=True, help="List, inspect, compare, promote and roll back adapters.")

Id = Annotated[str, typer.Argument(help="An adapter's id, or its beginning where that is unique.")]


@app.command("list")
def list_(lab: LabFolder = DEFAULT_LAB, json: Json = False) -> None:
    """List adapters with their parents and gate results."""
    with opened(lab) as here:
        serving = here.adapters.serving()
        rows = [_row(record, serving) for record in here.adapters.list()]
    if not json:
        rows = [row | {"created_at": output.ago(row["created_at"]), "gate": _reason(row["gate"])} for row in rows]
    columns = [
        Column("id"),
        Column("status", head=True),
        Column("serving"),
        *([Column("agent")] if any(row["agent"] for row in rows) else []),
        Column("parent"),
        Column("base"),
        Column("created_at", "made"),
        Column("gate", wide=True),
    ]
    output.listing(
        rows, columns, as_data=json, empty="No adapters here yet. `agentlab distill` or `agentlab rounds` makes one."
    )


def _row(record: AdapterRecord, serving: str | None) -> dict[str, Any]:
    agent = f"{record.lineage.member}, {record.lineage.round}" if record.lineage.member else None
    return record.model_dump(mode="json") | {"serving": record.id == serving, "agent": agent}


def _reason(gate: dict[str, Any] | None) -> str:
    return gate["reason"] if gate else "was not evaluated at a gate"


@app.command()
def promote(
    adapter: Id,
    force: Annotated[bool, typer.Option("--force", help="Also without a passed gate; the record says so.")] = False,
    lab: LabFolder = DEFAULT_LAB,
) -> None:
    """Let an adapter serve. Without a passed gate this is refused."""
    with opened(lab, write=True) as here:
        record = here.adapters.get(adapter)
        here.adapters.promote(record.id, force=force)
    output.say(f"{record.id} serves now. `agentlab adapters rollback` undoes it.")


@app.command()
def rollback(lab: LabFolder = DEFAULT_LAB) -> None:
    """Let the adapter serve that served before; the base if there was none.

    Reflections that were retired because the present one no longer needed them come back.
    """
    from agentlab.rounds.retiring import rollback

    with opened(lab, write=True) as here:
        now, back = rollback(here)
    output.say(f"{now} serves now." if now else "The base model serves now.")
    if back:
        output.say(f"Brought back what was retired for the sake of the other: {len(back)} reflections.")


@app.command()
def export(
    adapter: Id,
    folder: Annotated[Path, typer.Argument(help="A new folder.", show_default=False)],
    with_base: Annotated[
        bool, typer.Option("--with-base", help="With the base model, its weights as hard links where that can be.")
    ] = False,
    lab: LabFolder = DEFAULT_LAB,
) -> None:
    """Write an adapter into a folder that peft and vLLM load as it is, with what else one needs to use it elsewhere.

    Its card says how to load and to serve it and how it was prompted; `play.py` plays a game with it.
    """
    from trainers.adapters import export as write

    with opened(lab) as here, output.working("Exporting"):
        think = here.config.think
        done = write(here.adapters, adapter, folder, base=here.model_folder, with_base=with_base, think=think)
    output.say(f"{done.record.id} is in {done.folder}; README.md there says how it is used ({done.format}).")
    output.say(f"Play a game with it: `{shlex.join(['python', str(done.folder / 'play.py')])}`")
    output.say(f"Serve it with vLLM: `{done.serve}`")
    if done.caution:
        output.note(f"Its base: {done.caution}.")
