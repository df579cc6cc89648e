"""A lab that is only looked at: opened once, read-only, and again when another file has taken its place."""

from __future__ import annotations

import threading
from pathlib import Path

from agentlab.errors import NotALab
from agentlab.workspace.workspace import CONFIG_FILE, Workspace


class Looking:
    """One lab on the screens. `name` is its part of the address; empty where there is only one."""

    def __init__(self, folder: Path, name: str = "") -> None:
        self.folder = folder.resolve()
        self.name = name
        self._lock = threading.Lock()
        self._opened: Workspace | None = None
        self._seen: tuple[object, ...] = ()

    @property
    def workspace(self) -> Workspace:
        """The lab as it is now, opened for looking. Raises NotALab if it is none any more."""
        with self._lock:
            seen = tuple(map(_mark, (self.folder / "lab.db", self.folder / CONFIG_FILE)))
            if self._opened is None or seen != self._seen:
                if self._opened is not None:
                    self._opened.close()
                self._opened = None
                self._opened, self._seen = Workspace.open(self.folder, write=False, progress=False), seen
            return self._opened

    def close(self) -> None:
        """Close it; it is opened again when it is next asked for."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
            self._opened = None


def _mark(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one in its place. The settings are another file with each change."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def labs_in(folder: Path) -> list[Looking]:
    """The lab in a folder, or all that lie in it, by their names. Raises NotALab if there is none."""
    if (folder / CONFIG_FILE).exists():
        return [Looking(folder)]
    if not folder.is_dir():
        raise NotALab(f"{folder} does not exist; make a lab with `agentlab run` or `agentlab demo`, or give --lab.")
    found = [Looking(path.parent, path.parent.name) for path in sorted(folder.glob(f"*/{CONFIG_FILE}"))]
    if not found:
        raise NotALab(
            f"{folder} is no lab (it has no {CONFIG_FILE}), and none lies in it; make one with `agentlab run` or "
            "`agentlab demo`, or give --lab FOLDER."
        )
    return found
