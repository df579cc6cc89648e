"""`agentlab memory bench`, `pin`, `unpin`, `forget`, `restore`, `vouch`, `purge`: of some, or of all that fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentlab.cli import output
from agentlab.cli.memory import Kind, Reason, Source, Status, Tag, Task, Tier
from agentlab.cli.options import DEFAULT_LAB, After, Before, Env, LabFolder, Namespace, Run, asked, opened, wanted
from agentlab.cli.output import Column

if TYPE_CHECKING:
    from agentlab.lab import Lab
    from memory.store import Verb

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[REFLECTION]...", help="Ids, or their beginnings; without them the filters say which."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show which ones would be changed.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it to all that the filters fit.")]

SHOWN = 50
"""So many rows a dry run shows."""


HELP: dict[Verb, str] = {
    "pin": "Pin a reflection, or all that fit: it is never benched or retired.",
    "unpin": "Take the pin off again.",
    "bench": "Bench a reflection, or all that fit, as the lab does with what harms: it is served no more.\n\n"
    "`restore` brings it back. A pinned one has to be unpinned first.",
    "forget": "Forget a reflection, or all that fit: it is served no more.\n\nIts record stays, so that `restore`, or "
    "`undo` of the one operation that this is, can bring it back. A pinned one has to be unpinned first.",
    "restore": "Bring back a forgotten, benched or retired reflection, or all that fit.",
    "vouch": "Vouch for a reflection that came from outside, or all that fit: it serves as the lab's own do.\n\n"
    "Without this it is on probation: recalled by lot in some train games, until it is measured to help.",
}


def _command(verb: Verb) -> Callable[..., None]:
    def command(
        reflections: Ids = None,
        env: Env = None,
        task: Task = None,
        kind: Kind = None,
        tag: Tag = None,
        status: Status = "all",
        tier: Tier = None,
        source: Source = None,
        after: After = None,
        before: Before = None,
        run: Run = None,
        reason: Reason = "",
        dry_run: DryRun = False,
        yes: Yes = False,
        namespace: Namespace = None,
        lab: LabFolder = DEFAULT_LAB,
    ) -> None:
        given = _filters(env, task, kind, tag, status, tier, source, after, before, run)
        _change(lab, namespace, verb, reflections, given, reason, dry_run=dry_run, yes=yes)

    command.__name__, command.__doc__ = verb, HELP[verb]
    return command


def purge(
    reflections: Ids = None,
    env: Env = None,
    task: Task = None,
    kind: Kind = None,
    tag: Tag = None,
    status: Status = "all",
    tier: Tier = None,
    source: Source = None,
    after: After = None,
    before: Before = None,
    run: Run = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    name: Annotated[
        str | None,
        typer.Option("--name", help="What is purged, typed again: the id, or the environment. Else it is asked for."),
    ] = None,
    namespace: Namespace = None,
    lab: LabFolder = DEFAULT_LAB,
) -> None:
    """Delete a reflection for good, or all that fit in an environment: its text, its versions, whom it served.

    What says the same with it goes too. This cannot be undone. A pinned one has to be unpinned first. What an adapter
    learned from it stays in that adapter's weights.
    """
    from agentlab.errors import BadConfig
    from agentlab.workspace.purging import plan, purge_all
    from memory.store import UNFINISHED

    given = _filters(env, task, kind, tag, status, tier, source, after, before, run)
    if not reflections and env is None:
        raise BadConfig("Nothing says what to purge, so nothing is; give the id of a reflection, or --env ENV.")
    if reflections and len(reflections) > 1:
        raise BadConfig("One reflection is purged at a time, since its id is typed again; nothing was changed.")
    with opened(lab, namespace=namespace) as here:
        stopped = here.database.settings.get(UNFINISHED)
    if stopped:
        with opened(lab, write=True) as here:
            _ = here.database  # does what the last purge has not come to
    with opened(lab, namespace=namespace) as here:
        if reflections:
            ids = [here.database.reflections.full_id(reflections[0], here.config.namespace)]
            typed = ids[0]
        else:
            chosen = wanted(here, **given)
            typed = str(chosen.env)
            ids = here.database.reflections.ids(sorted(here.database.reflections.numbers(chosen)))
        intended = plan(here, ids)
    output.say(intended.line)
    if dry_run or not intended.ids:
        return
    # Nobody waits for the lock while somebody types.
    asked = f"Type {typed} to delete for good"
    answer = typer.prompt(asked, default="", show_default=False) if name is None else name
    if answer.strip() != typed:
        raise BadConfig(f"'{output.one_line(answer, 60)}' is not {typed}, so nothing was deleted.")
    with opened(lab, write=True, namespace=namespace) as here:
        done = purge_all(here, ids, reason)
    output.say(done.line)
    for note in done.notes:
        output.note(note)


def _filters(
    env: str | None,
    task: str | None,
    kind: str | None,
    tag: str | None,
    status: str,
    tier: str | None,
    source: str | None,
    after: str | None,
    before: str | None,
    run: str | None,
) -> dict[str, Any]:
    """What was given of the filters."""
    given = {
        "env": env, "task": task, "kind": kind, "tag": tag, "status": status if status != "all" else None,
        "tier": tier, "source": source, "after": after, "before": before, "run": run,
    }  # fmt: skip
    return {name: value for name, value in given.items() if value is not None}


def _change(
    lab: Path,
    namespace: str | None,
    verb: Verb,
    ids: list[str] | None,
    given: dict[str, Any],
    reason: str,
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    from agentlab.errors import BadConfig
    from agentlab.workspace.requests import Mend
    from memory.store import Mending

    if ids and given:
        raise BadConfig("Both ids and filters were given, so nothing was changed; give one of them.")
    if not ids and not given:
        raise BadConfig(
            f"Nothing says what to {verb}, so nothing was changed; give ids, or filters such as --env and --kind."
        )
    with opened(lab, namespace=namespace) as here:
        whose = here.config.namespace
        meant = ids or Mending(here.database, whose).meant(verb, wanted(here, **given))
        if dry_run:
            _print_meant(here, meant, verb)
            return
        if not meant:
            output.say("Nothing fits these filters, so nothing was changed.")
            return
        if not ids and not yes:
            raise BadConfig(
                f"{len(meant):,} reflections fit; --yes would {verb} all of them, --dry-run lists them. Nothing was "
                "changed."
            )
    done = asked(lab, Mend(verb=verb, ids=meant, reason=reason, namespace=whose))
    undo = f" `agentlab memory undo {done.operation}` takes it back." if done.operation and len(meant) > 1 else ""
    output.say(done.line + undo)


def _print_meant(here: Lab, meant: list[str], verb: Verb) -> None:
    from agentlab.views.memories import rows

    items = [here.database.reflections.get(id, here.config.namespace) for id in meant[:SHOWN]]
    columns = [Column("id"), Column("kind", head=True), Column("env"), Column("status", head=True), Column("pinned")]
    shown = [row.model_dump() | {"text": output.one_line(row.text)} for row in rows(here, items)]
    output.listing(shown, [*columns, Column("text", wide=True)], as_data=False, empty="Nothing fits these filters.")
    if shown:
        output.say(
            f"{len(meant):,} reflections fit; nothing was changed. Pinned ones are neither benched nor forgotten."
        )


def add_to(app: typer.Typer) -> None:
    """Put these commands on `agentlab memory`."""
    for verb in HELP:
        app.command(verb)(_command(verb))
    app.command()(purge)
