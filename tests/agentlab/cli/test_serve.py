"""`agentlab serve` up to the moment at which it would wait: what cannot be served is one line, a client is made."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agentlab.cli import app
from agentlab.lab import Lab
from agentlab.serving import server
from agentlab.serving.clients import FILE, Clients
from agentlab.workspace.config import LabConfig
from agentlab.workspace.lock import WriteLock


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    with Lab.open(tmp_path / "lab", create=True, config=LabConfig(embedder="hashing"), progress=False) as made:
        _ = made.database
    return tmp_path / "lab"


def typed(lab: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["serve", "--lab", str(lab), *words])


@pytest.mark.parametrize(
    "words",
    [
        ["--host", "0.0.0.0"],
        ["--host", " "],
        ["--host", "no.such.host.invalid"],
        ["--port", "70000"],
        ["--max-tokens", "0"],
        ["--client", "An na"],
        ["--client", ""],
        ["--engine", "chat"],
        ["--model", "no-such-model"],
    ],
)
def test_what_cannot_be_served_is_one_line_and_changes_nothing(lab: Path, words: list[str]) -> None:
    before = sorted(path.name for path in lab.iterdir())
    done = typed(lab, *words)
    assert done.exit_code == 2 and isinstance(done.exception, SystemExit), done.output
    assert done.stderr.strip() and sorted(path.name for path in lab.iterdir()) == before


def test_a_port_that_is_taken_is_said_before_the_model_is_loaded(lab: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = typed(lab, "--port", str(taken.getsockname()[1]))
    assert done.exit_code == 2 and "--port" in done.stderr and "Loading" not in done.stderr


def test_a_broken_file_of_clients_is_one_line(lab: Path) -> None:
    (lab / FILE).write_text("[")
    for words in ([], ["--client", "anna"]):
        done = typed(lab, *words)
        assert done.exit_code == 2 and FILE in done.stderr
    assert (lab / FILE).read_text() == "["


def test_a_new_client_has_the_key_that_is_printed(lab: Path) -> None:
    done = typed(lab, "--client", "anna")
    assert done.exit_code == 0
    client = Clients(lab, "").who(done.stdout.strip())
    assert client is not None and client.namespace == "chat/anna" and client.namespace in done.stderr


def test_it_serves_beside_a_run_with_the_settings_of_the_command(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[dict[str, Any]] = []
    monkeypatch.setattr(server, "serve", lambda *_, **given: served.append(given))
    assert typed(lab, "--engine", "vllm", "--max-tokens", "7").exit_code == 0
    playing = WriteLock(lab / ".lock")
    playing.acquire()
    try:
        assert typed(lab, "--engine", "vllm").exit_code == 0
        assert typed(lab, "--model", "SmolLM2-135M-Instruct").exit_code == 2
    finally:
        playing.release()
    assert [given["settings"]["engine"] for given in served] == ["vllm", "vllm"]
    assert [given["most"] for given in served] == [7, 1024]


def test_a_lab_is_made_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "serve", lambda *_, **__: None)
    assert typed(tmp_path / "new").exit_code == 0
    assert (tmp_path / "new" / "lab.toml").exists() and (tmp_path / "new" / "lab.db").exists()
