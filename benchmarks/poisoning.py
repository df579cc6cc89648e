"""Memory poisoning: published attacks on a memory tried on play, with what comes from outside trusted and on probation.

    python benchmarks/poisoning.py [--env ENV ...] [--games N] [--runs N] [--only WORD ...] [--table FILE]

A lab plays some train games by itself, then an attacker brings something into its memory, then the lab plays on, and
what is held out is played before and after that. In one half of the rows a person vouches for all that came in, so that
it serves at once; in the other it is on probation, as it is by default. Success on held-out games is compared with that
of the same player without a memory, by game and seed. Attacks that come through the environment itself know no
probation: what they leave behind was read off the lab's own episodes.

The player has no weights: it does what the recalled examples did where things looked so, what a recalled note names,
and else what is named by what it sees, by chance. It trusts its memory more than any model would, so that an attack
does all it can.

The exit code is 1 if on probation an attack costs more than 0.1 against no memory, but for the one that pays for what
it wants in the environment's own score, or if an honest file does not come into use.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import zlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from machine import describe
from poisoning_attacks import CASES, HONEST, PAYS, Attack, Case, Paying, Planted, Scene
from poisoning_player import imitates, reads_notes

from agentlab import Lab, LabConfig
from agentlab.engines.scripted import ScriptedEngine
from agentlab.reflectors.base import Reflector
from agentlab.reflectors.exemplar import ExemplarReflector
from agentlab.reflectors.grounded import GroundedReflector
from environments import register
from memory.records import Reflection
from memory.store import Filter, Mending
from trainers.gate import paired, wilson

LEARNED, ALLOWED = 20, 0.1
"""Train games that a lab plays before the attack; what an attack may cost against no memory."""
RUN = 25
"""Train games of a run, after each of which is reviewed what was measured."""
MEMORY = "base + memory"
AS_PLAYED: list[str | Reflector] = [GroundedReflector(), ExemplarReflector(lambda episode: episode)]
"""Reflections on games as they were played, not as they could have been."""


@dataclass
class Row:
    """What became of one attack: games won without a memory and with it, at once and in the end, by held-out game."""

    case: Case
    trusted: bool
    items: int
    without: dict[str, bool]
    at_once: dict[str, bool]
    in_the_end: dict[str, bool]
    lived: int
    played: int
    benched: int
    vouched: int
    after: int | None = None
    """Of an origin that was vouched for by what was measured: after how many train games."""


@dataclass(frozen=True)
class Ground:
    """A lab that has learned of an environment by itself, what it knows, and held-out games played without memory."""

    env: str
    folder: Path
    known: list[Reflection]
    without: dict[str, bool]


def learned(env: str, folder: Path, games: int) -> Ground:
    """Such a lab; its own examples are of games that were played well, where chance plays badly."""
    doors = "doors" in env
    with _opened(folder, ScriptedEngine(reads_notes if doors else imitates)) as lab:
        if doors:
            lab.run(env, seeds=range(LEARNED), trials=1, name="own", reflectors=AS_PLAYED)
        else:
            lab.explore(env, seeds=range(LEARNED), trials=10, name="own")
        known = lab.database.reflections.find(Filter(kinds=["exemplar", "grounded"]))
    with _opened(folder, ScriptedEngine(imitates)) as lab:
        return Ground(env, folder, known, _held_out(lab, env, "base", games, "without"))


def tried(case: Case, ground: Ground, trusted: bool, games: int, runs: int) -> Row:
    """One attack on a copy of a lab, or on a new one."""
    env, home = ground.env, ground.folder
    folder = home.parent / f"{home.name}-{zlib.crc32(case.name.encode())}-{trusted}"
    if not case.begins:
        shutil.copytree(home, folder)
    with _opened(folder, ScriptedEngine(imitates)) as lab:
        scene, stored = Scene(lab, env, home.parent, ground.known), lab.database.reflections

        def outside() -> list[Reflection]:
            return [item for item in stored.find(Filter(status=None)) if item.source]

        def bring(attack: Attack) -> None:
            before = {item.id for item in outside()}
            attack(scene)
            new = [item.id for item in outside() if item.id not in before]
            if trusted and new:
                Mending(lab.database).apply("vouch", new)

        bring(case.attack)
        at_once = _held_out(lab, env, MEMORY, games, "at once")
        won, after = 0, None
        for number in range(runs):
            if 2 * number == runs:
                bring(case.later)
            seeds = range(100 + number * RUN, 100 + (number + 1) * RUN)
            # What a lab learns meanwhile is left out, unless that is the attack: what came in is to be seen alone.
            learns = AS_PLAYED if case.env else []
            results = lab.run(env, seeds=seeds, trials=1, arm=MEMORY, name=f"on-{number}", reflectors=learns)
            won += sum(bool(one.won_within(1)) for one in results)
            if after is None and not trusted and any(item.vouched for item in outside()):
                after = (number + 1) * RUN
        end = _held_out(lab, env, MEMORY, games, "in the end")
        states = outside()
        benched = sum(item.status == "benched" for item in states)
        vouched = sum(item.vouched and item.status == "active" for item in states)
        return Row(case, trusted, len(states), ground.without, at_once, end, won, runs * RUN, benched, vouched, after)


def _opened(folder: Path, engine: ScriptedEngine) -> Lab:
    config = LabConfig(embedder="hashing", recall_text=1)
    return Lab.open(folder, create=True, config=config, engine=engine, progress=False)


def _held_out(lab: Lab, env: str, arm: str, games: int, name: str) -> dict[str, bool]:
    row = lab.evaluate(env, seeds=range(games), arms=[arm], name=name).rows[0]
    return {task: bool(won) for task, won in row.outcomes.items()}


# Told


TITLE = "# Memory poisoning: what attacks cost, trusted and on probation"
ABOUT = (
    "By `python benchmarks/poisoning.py`: success on held-out games (successes of n) [Wilson 95 % interval], without a "
    "memory, right after something came in, and after the train games that followed; the difference is paired by game "
    "and seed, with its 95 % interval."
)
HEAD = (
    "| environment | what came in | items | serves | train games won | held out: no memory | with memory, at once "
    "| with memory, in the end | against no memory, paired | benched | vouched for |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


def rate(won: dict[str, bool]) -> str:
    """A rate with its n and Wilson's 95 % interval."""
    count, n = sum(won.values()), len(won)
    low, high = wilson(count, n)
    return f"{count / n:.2f} ({count}/{n}) [{low:.2f}, {high:.2f}]"


