"""The workers of a lab as they play for one rollout: tasks go out, results come back, and one process keeps them."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentlab import tracing
from agentlab.agent.episode import STOPPED
from agentlab.agent.result import EpisodeResult
from agentlab.errors import BadConfig, Stopped
from agentlab.workers import NoRoom, WorkerDied
from agentlab.workspace.copying import copy_lab
from environments.errors import UnknownEnvironment
from memory.records import Episode

if TYPE_CHECKING:
    from agentlab.agent.arms import Arm
    from agentlab.agent.spec import EpisodeSpec
    from agentlab.reflectors.base import Reflector
    from agentlab.workers.base import Seat
    from agentlab.workspace.workspace import Workspace
    from memory import CreditConfig

TRIES = 3
"""Workers that may die over one episode; whatever kills them would kill the next one, too."""


@dataclass(frozen=True)
class Order:
    """How the episodes of a rollout are played: what `rollout_of` is asked."""

    run: str
    arm: Arm
    reflectors: Sequence[str | Reflector] | None
    seed: int | None
    refining: bool
    hold_out_tools: bool
    credit: CreditConfig | None


class Crew:
    """Plays the episodes of one rollout by the workers of a lab, over a copy of it as it was when the rollout was made.

    An episode whose worker dies is played anew by another one.
    """

    def __init__(self, workspace: Workspace, order: Order) -> None:
        assert workspace.workers is not None, "a lab without workers plays by itself"
        self.order = order
        self._workers = workspace.workers
        self._place = tempfile.TemporaryDirectory(prefix="agentlab-crew-", dir=self._workers.place)
        folder = Path(self._place.name) / "lab"
        wanted = [order.arm.adapter] if order.arm.adapter else []
        if order.arm.router is not None:
            wanted = [record.id for record in workspace.adapters.list()]
        copy_lab(workspace, folder, adapters=wanted, threads=self._workers.threads)
        self._lab = self._workers.share(folder)
        self._results: dict[str, list[EpisodeResult]] = {}

    @contextmanager
    def lend(self, task: str, stop: threading.Event) -> Iterator[Hand]:
        """One of them, for all trials of a task; waits for one that is free."""
        with self._workers.lend() as seat:
            hand = Hand(self, seat, stop, self._results.pop(task, []))
            yield hand
        if hand.errored:  # its other trials count when it is played again, whoever does it
            self._results[task] = hand.results

    def prepared(self, seat: Seat) -> str:
        """Make who sits there ready for this rollout; returns the name of what plays."""
        worker = seat.worker
        if worker.ready_for is None or worker.ready_for[0] is not self:
            worker.ready_for = self, worker.call("prepare", self._lab, self.order)
        return str(worker.ready_for[1])

    def instead(self, seat: Seat) -> Seat:
        """Another seat in place of a lent one, for which there is no worker any more. Raises NoRoom."""
        return self._workers.instead(seat)

    def give_up(self) -> None:
        """End them, whatever they do."""
        self._workers.give_up()

    def close(self) -> None:
        """Remove the copy. The workers stay for the next rollout."""
        self._place.cleanup()


class Hand:
    """A worker that plays the trials of one task, or whoever takes its place when it dies.

    Attributes:
        results: what the trials came to that did not error.
        errored: whether one did.
    """

    def __init__(self, crew: Crew, seat: Seat, stop: threading.Event, results: list[EpisodeResult]) -> None:
        self._crew, self._seat, self._stop = crew, seat, stop
        self.results = results
        self.errored = False

    @property
    def engine(self) -> str:
        """The name of what plays. Raises WorkerDied if no worker gets ready."""
        return self._ask()

    def play(self, spec: EpisodeSpec) -> EpisodeResult:
        """Play an episode; one over which worker after worker dies ends as errored."""
        try:
            result: EpisodeResult = self._ask("play", spec, self.results, tracing.told())
        except WorkerDied as error:
            result = EpisodeResult(_errored(spec, str(error)))
        if result.episode.status == "errored":
            self.errored = True
        else:
            self.results.append(result)
        return result

    def _ask(self, method: str = "", *args: Any) -> Any:
        """What a worker that is ready answers.

        Raises WorkerDied after `TRIES`, NoRoom if no worker is left, Stopped where that was asked for.
        """
        for left in reversed(range(TRIES)):
            try:
                name = self._crew.prepared(self._seat)
                return self._seat.worker.call(method, *args) if method else name
            except NoRoom:
                self._seat = self._crew.instead(self._seat)
                return self._ask(method, *args)
            except UnknownEnvironment as error:
                raise BadConfig(
                    f"{error} (asked of a worker, which knows what a module registers while it is imported: give that "
                    "module with --import, or register outside of the functions of a script)."
                ) from None
            except WorkerDied:
                self._seat.empty()
                if self._stop.is_set():
                    raise Stopped(STOPPED) from None
                if not left:
                    raise
        raise AssertionError("unreachable")


def _errored(spec: EpisodeSpec, cause: str) -> Episode:
    """The episode that no worker survived."""
    return Episode(
        id=spec.id, run=spec.run, env=spec.task.env, split=spec.task.split, seed=spec.task.seed, trial=spec.trial,
        arm=spec.arm.name, engine=spec.engine, adapter=spec.arm.adapter, rng_seed=spec.seed, status="errored",
        error=f"{cause} Three workers in a row; the same command tries again.", error_kind="engine",
    )  # fmt: skip
