"""A round tells OpenTelemetry of its parts, and what is played in one of them belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentlab.errors import AgentLabError
from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport, graph

ENV = "toy/doors?colours=2,rooms=1,step_limit=4"
CONFIG = RoundConfig.model_validate(
    {"envs": [ENV], "seeds": 2, "gate_seeds": 8, "collect": "model", "model_trials": 1, "retire": "off",
     "gate": {"min_pairs": 4, "sequential": False}}
)  # fmt: skip
ROUND = "invoke_workflow round"


def trained(lab: Lab, report: RoundReport) -> str:
    report.adapter = "adapter-good"
    return "gate"


@pytest.fixture
def lab(skilled: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A lab whose rounds explore and stand at their gate, and are given what they would train."""
    monkeypatch.setitem(graph.NODES, "select", lambda lab, report: "train")
    monkeypatch.setitem(graph.NODES, "train", trained)
    monkeypatch.setitem(graph.NODES, "retention", lambda lab, report: "promote")
    graph._builder.cache_clear()
    yield skilled()
    graph._builder.cache_clear()


def test_the_parts_of_a_round_are_spans_within_it(lab: Lab, traced: Any) -> None:
    report = lab.round(CONFIG)
    assert report.promoted
    parts = [span for span in traced.spans if span.parent and traced.above(span)[0].name == ROUND]
    assert [part.name for part in parts] == ["collect", "select", "train", "gate", "retention", "promote", "retire"]
    assert [part.attributes["agentlab.next"] for part in parts] == [*(part.name for part in parts[1:]), "done"]
    (whole,) = traced.named(ROUND)
    assert whole.parent is None and whole.attributes["gen_ai.operation.name"] == "invoke_workflow"
    assert (whole.attributes["agentlab.round"], whole.attributes["agentlab.promoted"]) == ("round-1", True)
    assert whole.attributes["agentlab.candidate"] == "adapter-good"


def test_what_a_part_plays_belongs_to_it(lab: Lab, traced: Any) -> None:
    lab.round(CONFIG)
    paths = {traced.path(span) for span in traced.named("invoke_agent")}
    assert paths == {
        f"{ROUND} > collect > invoke_agent explorer",
        f"{ROUND} > gate > invoke_agent base",
        f"{ROUND} > gate > invoke_agent candidate adapter-good",
    }
    models = {span.attributes["gen_ai.request.model"] for span in traced.named("text_completion")}
    assert models == {"scripted", "scripted+adapter-good"}, "what was trained is another model"


def test_a_part_that_fails_says_so(lab: Lab, traced: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(lab: Lab, report: RoundReport) -> str:
        raise AgentLabError("There is nothing to train on.")

    monkeypatch.setitem(graph.NODES, "train", refuses)
    graph._builder.cache_clear()
    with pytest.raises(AgentLabError):
        lab.round(CONFIG)
    failed = {span.name: span.attributes["error.type"] for span in traced.spans if span.status.status_code.value == 2}
    assert failed == {"train": "AgentLabError", ROUND: "AgentLabError"}
