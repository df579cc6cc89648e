"""The 2×2, worked out by hand, and played."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agentlab.agent.arms import RecallConfig
from agentlab.agent.rollout import TaskResult, Trial
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import AgentLabError
from agentlab.experiments.evaluation import Table, row
from agentlab.experiments.two_by_two import TwoByTwo, analyse
from agentlab.lab import Lab
from environments import Task
from memory.store import EpisodeFilter
from trainers.adapters.record import AdapterRecord
from trainers.adapters.registry import AdapterRegistry

STATUS = {"w": "won", "l": "lost", "e": "errored"}


def table(**games: tuple[str, str, str, str]) -> Table:
    """For each game the outcomes of old off, old on, new off, new on: `w` won, `l` lost, `e` errored."""
    rows = []
    for place, arm in enumerate(("base", "base + memory", "a", "a + memory")):
        results = [
            TaskResult(Task(env=env, split="test", seed=seed), arm, (Trial("e", STATUS[mark], 0.0, 1),))
            for env, cells in games.items()
            for seed, mark in enumerate(cells[place])
        ]
        rows.append(row(arm, results))
    return Table(envs=list(games), rows=rows)


def test_the_share_is_the_adapters_gain_over_the_memorys_gain() -> None:
    found = analyse("base", "a", table(x=("l" * 40, "w" * 30 + "l" * 10, "w" * 15 + "l" * 25, "w" * 32 + "l" * 8)))
    assert found.cells["old, on"].cells["all"].wins == 30
    assert [found.effect(*which).difference for which in (("memory", "old"), ("adapter", "off"))] == [0.75, 0.375]
    assert [found.effect(*which).difference for which in (("memory", "new"), ("adapter", "on"))] == [
        pytest.approx(0.425),
        pytest.approx(0.05),
    ]
    share = found.internalised
    assert share.value == pytest.approx(0.5)
    assert share.low is not None and share.high is not None and 0.3 < share.low < 0.5 < share.high < 0.7


def test_a_memory_that_may_have_gained_nothing_leaves_no_share() -> None:
    found = analyse("base", "a", table(x=("l" * 19 + "w", "w" * 2 + "l" * 17 + "w", "w" * 20, "w" * 20)))
    assert found.internalised.value is None and found.internalised.below <= 0


def test_games_that_got_credibly_worse_are_listed_with_corrected_p_values() -> None:
    found = analyse(
        "base",
        "a",
        table(
            good=("l" * 20, "w" * 20, "w" * 20, "w" * 20),
            bad=("w" * 20, "w" * 20, "l" * 12 + "w" * 8, "l" * 6 + "w" * 14),
        ),
    )
    assert [(change.env, change.memory) for change in found.changes] == [
        ("bad", "off"), ("bad", "on"), ("good", "on"), ("good", "off"),
    ]  # fmt: skip
    worst, next_worst = found.changes[:2]
    assert worst.paired.p == 2 / 2**12 and worst.p == 3 * worst.paired.p, "the second smallest of four"
    assert next_worst.paired.p == 2 / 2**6 < 0.05 < next_worst.p, "which alone would have seemed credible"
    assert found.regressions == [worst]


def test_a_game_that_errored_anywhere_is_left_out_of_every_comparison() -> None:
    found = analyse("base", "a", table(x=("lle", "wwl", "wlw", "elw")))
    assert found.effect("memory", "old").n == 1 and found.effect("adapter", "on").n == 1
    assert found.cells["old, off"].cells["all"].n == 2, "but every rate has its own n"
    with pytest.raises(AgentLabError, match="played to its end by all four"):
        analyse("base", "a", table(x=("le", "el", "ll", "ll")))


def test_an_environment_may_have_a_colon_in_its_name() -> None:
    cells = ("l" * 20, "w" * 20, "w" * 20, "w" * 20)
    plain, odd = analyse("base", "a", table(x=cells)), analyse("base", "a", table(**{"gym/a:b-v0": cells}))
    assert odd.internalised == plain.internalised and odd.internalised.value == 1.0
    assert [change.paired for change in odd.changes] == [change.paired for change in plain.changes]


def test_it_survives_being_stored() -> None:
    found = analyse("base", "a", table(x=("l" * 9, "w" * 9, "w" * 9, "w" * 9)))
    assert TwoByTwo.model_validate_json(found.model_dump_json()) == found


@pytest.fixture
def lab(open_lab: Callable[..., Lab], note_reader: ScriptedEngine, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab whose base looks around while adapter-b, made after adapter-a, wins; adapter-b serves."""
    monkeypatch.setattr(AdapterRegistry, "folder_of", lambda self, adapter, base=None: Path())
    monkeypatch.setattr(Lab, "fingerprint", "f")
    engine = ScriptedEngine({"look": 0.0}, preferences_by_adapter={"adapter-b": note_reader.preferences})
    lab = open_lab(engine=engine)
    for id, parent in (("adapter-a", None), ("adapter-b", "adapter-a")):
        record = AdapterRecord(id=id, base="b", fingerprint="f", path=id, parent=parent)
        lab.adapters.records.put(record)
    lab.adapters.promote("adapter-b", force=True)
    return lab


def test_four_arms_are_played_on_the_same_games_and_the_same_call_plays_nothing_again(lab: Lab) -> None:
    found = lab.two_by_two("toy/doors", seeds=range(6), old="base")
    assert (found.old, found.new) == ("base", "adapter-b")
    assert [row.arm for row in found.table.rows] == ["base", "base + memory", "adapter-b", "adapter-b + memory"]
    assert found.cells["new, off"].cells["all"].wins == 6
    played = {(episode.arm, episode.seed) for episode in lab.database.episodes.find(EpisodeFilter(split="test"))}
    assert len({arm for arm, _ in played}) == 4 and len(played) == 4 * 6
    before = [row.id for row in lab.database.episodes.find()]
    assert lab.two_by_two("toy/doors", seeds=range(6), old="base") == found
    assert [row.id for row in lab.database.episodes.find()] == before
    assert lab.database.evaluations.all().keys() == {"2x2-test-base-adapter-b"}
    assert not found.same_memory, "the base has examples in its prompt, the adapter none"


def test_both_sides_can_have_all_that_the_base_has(lab: Lab) -> None:
    found = lab.two_by_two("toy/doors", seeds=[0], old="base", same_memory=True)
    assert found.same_memory
    assert lab.database.evaluations.all().keys() == {"2x2-test-base-adapter-b-same"}, "a run of its own"


def test_the_old_side_is_what_the_new_one_came_after(lab: Lab) -> None:
    found = lab.two_by_two("toy/doors", seeds=[0], recall=RecallConfig(exemplars=2))
    assert (found.old, found.new) == ("adapter-a", "adapter-b")
    assert {row.adapter for row in lab.database.episodes.find()} == {"adapter-a", "adapter-b"}
    with pytest.raises(AgentLabError, match="both adapter-b; a 2×2 needs two"):
        lab.two_by_two("toy/doors", old="adapter", new="adapter-b")
