"""Which workers a person means."""

from __future__ import annotations

import os
import tempfile
from urllib.parse import parse_qs, urlsplit

from agentlab.errors import BadConfig
from agentlab.workers.base import Made, Workers

MOST = 256
"""Workers; more are a slip."""

HOW = "give a number of processes, such as 2, or ray, ray://HOST:PORT, each also with ?workers=N"


def workers_of(asked: str, made: Made, threads: int | None = None) -> Workers:
    """The workers that a text means: `4` processes of this machine, or `ray[://HOST:PORT][?workers=N]`.

    `made` is what each holds. `threads` are the processor threads of each; None: an equal share of this machine's, and
    one on a cluster.

    Raises BadConfig for another text, and what `ray_workers` does.
    """
    if asked.isdecimal():
        from agentlab.workers.processes import ProcessWorker

        count = _count(asked, asked)
        share = max(1, len(os.sched_getaffinity(0)) // count)
        place = tempfile.TemporaryDirectory(prefix="agentlab-workers-")
        return Workers(
            count,
            lambda: ProcessWorker(made, place.name),
            threads=threads or share,
            place=place.name,
            leave=place.cleanup,
        )
    cluster, _, more = asked.partition("?")
    given = parse_qs(more, keep_blank_values=True)
    where = urlsplit(cluster)
    if not (cluster == "ray" or (where.scheme == "ray" and where.netloc)) or set(given) - {"workers"}:
        raise BadConfig(f"'{asked}' names no workers; {HOW}.")
    from agentlab.workers.cluster import ray_workers

    wanted = _count(given["workers"][-1], asked) if given else None
    return ray_workers(None if cluster == "ray" else cluster, wanted, made, threads)


def _count(text: str, asked: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise BadConfig(f"'{asked}' names no number of workers from 1 to {MOST}; {HOW}.")
    return int(text)
