"""What adapters take beside a large base: memory of the base alone and with each adapter, and loads over many switches.

    python benchmarks/adapters_in_memory.py [--layers 28] [--adapters 3] [--switches 60]

The base has random weights in the shape of Qwen2.5-1.5B, in bfloat16; the adapters have rank 16 on every linear layer.
Bytes are those of tensors, each counted once however many models share it, and beside them what the system says of the
process. The exit code is 1 if anything is loaded again, if an adapter changes nothing, or if all take 10 % more than
the base and the files of the adapters together.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from machine import describe

from agentlab.engines import adapted
from agentlab.engines.adapted import AdaptedModels

MORE = 1.1
MIB = 2**20


def base(folder: Path, layers: int) -> None:
    """Write a base of random weights into a folder."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=layers,
        num_attention_heads=12,
        num_key_value_heads=2,
        vocab_size=151936,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    model = model.to_empty(device="cpu")
    # The same numbers again and again: to draw each takes minutes, and nobody asks what they say.
    drawn = torch.randn(2**20, generator=torch.Generator().manual_seed(0)).mul_(0.02).bfloat16()
    for weights in model.parameters():
        flat = weights.data.view(-1)
        for start in range(0, len(flat), len(drawn)):
            flat[start : start + len(drawn)] = drawn[: len(flat) - start]
    model.tie_weights()
    model.save_pretrained(folder)


def adapter(folder: Path, model: Any, seed: int) -> None:
    """Write an adapter that changes something into a folder."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=16, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(model, config).save_pretrained(str(folder), save_embedding_layers=False)


def held(models: Iterable[Any]) -> int:
    """Bytes of all weights of some models, those that they share counted once."""
    found = {
        weights.data_ptr(): weights.numel() * weights.element_size() for one in models for weights in one.parameters()
    }
    return sum(found.values())


def resident() -> int:
    """Bytes of this process that are in memory."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a bound is broken."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--layers", type=int, default=28)
    options.add_argument("--adapters", type=int, default=3)
    options.add_argument("--switches", type=int, default=60)
    given = options.parse_args(arguments)
    print(f"Qwen2.5-1.5B's shape with {given.layers} layers, random weights, bfloat16; {describe(1)}\n")
    broken = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        base(folder / "base", given.layers)
        models = AdaptedModels(folder / "base", "cpu", torch.bfloat16)
        models.merges = False
        names = [f"adapter {number + 1}" for number in range(given.adapters)]
        for number, name in enumerate(names):
            adapter(folder / name, adapted._twin(models.base), number)
        loads: list[str] = []
        beside = models._beside
        models._beside = lambda path: loads.append(path.name) or beside(path)  # type: ignore[method-assign]
        print("| in use | weights, MiB | process, MiB |")
        print("|---|---|---|")
        served: dict[str, Any] = {}
        said: dict[str, torch.Tensor] = {}
        for name in ("base", *names):
            is_base = name == "base"
            served[name] = models.base if is_base else models.model(name, folder / name, lambda model: None)
            with torch.inference_mode():
                said[name] = served[name](torch.tensor([[5, 7]])).logits[0, -1]
            label = f"base, {held([models.base]) / 2 / 1e9:.2f}B parameters" if is_base else f"+ {name}"
            print(f"| {label} | {held(served.values()) / MIB:.0f} | {resident() / MIB:.0f} |", flush=True)
        alone = held([models.base])
        for at in range(given.switches):
            name = names[at % len(names)]
            if models.model(name, folder / name, lambda model: None) is not served[name]:
                broken.append(f"{name} is another after {at} switches")
        files = sum(file.stat().st_size for name in names for file in (folder / name).glob("*.safetensors"))
        print(
            f"\n{len(loads)} loads in {len(names) + given.switches} switches; files of adapters {files / MIB:.0f} MiB."
        )
        broken += [f"loaded {len(loads)} times"] * (len(loads) != len(names))
        broken += [f"{name} changes nothing" for name in names if torch.equal(said[name], said["base"])]
        if held(served.values()) > MORE * (alone + files):
            broken.append(
                f"{held(served.values()) / MIB:.0f} MiB for a base of {alone / MIB:.0f} and {files / MIB:.0f}"
            )
    print("\n" + ("\n".join(f"BROKEN: {line}" for line in broken) or "All bounds hold."))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
