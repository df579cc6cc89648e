from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentlab.engines.conversation import TokenConversation, resolved
from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.search.config import AGENT_R, METHODS, SearchConfig
from agentlab.search.pairs import first_pits
from agentlab.search.task import Found, search_task
from agentlab.search.tree import Tree
from agentlab.trajectories.budget import Budget
from agentlab.trajectories.replay import replay
from environments import Task, make
from memory.prompts import Prompting
from trainers.data import ChatFrames, ChatTokens, Tokenizer, from_episode

CORRIDOR = Task(env="own/corridor", split="train", seed=0)
DOORS = Task(env="toy/doors", split="train", seed=0)


def lived(found: Found) -> list[dict[str, Any]]:
    """All that was found but what a clock says."""
    return [episode.model_dump(exclude={"started_at", "seconds"}) for episode in found.episodes]


@pytest.mark.parametrize("method", METHODS)
def test_the_same_arguments_find_the_same_at_the_same_cost(method: Any) -> None:
    def once(seed: int = 0) -> Found:
        return search_task(make("toy/doors"), DOORS, method=method, seed=seed, budget=Budget(steps=150))

    first, second = once(), once()
    assert (lived(first), first.cost) == (lived(second), second.cost)
    assert lived(once(seed=1)) != lived(first)
    assert {episode.arm for episode in first.episodes} == {method}
    assert len({episode.id for episode in first.episodes}) == len(first.episodes)


@pytest.mark.parametrize("method", ["mcts", "best_of_n", "deepening"])
@pytest.mark.parametrize("name", ["toy/doors", "twx/mapreader"])
def test_every_method_wins_a_real_game_and_the_win_can_be_replayed(method: Any, name: str) -> None:
    env = make(name)
    task = Task(env=env.env_id, split="train", seed=2)
    found = search_task(env, task, method=method, budget=Budget(steps=1000))
    assert found.error is None
    (won,) = found.successes
    again = replay(env, task, won.actions)
    assert again is not None and again.won
    assert found.best is won and found.episodes[-1] is won
    assert Tree.of(found.episodes).line(won)[0].to_win == len(won.steps)
    env.close()


def test_the_cost_is_what_the_environment_was_asked_for(corridor: Any) -> None:
    env = corridor()
    found = search_task(env, CORRIDOR, config=SearchConfig(wins=100, advice=False), budget=Budget(steps=50))
    assert (found.cost.steps, found.cost.resets) == (env.acted, env.starts)
    assert found.cost.steps <= 50


def test_replayed_steps_are_those_that_were_known(corridor: Any) -> None:
    found = search_task(corridor(), CORRIDOR, config=SearchConfig(wins=100, advice=False), budget=Budget(steps=60))
    ended = sum(len(episode.steps) for episode in found.episodes)
    known = len(list(Tree.of(found.episodes).nodes())) - 1
    cut_off = found.cost.steps - ended  # the walk in which the budget ran out
    assert ended - known <= found.cost.replayed <= ended - known + cut_off


def test_an_episode_that_the_budget_cut_off_is_no_evidence(corridor: Any) -> None:
    found = search_task(corridor(), CORRIDOR, budget=Budget(steps=1), method="best_of_n", seed=3)
    assert all(len(episode.steps) == 1 and episode.status == "lost" for episode in found.episodes)
    assert found.cost.steps == 1 and found.error is None


def test_a_search_ends_with_so_many_different_wins_or_episodes(corridor: Any) -> None:
    three = search_task(corridor(), CORRIDOR, config=SearchConfig(wins=3, transpositions=False))
    assert len(three.successes) == len({tuple(episode.actions) for episode in three.successes}) == 3
    eight = search_task(corridor(), CORRIDOR, config=AGENT_R)
    assert len(eight.episodes) == 8


def test_budgets_of_scorings_hold(corridor: Any) -> None:
    engine = ScriptedEngine({"west": 0.0, "take lamp": 0.0, "east": 0.0})
    found = search_task(
        corridor(),
        CORRIDOR,
        model=Model(engine),
        budget=Budget(calls=7),
        config=SearchConfig(wins=99),
        method="best_of_n",
    )
    assert found.cost.calls == 7


def test_the_best_is_won_before_high_and_short_before_long(played: Callable[..., Any], corridor: Any) -> None:
    half, won = played("east", "east", "west", "east"), played("take lamp", "east", "east", "east")
    short = played("east", "east", "east")
    broken = played("east", "east", "east", id="ep-x", status="errored")
    found = search_task(corridor(), CORRIDOR, budget=Budget(steps=1))
    found.episodes[:] = [half, broken]
    assert found.best is half and found.successes == []
    found.episodes[:] = [half, won, short, broken]
    assert found.best is short
    assert found.successes == [won, short]
    found.episodes[:] = []
    assert found.best is None


def test_failures_are_successes_at_what_they_reached(played: Callable[..., Any], corridor: Any) -> None:
    found = search_task(corridor(), CORRIDOR, budget=Budget(steps=1))
    found.episodes[:] = [played("take lamp", "east", "west", "west")]
    made = found.relabelled()
    assert made and all(one.won and one.relabelled_from == found.episodes[0].id for one in made)


