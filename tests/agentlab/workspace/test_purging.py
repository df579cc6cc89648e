"""What a purge leaves: nothing of the text, and a lab that goes on as before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentlab.cli import app
from agentlab.lab import Lab
from agentlab.workspace import purging
from agentlab.workspace.config import LabConfig
from agentlab.workspace.purging import purge_all
from agentlab.workspace.requests import Edit, payload_of, verb_of
from memory import Database
from memory.records import Reflection
from memory.store import UNFINISHED, Mending

SECRET = "The silver key opens the cellar behind the oven."
LOOK = "import sys; from memory import Database; Database(sys.argv[1], readonly=True).close()"


def made(folder: Path) -> Lab:
    lab = Lab.open(folder, create=True, config=LabConfig(embedder="hashing"), progress=False)
    item = Reflection(
        id="r-key",
        kind="written",
        env="toy/doors",
        task="toy/doors:train:1",
        text="Behind the third door hangs a lamp of brass.",
    )
    lab.memory.remember([item])
    return lab


def test_a_text_that_lay_in_the_inbox_is_purged_with_the_reflection_that_it_was_for(tmp_path: Path) -> None:
    with made(tmp_path / "lab") as lab:
        request = Edit(id="r-key", text=SECRET)
        lab.database.inbox.put("screen", verb_of(request), payload_of(request))
    with Lab.open(tmp_path / "lab", progress=False) as lab:
        assert lab.database.reflections.get("r-key").text == SECRET
        assert purge_all(lab, ["r-key"]).notes == []
    files = [path for path in (tmp_path / "lab").rglob("*") if path.is_file()]
    assert files and [path.name for path in files if SECRET.encode() in path.read_bytes()] == []


def test_what_is_written_after_a_purge_is_kept_though_another_process_comes_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "lab" / "lab.db"
    with made(tmp_path / "lab") as lab:
        purge_all(lab, ["r-key"])
        subprocess.run([sys.executable, "-c", LOOK, str(path)], check=True)
        lab.database.settings.put("kept", 1)
        with Database(path, readonly=True) as other:
            assert other.settings.get("kept") == 1


@pytest.mark.parametrize("part", ["meant", "purge", "finish"])
def test_a_purge_that_is_killed_is_finished_by_the_same_command(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lab"
    with made(folder) as lab:
        Mending(lab.database).edit("r-key", SECRET)
    killed = os.fork()
    if not killed:
        done = getattr(purging, part)

        def dies(*given: Any, **named: Any) -> Any:
            if part != "finish":
                done(*given, **named)
            os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(purging, part, dies)
        with Lab.open(folder, progress=False) as lab:
            purge_all(lab, ["r-key"])
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(killed, 0)[1]) == -signal.SIGKILL
    command = ["memory", "purge", "r-key", "--name", "r-key", "--lab", str(folder)]
    CliRunner().invoke(app, command)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert [path.name for path in files if SECRET.encode() in path.read_bytes()] == []
    with Lab.open(folder, progress=False) as lab:
        assert lab.database.reflections.count() == 0
        assert not lab.database.settings.get(UNFINISHED)
