"""Caps and duplicates."""

from __future__ import annotations

from collections.abc import Callable

from memory.records import Episode
from trainers.data.selectors import Cap, Context, Dedupe, Selected, Selection

MakeEpisode = Callable[..., Episode]
Run = Callable[..., Selection]


def names(selection: Selection) -> set[str]:
    return {item.episode.id for item in selection.selected}


def test_a_cap_counts_repeats_and_duplicates_are_another_matter(run: Run, make_episode: MakeEpisode) -> None:
    episodes = [make_episode(f"e{n}") for n in range(4)]
    assert len(names(run(Cap(per_task=3), episodes))) == 3
    assert run(Cap(per_task=3), episodes).left_out == {"task is full": 1}
    assert run(Dedupe(), episodes).left_out == {"duplicate": 3}


def test_an_environment_can_be_capped_and_a_task_left_open(run: Run, make_episode: MakeEpisode) -> None:
    episodes = [make_episode(f"{env}{n}", env=env) for env in "ab" for n in range(4)]
    result = run(Cap(per_task=None, per_env=3), episodes)
    assert len(names(result)) == 6 and result.left_out == {"environment is full": 2}


def test_what_weighs_more_is_taken_first_and_then_the_lower_trial(make_episode: MakeEpisode) -> None:
    pool = [
        Selected(episode=make_episode("late", trial=3), weight=0.9),
        Selected(episode=make_episode("light", trial=0), weight=0.5),
        Selected(episode=make_episode("early", trial=1), weight=0.9),
    ]
    one, two = (Cap(per_task=count)(pool, Context()) for count in (1, 2))
    assert names(one) == {"early"} and names(two) == {"early", "late"}
