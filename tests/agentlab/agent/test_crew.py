from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentlab.agent.rollout import Rollout
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import AgentLabError, BadConfig, LimitReached, Stopped
from agentlab.lab import Lab
from agentlab.workspace.config import LabConfig
from agentlab.workspace.environments import BROUGHT_IN
from environments import register, unregister

CLOCK = {"started_at", "seconds", "created_at", "updated_at", "at", "hours", "recency"}
GAME = '''
import os
from pathlib import Path
from environments import TextEnv, Turn, register

HERE = Path(__file__).parent


class Deadly(TextEnv):
    """Two ways, of which one wins; where its seed is one of those in the file, it ends the process."""

    def begin(self, task):
        self.seed = task.seed
        if (HERE / "slow").exists():
            (HERE / f"begun-{task.seed}").touch()
            while (HERE / "slow").exists():
                pass
        if str(task.seed) in (HERE / "deadly").read_text().split():
            os._exit(9)
        return Turn("A fork.", ["left", "right"], 0.0, False, False, "fork", goal="Find the way.")

    def act(self, action):
        won = action == ("left", "right")[self.seed % 2]
        return Turn("The end.", [], float(won), won, not won, "end")


register("own/deadly", lambda: Deadly("own/deadly", step_limit=3))
'''


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The folder of a game, brought in as `--import` does, that ends its process in the seeds that a file names."""
    sys.modules.pop("a_deadly_game", None)
    (tmp_path / "a_deadly_game.py").write_text(GAME)
    (tmp_path / "deadly").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("a_deadly_game")
    BROUGHT_IN.append("a_deadly_game")
    yield tmp_path
    BROUGHT_IN.remove("a_deadly_game")
    unregister("own/deadly")


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in CLOCK}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def left_in(lab: Lab) -> tuple[list[Any], ...]:
    """All that was lived and learned, but what a clock says."""
    rows = sorted(row.id for row in lab.database.episodes.find())
    episodes = [timeless(one.model_dump(mode="json")) for one in lab.database.episodes.each(rows)]
    reflections = sorted(lab.database.reflections.find(), key=lambda one: one.id)
    learned = [timeless(one.model_dump(mode="json", exclude={"status", "merged_into"})) for one in reflections]
    recalls = [
        timeless(one.model_dump(mode="json")) for found in reflections
        for one in lab.database.recalls.of_reflection(found.id)
    ]  # fmt: skip
    # In what order two games ended, a clock says.
    return episodes, learned, sorted(recalls, key=lambda one: (one["episode"], one["reflection"], one["channel"]))


def children() -> list[psutil.Process]:
    """The processes of workers that this one has."""
    return [one for one in psutil.Process().children() if "spawn_main" in " ".join(one.cmdline())]


@pytest.mark.slow
def test_two_workers_give_what_threads_give_also_where_one_of_them_is_killed(
    open_at: Callable[..., Lab], tmp_path: Path
) -> None:
    def work(name: str, workers: str, kill: bool = False) -> tuple[Any, ...]:
        with open_at(tmp_path / name) as lab:
            if workers:
                lab.hire(workers)
            if kill:
                threading.Thread(target=kill_one).start()
            lab.run("toy/doors", seeds=range(6), trials=3, name="first")
            # Which recalls what the first one taught.
            table = lab.evaluate("toy/doors", seeds=range(3), arms=["base + memory"], trials=2, name="eval")
            return table.rows, left_in(lab)

    def kill_one() -> None:
        ends = time.monotonic() + 120
        while not killed and time.monotonic() < ends:
            for child in children():
                # One that plays already has loaded the model.
                if child.num_threads() > 3 and child.memory_info().rss > 300e6:
                    child.send_signal(signal.SIGKILL)
                    killed.append(child.pid)
                    return
            time.sleep(0.01)

    killed: list[int] = []
    assert work("workers", "2", kill=True) == work("threads", "")
    assert killed
    assert not children()


@pytest.mark.slow
def test_an_episode_that_no_worker_survives_errors_and_all_others_are_played(
    open_lab: Callable[..., Lab], deadly: Path
) -> None:
    (deadly / "deadly").write_text("1")
    lab = open_lab(engine=None)
    lab.hire("1")
    results = lab.run("own/deadly", seeds=range(3), trials=1, arm="random", name="run")
    assert [result.errored for result in results] == [False, True, False]
    trial = results[1].trials[0]
    assert (trial.status, trial.error_kind) == ("errored", "engine")
    assert "exit code 9" in str(trial.error)
    (deadly / "deadly").write_text("")
    again = lab.run("own/deadly", seeds=range(3), trials=1, arm="random", name="run")
    assert not any(result.part_errored for result in again)
    assert again[0].trials == results[0].trials


@pytest.mark.slow
def test_a_stop_ends_the_workers_at_once_and_the_same_call_goes_on(open_lab: Callable[..., Lab], deadly: Path) -> None:
    lab = open_lab(engine=None)
    lab.hire("2")
    first = lab.run("own/deadly", seeds=range(2), trials=1, arm="random", name="run")
    (deadly / "slow").touch()
    failure: list[BaseException] = []
    rollouts: list[Rollout] = []
    made = Rollout.__post_init__

    def noted(rollout: Rollout) -> None:
        made(rollout)
        rollouts.append(rollout)

    def play() -> None:
        try:
            lab.run("own/deadly", seeds=range(6), trials=1, arm="random", name="run")
        except BaseException as error:
            failure.append(error)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Rollout, "__post_init__", noted)
        playing = threading.Thread(target=play)
        playing.start()
        ends = time.monotonic() + 60
        while len(list(deadly.glob("begun-*"))) < 2:
            assert time.monotonic() < ends
            time.sleep(0.02)
        rollouts[0].stop.set()
        assert rollouts[0].crew is not None
        rollouts[0].crew.give_up()
        playing.join(60)
    assert isinstance(failure[0], Stopped)
    (deadly / "slow").unlink()
    again = lab.run("own/deadly", seeds=range(6), trials=1, arm="random", name="run")
    assert [result.task.seed for result in again] == list(range(6))
    assert again[:2] == first


@pytest.mark.slow
def test_a_limit_on_tokens_holds_for_workers_too(open_at: Callable[..., Lab], tmp_path: Path) -> None:
    with open_at(tmp_path / "lab") as lab:
        lab.hire("1")
        lab.limit(tokens=50)
        with pytest.raises(LimitReached):
            lab.run("toy/doors", seeds=range(6), trials=1, name="run")
        assert len(lab.database.episodes.find()) == 1  # what was paid for is kept


@pytest.mark.slow
def test_a_game_that_no_module_registers_is_unknown_to_workers_which_say_what_to_do(
    open_lab: Callable[..., Lab], deadly: Path
) -> None:
    from a_deadly_game import Deadly  # type: ignore[import-not-found]

    register("own/hidden", lambda: Deadly("own/hidden", step_limit=3))
    lab = open_lab(engine=None)
    lab.hire("1")
    try:
        with pytest.raises(BadConfig, match="--import"):
            lab.run("own/hidden", seeds=range(1), arm="random")
    finally:
        unregister("own/hidden")


@pytest.mark.slow
def test_what_workers_do_is_told_in_the_trace_of_the_run(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.sdk")
    code = """
