"""`agentlab memory`: look into the reflections, mend them, take them out, bring them back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agentlab.cli import output
from agentlab.cli.episodes import NO_FIT
from agentlab.cli.options import DEFAULT_LAB, Env, Json, LabFolder, Limit, Run, environment, opened
from agentlab.cli.output import Column

if TYPE_CHECKING:
    from memory import Hit

app = typer.Typer(no_args_is_help=True, help="Inspect and mend the reflections.")

Id = Annotated[str, typer.Argument(help="A reflection's id, or its beginning where that is unique.")]
Kind = Annotated[str | None, typer.Option("--kind", help="Only this kind: grounded, written, exemplar, or your own.")]
Tag = Annotated[str | None, typer.Option("--tag", help="Only those with this tag.")]

_COLUMNS = [
    Column("id"),
    Column("kind"),
    Column("env"),
    Column("task"),
    Column("status"),
    Column("pinned"),
    Column("importance", "weight"),
    Column("recalled"),
    Column("won"),
    Column("text", wide=True),
]


@app.command("list")
def list_(
    env: Env = None,
    task: Annotated[str | None, typer.Option("--task", help="Only this task (env:split:seed).")] = None,
    kind: Kind = None,
    tag: Tag = None,
    status: Annotated[
        Literal["active", "benched", "forgotten"] | None,
        typer.Option("--status", help="Only those of this status; all by default."),
    ] = None,
    run: Run = None,
    pinned: Annotated[bool, typer.Option("--pinned", help="Only pinned ones.")] = False,
    limit: Limit = 50,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """List reflections, the newest first, with how often each was recalled and how many of those episodes were won."""
    with opened(lab) as here:
        found = here.database.reflections(
            env=environment(env, here.database),
            task=task,
            kind=kind,
            tag=tag,
            status=status,
            run=run,
            pinned=pinned or None,
            limit=limit,
            newest=True,
        )
        counts = here.database.recall_counts([reflection.id for reflection in found])
        some = here.database.count_reflections() > 0
    rows = []
    for reflection in found:
        recalled, won, ended = counts.get(reflection.id, (0, 0, 0))
        rows.append(reflection.model_dump() | {"recalled": recalled, "won": won, "ended": ended})
    if not json:
        rows = [row | {"text": output.one_line(row["text"], 160)} for row in rows]
    output.listing(
        rows, _COLUMNS, as_data=json, empty=NO_FIT if some else "No reflections here yet. `agentlab run` writes some."
    )


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to look for, in your own words.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many hits.")] = 10,
    env: Env = None,
    kind: Kind = None,
    tag: Tag = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show each part of the score, the episodes it came from, and its use.")
    ] = False,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Search the reflections by meaning. Nothing is recorded as recalled."""
    with opened(lab) as here:
        hits = here.memory.search(query, k=k, env=environment(env, here.database), kind=kind, tag=tag)
    if json:
        output.as_json([_row(hit) for hit in hits])
    elif explain and hits:
        for rank, hit in enumerate(hits, 1):
            _explained(rank, hit)
    else:
        rows = [_row(hit) | {"text": output.one_line(hit.reflection.text, 160)} for hit in hits]
        columns = [Column("score"), Column("id"), Column("kind"), Column("env"), Column("text", wide=True)]
        output.listing(rows, columns, as_data=False, empty="Nothing found.")


def _row(hit: Hit) -> dict[str, Any]:
    """A hit as plain data, whole."""
    reflection = hit.reflection
    return {
        "id": reflection.id,
        "kind": reflection.kind,
        "env": reflection.env,
        "task": reflection.task,
        "score": hit.score,
        "parts": dict(hit.parts),
        "episodes": [evidence.episode for evidence in reflection.evidence],
        "recalled": hit.recalled,
        "ended": hit.ended,
        "won": hit.won,
        "text": reflection.text,
    }


def _explained(rank: int, hit: Hit) -> None:
    reflection = hit.reflection
    output.say(f"{rank}. {reflection.id}  {reflection.kind}, {reflection.env}", "bold")
    output.facts(
        [
            ("   score", hit.explanation),
            ("   from", "; ".join(_source(evidence.episode, evidence.steps) for evidence in reflection.evidence)),
            ("   text", reflection.text),
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
def pin(reflection: Id, lab: LabFolder = DEFAULT_LAB) -> None:
    """Pin a reflection: it is never benched or retired."""
    _change(lab, "pin", reflection, "Pinned")


@app.command()
def unpin(reflection: Id, lab: LabFolder = DEFAULT_LAB) -> None:
    """Take the pin off again."""
    _change(lab, "unpin", reflection, "Unpinned")


@app.command()
def forget(reflection: Id, lab: LabFolder = DEFAULT_LAB) -> None:
    """Forget a reflection: it is served no more. Its record stays, so that `restore` can bring it back."""
    _change(lab, "forget", reflection, "Forgot")


@app.command()
def restore(reflection: Id, lab: LabFolder = DEFAULT_LAB) -> None:
    """Bring back a forgotten or benched reflection."""
    _change(lab, "restore", reflection, "Restored")


def _change(lab: Path, verb: str, reflection: str, done: str) -> None:
    with opened(lab, write=True) as here:
        full = here.database.reflection(reflection).id
        getattr(here.memory, verb)(full)
    output.say(f"{done} {full}.")


@app.command()
def edit(
    reflection: Id,
    text: Annotated[
        str | None, typer.Argument(help="The new text; `-` reads it from stdin. Without it an editor opens.")
    ] = None,
    lab: LabFolder = DEFAULT_LAB,
) -> None:
    """Change a reflection's text. The earlier text is kept as a version."""
    with opened(lab, write=True) as here:
        before = here.database.reflection(reflection)
        if text == "-":
            text = sys.stdin.read()
        elif text is None:
            text = _in_editor(before.text)
        if not text.strip() or text.strip() == before.text.strip():
            output.say("Nothing changed.")
            return
        here.memory.edit(before.id, text.strip())
    output.say(f"Changed {before.id}.")


def _in_editor(text: str) -> str:
    """`text` as the person's editor leaves it (VISUAL, EDITOR, else vi)."""
    import os
    import shlex
    import subprocess
    import tempfile

    command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    with tempfile.TemporaryDirectory(prefix="agentlab-") as folder:
        file = Path(folder) / "reflection.txt"
        file.write_text(text, encoding="utf-8")
        subprocess.run([*command, str(file)], check=False)
        return file.read_text(encoding="utf-8")


@app.command()
def export(
    target: Annotated[Path | None, typer.Argument(help="The file to write; stdout without it.")] = None,
    lab: LabFolder = DEFAULT_LAB,
) -> None:
    """Write all reflections as JSON lines, one a line."""
    with opened(lab) as here:
        count = here.memory.export(sys.stdout if target is None else target)
    if target is not None:
        output.note(f"{count} reflections written to {target}")
