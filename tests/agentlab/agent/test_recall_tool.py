"""The memory is asked in the middle of a game, as a tool among others: what it tells counts as recalled there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agentlab.cli.episodes import compare
from agentlab.engines.scripted import ScriptedEngine
from agentlab.lab import Lab
from environments import Task, make
from environments.tools import Recall
from memory.records import Reflection
from memory.store.purging import purge

ENV = "toy/doors?tools=recall"
TEXT = "The note tells which door is safe."


def asks(text: str, command: str) -> float:
    """Asks the memory first, then looks around."""
    if command.startswith("recall"):
        return 0.0 if "remember" not in text else -9.0
    return {"look": -1.0}.get(command, -5.0)


@pytest.fixture
def lab(open_lab: Callable[..., Lab]) -> Lab:
    lab = open_lab(engine=ScriptedEngine(asks), reflectors=[])
    lab.memory.remember(
        [
            Reflection(
                id="r-note",
                kind="rule",
                env=ENV,
                task=f"{ENV}:train:7",
                run="old",
                text=TEXT,
                created_at="2020-01-01T00:00:00+00:00",
            )
        ]
    )
    return lab


def test_what_is_asked_in_a_game_is_told_and_counts_as_recalled_there(lab: Lab) -> None:
    # In a run of this name the lot leaves the tool in.
    (result,) = lab.run(ENV, split="train", seeds=[0], trials=1, arm="base + memory", name="told")
    episode = lab.database.episodes.get(result.trials[0].episode)
    assert not episode.without_tools
    first, second = episode.steps[:2]
    assert (first.action, second.action) == ("recall this task", "look")
    (recall,) = [one for one in lab.database.recalls.of_episode(episode.id) if one.channel == "tool"]
    assert (recall.reflection, recall.step) == ("r-note", 0)
    if recall.held_out:
        assert first.result == "You remember nothing of that." and "r-note" not in episode.recalled
    else:
        assert first.result == f"You remember: {TEXT}" and episode.recalled == ["r-note"]
    assert TEXT not in episode.hints


def test_who_plays_without_memory_is_not_offered_it(lab: Lab) -> None:
    (result,) = lab.run(ENV, split="dev", seeds=[0], trials=1, arm="base")
    episode = lab.database.episodes.get(result.trials[0].episode)
    assert not any(command.startswith("recall") for step in episode.steps for command in step.admissible)
    assert Recall().answer("recall doors", make_seen()) == "You remember nothing of that."


def make_seen():  # type: ignore[no-untyped-def]
    from environments.tools import Seen

    return Seen("", (), (), ())


def test_a_replay_finds_what_was_found_then_whatever_is_known_by_now(lab: Lab) -> None:
    (result,) = lab.run(ENV, split="dev", seeds=[1], trials=1, arm="base + memory")
    episode = lab.database.episodes.get(result.trials[0].episode)
    assert episode.steps[0].result == f"You remember: {TEXT}", "nothing is held out on dev games"
    lab.memory.forget("r-note")
    assert list(compare(episode)) == []


def test_what_is_purged_is_gone_from_the_games_in_which_it_was_told(lab: Lab) -> None:
    (result,) = lab.run(ENV, split="dev", seeds=[1], trials=1, arm="base + memory")
    assert TEXT in lab.database.episodes.get(result.trials[0].episode).model_dump_json()
    purge(lab.database, ["r-note"])
    assert TEXT not in lab.database.episodes.get(result.trials[0].episode).model_dump_json()


def test_an_environment_that_is_given_back_asks_nobody(lab: Lab) -> None:
    rollout = lab.rollout("r", lab.arm("base + memory"), reflectors=[])
    rollout.play([Task(env=ENV, split="dev", seed=2)], lab.arm("base + memory"))
    envs = [env for env in rollout.pool._all if env.env_id == ENV]
    assert envs and all(tool.search is None for env in envs for tool in env.tools)  # type: ignore[attr-defined]
    rollout.close()


def test_a_game_with_memory_as_a_tool_keeps_the_contract() -> None:
    env = make(ENV)
    _, info = env.start(Task(env=ENV, split="train", seed=0))
    assert "recall this task" not in (info["admissible_commands"] or ())
