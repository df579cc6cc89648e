"""An evaluation as a table: arms by environments, each rate with its n and its 95 % interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentlab.cli import output

if TYPE_CHECKING:
    from agentlab.experiments.evaluation import Cell, Comparison, Table

ALL = "all"


def show(table: Table, title: str = "") -> None:
    """Print the table, then every comparison between arms in a sentence."""
    from rich import box
    from rich.table import Table as Grid

    names = short_names(table.envs)
    columns = [*table.envs, ALL] if len(table.envs) > 1 else list(table.envs)
    several = len({row.trials for row in table.rows}) > 1 or any(row.trials > 1 for row in table.rows)
    grid = Grid(title=title or None, title_justify="left", box=box.SIMPLE, pad_edge=False, show_edge=False)
    grid.add_column("arm", no_wrap=True)
    if several:
        grid.add_column("trials", justify="right")
    for env in columns:
        grid.add_column(names.get(env, env), justify="right", no_wrap=True)
    took = [output.took(row.usage) for row in table.rows]
    used = output.took_columns(took)
    for column in used:
        grid.add_column(column.heading, justify="right", no_wrap=True)
    for row, known in zip(table.rows, took, strict=True):
        cells = [output.text(format_cell(row.cells[env]) if env in row.cells else "–") for env in columns]
        cells += [output.text(known.get(column.key, "")) for column in used]
        grid.add_row(output.text(row.arm), *([str(row.trials)] if several else []), *cells)
    output.console().print(grid)
    output.say("Rate of success (successes of n tasks) [Wilson 95 % interval].", "dim")
    for env, name in names.items():
        if env != name:
            output.say(f"{name}: {env}", "dim")
    for comparison in table.comparisons:
        output.say(sentence(comparison))


def format_cell(cell: Cell) -> str:
    """A rate in two lines, so that many fit beside each other."""
    if not cell.n:
        return f"–\n{cell.errored} errored" if cell.errored else "–"
    errored = f"\n{cell.errored} errored" if cell.errored else ""
    invalid = f"\n{cell.invalid} invalid actions" if cell.invalid else ""
    return f"{cell.rate:.2f} ({cell.wins}/{cell.n})\n[{cell.low:.2f}, {cell.high:.2f}]{errored}{invalid}"


def sentence(comparison: Comparison) -> str:
    """A paired comparison in words."""
    from trainers.gate import p_text

    return (
        f"{comparison.arm} against {comparison.against}: {comparison.difference:+.2f} on {comparison.n} pairs of the "
        f"same task and seed; won by it alone {comparison.only_arm}, by the other alone {comparison.only_against}; "
        f"p {p_text(comparison.p, '= ')} (McNemar, exact)"
    )


def short_names(envs: list[str]) -> dict[str, str]:
    """Each environment without its parameters, where that is clear."""
    bare = [env.partition("?")[0] for env in envs]
    return {env: name if bare.count(name) == 1 else env for env, name in zip(envs, bare, strict=True)}
