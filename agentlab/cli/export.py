"""`agentlab export`: what was played, as a data set for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentlab.cli import output
from agentlab.cli.options import (
    DEFAULT_LAB,
    Adapter,
    Arm,
    Ended,
    Env,
    LabFolder,
    Run,
    Split,
    Task,
    episodes_wanted,
    opened,
)


def export(
    folder: Annotated[Path, typer.Argument(help="A new folder, or one that this wrote.", show_default=False)],
    redact: Annotated[
        str | None,
        typer.Option(
            "--redact", metavar="MODULE:FUNCTION", help="A function of your own that every text goes through."
        ),
    ] = None,
    env: Env = None,
    split: Split = None,
    task: Task = None,
    arm: Arm = None,
    adapter: Adapter = None,
    status: Ended = None,
    run: Run = None,
    lab: LabFolder = DEFAULT_LAB,
) -> None:
    """Write episodes as a Hugging Face data set, which TRL's trainers take as it is.

    Its parts: `episodes`, all that were played to their end; `sft` and `sft_tokens`, the best wins of train games as
    messages and as the tokens that were played; `preferences`, better and worse answers. README.md there says how each
    is trained on. An export that is in the folder already is replaced.
    """
    from agentlab.datasets import export_episodes
    from agentlab.datasets.redaction import named

    function = None if redact is None else named(redact)
    with opened(lab) as here:
        wanted = episodes_wanted(
            here, env=env, split=split, task=task, arm=arm, adapter=adapter, status=status, run=run
        )
        done = export_episodes(here, folder, wanted=wanted, redact=function)
    titles, *lines = done.grid
    rows = [dict(zip(titles, line, strict=True)) for line in lines]
    output.listing(rows, [output.Column(title, head=True) for title in titles], as_data=False, empty="")
    output.say("")
    output.say(f"This is in {done.folder}; README.md there says how it is loaded and trained on.")
    for config, reasons in done.left_out.items():
        output.note(f"{config} left out: " + ", ".join(f"{count:,} {reason}" for reason, count in reasons.items()))
