"""Adapters merged into a new one: exact, proved by a canary, with a lineage, and without a right to serve."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from memory.store.database import Database
from trainers import job
from trainers.adapters import deltas, skills
from trainers.adapters.merging import MergeConfig
from trainers.adapters.registry import AdapterRegistry
from trainers.data.examples import Example
from trainers.errors import CannotMerge, PromotionRefused, UnknownAdapter, WrongBase
from trainers.training.canary import Canary


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, config: job.JobConfig, some_examples: list[Example]) -> Path:
    """The folder of a second job, of fewer examples and another seed. Do not change it: copy it."""
    folder = tmp_path_factory.mktemp("other") / "job"
    job.create(folder, config.model_copy(update={"seed": 7}), some_examples[8:], job.Lineage(episodes=["e8", "x"]))
    job.run(folder)
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[AdapterRegistry]:
    database = Database(tmp_path / "lab.db")
    yield AdapterRegistry(database, tmp_path)
    database.close()


@pytest.fixture
def two(registry: AdapterRegistry, trained: Path, other: Path) -> list[str]:
    """The ids of two candidates."""
    return [registry.register(trained).id, registry.register(other).id]


def test_a_merge_is_a_candidate_that_knows_its_parents(
    registry: AdapterRegistry, two: list[str], tiny_model: Path
) -> None:
    record = skills.merge(registry, two, tiny_model, MergeConfig(weights=(1.0, 0.5)))
    assert (record.status, record.gate, record.parent, record.base) == ("candidate", None, None, "tiny")
    assert record.lineage.episodes == [*(f"e{number}" for number in range(20)), "x"]
    merge = record.lineage.merge
    assert merge is not None
    assert (merge.method, list(merge.weights.items()), merge.rank) == ("cat", [(two[0], 1.0), (two[1], 0.5)], 32)
    assert (merge.density, merge.seed) == (None, None) and merge.error < 1e-6
    assert registry.get(record.id) == record
    first, second, both = (deltas.read(registry.folder_of(id)) for id in (*two, record.id))
    for name, part in both.items():
        assert torch.allclose(part.product(), first[name].product() + 0.5 * second[name].product(), atol=1e-7)
    with pytest.raises(PromotionRefused, match="was not evaluated at a gate"):
        registry.promote(record.id)


def test_a_merge_knows_where_its_parents_were_held_to_the_base(
    registry: AdapterRegistry, two: list[str], tiny_model: Path
) -> None:
    for id, held in zip(two, (["h1", "h2"], ["h2", "h3"]), strict=True):
        record = registry.get(id)
        known = record.model_copy(update={"lineage": record.lineage.model_copy(update={"kl_episodes": held})})
        registry.records.put(known)
    merged = skills.merge(registry, two, tiny_model)
    assert merged.lineage.kl_episodes == ["h1", "h2", "h3"]


def test_the_canary_of_a_merge_is_what_peft_scores_with_its_files(
    registry: AdapterRegistry, two: list[str], tiny_model: Path
) -> None:
    from peft import PeftModel

    from trainers.training.weights import load_model

    folder = registry.folder_of(skills.merge(registry, two, tiny_model).id)
    canary = Canary.load(folder / "canary.json")
    assert canary.discriminates and canary.base == registry.get(two[0]).fingerprint

    def scored(model: torch.nn.Module) -> float:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([canary.token_ids])).logits[0].log_softmax(-1)
        return sum(
            float(logits[at - 1, canary.token_ids[at]]) for start, end in canary.spans for at in range(start, end)
        )

    assert scored(load_model(tiny_model)) == pytest.approx(canary.base_logprob, abs=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft's own
        merged = PeftModel.from_pretrained(load_model(tiny_model), folder)
    assert scored(merged) == pytest.approx(canary.adapter_logprob, abs=1e-3)


def test_merging_again_changes_nothing_and_leaves_nothing_behind(
    registry: AdapterRegistry, two: list[str], tiny_model: Path
) -> None:
    config = MergeConfig(method="dare", rank=4, seed=3)
    record = skills.merge(registry, two, tiny_model, config)
    assert record.lineage.merge is not None
    assert (record.lineage.merge.seed, record.lineage.seeds, record.lineage.merge.density) == (3, [3], 0.5)
    assert skills.merge(registry, two, tiny_model, config) == record
    assert len(registry.list()) == 3
    assert {path.name for path in (registry.folder / "adapters").iterdir()} == {*two, record.id}
    assert skills.merge(registry, two, tiny_model, config.model_copy(update={"seed": 4})).id != record.id


@pytest.mark.parametrize("given", [[], [0], [0, 0], [0, 1, 0]])
def test_a_merge_takes_different_adapters(
    registry: AdapterRegistry, two: list[str], tiny_model: Path, given: list[int]
) -> None:
    with pytest.raises(CannotMerge, match="two or more different adapters"):
        skills.merge(registry, [two[at] for at in given], tiny_model)
    with pytest.raises(UnknownAdapter):
        skills.merge(registry, [two[0], "zzz"], tiny_model)


def test_adapters_of_different_bases_are_refused(
    registry: AdapterRegistry, two: list[str], tiny_model: Path, tmp_path: Path
) -> None:
    stranger = registry.get(two[1]).model_copy(update={"id": "adapter-strange", "fingerprint": "0" * 64})
    registry.records.put(stranger)
    with pytest.raises(WrongBase, match="merge adapters of one base"):
        skills.merge(registry, [two[0], "adapter-strange"], tiny_model)
    elsewhere = Path(shutil.copytree(tiny_model, tmp_path / "elsewhere"))
    (elsewhere / "model.safetensors").write_bytes((elsewhere / "model.safetensors").read_bytes() + b" ")
    with pytest.raises(WrongBase, match="not for the model at hand"):
        skills.merge(registry, two, elsewhere)


def test_a_merge_that_nothing_could_tell_from_the_base_is_refused(
    registry: AdapterRegistry, two: list[str], tiny_model: Path
) -> None:
    with pytest.raises(CannotMerge, match="nothing could tell it from the base"):
        skills.merge(registry, two, tiny_model, MergeConfig(weights=(0.001, 0.001)))
    assert len(registry.list()) == 2
    assert {path.name for path in (registry.folder / "adapters").iterdir()} == set(two)
