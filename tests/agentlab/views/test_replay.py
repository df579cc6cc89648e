from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentlab.lab import Lab
from agentlab.views.recalls import recalls
from agentlab.views.replay import called, first_difference, first_loss, options, replay, side_by_side
from memory.errors import UnknownEpisode
from memory.records import Advice, Episode, Evidence, Recall, Reflection, Step

Make = Callable[..., Any]


def test_commands_are_ranked_by_the_sum_of_their_parts(step: Make) -> None:
    ranked = options(step(0, "b", admissible=["a", "b"], scores=[-1.0, -2.0], bonus=[0.0, 3.0]), temperature=0)
    assert [(one.command, one.logprob, one.bonus, one.total, one.chosen) for one in ranked] == [
        ("b", -2.0, 3.0, 1.0, True),
        ("a", -1.0, 0.0, -1.0, False),
    ]
    assert ranked[0].probability is None


def test_a_command_that_was_drawn_has_the_probability_of_the_policy(step: Make) -> None:
    ranked = options(step(0, "b", admissible=["a", "b"], scores=[-1.0, -3.0], bonus=[0.0, 1.0]), temperature=2.0)
    assert [one.total for one in ranked] == [-0.5, -0.5]
    assert [one.probability for one in ranked] == pytest.approx([0.5, 0.5])


def test_what_was_written_freely_has_commands_without_scores_or_none(step: Make) -> None:
    assert [one.total for one in options(step(0, "a", admissible=["a", "b"]), 0)] == [None, None]
    assert options(step(0, "a", admissible=[]), 0) == []
    invalid = options(step(0, "a", admissible=["a"], invalid=True), 0)
    assert not invalid[0].chosen


def test_what_was_not_scored_since_only_the_best_was_looked_for_stands_behind_the_others(step: Make) -> None:
    searched = step(0, "b", admissible=["a", "b", "c"], scores=[None, -1.0, -2.0], bonus=[0.5, 0.0, 0.0])
    ranked = options(searched, temperature=0)
    assert [(one.command, one.logprob, one.total) for one in ranked] == [
        ("b", -1.0, -1.0), ("c", -2.0, -2.0), ("a", None, None),
    ]  # fmt: skip


def test_a_record_with_fewer_scores_than_commands_leaves_the_others_unranked(step: Make) -> None:
    short = step(0, "b", admissible=["a", "b", "c"], scores=[-2.0, -1.0], bonus=[0.5])
    ranked = options(short, temperature=1.0)
    assert [(one.command, one.logprob, one.total) for one in ranked] == [
        ("b", -1.0, -1.0), ("a", -2.0, -1.5), ("c", None, None),
    ]  # fmt: skip
    assert {one.probability for one in ranked} == {None}, "of what is not whole no odds are known"


def test_the_first_loss_is_where_the_score_falls_or_a_reward_is_negative(step: Make) -> None:
    assert first_loss([step(0, "a", score=0.5), step(1, "b", score=0.2), step(2, "c", score=0.1)]) == 1
    assert first_loss([step(0, "a"), step(1, "b", reward=-1.0)]) == 1
    assert first_loss([step(0, "a", score=0.5), step(1, "b", score=0.5)]) is None
    assert first_loss([]) is None


def test_plays_differ_first_where_one_did_or_saw_something_else_or_had_ended(step: Make) -> None:
    one = [step(0, "a"), step(1, "b")]
    assert first_difference(one, one) is None
    assert first_difference(one, [step(0, "a"), step(1, "c")]) == 1
    assert first_difference(one, [step(0, "a", observation="else"), step(1, "b")]) == 0
    assert first_difference(one, one[:1]) == 1


@pytest.fixture
def lab(open_lab: Make, lived: Make, step: Make) -> Lab:
    """An episode that is shown, its second trial, another arm on its game, and a game of another run."""
    made: Lab = open_lab()
    first = [step(0, "look", scores=[-1.0], score=0.5), step(1, "go", score=0.2), step(2, "take coin", score=1.0)]
    put = made.database.episodes.put
    put(lived(*first, status="won", score=1.0))
    put(lived(*first[:2], step(2, "sleep"), id="ep-2", trial=1))
    put(lived(step(0, "sleep"), id="ep-3", arm="other"))
    put(lived(step(0, "sleep"), id="ep-4", run="elsewhere"))
    put(lived(*first, id="ep-short", minimised_from="ep-1"))
    return made


def born(lab: Lab, id: str, *evidence: Evidence, **values: Any) -> None:
    usual: dict[str, Any] = {"kind": "written", "env": "toy/doors", "task": "toy/doors:train:3", "run": "r", "text": id}
    lab.memory.remember([Reflection(id=id, evidence=list(evidence), **{**usual, **values})])


def test_an_episode_is_shown_at_a_step_with_the_line_of_all_steps(lab: Lab) -> None:
    shown = replay(lab, "ep-1", 1)
    assert [one.index for one in shown.steps] == [1] and shown.length == 3
    assert shown.steps[0].gained == pytest.approx(-0.3)
    assert [mark.score for mark in shown.line] == [0.5, 0.2, 1.0]
    assert shown.first_loss == 1 and shown.command == f"agentlab replay ep-1 --lab {lab.folder}"
    assert [one.index for one in replay(lab, "ep-1", 99).steps] == [2], "beyond the end is the last"
    assert len(replay(lab, "ep-1", 1, most=50).steps) == 2


