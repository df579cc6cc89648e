"""The pages of evaluations: the list, one with the games behind its numbers, and several labs beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from agentlab.errors import AgentLabError
from agentlab.views.comparison import ComparisonView, Evaluations, comparison, evaluations
from agentlab.views.comparison_text import comma_separated, markdown
from agentlab.views.labs import LabComparison, compare
from agentlab.web.asked import Asked
from agentlab.web.looking import Looking
from agentlab.web.page import Page, Tab
from agentlab.workspace.workspace import Workspace
from memory.errors import MemoryStoreError

TAB = Tab("Comparisons", "comparisons")


def _evaluations(lab: Workspace, _: Asked) -> Evaluations:
    return evaluations(lab)


def _comparison(lab: Workspace, asked: Asked) -> ComparisonView:
    return comparison(
        lab,
        asked.text("name"),
        arm=asked.maybe("arm"),
        env=asked.maybe("env"),
        against=asked.maybe("against"),
        only=asked.maybe("only"),
        share=asked.maybe("share") is not None,
        offset=asked.number("offset", 0),
    )


def _exported(lab: Workspace) -> Iterator[Mapping[str, str]]:
    for line in evaluations(lab).evaluations:
        yield {"name": line.name}


COMPARISONS = Page("/comparisons", "comparisons.html", _evaluations, TAB, lambda view: "Comparisons")
COMPARISON = Page(
    "/comparisons/{name:path}",
    "comparison.html",
    _comparison,
    TAB,
    lambda view: cast(ComparisonView, view).name,
    _exported,
    {
        "md": lambda view: markdown(cast(ComparisonView, view)),
        "csv": lambda view: comma_separated(cast(ComparisonView, view)),
    },
)


def compared(found: Sequence[Looking], asked: Asked) -> LabComparison:
    """The chosen ones of several labs; one that cannot be read is left out."""
    labs = {}
    for lab in found:
        try:
            labs[lab.name] = lab.workspace
        except (AgentLabError, MemoryStoreError):
            continue
    chosen = [name for name in asked.text("lab").split("\n") if name]
    return compare(labs, chosen, games=asked.maybe("games"), against=asked.maybe("against"))
