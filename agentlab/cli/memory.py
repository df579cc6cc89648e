"""`agentlab memory`: look into the reflections, search them, and mend their texts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agentlab.cli import output
from agentlab.cli.episodes import NO_FIT
from agentlab.cli.help import Sections
from agentlab.cli.options import (
    DEFAULT_LAB,
    MOST,
    After,
    Before,
    Env,
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
    from collections.abc import Sequence

    from agentlab.views.memories import Effect, MemoryRow
    from memory import Evidence, Hit

app = typer.Typer(cls=Sections, no_args_is_help=True, help="Inspect and mend the reflections.")

Id = Annotated[str, typer.Argument(help="A reflection's id, or its beginning where that is unique.")]
Kind = Annotated[str | None, typer.Option("--kind", help="Only this kind: grounded, written, exemplar, or your own.")]
Tag = Annotated[str | None, typer.Option("--tag", help="Only those with this tag.")]
Task = Annotated[str | None, typer.Option("--task", help="Only this task (env:split:seed).")]
Source = Annotated[str | None, typer.Option("--source", help="Only what this source wrote.")]
Tier = Annotated[Literal["raw", "summary", "rule"] | None, typer.Option("--tier", help="Only this tier.")]
Status = Annotated[
    Literal["active", "benched", "forgotten", "merged", "repeated", "retired", "all"],
    typer.Option("--status", help="Only this status; what is `repeated` is counted with the one that says it."),
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept in the history.")]

MOST_SOURCES = 6
"""So many episodes that a hit rests on are named on a screen."""

EXAMPLE = 160
"""Characters of an example that a search shows."""

_COLUMNS = [
    Column("id"),
    Column("kind", head=True),
    Column("env"),
    Column("task"),
    Column("status", head=True),
    Column("pinned"),
    Column("importance", "weight"),
    Column("recalled"),
    Column("won"),
    Column("uplift"),
    Column("n", "served+held out"),
    Column("text", wide=True),
]


@app.command("list")
def list_(
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
    pinned: Annotated[bool, typer.Option("--pinned", help="Only pinned ones.")] = False,
    on_probation: Annotated[bool, typer.Option("--on-probation", help="Only what is on probation.")] = False,
    adapter: Annotated[str | None, typer.Option("--adapter", help="Only what this adapter learned from.")] = None,
    sort: Annotated[
        Literal["age", "uplift", "harm", "recalled", "importance"],
        typer.Option("--sort", help="What comes first: the newest, what helped or harmed most, was recalled most, …"),
    ] = "age",
    limit: Limit = 50,
    all_: Annotated[bool, typer.Option("--all", help="All of them, whatever --limit says.")] = False,
    namespace: Namespace = None,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """List reflections, the newest first, with how often each was recalled and how many of those episodes were won,
    and with its uplift: mean, 95 % interval, and the episodes served and held out on which it rests."""
    from agentlab.views.memories import Asked, rows, select

    with opened(lab, namespace=namespace) as here:
        chosen = wanted(
            here, env=env, task=task, kind=kind, tag=tag, status=status, tier=tier, source=source, after=after,
            before=before, run=run, pinned=pinned or None,
            on_probation=on_probation or None, repeats=status == "repeated",
        )  # fmt: skip
        found, total = select(here, Asked(chosen, adapter=adapter, sort=sort), limit=None if all_ else limit)
        known = rows(here, found)
        some = here.database.reflections.count(wanted(here)) > 0
    if json:
        listed = [reflection.model_dump() | _known(row) for reflection, row in zip(found, known, strict=True)]
    else:
        listed = [
            row.model_dump()
            | {"status": "on probation" if row.on_probation and row.status == "active" else row.status}
            | {"text": output.one_line(row.text), "uplift": uplift_cell(row.uplift), "n": n_cell(row.uplift)}
            for row in known
        ]
    output.listing(
        listed, _COLUMNS, as_data=json, empty=NO_FIT if some else "No reflections here yet. `agentlab run` writes some."
    )
    if len(found) < total:
        output.note(f"{len(found):,} of {total:,} reflections; --all shows all of them, --limit more.")


def _known(row: MemoryRow) -> dict[str, Any]:
    """What is known of a reflection beside itself, as plain data."""
    names = ("recalled", "won", "ended", "games", "of", "repeats")
    more: dict[str, Any] = {"uplift": row.uplift and row.uplift.model_dump(), "on_probation": row.on_probation}
    more["adapters"] = [one.adapter for one in row.adapters]
    return {name: getattr(row, name) for name in names} | more


def uplift_cell(uplift: Effect | None) -> str:
    """An uplift with its interval; empty where it was not measured."""
    return f"{uplift.mean:+.2f} [{uplift.low:+.2f}, {uplift.high:+.2f}]" if uplift else ""


def n_cell(uplift: Effect | None) -> str:
    """On how many episodes an uplift rests: served and held out."""
    return f"{uplift.served}+{uplift.held_out}" if uplift else ""


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to look for, in your own words.")],
    k: Annotated[int, typer.Option("-k", min=1, max=MOST, help="How many hits.")] = 10,
    env: Env = None,
    task: Task = None,
    kind: Kind = None,
    tag: Tag = None,
    status: Status = "active",
    tier: Tier = None,
    source: Source = None,
    after: After = None,
    before: Before = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show each part of the score, the episodes it came from, and its use.")
    ] = False,
    namespace: Namespace = None,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Search the reflections by meaning and by words. Nothing is recorded as recalled."""
    from memory.store import evidence

    with opened(lab, namespace=namespace) as here:
        chosen = wanted(
            here, env=env, task=task, kind=kind, tag=tag, status=status, tier=tier, source=source, after=after,
            before=before,
        )  # fmt: skip
        hits = here.memory.search(query, k=k, wanted=chosen)
        sources = evidence(here.database, [hit.reflection for hit in hits])
    if json:
        output.as_json([_row(hit, sources[hit.reflection.id]) for hit in hits])
    elif explain and hits:
        for rank, hit in enumerate(hits, 1):
            _explained(rank, hit, sources[hit.reflection.id])
    else:
        # Of an example, which is a transcript, the beginning: what was learned is to be seen on one screen.
        rows = [
            _row(hit) | {"text": output.one_line(hit.text, EXAMPLE if hit.reflection.kind == "exemplar" else None)}
            for hit in hits
        ]
        columns = [Column("score"), Column("id", head=True), Column("kind", head=True), Column("env")]
        columns.append(Column("text", wide=True))
        output.listing(rows, columns, as_data=False, empty="Nothing found.")


