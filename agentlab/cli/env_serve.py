"""`agentlab env serve`: an environment for other programs."""

from __future__ import annotations

from typing import Annotated

import typer

from agentlab.cli import output
from agentlab.cli.help import SETTINGS
from agentlab.cli.options import Host

PORT = 8000
PACKAGES = ("starlette", "uvicorn", "websockets")

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=SETTINGS,
    help="Serve environments to other programs.",
)


@app.callback()
def _group() -> None:
    pass


@app.command()
def serve(
    env: Annotated[str, typer.Argument(help="An environment, such as twx/coin or 'twx/arithmetic?tools=calculator'.")],
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help=f"By default {PORT}, or a free one if that is taken.")
    ] = None,
    host: Host = "127.0.0.1",
    sessions: Annotated[int, typer.Option("--sessions", min=1, max=1000, help="How many games at once.")] = 64,
) -> None:
    """Serve an environment by the OpenEnv protocol, so that TRL and others can train on it. Ctrl-C ends it.

    Each connection plays games of its own. Folds are ranges of seeds: train from 0, dev from 10000, test from 20000.
    """
    import importlib.util
    import secrets

    from agentlab import failures
    from agentlab.errors import AgentLabError, MissingPackage
    from agentlab.listening import listening_at
    from environments import canonical, games, make
    from environments.worker import dispose

    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackage(f"The package {missing[0]} is missing; run `pip install 'agentlab[openenv]'`.")
    if not host.strip():  # to the system, every address of this machine
        raise AgentLabError("--host names no address; 0.0.0.0 is every address of this machine.")
    from environments.serving import LOOPBACK, served
    from environments.serving import serve as run

    name = canonical(env)
    with failures.environment(name):
        dispose(make(name))  # what cannot be made is said now
    token = "" if host in LOOPBACK else secrets.token_urlsafe(24)
    made = served(lambda: make(name), name, games(name).description, sessions=sessions, host=host, token=token)
    with listening_at(host, PORT if port is None else port, any_port=port is None) as listening:
        shown = f"[{host}]" if ":" in host else host
        output.say(f"{name} is at http://{shown}:{listening.getsockname()[1]} (Ctrl-C ends it).")
        if token:
            output.say(f"Clients give the token: Authorization: Bearer {token}")
        run(made, listening)
