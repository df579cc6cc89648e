"""Try an installed AgentLab as somebody would who has no checkout: `python -P .ci/smoke.py`, in that it is made from.

Every file that git tracks in the four packages has to be installed, byte by byte; then games are played in an empty
folder, what was learned is read, and the screens are opened.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from importlib.metadata import distribution
from pathlib import Path
from urllib.request import urlopen

HERE = Path(__file__).parents[1]
PACKAGES = ("agentlab", "memory", "environments", "trainers")
COMMAND = str(Path(sys.executable).with_name("agentlab"))


def missing() -> list[str]:
    """Tracked files that are not installed as they are, by their paths."""
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=HERE, check=True, capture_output=True, text=True).stdout
    place = Path(str(distribution("agentlab").locate_file("")))
    if place.resolve() == HERE.resolve():
        sys.exit("error: this is the checkout itself, not an installed wheel; run `make package`")
    installed = [(name, place / name) for name in listed.splitlines()]
    return [name for name, path in installed if not path.is_file() or path.read_bytes() != (HERE / name).read_bytes()]


def ask(folder: Path, *arguments: str) -> str:
    """What a command prints; one that fails ends the program."""
    print("agentlab", *arguments, flush=True)
    done = subprocess.run([COMMAND, *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: it ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def look(folder: Path) -> None:
    """Open the screens of a lab, over their real server."""
    print("agentlab view", flush=True)
    server = subprocess.Popen(
        [COMMAND, "view", "--lab", "lab", "--port", "0"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert server.stdout is not None
        said = ""
        until = time.monotonic() + 60
        while "http://" not in said and time.monotonic() < until and (line := server.stdout.readline()):
            said += line
        if "http://" not in said:
            sys.exit(f"error: the screens did not open\n{said}")
        address = "http://" + said.split("http://", 1)[1].split()[0].rstrip(".,;")
        with urlopen(address, timeout=60) as answer:
            page = answer.read().decode()
        if "<html" not in page:
            sys.exit(f"error: this is no screen\n{page[:400]}")
    finally:
        server.terminate()
        server.wait(timeout=60)


def main() -> None:
    """Try it; end with 1 and a line where something is wrong."""
    if lacking := missing():
        sys.exit(f"error: the wheel lacks {len(lacking)} tracked files, such as {', '.join(lacking[:5])}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        ask(place, "--version")
        ask(place, "envs")
        ask(place, "run", "toy/doors", "--arm", "random", "--seeds", "0-4", "--lab", "lab")
        ask(place, "run", "twx/coin", "--arm", "random", "--seeds", "0", "--trials", "1", "--lab", "lab")
        if "toy/doors" not in ask(place, "episodes", "--lab", "lab"):
            sys.exit("error: what was played is not listed")
        ask(place, "memory", "list", "--lab", "lab")
        look(place)
    print("The wheel holds every file, plays, and shows.")


if __name__ == "__main__":
    main()
