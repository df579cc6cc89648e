"""What several adapters add becomes one: every method against the weighted sum worked out by hand, and against peft."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainers.adapters import deltas
from trainers.adapters.deltas import Delta, Factors
from trainers.adapters.files import check_files
from trainers.adapters.merging import MergeConfig
from trainers.errors import BadAdapter, CannotMerge


def factors(a: list[list[float]], b: list[list[float]]) -> Factors:
    return Factors(torch.tensor(a), torch.tensor(b))


FIRST: Delta = {"x": factors([[1.0, 2.0]], [[1.0], [3.0]])}  # Δ = [[1, 2], [3, 6]]
SECOND: Delta = {"x": factors([[4.0, -1.0]], [[0.0], [1.0]])}  # Δ = [[0, 0], [4, -1]]


def products(delta: Delta) -> dict[str, torch.Tensor]:
    return {name: part.product().float() for name, part in delta.items()}


def distance(found: Mapping[str, torch.Tensor], meant: Mapping[str, torch.Tensor]) -> float:
    """The Frobenius norm of the difference over that of what was meant, all weights together."""
    off = sum(float((found[name] - meant[name]).square().sum()) for name in meant)
    return float((off / sum(float(whole.square().sum()) for whole in meant.values())) ** 0.5)


@pytest.mark.parametrize("method", ["cat", "linear"])
def test_the_weighted_sum_is_exact(method: Any) -> None:
    found = deltas.merge([FIRST, SECOND], MergeConfig(method=method, weights=(2.0, -1.0)))
    assert torch.allclose(products(found.delta)["x"], torch.tensor([[2.0, 4.0], [2.0, 13.0]]), atol=1e-6)
    assert found.rank == 2 and found.error < 1e-6 and found.truncation < 1e-6


def test_task_arithmetic_takes_no_more_rank_than_it_needs() -> None:
    assert deltas.merge([FIRST, FIRST], MergeConfig(method="cat")).rank == 2
    found = deltas.merge([FIRST, FIRST], MergeConfig(method="linear"))
    assert found.rank == 1
    assert torch.allclose(products(found.delta)["x"], torch.tensor([[2.0, 4.0], [6.0, 12.0]]), atol=1e-5)


def test_a_sum_cut_to_a_rank_is_the_best_of_that_rank_and_says_what_is_lost() -> None:
    found = deltas.merge([FIRST, SECOND], MergeConfig(method="svd"))
    exact = torch.tensor([[1.0, 2.0], [7.0, 5.0]])
    strong, weak = torch.linalg.svdvals(exact)
    assert found.rank == 1
    lost = float(weak / exact.norm())
    assert 0 < lost < 1 and strong > weak
    assert (found.error, found.truncation) == pytest.approx((lost, lost), abs=1e-6)
    assert distance(products(found.delta), {"x": exact}) == pytest.approx(lost, abs=1e-6)
    assert deltas.merge([FIRST, SECOND], MergeConfig(method="svd", rank=2)).error < 1e-6


def test_what_only_one_adapter_touches_is_its_part_of_the_sum() -> None:
    found = deltas.merge([FIRST, {"y": SECOND["x"]}], MergeConfig(weights=(1.0, 0.5)))
    assert {name: part.tolist() for name, part in products(found.delta).items()} == {
        "x": [[1.0, 2.0], [3.0, 6.0]],
        "y": [[0.0, 0.0], [2.0, -0.5]],
    }


def test_ties_trims_elects_signs_and_averages_those_that_agree() -> None:
    one = torch.tensor([[4.0, -1.0], [3.0, 0.5]])
    other = torch.tensor([[-2.0, 5.0], [1.0, 6.0]])
    # Of four entries two stay: [[4, 0], [3, 0]] and [[0, 5], [0, 6]].
    assert deltas.ties([one, other], 0.5).tolist() == [[4.0, 5.0], [3.0, 6.0]]
    # All stay: the signs are those of [[2, 4], [4, 6.5]], and what has the other sign does not count.
    assert deltas.ties([one, other], 1.0).tolist() == [[4.0, 5.0], [2.0, 3.25]]
    assert deltas.ties([one, -one], 1.0).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_weights_of_one_lambda_are_the_lambda_of_ties() -> None:
    full = MergeConfig(method="ties", density=1.0, weights=(0.5, 0.5))
    found = products(deltas.merge([FIRST, SECOND], full).delta)["x"]
    # Signs of the sum [[1, 2], [7, 5]]; means [[1, 2], [3.5, 6]], halved.
    assert torch.allclose(found, torch.tensor([[0.5, 1.0], [1.75, 3.0]]), atol=1e-5)


def test_the_error_of_ties_is_its_distance_from_the_sum_and_from_itself() -> None:
    found = deltas.merge([FIRST, SECOND], MergeConfig(method="ties", density=1.0))
    meant, exact = torch.tensor([[1.0, 2.0], [3.5, 6.0]]), torch.tensor([[1.0, 2.0], [7.0, 5.0]])
    assert found.error == pytest.approx(float((meant - exact).norm() / exact.norm()), abs=1e-6)
    assert found.truncation < 1e-6
    cut = deltas.merge([FIRST, SECOND], MergeConfig(method="ties", density=1.0, rank=1))
    assert cut.truncation == pytest.approx(float(torch.linalg.svdvals(meant)[1] / meant.norm()), abs=1e-6)


def test_dare_keeps_some_entries_scaled_up_so_that_the_mean_is_the_sum() -> None:
    exact = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    lots = torch.Generator().manual_seed(0)
    drawn = torch.stack([deltas.dare([exact], 0.25, lots) for _ in range(4000)])
    assert {float(value) for value in drawn[:, 0, 1]} == {0.0, 8.0}
    assert torch.allclose(drawn.mean(0), exact, rtol=0.1)
    assert torch.equal(deltas.dare([exact, exact], 1.0, lots), 2 * exact)


def test_dare_follows_its_seed() -> None:
    generator = torch.Generator().manual_seed(1)
    large = {"x": Factors(torch.randn(4, 16, generator=generator), torch.randn(16, 4, generator=generator))}
    found = [products(deltas.merge([large], MergeConfig(method="dare", seed=seed)).delta) for seed in (3, 3, 4)]
    assert torch.equal(found[0]["x"], found[1]["x"])
    assert not torch.equal(found[0]["x"], found[2]["x"])


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"weights": (1.0,)}, "2 adapters need as many weights; got 1"),
        ({"weights": (1.0, 0.0)}, "other than 0"),
        ({"weights": (1.0, float("nan"))}, "finite"),
        ({"rank": 3}, "cat has no rank"),
        ({"method": "svd", "density": 0.5}, "svd has no density"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], part: str) -> None:
    with pytest.raises(CannotMerge, match=part):
        deltas.merge([FIRST, SECOND], MergeConfig(**settings))


def test_adapters_that_cancel_out_are_not_merged_into_the_base() -> None:
    with pytest.raises(CannotMerge, match="cancel out"):
        deltas.merge([FIRST, FIRST], MergeConfig(method="linear", weights=(1.0, -1.0)))


def test_adapters_of_other_shapes_are_refused() -> None:
    with pytest.raises(CannotMerge, match="disagree on the shape of x"):
        deltas.merge([FIRST, {"x": factors([[1.0, 2.0, 3.0]], [[1.0], [1.0]])}], MergeConfig())


# -- files, and peft ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two unrelated adapters of rank 8, one with a scaling of its own. Do not change them: copy them."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folders = []
    for seed, alpha in ((1, 8), (2, 16)):
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft's own
            torch.manual_seed(seed)
            lora = LoraConfig(r=8, lora_alpha=alpha, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
            model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32), lora)
        folders.append(tmp_path_factory.mktemp("adapters") / f"seed-{seed}")
        model.save_pretrained(str(folders[-1]), save_embedding_layers=False)
    return folders


def by_peft(base: Path, folders: list[Path]) -> Any:
    """A model with the adapters `a` and `b`."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), folders[0], adapter_name="a"
        )
        for name, folder in zip("bcd", folders[1:], strict=False):
            model.load_adapter(folder, adapter_name=name)
    return model