def test_a_replay_that_differs_ends_the_search_and_says_so(corridor: Any) -> None:
    env = corridor()
    env.fault = lambda start, said: f"{said} It is {start} o'clock."
    found = search_task(env, CORRIDOR, config=SearchConfig(wins=9))
    assert found.error is not None and "o'clock" in found.error and "not deterministic by seed" in found.error
    assert [episode.status for episode in found.episodes].count("errored") <= 1
    assert any(episode.status != "errored" for episode in found.episodes)


def test_an_environment_that_dies_leaves_what_was_found_and_an_errored_episode(corridor: Any) -> None:
    env = corridor()

    def dies(start: int, said: str) -> str:
        if start >= 3 and env.place == 2:
            raise RuntimeError("out of memory")
        return said

    env.fault = dies
    found = search_task(env, CORRIDOR, config=SearchConfig(wins=99), method="best_of_n", seed=1)
    assert found.error is not None and "out of memory" in found.error
    statuses = [episode.status for episode in found.episodes]
    assert len(statuses) >= 3 and statuses[-1] == "errored" and "errored" not in statuses[:-1]
    assert found.episodes[-1].error == found.error


def test_self_explore_probes_a_failure_until_its_first_pit(corridor: Any) -> None:
    engine = ScriptedEngine({"east": 0.0, "take lamp": -2.0, "west": -0.5})
    config = SearchConfig(probes=3)
    found = search_task(corridor(), CORRIDOR, model=Model(engine), method="self_explore", config=config, seed=1)
    failed = next(episode for episode in found.episodes if not episode.won)
    (pit, *_) = first_pits(Tree.of(found.episodes), probes=3)
    assert pit.worse.actions[: pit.shared + 1] == failed.actions[: pit.shared + 1]
    line = Tree.of(found.episodes).line(failed)
    assert line[pit.shared].to_win is not None and line[pit.shared + 1].to_win is None


def test_tokens_are_those_that_training_would_render(tiny_model: Path) -> None:
    from agentlab.engines.transformers import TransformersEngine
    from trainers.data.examples import from_episode

    engine = TransformersEngine(tiny_model, name="tiny", device="cpu", threads=1)
    found = search_task(
        make("toy/doors"),
        DOORS,
        model=Model(engine),
        config=SearchConfig(wins=9, iterations=4),
        budget=Budget(steps=60),
    )
    for episode in found.episodes:
        assert episode.engine == "tiny" and len(episode.action_spans) == len(episode.steps)
        bare = episode.model_copy(update={"token_ids": [], "action_spans": []})
        assert from_episode(episode, engine.tokenize) == from_episode(bare, engine.tokenize)
        assert all(step.logprob is not None for step in episode.steps)
    assert found.cost.tokens > max(len(episode.token_ids) for episode in found.episodes)
    tight = search_task(make("toy/doors"), DOORS, model=Model(engine), budget=Budget(tokens=300))
    assert 0 < tight.cost.tokens <= 300


class Chatting(ScriptedEngine):
    """A scripted engine whose tokens are bytes, and which reads a game as a chat."""

    context = 4096

    def __init__(self) -> None:
        super().__init__({})
        frames = ChatFrames("[s]", "[u]", "[a]", "\n[u]")

        def cut(text: str) -> list[int]:
            return list(text.encode())

        self.tokenize = Tokenizer(cut, chat=ChatTokens(frames, cut, cut))

    def command_tokens(self, command: str) -> list[int]:
        return self.tokenize(f"{command}\n")

    def conversation(self, goal: str, hints: str = "", prompting: Prompting | None = None) -> TokenConversation:
        return TokenConversation(self, goal, hints, resolved("auto", self.tokenize, prompting))


def test_a_search_that_a_writing_model_guides_reads_the_game_as_a_chat_without_thoughts() -> None:
    engine, asked = Chatting(), Prompting(chat=True, thought=True)
    found = search_task(
        make("toy/doors"), DOORS, method="best_of_n", model=Model(engine), budget=Budget(steps=12), prompting=asked
    )
    for episode in found.episodes:
        assert episode.prompt == "chat"
        example = from_episode(episode, engine.tokenize)
        assert example.token_ids == episode.token_ids[: len(example.token_ids)], "what was played is what is trained"
        rendered = from_episode(episode.model_copy(update={"token_ids": [], "action_spans": []}), engine.tokenize)
        assert rendered == example
        assert f"Commands: {'; '.join(episode.steps[0].admissible)}[a]" in bytes(episode.token_ids).decode()
    ranking = search_task(make("toy/doors"), DOORS, method="best_of_n", model=Model(engine), budget=Budget(steps=12))
    assert {episode.prompt for episode in ranking.episodes} == {"transcript"}
    assert {episode.id for episode in ranking.episodes}.isdisjoint(episode.id for episode in found.episodes)
