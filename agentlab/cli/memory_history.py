"""`agentlab memory` over time and across labs: history, undo and diff, import and export."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agentlab.cli import output
from agentlab.cli.options import (
    DEFAULT_LAB,
    Env,
    Everywhere,
    Json,
    LabFolder,
    Limit,
    Namespace,
    Run,
    asked,
    opened,
    wanted,
)
from agentlab.cli.output import Column

if TYPE_CHECKING:
    from agentlab.lab import Lab
    from memory.store import Change, History, LinkChange

_KINDS = {"added": ("+", "green"), "removed": ("-", "red"), "returned": ("*", "green"), "changed": ("~", "yellow")}
_LONG = 110  # characters of a text that is shown on one line


def history(
    id: Annotated[str | None, typer.Argument(help="An operation's or a reflection's id, or its beginning.")] = None,
    limit: Limit = 30,
    namespace: Namespace = None,
    all_namespaces: Everywhere = False,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """List what was done to the memory, the newest first; with an ID, show what one operation did, what belongs to one
    command, or all that became of one reflection."""
    from agentlab.views.work import neglected, refused

    with opened(lab, namespace=namespace) as here:
        past = _past(here, all_namespaces)
        left = [neglected(here), *refused(here)] if id is None else []
        if id is None:
            found: list[Any] = past.operations(limit=limit) if json else past.batches(limit=limit)
            rows = [operation._asdict() for operation in found]
        elif id.startswith("ops-"):
            rows = [operation._asdict() for operation in past.batch(id)[:limit]]
        elif id.startswith("op-"):
            operation, changes, links = past.operation(id), past.changes(id), past.links(id)
        else:
            versions = past.versions(id)
            names = {operation.number: operation.id for operation in past.operations()}
    if id is None or id.startswith("ops-"):
        columns = [Column("id"), Column("at", head=True), Column("name", head=True)]
        columns += [Column("changed"), Column("undone"), Column("asked_by", "by")]
        rows = rows if json else [row | {"at": output.ago(row["at"]), "undone": _undone(row)} for row in rows]
        empty = "Nothing was changed yet. What `agentlab run` learns is not listed here, but `memory diff` shows it."
        output.listing(rows, [*columns, Column("detail", wide=True)], as_data=json, empty=empty)
        for line in filter(None, left):
            output.note(line)
    elif id.startswith("op-"):
        if json:
            pairs = [{"before": link.before, "after": link.after} for link in links]
            output.as_json(
                operation._asdict() | {"changes": [_data(change) for change in changes], "link_changes": pairs}
            )
            return
        undone = "yes" if operation.undone else None
        facts = [("operation", operation.id), ("at", output.ago(operation.at)), ("name", operation.name)]
        facts.append(("by", operation.asked_by))
        output.facts([*facts, ("detail", operation.detail), ("undone", undone)])
        output.say("")
        _print_changes(changes, limit)
        _print_links(links, limit)
    else:
        if json:
            output.as_json(
                [
                    {"version": version.version, "at": version.at, "change": version.change}
                    | {"operation": names.get(version.operation or 0), "reflection": version.reflection}
                    for version, _ in versions
                ]
            )
            return
        for version, change in versions[-limit:]:
            by = f"  {names[version.operation]}" if version.operation in names else ""
            output.say(f"{version.version}. {output.ago(version.at)}  {version.change}{by}", "bold")
            _details(change)


def undo(
    operation: Annotated[str, typer.Argument(help="Its id, or the beginning of it (see `memory history`).")],
    namespace: Namespace = None,
    all_namespaces: Everywhere = False,
    lab: LabFolder = DEFAULT_LAB,
) -> None:
    """Take back what an operation, or a whole command, did. Undoing the undo does it again."""
    from agentlab.workspace.requests import Undo

    with opened(lab, namespace=namespace) as here:
        whose = None if all_namespaces else here.config.namespace
    output.say(asked(lab, Undo(operation=operation, namespace=whose)).line)


def diff(
    start: Annotated[str, typer.Argument(metavar="A", help="The earlier time: 2026-03-01, 12h or 3d (ago), start.")],
    end: Annotated[str, typer.Argument(metavar="B", help="The later time.")] = "now",
    namespace: Namespace = None,
    all_namespaces: Everywhere = False,
    limit: Limit = 50,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Compare the memory at two times: what was added, taken out of use, brought back, or changed."""
    with opened(lab, namespace=namespace) as here:
        found = _past(here, all_namespaces).diff(start, end)
    kinds: tuple[Any, ...] = ("added", "removed", "returned", "changed")
    if json:
        parts = {kind: [_data(change) for change in found.of(kind)] for kind in kinds}
        output.as_json({"start": found.start, "end": found.end} | parts)
        return
    counts = ", ".join(f"{len(found.of(kind))} {kind}" for kind in kinds if found.of(kind)) or "nothing changed"
    output.say(f"{output.ago(found.start)} – {output.ago(found.end)}: {counts}", "bold")
    _print_changes([change for kind in kinds for change in found.of(kind)], limit)


