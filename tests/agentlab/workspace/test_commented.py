from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from agentlab.cli import app
from agentlab.rounds import PRESETS, RoundConfig
from agentlab.rounds.config import EXPERT
from agentlab.workspace.commented import commented, explained
from agentlab.workspace.config import ChatConfig, LabConfig, read_config, write_config

RUNNER = CliRunner()


class Inner(BaseModel):
    """Settings within others.

    width, height: of the thing, in metres; a long
        explanation goes on, see: nothing.
    depth: how deep it is: at most as the sea.
    """

    width: float = 1.0
    height: float = 2.0
    depth: int | None = None


class Outer(BaseModel):
    """Settings.

    Attributes:
        name: what it is called, with "quotes" and a
            second line.
        inner: one more.
        maybe: one more, or none.
    """

    name: str = 'a "b" \\ ü'
    tags: list[str] = ["x", "y"]
    inner: Inner = Inner()
    maybe: Inner | None = None


def test_what_a_docstring_says_of_a_field_stands_before_it() -> None:
    assert explained(Inner)["width"] == explained(Inner)["height"]
    assert explained(Inner)["depth"] == "how deep it is: at most as the sea."
    lines = commented(Outer()).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("name = "))
    assert lines[at - 1] == '# what it is called, with "quotes" and a second line.'
    at = lines.index("width = 1.0")
    assert "metres" in lines[at - 1] and lines[at + 1] == "height = 2.0"


@pytest.mark.parametrize("settings", [Outer(), Outer(maybe=Inner(depth=3)), Outer(name="\n\t\x07", tags=[])])
def test_it_reads_back_as_the_same(settings: Outer) -> None:
    assert Outer.model_validate(tomllib.loads(commented(settings, about="Of two\nlines."))) == settings


def test_what_is_none_stands_as_a_comment_that_can_be_filled_in() -> None:
    text = commented(Outer())
    assert "# [maybe]" in text and "# depth = …" in text
    filled = text.replace("# [maybe]", "[maybe]").replace("# width", "width").replace("# height", "height")
    assert Outer.model_validate(tomllib.loads(filled)).maybe == Inner()


def every(settings: type[BaseModel]) -> Iterator[tuple[type[BaseModel], str]]:
    """Each field of a class of settings, and of those within."""
    for name, field in settings.model_fields.items():
        yield settings, name
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from every(kind)


@pytest.mark.parametrize("settings", [RoundConfig, LabConfig])
def test_every_setting_of_a_round_and_of_a_lab_is_explained(settings: type[BaseModel]) -> None:
    assert [(kind.__name__, name) for kind, name in every(settings) if name not in explained(kind)] == []
    # A comment stands alone, without the names before it; and `None` is the value there, not nobody.
    said = {(kind.__name__, name): explained(kind)[name] for kind, name in every(settings)}
    assert [text for text in said.values() if " " not in text or re.search(r"\bNone [a-z]{2,}s\b", text)] == []


@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_the_command_prints_a_file_that_a_round_takes(preset: str | None, tmp_path: Path) -> None:
    asked = ["--preset", preset] if preset else []
    said = RUNNER.invoke(app, ["rounds", "config", "twx/coin", *asked, "--lab", str(tmp_path / "none")])
    assert said.exit_code == 0, said.output
    file = tmp_path / "round.toml"
    file.write_text(said.stdout, encoding="utf-8")
    wanted = RoundConfig.model_validate({"envs": ["twx/coin"], **(PRESETS[preset] if preset else {})})
    written = tomllib.loads(said.stdout)
    assert RoundConfig.model_validate(written) == wanted
    assert not set(EXPERT) & written.keys() and {"kl", "monitor", "retire"} <= written["expert"].keys()
    again = RUNNER.invoke(app, ["rounds", "config", "--config", str(file), "--lab", str(tmp_path / "none")])
    assert (again.stdout, again.stderr) == (said.stdout, "")


def test_a_preset_that_does_not_exist_is_refused_with_the_nearest(tmp_path: Path) -> None:
    said = RUNNER.invoke(app, ["rounds", "config", "--preset", "rest", "--lab", str(tmp_path / "none")])
    assert said.exit_code == 2 and "rest_em" in said.output


def test_a_new_lab_explains_its_settings(tmp_path: Path) -> None:
    file, config = tmp_path / "lab.toml", LabConfig(reflectors=["grounded"], concurrency=4, gather=True)
    write_config(file, config)
    assert read_config(file) == config
    lines = file.read_text(encoding="utf-8").splitlines()
    settings = [number for number, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    # One is a table of its own.
    assert len(settings) == len(LabConfig.model_fields) - 1 + len(ChatConfig.model_fields)
    assert all(lines[number - 1].startswith("#") for number in settings)
