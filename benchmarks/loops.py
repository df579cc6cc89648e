"""What memory within the episode is worth: games of 50 steps, with and without it, paired by game.

    python benchmarks/loops.py [--folder DIR] [--seeds N] [--against CHECKOUT] [--only PART] [--table]

One adapter is trained on train games that random play explored, then the arms play the same held-out games: the base
and the adapter, each alone and with memory. A held-out game is played once, and an adapter recalls nothing of other
games, so what its memory adds is memory of the running episode. `--against` names a checkout of an earlier version,
which plays the adapter with memory once more.

What memory takes off a command for each earlier try of it in the same state was chosen on dev games, which `--only
choice` plays at several such costs. Everything can be stopped and called again, also with more seeds. `--only trained`
trains; after that the arms can be played one by one (`--only "adapter + memory"`), and `--table` puts together what
there is. The scores of a transcript are computed once, whichever arm comes there first: arms differ only from where
memory first speaks.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from machine import describe

from agentlab import Lab, LabConfig, RoundConfig
from agentlab.agent.tasks import make_tasks
from agentlab.bars import progress
from agentlab.engines.base import ScoreRequest, Scores
from agentlab.engines.transformers import TransformersEngine
from agentlab.experiments.evaluation import ALL
from agentlab.rounds.graph import run_round
from environments.base import Split
from memory.store import EpisodeFilter
from trainers.data import SelectionConfig
from trainers.gate import p_text, paired, wilson
from trainers.objectives import TokenTree

GAMES = (
    "twx/twc?step_limit=50",
    "twx/coin?step_limit=50",
    "twx/mapreader?step_limit=50",
    "twx/cookingworld?numDistractorItems=3,numIngredients=1,step_limit=50",
)
ARMS = ("base", "base + memory", "adapter", "adapter + memory")
EARLIER = "adapter + memory, earlier version"
PAIRS = (
    ("base + memory", "base"),
    ("adapter + memory", "adapter"),
    ("adapter + memory", EARLIER),
    (EARLIER, "adapter"),
)
RUN = "loops"
CHOICE = "choice"
COSTS = (0.0, 1.5, 3.0, 5.0, 8.0)
"""Nats for each earlier try of a command in a state, among which dev games chose."""
RESULT = Path(__file__).resolve().parent / "results" / "loops.md"
NOTES = """## What to know

The choice was made on dev games: of 78 that 3, 5 and 8 nats played (twc 30, coin 28, mapreader 20) they won 70, 73 and
73, in 12.3, 11.1 and 10.7 steps. So 5 it is; the difference to 3 or 8 is within chance.

Random exploration with the same book (no model; 8 games, 40 train games each, at most 20 trials) is as good with 5 nats
as with 3: 223 of 320 won after 10.1 trials on average, 219 after 10.0. What earlier trials say of visits and of actions
without effect stays in the book: without the latter it was 215 after 10.7, without both 205 after 10.8.

