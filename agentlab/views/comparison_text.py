"""A comparison as text that goes elsewhere: Markdown for a report, CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io

from agentlab.terminal import one_line
from agentlab.views.comparison import ComparisonView
from trainers.gate import p_text

PAIR = ("arm", "against", "pairs", "won by it alone", "by the other alone", "difference", "p (McNemar)", "p (Holm)")


def markdown(view: ComparisonView) -> str:
    """The table of rates, then the comparisons of arms."""
    lines = [f"# {_name(view.name)}", ""]
    lines += _table(
        ["arm", "trials", *map(_name, view.columns)],
        [
            [_name(line.arm), str(line.trials), *(str(line.cells.get(name, "–")) for name in view.columns)]
            for line in view.arms
        ],
    )
    lines += ["", "Rate of success (successes of n games) [Wilson 95 % interval]."]
    if view.pairs:
        lines.append("")
        lines += _table(
            list(PAIR),
            [
                [
                    _name(pair.arm),
                    _name(pair.against),
                    str(pair.n),
                    str(pair.only_arm),
                    str(pair.only_against),
                    f"{pair.difference:+.2f} [{pair.interval[0]:+.2f}, {pair.interval[1]:+.2f}]",
                    p_text(pair.p),
                    p_text(pair.p_holm),
                ]
                for pair in view.pairs
            ],
        )
    return "\n".join(lines) + "\n"


def comma_separated(view: ComparisonView) -> str:
    """A line for each arm and environment."""
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\n")
    lines.writerow(["arm", "trials", "environment", "wins", "n", "errored", "rate", "low", "high", "score"])
    for line in view.arms:
        for env, cell in line.cells.items():
            rates = [f"{rate:.4f}" if cell.n else "" for rate in (cell.rate, cell.low, cell.high, cell.score)]
            counts = [cell.wins, cell.n, cell.errored]
            lines.writerow([_field(line.arm), line.trials, _field(env), *counts, *rates])
    return written.getvalue()


def _table(titles: list[str], rows: list[list[str]]) -> list[str]:
    head = [f"| {' | '.join(titles)} |", f"|{'|'.join(' --- ' for _ in titles)}|"]
    return [*head, *(f"| {' | '.join(row)} |" for row in rows)]


def _name(text: str) -> str:
    """Names are data: nothing in them is markup."""
    line = one_line(text).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{sign}" if sign in "\\`|*_![" else sign for sign in line)


def _field(text: str) -> str:
    """A name that a spreadsheet would take for a formula gets a mark that it shows as text."""
    line = one_line(text)
    return f"'{line}" if line[:1] in ("=", "+", "-", "@") else line
