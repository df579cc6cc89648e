"""Odd values of options and files: refused in words with exit code 2, or answered; never a traceback, never a hang."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
from typer.models import ArgumentInfo, OptionInfo
from typer.testing import CliRunner, Result

from agentlab.agent.tasks import make_tasks
from agentlab.cli import app
from agentlab.errors import BadConfig
from agentlab.lab import Lab
from agentlab.rounds import RoundConfig
from agentlab.workspace.config import LabConfig, read_config
from memory.records import Reflection

RUNNER = CliRunner()
ODD_NUMBERS = ("9999999999999999999", "-9999999999999999999", "nan", "inf", "1e400", "")
ODD_TEXTS = ("", "%s {0} \x1b[2J' OR 1=1 -- 日本語" + "x" * 5000, "9999999999999999999")
ARGUMENTS = {
    "reflection": "r-1", "episode": "e-1", "round": "round-1", "adapter": "ad-1", "operation": "op-1", "query": "door",
    "start": "start", "end": "now", "envs": "toy/doors", "env": "toy/doors", "file": "missing.jsonl",
}  # fmt: skip
CHANGE = {"serve", "demo", "run", "eval", "search", "play", "distill", "rounds run", "rounds 2x2", "memory serve",
          "view", "env serve"}  # fmt: skip
"""What plays, waits or trains: their texts name environments and models, which have tests of their own."""


def commands(app: typer.Typer, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every command with the annotations of its parameters."""
    for info in app.registered_commands:
        callback = info.callback
        assert callback is not None
        name = info.name or callback.__name__.rstrip("_").replace("_", "-")
        yield f"{path} {name}".strip(), get_type_hints(callback, include_extras=True)
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, f"{path} {group.name}".strip())


COMMANDS = dict(commands(app))


def options(kind: type) -> list[Any]:
    """Each option of this type as (command, option)."""
    found = []
    for path, parameters in COMMANDS.items():
        for annotation in parameters.values():
            for option in getattr(annotation, "__metadata__", ()):
                types = (get_args(annotation)[0], *get_args(get_args(annotation)[0]))
                if isinstance(option, OptionInfo) and kind in types:
                    # In an annotation the first name stands where the default would.
                    name = next(word for word in (option.default, *(option.param_decls or ())) if word)
                    found.append(pytest.param(path, name, id=f"{path} {name}"))
    return found


def invoke(folder: Path, path: str, *given: str) -> Result:
    known = {**ARGUMENTS, "folder": str(folder.parent / "written")}
    words = [
        known.get(name, "x")
        for name, annotation in COMMANDS[path].items()
        if any(isinstance(found, ArgumentInfo) for found in getattr(annotation, "__metadata__", ()))
        and type(None) not in get_args(get_args(annotation)[0])
    ]
    lab = ["--lab", str(folder)] if "lab" in COMMANDS[path] else []
    return RUNNER.invoke(app, [*path.split(), *words, *lab, *given])


def unharmed(result: Result, *codes: int) -> None:
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code in codes, result.output


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd") / "lab"
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing")) as opened:
        text = "The door of the café is “red” → go."
        opened.memory.remember(
            [Reflection(id="r-1", kind="written", env="toy/doors", task="toy/doors:train:1", text=text)]
        )
    return folder


@pytest.mark.parametrize(("path", "option"), options(int))
def test_no_whole_number_is_too_odd(lab: Path, path: str, option: str) -> None:
    for value in ODD_NUMBERS:
        unharmed(invoke(lab, path, option, value), 2)


@pytest.mark.parametrize(("path", "option"), options(float))
def test_no_number_is_too_odd(lab: Path, path: str, option: str) -> None:
    for value in ("nan", "inf", "-inf", "1e400", ""):
        unharmed(invoke(lab, path, option, value), 2)


LOOKING = [case for case in options(str) if case.values[0] not in CHANGE]


@pytest.mark.parametrize(("path", "option"), LOOKING)
def test_no_text_is_too_odd(lab: Path, path: str, option: str) -> None:
    for value in ODD_TEXTS:
        unharmed(invoke(lab, path, option, value), 0, 2)


@pytest.mark.parametrize("host", [*ODD_TEXTS, " ", "no.such.host.invalid", "127.0.0.1:80", "\ud800"])
@pytest.mark.parametrize("command", ["view", "env serve", "serve"])
def test_nothing_is_served_at_an_odd_host(lab: Path, command: str, host: str) -> None:
    unharmed(invoke(lab, command, "--host", host), 2)


@pytest.mark.parametrize(
    "seeds", ["1000000000", "0-1000000000", ",".join(f"{n}00000-{n}99999" for n in range(9)), "9" * 40, "", "-", "1-"]
)
def test_seeds_that_no_game_has_are_refused_in_one_line(lab: Path, seeds: str) -> None:
    result = RUNNER.invoke(app, ["run", "toy/doors", "--lab", str(lab), "--arm", "random", f"--seeds={seeds}"])
    unharmed(result, 2)
    assert result.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("command", ["run", "eval", "search"])