def _undone(row: dict[str, Any]) -> str:
    """Whether it is undone, or how much of a command that did several things."""
    some = 0 < row["undone"] < row.get("n", 1)
    return f"{row['undone']} of {row['n']}" if some else "yes" if row["undone"] else "no"


def _past(lab: Lab, everywhere: bool) -> History:
    """The history of the lab's namespace, or of all."""
    from memory.store import History

    return History(lab.database, namespace=None if everywhere else lab.config.namespace)


def _print_changes(changes: list[Change], limit: int) -> None:
    """Changes one below the other, at most `limit`."""
    for change in changes[:limit]:
        mark, style = _KINDS[change.kind]
        where = f"{change.after.kind}, {change.after.env or 'no environment'}"
        output.say(f"{mark} {change.id}  {where}  {change.kind}", style)
        _details(change)
    if len(changes) > limit:
        output.say(f"… and {len(changes) - limit} more (--limit shows more, --json all)", "dim")


def _print_links(links: list[LinkChange], limit: int) -> None:
    """Changes of links one below the other, at most `limit`."""
    for change in links[:limit]:
        before, after = (f"{link.weight:.2f}" if link else "none" for link in change)
        mark = "+" if change.before is None else "-" if change.after is None else "~"
        style = {"+": "green", "-": "red", "~": "yellow"}[mark]
        link = change.link
        output.say(f"{mark} {link.source} → {link.target}  {link.kind}, weight {before} → {after}", style)
    if len(links) > limit:
        output.say(f"… and {len(links) - limit} more links (--limit shows more, --json all)", "dim")


def _details(change: Change) -> None:
    """Which fields changed and how; of a text the lines that differ, of one that is new or out of use its beginning."""
    for name, (before, after) in change.fields().items():
        output.say(f"    {name}: {_short(before)} → {_short(after)}")
    if change.before is None or change.kind != "changed":
        output.say(f"    {output.one_line(change.after.text, _LONG)}", "dim")
    if change.before is not None:
        for line in change.text_diff():
            style = {"+": "green", "-": "red", "@": "dim"}.get(line[:1], "")
            output.say(f"    {output.one_line(line[:1])}{output.one_line(line[1:], 400)}", style)


def _short(value: Any) -> str:
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        return f"{len(value)} record{'' if len(value) == 1 else 's'}"
    return output.one_line(Column("").cell(value) or "none", 60)


def _data(change: Change) -> dict[str, Any]:
    """A change as plain data."""
    return {
        "id": change.id,
        "change": change.kind,
        "text": change.after.text,
        "fields": {name: list(pair) for name, pair in change.fields().items()},
        "diff": change.text_diff() if change.before is not None else [],
    }


