"""Hindsight: a failure is a success at the goals that it did reach."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.lab import Lab
from agentlab.reflectors.experimental.goals import read_off
from agentlab.reflectors.experimental.hindsight import SIDE_VALUE, HindsightReflector, direct, relabelled
from agentlab.rounds import RoundConfig, RoundReport
from agentlab.rounds.pool import pool
from agentlab.trajectories.refinement import refine
from environments import make
from memory.records import Episode, Step
from trainers.data.distillation import from_teacher
from trainers.data.examples import from_episode
from trainers.data.selection import SelectionConfig
from trainers.errors import BadExample

MakeStep = Callable[..., Step]
MakeEpisode = Callable[..., Episode]


@pytest.fixture
def failed(step: MakeStep, lived: MakeEpisode) -> Episode:
    """From room 0 to room 1, back and forth again, to room 2, and lost in room 3."""
    rooms = [0, 1, 0, 1, 2, 3]
    steps = [
        step(at, f"go to {there}", state=f"You are in room {here}.", next_state=f"You are in room {there}.")
        for at, (here, there) in enumerate(pairwise(rooms))
    ]
    return lived(*steps, hints="SECRET", token_ids=[1, 2], action_spans=[(1, 2)], recalled=["r-1"])


def test_a_failure_teaches_the_way_to_what_it_reached(failed: Episode) -> None:
    far, near = HindsightReflector().reflect(failed)
    assert far.text == "Reached in a game that was not won: Go to room 2. It took: 'go to 1', 'go to 2'."
    assert near.text == "Reached in a game that was not won: Go to room 1. It took: 'go to 1'."
    assert (far.goal, far.kind, far.oracle, far.tags[-1]) == ("Go to room 2.", "hindsight", True, "reached:place")
    assert far.evidence[0].steps == [2, 3]  # the first walk to room 1 led back
    assert far.id != near.id
    assert [found.id for found in HindsightReflector().reflect(failed)] == [far.id, near.id]


def test_only_goals_that_serve_the_task_become_advice(failed: Episode) -> None:
    assert not any(found.advice for found in HindsightReflector().reflect(failed))
    failed.goal = "Find the coin in room 2."
    far, _ = HindsightReflector().reflect(failed)
    assert [(fact.action, fact.value) for fact in far.advice] == [
        ("go to 1", pytest.approx(SIDE_VALUE * 0.95)),
        ("go to 2", pytest.approx(SIDE_VALUE)),
    ]


def test_a_gain_is_advised_as_far_as_it_went(failed: Episode) -> None:
    failed.steps[3].reward = failed.steps[3].score = 0.5
    (score,) = [found for found in HindsightReflector().reflect(failed) if found.tags[-1] == "reached:score"]
    assert [(fact.action, fact.value) for fact in score.advice] == [
        ("go to 1", pytest.approx(0.5 * 0.95)),
        ("go to 2", pytest.approx(0.5)),
    ]


@pytest.mark.parametrize("status", ["won", "errored"])
def test_a_win_needs_no_other_goal_and_an_error_has_none(failed: Episode, status: str) -> None:
    failed.status = status  # type: ignore[assignment]
    assert HindsightReflector().reflect(failed) == HindsightReflector().relabel(failed) == []


def test_a_model_proposes_and_the_trajectory_decides(failed: Episode) -> None:
    failed.steps[3].result = "A lamp shines here."
    said = "1. Find a lamp.\n2. Take the lamp.\n3. Go to room 2.\nTask: obey."
    engine = ScriptedEngine({}, answers=[said])
    found = HindsightReflector(Model(engine)).reflect(failed)
    assert [(one.goal, "proposed" in one.tags) for one in found] == [
        ("Go to room 2.", False),
        ("Find a lamp.", True),
        ("Go to room 1.", False),
    ]
    assert "SECRET" not in engine.prompts[0] and "lost" not in engine.prompts[0]
    assert len(HindsightReflector(Model(engine), goals=1).reflect(failed)) == 1
    assert len(HindsightReflector(None).reflect(failed)) == 2


def test_a_relabelled_episode_is_won_by_its_own_goal_and_names_where_it_comes_from(failed: Episode) -> None:
    before = failed.model_copy(deep=True)
    made, other = HindsightReflector().relabel(failed)
    assert (made.goal, made.status, made.score, made.relabelled_from) == ("Go to room 2.", "won", 1.0, "ep-1")
    assert made.actions == ["go to 1", "go to 0", "go to 1", "go to 2"]
    assert (made.hints, made.recalled, made.token_ids, made.action_spans) == ("", [], [], [])
    assert len({made.id, other.id, "ep-1"}) == 3
    assert failed == before
    assert Episode.model_validate_json(made.model_dump_json()) == made


def test_what_a_policy_thought_of_the_old_goal_is_not_taught_for_the_new_one(failed: Episode) -> None:
    for step in failed.steps:
        chosen = [-0.1 if command == step.action else -2.0 for command in step.admissible]
        step.logprob, step.scores, step.bonus = -0.1, chosen, [0.5] * len(chosen)
    for made in HindsightReflector().relabel(failed):
        assert {(step.logprob, step.scores, step.bonus) for step in made.steps} == {(None, None, None)}
        with pytest.raises(BadExample, match="has both scores and a choice"):
            from_teacher(made, lambda text: [ord(letter) for letter in text])
    assert failed.steps[0].scores is not None


def test_a_relabelled_episode_is_rendered_anew_for_training(failed: Episode) -> None:
    example = from_episode(HindsightReflector().relabel(failed)[1], lambda text: [ord(letter) for letter in text])
    assert "".join(map(chr, example.token_ids)) == "Task: Go to room 1.\nObservation 0.\n> go to 1\n"
    assert [example.token_ids[start:end] for start, end in example.spans] == [[ord(x) for x in " go to 1\n"]]


def test_where_the_game_repeats_its_task_the_new_goal_stands(failed: Episode) -> None:
    failed.steps[0].observation = f"Welcome! {failed.goal} Good luck."
    made = relabelled(failed, read_off(failed)[0])
    assert made.steps[0].observation == "Welcome! Go to room 2. Good luck."
    failed.goal = ""
    assert relabelled(failed, read_off(failed)[0]).steps[0].observation.startswith("Welcome! Find the coin.")


def test_circles_are_cut_out_of_a_way(step: MakeStep) -> None:
    states = ["a", "b", "c", "b", "a", "d"]
    way = direct([step(at, f"{at}", state=state) for at, state in enumerate(states)])
    assert [found.index for found in way] == [4, 5]
    assert direct([]) == []


def test_failures_become_training_data_only_when_asked_for_and_are_never_stored(open_lab: Callable[..., Lab]) -> None:
    def timid(transcript: str, command: str) -> float:
        """Opens the safe door once, then waits for the end."""
        if "walk through" in transcript:
            return 0.0 if command == "look" else -9.0
        named = command.startswith("open") and f"the {command.removeprefix('open ')} is safe" in transcript
        return 1.0 if named else 0.0 if command == "read note" else -9.0

    lab = open_lab(engine=ScriptedEngine(timid))
    (result,) = lab.run("toy/doors", seeds=[0], trials=1, arm="base")
    assert not result.won_within(1)
    report = RoundReport(id="round-1", number=1, config=RoundConfig(envs=["toy/doors"]))
    assert pool(lab, report).items == []
    report.config = report.config.model_copy(update={"selection": SelectionConfig(hindsight=True)})
    made = [item.episode for item in pool(lab, report).items]
    assert {episode.relabelled_from for episode in made} == {result.trials[0].episode}
    assert any(episode.goal.startswith("Go to the ") for episode in made)
    assert refine(made[0], make("toy/doors")) is made[0]  # it does not win the game, so there is nothing to shorten
    assert [row.status for row in lab.database.episodes.find()] == ["truncated"]
