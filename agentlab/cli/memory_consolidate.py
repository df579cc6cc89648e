"""`agentlab memory consolidate`: many small memories become fewer better ones, after a look at the plan."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from agentlab.bars import progress
from agentlab.cli import output
from agentlab.cli.options import DEFAULT_LAB, Json, LabFolder, Limit, opened
from agentlab.cli.output import Column

if TYPE_CHECKING:
    from agentlab.progress import Progress
    from memory.consolidation import Action, Method, Plan

COLUMNS = [Column("action"), Column("count", "items"), Column("first", "first item"), Column("reason", wide=True)]
STAGE = "consolidation"


def consolidate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")] = False,
    only: Annotated[
        str | None,
        typer.Option(
            "--only", help="Only these, separated by commas: shortcuts, merge, summaries, rules, links, forget."
        ),
    ] = None,
    write: Annotated[
        bool,
        typer.Option("--write", help="Let the lab's model write rules and summaries, instead of reading them off."),
    ] = False,
    limit: Limit = 20,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Merge duplicates, vote on rules, sum up, link, find shortcuts, and forget what faded.

    Each action is one operation, which can be undone, and `memory undo` takes back the whole command in one go. After
    Ctrl-C or a kill the same command does what is left.
    """
    from agentlab.experiments.consolidation import consolidation

    chosen, batch = methods(only), ""
    if dry_run:
        with opened(lab) as here:
            plan = consolidation(here).plan(chosen)
    else:
        with progress() as bars, opened(lab, write=True, progress=bars) as here:
            with here.database.operations.batch("consolidate") as batch:
                plan = consolidation(here, write=write, progress=_Bar(bars)).run(chosen)
            bars.finish(STAGE)
    if json:
        output.as_json([row_of(action) for action in plan])
        return
    shown = list(_some(plan, limit))
    # What only differs in further items reads the same, and stands there once.
    cells = dict.fromkeys((action.method, len(action.items), action.items[0], action.reason) for action in shown)
    rows = [dict(zip((column.key for column in COLUMNS), row, strict=True)) for row in cells]
    output.listing(rows, COLUMNS, as_data=False, empty="There is nothing to consolidate.")
    if rows:
        counts = ", ".join(f"{count} {method}" for method, count in plan.counts.items())
        more = " --limit shows more of each." if len(shown) < len(plan) else ""
        undo = "" if dry_run else f" `agentlab memory undo {batch}` takes back all of them."
        output.say(f"{len(plan)} actions {'planned' if dry_run else 'done'}: {counts}.{more}{undo}")


def methods(given: str | None) -> list[Method] | None:
    """The methods that a text such as `merge,links` names; None for all.

    Raises:
        BadConfig: if one of them is unknown, with the nearest.
    """
    from difflib import get_close_matches

    from agentlab.errors import BadConfig
    from memory.consolidation import METHODS

    if given is None:
        return None
    names = [name.strip() for name in given.split(",") if name.strip()]
    for name in names:
        if name not in METHODS:
            near = get_close_matches(name, METHODS, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"give some of {', '.join(METHODS)}."
            raise BadConfig(f"Consolidation has no method '{name}'; {hint}")
    return cast("list[Method]", names)


def row_of(action: Action) -> dict[str, Any]:
    """An action as plain data."""
    return {"action": action.method, "items": list(action.items), "reason": action.reason}


def _some(plan: Plan, limit: int) -> Iterable[Action]:
    """The first `limit` actions of each method."""
    shown: dict[str, int] = {}
    for action in plan:
        shown[action.method] = shown.get(action.method, 0) + 1
        if shown[action.method] <= limit:
            yield action


class _Bar:
    """Draws each method's progress as a stage."""

    def __init__(self, bars: Progress) -> None:
        self.bars = bars

    def __call__(self, done: int, total: int) -> None:
        if done == 1:
            self.bars.start(STAGE, total)
        self.bars.advance(STAGE)