def export(
    target: Annotated[Path | None, typer.Argument(help="The file (.jsonl or .parquet); stdout if none, or -.")] = None,
    format: Annotated[
        Literal["jsonl", "parquet"] | None, typer.Option("--format", help="By default as the file's ending says.")
    ] = None,
    with_history: Annotated[bool, typer.Option("--with-history", help="Every earlier version too.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    env: Env = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only this kind.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only those with this tag.")] = None,
    status: Annotated[
        Literal["active", "benched", "forgotten", "merged", "repeated", "retired"] | None,
        typer.Option("--status", help="Only this status."),
    ] = None,
    source: Annotated[str | None, typer.Option("--source", help="Only what this source wrote.")] = None,
    run: Run = None,
    namespace: Namespace = None,
    all_namespaces: Everywhere = False,
    lab: LabFolder = DEFAULT_LAB,
) -> None:
    """Write reflections with their recalls and links as JSON lines, one a line, or as Parquet."""
    from memory.interchange import export_reflections

    target = None if target == Path("-") else target
    with opened(lab, namespace=namespace) as here:
        if target is not None:
            _free(target, format, force=force)
        chosen = wanted(
            here, env=env, kind=kind, tag=tag, status=status or "all", source=source, run=run,
            everywhere=all_namespaces,
        )  # fmt: skip
        # A file, wherever it is sent: UTF-8, whatever the terminal shows.
        if target is None and isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")
        out = sys.stdout if target is None else target
        count = export_reflections(here.database, out, format=format, wanted=chosen, history=with_history)
    if target is not None:
        output.note(f"{count} reflections written to {target}")


def _free(target: Path, format: str | None, *, force: bool) -> None:
    """Raise BadConfig unless a file of a known kind may be written there: in no lab, and over none that is there."""
    from agentlab.errors import BadConfig

    if target.is_dir():
        raise BadConfig(f"{target} is a folder; give the path of a file in it.")
    if any((folder / "lab.toml").exists() for folder in target.expanduser().resolve().parents):
        raise BadConfig(f"{target} lies in a lab, whose files are its own; give a path outside of it.")
    if format is None and target.suffix not in (".jsonl", ".parquet"):
        raise BadConfig(f"{target} ends neither in .jsonl nor in .parquet; name it so, or say which with --format.")
    if target.exists() and not force:
        raise BadConfig(f"{target} is there already; choose another name, or --force to write over it.")


def import_(
    file: Annotated[Path, typer.Argument(help="JSON lines, JSON or Parquet (also .gz, .bz2) of this tool or another.")],
    format: Annotated[
        Literal["agentlab", "langmem", "mem0", "openmemory"] | None,
        typer.Option("--format", help="Whose export it is; by default its content tells."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put what the file says in place of reflections that differ.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse the file if one entry cannot be taken.")] = False,
    namespace: Namespace = None,
    keep_namespaces: Annotated[
        bool, typer.Option("--keep-namespaces", help="As the file says; of other tools their users or store paths.")
    ] = False,
    source: Annotated[
        str | None, typer.Option("--source", help="Note this as who wrote it; by default the name of the file.")
    ] = None,
    quota: Annotated[
        int | None,
        typer.Option("--quota", min=0, max=2**53, help="At most so many a day from one source; else as lab.toml."),
    ] = None,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Bring in what a file says, without its credit, pins or history; what cannot be taken is left out and named."""
    from memory.interchange import import_reflections
    from memory.text import TEXT_LIMIT

    with opened(lab, write=True, namespace=namespace) as here:
        limit = here.config.source_quota if quota is None else quota
        report = import_reflections(
            here.database, file, format=format, namespace=None if keep_namespaces else here.config.namespace,
            keep_namespaces=keep_namespaces, source=source, replace=replace, strict=strict, limit=limit,
        )  # fmt: skip
    if json:
        output.as_json(report)
        return
    counts = [
        (len(report.added), "added"),
        (len(report.replaced), "replaced"),
        (len(report.cut), f"of these cut to {TEXT_LIMIT:,} characters"),
        (len(report.same), "already there"),
        (len(report.differing), "kept as they are though the file differs (--replace takes the file's)"),
        (report.omitted, "left out (--strict refuses the file)"),
    ]
    output.say("; ".join(f"{count} {what}" for count, what in counts if count) or "The file holds nothing.")
    if report.added or report.replaced:
        output.note("On probation until it is measured to help; `agentlab memory vouch` ends that for what you trust.")
    output.facts([("cut", report.cut[:20]), ("differing", report.differing[:20]), ("left out", report.left_out[:20])])


def add_to(app: typer.Typer) -> None:
    """Put these commands on `agentlab memory`."""
    for command in (history, undo, diff, export):
        app.command()(command)
    app.command("import")(import_)
