"""Episodes become the records that an objective learns from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentlab.lab import Lab
from agentlab.rounds import RoundReport
from agentlab.rounds.collecting import collect
from agentlab.rounds.pool import attempts
from agentlab.rounds.records import Records, preferences, records
from memory.store import EpisodeFilter
from trainers.data.records import Judged, Pair, Regularised
from trainers.data.selectors.base import start_of

Opened = Callable[..., Lab]
Made = Callable[..., RoundReport]
ENV = "toy/doors?colours=2,rooms=1,step_limit=4"
OTHER = "toy/doors?rooms=1,step_limit=4"


@pytest.fixture
def lab(spelling: Opened, report: Made) -> Lab:
    """A lab with what a search tried at eight games."""
    lab = spelling()
    search = {"budget": {"steps": 60}, "settings": {"wins": 3}}
    collect(lab, report(adapter=None, envs=[ENV], seeds=8, collect="mcts", search=search))
    return lab


def learning(report: Made, objective: str, **settings: Any) -> RoundReport:
    return report(adapter=None, envs=[ENV], training={"objective": objective}, **settings)


def said(record: Any) -> str:
    """What the tokens that carry loss say."""
    chosen = (token for token, weight in zip(record.token_ids, record.weights, strict=True) if weight)
    return bytes(chosen).decode()


def test_kto_learns_from_won_and_lost_episodes(lab: Lab, report: Made) -> None:
    settings = {"selection": {"cap_per_task": 6, "cap_per_env": None}}
    found = records(lab, learning(report, "kto", **settings), [])
    assert all(isinstance(record, Judged) for record in found.records)
    judged = {record.example.episode: record.desirable for record in found.records}  # type: ignore[union-attr]
    assert judged == {id: lab.database.episodes.get(id).won for id in found.episodes}
    assert set(judged.values()) == {True, False}


def test_dpo_compares_whole_episodes_from_where_they_part(lab: Lab, report: Made) -> None:
    found = records(lab, learning(report, "dpo"), [])
    assert found.records and len(set(found.episodes)) > 2
    for record in found.records:
        assert isinstance(record, Pair)
        better, worse = (lab.database.episodes.get(side.episode) for side in (record.better, record.worse))
        assert better.won and better.task_id == worse.task_id and not worse.won
        at = next(i for i, (a, b) in enumerate(zip(better.actions, worse.actions, strict=False)) if a != b)
        assert said(record.better).split("\n")[:-1] == [f" {action}" for action in better.actions[at:]]


def test_step_dpo_compares_one_step_a_side(lab: Lab, report: Made) -> None:
    found = records(lab, learning(report, "step_dpo"), [])
    assert found.records
    for record in found.records:
        assert isinstance(record, Pair) and len(record.spans) == 2
        assert said(record.better).count("\n") == said(record.worse).count("\n") == 1
        assert said(record.better) != said(record.worse)


@pytest.mark.parametrize("source", ["reward", "votes", "tree", "step", "first_pit"])
def test_each_source_of_pairs_can_be_asked_for_by_itself(lab: Lab, report: Made, source: str) -> None:
    config = learning(report, "dpo", preferences={"sources": [source], "probes": 1}).config
    found = preferences(lab, config, [*attempts(lab, config)])
    assert found and {pair.source for pair in found} == {source.replace("_", " ")}


def test_the_same_pair_from_two_sources_is_taken_once(lab: Lab, report: Made) -> None:
    config = learning(report, "dpo").config
    found = preferences(lab, config, [*attempts(lab, config)])
    assert len({(pair.better.id, pair.worse.id, pair.shared) for pair in found}) == len(found)
    assert {pair.source for pair in found} == {"reward", "tree"}


def test_no_task_and_no_environment_gives_more_pairs_than_it_may(lab: Lab, report: Made) -> None:
    one = records(lab, learning(report, "dpo", preferences={"per_task": 1}), [])
    tasks = [record.better.task for record in one.records]  # type: ignore[union-attr]
    assert len(set(tasks)) == len(tasks) > 3 and one.left_out["task is full"] > 0
    few = records(lab, learning(report, "dpo", preferences={"per_task": 1, "per_env": 3}), [])
    assert few.selected == {ENV: 3} and few.left_out["environment is full"] == len(tasks) - 3
    assert {record.better.episode for record in few.records} <= {record.better.episode for record in one.records}  # type: ignore[union-attr]


def test_no_pair_is_made_of_a_game_that_begins_like_a_held_out_one(lab: Lab, report: Made) -> None:
    made = learning(report, "dpo")
    starts = sorted({start_of(episode) for episode in attempts(lab, made.config)})
    assert records(lab, made, starts).records == []
    goal, observation = starts[0]
    whole, without = records(lab, made, []), records(lab, made, [(f"{goal} ", f"{observation}\n")])
    assert 0 < len(without.records) < len(whole.records)
    assert without.left_out["begins like a held-out game"] > 0


def test_what_is_too_long_is_left_out_and_counted(lab: Lab, report: Made) -> None:
    training = {"objective": "dpo", "max_tokens": 64}
    found = records(lab, report(adapter=None, envs=[ENV], training=training), [])
    assert found.records == [] and found.episodes == [] and found.left_out["too long"] > 0


def test_what_makes_no_example_is_counted_by_its_reason() -> None:
    from trainers.errors import BadExample, NothingToChoose, SameSides, TooLong

    def refuse(error: BadExample) -> Callable[[], Any]:
        def make() -> Any:
            raise error

        return make

    made = Records()
    for error in (TooLong("x"), TooLong("x"), NothingToChoose("x"), SameSides("x"), BadExample("x")):
        made.add(refuse(error), ENV, ["ep-1"])
    assert made.left_out == {
        "too long": 2, "no teacher's choice": 1, "both sides the same": 1, "makes no example": 1
    }  # fmt: skip
    assert not made.records and not made.selected and not made.episodes


def test_pairs_heed_what_was_recalled_and_the_latest_trial(lab: Lab, report: Made) -> None:
    whole = records(lab, learning(report, "dpo"), [])
    asked = sorted(set(whole.episodes))
    known = lab.database.episodes.load(asked)
    count = len([*attempts(lab, learning(report, "dpo").config)])
    none = records(lab, learning(report, "dpo", learn_from="recalled"), [])
    assert none.records == [] and none.left_out["nothing recalled"] == count
    for episode in known[:2]:
        lab.database.episodes.put(episode.model_copy(update={"hints": "Read the note first."}))
    some = records(lab, learning(report, "dpo", learn_from="recalled"), [])
    assert some.left_out["nothing recalled"] == count - 2 and set(some.episodes) <= {one.id for one in known[:2]}
    early = records(lab, learning(report, "dpo", selection={"max_trial": 0}), [])
    assert early.left_out["played too late"] > 0
    assert {one.trial for one in lab.database.episodes.load(early.episodes)} <= {0}


def test_a_task_whose_episodes_contradict_each_other_gives_no_pairs_from_its_tree(
    lab: Lab, report: Made, told: Any
) -> None:
    lab.progress = told
    config = learning(report, "step_dpo").config
    played = [*attempts(lab, config)]
    liar = played[0].model_copy(deep=True)
    liar.id = "liar"
    liar.steps[0].result += " Or not."
    found = preferences(lab, config, [*played, liar])
    assert found and liar.task_id not in {pair.better.task_id for pair in found}
    assert any(message.startswith(f"{liar.task_id}: no pairs.") for message in told.messages)


def test_on_other_games_the_adapter_is_held_to_its_base_and_taught_nothing(spelling: Opened, report: Made) -> None:
    lab = spelling()
    search = {"budget": {"steps": 60}, "settings": {"wins": 3}}
    for env, seeds in ((ENV, 8), (OTHER, 3)):
        collect(lab, report(adapter=None, envs=[env], seeds=seeds, collect="mcts", search=search))
    settings = {"selection": {"cap_per_task": 2}, "kl": {"envs": [OTHER], "share": 1.0, "weight": 2.0}}
    found = records(lab, learning(report, "sft", **settings), [])

    pairs = [record for record in found.records if isinstance(record, Regularised)]
    assert len(found.records) > len(pairs) == 3, "there are more wins to learn from than other tasks"
    held, taught = [record.reference for record in pairs], [record.taught for record in found.records]
    # Of each task one, and a win where there is one.
    assert found.kl_episodes == {OTHER: [example.episode for example in held]}
    played = [lab.database.episodes.get(id) for id in found.kl_episodes[OTHER]]
    assert {episode.env for episode in played} == {OTHER} and len({episode.task_id for episode in played}) == 3
    won = {row.task for row in lab.database.episodes.find(EpisodeFilter(env=OTHER, status="won"))}
    assert won and {episode.task_id for episode in played if episode.won} == won
    assert set(found.selected) == {ENV} and not set(found.episodes) & set(found.kl_episodes[OTHER])
    assert found.short_of == {f"KL on {OTHER}": len(taught) - 3}
    # Each weighs twice what one that is learned from weighs on average, however long it is.
    mean = sum(sum(example.weights) for example in taught if example) / len(taught)
    assert [sum(example.weights) for example in held] == pytest.approx([2 * mean] * 3)

    # As many as the share asks for, and none that begins like a held-out game.
    begins = start_of(played[0])
    others = [episode.id for episode in played if start_of(episode) != begins]
    held_out = [(f" {begins[0]}", f"{begins[1]}\n")]
    assert records(lab, learning(report, "sft", **settings), held_out).kl_episodes == {OTHER: others}
    settings["kl"] = {"envs": [OTHER], "share": 1 / len(taught)}
    assert records(lab, learning(report, "sft", **settings), []).kl_episodes == {OTHER: [played[0].id]}
