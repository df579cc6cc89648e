"""What a run tells OpenTelemetry: the tree of its spans, what they say, and what they never say unasked."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from agentlab.agent.arms import Arm, RecallConfig
from agentlab.engines.base import ScoreRequest, Scores
from agentlab.engines.scripted import ScriptedEngine
from agentlab.lab import Lab
from environments.tools import Seen, register_tool, unregister_tool
from memory.records import Reflection, Usage

ENV = "toy/doors?tools=recall"
TEXT = "The note tells which door is safe."
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
RUN, EPISODE, CALL = "invoke_workflow run", "invoke_agent base + memory", "text_completion scripted"


def asks(text: str, command: str) -> float:
    """Asks the memory first, then looks around."""
    if command.startswith("recall"):
        return 0.0 if "remember" not in text else -9.0
    return {"look": -1.0}.get(command, -5.0)


class Counting(ScriptedEngine):
    """Tells what it took; the first calls of two games wait for each other, so that both are in flight."""

    def __init__(self) -> None:
        super().__init__(asks)
        self.both = threading.Barrier(2)
        self.met = threading.local()

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        if not getattr(self.met, "once", False):
            self.met.once = True
            self.both.wait(timeout=60)
        return [Scores(one.logprobs, Usage(input_tokens=7, output_tokens=1)) for one in super().score(requests)]


@pytest.fixture
def lab(open_lab: Callable[..., Lab]) -> Lab:
    lab = open_lab(engine=Counting(), reflectors=[], concurrency=2, recall_text=1)
    reflection = Reflection(
        id="r-note", kind="rule", env=ENV, task=f"{ENV}:train:7", run="old", text=TEXT,
        created_at="2020-01-01T00:00:00+00:00",
    )  # fmt: skip
    lab.memory.remember([reflection])
    return lab


def played(lab: Lab) -> Any:
    return lab.run(ENV, split="dev", seeds=[0, 1], trials=1, arm="base + memory", name="told")


def test_two_games_at_once_are_each_a_tree_of_their_own_within_the_run(lab: Lab, traced: Any) -> None:
    results = played(lab)
    episodes = [lab.database.episodes.get(result.trials[0].episode) for result in results]
    steps = sum(len(episode.steps) for episode in episodes)
    states = sum(len({step.state for step in episode.steps}) for episode in episodes)
    assert Counter(map(traced.path, traced.spans)) == {
        RUN: 1,
        f"{RUN} > {EPISODE}": 2,
        f"{RUN} > {EPISODE} > search_memory": 2,
        f"{RUN} > {EPISODE} > step": steps,
        f"{RUN} > {EPISODE} > step > search_memory": states,
        f"{RUN} > {EPISODE} > step > {CALL}": steps,
        f"{RUN} > {EPISODE} > step > execute_tool recall": 2,
        f"{RUN} > {EPISODE} > step > execute_tool recall > search_memory": 2,
        f"{RUN} > {EPISODE} > reflect": 2,
    }
    assert len({span.context.trace_id for span in traced.spans}) == 1
    for episode, result in zip(sorted(traced.named(EPISODE), key=seed), results, strict=True):
        assert seed(episode) == result.task.seed
        mine = [span for span in traced.named("step") if traced.above(span)[0] is episode]
        assert len(mine) == result.trials[0].steps
        assert [span.attributes["agentlab.step"] for span in mine] == list(range(len(mine)))


def seed(episode: Any) -> int:
    return int(episode.attributes["agentlab.seed"])


def test_spans_say_what_the_conventions_for_generative_ai_have(lab: Lab, traced: Any) -> None:
    (result, _) = played(lab)
    (trial,) = result.trials
    call = traced.named(CALL)[0].attributes
    assert call["gen_ai.operation.name"] == "text_completion"
    assert (call["gen_ai.provider.name"], call["gen_ai.request.model"]) == ("agentlab", "scripted")
    assert (call["gen_ai.usage.input_tokens"], call["gen_ai.usage.output_tokens"]) == (7, 1)
    episode = next(span for span in traced.named(EPISODE) if seed(span) == 0).attributes
    assert episode["gen_ai.operation.name"] == "invoke_agent"
    assert episode["gen_ai.agent.name"] == episode["agentlab.arm"] == "base + memory"
    assert episode["gen_ai.conversation.id"] == trial.episode
    assert (episode["agentlab.task"], episode["agentlab.run"]) == (f"{ENV}:dev:0", "told")
    assert (episode["agentlab.status"], episode["agentlab.score"]) == (trial.status, trial.score)
    tool = traced.named("execute_tool")[0].attributes
    assert (tool["gen_ai.operation.name"], tool["gen_ai.tool.name"]) == ("execute_tool", "recall")
    for asked in traced.named("search_memory"):
        assert asked.attributes["gen_ai.operation.name"] == "search_memory"
    by_tool = next(span for span in traced.named("search_memory") if span.attributes["agentlab.channel"] == "tool")
    assert by_tool.attributes["gen_ai.memory.record.count"] == 1
    assert by_tool.attributes["agentlab.reflections"] == ("r-note",)
    (run,) = traced.named(RUN)
    assert (run.attributes["agentlab.tasks"], run.attributes["agentlab.won"]) == (2, 0)


@pytest.mark.parametrize("asked", ["", "false", "NO_CONTENT", "EVENT_ONLY"])
def test_nothing_that_was_said_is_told_unasked(
    lab: Lab, traced: Any, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv(CAPTURE, asked)
    (result, _) = played(lab)
    step = lab.database.episodes.get(result.trials[0].episode).steps[0]
    for said in (TEXT, step.observation[:20], step.action, step.result[:20], "safe", "recall this"):
        assert traced.says(said) == [], said


@pytest.mark.parametrize("asked", ["true", "SPAN_ONLY", "span_and_event"])
def test_what_was_said_is_told_where_the_conventions_variable_asks_for_it(
    lab: Lab, traced: Any, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv(CAPTURE, asked)
    (result, _) = played(lab)
    told = lab.database.episodes.get(result.trials[0].episode).steps[0]
    here = next(span for span in traced.named("step") if seed(traced.above(span)[0]) == 0)
    step = here.attributes
    assert step["agentlab.observation"] == told.observation.strip()
    assert (step["agentlab.command"], step["agentlab.result"]) == (told.action, told.result)
    call = next(span for span in traced.named(CALL) if traced.above(span)[0] is here).attributes
    (message,) = json.loads(call["gen_ai.input.messages"])
    assert message["role"] == "user" and told.observation in message["parts"][0]["content"]
    (answer,) = json.loads(call["gen_ai.output.messages"])
    assert answer["parts"][0]["content"].startswith("0.000 recall this task")
    tool = traced.named("execute_tool")[0].attributes
    assert (tool["gen_ai.tool.call.arguments"], tool["gen_ai.tool.call.result"]) == (told.action, told.result)
    recall = next(span for span in traced.named("search_memory") if span.attributes["agentlab.channel"] == "tool")
    assert json.loads(recall.attributes["gen_ai.memory.records"]) == [{"content": TEXT}]
    assert recall.attributes["gen_ai.memory.query.text"]


class Broken(ScriptedEngine):
    """Fails at its second step, with words that quote what it was shown."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        if requests[0].conversation.turns > 1:
            raise RuntimeError("a secret door")
        return super().score(requests)


