"""Which episodes are trained on."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from memory.records import Episode
from trainers.data.selection import SelectionConfig, select, start_of, survey
from trainers.data.selectors import Context, Selected
from trainers.errors import CannotSelect

MakeEpisode = Callable[..., Episode]


def ids(episodes: list[Episode], config: SelectionConfig | None = None, seed: int = 0, **held: object) -> list[str]:
    chosen = select(episodes, config or SelectionConfig(cap_per_task=10), seed, **held)  # type: ignore[arg-type]
    return [item.episode.id for item in chosen]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"status": "lost"}, "not won"),
        ({"status": "truncated"}, "not won"),
        ({"status": "errored"}, "errored"),
        ({"split": "test"}, "not of the train fold"),
        ({"split": "dev"}, "not of the train fold"),
        ({"actions": ()}, "no actions"),
        ({"trial": 4}, "won too late"),
        ({"start": "A cellar."}, "begins like a held-out game"),
    ],
)
def test_what_must_not_be_trained_on_is_left_out_and_counted(
    make_episode: MakeEpisode, fields: dict[str, object], reason: str
) -> None:
    config = SelectionConfig(max_trial=3)
    held_out = [("Find the coin.\n", "A cellar. ")]
    result = survey([make_episode("good"), make_episode("bad", **fields)], config, 0, held_out=held_out)
    assert [item.episode.id for item in result.selected] == ["good"]
    assert result.left_out == {reason: 1}


def test_what_was_relabelled_in_hindsight_is_taken_only_when_asked_for_and_after_real_wins(
    make_episode: MakeEpisode,
) -> None:
    pool = [
        make_episode("made", relabelled_from="failed", actions=("north",), goal="Go north."),
        make_episode("real", trial=5),
    ]
    assert ids(pool) == ["real"]
    assert survey(pool, SelectionConfig(), 0).left_out == {"relabelled": 1}
    assert ids(pool, SelectionConfig(hindsight=True)) == ["real", "made"]
    assert ids(pool, SelectionConfig(hindsight=True, cap_per_task=1)) == ["real"]


def test_a_new_goal_does_not_hide_that_a_game_begins_like_a_held_out_one(make_episode: MakeEpisode) -> None:
    made = make_episode("made", relabelled_from="failed", goal="Go north.")
    config = SelectionConfig(hindsight=True)
    assert ids([made], config, held_out=[("Find the coin.", "A room.")]) == []
    assert ids([made], config, held_out=[("Find the coin.", "A hall.")]) == ["made"]


def test_the_lowest_trial_of_a_task_is_preferred(make_episode: MakeEpisode) -> None:
    episodes = [make_episode(f"t{trial}", actions=(f"go {trial}",), trial=trial) for trial in (3, 1, 2)]
    assert ids(episodes, SelectionConfig(cap_per_task=1)) == ["t1"]
    assert ids(episodes) == ["t1", "t2", "t3"]


def test_the_same_game_played_the_same_way_is_taken_once(make_episode: MakeEpisode) -> None:
    result = survey([make_episode("a", seed=1), make_episode("b", seed=2)], SelectionConfig(), 0)
    assert len(result.selected) == 1 and result.left_out == {"duplicate": 1}


def test_the_same_actions_in_another_game_are_no_duplicate(make_episode: MakeEpisode) -> None:
    assert len(ids([make_episode("a"), make_episode("b", start="A cellar.")])) == 2


def test_a_minimised_episode_takes_the_place_of_the_one_it_came_from(make_episode: MakeEpisode) -> None:
    long = make_episode("long", actions=("north", "south", "take coin"))
    short = make_episode("short", actions=("take coin",), minimised_from="long")
    result = survey([long, short], SelectionConfig(), 0)
    assert [item.episode.id for item in result.selected] == ["short"]
    assert result.left_out == {"minimised": 1}


def test_environments_and_tasks_are_capped(make_episode: MakeEpisode) -> None:
    episodes = [
        make_episode(f"{env}-{seed}-{n}", env=env, seed=seed, actions=(f"go {n}",), start=f"Start {seed}.")
        for env in ("a", "b")
        for seed in range(5)
        for n in range(4)
    ]
    result = survey(episodes, SelectionConfig(cap_per_task=2, cap_per_env=6), 0)
    assert len(result.selected) == 12
    per_task: dict[str, int] = {}
    for item in result.selected:
        per_task[item.episode.task_id] = per_task.get(item.episode.task_id, 0) + 1
    assert max(per_task.values()) == 2
    assert sum(result.left_out.values()) == 40 - 12
    assert len(ids(episodes, SelectionConfig(cap_per_task=2, cap_per_env=None))) == 20


def test_ties_are_broken_by_the_seed_and_not_by_the_order_of_arrival(make_episode: MakeEpisode) -> None:
    episodes = [make_episode(f"e{n}", actions=(f"go {n}",)) for n in range(12)]
    config = SelectionConfig(cap_per_task=3)
    shuffled = list(episodes)
    random.Random(5).shuffle(shuffled)
    assert ids(episodes, config, 1) == ids(shuffled, config, 1)
    assert len({tuple(ids(episodes, config, seed)) for seed in range(8)}) > 1


def test_a_longer_solution_is_as_likely_as_a_short_one(make_episode: MakeEpisode) -> None:
    episodes = [make_episode("short", actions=("a",)), make_episode("long", actions=("a",) * 9)]
    picked = [ids(episodes, SelectionConfig(cap_per_task=1), seed)[0] for seed in range(60)]
    assert 15 < picked.count("long") < 45


def test_an_episode_given_twice_counts_once(make_episode: MakeEpisode) -> None:
    assert ids([make_episode("a"), make_episode("a")]) == ["a"]


def test_every_environment_can_be_given_the_same_weight(make_episode: MakeEpisode) -> None:
    episodes = [make_episode("a1", env="a"), *(make_episode(f"b{n}", env="b", seed=n, start=f"{n}") for n in range(3))]
    chosen = select(episodes, SelectionConfig(balance=True), 0)
    weights = {item.episode.id: item.weight for item in chosen}
    assert weights["a1"] == pytest.approx(2.0)
    assert weights["b0"] + weights["b1"] + weights["b2"] == pytest.approx(2.0)
    assert {item.weight for item in select(episodes, SelectionConfig(), 0)} == {1.0}


def test_a_start_is_the_goal_and_the_first_observation(make_episode: MakeEpisode) -> None:
    assert start_of(make_episode(goal=" Win. ", start="A hut.\n")) == ("Win.", "A hut.")
    assert start_of(make_episode(actions=())) == ("Find the coin.", "")


COMPOSED = """
selectors = [
  { kind = "threshold", at = [0.3, 0.6] },
  { kind = "votes", by = "actions", min_share = 0.0, min_voters = 1 },
  { kind = "dedupe" },
  { kind = "cap", per_task = 1 },
  { kind = "rehearsal", new = 0.5, replay = 0.25, general = 0.0, anchor = 0.25 },
]
"""


def test_a_selection_is_composed_of_named_steps(make_episode: MakeEpisode) -> None:
    config = SelectionConfig.model_validate(tomllib.loads(COMPOSED))
    assert SelectionConfig.model_validate_json(config.model_dump_json()) == config
    episodes = [
        make_episode("a1", actions=("a",)),
        make_episode("a2", actions=("a",)),
        make_episode("b", actions=("b",), status="lost", score=0.5),
        make_episode("low", actions=("c",), status="lost", score=0.1),
        make_episode("errored", status="errored"),
        make_episode("other", seed=1, start="Other.", status="truncated", score=0.4),
    ]
    result = survey(episodes, config, 0)
    weights = {item.episode.id: item.weight for item in result.selected}
    assert weights.pop("other") == 1.0 and list(weights.values()) == [pytest.approx(2 / 3)]
    assert result.left_out == {"score below the threshold": 1, "outvoted": 1, "duplicate": 1, "errored": 1}
    assert result.short_of == {"replay": 1, "anchor": 1}
    assert {item.episode.id for item in survey(episodes, config, 0, context=Context(improve=1)).selected} <= {
        "a1",
        "a2",
    }


def test_selectors_take_the_place_of_caps_and_duplicates(make_episode: MakeEpisode) -> None:
    episodes = [make_episode(f"e{n}") for n in range(4)]
    assert len(ids(episodes, SelectionConfig(selectors=[]))) == 4
    with pytest.raises(ValidationError, match="cap_per_task cannot stand beside selectors"):
        SelectionConfig(cap_per_task=3, selectors=[])
    with pytest.raises(ValidationError, match="'unknown'"):
        SelectionConfig.model_validate({"selectors": [{"kind": "unknown"}]})


def test_what_was_not_won_is_trained_on_only_where_that_is_asked_for(make_episode: MakeEpisode) -> None:
    episodes = [make_episode("won"), make_episode("lost", status="lost", start="Other.")]
    assert ids(episodes, SelectionConfig(selectors=[])) == ["won"]
    assert set(ids(episodes, SelectionConfig(selectors=[], only_won=False))) == {"won", "lost"}


@pytest.mark.parametrize(
    ("kinds", "only_won", "wins_only"),
    [(None, None, True), ([], None, True), (["dedupe", "step_values"], None, True), (["threshold"], None, False),
     (["dedupe", "votes"], None, False), (["threshold"], True, True), (["votes"], True, True), (None, False, False)],
)  # fmt: skip
def test_a_selector_that_decides_about_winning_is_given_all_unless_the_settings_say_otherwise(
    kinds: list[str] | None, only_won: bool | None, wins_only: bool
) -> None:
    needs = {"threshold": {"at": [0.5]}}
    selectors = None if kinds is None else [{"kind": kind, **needs.get(kind, {})} for kind in kinds]
    config = SelectionConfig.model_validate({"selectors": selectors, "only_won": only_won})
    assert config.wins_only == wins_only
    assert SelectionConfig.model_validate_json(config.model_dump_json()) == config


def test_a_rising_threshold_alone_trains_on_what_came_far(make_episode: MakeEpisode) -> None:
    selectors: list[dict[str, object]] = [{"kind": "threshold", "at": [0.3, 0.6, 0.9]}, {"kind": "dedupe"}]
    episodes = [make_episode("won")] + [
        make_episode(f"half-{score}", status="truncated", score=score, start=f"{score}") for score in (0.2, 0.5, 0.7)
    ]

    def chosen(improve: int, **settings: object) -> set[str]:
        config = SelectionConfig.model_validate({"selectors": selectors, **settings})
        return {item.episode.id for item in survey(episodes, config, 0, context=Context(improve=improve)).selected}

    assert chosen(0) == {"won", "half-0.5", "half-0.7"}
    assert chosen(1) == {"won", "half-0.7"} and chosen(2) == {"won"}
    assert chosen(0, only_won=True) == {"won"}  # as rounds of before have it in their settings


def test_a_revision_that_reached_what_was_asked_of_it_need_not_have_won(make_episode: MakeEpisode) -> None:
    half = {"status": "truncated", "score": 0.6}
    admitted = Selected(episode=make_episode("half", **half), step_weights=[0.0, 1.0], admitted=True)
    other = Selected(episode=make_episode("other", start="Other.", **half), step_weights=[0.0, 1.0])
    held_out = Selected(episode=make_episode("dev", split="dev", **half), admitted=True)
    result = survey([admitted, other, held_out], SelectionConfig(), 0)
    assert result.selected == [admitted] and result.left_out == {"not of the train fold": 1, "not won": 1}
    alike = [("Find the coin.", admitted.episode.steps[0].observation)]
    assert survey([admitted], SelectionConfig(), 0, held_out=alike).left_out == {"begins like a held-out game": 1}


def test_weights_that_an_episode_comes_with_reach_the_end(make_episode: MakeEpisode) -> None:
    spliced = Selected(episode=make_episode("spliced"), weight=0.5, step_weights=[0.0, 1.0])
    plain = make_episode("plain", env="other")
    assert survey([spliced, plain], SelectionConfig(), 0).selected[1] == spliced
    chosen = survey([spliced, plain], SelectionConfig(balance=True), 0).selected
    assert {item.episode.id: item.weight for item in chosen} == {"spliced": 0.75, "plain": 0.75}


def test_anchors_are_held_to_the_same_rules_as_all_episodes(make_episode: MakeEpisode) -> None:
    config = SelectionConfig.model_validate(
        {"selectors": [{"kind": "rehearsal", "new": 0.5, "replay": 0.0, "general": 0.0, "anchor": 0.5}]}
    )
    anchors = [make_episode("known", start="A cellar."), make_episode("dev", split="dev"), make_episode("fine")]
    news = [make_episode(f"n{n}", actions=(f"{n}",)) for n in range(3)]
    result = survey(news, config, 0, held_out=[("Find the coin.", "A cellar.")], context=Context(anchors=anchors))
    assert {item.episode.id for item in result.selected} == {"n0", "n1", "n2", "fine"}
    assert result.short_of == {"anchor": 2}


def test_the_seed_of_a_selection_is_the_one_that_was_given(make_episode: MakeEpisode) -> None:
    episodes = [make_episode(f"e{n}", actions=(f"go {n}",)) for n in range(12)]
    config = SelectionConfig(cap_per_task=3)
    assert survey(episodes, config, 1, context=Context(seed=5)) == survey(episodes, config, 1)


def test_a_selector_that_lacks_its_scores_stops_the_selection(make_episode: MakeEpisode) -> None:
    config = SelectionConfig.model_validate({"selectors": [{"kind": "importance"}]})
    with pytest.raises(CannotSelect, match=r"'importance' needs `Context\.loss`"):
        survey([make_episode()], config, 0)


def test_as_many_step_weights_as_steps_are_needed(make_episode: MakeEpisode) -> None:
    with pytest.raises(ValidationError, match="2 steps need as many step weights"):
        Selected(episode=make_episode(), step_weights=[1.0])
    with pytest.raises(ValidationError, match="none below 0"):
        Selected(episode=make_episode(), step_weights=[1.0, -1.0])
