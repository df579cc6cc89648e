"""`agentlab view`: the screens, in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentlab.cli import output
from agentlab.cli.options import DEFAULT_LAB, Host, LabFolder

PORT = 8417

PACKAGES = ("starlette", "uvicorn", "jinja2", "python_multipart", "multipart")


def view(
    lab: LabFolder = DEFAULT_LAB,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help=f"By default {PORT}, or a free one if that is taken.")
    ] = None,
    host: Host = "127.0.0.1",
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write the pages into this folder instead, to be read from disk.")
    ] = None,
) -> None:
    """Open a lab in the browser: replays, the memory, comparisons, rounds and adapters, live beside a run.

    The lab is only read, except where a page's button changes something. --lab may name a folder of several labs.
    """
    from agentlab.errors import MissingPackage

    try:
        from agentlab.web import exporting, server
    except ImportError as error:
        if (error.name or "").split(".")[0] not in PACKAGES:
            raise
        raise MissingPackage(
            f"The screens need the package {error.name}; run `pip install 'agentlab[ui]'` to get all of theirs."
        ) from error
    if export is not None:
        written = exporting.export(lab, export)
        output.say(f"{written:,} pages were written; open {export / 'index.html'} in a browser.")
        return
    server.serve(lab, host, PORT if port is None else port, any_port=port is None, open_it=open_it, say=output.say)
