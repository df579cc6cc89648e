"""A run plays in one process; meanwhile a person at the command line, one at a screen, and a client mend its memory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.types import Implementation
from starlette.testclient import TestClient

from agentlab.lab import Lab
from agentlab.web.app import application
from agentlab.web.safety import Access
from agentlab.workspace.config import LabConfig
from memory.records import Reflection

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
COMMAND = "from agentlab.cli import main; main()"
PLAY = """
import sys
from pathlib import Path
from agentlab.engines.scripted import ScriptedEngine
from agentlab.lab import Lab

folder, began = Path(sys.argv[1]), []

def slow(transcript, command):
    if not began:
        began.append(1)
        print("playing", flush=True)
        sys.stdin.readline()  # it thinks, until somebody says that it has thought enough
    return 0.0

with Lab.open(folder, engine=ScriptedEngine(slow), progress=False) as lab:
    lab.run("toy/doors", seeds=range(3), trials=1, arm="base + memory", name="slow")
"""


def typed(lab: Path, *words: str) -> str:
    """What a command says, on a command line of its own."""
    command = [sys.executable, "-c", COMMAND, "memory", *words, "--lab", str(lab)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_doors_change_the_memory_while_a_run_plays_and_each_change_is_undone_as_one(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    with Lab.open(lab, create=True, config=LabConfig(embedder="hashing", threads=1), progress=False) as opened:
        opened.memory.remember(
            [
                Reflection(
                    id=f"r-{n}", kind="written", env="toy/doors", task="toy/doors:train:", text=f"Look at door {n}."
                )
                for n in range(4)
            ]
        )
    screens = application(lab, Access(token="secret"))
    person = TestClient(screens.asgi(), base_url="http://127.0.0.1", follow_redirects=False)

    async def added() -> dict[str, object]:
        server = StdioServerParameters(
            command=sys.executable,
            args=["-c", COMMAND, "memory", "serve", "--mcp", "--allow-write", "--lab", str(lab)],
            cwd=ROOT,
        )
        async with Client(server, client_info=Implementation(name="a client", version="1")) as client:
            lesson = {"text": "Coins lie behind doors.", "env": "toy/doors"}
            done = await client.call_tool("add_reflection", lesson)
            assert not done.is_error, done.content
            return dict(done.structured_content)

    command = [sys.executable, "-c", PLAY, str(lab)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as run:
        assert run.stdout is not None and run.stdin is not None and run.stdout.readline() == "playing\n"
        assert typed(lab, "forget", "r-0", "r-1").startswith("Forgot 2 reflections.")
        assert typed(lab, "pin", "r-2") == "Pinned r-2.\n"
        kept = anyio.run(added)
        assert (kept["changed"], kept["status"]) == (True, "active")
        form = {"token": "secret", "text": "Look behind door 3.", "reason": "it is so"}
        sent = person.post("/memory/r-3/edit", data=form, headers={"origin": "http://127.0.0.1"})
        assert sent.status_code == 303 and "done=" in sent.headers["location"], sent.text
        history = json.loads(typed(lab, "history", "--json"))[::-1]
        assert [(one["name"], one["asked_by"]) for one in history] == [
            ("forgotten", "cli"),
            ("pinned", "cli"),
            ("remembered", "mcp:a client"),
            ("edited", "screen"),
        ]
        assert "mcp:a client" in typed(lab, "history")
        assert "2 reflections as before" in typed(lab, "undo", history[0]["id"])
        undone = person.post(
            f"/changes/{history[3]['id']}/undo", data={"token": "secret"}, headers={"origin": "http://127.0.0.1"}
        )
        assert undone.status_code == 303, undone.text
        assert run.poll() is None, "all of it was done while it thought over its first step"
        run.stdin.write("enough\n")
        run.stdin.close()
        assert run.wait() == 0
    with Lab.open(lab, write=False, progress=False) as looking:
        found = {item.id: item for item in looking.database.reflections.find()}
        assert [found[f"r-{n}"].status for n in range(4)] == ["active"] * 4
        assert found["r-2"].pinned and found["r-3"].text == "Look at door 3."
        assert found[str(kept["id"])].source == "mcp:a client"
        assert looking.database.episodes.count() == 3
        assert len(re.findall("undo", " ".join(one.name for one in looking.database.operations.recent()))) == 2
    for one in screens.labs:
        one.close()