def added(model: Any, adapter: str) -> dict[str, torch.Tensor]:
    """What an adapter adds, as peft has it, by the name of the module."""
    from peft.tuners.lora import LoraLayer

    return {
        name.removeprefix(deltas.PREFIX): layer.get_delta_weight(adapter).detach()
        for name, layer in model.named_modules()
        if isinstance(layer, LoraLayer)
    }


def test_what_is_read_is_what_peft_adds(tiny_model: Path, two: list[Path]) -> None:
    model = by_peft(tiny_model, two)
    for name, folder in zip("ab", two, strict=True):
        assert distance(products(deltas.read(folder)), added(model, name)) < 1e-6


def test_a_merged_adapter_is_to_peft_the_sum_and_peft_has_other_methods_that_are_not(
    tiny_model: Path, two: list[Path], tmp_path: Path
) -> None:
    weights = [0.7, -0.4]
    made = deltas.merge([deltas.read(folder) for folder in two], MergeConfig(weights=tuple(weights)))
    assert made.rank == 16
    deltas.write(tmp_path / "merged", made, two)
    model = by_peft(tiny_model, [*two, tmp_path / "merged"])
    one, other = added(model, "a"), added(model, "b")
    exact = {name: weights[0] * one[name] + weights[1] * other[name] for name in one}
    assert distance(added(model, "c"), exact) < 1e-6

    def off(name: str, method: str, **settings: Any) -> float:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model.add_weighted_adapter(["a", "b"], weights, name, combination_type=method, **settings)
        return distance(added(model, name), exact)

    assert off("cat", "cat") < 1e-6
    assert off("svd16", "svd", svd_rank=16) < 1e-5
    ours = deltas.merge([deltas.read(folder) for folder in two], MergeConfig(method="svd", weights=tuple(weights)))
    assert off("svd", "svd") == pytest.approx(ours.error, abs=1e-5)
    assert distance(added(model, "svd"), products(ours.delta)) < 1e-4
    # Why these are not used.
    assert off("linear", "linear") > 0.5
    assert off("ties", "ties", density=0.5) > 0.5
    assert off("dare", "dare_linear", density=0.5) > 0.5
    # The name is taken, so peft does nothing and says nothing.
    before = added(model, "linear")
    model.add_weighted_adapter(["a", "b"], [1.0, 1.0], "linear", combination_type="cat")
    assert distance(added(model, "linear"), before) == 0


