"""A span: told where somebody listens, in its place, clean and bounded; and nothing at all where nobody does."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from agentlab import tracing
from agentlab.tracing.span import CAPTURE, MOST, NAME_LIMIT, TEXT_LIMIT

ROOT = Path(__file__).parents[3]

PLAYS = """
import sys, traceback
from pathlib import Path

asked = []

class Asked:
    '''Notes who imports OpenTelemetry; with an argument, there is none.'''

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            callers = [frame.filename for frame in traceback.extract_stack() if "importlib" not in frame.filename]
            asked.append(callers[-2])
            if len(sys.argv) > 3:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Asked())
from agentlab import Lab, LabConfig
from agentlab.engines.scripted import ScriptedEngine

config = LabConfig(embedder="hashing", tools=["notes", "recall"])
with Lab.open(sys.argv[1], create=True, engine=ScriptedEngine({"look": 0.0}), config=config, progress=False) as lab:
    (result, _) = lab.run("toy/doors", seeds=range(2), trials=1, arm="base + memory")
    print(result.trials[0].status)
root = Path(sys.argv[2])
ours = [file for file in asked for package in ("agentlab", "environments", "memory", "trainers")
        if Path(file).is_relative_to(root / package)]
print("ours:", ours)
"""


@pytest.mark.parametrize("there", [True, False])
def test_where_nobody_asked_for_it_nothing_of_ours_imports_opentelemetry(tmp_path: Path, there: bool) -> None:
    words = [sys.executable, "-c", PLAYS, str(tmp_path / "lab"), str(ROOT), *([] if there else ["none"])]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.splitlines() == ["lost", "ours: []"], done.stderr


def test_where_nobody_listens_a_span_is_nothing_and_work_is_not_wrapped() -> None:
    pytest.importorskip("opentelemetry.trace")  # imported, and no provider is set
    assert not tracing.on()
    with tracing.span("work", {"agentlab.task": "t"}) as span:
        span.note({"status": "won"})
        span.tell("command", "look")
        span.fail("kind")
    assert span is tracing.OFF and not span.content
    assert tracing.carried(print) is print


def test_a_span_stands_in_that_which_is_open_here(traced: Any) -> None:
    with tracing.span("outer"), tracing.span("inner"):
        pass
    with tracing.span("other"):
        pass
    assert [traced.path(span) for span in traced.spans] == ["outer", "outer > inner", "other"]


def test_work_that_is_carried_into_another_thread_stands_where_it_was_given_away(traced: Any) -> None:
    def work() -> None:
        with tracing.span("inner"):
            pass

    with tracing.span("outer") as outer:
        threads = [threading.Thread(target=tracing.carried(work)), threading.Thread(target=work)]
        for thread in threads:
            thread.start()
            thread.join()

    def inside() -> None:
        with outer.inside():
            work()
        work()

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    paths = [traced.path(span) for span in traced.named("inner")]
    assert paths == ["outer > inner", "inner", "outer > inner", "inner"]


def test_own_attributes_have_our_name_and_those_of_others_theirs(traced: Any) -> None:
    with tracing.span("work", {"task": "t", "gen_ai.tool.name": "dice", "adapter": None}) as span:
        span.note({"score": 0.5, "won": True, "steps": 3, "ids": ["a", "b"], "other": Path("x")})
    assert dict(traced.spans[0].attributes) == {
        "agentlab.task": "t", "gen_ai.tool.name": "dice", "agentlab.score": 0.5, "agentlab.won": True,
        "agentlab.steps": 3, "agentlab.ids": ("a", "b"), "agentlab.other": "x",
    }  # fmt: skip


def test_an_exception_that_leaves_a_span_is_named_and_not_quoted(traced: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for asked in ("", "true"):
        monkeypatch.setenv(CAPTURE, asked)
        with pytest.raises(KeyError), tracing.span("work"):
            raise KeyError("a secret")
    quiet, told = traced.spans
    for span in (quiet, told):
        assert (span.status.status_code.name, span.attributes["error.type"]) == ("ERROR", "KeyError")
        assert span.events == ()
    assert quiet.status.description is None and "a secret" in told.status.description


def test_text_is_clean_and_short(traced: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CAPTURE, "true")
    ugly = "a\x1b[2Jb\x00c\u202ed\ud800e\nf"
    with tracing.span(f"{ugly} span", {"name": ugly, "names": [ugly] * 999, "long": "x" * 999}) as span:
        span.tell("text", ugly)
        span.tell("long text", "y" * 9 * TEXT_LIMIT + "end")
        span.tell("message", tracing.message("user", ugly))
    (told,) = traced.spans
    said = told.attributes
    assert told.name == "abcde\nf span"
    assert said["agentlab.name"] == said["agentlab.text"] == "abcde\nf"
    assert said["agentlab.names"] == ("abcde\nf",) * MOST
    assert len(said["agentlab.long"]) == NAME_LIMIT
    assert TEXT_LIMIT < len(said["agentlab.long text"]) < TEXT_LIMIT + 50
    assert said["agentlab.long text"].endswith("yend") and "characters left out" in said["agentlab.long text"]
    assert json.loads(said["agentlab.message"])[0]["parts"][0]["content"] == "abcde\nf"


def test_nothing_is_told_of_what_a_sampler_leaves_out(traced: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    monkeypatch.setenv(CAPTURE, "true")
    monkeypatch.setattr(trace.get_tracer_provider(), "sampler", ALWAYS_OFF)
    with tracing.span("work", {"task": "t"}) as span:
        span.note({"score": math.nan})
        assert not span.content
    assert traced.spans == []


def test_a_provider_that_is_set_later_is_heard_from_then_on(traced: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry import trace

    mine = trace.get_tracer_provider()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    with tracing.span("before"):
        pass
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", mine)
    with tracing.span("after"):
        pass
    assert [span.name for span in traced.spans] == ["after"]
    assert traced.spans[0].instrumentation_scope.name == "agentlab"
