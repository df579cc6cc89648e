"""A vLLM server of one's own: on loopback, behind a key that nobody else knows, gone when this program is."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError

from agentlab.engines.adapted import can_be_merged_into, write_merged
from agentlab.engines.base import Adapter
from agentlab.engines.transformers import best_dtype
from agentlab.engines.vllm import supervisor
from agentlab.engines.vllm.client import Client
from agentlab.engines.vllm.installed import Installed
from agentlab.engines.waiting import Waiters, heard, paused
from agentlab.errors import ServerUnavailable

PATIENCE, NEWS = 1800.0, 30.0
"""Seconds that a server may take to load its model, and after which it is said that it still does."""

BATCHED = 4096
"""Tokens of one step on a CPU, where a prompt is not read in chunks: as long as a prompt may be, at least."""

RANK, AT_ONCE, KEPT = 64, 4, 64
"""Of adapters: their largest rank, how many in one batch, and how many in the server's memory."""

LOGPROBS = 128
"""Tokens of which one request can have the log-probabilities."""

SHARE, MOST = 0.35, 0.9
"""Of a GPU's memory: what serves where training has room beside it, at least, and what serves at most."""

SERVING, TRAINING = 4 * 2**30, 8 * 2**30
"""Bytes beside the weights: of conversations that are served, and of adapters that are trained on the same GPU."""


@dataclass
class OwnServer:
    """Serves the model in `folder` by the name `name`, with its output in the file `log`.

    `context` is how many tokens a prompt may have with what is written behind it. It is started by `start`, again if it
    died; `say` is told how far that is. Whoever waits for it is one of `waiters`. With an `adapter` it serves the model
    with that merged into it.
    """

    folder: Path
    name: str
    dtype: str
    context: int
    log: Path
    say: Callable[[str], None]
    seconds: float = 300.0
    waiters: Waiters = field(default_factory=Waiters)
    adapter: Adapter | None = None
    installed: Installed = field(default_factory=Installed.find)

    def __post_init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: Path | None = None
        self._from = 0  # where its output begins in the log

    @property
    def takes_merged(self) -> bool:
        """Whether adapters are merged into the model, and not requests beside it: on a CPU, where that is small."""
        return self.installed.cpu and can_be_merged_into(self.folder)

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def gives_way(self) -> bool:
        """Whether it holds memory that training on the same GPU needs."""
        return self.running and not self.installed.cpu and room_on_gpu(self.folder).gives_way

    def start(self) -> Client:
        """Start it, and wait until it answers.

        Raises ServerUnavailable if it ends before that, or takes too long, BadAdapter (trainers.errors) if its adapter
        cannot be laid on the model.
        """
        self.stop()
        given_up = self.waiters.given_up
        port, key = _free_port(), secrets.token_hex(16)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # what training had, and PyTorch would keep for this process
        who = f"{self.name} and {self.adapter.id}" if self.adapter else self.name
        self.say(f"Starting vLLM {self.installed.version} with {who} (its output is in {self.log}).")
        try:
            model = self.folder
            if self.adapter:  # merged in a new folder that only this user opens
                self._scratch = Path(tempfile.mkdtemp(prefix="agentlab-vllm-"))
                model = self._scratch / "model"
            scratch = str(self._scratch or "")
            with self.log.open("ab") as log:
                self._from = log.tell()
                self._process = subprocess.Popen(
                    [sys.executable, "-I", str(supervisor.__file__), scratch, *self.command(port, model)],
                    stdin=subprocess.PIPE,
                    bufsize=0,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environment(key),
                    start_new_session=True,  # Ctrl-C is for this program, which ends the steps in flight first
                )
            if self.adapter:
                self._merge(self.adapter, model)
            heard(given_up)
            assert self._process.stdin is not None
            self._process.stdin.write(b"\n")
        except OSError as error:
            self.stop()
            raise ServerUnavailable(
                f"The vLLM server cannot be started ({error}); check {self.log.parent} and the memory that is free."
            ) from error
        except BaseException:
            self.stop()
            raise
        client = Client(f"http://127.0.0.1:{port}", key, self.seconds, self.waiters)
        try:
            self._wait(client, given_up)
        except BaseException:
            client.close()
            self.stop()
            raise
        return client

    def _wait(self, client: Client, given_up: Future[None]) -> None:
        began = told = time.monotonic()
        while not client.healthy():
            now = time.monotonic()
            if not self.running or now - began > PATIENCE:
                what = "takes too long to start" if self.running else "ended while it started"
                raise ServerUnavailable(
                    f"The vLLM server {what} ({last_error(self.log, self._from)}); its output is in {self.log}: less "
                    "memory is needed with a smaller `context` in lab.toml or a smaller model."
                )
            if now - told > NEWS:
                told = now
                self.say(f"vLLM is still loading after {now - began:.0f} s; its output is in {self.log}.")
            paused(given_up, 0.5)
        self.say(f"vLLM is ready after {time.monotonic() - began:.0f} s.")
        self._clear()  # it has read the weights

    def _merge(self, adapter: Adapter, model: Path) -> None:
        """Write the weights with the adapter merged in to the folder `model`."""
        try:
            write_merged(self.folder, adapter.folder, getattr(torch, self._dtype()), model)
        except (OSError, SafetensorError) as error:
            raise ServerUnavailable(
                f"The weights of {adapter.id} cannot be written for the vLLM server ({error}); make room in "
                f"{model.parents[1]}, or name another folder in TMPDIR."
            ) from error

    def _clear(self) -> None:
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)

    def stop(self) -> None:
        """End it, with all that it started."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()  # which its supervisor notices
            try:
                process.wait(supervisor.GRACE + 10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._clear()

    def command(self, port: int, model: Path) -> list[str]:
        """What is run to serve the weights in the folder `model`."""
        shown: dict[str, Any] = {
            "--model": model,
            "--tokenizer": self.folder,
            "--served-model-name": self.name,
            "--host": "127.0.0.1",
            "--port": port,
            "--dtype": self._dtype(),
            "--max-model-len": self.context,
            "--max-logprobs": LOGPROBS,
        }
        flags = []
        if self.installed.cpu:
            # A prompt in chunks with a seed ends the engine on a CPU, and compiling takes longer than it saves there.
            shown |= {"--block-size": 32, "--max-num-batched-tokens": max(BATCHED, self.context)}
            flags += ["--enforce-eager", "--no-enable-chunked-prefill"]
        else:
            shown |= {"--gpu-memory-utilization": f"{room_on_gpu(self.folder).share:.2f}"}
        if not self.takes_merged:
            shown |= {"--max-lora-rank": RANK, "--max-loras": AT_ONCE, "--max-cpu-loras": KEPT}
            flags += ["--enable-lora"]
            if self.installed.cpu:
                # There, two adapters at once on the vocabulary's layer end the engine: that layer is left alone.
                flags += ["--lora-target-modules", *adaptable(self.folder)]
        options = [str(part) for option in shown.items() for part in option]
        return [self.installed.python, "-P", "-m", "vllm.entrypoints.openai.api_server", *options, *flags]

    def _dtype(self) -> str:
        """As it is set; by "auto" what a local engine takes where the server runs, as far as that is known here."""
        gpus = torch.cuda.is_available()
        if self.dtype != "auto" or not (self.installed.cpu or gpus):
            return self.dtype
        return str(best_dtype("cpu" if self.installed.cpu else "cuda")).removeprefix("torch.")

    def _environment(self, key: str) -> dict[str, str]:
        mine = {
            "VLLM_API_KEY": key,
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        found = {**os.environ, **mine}
        if self.installed.cpu:
            found.setdefault("VLLM_CPU_KVCACHE_SPACE", "1" if self.takes_merged else "2")
        if self.installed.python != sys.executable:
            found.pop("PYTHONPATH", None)
        return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Room(NamedTuple):
    """The `share` of a GPU's memory that serves, and whether the server `gives_way` while something is trained."""

    share: float
    gives_way: bool