@pytest.mark.parametrize("asked", ["", "true"])
def test_an_episode_that_errored_says_so_with_its_kind(
    open_lab: Callable[..., Lab], traced: Any, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv(CAPTURE, asked)
    lab = open_lab(engine=Broken({"look": 0.0}))
    (result,) = lab.run("toy/doors", seeds=[0], trials=1, arm="base")
    assert result.errored
    failed = {span.name: span.attributes["error.type"] for span in traced.spans if span.status.status_code.value == 2}
    assert failed == {"invoke_agent base": "engine", "step": "EngineFailed", CALL: "RuntimeError"}
    (episode,) = traced.named("invoke_agent")
    assert episode.attributes["agentlab.status"] == "errored"
    assert ("a secret door" in (episode.status.description or "")) == bool(asked)
    assert bool(traced.says("a secret door")) == bool(asked)
    assert [span.attributes["agentlab.errored"] for span in traced.named(RUN)] == [1]


class Dice:
    """A tool that does not answer."""

    name, verbs = "dice", ("roll",)

    def calls(self, seen: Seen) -> Sequence[str]:
        return ["roll"]

    def answer(self, call: str, seen: Seen) -> str:
        raise LookupError("no dice here")


@pytest.fixture
def dice() -> Iterator[None]:
    register_tool("dice", Dice)
    yield
    unregister_tool("dice")


def test_a_tool_that_fails_is_a_span_that_failed_in_a_step_that_did_not(
    open_lab: Callable[..., Lab], traced: Any, dice: None
) -> None:
    lab = open_lab(engine=ScriptedEngine(lambda text, command: 0.0 if command == "roll" else -1.0))
    lab.run("toy/doors?tools=dice", split="dev", seeds=[0], trials=1, arm="base")
    call = traced.named("execute_tool dice")[0]
    assert (call.status.status_code.value, call.attributes["error.type"]) == (2, "LookupError")
    assert traced.above(call)[0].status.status_code.value == 0
    assert traced.says("no dice here") == []


def test_an_episode_that_goes_on_tells_the_rest(open_lab: Callable[..., Lab], traced: Any) -> None:
    from agentlab.errors import Stopped

    class Stopping(ScriptedEngine):
        stop = True

        def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
            if self.stop and requests[0].conversation.turns > 2:
                raise Stopped("not now")
            return super().score(requests)

    engine = Stopping({"look": 0.0})
    lab = open_lab(engine=engine)
    with pytest.raises(Stopped):
        lab.run("toy/doors", seeds=[0], trials=1, arm="base", name="twice")
    assert traced.named("invoke_agent")[0].attributes["error.type"] == "Stopped"
    traced.exporter.clear()
    engine.stop = False
    lab.run("toy/doors", seeds=[0], trials=1, arm="base", name="twice")
    steps = [span.attributes["agentlab.step"] for span in traced.named("step")]
    assert steps[0] == 2, "what was played before is not played, and told, again"
    again = [span for span in traced.named(CALL) if traced.above(span)[0].name == "invoke_agent base"]
    assert len(again) == 2, "but the model reads it again"


def test_text_of_a_game_cannot_drive_who_reads_it(
    open_lab: Callable[..., Lab], traced: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CAPTURE, "true")
    lab = open_lab(engine=ScriptedEngine({"look": 0.0}))
    lab.run("toy/doors", seeds=[0], trials=1, arm=Arm("a\x1b[2J\nb" + "c" * 5000, recall=RecallConfig(advice=False)))
    (episode,) = traced.named("invoke_agent")
    assert "\x1b" not in episode.name and len(episode.name) <= 300
    assert len(episode.attributes["gen_ai.agent.name"]) <= 300
