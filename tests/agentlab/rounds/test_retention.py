"""What the gate lets through is looked at on the families of other adapters, too."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import Stopped
from agentlab.experiments.forgetting import RUN
from agentlab.lab import Lab
from agentlab.rounds import RoundReport
from agentlab.rounds.gating import gate
from agentlab.rounds.retention import Retention, _outside, check_retention
from environments import Task, easier
from environments.toy import Doors
from memory.records import Episode
from memory.store import EpisodeFilter
from trainers.adapters.record import AdapterRecord
from trainers.job import Lineage

Opened = Callable[..., Lab]
Made = Callable[..., RoundReport]
HERE = "toy/doors?colours=2,rooms=1,step_limit=4"
AWAY = "toy/doors?rooms=1,step_limit=4"
SETTINGS: dict[str, Any] = {"envs": [HERE], "gate_seeds": 12, "gate": {"min_pairs": 6}}


def wins_with(*doors: int) -> Callable[[str, str], float]:
    """Reads the note, opens the door that it names and takes the coin, where as many doors stand; else looks around."""

    def script(transcript: str, command: str) -> float:
        first = re.search("You see a note, ([^.]*)", transcript)
        if first is not None and first[1].count(" door") not in doors:
            return 0.0 if command == "look" else -9.0
        last = transcript.rstrip(">").rstrip().splitlines()[-1]
        if command.startswith("open "):
            return 0.0 if f"the {command.removeprefix('open ')} is safe" in last else -9.0
        return {"take coin": 0.0, "read note": -1.0}.get(command, -5.0)

    return script


@pytest.fixture
def opened(skilled: Opened, lived: Callable[..., Episode], step: Any) -> Callable[..., Lab]:
    """Opens a lab whose incumbent, adapter-old, learned AWAY and wins only there; adapter-new wins only HERE."""

    def made(name: str = "lab", families: Sequence[str] = (AWAY,), progress: Any = None) -> Lab:
        lab = skilled(name, progress)
        engine = lab.engine
        assert isinstance(engine, ScriptedEngine)
        engine.by_adapter = {"adapter-new": wins_with(2), "adapter-old": wins_with(3)}
        episodes = [lived(step(0, "look"), id=f"ep-{number}", env=env) for number, env in enumerate(families)]
        for episode in episodes:
            lab.database.episodes.put(episode)
        for id, learned in (("adapter-old", [episode.id for episode in episodes]), ("adapter-new", [])):
            record = AdapterRecord(
                id=id, base="b", fingerprint="f", path=f"adapters/{id}", lineage=Lineage(episodes=learned)
            )
            lab.adapters.records.put(record)
        return lab

    return made


@pytest.fixture
def gated(report: Made) -> Callable[..., RoundReport]:
    """The report of a round whose gate is passed."""

    def made(lab: Lab, adapter: str = "adapter-new", incumbent: str | None = "adapter-old", **more: Any) -> RoundReport:
        found = report(adapter, **{**SETTINGS, **more}).model_copy(update={"incumbent": incumbent})
        lab.database.rounds.put(found.id, found.model_dump(mode="json"))
        gate(lab, found)
        return found

    return made


def played(lab: Lab) -> Counter[tuple[str, str]]:
    return Counter((row.env, row.adapter or "base") for row in lab.database.episodes.find(EpisodeFilter(run=RUN)))


def test_a_round_that_lost_an_earlier_game_is_refused_and_told(
    opened: Callable[..., Lab], gated: Callable[..., RoundReport], told: Any
) -> None:
    lab = opened(progress=told)
    report = gated(lab)
    assert report.gate["promote"], "the gate saw nothing of that game"
    assert check_retention(lab, report) == "reject"
    kept = Retention.model_validate(report.forgetting)
    assert (kept.adapter, kept.against, kept.lost) == ("adapter-new", "adapter-old", [AWAY])
    assert (kept.outside[AWAY].only_a, kept.outside[AWAY].only_b, kept.outside[AWAY].n) == (0, 10, 10)
    assert [(loss.env, loss.forgotten) for loss in kept.losses if loss.paired.difference < 0] == [(AWAY, True)]
    assert report.gate["promote"] is False and report.gate["regressions"] == [AWAY]
    assert "better: " in report.gate["reason"] and "worse than adapter-old outside the gate" in report.gate["reason"]
    (line,) = [message for message in told.messages if "LOST" in message]
    assert line == f"adapter-new LOST what adapter-old can on {AWAY} (-100 points), so it is refused."
    assert played(lab) == {(AWAY, "adapter-old"): 10, (AWAY, "adapter-new"): 10}


def test_where_regressions_are_not_refused_it_is_told_and_serves(
    opened: Callable[..., Lab], gated: Callable[..., RoundReport], told: Any
) -> None:
    lab = opened(progress=told)
    report = gated(lab, gate={"min_pairs": 6, "refuse_regressions": False})
    assert check_retention(lab, report) == "promote"
    assert report.gate["promote"] is True and report.forgetting["lost"] == [AWAY]
    assert any(message.endswith("it serves all the same.") for message in told.messages)


def test_what_keeps_the_other_game_is_promoted(opened: Callable[..., Lab], gated: Callable[..., RoundReport]) -> None:
    lab = opened()
    engine = lab.engine
    assert isinstance(engine, ScriptedEngine)
    engine.by_adapter["adapter-new"] = wins_with(2, 3)
    report = gated(lab)
    assert check_retention(lab, report) == "promote" and report.forgetting["lost"] == []
    assert report.forgetting["outside"][AWAY]["n"] == 10


@pytest.mark.parametrize("after", [1, 9, 14])
def test_stopped_and_called_again_it_decides_as_an_unbroken_one(
    opened: Callable[..., Lab], gated: Callable[..., RoundReport], breaks: Any, after: int
) -> None:
    whole_lab, lab = opened("unbroken"), opened("broken", progress=breaks("adapter-", after))
    whole, report = gated(whole_lab), gated(lab)
    with pytest.raises(Stopped):
        check_retention(lab, report)
    assert report.forgetting == {}
    assert check_retention(lab, report) == check_retention(whole_lab, whole) == "reject"
    assert (report.forgetting, report.gate) == (whole.forgetting, whole.gate)
    assert played(lab) == played(whole_lab)


def test_a_decision_that_was_written_before_a_kill_stands(
    opened: Callable[..., Lab], gated: Callable[..., RoundReport]
) -> None:
    lab = opened()
    report = gated(lab)
    check_retention(lab, report)
    again = RoundReport.model_validate(report.model_dump(mode="json"))
    assert check_retention(lab, again) == "reject" and again == report


@pytest.mark.parametrize(("at_gate", "left"), [(10, 0), (4, 6)])
def test_games_that_were_played_at_an_earlier_gate_are_not_played_again(
    opened: Callable[..., Lab], gated: Callable[..., RoundReport], report: Made, at_gate: int, left: int
) -> None:
    """A sequential gate often stops before it has played as many games as are looked at here."""
    lab = opened()
    earlier = report("adapter-old", envs=[AWAY], gate_seeds=at_gate, gate={"min_pairs": 4, "sequential": False})
    earlier = earlier.model_copy(update={"id": "round-0", "number": 0, "phase": "done"})
    gate(lab, earlier)
    lab.database.rounds.put(earlier.id, earlier.model_dump(mode="json"))
    late = gated(lab)
    assert check_retention(lab, late) == "reject" and late.forgetting["outside"][AWAY]["only_b"] == 10
    assert played(lab) == Counter({(AWAY, "adapter-new"): 10, (AWAY, "adapter-old"): left})


def test_nothing_is_played_where_the_gate_covered_all_families_or_it_is_turned_off(
    opened: Callable[..., Lab], gated: Callable[..., RoundReport]
) -> None:
    lab = opened("covered", families=[HERE])
    report = gated(lab)
    assert check_retention(lab, report) == "promote" and played(lab) == {}
    assert [(loss["env"], loss["best"]) for loss in report.forgetting["losses"]] == [(HERE, "adapter-old")]
    lab = opened("off")
    report = gated(lab, forgetting={"seeds": 0})
    assert check_retention(lab, report) == "promote" and played(lab) == {} and report.forgetting == {}


def test_an_easier_variant_that_another_adapter_learned_is_looked_at_though_a_ladder_leads_to_it(
    opened: Callable[..., Lab], report: Made
) -> None:
    lab = opened(families=[HERE])
    asked = {"envs": [AWAY], "ladder": True}
    assert easier(AWAY) == HERE
    assert list(_outside(lab, report("adapter-new", **asked), {})) == [HERE]
    assert not _outside(lab, report("adapter-old", **asked), {}), "it has learned it itself"


def test_of_a_rejected_candidate_nothing_is_played_but_what_serves_on_is_measured(
    opened: Callable[..., Lab], gated: Callable[..., RoundReport]
) -> None:
    lab = opened()
    report = gated(lab, "adapter-old", "adapter-new")
    assert check_retention(lab, report) == "reject"
    assert report.forgetting["adapter"] == "adapter-new" and report.forgetting["outside"] == {}
    assert played(lab) == {(AWAY, "adapter-new"): 10}
    base = gated(opened("base"), "adapter-old", None)
    assert check_retention(lab, base) == "reject" and base.forgetting == {}, "the base has forgotten nothing"


def test_a_family_that_can_no_longer_be_made_is_told_and_stands_in_nobodys_way(
    opened: Callable[..., Lab], gated: Callable[..., RoundReport], told: Any
) -> None:
    lab = opened(families=["gone/game"], progress=told)
    report = gated(lab)
    assert check_retention(lab, report) == "promote"
    assert "gone/game" in report.forgetting["unplayable"]
    assert any("adapter-new" in message and "gone/game" in message for message in told.messages)


def test_a_round_that_stands_at_its_gate_is_killed_while_it_looks_and_ends_refused(
    opened: Callable[..., Lab], report: Made, breaks: Any
) -> None:
    """It stands there as one of a lab that knew no such look."""
    lab = opened(progress=breaks("adapter-new", 4))
    waiting = report("adapter-new", **SETTINGS).model_copy(update={"incumbent": "adapter-old"})
    lab.database.rounds.put(waiting.id, waiting.model_dump(mode="json", exclude={"forgetting"}))
    with pytest.raises(Stopped):
        lab.round(waiting.config)
    (stopped,) = lab.rounds()
    assert (stopped.phase, stopped.gate["promote"]) == ("retention", True)
    ended = lab.round(waiting.config)
    assert (ended.phase, ended.promoted, ended.forgetting["lost"]) == ("done", False, [AWAY])
    record = lab.adapters.get("adapter-new")
    assert record.status == "rejected" and record.gate is not None and record.gate.regressions == [AWAY]


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many games of AWAY cannot begin, from now on."""
    left = [0]
    begin = Doors.begin

    def begins(env: Doors, task: Task) -> Any:
        if task.env == AWAY and left[0] > 0:
            left[0] -= 1
            raise RuntimeError("a hiccup")
        return begin(env, task)

    monkeypatch.setattr(Doors, "begin", begins)
    return left


def test_a_game_that_errors_once_hides_no_loss(
    opened: Callable[..., Lab], gated: Callable[..., RoundReport], fails: list[int]
) -> None:
    lab = opened()
    report = gated(lab)
    fails[0] = 6
    assert check_retention(lab, report) == "reject"
    assert (report.forgetting["lost"], report.forgetting["outside"][AWAY]["n"]) == ([AWAY], 10)


def test_where_errors_could_hide_a_loss_that_is_told_and_stands_in_nobodys_way(
    opened: Callable[..., Lab], gated: Callable[..., RoundReport], fails: list[int], told: Any
) -> None:
    lab = opened(progress=told)
    report = gated(lab)
    fails[0] = 999
    assert check_retention(lab, report) == "promote" and report.forgetting["lost"] == []
    assert AWAY in report.forgetting["unplayable"]
    assert any("adapter-new" in message and AWAY in message for message in told.messages)
