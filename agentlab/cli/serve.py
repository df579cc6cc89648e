"""`agentlab serve`: what was learned, for other programs that chat."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentlab.bars import progress
from agentlab.cli import output
from agentlab.cli.options import DEFAULT_LAB, LabFolder
from agentlab.cli.playing import Engine, Server
from agentlab.cli.runs import Model, workplace

PORT = 8427
TOKENS = 1024
PACKAGES = ("starlette", "uvicorn")


def serve(
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help=f"By default {PORT}, or a free one if that is taken.")
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Where to listen; anything but this machine itself needs clients with keys.")
    ] = "127.0.0.1",
    client: Annotated[
        str | None,
        typer.Option(
            "--client", metavar="NAME", help="Make a client with a memory of its own, or a new key for it, and end."
        ),
    ] = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, max=1_000_000, help="Tokens of an answer, at most.")
    ] = TOKENS,
    model: Model = None,
    engine: Engine = None,
    server: Server = None,
    lab: LabFolder = DEFAULT_LAB,
) -> None:
    """Serve the lab's model to any program that speaks OpenAI's protocol for chats, with a memory. Ctrl-C ends it.

    What fits a message is recalled before the answer, and what the user states is noted after it, for each client
    apart. It can go on beside `agentlab run`. A lab is made if there is none.
    """
    from agentlab.errors import LabLocked, MissingPackage

    with progress() as bars:
        try:
            with workplace(lab, model, bars, engine=engine, server=server) as made:
                _ = made.database  # there to be looked at from now on
                settings = made.config.model_dump(include={"engine", "server"})
        except LabLocked:
            # Whoever plays goes on; what is to be looked at is there.
            if model is not None or not (lab / "lab.db").exists():
                raise
            settings = {name: value for name, value in (("engine", engine), ("server", server)) if value is not None}
    if client is not None:
        _new_client(lab, client)
        return
    try:
        from agentlab.serving import server as serving
    except ImportError as error:
        if (error.name or "").split(".")[0] not in PACKAGES:
            raise
        raise MissingPackage(
            f"Chats are served with the package {error.name}; run `pip install 'agentlab[ui]'` to get all of them."
        ) from error
    from agentlab.bars import Lines

    serving.serve(
        lab,
        host,
        PORT if port is None else port,
        any_port=port is None,
        most=max_tokens,
        settings=settings,
        progress=Lines(),
        say=output.say,
    )


def _new_client(lab: Path, name: str) -> None:
    """Make a client and print its key, once."""
    from agentlab.serving.clients import Clients
    from agentlab.workspace.config import read_config
    from agentlab.workspace.workspace import CONFIG_FILE

    made, key = Clients(lab, read_config(lab / CONFIG_FILE).namespace).create(name)
    output.say(key)
    output.note(f"This is {name}'s key, shown once. Its memory is the namespace {made.namespace}.")
