"""Which code it is that trains. The number of a release does not tell a file that was changed since."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

PACKAGES = ("memory", "trainers")
"""The packages that training runs, which an exported job takes along."""


@cache
def digest() -> str:
    """The first 12 hex digits of a SHA-256 over the Python files of PACKAGES, with their names, in order."""
    whole = hashlib.sha256()
    root = Path(__file__).resolve().parents[2]
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            whole.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return whole.hexdigest()[:12]


def code_version() -> str:
    """The release, where it is installed, and the digest: "1.2.0+1a2b3c4d5e6f"."""
    try:
        return f"{installed('agentlab')}+{digest()}"
    except PackageNotFoundError:
        return f"unknown+{digest()}"
