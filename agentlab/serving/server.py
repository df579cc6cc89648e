"""The server of chats, on this machine's own address unless another one is asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn

from agentlab.errors import AgentLabError
from agentlab.lab import Lab
from agentlab.listening import is_local, listening_at
from agentlab.progress import Progress
from agentlab.serving.app import Service
from agentlab.serving.chats import Chats
from agentlab.serving.clients import Clients

PATIENCE = 5
"""Seconds that answers in the making have to end in when the server does."""


class _Server(uvicorn.Server):
    """Gives up what is being written when it is told to end, so that it ends soon."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service

    def handle_exit(self, sig: int, frame: Any) -> None:
        self.service.chats.end()
        super().handle_exit(sig, frame)


def serve(
    folder: Path,
    host: str,
    port: int,
    *,
    any_port: bool,
    most: int,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the lab in `folder` until Ctrl-C. With `any_port` another one is taken if it is not free. Answers have at
    most so many tokens; `settings` of the lab hold for this server alone.

    The lab is open for looking only, so that whoever plays in it can go on; a note takes its lock for a moment.
    Raises NotALab, AgentLabError if it cannot listen there or nobody could ask, and what loading the model does.
    """
    if not host.strip():  # to the system, every address of this machine
        raise AgentLabError("--host names no address; 0.0.0.0 is every address of this machine.")
    with Lab.open(folder, write=False, progress=progress) as lab:
        lab.config = lab.config.model_copy(update=dict(settings or {}))
        clients = Clients(lab.folder, lab.config.namespace)
        if not clients.keyed and not is_local(host):
            raise AgentLabError(
                f"Whoever can reach {host} could chat and read the lab's memory; make a key first, with `agentlab "
                "serve --client NAME`, or leave --host out."
            )
        with listening_at(host, port, any_port=any_port) as listening:
            chats = Chats(lab, most=most)
            service = Service(chats, clients, host, lab.progress.say, listening.getsockname()[1])
            shown = f"[{host}]" if ":" in host else host
            who = "with a key" if clients.keyed else "without a key, from this machine alone"
            say(f"{chats.named('')[0]} of {folder} is at http://{shown}:{service.port}/v1, {who} (Ctrl-C ends it).")
            config = uvicorn.Config(
                service.asgi(),
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="off",
                timeout_graceful_shutdown=PATIENCE,
            )
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # that it cancels what is still written
            try:
                with suppress(KeyboardInterrupt):  # how it is ended
                    _Server(config, service).run(sockets=[listening])
            finally:
                service.end()
