from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentlab.agent.actors import RankingActor, View
from agentlab.agent.arms import BASE
from agentlab.agent.policy import Policy
from agentlab.engines import best_first
from agentlab.engines.base import ScoreRequest, Scores
from agentlab.engines.best_first import BestFirst
from agentlab.engines.model import Model
from agentlab.engines.transformers import TransformersEngine
from agentlab.lab import Lab
from agentlab.trajectories.transition import Decision
from environments import Task, TextEnv, Turn, register, unregister
from memory.records import Episode

Heard = Callable[[TransformersEngine], list[list[int]]]
THINGS = [f"{colour} {thing}" for colour in ("red", "blue", "old", "wet") for thing in ("key", "box", "map", "nail")]
MANY = [f"move {one} to {other}" for one in THINGS for other in THINGS if one != other]

GREEDY = partial(Policy().choose, trial=0, rng=random.Random())

tokens = st.integers(0, 3)
commands = st.lists(st.tuples(tokens) | st.lists(tokens, min_size=1, max_size=5).map(tuple), min_size=1, max_size=30)


def logprob(path: Sequence[int], token: int, salt: int) -> float:
    """Of a token behind a beginning, from few values, so that there are ties."""
    return -((hash((*path, token, salt)) % 7) / 2)


def total(command: Sequence[int], salt: int) -> float:
    return sum(logprob(command[:at], token, salt) for at, token in enumerate(command))


@given(commands=commands, salt=st.integers(0, 1000), data=st.data(), room=st.integers(5, 40))
def test_it_finds_what_scoring_all_would_find_and_says_of_none_more_than_is_true(
    commands: list[tuple[int, ...]], salt: int, data: st.DataObject, room: int
) -> None:
    bonus = data.draw(st.lists(st.sampled_from([0.0, 0.0, 1.0, -3.0]), min_size=len(commands), max_size=len(commands)))
    search, passes = BestFirst(commands, bonus, room), []
    while search.asked:
        passes.append(search.asked)
        search.take([{one: logprob(path, one, salt) for one in search.tokens(path)} for path in search.asked])
    whole = [total(command, salt) for command in commands]
    assert GREEDY(search.logprobs, bonus) == GREEDY(whole, bonus)
    best = max(map(sum, zip(whole, bonus, strict=True)))
    for found, true, extra in zip(search.logprobs, whole, bonus, strict=True):
        assert found == pytest.approx(true) if found > -math.inf else true + extra < best
    asked = [path for one in passes for path in one]
    assert len(asked) == len(set(asked)), "nothing is read twice for its own sake"
    for one in passes:
        assert len({path[:at] for path in one for at in range(1, len(path) + 1)}) <= max(room, 4)


def test_what_cannot_win_is_not_read() -> None:
    # One beginning is certain; the others lead to a thousand commands.
    likely, others = (0, 1, 2), [(9, *divmod(at, 32), 5) for at in range(1000)]
    search, read = BestFirst([*others, likely], [0.0] * 1001, 100), 0
    while search.asked:
        read += len(search.asked)
        search.take([{one: 0.0 if one < 3 else -9.0 for one in search.tokens(path)} for path in search.asked])
    assert search.logprobs[-1] == 0.0 and search.logprobs.count(-math.inf) == 1000
    assert read == 3


def test_no_pass_reads_more_than_there_is_room_for() -> None:
    search = BestFirst([(a, b, 9) for a in range(6) for b in range(6)], [0.0] * 36, 5)
    while search.asked:
        assert len({path[:at] for path in search.asked for at in range(1, len(path) + 1)}) <= 5
        search.take([dict.fromkeys(search.tokens(path), -1.0) for path in search.asked])
    assert search.logprobs == [-3.0] * 36


def begun(engine: Any) -> Any:
    conversation = engine.conversation("Find the coin.")
    conversation.observe("You are in the attic. You see much.")
    return conversation


@pytest.mark.parametrize("favour", [0.0, 3.0, 200.0])
def test_an_engine_finds_the_best_of_very_many_and_leaves_the_rest(
    engine: TransformersEngine, heard: Heard, favour: float
) -> None:
    bonus = [favour * (at == 17) - 0.5 * (at % 2) for at in range(len(MANY))]
    whole = Model(engine).score(begun(engine), MANY)
    read = heard(engine)
    best = Model(engine).score(begun(engine), MANY, bonus=bonus)
    assert best.usage.input_tokens == sum(map(len, read))
    at = GREEDY(best.logprobs, bonus)
    assert at == GREEDY(whole.logprobs, bonus)
    for found, true, extra in zip(best.logprobs, whole.logprobs, bonus, strict=True):
        if found > -math.inf:
            assert found == pytest.approx(true, abs=1e-4)
        else:
            assert true + extra < whole.logprobs[at] + bonus[at]
    if favour == 200.0:
        assert best.logprobs.count(-math.inf) > len(MANY) / 2
        assert best.usage.input_tokens < whole.usage.input_tokens / 2
    # A model that knows nothing has all read, and still in a few passes.
    assert len(read) < 12 and best.usage.input_tokens < 3 * whole.usage.input_tokens


