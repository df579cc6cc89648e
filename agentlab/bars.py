"""How far a long work is, on stderr: bars with an estimate on a terminal, a line each tenth of the way elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentlab.progress import Progress
from agentlab.terminal import console, note, one_line, text

if TYPE_CHECKING:
    from rich.progress import Progress as Drawing
    from rich.progress import TaskID


class Bars(Progress):
    """One bar a stage, with the time it has taken and an estimate of what is left; drawn while a stage goes on."""

    def __init__(self) -> None:
        self._drawing: Drawing | None = None
        self._tasks: dict[str, TaskID] = {}
        self._open: set[str] = set()
        self._lock = threading.RLock()

    def say(self, message: str) -> None:
        with self._lock:
            here = self._drawing.console if self._drawing else console(sys.stderr)
            here.print(text(one_line(message), "dim"), soft_wrap=True)

    def start(self, stage: str, total: int) -> None:
        with self._lock:
            if self._drawing is None:
                self._drawing = _drawing()
                self._drawing.start()
            self._open.add(stage)
            if stage in self._tasks:
                self._drawing.reset(self._tasks[stage], total=total)
            else:
                self._tasks[stage] = self._drawing.add_task(one_line(stage), total=total, note="")

    def advance(self, stage: str, units: int = 1, note: str = "") -> None:
        with self._lock:
            if self._drawing is not None and stage in self._tasks:
                self._drawing.update(self._tasks[stage], advance=units, note=one_line(note, 48))

    def finish(self, stage: str, note: str = "") -> None:
        with self._lock:
            if self._drawing is None or stage not in self._tasks:
                return
            # The bar stays where it is: a stage that was stopped has not reached its end.
            if note:
                self._drawing.update(self._tasks[stage], note=one_line(note, 48))
            self._drawing.stop_task(self._tasks[stage])
            self._open.discard(stage)
            if not self._open:
                self.close()

    def close(self) -> None:
        with self._lock:
            if self._drawing is not None:
                self._drawing.stop()
            self._drawing = None
            self._tasks.clear()
            self._open.clear()


def _drawing() -> Drawing:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import (
        Progress as Drawing,
    )

    return Drawing(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA of this stage"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False, style="dim"),
        console=console(sys.stderr),
    )


@dataclass
class _Stage:
    total: int
    began: float
    done: int = 0
    tenth: int = 0
    last: float = 0.0
    longest: float = 0.0


class Lines(Progress):
    """The same for logs and pipes, where nothing can be drawn over."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stages: dict[str, _Stage] = {}
        self._lock = threading.Lock()

    def say(self, message: str) -> None:
        note(message)

    def start(self, stage: str, total: int) -> None:
        with self._lock:
            began = self._clock()
            self._stages[stage] = _Stage(total, began, last=began)
            self._print(stage, f"{stage}: 0 of {total}")

    def advance(self, stage: str, units: int = 1, note: str = "") -> None:
        with self._lock:
            at = self._stages.get(stage)
            if at is None:
                return
            at.done += units
            present = self._clock()
            at.last, at.longest = present, max(at.longest, present - at.last)
            tenth = 10 * at.done // at.total if at.total else 10
            if tenth > at.tenth:
                at.tenth = tenth
                spent = present - at.began
                remark = f" ({note})" if note else ""
                self._print(
                    stage, f"{stage}: {at.done} of {at.total}, {span(spent)} elapsed{self._left(at, spent)}{remark}"
                )

    def finish(self, stage: str, note: str = "") -> None:
        with self._lock:
            at = self._stages.pop(stage, None)
            if at is not None:
                remark = f" ({note})" if note else ""
                came = "done" if at.done >= at.total else f"stopped at {at.done} of {at.total}"
                self._print(stage, f"{stage}: {came} after {span(self._clock() - at.began)}{remark}")

    @staticmethod
    def _left(at: _Stage, spent: float) -> str:
        """What is left of this stage; of what follows it nothing is known here."""
        if at.done >= at.total:
            return ""
        # One that takes long may come again: what is left is no less than the longest so far.
        left = max(spent / at.done * (at.total - at.done), at.longest)
        return f", ETA of this stage {span(max(1.0, left))}"

    def _print(self, stage: str, line: str) -> None:
        print(one_line(line), file=sys.stderr, flush=True)


def span(seconds: float) -> str:
    """A length of time for a person: `45 s`, `3:20`, `1:02:03`."""
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Shown(Lines):
    """The same in a notebook: one line a stage, which is written over."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._shown: dict[str, Any] = {}

    def say(self, message: str) -> None:
        print(one_line(message))

    def _print(self, stage: str, line: str) -> None:
        from IPython.display import display

        shown = {"text/plain": one_line(line)}
        if stage in self._shown:
            self._shown[stage].update(shown, raw=True)
        else:
            self._shown[stage] = display(shown, raw=True, display_id=True)

    def finish(self, stage: str, note: str = "") -> None:
        super().finish(stage, note)
        self._shown.pop(stage, None)


def visible() -> Progress:
    """Progress as Python shows it by default: bars in a terminal, lines in a notebook, nothing elsewhere."""
    if _in_notebook():
        return Shown()
    return Bars() if sys.stderr.isatty() else Progress()


def _in_notebook() -> bool:
    # Nobody who has a notebook before them has not loaded IPython.
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


@contextmanager
def progress() -> Iterator[Progress]:
    """Show progress on stderr while the block runs: bars in a terminal, else a line each tenth of the way."""
    shown = Bars() if sys.stderr.isatty() else Lines()
    try:
        yield shown
    finally:
        shown.close()
