"""Running a protocol: a lab for each way and training seed, which learns, is measured, and goes on where it stopped."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentlab.errors import AgentLabError, BadConfig
from agentlab.protocols.measured import Game, Learned
from agentlab.protocols.protocol import Protocol, Way
from agentlab.workspace.config import LabConfig

if TYPE_CHECKING:
    from agentlab.experiments.evaluation import Table
    from agentlab.lab import Lab
    from agentlab.progress import Progress
    from agentlab.rounds.config import RoundConfig
    from agentlab.rounds.report import RoundReport
    from environments.base import Split
    from memory.records import Episode

DEV_FIRST = 500
"""The first dev game that is measured: those before are for gates. A fold that has not so many is measured from its
end, games that gates have seen included where it is very small."""


SCOPE = "protocol"
"""Where a lab has in its journal of which protocol it is."""


def run_protocol(
    protocol: Protocol,
    folder: Path,
    *,
    split: Split = "test",
    games: int | None = None,
    training_seeds: Sequence[int] | None = None,
    ways: Sequence[str] | None = None,
    config: LabConfig | None = None,
    workers: str | None = None,
    progress: Progress | bool = True,
) -> list[Learned]:
    """Learn and measure; labs and figures stay in `folder`. The same call goes on where it stopped.

    `training_seeds` and `ways` choose some of the protocol's, so that several processes may share the work; `config` is
    for new labs (by default one that gathers), and `workers` play where they are given (`Workspace.hire`). Returns what
    stands in the folder by now, of this split and number of games, that of other processes included.

    Raises BadConfig for what is no way or training seed of the protocol, and where the folder has figures or labs of
    another base, or labs that have learned otherwise.
    """
    config, known = config or LabConfig(gather=True), [way.name for way in protocol.ways]
    for name in ways or ():
        if name not in known:
            raise BadConfig(f"{protocol.name} has no way {name!r} to play; choose among {', '.join(known)}.")
    seeds = range(protocol.training_seeds)
    for seed in training_seeds or ():
        if seed not in seeds:
            raise BadConfig(f"{protocol.name} has no training seed {seed}; its last one is {seeds[-1]}.")
    count = min(games or protocol.games, protocol.games)
    for one in found(protocol, folder, split, count):
        _check_model(folder, one.model, config.model)
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds if training_seeds is None else training_seeds:
        for way in protocol.ways:
            if way.name in (ways or known):
                place = folder / f"{_slug(way)}-{seed}-{split}-{count}.json"
                learned = _learned(
                    protocol, folder, way, seed, split, count, config, workers, progress, new=not place.exists()
                )
                write(place, learned.model_dump_json(indent=1) + "\n")
    return found(protocol, folder, split, count)


def write(path: Path, content: str) -> None:
    """Write a file whole, or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(content, encoding="utf-8")
    os.replace(beside, path)


def found(protocol: Protocol, folder: Path, split: Split, games: int) -> list[Learned]:
    """What was measured in a folder, in the order of the protocol."""
    here = [_load(path) for way in protocol.ways for path in folder.glob(f"{_slug(way)}-*-{split}-{games}.json")]
    order = [way.name for way in protocol.ways]
    same = [one for one in here if (one.protocol, one.version) == (protocol.name, protocol.version)]
    return sorted(same, key=lambda one: (order.index(one.way), one.seed))


def _load(path: Path) -> Learned:
    try:
        return Learned.load(path)
    except ValueError:
        raise BadConfig(f"{path} is damaged; remove it, and what it held is read from its lab again.") from None


def _check_model(place: Path, known: str, asked: str) -> None:
    if known != asked:
        raise BadConfig(f"{place} has learned with {known!r}, not {asked!r}; take another folder.")


def _learned(
    protocol: Protocol,
    folder: Path,
    way: Way,
    seed: int,
    split: Split,
    games: int,
    config: LabConfig,
    workers: str | None,
    progress: Progress | bool,
    *,
    new: bool,
) -> Learned:
    """One training seed of one way: its rounds, then its arms on the games. Figures that are not `new` stand already,
    so nothing more is done for them."""
    from agentlab.lab import Lab

    played = {env: seeds_of(env, split, games) for env in way.envs.values()}
    with Lab.open(folder / f"{_slug(way)}-{seed}", create=True, config=config, progress=progress) as lab:
        _check_model(lab.folder, lab.config.model, config.model)
        if workers is not None and new:
            lab.hire(workers)
        programs = _noted(lab, protocol, made_with() if new else "")
        reports = [learn_round(lab, protocol, number, way, seed) for number in range(len(protocol.rounds))]
        wanted = protocol.arms_of(seed)
        # Where no gate promoted anything, what serves is the base.
        plays = {arm: arm if lab.serving() else arm.replace("adapter", "base") for arm in wanted}
        tables = {arm: _tables(lab, protocol, played, split, arm, plays[arm]) for arm in wanted}
        return Learned(
            protocol=protocol.name,
            version=protocol.version,
            way=way.name,
            seed=seed,
            model=lab.config.model,
            made_with=", ".join(programs),
            split=split,
            arms={arm: games_of(lab, way, tables[arm], plays[arm]) for arm in wanted},
            rounds=[told(report) for report in reports],
        )


