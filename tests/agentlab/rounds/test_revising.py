"""Failures become revisions, which train and are never taken for wins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentlab.errors import RunFailed
from agentlab.lab import Lab
from agentlab.rounds import RoundReport
from agentlab.rounds.pool import pool
from agentlab.rounds.records import records
from agentlab.rounds.report import save
from agentlab.rounds.revising import iteration, revise, revisions
from agentlab.trajectories.replay import replay
from environments import Task, TextEnv, Turn, register, registry
from memory.records import Episode

Opened = Callable[..., Lab]
Made = Callable[..., RoundReport]
ENV = "own/corridor"
GOOD, BAD = ["east", "east", "east"], ["east", "west", "west"]


class Corridor(TextEnv):
    """The third place east of the start wins, the first one west of it loses; a step can be undone, at its price."""

    def __init__(self) -> None:
        super().__init__(ENV, 8)

    def begin(self, task: Task) -> Turn:
        self.place = 0
        return self._turn("You are in a corridor.")

    def act(self, action: str) -> Turn:
        self.place += 1 if action == "east" else -1
        return self._turn(f"You go {action}.")

    def _turn(self, said: str) -> Turn:
        won, lost, score = self.place == 3, self.place == -1, max(0, self.place) / 3
        return Turn(said, ["east", "west"], score, won, lost, f"Place {self.place}.", "Go to the east end.")


def live(lab: Lab, seed: int, status: Any, actions: list[str]) -> None:
    """Play a game of the corridor, and keep it."""
    played = replay(Corridor(), Task(env=ENV, split="train", seed=seed), actions)
    assert played is not None
    lived: Any = {"run": "r", "goal": "Go to the east end.", "score": played.score, "steps": played.steps}
    lab.database.episodes.put(
        Episode(id=f"ep-{seed}-{status}", env=ENV, split="train", seed=seed, status=status, **lived)
    )


@pytest.fixture
def lab(spelling: Opened) -> Iterator[Callable[..., Lab]]:
    """Opens a lab in which five games of a corridor were won and lost, and one was only won."""
    register(ENV, Corridor)

    def opened(name: str = "lab", progress: Any = None) -> Lab:
        lab = spelling(name, progress=progress)
        for seed in range(6):
            for status, actions in [("won", GOOD), ("lost", BAD)] if seed else [("won", GOOD)]:
                live(lab, seed, status, actions)
        return lab

    yield opened
    registry.unregister(ENV)


def revising(report: Made, **settings: Any) -> RoundReport:
    return report(adapter=None, envs=[ENV], collect="none", revise=True, selection={"selectors": []}, **settings)


def test_revisions_begin_badly_win_and_teach_only_from_where_they_recover(
    lab: Callable[..., Lab], report: Made
) -> None:
    here, made = lab(), revising(report)
    before = {row.id for row in here.database.episodes.find()}
    assert revise(here, made) == "select"
    found = revisions(here, made)
    assert made.revised == {"alpha": 0.5, "tasks": 5, "revisions": 5}
    for seed, revision in enumerate(found, 1):
        assert revision.episode.actions == [*BAD[:2], *GOOD] and revision.episode.won
        assert revision.step_weights == [0.0, 0.0, 1.0, 1.0, 1.0]
        assert (revision.good, revision.bad) == (f"ep-{seed}-won", f"ep-{seed}-lost")
    assert {row.id for row in here.database.episodes.find()} == before, "nothing is stored as an episode"


def test_they_are_trained_on_and_lead_back_to_what_they_were_made_of(lab: Callable[..., Lab], report: Made) -> None:
    here, made = lab(), revising(report)
    revise(here, made)
    known = pool(here, made)
    revised = [item for item in known.items if item.step_weights is not None]
    assert len(revised) == 5 and len(known.items) == 11
    taught = records(here, made, [])
    assert set(taught.episodes) == {row.id for row in here.database.episodes.find()}
    record: Any = next(one for one in taught.records if one.episode == revised[0].episode.id)  # type: ignore[union-attr]
    chosen = bytes(token for token, weight in zip(record.token_ids, record.weights, strict=True) if weight)
    assert chosen.decode() == " east\n east\n east\n", "the way back is played and not learned"


def test_a_stored_round_that_learns_from_what_was_recalled_takes_no_revision(
    lab: Callable[..., Lab], report: Made
) -> None:
    here, made = lab(), revising(report, learn_from="recalled")
    revise(here, made)
    known = pool(here, made)
    assert known.items == [] and known.left_out == {"nothing recalled": 6 + 5}


def test_a_later_round_asks_for_better_trajectories_and_takes_none_from_an_earlier_one(
    lab: Callable[..., Lab], report: Made
) -> None:
    here, made = lab(), revising(report)
    revise(here, made)
    save(here, made, "done")
    later = made.model_copy(update={"id": "round-2", "number": 2})
    assert revisions(here, later) == []
    revise(here, later)
    assert later.revised == {"alpha": 0.7, "tasks": 5, "revisions": 5}


@pytest.mark.parametrize(
    ("before", "now"),
    [([], 1), ([(True, "done")], 2), ([(False, "done")], 1), ([(True, "failed"), (True, "abandoned")], 1),
     ([(True, "done"), (False, "done"), (True, "failed"), (True, "done")], 3)],
)  # fmt: skip
def test_the_schedule_counts_the_rounds_that_revised_and_came_to_their_end(
    lab: Callable[..., Lab], report: Made, before: list[tuple[bool, str]], now: int
) -> None:
    here = lab()
    for number, (revised, phase) in enumerate(before, 1):
        earlier = revising(report).model_copy(update={"id": f"round-{number}", "number": number})
        earlier.config = earlier.config.model_copy(update={"revise": revised})
        save(here, earlier, phase)
    number = len(before) + 1
    made = revising(report).model_copy(update={"id": f"round-{number}", "number": number})
    save(here, made, "revise")
    assert iteration(here, made) == now


@pytest.mark.parametrize(("alphas", "tasks", "reached"), [([0.5], 6, [2 / 3]), ([0.7], 5, []), ([1.0], 5, [])])
def test_alpha_decides_which_tasks_are_revised_and_what_was_not_won_is_trained_on_if_it_admits_that(
    lab: Callable[..., Lab], report: Made, alphas: list[float], tasks: int, reached: list[float]
) -> None:
    here = lab()
    live(here, 8, "truncated", ["east", "east", "west", "east"])
    live(here, 8, "lost", BAD)
    made = revising(report, revision={"alphas": {"values": alphas}})
    revise(here, made)
    assert made.revised["tasks"] == tasks
    half = [one.episode for one in revisions(here, made) if not one.episode.won]
    assert [one.score for one in half] == pytest.approx(reached)
    strict = made.model_copy(update={"balance": {"temperature": 1.0, "threshold": 0.75, "score": 0.5}})
    assert {one.episode.score for one in pool(here, strict).items} == {1.0}, "the threshold bars revisions, too"
    assert pool(here, strict).left_out["score below the balanced threshold"] == 7 + len(half)
    taught = records(here, made, [])
    assert {id for id in taught.episodes if id.startswith("ep-8")} == (
        {"ep-8-lost", "ep-8-truncated"} if half else set()
    )
    kto = revising(report, revision={"alphas": {"values": alphas}}, training={"objective": "kto"})
    wanted = {record.example.episode: record.desirable for record in records(here, kto, []).records}  # type: ignore
    assert [wanted[one.id] for one in half] == [True] * len(half) and not wanted["ep-8-lost"]


def test_stopped_and_called_again_it_makes_the_same(
    lab: Callable[..., Lab], report: Made, breaks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentlab.rounds import revising as module

    monkeypatch.setattr(module, "AT_ONCE", 2)
    whole, made = revising(report), revising(report)
    revise(unbroken := lab("unbroken"), whole)
    broken = lab("broken", breaks("revising", 4))
    with pytest.raises(KeyboardInterrupt):
        revise(broken, made)
    assert len(revisions(broken, made)) == 4
    revise(broken, made)
    timeless = {"started_at", "seconds"}
    assert [one.episode.model_dump(exclude=timeless) for one in revisions(broken, made)] == [
        one.episode.model_dump(exclude=timeless) for one in revisions(unbroken, whole)
    ]
    assert made.revised == whole.revised


@pytest.mark.parametrize("after", [2, 4])
def test_what_is_played_between_a_kill_and_the_next_call_moves_no_task_out_of_sight_or_in_twice(
    lab: Callable[..., Lab], report: Made, breaks: Any, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    from agentlab.rounds import revising as module
    from agentlab.search import tasks

    monkeypatch.setattr(module, "AT_ONCE", 2)
    here, made = lab(progress=breaks("revising", after)), revising(report)
    with pytest.raises(KeyboardInterrupt):
        revise(here, made)
    live(here, 0, "lost", BAD)  # now the first task is one to revise, too
    asked: list[int] = []
    revise_tasks = tasks.revise_tasks

    def spied(lab: Lab, run: Any, part: list[Task], **settings: Any) -> Any:
        asked.extend(task.seed for task in part)
        return revise_tasks(lab, run, part, **settings)

    monkeypatch.setattr(tasks, "revise_tasks", spied)
    revise(here, made)
    assert asked == [0, *range(after + 1, 6)], "what was done is not done again"
    assert [one.episode.seed for one in revisions(here, made)] == [0, 1, 2, 3, 4, 5]


def test_an_entry_of_several_tasks_by_an_older_version_is_read_and_gone_on_with(
    lab: Callable[..., Lab], report: Made
) -> None:
    whole, made = lab("whole"), revising(report)
    revise(whole, made)
    entries = whole.database.journal.items("revise|round-1")
    together = [written for _, entry in sorted(entries.items()) for written in entry["revisions"]]
    assert len(entries) == len(together) == 5
    old = lab("old")
    old.database.journal.put("revise|round-1", min(entries), {"revisions": together})
    assert len(revisions(old, made)) == 5
    revise(old, made)
    assert [one.episode.seed for one in revisions(old, made)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("times", [1, 99])
def test_a_task_whose_environment_failed_is_not_done(
    lab: Callable[..., Lab], report: Made, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    whole, made = revising(report), revising(report)
    revise(smooth := lab("smooth"), whole)
    here, left, begin = lab("here"), [times], Corridor.begin

    def begins(env: Corridor, task: Task) -> Turn:
        if task.seed == 2 and left[0] > 0:
            left[0] -= 1
            raise RuntimeError("a hiccup")
        return begin(env, task)

    monkeypatch.setattr(Corridor, "begin", begins)
    revise(here, made)
    # One hiccup is made up for at once.
    assert made.revised["revisions"] == (5 if times == 1 else 4)
    left[0] = 0
    revise(here, made)
    assert made.revised == whole.revised
    assert [one.episode.id for one in revisions(here, made)] == [one.episode.id for one in revisions(smooth, whole)]


def test_an_actor_that_always_fails_stops_the_round_which_goes_on_when_it_is_whole(
    lab: Callable[..., Lab], report: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentlab import failures
    from agentlab.rounds import revising as module

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("of this minute")

    monkeypatch.setattr(module, "AT_ONCE", 2)
    monkeypatch.setattr(failures, "IN_A_ROW", 3)
    here, made = lab(), revising(report, revision={"judge": "actor"})
    with monkeypatch.context() as patch:
        patch.setattr(type(here.engine), "score", broken)
        with pytest.raises(RunFailed):
            revise(here, made)
    entries = here.database.journal.items("revise|round-1").values()
    assert [bool(entry.get("error")) for entry in entries] == [True, True]
    assert revise(here, made) == "select"
    entries = here.database.journal.items("revise|round-1").values()
    assert [entry.get("error") for entry in entries] == [None] * 5


def test_an_actor_that_fails_in_some_tasks_stops_no_round_that_was_killed_meanwhile(
    lab: Callable[..., Lab], report: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentlab import failures
    from agentlab.search import tasks

    monkeypatch.setattr(failures, "IN_A_ROW", 2)
    here, made = lab(), revising(report, revision={"judge": "actor"})
    engine, now, tree_of = here.engine, [0], tasks.tree_of
    score = engine.score

    def begins(lab: Lab, run: Any, task: Task) -> Any:
        now[0] = task.seed
        return tree_of(lab, run, task)

    def sometimes(*given: Any) -> Any:
        if now[0] % 2:
            raise ZeroDivisionError("of this task")
        return score(*given)

    monkeypatch.setattr(tasks, "tree_of", begins)
    monkeypatch.setattr(engine, "score", sometimes)
    for _ in range(2):
        assert revise(here, made) == "select"
        entries = here.database.journal.items("revise|round-1").values()
        assert sum("error" in entry for entry in entries) == 3
