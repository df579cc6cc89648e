"""`agentlab memory serve --mcp` as another program meets it: a process that is spoken to over its pipes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.types import Implementation
from typer.testing import CliRunner

import agentlab
from agentlab.cli import app
from agentlab.lab import Lab
from agentlab.workspace.config import LabConfig
from memory.records import Reflection

ROOT = Path(__file__).parents[3]
START = "from agentlab.cli import main; main()"


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    with Lab.open(tmp_path / "lab", create=True, config=LabConfig(embedder="hashing")) as opened:
        opened.memory.remember([reflection("r-coins", "Coins are found in the kitchen.")])
    return tmp_path / "lab"


def reflection(id: str, text: str) -> Reflection:
    return Reflection(id=id, kind="grounded", env="toy/doors", task="toy/doors:train:1", text=text)


def arguments(lab: Path, *more: str) -> list[str]:
    return ["-c", START, "memory", "serve", "--mcp", "--lab", str(lab), *more]


def connection(lab: Path, *more: str) -> Client:
    parameters = StdioServerParameters(command=sys.executable, args=arguments(lab, *more), cwd=ROOT)
    return Client(parameters, client_info=Implementation(name="a test", version="1"))


async def hits(client: Client, query: str) -> list[str]:
    found = await client.call_tool("search_memory", {"query": query})
    assert not found.is_error, found.content
    return [hit["id"] for hit in found.structured_content["hits"]]


def test_a_client_looks_into_a_lab_that_another_process_is_writing(lab: Path) -> None:
    async def session() -> None:
        async with connection(lab) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == {
                "search_memory",
                "show_reflection",
                "list_reflections",
            }
            assert await hits(client, "coins") == ["r-coins"]
            with Lab.open(lab) as writer:
                writer.memory.remember([reflection("r-lamp", "Lamps hang in the cellar.")])
                assert (await hits(client, "lamps in the cellar"))[0] == "r-lamp"
            shown = await client.call_tool("show_reflection", {"id": "r-c"})
            assert shown.structured_content["text"] == "Coins are found in the kitchen."
            assert (await client.call_tool("forget_reflection", {"id": "r-c"})).is_error

    anyio.run(session)


def test_a_client_that_may_adds_also_while_another_process_writes(lab: Path) -> None:
    lesson = {"text": "Light the lamp first.", "env": "toy/doors"}

    async def session() -> str:
        async with connection(lab, "--allow-write") as client:
            with Lab.open(lab):
                kept = await client.call_tool("add_reflection", lesson)
            assert not kept.is_error and kept.structured_content["changed"]
            again = await client.call_tool("add_reflection", lesson)
            assert not again.is_error and not again.structured_content["changed"]
            id = str(kept.structured_content["id"])
            assert (await hits(client, "light the lamp"))[0] == id
            return id

    id = anyio.run(session)
    with Lab.open(lab, write=False) as opened:
        assert opened.database.reflections.get(id).source == "mcp:a test"


def test_stdout_carries_the_protocol_only_and_notes_go_to_stderr(lab: Path) -> None:
    with Lab.open(lab) as opened:
        opened.memory.search("coins")
    for file in lab.glob("*.faiss"):  # the index is made again, of which a person is told
        file.unlink()
    asked: list[dict[str, Any]] = [
        {
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "by hand", "version": "1"},
            },
        },
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": "search_memory", "arguments": {"query": "coins"}}},
    ]
    process = subprocess.Popen(
        [sys.executable, *arguments(lab)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout and process.stderr
    with process:
        for message in asked:
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
            process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.stdin.close()
        assert process.stdout.read() == ""
        notes = process.stderr.read().splitlines()
    assert [answer["id"] for answer in answers] == [1, 2]
    assert answers[1]["result"]["structuredContent"]["hits"][0]["id"] == "r-coins"
    assert process.returncode == 0
    assert "is served on stdin and stdout; clients may read" in notes[0]
    assert "memory.faiss" in notes[1]
    assert len(notes) == 2


def test_the_server_ends_when_its_client_is_killed(lab: Path) -> None:
    waits = f"""
import anyio
from mcp import Client, StdioServerParameters

async def main():
    server = StdioServerParameters(command={sys.executable!r}, args={arguments(lab)!r}, cwd={str(ROOT)!r})
    async with Client(server) as client:
        await client.list_tools()
        print("connected", flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""
    with subprocess.Popen(
        [sys.executable, "-c", waits], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as client:
        assert client.stdout and client.stderr
        assert client.stdout.readline() == "connected\n"
        client.kill()
        # The server holds the other end of this pipe as long as it lives.
        assert "is served" in client.stderr.read()


def test_a_protocol_must_be_named(lab: Path) -> None:
    result = CliRunner().invoke(app, ["memory", "serve", "--lab", str(lab)])
    assert result.exit_code == 2
    assert "--mcp" in result.stderr


def test_a_folder_that_is_no_lab_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["memory", "serve", "--mcp", "--lab", str(tmp_path / "nowhere")])
    assert result.exit_code == 2
    assert "nowhere" in result.stderr
    assert not (tmp_path / "nowhere").exists()


def test_without_the_package_the_command_says_how_to_get_it(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    monkeypatch.delitem(sys.modules, "agentlab.memory_server", raising=False)
    monkeypatch.delattr(agentlab, "memory_server", raising=False)
    result = CliRunner().invoke(app, ["memory", "serve", "--mcp", "--lab", str(lab)])
    assert result.exit_code == 2
    assert "pip install 'mcp" in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_import_that_fails_for_another_reason_is_not_taken_for_that(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "agentlab.memory_server", None)
    monkeypatch.delattr(agentlab, "memory_server", raising=False)
    result = CliRunner().invoke(app, ["memory", "serve", "--mcp", "--lab", str(lab)])
    assert isinstance(result.exception, ImportError)