def _tables(
    lab: Lab, protocol: Protocol, played: Mapping[str, range], split: Split, arm: str, plays: str
) -> list[Table]:
    """An arm of the protocol on its games, with what `plays` it in this lab."""
    first = {env: seeds[: protocol.first.get(arm)] for env, seeds in played.items()}
    return [
        lab.evaluate(
            [env for env, its in first.items() if its == seeds],
            split=split,
            seeds=seeds,
            arms=[plays],
            name=f"{protocol.name}-{protocol.version}-{split}-{seeds[0]}-{seeds[-1]}",
        )
        for seeds in dict.fromkeys(first.values())
    ]


def _noted(lab: Lab, protocol: Protocol, program: str) -> list[str]:
    """Which programs have worked on a lab, this one included if it has a name; the lab is the protocol's from now on.

    Raises BadConfig where it is another one's, or of another version.
    """
    mine = {"name": protocol.name, "version": protocol.version}
    kept: dict[str, Any] = lab.database.journal.get(SCOPE, "lab") or {**mine, "programs": []}
    if any(kept[field] != value for field, value in mine.items()):
        raise BadConfig(
            f"{lab.folder} has learned for {kept['name']}, version {kept['version']}, not for {protocol.name}, version "
            f"{protocol.version}; take another folder."
        )
    programs = list(dict.fromkeys([*kept["programs"], *([program] if program else [])]))
    lab.database.journal.put(SCOPE, "lab", {**mine, "programs": programs})
    return programs


def learn_round(lab: Lab, protocol: Protocol, number: int, way: Way, seed: int) -> RoundReport:
    """Round `number` of the protocol, gone on with or begun where that is not done yet.

    Raises BadConfig where the lab has learned otherwise in it.
    """
    asked = protocol.round_config(number, way, seed)
    for begun in lab.rounds()[number : number + 1]:
        _check_round(lab, protocol, begun, asked)
    report = ended_round(lab, number, asked)
    _check_round(lab, protocol, report, asked)
    return report


def ended_round(lab: Lab, number: int, asked: RoundConfig) -> RoundReport:
    """Round `number` of a lab (counted from 0) at its end, gone on with or begun where that is not done yet."""
    # More than one call where a round was killed as it ended: the first one only says so.
    while not (begun := lab.rounds()[number : number + 1]) or not begun[0].ended:
        try:
            lab.round(asked)
        except AgentLabError:
            # Where nothing was won there is nothing to train on, and what served before serves on.
            if not [report for report in lab.rounds()[number:] if report.ended]:
                raise
    return begun[0]


def _check_round(lab: Lab, protocol: Protocol, report: RoundReport, asked: RoundConfig) -> None:
    if report.config != asked.named():
        raise BadConfig(
            f"{report.id} of {lab.folder} learned otherwise than {protocol.name}, version {protocol.version}, does; "
            "take another folder."
        )


def told(report: RoundReport) -> str:
    """What a round came to, in a line."""
    verdict = "promoted" if report.promoted else "refused" if report.adapter else "nothing trained"
    calls = ", ".join(f"{what} {count}" for what, count in report.calls.items())
    parts = [f"{report.id}: {verdict}", report.gate.get("reason") or report.note, f"calls: {calls}" if calls else ""]
    return "; ".join(part for part in parts if part)


def made_with(checkout: Path = Path(__file__).parents[2]) -> str:
    """The version of this program and, in a checkout of it, the commit."""
    try:
        version = metadata.version("agentlab")
    except metadata.PackageNotFoundError:
        version = "not installed"
    if not (checkout / ".git").exists():
        return version
    git = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return version
    return f"{version} ({commit})"


def seeds_of(env: str, split: Split, games: int) -> range:
    """Which games of a fold are measured: so many, or all where there are fewer. Raises BadConfig if there are none."""
    from agentlab.agent.tasks import looked_at

    with looked_at(env) as one:
        there = len(one.fold(split))
    if not there:
        raise BadConfig(
            f"{env} has no {split} game, so nothing of it can be measured; see whether its games are whole."
        )
    first = min(DEV_FIRST, max(0, there - games)) if split == "dev" else 0
    return range(first, min(first + games, there))


def games_of(lab: Lab, way: Way, tables: Sequence[Table], arm: str) -> dict[str, dict[int, Game]]:
    """The games of an arm by name and seed. What errored is left out."""
    from environments import canonical
    from memory import EpisodeFilter

    runs = {env: table.about["runs"][arm] for table in tables for env in table.envs}
    games = dict[str, dict[int, Game]]()
    for name, env in way.envs.items():
        env = canonical(env)
        rows = lab.database.episodes.find(EpisodeFilter(run=runs[env], env=env, arm=arm))
        ended = [row.id for row in rows if row.status != "errored"]
        games[name] = {episode.seed: _game(episode) for episode in lab.database.episodes.each(ended)}
    return games


def _game(episode: Episode) -> Game:
    best = max((step.score for step in episode.steps), default=0.0)
    return Game(
        final=episode.score,
        best=max(best, episode.score),
        won=episode.won,
        steps=len(episode.steps),
        invalid=sum(step.invalid for step in episode.steps),
        seconds=episode.seconds,
        tokens=episode.usage.input_tokens + episode.usage.output_tokens,
    )


def _slug(way: Way) -> str:
    return way.name.replace(" ", "-")