def test_the_same_merge_writes_the_same_bytes(two: list[Path], tmp_path: Path) -> None:
    for name in "xy":
        made = deltas.merge([deltas.read(folder) for folder in two], MergeConfig(method="dare", seed=5))
        deltas.write(tmp_path / name, made, two)
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "x" / file).read_bytes() == (tmp_path / "y" / file).read_bytes()


def test_adapters_of_other_modules_and_ranks_share_one_file(tiny_model: Path, two: list[Path], tmp_path: Path) -> None:
    narrow = copied(two[1], tmp_path / "narrow")
    kept = {key: value for key, value in load_file(narrow / "adapter_model.safetensors").items() if "v_proj" in key}
    save_file(kept, narrow / "adapter_model.safetensors", metadata={"format": "pt"})
    set_in(narrow, target_modules=["v_proj"])
    made = deltas.merge([deltas.read(two[0]), deltas.read(narrow)], MergeConfig())
    deltas.write(tmp_path / "merged", made, [two[0], narrow])
    model = by_peft(tiny_model, [*two, tmp_path / "merged"])
    one, other, sum_ = (added(model, name) for name in "abc")
    exact = {name: one[name] + (other[name] if "v_proj" in name else 0) for name in one}
    assert distance(sum_, exact) < 1e-6
    # Where no list says which modules are meant, each is named.
    set_in(narrow, target_modules=".*v_proj")
    deltas.write(tmp_path / "named", made, [two[0], narrow])
    settings = json.loads((tmp_path / "named" / "adapter_config.json").read_text())
    assert settings["target_modules"] == sorted(made.delta)


def test_a_scaling_by_the_root_of_the_rank_is_understood(two: list[Path], tmp_path: Path) -> None:
    other = copied(two[0], tmp_path / "other")
    set_in(other, use_rslora=True)
    plain, scaled = products(deltas.read(two[0])), products(deltas.read(other))
    assert distance(scaled, {name: 8**0.5 * part for name, part in plain.items()}) < 1e-6


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"use_dora": True}, "use_dora=True"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"peft_type": "IA3"}, "peft_type=IA3"),
    ],
)
def test_what_is_more_than_a_plain_lora_is_refused(
    two: list[Path], tmp_path: Path, change: dict[str, Any], part: str
) -> None:
    odd = copied(two[0], tmp_path / "odd")
    set_in(odd, **change)
    with pytest.raises(CannotMerge, match=part):
        deltas.read(odd)


