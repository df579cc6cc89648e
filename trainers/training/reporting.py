"""Where a job's curves go, beside its own report: what is accepted, and that it is installed, told before training.

And the progress of the command, as lines of text.
"""

from __future__ import annotations

import difflib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from trainers.errors import MissingDependency, UnknownReporter

REPORTERS = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "trackio": ("trackio",),
}
"""Names for `report_to`, and the packages of which one is needed."""


def check_reporters(names: Sequence[str], *, installed: bool = True) -> None:
    """Raises UnknownReporter for a name that is none of REPORTERS, MissingDependency for one that is not `installed`,
    which matters only where the training is."""
    for name in names:
        if name not in REPORTERS:
            near = difflib.get_close_matches(name, REPORTERS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(REPORTERS)}"
            raise UnknownReporter(f"cannot report to {name!r}; there is no such reporter; {hint}")
        if installed and not any(find_spec(package) for package in REPORTERS[name]):
            package = REPORTERS[name][0]
            raise MissingDependency(
                f"cannot report to {name}; it needs the package {package}; pip install {package}, or leave it out"
            )


@contextmanager
def logging_into(folder: Path) -> Iterator[None]:
    """While open, TensorBoard's files go to `folder`/runs, unless the user said otherwise.

    Without it they would lie among the checkpoints, which go when the job is done.
    """
    name = "TENSORBOARD_LOGGING_DIR"
    said = os.environ.get(name)
    os.environ[name] = said or str(folder / "runs")
    try:
        yield
    finally:
        if said is None:
            del os.environ[name]


class Ticker:
    """Prints the progress to the error stream, a line every few seconds."""

    def __init__(self, every: float = 5.0) -> None:
        self.every = every
        self.last = 0.0

    def __call__(self, done: int, total: int, metrics: dict[str, float]) -> None:
        if done < total and time.monotonic() - self.last < self.every:
            return
        self.last = time.monotonic()
        print(
            f"step {done}/{total}  loss {metrics['loss']:.3f}  {metrics['tokens_per_second']:.0f} tokens/s",
            file=sys.stderr,
            flush=True,
        )
