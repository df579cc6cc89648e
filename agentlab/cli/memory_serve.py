"""`agentlab memory serve`: the memory for other programs."""

from __future__ import annotations

from typing import Annotated

import typer

from agentlab.cli.options import DEFAULT_LAB, LabFolder


def serve(
    mcp: Annotated[bool, typer.Option("--mcp", help="Speak the Model Context Protocol on stdin and stdout.")] = False,
    allow_write: Annotated[
        bool, typer.Option("--allow-write", help="Let clients add reflections and forget them.")
    ] = False,
    lab: LabFolder = DEFAULT_LAB,
) -> None:
    """Serve the memory to MCP clients, for reading only unless writing is allowed. The client starts this by itself.

    A client is set up with the command `agentlab memory serve --mcp --lab FOLDER`. It can go on beside `agentlab run`.
    """
    from agentlab.bars import Lines
    from agentlab.errors import AgentLabError, MissingPackage

    if not mcp:
        raise AgentLabError("No protocol was named; add --mcp, the one that there is.")
    try:
        from agentlab import memory_server
    except ImportError as error:
        if (error.name or "").split(".")[0] not in ("mcp", "mcp_types"):
            raise
        raise MissingPackage(
            f"The package mcp cannot be imported ({error}); run `pip install 'mcp>=2.3,<3'`, or install agentlab[mcp]."
        ) from error
    memory_server.serve(lab, allow_write=allow_write, progress=Lines())