def test_the_conversation_goes_on_as_if_all_had_been_scored(engine: TransformersEngine) -> None:
    told = []
    for bonus in ([], [0.0] * len(MANY)):
        conversation = begun(engine)
        Model(engine).score(conversation, MANY, bonus=bonus)
        conversation.act(MANY[3])
        conversation.observe("You moved it.")
        told.append(Model(engine).score(conversation, MANY[:9]).logprobs)
    assert told[1] == pytest.approx(told[0], abs=1e-4)


def test_a_search_fits_into_what_is_left_of_the_context(tiny_model: Path) -> None:
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu", context=160)
    conversation = begun(engine)
    for turn in range(12):
        scores = Model(engine).score(conversation, MANY, bonus=[0.0] * len(MANY)).logprobs
        assert max(scores) > -math.inf
        conversation.act(MANY[turn])
        conversation.observe("You moved it, and look around once more.")
    assert conversation.left_out


def test_few_commands_all_have_their_scores(engine: TransformersEngine) -> None:
    assert -math.inf not in Model(engine).score(begun(engine), MANY[:9], bonus=[0.0] * 9).logprobs


class Listening:
    """An engine that notes what it is asked."""

    name = "listening"

    def __init__(self) -> None:
        self.asked: list[ScoreRequest] = []

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        self.asked += requests
        return [Scores([-1.0] * len(one.commands)) for one in requests]


@pytest.mark.parametrize("trial, asked", [(0, [2.0, 0.0]), (1, [])])
def test_only_who_takes_the_best_asks_for_the_best_alone(trial: int, asked: list[float]) -> None:
    engine = Listening()
    model = Model(engine)
    view = View(
        env="own/cave",
        goal="",
        observation="",
        state="",
        commands=["a", "b"],
        conversation=model.conversation(""),
        model=model,
        trial=trial,
        advise=lambda commands: [2.0, 0.0],
    )
    RankingActor().act(view)
    (request,) = engine.asked
    assert list(request.bonus) == asked


@pytest.mark.parametrize("found", [[-math.inf, -math.inf], [math.nan, -1.0], [math.inf, -1.0]])
def test_an_engine_that_scores_none_of_them_or_no_number_is_refused(found: list[float]) -> None:
    class Odd(Listening):
        def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
            return [Scores(found) for _ in requests]

    model = Model(Odd())
    with pytest.raises(ValueError):
        model.score(model.conversation(""), ["a", "b"], bonus=[0.0, 0.0])


def test_the_search_begins_where_a_tree_is_large(engine: TransformersEngine) -> None:
    conversation = begun(engine)
    for some in (MANY[:20], MANY):
        inner = {tuple(one[:at]) for one in map(conversation.command_tokens, some) for at in range(1, len(one))}
        request = ScoreRequest(conversation, some, bonus=[0.0] * len(some))
        assert best_first.searched(request) == (len(inner) > best_first.MANY)


class Cave(TextEnv):
    """A game of two steps, with many commands."""

    def begin(self, task: Task) -> Turn:
        return Turn("You see much.", MANY, goal="Find the coin.")

    def act(self, action: str) -> Turn:
        return Turn("You did it.", MANY, goal="Find the coin.")


@pytest.fixture
def cave() -> Iterator[str]:
    register("own/cave", lambda: Cave("own/cave", step_limit=2))
    yield "own/cave"
    unregister("own/cave")


def test_an_episode_keeps_what_was_scored_and_is_whole_when_it_is_read_again(
    open_at: Callable[..., Lab], tmp_path: Path, cave: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RankingActor, "act", favouring(MANY[17]))
    with open_at(tmp_path / "lab") as lab:
        (result,) = lab.run(cave, seeds=range(1), arm=BASE, trials=1)
        episode = lab.database.episodes.get(result.trials[0].episode)
    for step in episode.steps:
        assert step.action == MANY[17]
        assert step.all_scores is None and step.scores is not None and None in step.scores
        assert step.logprob == step.scores[step.admissible.index(step.action)]
    assert Episode.model_validate_json(episode.model_dump_json()) == episode


def favouring(command: str) -> Callable[[RankingActor, View], Decision]:
    """Plays as it does, with advice that favours a command so much that nothing else need be scored."""
    act = RankingActor.act

    def advised(actor: RankingActor, view: View) -> Decision:
        return act(actor, replace(view, advise=lambda all: [200.0 * (one == command) for one in all]))

    return advised
