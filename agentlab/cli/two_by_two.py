"""The 2×2 as a table of 80 columns: four rates with intervals, what each change brings, and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentlab.cli import output
from agentlab.cli.scoreboard import format_cell, short_names
from agentlab.experiments.evaluation import ALL

if TYPE_CHECKING:
    from agentlab.experiments.two_by_two import Change, TwoByTwo
    from trainers.gate import Paired, Ratio

WIDTH = 80
UNLIKE = (
    "Memory is what each side plays with: the base also has examples in its prompt, an adapter none, so a loss with "
    "memory on may be that of the examples."
)


def show(found: TwoByTwo) -> None:
    """Print the four cells with their margins, the internalised share, and every game under the new adapter."""
    from rich.console import Group

    cells = {name: format_cell(row.cells[ALL]) for name, row in found.cells.items()}
    grid = output.grid(["", "memory off", "memory on", "memory's gain"])
    for side, label in (("old", found.old), ("new", found.new)):
        gain = _effect(found.effect("memory", side))
        grid.add_row(f"{side}\n{label}", cells[f"{side}, off"], cells[f"{side}, on"], gain)
    grid.add_row("gain of the new", _effect(found.effect("adapter", "off")), _effect(found.effect("adapter", "on")), "")
    games = output.grid(["game", "memory", "old", "new", "change [95 %]", "p (Holm)"], left=2)
    names = short_names(found.table.envs)
    for change in found.changes:
        games.add_row(*_game(change, names[change.env]), style="red" if change.regressed else "")
    n = found.effects[0].paired.n
    worse = ", ".join(f"{names[change.env]} (memory {change.memory})" for change in found.regressions)
    lines = [
        ("Rate of success (successes of n games) [Wilson 95 % interval].", "dim"),
        (f"Gains on the same {n} games [Newcombe 95 % interval], McNemar's exact p.", "dim"),
        ("The p of a game is corrected for all rows of games together (Holm).", "dim"),
        (internalised(found.internalised), "bold"),
        (f"Worse under the new adapter: {worse or 'no game, credibly'}.", "red" if worse else ""),
    ]
    if not found.same_memory:
        lines.append((f"{UNLIKE} --same-memory gives both what the base has.", "dim"))
    # Not into a pipe either: what is longer than a line is wrapped here.
    output.console(width=WIDTH).print(Group(grid, games, *(output.text(line, style) for line, style in lines)))


def internalised(share: Ratio) -> str:
    """The share in words, or why there is none."""
    if share.value is None:
        return (
            f"Internalised: no share means anything, for the memory's gain, [{share.below:+.2f}, {share.above:+.2f}], "
            "may be 0."
        )
    return (
        f"Internalised: {share.value:.0%} [{share.low:.0%}, {share.high:.0%}] of the memory's gain "
        "(paired bootstrap over games)."
    )


def _effect(part: Paired) -> str:
    from trainers.gate import p_text

    return f"{part.difference:+.2f}\n{_interval(part)}\np {p_text(part.p, '= ')}"


def _game(change: Change, name: str) -> tuple[str, ...]:
    part = change.paired
    return (
        name,
        change.memory,
        f"{part.both + part.only_b}/{part.n}",
        f"{part.both + part.only_a}/{part.n}",
        f"{part.difference:+.2f} {_interval(part)}",
        f"{change.p:.4f}{' worse' if change.regressed else ''}",
    )


def _interval(part: Paired) -> str:
    return f"[{part.interval[0]:+.2f}, {part.interval[1]:+.2f}]"