def test_other_plays_of_the_game_are_named_with_the_first_step_that_differs(lab: Lab) -> None:
    shown = replay(lab, "ep-1")
    assert [(one.episode.id, one.relation, one.differs_at) for one in shown.siblings] == [
        ("ep-2", "trial", 2),
        ("ep-3", "other arm", 0),
        ("ep-short", "shortened form", None),
    ]
    assert shown.others == 1


def test_the_arms_of_one_evaluation_find_each_other_though_their_runs_are_named_apart(
    lab: Lab, lived: Make, step: Make
) -> None:
    for id, run, arm in (("ev-1", "eval-test-abc", "base"), ("ev-2", "eval-test-abc-2", "base + memory")):
        lab.database.episodes.put(lived(step(0, "look"), id=id, run=run, arm=arm))
    assert [one.episode.id for one in replay(lab, "ev-1").siblings] == ["ev-2"]


def test_reflections_that_rest_on_an_episode_were_born_there(lab: Lab) -> None:
    born(lab, "here", Evidence(episode="ep-1", steps=[1, 2]))
    born(lab, "there", Evidence(episode="ep-2", steps=[1]))
    assert [(one.id, one.steps) for one in replay(lab, "ep-1").born] == [("here", [1, 2])]


def recall(reflection: str, step: int | None, **values: Any) -> Recall:
    usual: dict[str, Any] = {"rank": 0, "query": "q", "score": 0.5, "env": "toy/doors"}
    return Recall(episode="ep-1", reflection=reflection, step=step, **{**usual, **values})


@pytest.fixture
def recalling(lab: Lab) -> Lab:
    for id in ("text", "prior", "held", "later"):
        born(lab, id, advice=[Advice(state="s", action="look")])
    parts = {"bonus": 1.5, "cosine": 0.9, "command": 0}
    lab.database.recalls.put(
        [
            recall("later", 2, channel="advice"),
            recall("prior", 0, channel="advice", parts=parts),
            recall("held", 0, channel="advice", parts=parts, held_out=True, propensity=0.9, rank=1),
            recall("text", None, channel="text"),
        ]
    )
    return lab


def test_recalled_items_stand_beside_the_step_that_used_them(recalling: Lab) -> None:
    shown = replay(recalling, "ep-1", 0)
    assert [one.reflection for one in shown.start] == ["text"]
    assert [(one.reflection, one.held_out, one.text) for one in shown.steps[0].recalled] == [
        ("prior", False, "prior"),
        ("held", True, "held"),
    ]
    assert [one.command for one in shown.steps[0].recalled] == ["look", "look"]
    assert shown.steps[0].options[0].sources == ["prior"], "what was held out spoke for nothing"
    assert [mark.recalled for mark in shown.line] == [2, 0, 1]


@pytest.mark.parametrize(("at", "found"), [(None, 4), (0, 3), (1, 1), (2, 2)])
def test_what_had_a_part_at_a_step_is_what_entered_there_and_what_stood_in_the_prompt(
    recalling: Lab, at: int | None, found: int
) -> None:
    assert len(recalls(recalling, "ep-1", at).recalls) == found
    assert recalls(recalling, "ep-1", at).recalls[0].reflection == "text"


def test_a_recall_of_what_is_no_longer_there_or_another_ones_has_no_text(recalling: Lab) -> None:
    recalling.config = recalling.config.model_copy(update={"namespace": "somebody else"})
    assert {(one.text, one.kind) for one in recalls(recalling, "ep-1").recalls} == {("", "")}


def test_two_episodes_stand_beside_each_other_from_the_same_step_on(lab: Lab) -> None:
    both = side_by_side(lab, "ep-1", "ep-2", 2)
    assert both.beside is not None and both.differs_at == 2
    assert (both.episode.steps[0].action, both.beside.steps[0].action) == ("take coin", "sleep")
    assert side_by_side(lab, "ep-1", "ep-1").differs_at is None
    with pytest.raises(UnknownEpisode):
        side_by_side(lab, "ep-1", "ep-none")


def test_an_episode_without_a_step_is_shown(lab: Lab, lived: Make) -> None:
    lab.database.episodes.put(lived(id="ep-none", status="errored", error="dead", error_kind="environment"))
    shown = replay(lab, "ep-none", 5)
    assert (shown.length, shown.step, shown.steps, shown.error) == (0, 0, [], "dead")


def test_a_hindsight_or_shortened_form_says_what_it_is_of(lab: Lab) -> None:
    assert replay(lab, "ep-short").minimised_from == "ep-1"


def test_the_temperature_stands_before_the_ranking(step: Make) -> None:
    cold: Step = step(0, "a", admissible=["a", "b"], scores=[-1.0, -2.0])
    assert [one.probability for one in options(cold, 0.5)] == pytest.approx([0.8808, 0.1192], abs=1e-4)


def test_a_call_of_a_tool_is_told_from_a_command_of_the_game() -> None:
    env = "twx/arithmetic?step_limit=9,tools=calculator+unknown"
    assert called(env, "calculate 3 * 4") == "calculator"
    assert called(env, "calculated") == called(env, "take coin") == called("twx/arithmetic", "calculate 3 * 4") == ""


def test_an_unknown_beginning_of_an_id_is_told(lab: Lab, lived: Callable[..., Episode]) -> None:
    assert replay(lab, "ep-s").id == "ep-short"
    with pytest.raises(UnknownEpisode):
        replay(lab, "nothing")
