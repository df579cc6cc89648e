"""The server of the screens, on this machine's own address."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvicorn

from agentlab.errors import AgentLabError
from agentlab.listening import listening_at
from agentlab.views.standings import standings
from agentlab.web.app import Application, application
from agentlab.web.safety import Access


def serve(
    folder: Path, host: str, port: int, *, any_port: bool, open_it: bool, say: Callable[[str], None] = print
) -> None:
    """Serve the lab in `folder`, or all in it, until Ctrl-C. With `any_port` another one is taken if it is not free.

    Raises NotALab, and AgentLabError if it cannot listen there.
    """
    if not host.strip():  # to the system, every address of this machine
        raise AgentLabError("--host names no address; 0.0.0.0 is every address of this machine.")
    access = Access(host)
    made = application(folder, access)
    with listening_at(host, port, any_port=any_port) as listening:
        access = Access(host, listening.getsockname()[1], access.token)
        made.access = access
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{access.port}/" + ("" if access.local else f"?token={access.token}")
        say(f"The screens of {folder} are at {address} (Ctrl-C ends them).")
        if open_it:
            import webbrowser

            webbrowser.open(address)
        config = uvicorn.Config(
            made.asgi(), log_level="warning", access_log=False, server_header=False, proxy_headers=False, lifespan="off"
        )
        # What a large lab is sorted by takes seconds to sum up; nobody needs to wait for it.
        threading.Thread(target=_warm, args=(made,), daemon=True, name="warm").start()
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:
            pass  # how it is ended
        finally:
            for lab in made.labs:
                lab.close()


def _warm(made: Application) -> None:
    """Have at hand what the first page of the memory that is sorted by its worth would wait for."""
    for lab in made.labs:
        with suppress(Exception):  # a lab that cannot be read says so on its pages
            standings(lab.workspace)
