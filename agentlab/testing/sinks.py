"""The conformance of a sink."""

from __future__ import annotations

from agentlab.agent.result import EpisodeResult, EpisodeSink
from agentlab.testing.reflectors import played
from agentlab.testing.report import Report, expect
from memory.records import Reflection, Status


def check_sink(sink: EpisodeSink) -> Report:
    """What a sink keeps. It stores some results of a run `check`: give it one that may be thrown away."""
    report = Report(f"sink {type(sink).__name__}")

    def result(id: str, status: Status = "lost", text: str = "Read the note first.") -> EpisodeResult:
        learned = Reflection(id=f"r-{id}", kind="check", env="toy/doors", task="toy/doors:train:1", text=text)
        return EpisodeResult(played(status, id=id), reflections=[learned] if status != "errored" else [])

    with report.that("what was never put is not known"):
        expect(sink.known("check", "ep-0") is None, "it knows what it never saw")
    with report.that("what was put is known, with its end"):
        sink.put(result("ep-1"))
        known = sink.known("check", "ep-1")
        expect(known is not None and known["status"] == "lost", f"it knows {known}")
    with report.that("the same result twice is stored once"):
        before = sink.known("check", "ep-1")
        sink.put(result("ep-1"))
        expect(sink.known("check", "ep-1") == before, "the second time changed it")
    with report.that("an episode that errored is replaced by one that came to its end, and never the other way"):
        sink.put(result("ep-2", "errored"))
        sink.put(result("ep-2", "won"))
        sink.put(result("ep-2", "errored"))
        known = sink.known("check", "ep-2")
        expect(known is not None and known["status"] == "won", f"it knows {known}")
    with report.that("of a result that cannot be stored whole nothing is stored"):
        try:
            sink.put(result("ep-3", text=""))  # a reflection that says nothing is refused
        except Exception:
            expect(sink.known("check", "ep-3") is None, "half of it was stored")
            sink.put(result("ep-3"))
            expect(sink.known("check", "ep-3") is not None, "and afterwards the whole one is refused")
    return report
