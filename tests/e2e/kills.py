"""A thousand kills: operations on a real lab are killed at random moments, and done again to their end.

python -m tests.e2e.kills --kills N --seed S [--only OPERATION,…] [--condition NAME,…] [--minutes M] [--log FILE]

A copy of this process, which has imported everything, does an operation and is killed with SIGKILL: before a random
statement of SQL, before something that it does to a file, or after a random time. What was acknowledged by then must be
there (a commit that returned), and the same operation, done to its end, must leave the same tables, weights and files
as one that nobody killed. It may be killed several times before that. The conditions:

kill       nothing else is wrong
clock      the clock jumps, at the beginning and at a random moment, up to ten years either way
torn       the last page of a file that was being written is torn, as where the power fails
disk       no kill: the disk is full at a random moment (a small tmpfs), and then it has room again
read-only  no kill: the folder lies on a file system that is read-only, and then it no longer does

Each trial is a line of JSON in the log, from which the table is printed; lines of earlier runs count too. With `disk`
and `read-only` it runs in a mount namespace of its own (`unshare`).
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from tests.e2e.kills_child import Ended, Moment, run, tear
from tests.e2e.kills_operations import OPERATIONS, Shelf, notes_file
from tests.e2e.kills_tables import counts_in, difference, round_ended

CONDITIONS = ("kill", "clock", "torn", "disk", "read-only")
MOST_KILLS = 4
"""Kills of one trial."""
APART = "AGENTLAB_KILLS_APART"


class Trials:
    """Makes trials in a folder: labs to begin with, and what an unbroken operation leaves, are made once for each."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.unbroken: dict[str, Ended] = {}
        self.shelf = Shelf(folder / "model", folder / "notes.jsonl")
        _import_everything()
        from tests import tiny_model

        tiny_model.make(self.shelf.model)
        notes_file(self.shelf.file)
        gc.collect()
        gc.freeze()

    def before(self, name: str) -> Path:
        """The folder whose `lab` an operation begins with; `done` in it is what it leaves unbroken."""
        place, operation = self.folder / f"from-{name}", OPERATIONS[name]
        if name in self.unbroken:
            return place
        place.mkdir()
        lab = place / "lab"
        if operation.after:
            earlier = self.before(operation.after)
            shutil.copytree(earlier / "done" / "lab", lab)
            for extra in earlier.glob("done/to-*"):
                shutil.copy(extra, place)
        made = run(partial(operation.make, lab, self.shelf), lab, place / "note")
        assert made.how in ("done", "failed") and (made.how == "done" or not lab.exists()), made.said
        # Twice: what differs between two unbroken ones says nothing of a kill.
        for _ in range(2):
            done = self._copied(place, place / "done")
            ended = self._done(name, done)
            assert ended.how == "done" and ended.tables is not None, f"{name}: {ended.said}"
            before = self.unbroken.get(name)
            assert before is None or not (differs := difference(before.tables or {}, ended.tables)), differs
            self.unbroken[name] = ended
        return place

    def _copied(self, place: Path, into: Path) -> Path:
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(exist_ok=True)
        if (place / "lab").exists():
            shutil.copytree(place / "lab", into / "lab")
        for extra in place.glob("to-*"):
            shutil.copy(extra, into)
        return into

    def _done(self, name: str, place: Path, moment: Moment | None = None) -> Ended:
        work = partial(OPERATIONS[name].work, place / "lab", self.shelf)
        return run(work, place / "lab", self.folder / "note", moment)

    def trial(self, name: str, condition: str) -> dict[str, Any]:
        """One operation, broken and done again: what came of it, as a line of the log."""
        start, trial = self.before(name), self.folder / "trial"
        line: dict[str, Any] = {"operation": name, "condition": condition, "kills": 0, "lost": 0, "refused": ""}
        began = time.monotonic()
        if condition in ("disk", "read-only"):
            ended = self._on_small_disk(name, start, trial, line, full=condition == "disk")
        else:
            self._copied(start, trial)
            ended = self._killed(name, trial, line, condition)
        unbroken = self.unbroken[name]
        assert unbroken.tables is not None
        line["ended"] = ended.how
        if ended.how != "done" or ended.tables is None:
            line["differs"] = f"{ended.how}: {ended.said[-3000:]}"
        else:
            line["differs"] = difference(unbroken.tables, ended.tables)
        line["seconds"] = round(time.monotonic() - began, 2)
        if condition not in ("disk", "read-only"):
            if line["differs"] or line["lost"]:
                kept = self.folder / f"differs-{name}-{time.time_ns()}"
                shutil.copytree(trial, kept)
                line["kept"] = str(kept)
            shutil.rmtree(trial)
        return line

    def _moment(self, name: str, condition: str, whole: Ended, before: int = 0) -> Moment:
        """A moment of an operation, of which the kills before have left the less to do the more they were."""
        chance, events = self.chance, max(whole.events // (1 + 2 * before), 1)
        ahead, jumps = 0.0, None
        if condition == "clock":
            most = 5.5 if OPERATIONS[name].ages else 8.5  # powers of ten of a second: four days, ten years
            off = [chance.choice((-1, 1)) * 10 ** chance.uniform(0, most) for _ in range(2)]
            ahead, jumps = off[0], (chance.randint(1, events), off[1])
        if chance.random() < 0.6:
            return Moment(event=chance.randint(1, events), ahead=ahead, jumps=jumps)
        return Moment(seconds=chance.uniform(0.0, whole.seconds / (1 + before)), ahead=ahead, jumps=jumps)

    def _killed(self, name: str, trial: Path, line: dict[str, Any], condition: str) -> Ended:
        moments = line["moments"] = []
        for before in range(MOST_KILLS):
            moment = self._moment(name, condition, self.unbroken[name], before)
            moments.append([moment.event, moment.seconds, moment.ahead, moment.jumps])
            ended = self._done(name, trial, moment)
            if ended.how != "killed":
                return ended
            line["kills"] += 1
            if not OPERATIONS[name].shrinks:
                there = counts_in(trial / "lab")
                line["lost"] += sum(max(0, rows - there.get(table, 0)) for table, rows in ended.acknowledged.items())
            if condition == "torn":
                line.setdefault("torn", []).append(tear(trial / "lab", self.chance) if (trial / "lab").exists() else "")
                if not round_ended(trial / "lab"):  # with the power its end was lost, and whoever was told asks again
                    (trial / "told").unlink(missing_ok=True)
            if self.chance.random() < 0.3:
                break
        after = Moment(ahead=self._moment(name, condition, self.unbroken[name]).ahead) if condition == "clock" else None
        ended = self._done(name, trial, after)
        if ended.how == "refused" and condition == "torn":
            line["refused"] = ended.said
        return ended

    def _on_small_disk(self, name: str, start: Path, trial: Path, line: dict[str, Any], *, full: bool) -> Ended:
        """Without room, or without leave to write, an operation is refused in a line; later it is done to its end."""
        trial.mkdir(exist_ok=True)
        _mount("tmpfs", trial, "size=1g")
        try:
            self._copied(start, trial / "place")
            here = trial / "place"
            if full:
                # As much as is there, and some more; logs, which go at the end, are larger than what stays.
                room = _used(trial) + int(10 ** self.chance.uniform(3.6, 6.7))
                _remount(trial, f"size={room // 4096 * 4096}")
            else:
                _remount(trial, "ro")
                before = _digest(here)
            ended = self._done(name, here)
            line["refused"] = ended.said if ended.how == "refused" else ""
            if ended.how == "failed" or (ended.how == "done" and full):  # there was room enough
                return ended
            if ended.how == "done":
                return Ended("failed", "it was done on a read-only file system")
            if full:
                if not OPERATIONS[name].shrinks:
                    there = counts_in(here / "lab")
                    line["lost"] += sum(max(0, n - there.get(table, 0)) for table, n in ended.acknowledged.items())
                _remount(trial, "size=1g")
            else:
                line["lost"] += before != _digest(here)
                _remount(trial, "rw")
            return self._done(name, here)
        finally:
            subprocess.run(["umount", str(trial)], check=True)


def _used(folder: Path) -> int:
    usage = os.statvfs(folder)
    return (usage.f_blocks - usage.f_bfree) * usage.f_frsize


def _digest(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _mount(kind: str, folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", kind, "-o", options, kind, str(folder)], check=True)


def _remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def _import_everything() -> None:
    """Once here, instead of once in every process."""
    for heavy in (
        "agentlab.engines.transformers", "agentlab.rounds.graph", "agentlab.search.tasks", "agentlab.experiments.run",
        "agentlab.experiments.evaluation", "agentlab.experiments.consolidation", "agentlab.workspace.asking",
        "agentlab.workspace.purging", "agentlab.agent.recall", "agentlab.agent.router", "environments.toy",
        "langgraph.checkpoint.sqlite", "langgraph.graph", "memory.index.vector_index", "memory.interchange",
        "memory.langgraph_store", "memory.consolidation", "peft", "sqlite_utils", "scipy.stats", "tokenizers",
        "trainers.training.training", "trainers.adapters", "transformers.models.llama.modeling_llama",
        "transformers.trainer",
    ):  # fmt: skip
        importlib.import_module(heavy)


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The lines of a log as a table in Markdown, by operation and condition."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["condition"], line["operation"]), []).append(line)
    rows = ["| condition | operation | trials | kills | refused in a line | acknowledged rows lost | same tables |",
            "|---|---|---|---|---|---|---|"]  # fmt: skip
    order = sorted(groups, key=lambda key: (CONDITIONS.index(key[0]), list(OPERATIONS).index(key[1])))
    groups |= {(condition, "all"): [one for key in order if key[0] == condition for one in groups[key]]
               for condition in CONDITIONS}  # fmt: skip
    for condition in CONDITIONS:
        for key in [*(key for key in order if key[0] == condition), (condition, "all")]:
            found = groups[key]
            if found:
                sums = [sum(one["kills"] for one in found), sum(bool(one["refused"]) for one in found)]
                sums += [sum(one["lost"] for one in found)]
                same = sum(not one["differs"] for one in found)
                cells = [*key, f"{len(found):,}", *(f"{number:,}" for number in sums), f"{same:,}"]
                rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def turns(names: Sequence[str], conditions: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every operation under every condition, again and again; those that take long every third time."""
    for number in count():
        for condition in conditions:
            for at, name in enumerate(names):
                if not OPERATIONS[name].slow or (number + at) % 3 == 0:
                    yield name, condition


def _apart(asked: argparse.Namespace) -> None:
    """Go on in a mount namespace of its own, so that what is mounted goes with this process."""
    if {"disk", "read-only"} & set(asked.condition.split(",")) and not os.environ.get(APART):
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        os.environ[APART] = "1"
        command = ["unshare", *user, "--mount", sys.executable, "-m", "tests.e2e.kills", *sys.argv[1:]]
        os.execvp(command[0], command)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Returns the exit code: 1 where something was lost or differs."""
    parser = argparse.ArgumentParser(description="Kill operations on a lab at random moments.")
    parser.add_argument("--kills", type=int, default=1000, help="so many kills, or trials where nothing is killed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(OPERATIONS), help="operations, with commas between")
    parser.add_argument("--condition", default="kill", help=f"some of {','.join(CONDITIONS)}")
    parser.add_argument("--minutes", type=float, default=600.0, help="at most")
    parser.add_argument("--log", type=Path, help="a file for a line of JSON a trial")
    asked = parser.parse_args(arguments)
    if arguments is None:
        _apart(asked)
    names, conditions = asked.only.split(","), asked.condition.split(",")
    lines: list[dict[str, Any]] = []
    if asked.log and asked.log.exists():
        lines = [json.loads(line) for line in asked.log.read_text().splitlines()]
    before, until = len(lines), time.monotonic() + 60 * asked.minutes
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        trials, kills = Trials(Path(folder), asked.seed), 0
        for name, condition in turns(names, conditions):
            if kills >= asked.kills or time.monotonic() > until:
                break
            line = trials.trial(name, condition)
            kills += line["kills"] if line["condition"] not in ("disk", "read-only") else 1
            lines.append(line)
            if line["differs"] or line["lost"]:
                print(json.dumps(line), file=sys.stderr, flush=True)
            if asked.log:
                with asked.log.open("a") as log:
                    log.write(json.dumps({**line, "seed": asked.seed}) + "\n")
        if os.environ.get("AGENTLAB_KILLS_KEEP"):
            for kept in Path(folder).glob("differs-*"):
                shutil.copytree(kept, Path(os.environ["AGENTLAB_KILLS_KEEP"]) / kept.name)
    print(table(lines))
    return int(any(line["differs"] or line["lost"] for line in lines[before:]))


if __name__ == "__main__":
    raise SystemExit(main())
