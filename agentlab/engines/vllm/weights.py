"""Adapters on a CPU's server: merged into a copy of the base's weights, which the server takes in place of its own.

A CPU computes a LoRA request of vLLM's nearly token by token, and merged weights as it does the base's. The server has
one model's weights at a time, so those who ask different models take turns. What it keeps of texts that were read is
kept for each model by itself, and is still there when its turn comes again.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from agentlab.engines.adapted import write_merged
from agentlab.engines.base import Adapter
from agentlab.engines.vllm.client import Client
from agentlab.engines.waiting import Waiters, heard
from agentlab.errors import ServerFailed

TURN = 10.0
"""Seconds after which a model's turn is over, where somebody waits for another."""

LULL = 0.2
"""Seconds without a question after which it is over before that: who plays asks again soon."""

KEPT = 3
"""Adapters of which the merged weights stay on the disk."""


class Weights:
    """The weights that one server has now: those of the base in `folder`, or of it with an adapter.

    The merged weights are written below `scratch`, in the number format `dtype`. Whoever waits for a turn is one of
    `waiters`. It may be used by many threads at once.
    """

    def __init__(self, client: Client, folder: Path, scratch: Path, dtype: torch.dtype, waiters: Waiters) -> None:
        self.client, self.folder, self.scratch, self.dtype = client, folder, scratch, dtype
        self._waiters = waiters
        self._change = threading.Condition()
        self._now: Adapter | None = None
        self._known = False  # whether the server has them: not where it is met again, or after a change that failed
        self._changing = False
        self._asking = 0
        self._began = self._asked = 0.0  # when this turn did, and when it was last asked in
        self._waiting: list[Adapter | None] = []  # for a turn, in the order they came
        self._files: OrderedDict[Adapter, Path] = OrderedDict()

    @contextmanager
    def of(self, adapter: Adapter | None) -> Iterator[dict[str, Any]]:
        """Within, the server computes with the base's weights or an adapter's; gives what a request says besides.

        Raises BadAdapter if the adapter cannot be laid on the base, ServerFailed, and what the waiting is given up by.
        """
        if self._turn(adapter):
            self._take(adapter)
        try:
            yield {"cache_salt": sha256(repr(adapter).encode()).hexdigest()} if adapter else {}
        finally:
            with self._change:
                self._asking -= 1
                self._asked = time.monotonic()
                self._change.notify_all()

    def _turn(self, adapter: Adapter | None) -> bool:
        """Wait until it is this model's turn; whether its weights are to be taken first, by whoever is told so."""
        given_up = self._waiters.given_up
        with self._change:
            self._waiting.append(adapter)
            try:
                while not (mine := self._may_ask(adapter)) and not self._may_change(adapter):
                    self._change.wait(LULL / 4)
                    heard(given_up)
                self._asking += mine
                self._changing = not mine
                return not mine
            finally:
                self._waiting.remove(adapter)

    def _may_ask(self, adapter: Adapter | None) -> bool:
        over = self._others and time.monotonic() - self._began >= TURN
        return not self._changing and self._known and self._now == adapter and not over

    def _may_change(self, adapter: Adapter | None) -> bool:
        if self._changing or self._asking:
            return False
        if not self._known:
            return True
        now = time.monotonic()
        over = now - self._began >= TURN or now - self._asked >= LULL
        return over and self._others[:1] == [adapter]

    @property
    def _others(self) -> list[Adapter | None]:
        return [one for one in self._waiting if one != self._now]

    def _take(self, adapter: Adapter | None) -> None:
        """Have the server take these weights, while nobody else asks it anything."""
        try:
            self._known = False
            place = self._merged(adapter) if adapter else self.folder
            # Nothing that was given up may still be read, and be kept as what the new weights made of it.
            self.client.post("/pause?mode=abort&clear_cache=false", {})
            self.client.post(
                "/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(place.resolve())}}
            )
            self.client.post("/resume", {})
            self._now, self._known = adapter, True
        finally:
            with self._change:
                self._changing = False
                self._asking += self._known
                self._began = time.monotonic()
                self._change.notify_all()

    def _merged(self, adapter: Adapter) -> Path:
        """The folder of the merged weights."""
        if adapter not in self._files:
            while len(self._files) >= KEPT:
                shutil.rmtree(self._files.popitem(last=False)[1], ignore_errors=True)
            place = self.scratch / f"{adapter.id}-{time.monotonic_ns()}"
            try:
                write_merged(self.folder, adapter.folder, self.dtype, place)
            except (OSError, SafetensorError) as error:
                with suppress(OSError):
                    shutil.rmtree(place)
                raise ServerFailed(
                    f"The weights of {adapter.id} for the vLLM server cannot be written below {self.scratch} "
                    f"({error}); make room there; the same command tries again."
                ) from error
            self._files[adapter] = place
        self._files.move_to_end(adapter)
        return self._files[adapter]
