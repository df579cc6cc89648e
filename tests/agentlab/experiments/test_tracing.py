"""What is measured is told as one work, with a run for each arm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from agentlab.lab import Lab


def test_an_evaluation_has_a_run_for_each_arm(open_lab: Callable[..., Lab], traced: Any) -> None:
    table = open_lab().evaluate("toy/doors", seeds=range(2), arms=["random", "base"])
    whole = "invoke_workflow evaluation"
    paths = Counter(traced.path(span) for span in traced.spans if span.name.startswith("invoke_"))
    assert paths == {
        whole: 1,
        f"{whole} > invoke_workflow run": 2,
        f"{whole} > invoke_workflow run > invoke_agent random": 2,
        f"{whole} > invoke_workflow run > invoke_agent base": 2,
    }
    (evaluation,) = traced.named(whole)
    assert evaluation.attributes["agentlab.evaluation"] == table.about["name"]
    assert evaluation.attributes["agentlab.arms"] == ("random", "base")
    runs = [run.attributes for run in traced.named("invoke_workflow run")]
    assert [(run["agentlab.arm"], run["agentlab.won"]) for run in runs] == [
        (row.arm, row.cells["all"].wins) for row in table.rows
    ]
