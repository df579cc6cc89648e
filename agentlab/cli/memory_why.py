"""`agentlab memory why`: which reflections had a part in an episode, or at one step of it, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agentlab.cli import output
from agentlab.cli.options import DEFAULT_LAB, MOST, Json, LabFolder, Namespace, opened
from agentlab.cli.output import Column

if TYPE_CHECKING:
    from agentlab.views.recalls import RecalledItem

CHANNELS = {"text": "prompt text", "exemplar": "example", "advice": "action prior", "tool": "tool"}

_COLUMNS = [
    Column("step"),
    Column("reflection", head=True),
    Column("channel", head=True),
    Column("served", head=True),
    Column("rank"),
    Column("score", digits=3),
    Column("parts"),
    Column("command", "for"),
    Column("query", "asked with", wide=True),
    Column("text", wide=True),
]
TEXT = 160
"""Characters of a text, or of what was asked with, that a screen shows."""


def why(
    episode: Annotated[str, typer.Argument(help="An episode's id, or its beginning where that is unique.")],
    step: Annotated[
        int | None, typer.Argument(min=0, max=MOST, help="Only what had a part at this step, counted from 0.")
    ] = None,
    namespace: Namespace = None,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Say what was recalled for an episode and why: query, channel, rank, score and each part, served or held out.

    What stands in the prompt from the beginning has a part at every step; an action prior is shown at the step at which
    it first entered a score.
    """
    from agentlab.views.recalls import recalls

    with opened(lab, namespace=namespace) as here:
        found = recalls(here, episode, step)
    if json:
        output.as_json(found)
        return
    at = "" if step is None else f", step {step}"
    rows = [_row(one) for one in found.recalls]
    empty = f"Nothing was recalled for {found.episode}{at}."
    output.listing(rows, _COLUMNS, as_data=False, empty=empty, title=f"{found.episode}  {found.task}{at}")


def _row(one: RecalledItem) -> dict[str, object]:
    """A recall as cells."""
    unknown = "not recorded" if one.channel == "advice" else "from the beginning"
    served = "held out" if one.held_out else "served"
    return {
        "step": unknown if one.step is None else str(one.step),
        "reflection": one.reflection,
        "channel": CHANNELS[one.channel],
        "served": served if one.propensity >= 1 else f"{served}, probability of serving {one.propensity:.2f}",
        "rank": one.rank + 1,
        "score": one.score,
        "parts": ", ".join(f"{name} {part:.3g}" for name, part in one.parts.items() if name != "command"),
        "command": one.command,
        "query": output.one_line(one.query, TEXT),
        "text": output.one_line(one.text, TEXT),
    }
