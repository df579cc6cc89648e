"""What a protocol came to, as Markdown and as data: every game, the mean of all, the published figures beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from agentlab.protocols.measured import Against, Learned, Mean, Scores, against, mean_of, scores
from agentlab.protocols.protocol import Protocol, Published

MEAN = "mean"


class Line(BaseModel):
    """Who played, in what way, and the means with their intervals by game, group and over all; of others means alone.

    `seconds` and `tokens` are what all its games took to be played, `seeds` the training seeds that played them.
    """

    way: str
    arm: str
    means: dict[str, Mean | None]
    seeds: list[int] = []
    seconds: float = 0.0
    tokens: int = 0


class Compared(BaseModel):
    """An arm against another, or against a published system, on the same games."""

    way: str
    arm: str
    other: str
    game: str
    found: Against


class Outcome(BaseModel):
    """A protocol's result: `whole` says whether it is all that the protocol asks for, and on its test games."""

    protocol: str
    version: int
    measures: str
    score: str
    split: str
    games: int
    training_seeds: int
    whole: bool
    model: str
    made_with: str
    groups: list[str]
    lines: list[Line]
    compared: list[Compared]
    published: list[Line]
    rounds: list[str]
    note: str


def outcome(protocol: Protocol, learned: Sequence[Learned], split: str, games: int) -> Outcome:
    """What follows from all that was measured."""
    lines, compared, measured = list[Line](), list[Compared](), protocol.arms[-1]
    for way in protocol.ways:
        of_way = [one for one in learned if one.way == way.name]
        if not of_way:
            continue
        by_arm = {arm: scores(of_way, arm, protocol.score) for arm in protocol.arms}
        lines += [_line(protocol, of_way, arm, found) for arm, found in by_arm.items()]
        pairs = [("adapter", "base"), ("adapter + memory", "adapter"), ("base + memory", "base")]
        for arm, other in pairs:
            if arm in by_arm and other in by_arm:
                compared += _compared(way.name, arm, other, by_arm[arm], _flat(by_arm[other]))
        for system in protocol.published:
            if system.scores:
                compared += _compared(way.name, measured, system.name, by_arm[measured], system.scores)
    seeds = {way.name: [one.seed for one in learned if one.way == way.name] for way in protocol.ways}
    return Outcome(
        protocol=protocol.name,
        version=protocol.version,
        measures=protocol.measures,
        score=protocol.score,
        split=split,
        games=games,
        training_seeds=max(map(len, seeds.values()), default=0),
        whole=_complete(protocol, learned, games) and split == "test" and games == protocol.games,
        model=", ".join(sorted({one.model for one in learned})),
        made_with=", ".join(sorted({one.made_with for one in learned})),
        groups=list(protocol.groups),
        lines=lines,
        compared=compared,
        published=[_published(protocol, system) for system in protocol.published],
        rounds=[f"{one.way}, training seed {one.seed}: {line}" for one in learned for line in one.rounds],
        note=f"{protocol.note}{_first(protocol, games)}",
    )


def _first(protocol: Protocol, games: int) -> str:
    """Who plays the first games only."""
    fewer = [f"`{arm}` plays the first {first}" for arm, first in protocol.first.items() if first < games]
    return f" Of the games of each, {', '.join(fewer)}." if fewer else ""


def _complete(protocol: Protocol, learned: Sequence[Learned], games: int) -> bool:
    """Whether every arm has ended so many games of each name, in every way and after every training seed."""
    known = {(one.way, one.seed): one.arms for one in learned}
    return all(
        len(known.get((way.name, seed), {}).get(arm, {}).get(name, {})) >= protocol.count_of(arm, name, games)
        for way in protocol.ways
        for seed in range(protocol.training_seeds)
        for arm in protocol.arms_of(seed)
        for name in way.envs
    )


def _line(protocol: Protocol, learned: Sequence[Learned], arm: str, found: Scores) -> Line:
    played = [game for one in learned for games in one.arms.get(arm, {}).values() for game in games.values()]
    return Line(
        way=learned[0].way,
        arm=arm,
        means=means(found, protocol.groups),
        seeds=[one.seed for one in learned if arm in one.arms],
        seconds=round(sum(game.seconds for game in played), 1),
        tokens=sum(game.tokens for game in played),
    )


