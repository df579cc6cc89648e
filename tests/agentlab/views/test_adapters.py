"""An adapter as a record: its lineage in counts, from the reflections behind it to where it was measured."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentlab.lab import Lab
from agentlab.views.adapters import Adapter, adapter, adapters
from agentlab.workspace.config import LabConfig
from memory.records import Episode, Recall, Reflection
from trainers import Lineage, Merge
from trainers.adapters import AdapterRecord
from trainers.gate import decide

TASKS = [f"toy/doors:dev:{seed}" for seed in range(30)]
WON, LOST = dict.fromkeys(TASKS, True), dict.fromkeys(TASKS, False)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.open(tmp_path_factory.mktemp("lab") / "lab", create=True, config=LabConfig(embedder="hashing")) as lab:
        for number in range(9):
            fields = {"id": f"ep-{number}", "run": "r", "env": f"toy/{'ab'[number > 5]}", "split": "train"}
            lab.database.episodes.put(Episode.model_validate({**fields, "seed": number, "status": "won"}))
        lab.database.reflections.put(Reflection(id="rf-1", kind="k", env="toy/a", task="t", run="r", text="x"))
        recalls = [
            Recall(episode=id, reflection="rf-1", channel="advice", rank=0, query="q", score=1.0)
            for id in ("ep-0", "ep-7")
        ]
        lab.database.recalls.put(recalls)
        for number, run in enumerate(["eval-1", "eval-1", "round-1-gate", "later"]):
            fields = {"id": f"p-{number}", "run": run, "env": "toy/a", "split": "test", "adapter": "adapter-a"}
            status = "won" if number else "lost"
            lab.database.episodes.put(Episode.model_validate({**fields, "seed": number, "status": status}))
        lab.database.evaluations.put("eval-1", {})
        put(lab, "adapter-a", Lineage(round="round-1", episodes=[f"ep-{n}" for n in range(10)]), gate=decide(WON, LOST))
        put(lab, "adapter-b", Lineage(round="round-2", parent="adapter-a"), parent="adapter-a", gate=decide(LOST, WON))
        merged = Merge(method="linear", weights={"adapter-a": 0.5, "adapter-b": 2}, rank=8, error=0, truncation=0)
        put(lab, "adapter-m", Lineage(merge=merged))
        yield lab


def put(lab: Lab, id: str, lineage: Lineage, **fields: object) -> None:
    record = {"id": id, "base": "SmolLM2-135M-Instruct", "fingerprint": "f", "path": f"adapters/{id}", **fields}
    training = {"training": {"examples": 10}, "settings": {"rank": 24, "objective": "sft"}} if lineage.round else {}
    lab.adapters.records.put(AdapterRecord.model_validate({**record, **training, "lineage": lineage}))


def nodes(found: Adapter) -> list[tuple[str, str, str, int]]:
    return [(node.kind, node.id, node.label, node.column) for node in found.graph.nodes]


def test_the_lineage_goes_from_reflections_to_evaluations_in_counts(lab: Lab) -> None:
    found = adapter(lab, "adapter-a")
    assert nodes(found) == [
        ("reflections", "", "1 reflection", 0),
        ("episodes", "toy/a", "6 episodes", 1),
        ("episodes", "toy/b", "3 episodes", 1),
        ("episodes", "", "1 episode", 1),
        ("examples", "round-1", "10 examples", 2),
        ("round", "round-1", "round-1", 3),
        ("adapter", "adapter-a", "adapter-a", 4),
        ("evaluation", "eval-1", "eval-1", 5),
        ("gate", "round-1-gate", "round-1-gate", 5),
        ("play", "later", "later", 5),
    ]
    assert found.known.reflections == {"rf-1": 2} and found.known.missing == ["ep-9"]
    assert (found.children, found.merged_into) == (["adapter-b"], ["adapter-m"])
    assert "evaluation: won 1 of 2" in [node.note for node in found.graph.nodes]


def test_each_node_leads_into_all_of_the_next_column_that_has_any(lab: Lab) -> None:
    graph = adapter(lab, "adapter-m").graph
    assert [node.id for node in graph.nodes] == ["adapter-a", "adapter-b", "adapter-m"]
    ends = [(graph.by_key[edge.source].id, graph.by_key[edge.target].id) for edge in graph.edges]
    assert ends == [("adapter-a", "adapter-m"), ("adapter-b", "adapter-m")]


def test_many_of_a_kind_are_one_node(lab: Lab) -> None:
    for number in range(9):
        fields = {"id": f"q-{number}", "run": f"run-{number}", "env": "toy/a", "split": "test", "adapter": "adapter-b"}
        lab.database.episodes.put(Episode.model_validate({**fields, "seed": 0, "status": "won"}))
    found = adapter(lab, "adapter-b").graph
    assert [node.label for node in found.nodes if node.column == 5][-1] == "3 more" and found.rows == 7


def test_what_stands_against_a_promotion_is_said(lab: Lab) -> None:
    refusals = [adapter(lab, f"adapter-{name}").refusal for name in "abm"]
    assert refusals[0] == "" and "not better" in refusals[1] and "not evaluated" in refusals[2]


def test_the_lines_that_use_it_elsewhere_name_its_base_its_rank_and_its_folder(lab: Lab) -> None:
    found = adapter(lab, "adapter-a")
    assert str(lab.folder) in found.export and "adapters export adapter-a" in found.export
    assert "vllm serve HuggingFaceTB/SmolLM2-135M-Instruct" in found.serve and "--max-lora-rank 32" in found.serve
    compile(found.load, "load", "exec")
    assert "rank 8" not in found.serve and "--max-lora-rank 8" in adapter(lab, "adapter-m").serve


def test_the_list_knows_what_serves_and_what_would_come_back(lab: Lab) -> None:
    assert [row.id for row in adapters(lab).adapters] == ["adapter-m", "adapter-b", "adapter-a"]
    assert (adapters(lab).serving, adapters(lab).can_roll_back) == (None, False)
    lab.database.settings.put("serving adapter", "adapter-b")
    lab.database.settings.put("adapters that served before", [None, "adapter-a"])
    assert (adapters(lab).can_roll_back, adapters(lab).before) == (True, "adapter-a")
    assert adapter(lab, "adapter-b").can_roll_back and not adapter(lab, "adapter-a").can_roll_back
