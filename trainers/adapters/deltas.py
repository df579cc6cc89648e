"""What LoRA adapters add to the weights of their base, read from their files, combined and written again.

peft can merge adapters too, on a loaded model: its `cat` and `svd` give what they say, its `linear`, `ties` and
`dare_linear` work on the factors A and B rather than on their product, and a name that exists already is kept without a
word. Here nothing has a name and no model is needed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from memory.text import loaded
from trainers.adapters.merging import MergeConfig
from trainers.errors import BadAdapter, CannotMerge

PREFIX = "base_model.model."
"""What peft puts before the name of a module of the base."""

PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "fan_in_fan_out": (False,),
    "init_lora_weights": (True, False, "gaussian"),
    **{
        name: (None, False, [], {})
        for name in (
            "use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "layers_to_transform", "layer_replication",
            "target_parameters", "trainable_token_indices",
        )
    },
}  # fmt: skip
"""The settings with which an adapter is nothing but s·B·A; the first is peft's default."""

NEGLIGIBLE = 1e-6
"""Singular values below this share of the largest are rounding."""


class Factors(NamedTuple):
    """B·A: `a` has the shape (rank, in), `b` (out, rank). The scaling is in `a`."""

    a: torch.Tensor
    b: torch.Tensor

    def product(self) -> torch.Tensor:
        """Shape (out, in), float64."""
        return self.b.double() @ self.a.double()

    @property
    def rank(self) -> int:
        return self.a.shape[0]


Delta = Mapping[str, Factors]
"""What an adapter adds, by the name of the module in the base."""


class Merged(NamedTuple):
    """The result of a merge; `error` and `truncation` as in `trainers.lineage.Merge`."""

    delta: Delta
    rank: int
    error: float
    truncation: float


