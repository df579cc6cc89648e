"""A society: agents that play a game by turns, of whom the critics see what the generators came to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentlab.agent.arms import society_arm
from agentlab.agent.experimental.society import attempts
from agentlab.agent.rollout import rollout_of
from agentlab.agent.society import Society, parse, serving, trained
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import AgentLabError, BadConfig
from agentlab.lab import Lab
from environments import Task
from memory.records import Episode, Step
from trainers import Lineage, Member
from trainers.adapters.record import AdapterRecord
from trainers.adapters.registry import AdapterRegistry

Played = Callable[..., Episode]
ENV = "toy/doors?colours=2,rooms=1,step_limit=4"


def words(text: str) -> int:
    return len(text.split())


@pytest.fixture
def society(open_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab with the agents of a round: one generator and both critics learned something."""
    monkeypatch.setattr(AdapterRegistry, "folder_of", lambda self, adapter, base=None: Path())
    monkeypatch.setattr(Lab, "fingerprint", "f")
    takes = {"adapter-c1": {"take coin": 0.0}, "adapter-c2": {"read note": 0.0}, "adapter-g2": {"open red door": 0.0}}
    lab = open_lab(engine=ScriptedEngine({"look": 0.0}, preferences_by_adapter=takes))
    for id, kind, number in (("adapter-g2", "generator", 2), ("adapter-c1", "critic", 1), ("adapter-c2", "critic", 2)):
        member = Member(kind=kind, number=number, agents=2, temperature=0.01)  # type: ignore[arg-type]
        lineage = Lineage(round="round-1", member=member)
        lab.adapters.records.put(AdapterRecord(id=id, base="b", fingerprint="f", path=id, lineage=lineage))
    return lab


def test_agents_play_by_turns_and_only_critics_see_what_generators_came_to() -> None:
    three = Society(("a", "b", "c"), ("d", "e", None))
    assert [three.adapter(trial) for trial in range(8)] == ["a", "b", "c", "d", "e", None, "a", "b"]
    assert [[*three.seen(trial)] for trial in (0, 1, 2)] == [[], [], []]
    assert [[*three.seen(trial)] for trial in (3, 4, 5)] == [[0, 1, 2]] * 3
    assert [*three.seen(8)] == [] and [*three.seen(9)] == [6, 7, 8]  # a second time around, what was played in it


def test_an_agent_that_learned_nothing_is_the_base(society: Lab) -> None:
    found = trained(society)
    assert found.society == Society((None, "adapter-g2"), ("adapter-c1", "adapter-c2"))
    assert found.temperature == 0.01
    assert serving(society, "adapter-c1") == found and serving(society, None) is None


def test_each_episode_has_the_weights_of_the_agent_whose_turn_it_was(society: Lab) -> None:
    arm = society.arm("society")
    rollout = rollout_of(society, "run", arm)
    (result,) = rollout.play([Task(env=ENV, split="dev", seed=3)], arm, trials=4, until_won=False)
    rollout.close()
    episodes = society.database.episodes.load([trial.episode for trial in result.trials])
    assert [one.adapter for one in episodes] == [None, "adapter-g2", "adapter-c1", "adapter-c2"]
    assert [one.hints != "" for one in episodes] == [False, False, True, True]
    assert episodes[2].hints == attempts(episodes[:2], 300, words)
    assert episodes[2].hints == episodes[3].hints
    assert "- Attempt 1 came to no end: look; look; look; look\n- Attempt 2" in episodes[2].hints


def test_the_attempts_of_another_game_or_arm_are_not_shown(society: Lab) -> None:
    shown = []
    for name, task in (("society", 1), ("society", 2), ("other", 2)):
        arm = society_arm(trained(society).society, name=name)
        rollout = rollout_of(society, "run", arm)
        (result,) = rollout.play([Task(env=ENV, split="dev", seed=task)], arm, trials=3, until_won=False)
        rollout.close()
        episodes = society.database.episodes.load([trial.episode for trial in result.trials])
        assert episodes[2].hints == attempts(episodes[:2], 300, words)
        shown.append(episodes[2].hints)
    assert len(shown) == 3


def test_an_attempt_that_is_too_long_shows_the_last_of_it(lived: Played, step: Callable[..., Step]) -> None:
    long = lived(*(step(at, f"go {at}") for at in range(20)), status="lost")
    short = lived(step(0, "wait"), status="won")
    shown = attempts([long, short], 2 * 12, words).splitlines()
    assert shown == ["- Attempt 1 lost: …; go 17; go 18; go 19", "- Attempt 2 won: wait"]
    assert all(words(line) <= 12 for line in shown)
    assert attempts([long], 2, words) == "- Attempt 1 lost: …"


def test_what_errored_is_no_attempt_and_where_nothing_is_told_no_end_is(
    lived: Played, step: Callable[..., Step]
) -> None:
    played = [lived(step(0, "a"), status="errored"), lived(step(0, "b"), status="won")]
    assert attempts(played, 100, words, told=False) == "- Attempt 2: b"


@pytest.mark.parametrize("name", ["society(round-7)", "society + memory", "society(", "societyx"])
def test_a_society_that_is_not_there_is_refused_in_one_line(society: Lab, name: str) -> None:
    with pytest.raises(AgentLabError) as refused:
        society.arm(name)
    assert "\n" not in str(refused.value)


def test_a_lab_without_a_society_says_how_one_is_trained(open_lab: Callable[..., Lab]) -> None:
    with pytest.raises(AgentLabError, match="table `society`"):
        open_lab().arm("society")


def test_a_society_is_named_with_its_round_or_without() -> None:
    assert (parse("society"), parse("society( round-2 )")) == ("", "round-2")
    for wrong in ("society()", "society-2", "society(a) b"):
        with pytest.raises(BadConfig):
            parse(wrong)


def test_a_society_has_one_name_however_its_round_is_written(society: Lab) -> None:
    assert {society.arm(name).name for name in ("society(round-1)", "society( round-1 )")} == {"society(round-1)"}
    assert society.arm("society").name == "society"
    table = society.evaluate(ENV, seeds=range(2), arms=["society(round-1)", "society( round-1 )"])
    assert [row.arm for row in table.rows] == ["society(round-1)"]


def test_a_table_sets_a_society_beside_a_base_with_as_many_attempts(society: Lab) -> None:
    table = society.evaluate(ENV, seeds=range(4), arms=["base", "society"], trials=4)
    assert [(row.arm, row.trials) for row in table.rows][-1] == ("society, 4 trials", 4)
    compared: Any = society.database.evaluations.get(table.about["name"])
    pairs = {(one["arm"], one["against"]) for one in compared["comparisons"]}
    assert ("society, 4 trials", "base + retry, 4 trials") in pairs and ("society", "base") in pairs
