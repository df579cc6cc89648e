"""Adapters on a server: loaded by their folder, and proved by their canaries to be what answers to their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agentlab.engines.vllm.server import RANK
from agentlab.errors import ServerFailed
from trainers.adapters import check_files
from trainers.errors import BadAdapter, CanaryFailed
from trainers.training import Canary

if TYPE_CHECKING:
    from agentlab.engines.base import Adapter
    from agentlab.engines.vllm.client import Client

Measure = Callable[[str, Sequence[int], Sequence[tuple[int, int]]], float]
"""The log-probability of spans of a text by whoever answers to a name."""

VOCABULARY = ("lm_head", "embed_tokens")
"""Layers on which a server drops what an adapter adds without saying so, or ends."""

OWN = (
    f"the server that AgentLab starts takes a rank of {RANK} at most: play it with `--engine transformers`, or with "
    "--server on one that was started with a larger --max-lora-rank"
)
OTHERS = (
    "a server that was started by somebody else needs --enable-lora, VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, a "
    "--max-lora-rank that is large enough, and this machine's folders"
)
"""What to do where a server refuses an adapter."""


def load(client: Client, adapter: Adapter, *, own: bool) -> None:
    """Have the server, `own` or somebody else's, know an adapter by its id, as its folder is now.

    Raises BadAdapter if it is damaged, changes the vocabulary's layers, or is refused; ServerFailed.
    """
    check_files(adapter.folder)
    on = layers(adapter)
    refused = [name for name in VOCABULARY if any(name in layer for layer in on)]
    if refused:
        raise BadAdapter(
            f"the adapter {adapter.id} changes {', '.join(refused)}, which vLLM serves wrongly; play it with "
            "`--engine transformers`, or train one whose `targets` are the layers of the blocks"
        )
    body = {"lora_name": adapter.id, "lora_path": str(adapter.folder.resolve())}
    there = {str(model.get("id")) for model in client.get("/v1/models").get("data", [])}
    try:
        client.post("/v1/load_lora_adapter", body | ({"load_inplace": True} if adapter.id in there else {}))
    except ServerFailed as failure:
        if failure.status is None or failure.status >= 500:
            raise
        raise BadAdapter(
            f"the vLLM server refuses the adapter {adapter.id} ({failure.reason}); {OWN if own else OTHERS}"
        ) from failure


def layers(adapter: Adapter) -> list[str]:
    """The names of the tensors of an adapter."""
    from safetensors import safe_open

    with safe_open(adapter.folder / "adapter_model.safetensors", "pt") as weights:
        return list(weights.keys())


def prove(adapter: Adapter, name: str, base: str | None, measure: Measure) -> None:
    """Raise CanaryFailed unless whoever answers to `name` scores the adapter's canary as the trainer recorded, and
    whoever answers to `base`, where there is one, as the base beneath did."""
    recorded = Canary.load(adapter.folder / "canary.json")
    recorded.check(measure(name, recorded.token_ids, recorded.spans))
    if base is None:
        return
    found = measure(base, recorded.token_ids, recorded.spans)
    if not abs(found - recorded.base_logprob) <= recorded.tolerance:
        raise CanaryFailed(
            f"the base scored {found:.2f} on the canary of {adapter.id}, and {recorded.base_logprob:.2f} ± "
            f"{recorded.tolerance:.2f} where that was trained; the server has another base model; start it with the "
            "lab's"
        )
