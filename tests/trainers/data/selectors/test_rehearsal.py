"""The mix of a round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from memory.records import Episode
from trainers.data.selectors import Context, Rehearsal, Selected, Selection, Text
from trainers.data.selectors.base import apportion

MakeEpisode = Callable[..., Episode]
Run = Callable[..., Selection]
MIX = Rehearsal(new=0.5, replay=0.3, general=0.1, anchor=0.1)


def kinds(selection: Selection) -> Counter[str]:
    """How many of each kind: the episodes of these tests are named by it."""
    return Counter(item.episode.id.split("-")[0] for item in selection.selected)


@pytest.fixture
def stock(make_episode: MakeEpisode) -> dict[str, list[Episode]]:
    return {kind: [make_episode(f"{kind}-{n}") for n in range(40)] for kind in ("new", "old", "anchor")}


TEXTS = [Text(completion=f"Text {n}.") for n in range(40)]


def test_a_total_is_split_by_the_largest_remainders() -> None:
    # 7 · (.5, .3, .2) = 3.5, 2.1, 1.4: two remain after the whole parts 3, 2, 1 … one does, and .5 is the greatest.
    assert apportion(7, {"a": 0.5, "b": 0.3, "c": 0.2}) == {"a": 4, "b": 2, "c": 1}
    assert apportion(2, {"a": 0.4, "b": 0.2}) == {"a": 1, "b": 1}
    assert apportion(1, {"a": 0.25, "b": 0.75}) == {"a": 0, "b": 1}
    assert apportion(5, {"a": 0.0, "b": 0.0}) == {"a": 0, "b": 0}
    assert apportion(10, {"a": 0.1, "b": 0.9}) == {"a": 1, "b": 9}


def test_all_new_episodes_are_taken_and_the_others_in_their_shares(run: Run, stock: dict[str, list[Episode]]) -> None:
    history = {episode.id: 1 for episode in stock["old"]}
    pool = [*stock["new"][:20], *stock["old"]]
    result = run(MIX, pool, round=2, history=history, anchors=stock["anchor"], general=TEXTS)
    assert kinds(result) == {"new": 20, "old": 12, "anchor": 4}
    assert len(result.texts) == 4 and result.short_of == {}
    assert result.left_out == {"share of replay is full": 28}


def test_a_fixed_size_is_shared_out_among_all(run: Run, stock: dict[str, list[Episode]]) -> None:
    history = {episode.id: 1 for episode in stock["old"]}
    mix = MIX.model_copy(update={"size": 10})
    pool = [*stock["new"], *stock["old"]]
    result = run(mix, pool, round=2, history=history, anchors=stock["anchor"], general=TEXTS)
    assert kinds(result) == {"new": 5, "old": 3, "anchor": 1} and len(result.texts) == 1
    assert result.left_out == {"share of new is full": 35, "share of replay is full": 37}


def test_a_source_that_has_too_little_is_said_and_nothing_is_taken_twice(
    run: Run, stock: dict[str, list[Episode]]
) -> None:
    pool = [*stock["new"][:20], *stock["old"][:2]]
    history = {episode.id: 1 for episode in stock["old"]}
    result = run(MIX, pool, round=2, history=history, general=TEXTS[:1])
    assert kinds(result) == {"new": 20, "old": 2} and len(result.texts) == 1
    assert result.short_of == {"replay": 10, "general": 3, "anchor": 4}


def test_without_new_episodes_all_old_ones_are_replayed(run: Run, stock: dict[str, list[Episode]]) -> None:
    history = {episode.id: 1 for episode in stock["old"]}
    result = run(MIX, stock["old"][:6], round=2, history=history)
    assert kinds(result) == {"old": 6}
    assert result.short_of == {"new": 10, "general": 2, "anchor": 2}
    assert run(Rehearsal(new=1.0, replay=0.0, general=0.0, anchor=0.0), []).selected == []


def test_the_older_the_rarer_by_a_power_of_the_age(run: Run, make_episode: MakeEpisode) -> None:
    pool = [make_episode("new-0"), make_episode("young"), make_episode("aged")]
    history = {"young": 4, "aged": 1}
    mix = Rehearsal(new=0.5, replay=0.5, general=0.0, anchor=0.0, decay=1.0)

    def replayed(seed: int) -> set[str]:
        return {item.episode.id for item in run(mix, pool, round=5, history=history, seed=seed).selected} - {"new-0"}

    drawn = [replayed(seed) for seed in range(1000)]
    assert all(len(names) == 1 for names in drawn)
    # Ages 1 and 4: chances 1 and 1/4, so 0.8 of the draws.
    assert drawn.count({"young"}) / 1000 == pytest.approx(0.8, abs=0.05)


def test_what_this_round_itself_recorded_is_still_new(run: Run, make_episode: MakeEpisode) -> None:
    mix = Rehearsal(new=1.0, replay=0.0, general=0.0, anchor=0.0)
    episodes = [make_episode("now"), make_episode("old")]
    result = run(mix, episodes, round=3, history={"now": 3, "old": 2})
    assert {item.episode.id for item in result.selected} == {"now"}


def test_an_anchor_in_the_pool_is_an_anchor_with_the_weight_it_has(make_episode: MakeEpisode) -> None:
    anchor = make_episode("anchor-0")
    pool = [Selected(episode=make_episode("new-0")), Selected(episode=anchor, weight=3.0)]
    mix = Rehearsal(new=0.5, replay=0.0, general=0.0, anchor=0.5)
    result = mix(pool, Context(anchors=[anchor]))
    assert {item.episode.id: item.weight for item in result.selected} == {"new-0": 1.0, "anchor-0": 3.0}


def test_shares_that_do_not_sum_to_one_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sum to 1; they sum to 0\.9"):
        Rehearsal(new=0.75, replay=0.1, general=0.04, anchor=0.01)