def test_a_file_with_half_a_pair_and_a_folder_without_settings_are_refused(two: list[Path], tmp_path: Path) -> None:
    odd = copied(two[0], tmp_path / "odd")
    tensors = load_file(odd / "adapter_model.safetensors")
    tensors.pop(min(tensors))
    save_file(tensors, odd / "adapter_model.safetensors")
    with pytest.raises(CannotMerge, match="pairs of LoRA factors"):
        deltas.read(odd)
    (odd / "adapter_config.json").write_text("7")
    with pytest.raises(BadAdapter, match="no readable adapter_config"):
        deltas.read(odd)
    (odd / "adapter_config.json").unlink()
    with pytest.raises(BadAdapter, match="no readable adapter_config"):
        deltas.read(odd)


def copied(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def set_in(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def plain(folder: Path, a: list[int], b: list[int], **settings: Any) -> Path:
    """An adapter of factors of these shapes."""
    folder.mkdir()
    tensors = {"base_model.model.x.lora_A.weight": torch.ones(a), "base_model.model.x.lora_B.weight": torch.ones(b)}
    save_file(tensors, folder / "adapter_model.safetensors")
    known = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["x"], **settings}
    (folder / "adapter_config.json").write_text(json.dumps(known))
    return folder


@pytest.mark.parametrize(
    ("a", "b"), [([2, 4], [4, 3]), ([0, 4], [4, 0]), ([4], [4]), ([], []), ([1, 2, 4], [4, 1]), ([2, 0], [0, 2])]
)
def test_factors_that_cannot_be_multiplied_are_a_bad_adapter(a: list[int], b: list[int], tmp_path: Path) -> None:
    assert deltas.read(plain(tmp_path / "good", [2, 4], [4, 2]))
    with pytest.raises(BadAdapter):
        deltas.read(plain(tmp_path / "bad", a, b))


@pytest.mark.parametrize("alpha", [None, "1", True, float("nan"), [1]])
def test_a_scaling_that_is_no_number_is_a_bad_adapter(alpha: Any, tmp_path: Path) -> None:
    with pytest.raises(BadAdapter):
        deltas.read(plain(tmp_path / "bad", [2, 4], [4, 2], lora_alpha=alpha))


@pytest.mark.parametrize("data", [b"", b"\xff" * 8, (100_000).to_bytes(8, "little") + b"[" * 100_000])
def test_weights_that_cannot_be_read_are_a_bad_adapter(data: bytes, tmp_path: Path) -> None:
    folder = plain(tmp_path / "bad", [2, 4], [4, 2])
    (folder / "adapter_model.safetensors").write_bytes(data)
    for checked in (deltas.read, check_files):
        with pytest.raises(BadAdapter):
            checked(folder)


@pytest.mark.parametrize(
    "said", ["[" * 100_000, '{"r": Infinity, "peft_type": "LORA", "lora_alpha": 1, "target_modules": "x"}']
)
def test_settings_that_cannot_be_read_are_a_bad_adapter(said: str, tmp_path: Path) -> None:
    folder = plain(tmp_path / "bad", [2, 4], [4, 2])
    (folder / "adapter_config.json").write_text(said)
    with pytest.raises(BadAdapter):
        check_files(folder)


@pytest.mark.parametrize(
    ("method", "settings"),
    [("linear", {}), ("cat", {}), ("svd", {"rank": 3}), ("ties", {"density": 1.0}), ("dare", {"density": 1.0})],
)
def test_factors_of_a_higher_rank_than_their_matrix_has_are_merged_all_the_same(
    method: Any, settings: dict[str, Any]
) -> None:
    wide: Delta = {"x": Factors(torch.randn(3, 2), torch.randn(4, 3))}
    found = deltas.merge([wide, wide], MergeConfig(method=method, **settings))
    meant = products(wide)["x"] * (1 if method == "ties" else 2)  # which takes the mean of those that agree
    assert torch.allclose(products(found.delta)["x"], meant, atol=1e-4)


def test_factors_that_are_no_numbers_are_a_bad_adapter(tmp_path: Path) -> None:
    folder = plain(tmp_path / "bad", [2, 4], [4, 2])
    name = "base_model.model.x.lora_{}.weight"
    tensors = {name.format("A"): torch.full([2, 4], float("nan")), name.format("B"): torch.ones(4, 2)}
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(BadAdapter):
        deltas.read(folder)