def means(found: Scores, groups: Mapping[str, Sequence[str]]) -> dict[str, Mean | None]:
    """The mean of each game, of each group of games, and of all. A play after each of several trainings counts as one
    game, and each name the same, however many games it has."""
    by_game = {name: [sum(several) / len(several) for several in games.values()] for name, games in found.items()}
    known = {name: values for name, values in by_game.items() if values}
    sets = {**{name: [name] for name in known}, **groups, MEAN: list(known)}
    chosen = {name: [known[one] for one in games if one in known] for name, games in sets.items()}
    return {name: mean_of(values) if values else None for name, values in chosen.items()}


def _flat(found: Scores) -> dict[str, dict[int, float]]:
    return {name: {seed: sum(all_) / len(all_) for seed, all_ in games.items()} for name, games in found.items()}


def _compared(
    way: str,
    arm: str,
    other: str,
    ours: Scores,
    theirs: Mapping[str, Any],
) -> list[Compared]:
    """Two on each game alone and on all, paired by test seed."""
    mine, both = _flat(ours), dict[str, tuple[list[float], list[float]]]()
    for name, games in mine.items():
        known = theirs.get(name, {})
        known = dict(enumerate(known)) if not isinstance(known, Mapping) else known
        shared = sorted(games.keys() & known.keys())
        if shared:
            both[name] = [games[seed] for seed in shared], [known[seed] for seed in shared]
    rows = [(name, {name: pair[0]}, {name: pair[1]}) for name, pair in both.items()]
    if len(both) > 1:
        rows.append((MEAN, {n: pair[0] for n, pair in both.items()}, {n: pair[1] for n, pair in both.items()}))
    return [
        Compared(way=way, arm=arm, other=other, game=name, found=against(here, there)) for name, here, there in rows
    ]


def _published(protocol: Protocol, system: Published) -> Line:
    means: dict[str, Mean | None] = {}
    for name, value in system.means.items():
        of_game = system.scores.get(name)
        means[name] = mean_of([of_game]) if of_game else Mean(value, value, value, 0)
    if system.scores:
        means[MEAN] = mean_of(list(system.scores.values()))
    return Line(way="published", arm=system.name, means=means)


def markdown(found: Outcome, protocol: Protocol) -> str:
    """The result as a document."""
    games = list(protocol.ways[0].envs)
    turned = len(games) > 6
    lines = [f"# {found.protocol}, version {found.version}", "", _about(found), ""]
    everything = [*found.lines, *found.published]
    titles = [
        f"{line.arm}, {line.way}" if line.way != "published" else f"{line.arm} (published)" for line in everything
    ]
    over = [*protocol.groups, MEAN]
    rows = [[cell(line.means.get(name)) for name in [*games, *over]] for line in everything]
    if turned:  # many games stand below each other
        ours = [line for line in found.lines if line.arm in ("random", "base", "adapter", "adapter + memory")]
        heads = [f"{line.arm}, {line.way}" for line in ours]
        lines += _table(["task", *heads], [[n, *(cell(one.means.get(n)) for one in ours)] for n in [*games, *over]])
        of_all = [[title, *row[-len(over) :]] for title, row in zip(titles, rows, strict=True)]
        lines += ["", *_table(["who plays", *over], of_all)]
    else:
        lines += _table(["who plays", *games, *over], [[t, *row] for t, row in zip(titles, rows, strict=True)])
    compared = [one for one in found.compared if one.game == MEAN or not turned]
    if compared:
        lines += ["", "Paired by game and seed (randomisation test, two-sided):", ""]
        cells = [[f"{one.arm}, {one.way}", one.other, one.game, *_found(one.found)] for one in compared]
        lines += _table(["who", "against", "game", "games", "difference", "p"], cells)
    lines += ["", "What was learned:", "", *(f"- {line}" for line in found.rounds), "", found.note, ""]
    return "\n".join(lines)


def _about(found: Outcome) -> str:
    """What was measured, in a few sentences."""
    whole = "" if found.whole else " This is not the whole protocol."
    return (
        f"{found.measures[:1].upper()}{found.measures[1:]}. {found.model}, by agentlab {found.made_with}; "
        f"{found.games} {found.split} games of each, or all where there are fewer; training seeds: "
        f"{found.training_seeds}. Mean of the {found.score} score [95 % interval, bootstrap over games].{whole}"
    )


def _found(found: Against) -> list[str]:
    from trainers.gate import p_text

    return [str(found.games), f"{found.difference:+.3f}", p_text(found.p)]


def cell(mean: Mean | None) -> str:
    """A mean with its interval, where that is known."""
    if mean is None:
        return "–"
    return str(mean) if mean.games else f"{mean.value:.3f}"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    head = f"| {' | '.join(titles)} |"
    return [head, f"|{'---|' * len(titles)}", *(f"| {' | '.join(row)} |" for row in rows)]