def read(folder: Path) -> Delta:
    """What the adapter in `folder` adds. Raises CannotMerge if it is no plain LoRA, BadAdapter if it is damaged."""
    settings = _settings(folder)
    odd = [name for name, allowed in PLAIN.items() if settings.get(name, allowed[0]) not in allowed]
    if odd:
        raise CannotMerge(
            f"{folder} is more than a plain LoRA ({', '.join(f'{name}={settings[name]}' for name in odd)}); its effect "
            "is not B·A alone, so no sum would hold it; merge adapters without that"
        )
    try:
        tensors = load_file(folder / "adapter_model.safetensors")
    except (OSError, SafetensorError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise BadAdapter(f"{folder} has weights that cannot be read ({reason}); train or copy it again") from error
    names = {key.removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight")}
    if tensors.keys() != {f"{name}.lora_{side}.weight" for name in names for side in "AB"} or not names:
        raise CannotMerge(
            f"{folder} holds more or less than pairs of LoRA factors; merge adapters that hold just those"
        )
    alpha, found = settings.get("lora_alpha"), {}
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise BadAdapter(f"{folder} has no lora_alpha that is a number; train or copy it again")
    for name in sorted(names):
        a, b = tensors[f"{name}.lora_A.weight"].float(), tensors[f"{name}.lora_B.weight"].float()
        if a.ndim != 2 or b.ndim != 2 or not 0 < len(a) == b.shape[1] or not a.numel() or not b.numel():
            raise BadAdapter(
                f"{folder} has factors of {name[:80]!r} that cannot be multiplied ({list(a.shape)}, "
                f"{list(b.shape)}); train or copy it again"
            )
        if not (a.isfinite().all() and b.isfinite().all()):
            raise BadAdapter(f"{folder} has factors of {name[:80]!r} that are no numbers; train or copy it again")
        divisor = math.sqrt(len(a)) if settings.get("use_rslora") else len(a)
        found[name.removeprefix(PREFIX)] = Factors(a * (alpha / divisor), b)
    return found


def write(folder: Path, merged: Merged, like: Sequence[Path]) -> None:
    """Write an adapter in peft's form, with the settings of those that it was made from; its scaling is 1."""
    given = [_settings(path) for path in like]
    targets = [settings["target_modules"] for settings in given]
    tensors = {}
    for name, factors in merged.delta.items():
        a, b = torch.zeros(merged.rank, factors.a.shape[1]), torch.zeros(factors.b.shape[0], merged.rank)
        a[: factors.rank], b[:, : factors.rank] = factors
        tensors[f"{PREFIX}{name}.lora_A.weight"], tensors[f"{PREFIX}{name}.lora_B.weight"] = a, b
    settings = given[0] | {
        "r": merged.rank,
        "lora_alpha": merged.rank,
        "lora_dropout": 0.0,
        "use_rslora": False,
        "init_lora_weights": True,
        "inference_mode": True,
        # Patterns of several adapters cannot be joined; the modules themselves always can be named.
        "target_modules": sorted(
            {name for names in targets for name in names}
            if all(isinstance(names, list) for names in targets)
            else merged.delta
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    text = json.dumps(settings, indent=1, sort_keys=True) + "\n"
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")


def _settings(folder: Path) -> dict[str, Any]:
    try:
        found = loaded((folder / "adapter_config.json").read_text(encoding="utf-8"))
        return dict(found)
    except (OSError, TypeError, ValueError) as error:
        raise BadAdapter(f"{folder} has no readable adapter_config.json ({error}); train or copy it again") from error


def merge(adapters: Sequence[Delta], config: MergeConfig) -> Merged:
    """Merge what several adapters add. Equal arguments give equal results.

    Raises CannotMerge if the settings do not fit, the shapes differ, or nothing is left.
    """
    weights = config.of(len(adapters))
    largest = [max(factors.rank for factors in adapter.values()) for adapter in adapters]
    rank = config.rank or (max(largest) if config.method == "svd" else sum(largest))
    lots = torch.Generator().manual_seed(config.seed)
    found: dict[str, Factors] = {}
    whole = aim = off_whole = off_aim = 0.0
    for name in sorted({name for adapter in adapters for name in adapter}):
        parts = [
            Factors(adapter[name].a * weight, adapter[name].b)
            for adapter, weight in zip(adapters, weights, strict=True)
            if name in adapter
        ]
        joined = _join(name, parts)
        exact = aimed = joined.product()
        if config.method == "cat":
            made = joined
        elif config.method in ("linear", "svd"):
            made = _reduced(joined, rank if config.method == "svd" else None)
        else:
            products = [part.product() for part in parts]
            aimed = ties(products, config.kept) if config.method == "ties" else dare(products, config.kept, lots)
            u, s, v = torch.linalg.svd(aimed.float(), full_matrices=False)
            made = _balanced(u, s, v, rank)
        found[name] = made = Factors(made.a.float(), made.b.float())
        product = made.product()
        whole, off_whole = whole + _square(exact), off_whole + _square(product - exact)
        aim, off_aim = aim + _square(aimed), off_aim + _square(product - aimed)
    if not whole or not aim:
        raise CannotMerge("the adapters cancel out, so the merged one would be the base; give other weights")
    used = max(factors.rank for factors in found.values())
    return Merged(found, used, math.sqrt(off_whole / whole), math.sqrt(off_aim / aim))


def ties(deltas: Sequence[torch.Tensor], density: float) -> torch.Tensor:
    """TIES-Merging (Yadav et al. 2023, §4): trim, elect signs, mean of those that agree. All of one shape.

    The sign of an entry is that of its sum over the trimmed matrices; where that is 0, so is the entry.
    """
    trimmed = torch.stack([_trim(delta, density) for delta in deltas])
    sign = trimmed.sum(0).sign()
    agree = (trimmed.sign() == sign) & (sign != 0)
    return (trimmed * agree).sum(0) / agree.sum(0).clamp(min=1)


def dare(deltas: Sequence[torch.Tensor], density: float, lots: torch.Generator) -> torch.Tensor:
    """DARE (Yu et al. 2024, §3): each entry stays with probability `density` and is then divided by it; their sum."""
    kept = [delta * (torch.rand(delta.shape, generator=lots) < density) / density for delta in deltas]
    return torch.stack(kept).sum(0)


def _trim(delta: torch.Tensor, density: float) -> torch.Tensor:
    """The `density` largest entries by magnitude, the others 0."""
    sizes = delta.abs().flatten()
    bound = sizes.kthvalue(len(sizes) - math.ceil(density * len(sizes)) + 1).values
    return delta * (delta.abs() >= bound)


def _join(name: str, parts: Sequence[Factors]) -> Factors:
    """The factors beside each other, whose product is the sum of the products."""
    shapes = {(part.b.shape[0], part.a.shape[1]) for part in parts}
    if len(shapes) > 1:
        raise CannotMerge(f"the adapters disagree on the shape of {name} ({shapes}); they are not of one base")
    return Factors(torch.cat([part.a for part in parts]), torch.cat([part.b for part in parts], dim=1))


def _reduced(factors: Factors, rank: int | None) -> Factors:
    """The best factors of `rank` for a product; without a rank the fewest that lose nothing.

    Through QR of both factors, so that no matrix larger than rank × rank is decomposed.
    """
    left, upper = torch.linalg.qr(factors.b.double())
    right, lower = torch.linalg.qr(factors.a.double().T)
    u, s, v = torch.linalg.svd(upper @ lower.T)
    if rank is None:
        rank = max(1, int((s > NEGLIGIBLE * s[0]).sum()))
    inner = _balanced(u, s, v, rank)
    return Factors(inner.a @ right.T, left @ inner.b)


def _balanced(u: torch.Tensor, s: torch.Tensor, v: torch.Tensor, rank: int) -> Factors:
    """The first `rank` parts of U·S·V, or all that there are, as two factors of equal norm."""
    rank = min(rank, len(s))
    root = s[:rank].sqrt()
    return Factors(root[:, None] * v[:rank], u[:, :rank] * root)


def _square(matrix: torch.Tensor) -> float:
    return float(matrix.square().sum())