def test_where_one_game_is_in_no_fold_none_is_played(lab: Path, command: str) -> None:
    arm = [] if command == "search" else ["--arm", "random"]
    result = RUNNER.invoke(app, [command, "toy/doors", "--lab", str(lab), *arm, "--seeds", "998-1002"])
    unharmed(result, 2)
    with Lab.open(lab, write=False) as opened:
        assert opened.database.episodes.count() == 0


@pytest.mark.parametrize("arm", ["nope", "", "random, 2 trials", "x" * 5000])
def test_an_arm_that_is_none_is_refused_with_those_that_are(lab: Path, arm: str) -> None:
    result = RUNNER.invoke(app, ["run", "toy/doors", "--lab", str(lab), "--arm", arm])
    unharmed(result, 2)
    assert "base" in result.stderr and len(result.stderr) < 400


def test_an_arm_that_is_named_twice_is_measured_once(lab: Path) -> None:
    words = ["eval", "toy/doors", "--arm", "random", "--arm", "random", "--seeds", "0-1", "--json", "--lab", str(lab)]
    assert len(json.loads(RUNNER.invoke(app, words).stdout)["rows"]) == 1


def test_more_games_than_fit_into_memory_are_refused_before_they_are_made() -> None:
    with pytest.raises(BadConfig, match="slip"):
        make_tasks("toy/doors", "train", range(10**9))
    for name in ("seeds", "gate_seeds", "held_out_seeds", "retire_games", "random_trials", "model_trials"):
        with pytest.raises(ValueError, match=name):
            RoundConfig.model_validate({"envs": ["toy/doors"], name: 10**9})


def test_a_round_of_a_milliard_games_is_one_line(lab: Path) -> None:
    result = RUNNER.invoke(app, ["rounds", "run", "toy/doors", "--games", "1000000", "--lab", str(lab)])
    unharmed(result, 2)
    assert "seeds" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize("kind", ["missing", "folder", "latin-1", "binary"])
@pytest.mark.parametrize("words", [["rounds", "run", "--config"], ["distill", "--config"], ["memory", "import"]])
def test_a_file_that_cannot_be_read_is_one_line(lab: Path, tmp_path: Path, words: list[str], kind: str) -> None:
    file = tmp_path / "file.toml"
    if kind == "folder":
        file.mkdir()
    elif kind != "missing":
        file.write_bytes(b'envs = ["caf\xe9"]' if kind == "latin-1" else bytes(range(256)))
    with Lab.open(lab) as opened:
        opened.database.settings.put("touched", 1)
    result = RUNNER.invoke(app, [*words, str(file), "--lab", str(lab)])
    unharmed(result, 2)
    assert result.stderr.count("\n") == 1


def test_an_argument_that_is_no_utf_8_is_one_line(lab: Path) -> None:
    result = RUNNER.invoke(app, ["memory", "search", "caf\udce9", "--lab", str(lab)])
    unharmed(result, 2)
    assert result.stderr.count("\n") == 1 and "UTF-8" in result.stderr


def test_one_arm_may_be_named_alone(tmp_path: Path) -> None:
    with Lab.open(tmp_path / "lab", create=True, config=LabConfig(embedder="hashing")) as opened:
        table = opened.evaluate("toy/doors", seeds=range(2), arms="random")
        assert [row.arm for row in table.rows] == ["random"]


def latin(*words: str) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0", "LC_ALL": "C", "COLUMNS": "120"}
    code = "from agentlab.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, env=environment, check=False)


def test_a_terminal_in_latin_1_shows_what_it_can(lab: Path) -> None:
    listing = latin("memory", "list", "--lab", str(lab))
    assert listing.returncode == 0, listing.stderr
    assert "café".encode("latin-1") in listing.stdout and b"?red?" in listing.stdout
    (row,) = json.loads(latin("memory", "list", "--json", "--lab", str(lab)).stdout.decode("latin-1"))
    assert row["text"] == "The door of the café is “red” → go.", "JSON loses nothing"
    exported = json.loads(latin("memory", "export", "--lab", str(lab)).stdout.decode("utf-8"))
    assert exported["text"] == row["text"], "what is exported is UTF-8"


def test_settings_are_written_in_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from agentlab.workspace.config import LabConfig, write_config; "
        "write_config(Path(sys.argv[1]), LabConfig(namespace='\\u6771\\u4eac'))"
    )
    path = tmp_path / "lab.toml"
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code, str(path)], env=environment, check=True)
    assert read_config(path).namespace == "東京" and "東京" in path.read_text(encoding="utf-8")


def test_what_is_loading_is_told_before_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentlab.engines import hub, transformers
    from agentlab.progress import Progress

    said: list[str] = []

    class Telling(Progress):
        def say(self, message: str) -> None:
            said.append(message)

    def load(*given: object, **settings: object) -> None:
        assert said, "the silence begins with the loading"
        raise BadConfig("It is not loaded here.")

    monkeypatch.setattr(transformers, "TransformersEngine", load)
    monkeypatch.setattr(hub, "resolve", lambda *given, **settings: tmp_path)
    config = LabConfig(embedder="hashing")
    with Lab.open(tmp_path / "lab", create=True, config=config, progress=Telling()) as opened, pytest.raises(BadConfig):
        _ = opened.engine
    assert said == [f"Loading the model {config.model}."]
