"""A folder that is no whole model is refused in one line before anything is made for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentlab.cli import app
from agentlab.engines import hub
from agentlab.errors import ModelUnavailable, UnsupportedModel
from agentlab.lab import Lab
from agentlab.workspace.config import LabConfig, read_config
from benchmarks.tiny_models import make

RUNNER = CliRunner()
WEIGHTS = "model.safetensors"


def settings(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def pointer(folder: Path) -> None:
    (folder / WEIGHTS).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1\n")


def truncated(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def without_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def without_a_shard(folder: Path) -> None:
    (folder / f"{WEIGHTS}.index.json").write_text(
        json.dumps({"weight_map": {"a": WEIGHTS, "b": "model-00002-of-00002.safetensors"}})
    )


def only_pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def without_tokenizer(folder: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()


def with_a_damaged_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


def with_a_larger_tokenizer(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<word-{number}>" for number in range(600)])
    tokenizer.save_pretrained(folder)


def with_code(folder: Path) -> None:
    (folder / "modeling_odd.py").write_text("raise SystemExit('code of a model is never run')\n")
    settings(
        folder, model_type="odd", auto_map={"AutoConfig": "modeling_odd.C", "AutoModelForCausalLM": "modeling_odd.M"}
    )


def unknown(folder: Path) -> None:
    settings(folder, model_type="no-such-architecture")


def of_another_kind(folder: Path) -> None:
    settings(folder, model_type="vit")


def without_a_layer(folder: Path) -> None:
    settings(folder, num_hidden_layers=9)


def of_other_shapes(folder: Path) -> None:
    settings(folder, intermediate_size=200)


def without_a_type(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def nested(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)


def with_a_nested_header(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((100_000).to_bytes(8, "little") + b"[" * 100_000 + bytes(8))


BROKEN = {
    pointer: "Git LFS",
    truncated: "cut short",
    without_weights: "holds no weights",
    without_a_shard: "model-00002-of-00002",
    only_pickled: "pickled weights only",
    without_tokenizer: "tokenizer",
    with_a_damaged_tokenizer: "tokenizer",
    with_a_larger_tokenizer: "do not belong together",
    with_code: "never run",
    unknown: "no-such-architecture",
    of_another_kind: "vit",
    without_a_layer: "lack",
    of_other_shapes: "shape",
    without_a_type: "model type",
    nested: "nested too deeply",
    with_a_nested_header: "damaged",
}


@pytest.fixture(params=BROKEN, ids=lambda damage: damage.__name__)
def damage(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    return request.param  # type: ignore[no-any-return]


def test_a_lab_is_made_for_no_model_folder_that_cannot_play(
    tiny_model: Path, tmp_path: Path, damage: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    damage(folder)
    capfd.readouterr()
    command = ["run", "toy/doors", "--seeds", "0", "--arm", "random", "--model", str(folder)]
    result = RUNNER.invoke(app, [*command, "--lab", str(tmp_path / "lab")])
    assert result.exit_code == 2, result.output
    said = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and BROKEN[damage] in said[0]
    assert not (tmp_path / "lab").exists()
    assert capfd.readouterr().err == ""  # nothing but that line


def test_a_lab_is_made_for_no_architecture_that_cannot_play(tmp_path: Path) -> None:
    config = LabConfig(model=str(make(tmp_path / "model", "mamba")), embedder="hashing", dtype="float32", threads=1)
    with pytest.raises(UnsupportedModel):
        Lab.open(tmp_path / "lab", create=True, config=config)
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize("part", ["model", "critic", "embedder"])
def test_a_lab_is_made_for_no_model_that_is_not_there(
    tmp_path: Path, part: str, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(name: str) -> Path:
        raise ModelUnavailable(f"Could not get {name!r}; check the name and the network, or give a local folder.")

    monkeypatch.setattr(hub, "_from_hub", gone)
    names = {"model": str(tiny_model), "embedder": "hashing", part: "someone/typo"}
    with pytest.raises(ModelUnavailable, match="someone/typo"):
        Lab.open(tmp_path / "lab", create=True, config=LabConfig(dtype="float32", threads=1, **names))
    assert not (tmp_path / "lab").exists()


def test_a_whole_folder_gives_its_configuration_and_its_tokenizer(tiny_model: Path) -> None:
    from agentlab.engines.model_folder import check

    config, tokenizer = check(tiny_model)
    assert config.model_type == "llama" and tokenizer("look").input_ids


def test_a_lab_in_which_nothing_was_played_takes_another_model(tiny_model: Path, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    with Lab.open(lab, create=True, config=LabConfig(embedder="hashing")) as made:
        assert made.config.model not in str(tiny_model)
    command = ["run", "toy/doors", "--seeds", "0", "--arm", "random", "--lab", str(lab), "--model"]
    assert RUNNER.invoke(app, [*command, str(tiny_model)]).exit_code == 0
    assert read_config(lab / "lab.toml").model == str(tiny_model)
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    refused = RUNNER.invoke(app, [*command, str(other)])
    assert refused.exit_code == 2 and "has the base model" in refused.stderr
    assert read_config(lab / "lab.toml").model == str(tiny_model)


def test_what_is_wrong_with_a_folder_is_one_of_our_errors(tiny_model: Path, tmp_path: Path) -> None:
    from agentlab.engines.model_folder import check
    from agentlab.errors import BadModel

    shutil.copytree(tiny_model, tmp_path / "model")
    truncated(tmp_path / "model")
    with pytest.raises(BadModel, match="cut short"):
        check(tmp_path / "model")


@pytest.mark.parametrize("said", ['{"eos_token_id": "</s>"}', '{"eos_token_id": [{}]}', '{"pad_token_id": "x"}', "[1]"])
def test_odd_settings_for_writing_are_a_bad_model(said: str, tiny_model: Path, tmp_path: Path) -> None:
    from agentlab.engines.model_folder import check, ends
    from agentlab.errors import BadModel

    shutil.copytree(tiny_model, tmp_path / "model")
    config, tokenizer = check(tmp_path / "model")
    assert ends(tmp_path / "model", config, tokenizer) == {0}
    (tmp_path / "model" / "generation_config.json").write_text(said)
    with pytest.raises(BadModel):
        ends(tmp_path / "model", config, tokenizer)
