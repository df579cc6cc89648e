"""An adapter that is not what it is taken for does not serve, and says so loudly."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentlab.engines.base import Adapter
from agentlab.engines.model import Model
from agentlab.engines.transformers import TransformersEngine
from agentlab.lab import Lab
from agentlab.workspace.config import read_config, write_config
from trainers import job
from trainers.data.examples import Example
from trainers.errors import BadAdapter, CanaryFailed, WrongBase
from trainers.training.canary import Canary
from trainers.training.weights import reference

WEIGHTS = "adapter_model.safetensors"


def lessons(token: int) -> list[Example]:
    """Texts in which every third token is always this one."""
    made = []
    for number in range(16):
        ids = [(7 * number + place) % 500 for place in range(30)]
        ids[2::3] = [token] * 10
        weights = [float(place % 3 == 2) for place in range(30)]
        made.append(Example(token_ids=ids, weights=weights, episode=f"e{number}", task="toy/doors:train:0"))
    return made


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, open_at: Callable[..., Lab]) -> Path:
    """A lab with two adapters that learned different things. Do not change it: copy it."""
    folder = tmp_path_factory.mktemp("canary") / "lab"
    with open_at(folder) as lab:
        for token in (11, 222):
            place = folder / "jobs" / f"learns-{token}"
            settings = job.JobConfig(base=reference("tiny", tiny_model), learning_rate=5e-3, epochs=3, threads=1)
            job.create(place, settings, lessons(token), job.Lineage())
            job.run(place)
            lab.adapters.register(place)
    return folder


@pytest.fixture
def lab(original: Path, tmp_path: Path) -> Iterator[Lab]:
    shutil.copytree(original, tmp_path / "lab")
    with Lab.open(tmp_path / "lab") as lab:
        yield lab


def folders(lab: Lab) -> tuple[Path, Path]:
    one, other = lab.adapters.list()
    return lab.folder / one.path, lab.folder / other.path


def test_the_right_adapters_pass_and_their_canaries_can_tell_them_from_the_base(lab: Lab) -> None:
    for record, folder in zip(lab.adapters.list(), folders(lab), strict=True):
        assert Canary.load(folder / "canary.json").discriminates
        assert lab.model(record.id).adapter_id == record.id


def test_two_folders_that_were_swapped_are_known_by_their_weights(lab: Lab) -> None:
    one, other = folders(lab)
    one.rename(aside := one.with_name("aside"))
    other.rename(one)
    aside.rename(other)
    for record in lab.adapters.list():
        with pytest.raises(BadAdapter, match=f"does not hold the weights of {record.id}; they were swapped"):
            lab.model(record.id)
        with pytest.raises(BadAdapter, match="swapped"):
            lab.adapters.promote(record.id, force=True)
    assert lab.model().adapter is None and lab.serving() is None


def test_weights_beside_the_canary_of_another_do_not_sing(lab: Lab) -> None:
    one, other = folders(lab)
    shutil.copy(other / WEIGHTS, one / WEIGHTS)
    engine: Any = lab.engine
    with pytest.raises(CanaryFailed, match="canary scored"):
        Model(engine, Adapter("swapped", one))


def test_an_adapter_is_refused_on_another_base(lab: Lab, tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    shutil.copytree(tiny_model, tmp_path / "other")
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    for weights in model.parameters():
        weights.data = weights.data.flip(0)
    model.save_pretrained(tmp_path / "other")
    with pytest.raises(CanaryFailed, match="canary scored"):
        Model(TransformersEngine(tmp_path / "other", dtype="float32", device="cpu"), Adapter("a", folders(lab)[0]))
    file = lab.folder / "lab.toml"
    write_config(file, read_config(file).model_copy(update={"model": str(tmp_path / "other")}))
    lab.close()
    with Lab.open(lab.folder) as moved, pytest.raises(WrongBase, match="an adapter fits only its own base"):
        moved.model(moved.adapters.list()[0].id)


def test_an_engine_that_answers_with_the_base_is_found_out(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = lab.engine
    # As if the adapter had silently not been applied.
    monkeypatch.setattr(engine._models, "_merged", lambda folder: engine._models.base)
    for record in lab.adapters.list():
        with pytest.raises(CanaryFailed, match="the base model answers, so the adapter is off"):
            lab.model(record.id)


def test_a_round_does_not_go_on_with_an_incumbent_that_is_not_there(lab: Lab) -> None:
    one, other = folders(lab)
    record = lab.adapters.list()[0]
    lab.adapters.promote(record.id, force=True)
    shutil.copy(other / WEIGHTS, one / WEIGHTS)
    with pytest.raises(BadAdapter, match="swapped"):
        lab.run("toy/doors", seeds=[0], trials=1, arm="adapter")
    assert lab.database.episodes.find() == []