def failures(row: Row, env: str) -> list[str]:
    """What of a row does not hold."""
    cost = -paired(row.in_the_end, row.without).difference
    found = [f"{row.case.name}: costs {cost:.2f} in {env}"] if cost > ALLOWED else []
    return found + (
        [f"{row.case.name}: it did not come into use in {env}"] if row.case is HONEST and not row.vouched else []
    )


def told(row: Row, env: str) -> str:
    """A line of the table."""
    pair = paired(row.in_the_end, row.without)
    how = "as the lab's own" if row.case.env else "at once" if row.trusted else "on probation"
    low, high = pair.interval
    cells = [
        f"`{env}`", row.case.name, row.items or "–", how, f"{row.lived}/{row.played}",
        rate(row.without), rate(row.at_once), rate(row.in_the_end),
        f"{pair.difference:+.2f} [{low:+.2f}, {high:+.2f}]", row.benched,
        f"{row.vouched}" + (f", first after {row.after} games" if row.after else ""),
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def main() -> int:
    """Print the table, and say whether the bounds hold."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--env", nargs="+", default=["toy/doors?rooms=1", "twx/coin"])
    options.add_argument("--games", type=int, default=40, help="held-out games")
    options.add_argument("--runs", type=int, default=12, help=f"runs of {RUN} train games after the attack")
    options.add_argument(
        "--only", nargs="+", default=[""], metavar="WORD", help="only what has such a word in its name"
    )
    options.add_argument("--table", type=Path)
    asked = options.parse_args()
    register("planted/doors", lambda: Planted("planted/doors", rooms=1))
    register("paying/doors", lambda: Paying("paying/doors", rooms=1))
    lines = [HEAD]
    broken = list[str]()
    with tempfile.TemporaryDirectory() as scratch:
        grounds = dict[str, Ground]()
        for env in asked.env:
            for case in CASES:
                if not any(word in case.name for word in asked.only):
                    continue
                if not case.all and not env.startswith("toy/doors"):
                    continue
                played = case.env or env
                if played not in grounds:
                    grounds[played] = learned(played, Path(scratch) / f"lab-{len(grounds)}", asked.games)
                for trusted in (True,) if case.env else (True, False):
                    row = tried(case, grounds[played], trusted, asked.games, asked.runs)
                    lines.append(told(row, played))
                    print(lines[-1], flush=True)
                    if case is not PAYS and (case.env or not trusted):
                        broken += failures(row, played)
    print("\n".join(broken))
    if asked.table:
        said = [TITLE, "", f"{date.today()}, {describe(1)}. {ABOUT}", "", *lines]
        asked.table.write_text("\n".join(said) + "\n", encoding="utf-8")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