def room_on_gpu(folder: Path) -> Room:
    """The room that a server of the model in `folder` takes on the GPU.

    Where the weights fit twice, once to serve and once to be trained on, both have their part of it; where they do not,
    the server takes all that it may, and gives way while something is trained. Where PyTorch sees no GPU here, nothing
    is trained on one.
    """
    if not torch.cuda.is_available():
        return Room(MOST, gives_way=False)
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    _, whole = torch.cuda.mem_get_info()
    if 2 * weights + SERVING + TRAINING > whole:
        return Room(MOST, gives_way=True)
    return Room(max(min(SHARE, (whole - weights - TRAINING) / whole), (weights + SERVING) / whole), gives_way=False)


def adaptable(folder: Path) -> list[str]:
    """The names of the linear layers in the blocks of the model in `folder`, which adapters may be on."""
    from safetensors import safe_open

    found = set()
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            for key in weights.keys():  # noqa: SIM118 - it is no dict
                path = key.split(".")
                in_a_block = path[-1] == "weight" and any(map(str.isdigit, path))
                if in_a_block and len(weights.get_slice(key).get_shape()) == 2:
                    found.add(path[-2])
    return sorted(found)


def last_error(log: Path, start: int = 0) -> str:
    """The last line of a log, from the byte `start` on, that names an error, or the last of all."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(log.stat().st_size - 65536, start))
            lines = [line for line in stream.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return "no log"
    errors = [line for line in lines if "Error" in line]
    return " ".join((errors or lines or ["it said nothing"])[-1].split())[-200:]