import sys
from pathlib import Path
from agentlab import Lab, LabConfig, tracing
if __name__ == "__main__":
    tracing.begin(sys.argv[2])
    with Lab.open(Path(sys.argv[1]), create=True, config=LabConfig(embedder="hashing"), progress=False) as lab:
        lab.hire("2")
        lab.run("toy/doors", seeds=range(3), trials=1, arm="random")
    tracing.end()
"""
    (tmp_path / "script.py").write_text(code)
    spans = tmp_path / "spans.jsonl"
    subprocess.run(
        [sys.executable, tmp_path / "script.py", tmp_path / "lab", spans],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    told = [json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"][0] for line in spans.open()]
    assert len({one["traceId"] for one in told}) == 1
    (run,) = [one for one in told if "parentSpanId" not in one]
    within = [one for one in told if one.get("parentSpanId") == run["spanId"]]
    assert len(within) == 3  # the episodes
    assert len(told) > 6


def test_what_cannot_play_elsewhere_is_refused(open_lab: Callable[..., Lab], tmp_path: Path) -> None:
    with pytest.raises(AgentLabError, match="this process only"):
        open_lab("given", engine=ScriptedEngine(lambda *_: 0.0)).hire("2")
    lab = open_lab("served", engine=None)
    lab.config = LabConfig(engine="vllm", embedder="hashing")
    with pytest.raises(BadConfig, match="--server"):
        lab.hire("2")


def test_a_lab_that_is_closed_leaves_no_worker_and_no_copy(
    open_lab: Callable[..., Lab], deadly: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", None)
    lab = open_lab(engine=None)
    lab.hire("1")
    lab.run("own/deadly", seeds=range(1), trials=1, arm="random", name="run")
    (worker,) = children()
    assert list(scratch.glob("agentlab-workers-*/*/agentlab-worker-*/lab/lab.db"))
    worker.send_signal(signal.SIGKILL)
    lab.run("own/deadly", seeds=range(2), trials=1, arm="random", name="run")
    (worker,) = children()
    lab.close()
    assert not psutil.pid_exists(worker.pid)
    assert not list(scratch.glob("agentlab-*"))
    assert os.environ["TMPDIR"] == str(scratch)
