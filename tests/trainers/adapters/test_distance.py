"""The distance of two adapters is that of the weights' updates, whatever factors they are written as."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from trainers.adapters.distance import Distance, distances

Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]


def adapter(folder: Path, factors: Factors, alpha: float = 2, **config: object) -> Path:
    """Write an adapter: for each module B (out, rank) and A (rank, in)."""
    folder.mkdir()
    tensors = {}
    for module, (b, a) in factors.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = a
        tensors[f"base_model.model.{module}.lora_B.weight"] = b
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"lora_alpha": alpha, **config}))
    return folder


def factors(*sizes: tuple[int, int, int], seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Random B and A for each (out, rank, in)."""
    made = torch.Generator().manual_seed(seed)
    return [(torch.randn(out, r, generator=made), torch.randn(r, into, generator=made)) for out, r, into in sizes]


def by_group(found: list[Distance]) -> dict[str, Distance]:
    return {one.group: one for one in found}


def test_a_distance_worked_out_by_hand(tmp_path: Path) -> None:
    """ΔA = 2·[3, 4], ΔB = 2·[3, 0]: norms 10 and 6, difference [0, 8], cosine 36 / 60."""
    one = torch.tensor([[1.0]])
    a = adapter(tmp_path / "a", {"l.0.q_proj": (one, torch.tensor([[3.0, 4.0]]))})
    b = adapter(tmp_path / "b", {"l.0.q_proj": (one, torch.tensor([[3.0, 0.0]]))})
    query, whole = distances(a, b)
    assert (query.group, query.layers, whole.group) == ("q_proj", 1, "all")
    assert query.norm_a == pytest.approx(10) and query.norm_b == pytest.approx(6)
    assert query.relative == pytest.approx(0.8) and query.cosine == pytest.approx(0.6)


def test_it_is_that_of_the_products_multiplied_out(tmp_path: Path) -> None:
    sizes = [(6, 2, 5), (4, 2, 5), (6, 2, 5)]
    names = ["l.0.q_proj", "l.0.up_proj", "l.1.q_proj"]
    ours = dict(zip(names, factors(*sizes, seed=1), strict=True))
    theirs = dict(zip(names, factors(*((out, 3, into) for out, _, into in sizes), seed=2), strict=True))
    found = by_group(distances(adapter(tmp_path / "a", ours, 4), adapter(tmp_path / "b", theirs, 6)))

    def flat(part: Factors, scale: float, wanted: str) -> torch.Tensor:
        products = [scale * (b.double() @ a.double()) for name, (b, a) in part.items() if name.endswith(wanted)]
        return torch.cat([product.flatten() for product in products])

    for group in ("q_proj", "up_proj", "all"):
        wanted = "" if group == "all" else group
        x, y = flat(ours, 4 / 2, wanted), flat(theirs, 6 / 3, wanted)
        one = found[group]
        assert one.norm_a == pytest.approx(float(x.norm())) and one.norm_b == pytest.approx(float(y.norm()))
        assert one.relative == pytest.approx(float((x - y).norm() / x.norm()))
        assert one.cosine == pytest.approx(float(torch.dot(x, y) / x.norm() / y.norm()))
    assert found["q_proj"].layers == 2 and found["all"].layers == 3


def test_other_factors_of_the_same_update_lie_at_no_distance(tmp_path: Path) -> None:
    ((b, a),) = factors((6, 2, 5))
    turn = torch.tensor([[2.0, 1.0], [0.0, 0.5]])
    same = adapter(tmp_path / "b", {"l.0.q_proj": (b @ turn, torch.linalg.inv(turn) @ a)})
    found = distances(adapter(tmp_path / "a", {"l.0.q_proj": (b, a)}), same)
    assert found[0].relative == pytest.approx(0, abs=1e-3) and found[0].cosine == pytest.approx(1)


def test_a_module_that_only_one_changes_is_compared_with_no_change(tmp_path: Path) -> None:
    one, other = factors((6, 2, 5), (6, 2, 5))
    a = adapter(tmp_path / "a", {"l.0.q_proj": one})
    b = adapter(tmp_path / "b", {"l.0.q_proj": one, "l.0.v_proj": other})
    found = by_group(distances(a, b))
    assert found["v_proj"].norm_a == 0
    assert found["v_proj"].relative is None and found["v_proj"].cosine is None
    assert found["all"].relative == pytest.approx(found["v_proj"].norm_b / found["q_proj"].norm_a)


@pytest.mark.parametrize(
    ("config", "scale"),
    [({"use_rslora": True}, 4 / math.sqrt(2)), ({}, 4 / 2)],
)
def test_the_scale_is_that_of_the_adapters_settings(tmp_path: Path, config: dict[str, object], scale: float) -> None:
    ((b, a),) = factors((6, 2, 5))
    folder = adapter(tmp_path / "a", {"l.0.q_proj": (b, a)}, 4, **config)
    assert distances(folder, folder)[0].norm_a == pytest.approx(scale * float((b @ a).norm()))


def test_a_trained_adapter_is_as_far_from_itself_as_nothing(trained: Path) -> None:
    found = by_group(distances(trained / "adapter", trained / "adapter"))
    assert {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "all"} == set(found)
    assert found["all"].layers == 28 and found["all"].norm_a > 0
    assert found["all"].relative == 0 and found["all"].cosine == pytest.approx(1)
