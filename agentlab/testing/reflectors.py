"""The conformance of a reflector."""

from __future__ import annotations

from agentlab.reflectors.base import Reflector
from agentlab.testing.report import HOSTILE, Report, expect
from memory.records import Episode, Reflection, Status, Step
from memory.text import clean

SECRET = "Xyzzy opens everything."


def check_reflector(reflector: Reflector) -> Report:
    """What a reflector keeps, by episodes of a small game: won, lost, cut short, errored, odd."""
    report = Report(f"reflector {getattr(reflector, 'name', type(reflector).__name__)}")
    ended: tuple[Status, ...] = ("won", "lost", "truncated")

    with report.that("it has a name"):
        expect(isinstance(reflector.name, str) and bool(reflector.name), "it has none")
    with report.that("each reflection says something, and names the steps that show it"):
        for status in ended:
            episode = played(status)
            for one in reflector.reflect(episode):
                expect(isinstance(one, Reflection), f"{one!r} is no Reflection")
                expect(bool(clean(one.text) or one.advice), "it has neither text nor advice")
                expect(one.env == episode.env and one.task == episode.task_id, f"it is filed under {one.task}")
                shown = {at for evidence in one.evidence for at in evidence.steps}
                expect([evidence.episode for evidence in one.evidence] == [episode.id], "it rests on another episode")
                expect(shown <= set(range(len(episode.steps))), f"it rests on steps {sorted(shown)}")
    with report.that("the same episode gives reflections of the same ids, another one others"):
        first, again, other = (
            {made.id for made in reflector.reflect(played("lost", id=id))} for id in ("ep-a", "ep-a", "ep-b")
        )
        expect(first == again, f"first {sorted(first)}, then {sorted(again)}")
        expect(not first & other, f"{sorted(first & other)} are of both episodes")
    with report.that("an episode that errored teaches nothing"):
        expect(not reflector.reflect(played("errored")), "it made something of it")
    with report.that("an episode without a step is no failure"):
        for status in ended:
            reflector.reflect(played(status, steps=0))
    with report.that("what memory had put into the prompt is not reflected on"):
        made = "".join(one.model_dump_json() for one in reflector.reflect(played("lost", hints=SECRET)))
        expect(SECRET not in made, "it repeats the memory block, so memories would breed memories")
    with report.that("it leaves the episode as it is"):
        episode, before = played("lost"), played("lost")
        reflector.reflect(episode)
        expect(episode == before, "the episode was changed")
    with report.that("no text of an environment harms it"):
        for text in HOSTILE:
            reflector.reflect(played("lost", said=text))
    return report


def played(status: Status, *, id: str = "ep-check", steps: int = 4, hints: str = "", said: str = "") -> Episode:
    """An episode of a small game."""
    texts = [said or f"You are in room {at}. You see a note, a black door." for at in range(steps + 1)]
    score = 1.0 if status == "won" else 0.0
    return Episode(
        id=id, run="check", env="toy/doors", split="train", seed=1, arm="base", goal="Find the coin.", hints=hints,
        status=status, score=score if steps else 0.0, error="It died." if status == "errored" else None,
        started_at="2026-01-01T00:00:00.000000+00:00",
        steps=[
            Step(
                index=at, observation=texts[at], state=f"room {at // 2}", admissible=["look", "open black door"],
                action=("look", "open black door")[at % 2], result=texts[at + 1], next_state=f"room {(at + 1) // 2}",
                reward=score if at == steps - 1 else 0.0, score=score if at == steps - 1 else 0.0,
            )
            for at in range(steps)
        ],
    )  # fmt: skip
