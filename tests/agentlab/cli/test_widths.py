"""At any width of a terminal a listing shows each id, status and text whole."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from agentlab import Lab, LabConfig
from memory.records import Episode, Evidence, Recall, Reflection

ENV = "twx/cookingworld?includeDoors=0,numIngredients=2,numLocations=4"
TEXTS = [
    "Coins are found in the kitchen.",
    "The cookbook lies in the pantry; reading it first names each ingredient and how it is to be prepared, and whoever "
    "fries what should be roasted has lost the game at once, whatever else was done right before.",
    "Die Münze lag unter dem Küchenschrank, hinter einer blauen Tür aus Holz.",
]
SCRIPT = """
import sys
from agentlab.cli import app
for words in (["memory", "list"], ["memory", "search", "where are coins found"], ["episodes"], \
["memory", "history"], ["models"], ["envs"]):
    print("==", *words)
    app([*words, *([] if words[0] in ("models", "envs") else ["--lab", sys.argv[1]])], standalone_mode=False)
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("widths") / "lab"
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing")) as opened:
        for number, status in enumerate(("won", "lost", "truncated", "errored")):
            opened.database.episodes.put(
                Episode(
                    id=f"ep-{number}aaaabbbbccccdddd", run="first", env=ENV, split="train", seed=number, status=status,
                    arm="base + memory", engine="SmolLM2-135M-Instruct", adapter="adapter-aaaabbbbccccdddd",
                )
            )  # fmt: skip
        opened.memory.remember(
            [
                Reflection(
                    id=f"r-{number}aaaabbbbccccddd", kind="grounded", env=ENV, task=f"{ENV}:train:{number}", text=text,
                    evidence=[Evidence(episode="ep-0aaaabbbbccccdddd", steps=[0])],
                )
                for number, text in enumerate(TEXTS)
            ]
        )  # fmt: skip
        opened.database.recalls.put(
            [Recall(episode="ep-0aaaabbbbccccdddd", reflection="r-0aaaabbbbccccddd", rank=0, query="", score=1.0)]
        )
        opened.memory.pin("r-1aaaabbbbccccddd")
    return folder


def terminal(width: int, *command: str) -> str:
    """What a program prints in a terminal of this width, without what colours it."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")} | {"TERM": "xterm"}
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=subprocess.DEVNULL, env=env, close_fds=True)
    os.close(its)
    said = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        said += part
    os.close(ours)
    assert process.wait() == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode()).replace("\r\n", "\n")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_listing_shows_whole_ids_statuses_and_texts(width: int, lab: Path) -> None:
    said = terminal(width, sys.executable, "-c", SCRIPT, str(lab))
    assert max(map(len, said.split("\n"))) <= width
    parts = dict(part.split("\n", 1) for part in said.split("== ")[1:])

    def lines_with(command: str, *words: str) -> bool:
        """True if all these words stand in one line of what a command printed."""
        return any(all(word in line.split() for word in words) for line in parts[command].split("\n"))

    for number, text in enumerate(TEXTS):
        assert lines_with("memory list", f"r-{number}aaaabbbbccccddd", "grounded", "active")
        assert text in " ".join(parts["memory list"].split())
        assert lines_with("memory search where are coins found", f"r-{number}aaaabbbbccccddd", "grounded")
        assert text in " ".join(parts["memory search where are coins found"].split())
    for number, status in enumerate(("won", "lost", "truncated", "errored")):
        assert lines_with("episodes", f"ep-{number}aaaabbbbccccdddd", status)
    assert "pin" in parts["memory history"]
    assert lines_with("models", "SmolLM2-135M-Instruct")
    assert lines_with("envs", "twx/cookingworld", "yes")
    assert "read the recipe, gather the ingredients, prepare and eat the meal" in " ".join(parts["envs"].split())
