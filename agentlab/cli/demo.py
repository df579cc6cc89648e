"""`agentlab demo`: the whole loop once, on real games, ending with a table."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from agentlab.bars import progress, span
from agentlab.cli import output, scoreboard
from agentlab.cli.options import DEFAULT_LAB, Json, LabFolder, command_line
from agentlab.cli.runs import Model, workplace

if TYPE_CHECKING:
    from agentlab.demo import Demonstration
    from agentlab.lab import Lab


def demo(model: Model = None, lab: LabFolder = DEFAULT_LAB, json: Json = False) -> None:
    """Play, reflect, recall, try again, distil, gate, and compare on games never seen: the whole loop.

    The same command after Ctrl-C or a kill goes on where it stopped.
    """
    from agentlab.demo import demonstrate

    began = time.monotonic()
    with progress() as bars, workplace(lab, model, bars) as here:
        came = demonstrate(here)
        further = commands(here, came, lab)
        folder = here.folder
    seconds = time.monotonic() - began
    if json:
        output.as_json({"lab": folder, "round": came.report, "table": came.table, "seconds": seconds})
        return
    report = came.report
    verdict = "promoted" if report.promoted else "rejected, so the incumbent goes on serving"
    output.say("")
    scoreboard.show(came.table, title="Games that nothing was learned from")
    output.say("")
    output.facts(
        [
            ("gate", f"{report.adapter} was {verdict}: {report.gate.get('reason', '')}"),
            ("lab", folder),
            ("time", span(seconds)),
        ]
    )
    output.say("")
    output.say("Look further:")
    for command, what in further:
        output.say(f"  {command}")
        output.say(f"      {what}", "dim")


def commands(lab: Lab, came: Demonstration, folder: Path) -> list[tuple[str, str]]:
    """The commands to look further, on things that this lab really has, each with what it shows."""
    episode = came.tried_again[-1:] or [row.id for row in lab.database.episodes.find(newest=True, limit=1)]
    return [
        (
            command_line(folder, "memory", "search", "where are coins found", "--explain"),
            "what was written down, and why it fits",
        ),
        (
            command_line(folder, "memory", "list", "--sort", "uplift"),
            "what each reflection was measured to change, with its interval, as far as a few games tell",
        ),
        (command_line(folder, "replay", *episode), "an episode again, step by step, verified in its environment"),
        (command_line(folder, "rounds", "run"), "another round, which explores with the adapter that serves"),
        (command_line(folder, "view", "--open"), "all of it in a browser"),
    ]
