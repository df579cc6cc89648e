"""What the tests of the local engine share: one of the tiny model, its adapters, and what its models read."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from agentlab.engines.transformers import TransformersEngine
from trainers.training.canary import Canary


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> TransformersEngine:
    """Of the tiny model, in float32."""
    return TransformersEngine(tiny_model, dtype="float32", device="cpu")


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Callable[[TransformersEngine], list[list[int]]]:
    """Listens to an engine: the tokens that its base and its adapters read from now on, pass by pass."""

    def listen(engine: TransformersEngine) -> list[list[int]]:
        read: list[list[int]] = []
        family = type(engine.weights())
        forward = family.forward

        def listening(model: object, input_ids: torch.Tensor, **rest: object) -> object:
            read.append(input_ids[0].tolist())
            return forward(model, input_ids=input_ids, **rest)

        monkeypatch.setattr(family, "forward", listening)
        return read

    return listen


@pytest.fixture
def adapter(tiny_model: Path, tmp_path: Path, engine: TransformersEngine) -> Callable[..., Path]:
    """Makes a LoRA adapter that changes something, with a canary that is right unless told otherwise."""

    def made(name: str = "adapter", seed: int = 1, off_by: float = 0.0) -> Path:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # peft's own
                model = get_peft_model(base, config)
        folder = tmp_path / name
        model.save_pretrained(str(folder), save_embedding_layers=False)
        ids, spans = engine.tokenize("Task: Find the coin.\n> look\n"), [(4, 9)]
        merged = model.merge_and_unload().eval()
        scored = engine._logprob(merged, ids, spans)
        canary = Canary(
            token_ids=ids,
            spans=spans,
            base_logprob=engine.logprob(ids, spans),
            adapter_logprob=scored + off_by,
            base="any",
        )
        canary.save(folder / "canary.json")
        return folder

    return made
