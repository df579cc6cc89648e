from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from agentlab.errors import BadConfig, NotALab
from agentlab.lab import Lab
from agentlab.workspace.config import (
    FORMAT,
    LabConfig,
    check,
    merged,
    parse,
    read_config,
    read_toml,
    rename_settings,
    write_config,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lab.toml"


def test_what_is_written_is_read_again(file: Path) -> None:
    config = LabConfig(
        model="my/model", concurrency=7, recency=0.25, reflectors=["written", "debate"], critic="my/judge", seed=3
    )
    write_config(file, config)
    assert read_config(file) == config
    assert [path.name for path in file.parent.iterdir()] == ["lab.toml"]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f"), min_size=1))
def test_any_path_survives_being_written(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    file = tmp_path_factory.mktemp("lab") / "lab.toml"
    write_config(file, LabConfig(model=name))
    assert read_config(file).model == name


def test_an_empty_file_is_the_defaults(file: Path) -> None:
    file.write_text("")
    assert read_config(file) == LabConfig()


def test_a_newer_format_is_refused_before_its_settings_are_judged(file: Path) -> None:
    file.write_text(f"format = {FORMAT + 1}\nnovelty = 1\n")
    with pytest.raises(NotALab, match=f"newer AgentLab \\(format {FORMAT + 1}, this one knows {FORMAT}\\); update it"):
        read_config(file)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("threads = -1", "threads: Input should be greater than or equal to 0"),
        ("treads = 1", "no setting 'treads'"),
        ('dtype = "int8"', "dtype: "),
        (
            'reflectors = ["grounded", "writen"]',
            "reflectors.1: No reflector is called `writen`; did you mean",
        ),
        ('tools = ["notes", "calculater"]', "tools.1: there is no tool `calculater`; did you mean"),
        ("context = 1", "context: "),
        ("threads = ", "not valid TOML"),
        ("\\x00", "not valid TOML"),
        ("tools = " + "[" * 5000, "nested too deeply"),
        ("seed = " + "9" * 5000, "not valid TOML"),
    ],
)
def test_a_bad_setting_is_one_line_that_names_it(file: Path, text: str, complaint: str) -> None:
    file.write_text(text)
    with pytest.raises(BadConfig) as caught:
        read_config(file)
    assert complaint in str(caught.value)
    assert str(caught.value).endswith(("correct it.", "correct its name."))
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_no_settings(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(BadConfig, match="not valid TOML"):
        read_toml(file)


def test_a_part_of_a_byte_order_mark_is_an_empty_file(file: Path) -> None:
    file.write_bytes(b"\xef")
    assert read_config(file) == LabConfig()
    rename_settings(file)
    assert file.read_bytes() == b"\xef"


def test_a_missing_file_is_said(file: Path) -> None:
    with pytest.raises(BadConfig, match="There is no file"):
        read_toml(file)


def test_a_complaint_about_the_whole_says_so() -> None:
    class Any(BaseModel):
        x: int = 1

    with pytest.raises(BadConfig, match="it: "):
        parse(Any, 3, Path("f.toml"))  # type: ignore[arg-type]


def test_later_layers_win_and_tables_inside_are_merged() -> None:
    first = {"seeds": 2, "gate": {"alpha": 0.1, "min_pairs": 5}, "envs": ["a"]}
    found = merged(first, {"gate": {"alpha": 0.2}, "envs": ["b"]}, {"seeds": {"now": "a table"}})
    assert found == {"seeds": {"now": "a table"}, "gate": {"alpha": 0.2, "min_pairs": 5}, "envs": ["b"]}
    assert first["gate"] == {"alpha": 0.1, "min_pairs": 5}, "no layer is changed"


@pytest.mark.parametrize("engine", ["vllm", "chat"])
@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://me:secret@127.0.0.1/v1", "put a key into VLLM_API_KEY or OPENAI_API_KEY"),
        ("http://secret@127.0.0.1/v1", "is kept in lab.toml"),
        ("http://127.0.0.1/v1?key=secret", "is kept in lab.toml"),
        ("127.0.0.1:8000", "names no server"),
        ("localhost:8000", "names no server"),
        ("ftp://127.0.0.1", "names no server"),
        ("http://", "names no server"),
        ("http://127.0.0.1:secret", "cannot be read"),
        ("http://[secret", "cannot be read"),
        ("http://127.0.0.1:99999", "cannot be read"),
        ("http://a\x00secret", "cannot be read"),
    ],
)
def test_a_server_whose_url_is_none_or_has_a_secret_in_it_is_refused_before_a_lab_is_made(
    tmp_path: Path, engine: str, url: str, complaint: str
) -> None:
    model = "openai:m" if engine == "chat" else "org/model"
    config = LabConfig.model_validate({"engine": engine, "server": url, "model": model})
    with pytest.raises(BadConfig, match=complaint) as caught:
        Lab.open(tmp_path / "lab", create=True, config=config, progress=False)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:8000", "https://host.example/v1/", "http://[::1]:8000"])
def test_a_servers_url_may_have_a_port_and_a_path(url: str) -> None:
    check(LabConfig(engine="vllm", server=url))
