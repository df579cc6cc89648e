"""A million hostile inputs: whatever comes in from outside, by each door, in the shapes that it is meant to have.

python -m tests.e2e.hostile --inputs N --seed S [--only DOOR,…] [--minutes M] [--log FILE]

An input is made at random from what the door takes: parts of it are replaced by values that nobody means (halves of
characters, numbers beyond every bound, texts that are paths or programs, lists nested a thousand deep), left out or
doubled, and the bytes cut, mixed or spoilt. A door may refuse it with an error of ours. Counted are tracebacks (any
other exception), writes outside of the door's folder (each file that is opened for writing, renamed, made or removed),
and changes of a memory that no operation of `memory history` has made.

The log has a line of JSON for each door and run; the table is printed from all of its lines.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.e2e.hostile_doors import Door, Files, Http, Ids, Mcp, Toml
from tests.e2e.hostile_files import Adapters, Games, Inbox, Jobs, Models, Pages
from tests.e2e.hostile_servers import Answers, Chat, OpenEnv, Serving, Vllm
from tests.e2e.hostile_values import Chance

DOORS: dict[str, type[Door]] = {
    door.name: door
    for door in (
        Toml,
        Ids,
        Files,
        Mcp,
        Http,
        Inbox,
        Answers,
        OpenEnv,
        Serving,
        Chat,
        Vllm,
        Adapters,
        Models,
        Jobs,
        Games,
        Pages,
    )
}
SHOWN = 5
"""Tracebacks of one door that a run prints."""


class Outside:
    """Notes what this process writes outside of a folder; audit hooks stay to its end."""

    def __init__(self) -> None:
        self.within: str | None = None
        self.found: list[str] = []
        sys.addaudithook(self._audited)

    def _audited(self, name: str, arguments: tuple[Any, ...]) -> None:
        if self.within is None:
            return
        if name == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
            paths = [path]
        elif name in (
            "os.remove",
            "os.mkdir",
            "os.rmdir",
            "os.truncate",
            "os.chmod",
            "os.rename",
            "os.link",
            "os.symlink",
        ):
            paths = list(arguments[:2]) if name in ("os.rename", "os.link") else list(arguments[:1])
            if name == "os.symlink":
                paths = [arguments[1]]
        elif name in ("subprocess.Popen", "os.exec", "os.system", "os.posix_spawn"):
            self.found.append(f"{name} {str(arguments)[:200]}")
            return
        else:
            return
        folder = arguments[-1] if name in ("os.remove", "os.rmdir", "os.mkdir", "os.unlink") else -1
        for path in paths:
            if isinstance(path, int) or path is None:
                continue
            # Whoever removes a whole tree names its files from the folder that is open.
            begin = os.readlink(f"/proc/self/fd/{folder}") if isinstance(folder, int) and folder >= 0 else os.getcwd()
            where = os.path.abspath(os.path.join(begin, os.fsdecode(path)))
            # A module that is imported for the first time leaves its bytecode, hypothesis what it has seen of modules.
            passing = "/__pycache__/" in where or "/.hypothesis" in where
            if not passing and not where.startswith((self.within, "/dev/", "/proc/self/")):
                self.found.append(f"{name} {where}")


OUTSIDE = Outside()


def knock(door: Door, chance: Chance, outside: Outside) -> str:
    """One input; gives the traceback, if there is one."""
    outside.within = str(door.folder)
    try:
        door.knock(chance)
    except Exception:
        return traceback.format_exc()
    finally:
        outside.within = None
    return ""


def knocks(kind: type[Door], folder: Path, seed: int, inputs: int, until: float) -> dict[str, Any]:
    """So many inputs by a door, or until a moment: what was counted."""
    found: dict[str, Any] = {"door": kind.name, "about": kind.about, "seed": seed, "inputs": 0, "tracebacks": 0,
                             "outside": 0, "changes": 0}  # fmt: skip
    shown: set[str] = set()
    began, outside, number = time.monotonic(), OUTSIDE, 0
    outside.found.clear()
    while found["inputs"] < inputs and time.monotonic() < until:
        door = kind(folder / f"{kind.name}-{seed}-{number}")
        number += 1
        before = door.changes()
        try:
            for _ in range(min(kind.anew, inputs - found["inputs"])):
                if time.monotonic() > until:
                    break
                # Each input can be made again by itself.
                error = knock(door, Chance(f"{seed} {found['inputs']}"), outside)
                found["inputs"] += 1
                if error:
                    found["tracebacks"] += 1
                    line = " ".join(error.strip().splitlines()[-1].split())[:300]
                    where = [one.strip() for one in error.splitlines() if one.strip().startswith("File")][-1]
                    if where not in shown and len(shown) < SHOWN:
                        shown.add(where)
                        print(
                            f"{kind.name} {seed} {found['inputs'] - 1}: {line}\n{error[-2500:]}",
                            file=sys.stderr,
                            flush=True,
                        )
            after = door.changes()
        finally:
            door.close()
        found["changes"] += max(0, after - before)
    found["outside"] = len(outside.found)
    for one in outside.found[:SHOWN]:
        print(f"{kind.name}: outside: {one}", file=sys.stderr, flush=True)
    return found | {"seconds": round(time.monotonic() - began, 1)}


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The lines of a log as a table in Markdown."""
    sums: dict[str, list[int]] = {name: [0, 0, 0, 0] for name in (*DOORS, "all")}
    for line in lines:
        for name in (line["door"], "all"):
            for at, key in enumerate(("inputs", "tracebacks", "outside", "changes")):
                sums[name][at] += line[key]
    rows = ["| door | what comes in | inputs | tracebacks | writes outside | changes without an operation |",
            "|---|---|---|---|---|---|"]  # fmt: skip
    for name, found in ((name, found) for name, found in sums.items() if found[0]):
        about = DOORS[name].about if name in DOORS else ""
        rows.append(f"| {name} | {about} | {' | '.join(f'{number:,}' for number in found)} |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Returns the exit code: 1 where anything was counted that should not be."""
    parser = argparse.ArgumentParser(description="Send hostile inputs in by each door.")
    parser.add_argument("--inputs", type=int, default=1000, help="inputs by each door")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(DOORS), help="doors, with commas between")
    parser.add_argument("--minutes", type=float, default=600.0, help="of each door, at most")
    parser.add_argument("--log", type=Path, help="a file for a line of JSON a door")
    asked = parser.parse_args(arguments)
    lines: list[dict[str, Any]] = []
    if asked.log and asked.log.exists():
        lines = [json.loads(line) for line in asked.log.read_text().splitlines()]
    before = len(lines)
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        for name in asked.only.split(","):
            until = time.monotonic() + 60 * asked.minutes
            found = knocks(DOORS[name], Path(folder), asked.seed, asked.inputs, until)
            lines.append(found)
            if asked.log:
                with asked.log.open("a") as log:
                    log.write(json.dumps(found) + "\n")
    print(table(lines))
    return int(any(line["tracebacks"] or line["outside"] or line["changes"] for line in lines[before:]))


if __name__ == "__main__":
    raise SystemExit(main())
