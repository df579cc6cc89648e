"""The pages of rounds: the list, one, two beside each other, and what a round trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pydantic import BaseModel

from agentlab.rounds.report import readable_reports
from agentlab.views.rounds import Beside, Round, beside, find_round, one_round, rounds
from agentlab.views.training_examples import (
    TrainingExample,
    TrainingExamples,
    count,
    folder_of,
    training_example,
    training_examples,
)
from agentlab.web.asked import Asked
from agentlab.web.page import Page, Tab
from agentlab.workspace.workspace import Workspace

TAB = Tab("Rounds", "rounds")

WRITTEN = 20
"""Examples of a round that an export has a page of."""


def _round(lab: Workspace, asked: Asked) -> Round:
    return one_round(lab, asked.text("id"), asked.number("offset", 0))


def _beside(lab: Workspace, asked: Asked) -> Beside:
    return beside(lab, asked.text("id"), asked.text("other"))


def _examples(lab: Workspace, asked: Asked) -> TrainingExamples:
    return training_examples(lab, find_round(lab, asked.text("id")).id, asked.number("offset", 0))


def _example(lab: Workspace, asked: Asked) -> TrainingExample:
    return training_example(lab, find_round(lab, asked.text("id")).id, asked.number("number", 1))


def _name(view: BaseModel) -> str:
    assert isinstance(view, Round)
    return view.report.id


def _ids(lab: Workspace) -> Iterator[Mapping[str, str]]:
    return ({"id": report.id} for report in readable_reports(lab)[0])


def _pairs(lab: Workspace) -> Iterable[Mapping[str, str]]:
    found = list(_ids(lab))
    return found if len(found) > 1 else ()


def _numbers(lab: Workspace) -> Iterator[Mapping[str, str]]:
    for report in readable_reports(lab)[0]:
        for number in range(1, min(WRITTEN, count(folder_of(lab, report.id))) + 1):
            yield {"id": report.id, "number": str(number)}


ROUNDS = Page(
    "/rounds", "rounds.html", lambda lab, asked: rounds(lab, asked.number("offset", 0)), TAB, lambda _: "Rounds"
)
ROUND = Page("/rounds/{id}", "round.html", _round, TAB, _name, _ids)
TWO_ROUNDS = Page("/rounds/{id}/beside", "rounds_beside.html", _beside, TAB, lambda _: "Two rounds", _pairs)
EXAMPLES = Page("/rounds/{id}/examples", "examples.html", _examples, TAB, lambda _: "Examples", _ids)
EXAMPLE = Page("/rounds/{id}/examples/{number}", "example.html", _example, TAB, lambda _: "Example", _numbers)
