from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentlab.engines.base import Adapter, ScoreRequest, Scores, WriteRequest, Writing
from agentlab.engines.scripted import ScriptedEngine
from agentlab.engines.transformers import TransformersEngine
from agentlab.errors import NotConforming
from agentlab.lab import Lab
from agentlab.testing import Report, check_engine


def broken(report: Report) -> set[str]:
    return {finding.sentence for finding in report.findings if not finding.ok}


def test_the_scripted_engine_conforms() -> None:
    engine = ScriptedEngine(
        lambda text, command: -float(len(command)),
        answers=["Read the note first."],
        preferences_by_adapter={"ad-1": {"look": 0.0}},
    )
    check_engine(engine, adapter=Adapter("ad-1", Path())).raise_for_failures()


def test_the_local_engine_conforms(tiny_model: Path, open_lab: Callable[..., Lab], add_skill: Any) -> None:
    lab = open_lab(model=str(tiny_model))
    id = add_skill(lab, seed=1)
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu", context=512)
    report = check_engine(engine, adapter=Adapter(id, lab.adapters.folder_of(id))).raise_for_failures()
    assert len(report.findings) == 17, "as tokens and as a whole text, with an adapter, and what it writes"


class Sloppy:
    """An engine that ranks by length, and breaks its promise in one way."""

    name = "sloppy"

    def __init__(self, fault: str) -> None:
        self.fault, self.asked = fault, 0

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        if self.fault == "silent to nobody" and not requests:
            raise ZeroDivisionError("no requests")
        return [Scores(self.of(request, len(requests))) for request in requests]

    def of(self, request: ScoreRequest, beside: int) -> list[float]:
        self.asked += 1
        scores = [-float(len(command)) for command in request.commands]
        text = request.conversation.text
        return {
            "shares": [score / max(len(scores), 1) for score in scores],
            "moods": [score - self.asked for score in scores],
            "envy": [score - beside for score in scores],
            "infinite": [float("-inf") for _ in scores],
            "lazy": scores[:1],
            "fragile": scores if "\x00" not in text else [],
        }.get(self.fault, scores)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("shares", "a command's score depends on no command beside it"),
        ("moods", "asked twice, it says the same"),
        ("envy", "a request's scores depend on no request beside it"),
        ("infinite", "each command gets one finite number"),
        ("lazy", "each command gets one finite number"),
        ("fragile", "no text of an environment harms it"),
        ("silent to nobody", "no requests get no answers, and no commands no scores"),
    ],
)
def test_each_promise_that_a_scorer_breaks_is_named(fault: str, sentence: str) -> None:
    report = check_engine(Sloppy(fault))
    assert sentence in broken(report) and not report.ok
    assert f"FAIL  {sentence}" in str(report)
    with pytest.raises(NotConforming, match="sloppy"):
        report.raise_for_failures()


def test_a_sound_scorer_breaks_none() -> None:
    assert broken(check_engine(Sloppy("none"))) == set()


class Scribbler:
    """An engine that only writes, and breaks its promise in one way."""

    name = "scribbler"

    def __init__(self, fault: str) -> None:
        self.fault, self.asked = fault, 0

    def write(self, requests: Sequence[WriteRequest]) -> list[Writing]:
        self.asked += 1
        return {
            "moods": [Writing(f"Hello {self.asked}") for _ in requests],
            "lazy": [Writing("Hello") for _ in requests[:1]],
            "longwinded": [Writing("Hello", token_ids=[1] * 100) for _ in requests],
            "sure": [Writing("Hello", token_ids=[1], logprobs=[0.5]) for _ in requests],
            "envious": [Writing(f"Hello {len(requests)}") for _ in requests],
        }.get(self.fault, [Writing("Hello") for _ in requests])


@pytest.mark.parametrize(
    ("fault", "broken_ones"),
    [("none", 0), ("moods", 1), ("lazy", 2), ("longwinded", 1), ("sure", 1), ("envious", 1)],
)
def test_an_engine_that_only_writes_is_held_to_what_it_does(fault: str, broken_ones: int) -> None:
    report = check_engine(Scribbler(fault))
    assert (len(broken(report)) >= 1) == (broken_ones > 0)
    assert not any("command" in finding.sentence and "ranks" not in finding.sentence for finding in report.findings)


def test_what_neither_ranks_nor_writes_is_no_engine() -> None:
    assert not check_engine(object()).ok  # type: ignore[arg-type]
