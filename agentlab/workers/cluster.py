"""Workers as actors of a Ray cluster: on this machine, or on all that belong to it."""

from __future__ import annotations

import logging
import threading
from importlib import import_module
from typing import Any

from agentlab.errors import AgentLabError, MissingPackage
from agentlab.workers.base import Made, NoRoom, Worker, WorkerDied, Workers, packed

REMEDY = "install it with `pip install 'agentlab[ray]'`"

PATIENCE = 30.0
"""Seconds without enough processors, after which a worker is not waited for: who left may come back at once."""

LOOKS = 2.0
"""Seconds between two looks."""

_COUNTING = threading.Lock()


class Held:
    """The object of a worker, in a process of Ray's."""

    def __init__(self, made: Made) -> None:
        module, name = made[0].split(":")
        self._held = getattr(import_module(module), name)(*made[1])

    def call(self, method: str, args: tuple[Any, ...], *shared: Any) -> Any:
        """What a method of the object gives for what was `shared`, which Ray has fetched, and `args`."""
        return getattr(self._held, method)(*shared, *args)


class RayWorker(Worker):
    """An actor of a Ray cluster, one of those that `alive` holds."""

    def __init__(self, ray: Any, made: Made, threads: int, alive: set[RayWorker]) -> None:
        super().__init__()
        self._ray, self._threads, self._alive = ray, threads, alive
        self._actor = ray.remote(num_cpus=threads, max_restarts=0)(Held).remote(made)
        self._begun = self._actor.__ray_ready__.remote()
        alive.add(self)

    def call(self, method: str, *args: Any) -> Any:
        ray = self._ray
        shared = [one for one in args[:1] if isinstance(one, ray.ObjectRef)]
        try:
            self._wait()
            return ray.get(self._actor.call.remote(method, args[len(shared) :], *shared))
        except ray.exceptions.RayActorError as error:
            # What kept it from beginning stands at the end, behind the places in the code.
            raise WorkerDied(f"A worker of the Ray cluster died ({_last_line(error)}).") from None
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else AgentLabError(_first_line(error)) from None
        except ray.exceptions.RayError as error:
            raise WorkerDied(f"A worker of the Ray cluster is lost ({_first_line(error)}).") from None

    def _wait(self) -> None:
        """Until it has begun, well or not. Raises NoRoom where the cluster has had too few processors for a while."""
        left = PATIENCE
        while not self._ray.wait([self._begun], timeout=LOOKS)[0]:
            with _COUNTING:  # of several that wait, only as many go as there are too many
                places = _places(self._ray, self._threads)
                left = PATIENCE if places >= len(self._alive) else left - LOOKS
                if left <= 0:
                    self._alive.discard(self)
                    raise NoRoom("A machine has left the Ray cluster.")

    def kill(self) -> None:
        self._alive.discard(self)
        self._ray.kill(self._actor)


def ray_workers(address: str | None, count: int | None, made: Made, threads: int | None = None) -> Workers:
    """Workers of a Ray cluster: of the one at `address`, else of one that runs on this machine or is started.

    They are as many as it has processors for, if no `count` is given.

    Raises:
        MissingPackage: without Ray.
        AgentLabError: if there is no cluster at the address, or too few processors.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingPackage(f"Ray cannot be loaded ({error}); {REMEDY}.") from error
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "ignore_reinit_error": True}
    leave = None
    if not ray.is_initialized():
        leave = ray.shutdown
        try:
            ray.init(address=address or "auto", **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            if address is not None:
                raise AgentLabError(
                    f"No Ray cluster answers at {address} ({_first_line(error)}); see `ray status` there."
                ) from None
            ray.init(address="local", include_dashboard=False, **quiet)
    per = threads or 1
    there = _places(ray, per)
    if there < (count or 1):
        if leave is not None:
            leave()
        raise AgentLabError(
            f"The Ray cluster has processors for {there} workers of {per} threads, not for {count or 1}; ask for fewer."
        )
    alive: set[RayWorker] = set()
    return Workers(
        count or there,
        lambda: RayWorker(ray, made, per, alive),
        threads=per,
        pack=lambda folder: ray.put(packed(folder)),
        leave=leave,
    )


def _places(ray: Any, threads: int) -> int:
    """For how many workers of so many threads a cluster has processors, in use or not."""
    return int(ray.cluster_resources().get("CPU", 0)) // threads


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
