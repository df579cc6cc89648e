"""Print what differs between the versions installed here and those of a lock file: `python versions.py FILE`."""

from __future__ import annotations

import re
import sys
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement


def canonical(name: str) -> str:
    """A project's name in the form in which all its spellings are equal (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(path: Path) -> dict[str, str]:
    """Versions by name, of the lines of a lock file that apply to this Python."""
    lines = path.read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line.rstrip(" \\")) for line in lines if re.match(r"[\w.-]+==", line)]
    return {
        canonical(one.name): str(one.specifier).removeprefix("==")
        for one in wanted
        if one.marker is None or one.marker.evaluate()
    }


def main(path: str) -> None:
    """Print a line for each difference, and their number."""
    before = locked(Path(path))
    after = {canonical(one.metadata["Name"]): one.version for one in distributions()}
    changed = sorted(name for name in before if after.get(name) != before[name])
    for name in changed:
        print(f"  {name} {before[name]} -> {after.get(name, 'not installed')}")
    print(f"{len(changed)} of {len(before)} packages differ from {path}.")


if __name__ == "__main__":
    main(sys.argv[1])
