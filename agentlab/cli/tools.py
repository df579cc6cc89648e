"""`agentlab tools`: what was learned to call when, and how much each tool is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agentlab.cli import output
from agentlab.cli.memory import n_cell, uplift_cell
from agentlab.cli.options import DEFAULT_LAB, Json, LabFolder, opened
from agentlab.cli.output import Column

if TYPE_CHECKING:
    from agentlab.views.tools import Caller, ToolView

_COLUMNS = [
    Column("tool"),
    Column("env", head=True),
    Column("who", "who played"),
    Column("episodes"),
    Column("steps", "offered at steps"),
    Column("proposed"),
    Column("made", "called"),
    Column("won", "won, of those with a call"),
    Column("uplift", "worth"),
    Column("n", "with+without"),
]

EXAMPLES = 3
"""Examples of each tool on a screen; `--json` has all."""

SEEN = 120
"""Characters of what was seen, its end."""


def tools(
    tool: Annotated[str | None, typer.Argument(help="Only this tool.")] = None,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Show what was learned to call when, who calls what, and how much each tool is worth.

    A tool is worth what success loses where it was held out by lot, with a 95 % interval and the games on both sides.
    """
    from agentlab.views.tools import tools as read

    with opened(lab) as here:
        found = read(here)
    shown = [one for one in found.tools if tool in (None, one.tool)]
    if json:
        output.as_json(found.model_copy(update={"tools": shown}))
        return
    rows = [_row(one, caller) for one in shown for caller in one.callers]
    empty = f"No tool '{tool}' here." if tool else "No game with tools was played here yet."
    output.listing(rows, _COLUMNS, as_data=False, empty=empty)
    for one in shown:
        _learned(one)
    if rows and not found.hold_out:
        output.note("This lab holds no tool out (credit, hold_out in lab.toml), so their worth is measured no further.")


def _row(one: ToolView, caller: Caller) -> dict[str, object]:
    rate = f"{caller.won}/{caller.calling} [{caller.low:.2f}, {caller.high:.2f}]" if caller.calling else ""
    return {
        **caller.model_dump(),
        "tool": one.tool,
        "env": one.env,
        "who": caller.player,
        "won": rate,
        "uplift": uplift_cell(caller.worth),
        "n": n_cell(caller.worth),
    }


def _learned(one: ToolView) -> None:
    """What rounds trained on, and when it was called."""
    if one.worth is not None and len(one.callers) > 1:
        output.say(f"\n{one.tool} in {one.env}, whoever played: {uplift_cell(one.worth)} ({n_cell(one.worth)})")
    if not one.rounds:
        return
    output.say(f"\n{one.tool} in {one.env}, learned", "bold")
    for taught in one.rounds:
        adapter = f"; {taught.adapter}" if taught.adapter else ""
        output.say(
            f"{taught.round}: {taught.calls} calls in {taught.episodes} episodes, {taught.gain:+.2f} nats each{adapter}"
        )
    for example in one.examples[:EXAMPLES]:
        output.say(f"  … {output.one_line(example.seen[-SEEN:])}", "dim")
        output.say(f"  > {output.one_line(example.call)}", "cyan")
        output.say(f"  {output.one_line(example.answer)}", "dim")
        output.say(f"  > {output.one_line(example.action)}    ({example.gain:+.2f} nats, {example.episode})")
