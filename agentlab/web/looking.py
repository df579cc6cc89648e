"""A lab that is only looked at: opened once, read-only, and again when another file has taken its place."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import NamedTuple

from agentlab.errors import NotALab
from agentlab.workspace.workspace import CONFIG_FILE, Workspace


class _Marks(NamedTuple):
    """What tells a lab's files from others in their place, and what was written into them from what was not."""

    files: tuple[tuple[int, ...] | None, ...]
    contents: tuple[tuple[int, ...] | None, ...]


class Looking:
    """One lab on the screens. `name` is its part of the address; empty where there is only one."""

    def __init__(self, folder: Path, name: str = "") -> None:
        self.folder = folder.resolve()
        self.name = name
        self._lock = threading.Lock()
        self._opened: Workspace | None = None
        self._seen = _Marks((), ())

    @property
    def workspace(self) -> Workspace:
        """The lab as it is now, opened for looking. Raises NotALab if it is none any more."""
        with self._lock:
            seen = self._marks()
            if self._opened is None or self._changed(self._opened, seen):
                if self._opened is not None:
                    self._opened.close()
                self._opened = None
                opened = Workspace.open(self.folder, write=False, progress=False)
                try:
                    _ = opened.database  # here, where one thread alone can do it
                except BaseException:
                    opened.close()
                    raise
                self._opened, self._seen = opened, seen
            return self._opened

    def _marks(self) -> _Marks:
        data, config = self.folder / "lab.db", self.folder / CONFIG_FILE
        # The settings are another file with each change.
        return _Marks((_file(data), _file(config)), (_content(data), _content(data.with_name("lab.db-wal"))))

    def _changed(self, opened: Workspace, seen: _Marks) -> bool:
        written = seen.contents != self._seen.contents
        return seen.files != self._seen.files or (written and opened.database.connection.frozen)

    def close(self) -> None:
        """Close it; it is opened again when it is next asked for."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
            self._opened = None


def _file(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _content(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def labs_in(folder: Path) -> list[Looking]:
    """The lab in a folder, or all that lie in it, by their names. Raises NotALab if there is none."""
    if (folder / CONFIG_FILE).exists():
        return [Looking(folder)]
    if not folder.is_dir():
        raise NotALab(f"{folder} does not exist; make a lab with `agentlab run` or `agentlab demo`, or give --lab.")
    found: dict[str, Looking] = {}
    for path in sorted(folder.glob(f"*/{CONFIG_FILE}")):
        # Nothing that means something in an address, or in a route.
        name = wanted = re.sub(r"[^\w.-]+", "-", path.parent.name).lstrip(".") or "lab"
        while name in found:
            name = f"{wanted}-{len(found)}"
        found[name] = Looking(path.parent, name)
    if not found:
        raise NotALab(
            f"{folder} is no lab (it has no {CONFIG_FILE}), and none lies in it; make one with `agentlab run` or "
            "`agentlab demo`, or give --lab FOLDER."
        )
    return list(found.values())
