"""One round as a record: where it stands, what it selected and why, and how it differs from another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentlab.errors import UnknownRound
from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport
from agentlab.rounds.report import save
from agentlab.views.monitors import watched
from agentlab.views.rounds import beside, find_round, funnel, one_round, phases, rounds, settings
from agentlab.views.training_examples import folder_of
from agentlab.workspace.config import LabConfig

CONFIG = RoundConfig(envs=["toy/doors"])


def report(number: int = 1, **fields: object) -> RoundReport:
    return RoundReport.model_validate({"id": f"round-{number}", "number": number, "config": CONFIG, **fields})


def states(found: RoundReport) -> dict[str, str]:
    return {phase.name: phase.state for phase in phases(found)}


def test_a_round_stands_in_one_phase_behind_those_that_are_done() -> None:
    found = states(report(phase="train"))
    decision = "promote or reject"
    assert list(found) == ["collect", "select", "train", "monitor", "gate", "retention", decision, "retire"]
    assert [name for name, state in found.items() if state == "now"] == ["train"]
    assert [name for name, state in found.items() if state == "done"] == ["collect", "select"]
    assert "revise" in states(report(config=CONFIG.model_copy(update={"revise": True})))
    pairs = {"training": {"objective": "dpo"}, "preferences": {"sources": ["judge"]}}
    judged = report(config=RoundConfig.model_validate({"envs": ["toy/doors"], **pairs}), phase="judge")
    assert list(states(judged).items())[:3] == [("collect", "done"), ("judge", "now"), ("select", "next")]
    assert set(states(report(phase="done", promoted=True)).values()) == {"done"}
    assert "promote" in states(report(phase="done", promoted=True))
    assert "reject" in states(report(phase="retire", promoted=False))
    for phase in ("promote", "reject", "balance", "revise"):
        assert [name for name, state in states(report(phase=phase)).items() if state == "now"] == [phase]


def test_of_a_round_that_was_given_up_it_is_seen_how_far_it_came() -> None:
    found = states(report(phase="abandoned", collected={"random": {"tasks": 3, "won": 1}}))
    assert found["collect"] == "done" and found["select"] == found["gate"] == "passed over"
    assert set(states(report(phase="failed")).values()) == {"passed over"}


def test_the_selection_adds_up_from_what_was_considered() -> None:
    found = funnel(
        report(
            collected={"random": {"tasks": 90, "won": 82, "refining": 7}, "odd": {"won": 3}},
            selected={"a": 2, "b": 5},
            left_out={"few": 1, "many": 9},
        )
    )
    assert found.considered == 17
    assert list(found.selected) == ["b", "a"] and list(found.left_out) == ["many", "few"]
    way, odd = found.collected
    assert (way.tasks, way.won, way.cost) == (90, 82, {"refining": 7}) and 0.8 < way.low < 82 / 90 < way.high
    assert (odd.tasks, odd.low, odd.high) == (0, 0.0, 1.0)


def test_settings_say_which_are_otherwise_than_usual() -> None:
    config = RoundConfig.model_validate({"envs": ["x"], "seeds": 7, "gate": {"alpha": 0.01}, "balance": {}})
    changed = {one.name: (one.value, one.default) for one in settings(config) if one.changed}
    assert changed["seeds"] == (7, 40) and changed["gate.alpha"] == (0.01, 0.05)
    assert "envs" not in changed and changed["balance.tasks"] == (10, None)


def test_two_rounds_differ_by_their_settings_and_the_one_before_is_what_is_compared_with(tmp_path: Path) -> None:
    with Lab.open(tmp_path / "lab", create=True, config=LabConfig(embedder="hashing")) as lab:
        for number in (1, 2, 3):
            save(lab, report(number, config=CONFIG.model_copy(update={"seeds": 10 * number})))
        assert [row.id for row in rounds(lab).rounds] == ["round-3", "round-2", "round-1"]
        found = beside(lab, "3")
        assert (found.a.report.id, found.b.report.id) == ("round-2", "round-3")
        assert [(one.name, one.a, one.b) for one in found.settings] == [("seeds", 20, 30)]
        assert beside(lab, "round-1").a.report.id == "round-2"
        assert beside(lab, "round-1", "round-3").a.report.id == "round-3"
        assert find_round(lab, "2").id == "round-2"
        with pytest.raises(UnknownRound, match="did you mean 'round-1'"):
            one_round(lab, "raund-1")


@pytest.mark.parametrize("id", ["..", "../x", "a/b", ""])
def test_no_id_leads_out_of_the_folder_of_jobs(tmp_path: Path, id: str) -> None:
    config = LabConfig(embedder="hashing")
    with Lab.open(tmp_path / "lab", create=True, config=config) as lab, pytest.raises(UnknownRound):
        folder_of(lab, id)


def test_monitors_are_marked_only_where_a_value_is_bad_or_good_by_itself() -> None:
    def marks(**monitors: object) -> dict[str, str]:
        return {figure.name: figure.mark for figure in watched(report(monitors={"k": 4, "s": 2, **monitors})).figures}

    grown, lost = ({"value": v, "n": 9, "low": v - 0.1, "high": v + 0.1} for v in (1.0, 0.0))
    assert marks(drift=grown) == {"drift": "good"} and marks(drift=lost) == {"drift": "bad"}
    assert marks(entropy=lost, evenness={"value": 0.0, "n": 9})["action entropy"] == "bad"
    assert marks(entropy=grown, evenness={"value": 0.4, "n": 9})["action entropy"] == ""
    assert marks(pass_at_1=lost, pass_at_k_s=lost) == {"Pass@1": "", "Pass@4-2": "bad"}
    assert watched(report()).figures == [] and watched(report(monitors={"k": "?"})).figures == []
