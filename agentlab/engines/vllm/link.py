"""A server as it was met."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentlab.engines.base import Adapter
from agentlab.engines.vllm.client import Client
from agentlab.engines.vllm.weights import Weights


@dataclass
class Link:
    """The name of the base there, how many log-probabilities the server gives at once, and the adapters that were
    proved on it.

    Where it has `weights`, an adapter's are taken in place of the base's; elsewhere it is a LoRA request by its id.
    """

    client: Client
    base: str
    logprobs: int
    weights: Weights | None = None
    adapters: dict[str, Path] = field(default_factory=dict)

    @contextmanager
    def asking(self, adapter: Adapter | None) -> Iterator[dict[str, Any]]:
        """Within, a request that says what is given is answered by the base, or by an adapter that was loaded."""
        if self.weights is None:
            yield {"model": adapter.id if adapter else self.base}
        else:
            with self.weights.of(adapter) as besides:
                yield {"model": self.base, **besides}
