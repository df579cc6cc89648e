"""The page of results of protocols, made of what `agentlab bench` writes as data: `benchmarks/results/bench/*.json`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentlab.protocols.showing import Line, Outcome

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "bench"
INTRODUCTION = """# Leaderboard

Results of [`agentlab bench`](bench.md), each made of the `result.json` that it wrote, beside the figures that others
have published. A row is who played in what way, after how many training seeds; seconds and tokens are those of all its
games, learning apart. What is not the whole protocol on its test games says so: it was looked at while something was
still being changed, and is no result of the protocol.
"""


def page(found: Iterable[Outcome]) -> str:
    """All results, the best mean first; what has no mean of all stands below."""
    from agentlab.protocols.showing import MEAN

    parts = [INTRODUCTION]
    for one in found:
        over = [*one.groups, MEAN]
        part = f" (not whole: {one.games} {one.split} games of each, training seeds: {one.training_seeds})"
        parts += [f"## {one.protocol}, version {one.version}{'' if one.whole else part}", ""]
        parts += [f"{one.measures[:1].upper()}{one.measures[1:]}.", ""]
        titles = ["who plays", *over, "training seeds", "seconds", "tokens", "model", "measured by"]
        parts += [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
        lines = sorted([*one.lines, *one.published], key=lambda line: -_mean(line))
        parts += [f"| {' | '.join(_row(one, line, over))} |" for line in lines]
        parts += ["", one.note, ""]
    return "\n".join(parts)


def _mean(line: Line) -> float:
    from agentlab.protocols.showing import MEAN

    mean = line.means.get(MEAN)
    return -1.0 if mean is None else mean.value


def _row(one: Outcome, line: Line, over: list[str]) -> list[str]:
    from agentlab.protocols.showing import cell

    means = [cell(line.means.get(name)) for name in over]
    if line.way == "published":
        return [f"{line.arm} (published)", *means, "", "", "", "", ""]
    seeds = ", ".join(map(str, line.seeds))
    took = [f"{line.seconds:,.0f}", f"{line.tokens:,}"]
    return [f"{line.arm}, {line.way}", *means, seeds, *took, one.model, f"agentlab {one.made_with}"]


def pages() -> dict[str, str]:
    """The page by its place in the documents."""
    from agentlab.protocols.showing import Outcome

    found = []
    for file in sorted(RESULTS.glob("*.json")):
        try:
            found.append(Outcome.model_validate_json(file.read_text("utf-8")))
        except ValueError as error:
            raise ValueError(f"{file} is no result of `agentlab bench`: {error}") from error
    return {"leaderboard.md": page(found)}
