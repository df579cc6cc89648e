"""The gate of a merge: better than what serves, on all families, and no skill lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import AgentLabError, BadConfig, Stopped, Undecided
from agentlab.lab import Lab
from agentlab.progress import Progress
from agentlab.rounds import merge_gate
from agentlab.rounds.challenges import MERGES, fresh_seeds, next_challenge
from agentlab.rounds.merge_gate import gate_merge, merge
from agentlab.workspace.lineage import families, trained_on
from environments import Task, make
from environments.toy import Doors
from memory.records import Episode
from memory.store import EpisodeFilter
from trainers.adapters.merging import MergeConfig
from trainers.gate.gate import GateConfig

ONE, TWO = "toy/doors?rooms=1,step_limit=6", "toy/doors?step_limit=6"
SEEDS, QUICK = range(8), GateConfig(min_pairs=10)


def only(rooms: int, plays: Any) -> Callable[[str, str], float]:
    """A script that wins games of so many rooms: it opens no door more, and takes no coin before."""

    def script(transcript: str, command: str) -> float:
        opened = transcript.count("> open")
        wrong = command.startswith("open ") if opened == rooms else command == "take coin"
        return -99.0 if wrong else float(plays(transcript, command))

    return script


@pytest.fixture
def lab(open_lab: Callable[..., Lab], tiny_model: Path, lived: Callable[..., Episode], step: Any) -> Lab:
    """A scripted lab with an episode of either family."""
    made = open_lab(model=str(tiny_model))
    for id, env in (("one", ONE), ("two", TWO)):
        made.database.episodes.put(lived(step(0, "look"), id=id, env=env))
    return made


@pytest.fixture
def three(lab: Lab, add_skill: Callable[..., str], note_reader: ScriptedEngine) -> tuple[str, str, str]:
    """A skill for one room, one for two, and their merge, which can both; the base can nothing."""
    one, two = add_skill(lab, "one", seed=1), add_skill(lab, "two", seed=2)
    both = merge(lab, [one, two]).id
    plays = note_reader.preferences
    note_reader.by_adapter = {"": {"look": 0.0}, one: only(1, plays), two: only(2, plays), both: plays}  # type: ignore[dict-item]
    return one, two, both


def test_an_adapter_knows_its_families_and_a_merge_those_of_its_parents(lab: Lab, three: tuple[str, str, str]) -> None:
    assert [families(lab, id) for id in three] == [[ONE], [TWO], sorted([ONE, TWO])]
    assert families(lab, three[0], three[1]) == sorted([ONE, TWO]) and families(lab) == []
    assert [row.episode for row in trained_on(lab, three[2])] == ["one", "two"]


def test_a_merge_that_is_better_and_lost_nothing_serves(lab: Lab, three: tuple[str, str, str]) -> None:
    one, two, both = three
    found = gate_merge(lab, both, seeds=SEEDS, config=QUICK)
    assert found.promoted and lab.serving() == both == found.adapter and found.incumbent == "base"
    assert (found.gate.candidate.won, found.gate.incumbent.won, found.gate.paired.n) == (16, 0, 16)
    assert set(found.gate.envs) == {ONE, TWO}
    assert [(kept.parent, kept.env, kept.paired.both, kept.lost) for kept in found.kept] == [
        (one, ONE, 8, False),
        (two, TWO, 8, False),
    ]
    record = lab.adapters.get(both)
    assert record.status == "promoted" and record.gate == found.gate and not record.forced
    assert {row.split for row in lab.database.episodes.find(EpisodeFilter(run=f"gate-{both}"))} == {"dev"}


def test_a_merge_that_lost_a_skill_is_rejected_although_it_beats_what_serves(
    lab: Lab, three: tuple[str, str, str], note_reader: ScriptedEngine
) -> None:
    one, two, both = three
    note_reader.by_adapter[both] = note_reader.by_adapter[one]
    found = gate_merge(lab, both, seeds=range(10), config=QUICK)
    assert found.gate.candidate.won == 10 and found.gate.paired.p < 0.05
    assert not found.promoted and not found.gate.promote and found.gate.regressions == [TWO]
    assert f"a skill was lost in the merge: {TWO} (-100 points to {two})" in found.gate.reason
    assert lab.serving() is None and lab.adapters.get(both).status == "rejected"
    assert [kept.lost for kept in found.kept] == [False, True]


def test_a_loss_counts_only_where_regressions_are_refused(
    lab: Lab, three: tuple[str, str, str], note_reader: ScriptedEngine
) -> None:
    note_reader.by_adapter[three[2]] = note_reader.by_adapter[three[0]]
    config = GateConfig(min_pairs=10, refuse_regressions=False)
    assert gate_merge(lab, three[2], seeds=range(10), config=config).promoted


def test_a_merge_is_compared_with_the_parent_that_serves(lab: Lab, three: tuple[str, str, str]) -> None:
    one, _, both = three
    lab.adapters.promote(one, force=True)
    found = gate_merge(lab, both, seeds=SEEDS, config=QUICK)
    assert found.incumbent == one and found.promoted
    assert (found.gate.incumbent.won, found.gate.paired.only_a) == (8, 8)
    assert [row.arm for row in found.table.rows] == [one, both, three[1]]
    before = [row.id for row in lab.database.episodes.find()]
    assert gate_merge(lab, both, seeds=SEEDS, config=QUICK) == found, "as after a kill at the very end"
    assert [row.id for row in lab.database.episodes.find()] == before


def test_a_merge_that_serves_without_its_gate_cannot_be_compared(lab: Lab, three: tuple[str, str, str]) -> None:
    lab.adapters.promote(three[2], force=True)
    with pytest.raises(AgentLabError, match="serves already"):
        gate_merge(lab, three[2], seeds=SEEDS, config=QUICK)


def test_a_merge_is_not_promoted_over_what_it_was_not_compared_with(
    lab: Lab, three: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    played = merge_gate.evaluate

    def meanwhile(*arguments: Any, **settings: Any) -> Any:
        table = played(*arguments, **settings)
        lab.adapters.promote(three[0], force=True)
        return table

    monkeypatch.setattr(merge_gate, "evaluate", meanwhile)
    with pytest.raises(AgentLabError, match="was promoted meanwhile"):
        gate_merge(lab, three[2], seeds=SEEDS, config=QUICK)
    assert lab.serving() == three[0]


def test_a_gate_that_was_stopped_goes_on_where_it_was(
    open_lab: Callable[..., Lab], lab: Lab, three: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stops(Progress):
        left = 20

        def advance(self, stage: str, units: int = 1, note: str = "") -> None:
            self.left -= units
            if not self.left:
                raise KeyboardInterrupt

    monkeypatch.setattr(lab, "progress", Stops())
    with pytest.raises(Stopped):
        gate_merge(lab, three[2], seeds=SEEDS, config=QUICK)
    first = {row.id for row in lab.database.episodes.find()}
    assert lab.adapters.get(three[2]).status == "candidate" and 20 <= len(first) < 66
    assert gate_merge(lab, three[2], seeds=SEEDS, config=QUICK).promoted
    rows = lab.database.episodes.find(EpisodeFilter(run=f"gate-{three[2]}"))
    assert first - {"one", "two"} <= {row.id for row in rows} and len(rows) == 64


def test_a_second_merge_is_gated_on_other_games_and_must_show_more(
    lab: Lab, three: tuple[str, str, str], note_reader: ScriptedEngine
) -> None:
    one, two, both = three
    weak = merge(lab, [one, two], MergeConfig(weights=(0.5, 0.5))).id
    note_reader.by_adapter[weak] = note_reader.by_adapter[""]
    assert not gate_merge(lab, weak, config=QUICK).promoted
    with pytest.raises(BadConfig, match="seen at an earlier gate"):
        gate_merge(lab, both, seeds=range(19, 22), config=QUICK)
    found = gate_merge(lab, both, config=QUICK)
    assert (found.promoted, found.gate.challenge) == (True, 2)
    seeds = [{row.seed for row in lab.database.episodes.find(EpisodeFilter(run=f"gate-{id}"))} for id in (weak, both)]
    assert seeds == [{*range(20)}, {*range(20, 40)}]
    assert gate_merge(lab, both, config=QUICK) == found, "asked again it tells the same"


def test_a_merge_is_not_gated_on_games_that_begin_like_those_it_was_trained_on(
    lab: Lab, three: tuple[str, str, str], lived: Callable[..., Episode], step: Any
) -> None:
    env = make(ONE)
    seen, info = env.start(Task(env=ONE, split="dev", seed=2))
    begun = step(0, "look").model_copy(update={"observation": seen})
    lab.database.episodes.put(lived(begun, id="one", env=ONE, goal=str(info["goal"])))
    alike = [seed for seed in range(40) if env.start(Task(env=ONE, split="dev", seed=seed))[0] == seen]
    gate_merge(lab, three[2], config=QUICK)
    played = {row.seed for row in lab.database.episodes.find(EpisodeFilter(run=f"gate-{three[2]}"))}
    assert 2 in alike and len(played) == 20 and played.isdisjoint(alike)


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """How often each dev game of the toy cannot begin, from now on."""
    left: dict[int, int] = {}
    begin = Doors.begin

    def begins(env: Doors, task: Task) -> Any:
        if task.split == "dev" and left.get(task.seed, 0) > 0:
            left[task.seed] -= 1
            raise RuntimeError("a hiccup")
        return begin(env, task)

    monkeypatch.setattr(Doors, "begin", begins)
    return left


def test_a_game_that_errors_once_does_not_reject_a_merge(
    lab: Lab, three: tuple[str, str, str], fails: dict[int, int]
) -> None:
    fails[2] = 1
    found = gate_merge(lab, three[2], seeds=SEEDS, config=GateConfig(min_pairs=16))
    assert found.promoted and (found.gate.errored, found.gate.paired.n) == (0, 16)


def test_a_merge_is_not_rejected_for_games_that_errored_and_the_same_call_repairs_them(
    lab: Lab, three: tuple[str, str, str], fails: dict[int, int]
) -> None:
    fails[2] = 99
    with pytest.raises(Undecided, match="a hiccup") as told:
        gate_merge(lab, three[2], seeds=SEEDS, config=GateConfig(min_pairs=16))
    assert "\n" not in str(told.value) and lab.adapters.get(three[2]).status == "candidate"
    fails.clear()
    found = gate_merge(lab, three[2], seeds=SEEDS, config=GateConfig(min_pairs=16))
    assert found.promoted and (found.gate.challenge, found.gate.paired.n) == (1, 16)


def test_what_errored_and_could_turn_nothing_does_not_hold_a_merge_up(
    lab: Lab, three: tuple[str, str, str], fails: dict[int, int]
) -> None:
    fails[2] = 99
    found = gate_merge(lab, three[2], seeds=SEEDS, config=QUICK)
    assert found.promoted and (found.gate.errored, found.gate.paired.n) == (2, 14)


def test_a_gate_that_could_never_pass_is_refused_before_anything_is_played(
    lab: Lab, three: tuple[str, str, str]
) -> None:
    with pytest.raises(BadConfig, match=r"\b10\b.*\b20\b"):
        gate_merge(lab, three[2], seeds=range(30, 35))
    assert next_challenge(lab) == 1 and fresh_seeds(lab, [ONE, TWO], 1) == [0]
    assert (
        not lab.database.episodes.find(EpisodeFilter(run=f"gate-{three[2]}"))
        and lab.adapters.get(three[2]).status == "candidate"
    )


def as_before(lab: Lab, merged: str) -> None:
    """The gate of a merge as an earlier version kept it: the evaluation and its episodes alone."""
    lab.database.connection.execute("DELETE FROM journal WHERE scope = ?", [MERGES])
    table = lab.database.evaluations.get(f"gate-{merged}")
    assert table is not None
    del table["about"]["arms"]
    lab.database.evaluations.put(f"gate-{merged}", table)


def test_a_gate_of_an_earlier_version_counts_and_its_games_have_been_seen(
    lab: Lab, three: tuple[str, str, str], note_reader: ScriptedEngine
) -> None:
    note_reader.by_adapter[three[2]] = {"look": 0.0}
    assert not gate_merge(lab, three[2], seeds=SEEDS, config=QUICK).promoted
    as_before(lab, three[2])
    assert (next_challenge(lab), fresh_seeds(lab, [ONE, TWO], 2)) == (2, [8, 9])
    with pytest.raises(BadConfig, match="Dev game 7 has been seen"):
        gate_merge(lab, three[2], seeds=range(7, 15), config=QUICK)
    again = gate_merge(lab, three[2], seeds=range(8, 16), config=QUICK)
    assert again.gate.challenge == 2 and next_challenge(lab) == 3


def test_a_promotion_by_an_earlier_version_is_told_again(lab: Lab, three: tuple[str, str, str]) -> None:
    found = gate_merge(lab, three[2], seeds=SEEDS, config=QUICK)
    as_before(lab, three[2])
    before = [row.id for row in lab.database.episodes.find()]
    assert gate_merge(lab, three[2], config=QUICK).gate == found.gate and found.promoted
    assert [row.id for row in lab.database.episodes.find()] == before and next_challenge(lab) == 1


def test_further_environments_are_played_too(lab: Lab, three: tuple[str, str, str]) -> None:
    further = "toy/doors?colours=2,rooms=1,step_limit=6"
    found = gate_merge(lab, three[2], [further], seeds=range(4), config=QUICK)
    assert set(found.table.envs) == {ONE, TWO, further} and found.gate.paired.n == 12


def test_what_cannot_be_gated_is_refused(lab: Lab, three: tuple[str, str, str], add_skill: Callable[..., str]) -> None:
    with pytest.raises(BadConfig, match="was trained, not merged"):
        gate_merge(lab, three[0])
    strange = merge(lab, [three[0], add_skill(lab, "elsewhere", seed=3)], MergeConfig(method="linear")).id
    with pytest.raises(BadConfig, match="its families are not known"):
        gate_merge(lab, strange)
    with Lab.open(lab.folder, write=False) as looking, pytest.raises(AgentLabError, match="opened for looking only"):
        merge(looking, list(three[:2]))
