from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from agentlab.errors import AgentLabError
from agentlab.lab import Lab
from agentlab.workers import WorkerDied, Workers, cluster, workers_of
from memory.store import EpisodeFilter

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = pytest.mark.slow

HELD = """
import os
from pathlib import Path
from agentlab.workers import received


class Held:
    def __init__(self):
        self.known = []

    def add(self, value):
        self.known.append(value)
        return list(self.known)

    def pid(self):
        return os.getpid()

    def fail(self):
        raise KeyError("no such thing")

    def take(self, shared, target):
        received(shared, Path(target))
        return sorted(path.name for path in Path(target).iterdir())
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a module that every worker finds."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "held_on_a_cluster.py").write_text(HELD)
    return str(folder)


@pytest.fixture
def workers(module: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([module, os.environ.get("PYTHONPATH", "")]))
    found = workers_of("ray?workers=2", ("held_on_a_cluster:Held", ()))
    yield found
    found.close()


def test_a_worker_of_a_cluster_keeps_what_it_holds_and_is_replaced_when_it_is_killed(
    workers: Workers, tmp_path: Path
) -> None:
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "lab.db").write_bytes(b"database")
    shared = workers.share(folder)
    with workers.lend() as seat, workers.lend() as other:
        assert seat.worker.call("add", 1) == [1]
        assert seat.worker.call("add", 2) == [1, 2]
        assert other.worker.call("add", 3) == [3]
        with pytest.raises(KeyError, match="no such thing"):
            seat.worker.call("fail")
        assert seat.worker.call("take", shared, str(tmp_path / "there")) == ["lab.db"]
        assert (tmp_path / "there" / "lab.db").read_bytes() == b"database"
        os.kill(seat.worker.call("pid"), signal.SIGKILL)
        with pytest.raises(WorkerDied):
            seat.worker.call("add", 4)
        seat.empty()
        assert seat.worker.call("add", 5) == [5]
        assert other.worker.call("add", 6) == [3, 6]


def test_more_workers_than_the_cluster_has_processors_for_are_refused(module: str) -> None:
    with pytest.raises(AgentLabError, match="processors for"):
        workers_of("ray?workers=200", (f"{module}:Held", ()))


def test_no_cluster_at_an_address_is_said_in_a_line() -> None:
    # In a process of its own: Ray stays half a client where it could not connect.
    told = subprocess.run(
        [sys.executable, "-c", "from agentlab.workers import workers_of; workers_of('ray://127.0.0.1:9', ('a:B', ()))"],
        capture_output=True,
        text=True,
    )
    assert told.returncode and "AgentLabError: No Ray cluster answers" in told.stderr.splitlines()[-1]


def test_a_cluster_of_two_gives_what_threads_give_also_where_one_of_them_is_killed(
    open_at: Callable[..., Lab], tmp_path: Path
) -> None:
    def work(name: str, asked: str) -> list[tuple[object, ...]]:
        with open_at(tmp_path / name) as lab:
            if asked:
                lab.hire(asked)
            lab.run("toy/doors", seeds=range(2), trials=2, name="first")
            if asked:
                actors = [one for one in psutil.process_iter(["name"]) if "ray::Held" in (one.info["name"] or "")]
                actors[0].send_signal(signal.SIGKILL)
            lab.run("toy/doors", seeds=range(2, 6), trials=3, name="second")
            rows = sorted(row.id for row in lab.database.episodes.find())
            return [
                (one.id, one.status, one.actions, one.token_ids, [step.scores for step in one.steps])
                for one in lab.database.episodes.each(rows)
            ]

    assert work("cluster", "ray?workers=2") == work("threads", "")


def test_the_machines_that_are_left_go_on_when_one_leaves_the_cluster(
    open_at: Callable[..., Lab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setattr(cluster, "PATIENCE", 3.0)
    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = machines.add_node(num_cpus=1)
    try:
        ray.init(address=machines.address, log_to_driver=False)
        with open_at(tmp_path / "lab") as lab:
            lab.hire("ray?workers=2")
            assert lab.workers is not None
            lab.run("toy/doors", seeds=range(2), name="first")
            machines.remove_node(second, allow_graceful=False)
            lab.run("toy/doors", seeds=range(2, 8), name="second")
            assert lab.workers.count == 1
            assert "errored" not in {row.status for row in lab.database.episodes.find()}
            assert {row.seed for row in lab.database.episodes.find(EpisodeFilter(run="second"))} == set(range(2, 8))
    finally:
        ray.shutdown()
        machines.shutdown()