def _row(hit: Hit, sources: Sequence[Evidence] = ()) -> dict[str, Any]:
    """A hit as plain data, whole."""
    reflection = hit.reflection
    return {
        "id": reflection.id,
        "kind": reflection.kind,
        "env": reflection.env,
        "task": reflection.task,
        "status": reflection.status,
        "tier": reflection.tier,
        "score": hit.score,
        "parts": dict(hit.parts),
        "episodes": [source.episode for source in sources],
        **hit.tally._asdict(),
        "recalled": hit.recalled,
        "ended": hit.ended,
        "won": hit.won,
        "text": hit.text,
    }


def _explained(rank: int, hit: Hit, sources: Sequence[Evidence]) -> None:
    reflection = hit.reflection
    shown = [_source(source.episode, source.steps) for source in sources[:MOST_SOURCES]]
    more = [f"and {len(sources) - MOST_SOURCES} more"] if len(sources) > MOST_SOURCES else []
    output.say(f"{rank}. {reflection.id}  {reflection.kind}, {reflection.env}", "bold")
    output.facts(
        [
            ("   score", hit.explanation),
            ("   from", "; ".join([*shown, *more])),
            ("   text", hit.text),
        ]
    )


def _source(episode: str, steps: list[int]) -> str:
    return f"{episode} (steps {ranges(steps)})" if steps else episode


def ranges(numbers: list[int]) -> str:
    """Numbers in order, neighbours drawn together: 0–3, 7."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


@app.command()
def edit(
    reflection: Id,
    text: Annotated[
        str | None, typer.Argument(help="The new text; `-` reads it from stdin. Without it an editor opens.")
    ] = None,
    reason: Reason = "",
    namespace: Namespace = None,
    lab: LabFolder = DEFAULT_LAB,
) -> None:
    """Change a reflection's text. The earlier text is kept as a version."""
    from agentlab.workspace.requests import Edit
    from memory.errors import EditedMeanwhile
    from memory.store import wording

    with opened(lab, namespace=namespace) as here:
        whose = here.config.namespace
        before = here.database.reflections.get(reflection, here.config.namespace)
    # Whoever plays goes on while somebody types.
    if text == "-":
        text = _typed()
    elif text is None:
        text = _in_editor(before.text)
    if text.strip() == before.text.strip():
        output.say("Nothing changed.")
        return
    try:
        asked(lab, Edit(id=before.id, text=text.strip(), reason=reason, namespace=whose, seen=wording(before.text)))
    except EditedMeanwhile:
        output.say(text.strip())  # so that it need not be written again
        raise
    output.say(f"Changed {before.id}.")


def _typed() -> str:
    """The text on stdin, which is UTF-8 whatever the locale says."""
    from agentlab.errors import AgentLabError

    stream = getattr(sys.stdin, "buffer", None)
    try:
        return sys.stdin.read() if stream is None else stream.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AgentLabError("What came on stdin is no UTF-8 text; convert it first. Nothing changed.") from error


def _in_editor(text: str) -> str:
    """`text` as the person's editor leaves it (VISUAL, EDITOR, else vi)."""
    import os
    import shlex
    import subprocess
    import tempfile

    from agentlab.errors import AgentLabError

    named = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        command = shlex.split(named)
    except ValueError as error:
        raise AgentLabError(f"The editor '{named}' cannot be read as a command ({error}); set EDITOR anew.") from error
    with tempfile.TemporaryDirectory(prefix="agentlab-") as folder:
        file = Path(folder) / "reflection.txt"
        file.write_text(text, encoding="utf-8")
        try:
            left = subprocess.run([*command, str(file)], check=False).returncode
        except OSError as error:
            raise AgentLabError(
                f"The editor '{command[0]}' cannot be started ({error.strerror}); set EDITOR to one that is there, or "
                "give the new text on the command line. Nothing changed."
            ) from error
        if left:
            raise AgentLabError(f"The editor '{command[0]}' failed (exit code {left}); nothing changed.")
        try:
            return file.read_text(encoding="utf-8-sig")
        except (UnicodeDecodeError, OSError) as error:
            raise AgentLabError(
                f"What the editor '{command[0]}' left is no UTF-8 text; save it as UTF-8. Nothing changed."
            ) from error