Cookingworld has an adapter and a [table](loops-cookingworld.md) of its own. The base's arms were not played for want of
time.
"""

Played = dict[str, Any]


def train(folder: Path, games: Sequence[str]) -> None:
    """The lab with the adapter: train games explored at random, one round, no gate, since nothing is to serve."""
    config = RoundConfig(
        envs=list(games),
        collect="random",
        seeds=100,
        random_trials=400,
        gate_seeds=1,
        retire="off",
        selection=SelectionConfig(cap_per_task=1, cap_per_env=40),
    )
    settings = LabConfig(threads=1)
    with progress() as bars, Lab.open(folder / "trained", create=True, config=settings, progress=bars) as lab:
        if not any(report.adapter for report in lab.rounds()):
            run_round(lab, config, until="monitor")


def place_of(folder: Path, part: str) -> Path:
    """The lab of a part: a copy of the trained one, whole or not at all."""
    name = place_name(part)
    place, beside = folder / name, folder / f"{name}.partial"
    if not place.exists():
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(folder / "trained", beside)
        os.replace(beside, place)
    return place


def play(place: Path, arm: str, games: Sequence[str], seeds: int) -> None:
    """One arm on the held-out games, in the lab at `place`."""
    compute_once(place.parent / "scores.db")
    with progress() as bars, Lab.open(place, progress=bars) as lab:
        lab.config = lab.config.model_copy(update={"concurrency": 1})
        adapter = next(report.adapter for report in reversed(lab.rounds()) if report.adapter)
        for game in games:
            named = arm.replace("adapter", adapter)
            lab.run(game, split="test", seeds=range(seeds), trials=1, arm=named, name=RUN)


def choose(place: Path, games: Sequence[str], seeds: int) -> None:
    """The adapter with memory on dev games, once for each of `COSTS`, in the lab at `place`."""
    compute_once(place.parent / "scores.db")
    with progress() as bars, Lab.open(place, progress=bars) as lab:
        lab.config = lab.config.model_copy(update={"concurrency": 1})
        adapter = next(report.adapter for report in reversed(lab.rounds()) if report.adapter)
        arm = lab.arm(f"{adapter} + memory")
        for game in games:
            tasks = make_tasks(game, "dev", range(seeds))
            for cost in COSTS:
                policy = replace(arm.policy, weights=replace(arm.policy.weights, again=-cost))
                costing = arm.with_(name=f"{arm.name}, {cost:g} nats", policy=policy)
                with closing(lab.rollout(f"{CHOICE} {cost:g}", costing, reflectors=[])) as rollout:
                    rollout.play(tasks, costing, trials=1)


def compute_once(file: Path) -> None:
    """Keep the scores of every window of tokens and its commands in a file that all arms share."""
    known = sqlite3.connect(file, check_same_thread=False, timeout=60, isolation_level=None)
    known.execute("CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, found TEXT)")
    compute = TransformersEngine.score

    def score(engine: Any, requests: Sequence[ScoreRequest]) -> list[Scores]:
        return [scored(engine, request) for request in requests]

    def scored(engine: Any, request: ScoreRequest) -> Scores:
        conversation: Any = request.conversation
        conversation.make_room(len(TokenTree.of([engine.command_tokens(one) for one in request.commands])))
        window = [*conversation.seen, *conversation.pending]
        asked = [request.adapter and request.adapter.id, window, list(request.commands)]
        key = hashlib.sha256(json.dumps(asked).encode()).digest()
        row = known.execute("SELECT found FROM scores WHERE key = ?", (key,)).fetchone()
        if row is None:
            row = (json.dumps(compute(engine, [request])[0].logprobs),)
            known.execute("INSERT OR IGNORE INTO scores VALUES (?, ?)", (key, *row))
        return Scores(json.loads(row[0]))

    TransformersEngine.score = score  # type: ignore[assignment,method-assign]


def played(place: Path, games: Sequence[str], run: str = RUN, split: Split = "test") -> dict[str, Played]:
    """What came of each task of these games that was played in a lab."""
    found: dict[str, Played] = {}
    if not (place / "lab.toml").exists():
        return found
    with Lab.open(place, write=False) as lab:
        for row in lab.database.episodes.find(EpisodeFilter(run=run, split=split)):
            if row.status != "errored" and row.env in games:
                tried = Counter((step.state, step.action) for step in lab.database.episodes.get(row.id).steps)
                again = sum(count - 1 for count in tried.values())
                found[row.task] = {"won": row.won, "score": row.score, "steps": row.steps, "again": again}
    return found


def table(folder: Path, games: Sequence[str], command: str) -> str:
    """All parts that were played, as Markdown."""
    parts = {part: found for part in (*ARMS, EARLIER) if (found := played(folder / place_name(part), games))}
    lines = [
        "# Memory within the episode",
        "",
        "SmolLM2-135M-Instruct and an adapter of one training seed; games of the test fold, 50 steps, greedy, one "
        f"trial. Made on {date.today()} on {describe(1)}, by",
        "",
        f"    {command}",
        "",
        "Success: rate (wins / n) [Wilson 95 %]. `steps`: mean length of an episode. `again`: steps at which a command "
        "was given in a state in which it had been given before.",
        "",
        "| game | arm | success | score | steps | again |",
        "|---|---|---|---|---|---|",
    ]
    for game in _rows(games):
        for part, found in parts.items():
            here = [one for task, one in found.items() if game in (ALL, task.split(":")[0])]
            if here:
                lines.append(f"| {game.removeprefix('twx/')} | {part} | {_cells(here)} |")
    lines += ["", "Paired by game and seed (McNemar, exact):", ""]
    for one, other in PAIRS:
        if one in parts and other in parts:
            lines += [line for game in _rows(games) if (line := _paired(game, one, other, parts))]
    return "\n".join([*lines, "", *choice(folder, games)])


def _rows(games: Sequence[str]) -> list[str]:
    return [*games, *([ALL] if len(games) > 1 else [])]


def choice(folder: Path, games: Sequence[str]) -> list[str]:
    """What dev games said of each cost, as lines of Markdown; none if they were not played."""
    costs = {cost: played(folder / place_name(CHOICE), games, f"{CHOICE} {cost:g}", "dev") for cost in COSTS}
    if not all(costs.values()):
        return []
    lines = [
        "## How the cost of trying again was chosen",
        "",
        "The adapter with memory on dev games, at several costs for each earlier try of a command in the same state.",
        "",
        "| game | nats | success | score | steps | again |",
        "|---|---|---|---|---|---|",
    ]
    for game in _rows(games):
        for cost, found in costs.items():
            # The games that have been played at every cost.
            here = [
                one
                for task, one in found.items()
                if game in (ALL, task.split(":")[0]) and all(task in other for other in costs.values())
            ]
            if here:
                lines.append(f"| {game.removeprefix('twx/')} | {cost:g} | {_cells(here)} |")
    return [*lines, "", NOTES]


def place_name(part: str) -> str:
    """The folder of a part."""
    return part.replace(" + ", "-").replace(", ", "-").replace(" ", "-")


def _cells(here: Sequence[Played]) -> str:
    wins, n = sum(one["won"] for one in here), len(here)
    low, high = wilson(wins, n)
    score, steps, again = (sum(one[what] for one in here) / n for what in ("score", "steps", "again"))
    return f"{wins / n:.2f} ({wins}/{n}) [{low:.2f}, {high:.2f}] | {score:.2f} | {steps:.1f} | {again:.1f}"


def _paired(game: str, one: str, other: str, parts: dict[str, dict[str, Played]]) -> str:
    won = {
        part: {task: ended["won"] for task, ended in parts[part].items() if game in (ALL, task.split(":")[0])}
        for part in (one, other)
    }
    found = paired(won[one], won[other])
    if not found.n:
        return ""
    low, high = found.interval
    return (
        f"- {game.removeprefix('twx/')}: {one} against {other}: {found.difference:+.3f} [{low:+.3f}, {high:+.3f}] on "
        f"{found.n} pairs; won by it alone {found.only_a}, by the other alone {found.only_b}; p {p_text(found.p, '= ')}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, play and put together, or a part of that."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--folder", type=Path, default=Path("labs") / RUN, help="where the labs lie")
    options.add_argument("--seeds", type=int, default=100, help="games of each kind")
    options.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES), metavar="GAME", help="only these")
    options.add_argument("--against", type=Path, help="a checkout of an earlier version, to play with memory as well")
    options.add_argument(
        "--only", choices=["trained", CHOICE, *ARMS, EARLIER], metavar="PART", help="`trained`, `choice`, or one arm"
    )
    options.add_argument("--table", action="store_true", help="only put together what was played")
    options.add_argument("--output", type=Path, default=RESULT, help="the Markdown file of the table")
    options.add_argument("--here", type=Path, help=argparse.SUPPRESS)  # the lab in which a process plays its arm
    given = options.parse_args(arguments)
    if given.here is not None and given.only == CHOICE:
        choose(given.here, given.games, given.seeds)
        return
    if given.here is not None:
        play(given.here, given.only.split(",")[0], given.games, given.seeds)
        return
    if not given.table:
        train(given.folder, given.games)
        for part in (CHOICE, *ARMS, *([EARLIER] if given.against else [])):
            if given.only in (None, part):
                _play(given, part)
    if given.only is None:
        words = [word for word in (sys.argv[1:] if arguments is None else arguments) if word != "--table"]
        text = table(given.folder, given.games, shlex.join(["python", "benchmarks/loops.py", *words]))
        given.output.write_text(text)
        print(text)


def _play(given: argparse.Namespace, part: str) -> None:
    """In a process of its own: an earlier version cannot be imported beside this one."""
    code = given.against.resolve() if part == EARLIER else Path(__file__).resolve().parents[1]
    place = str(place_of(given.folder, part))
    words = ["--here", place, "--only", part, "--seeds", str(given.seeds), "--games", *given.games]
    subprocess.run([sys.executable, __file__, *words], env={**os.environ, "PYTHONPATH": str(code)}, check=True)


if __name__ == "__main__":
    main()
