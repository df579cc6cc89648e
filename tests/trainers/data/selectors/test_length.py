"""Length rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from memory.records import Episode
from trainers.data.selectors import Selection, Shortest, Spread

MakeEpisode = Callable[..., Episode]
Run = Callable[..., Selection]


def names(selection: Selection) -> set[str]:
    return {item.episode.id for item in selection.selected}


def test_many_short_successes_do_not_crowd_out_the_few_long_ones(run: Run, make_episode: MakeEpisode) -> None:
    lengths = [1] * 20 + [4] * 3 + [7] * 2 + [12]
    episodes = [make_episode(f"e{n}", seed=n, actions=("go",) * length) for n, length in enumerate(lengths)]
    result = run(Spread(per_env=8), episodes)
    # In turn: 1, 4, 7, 12; 1, 4, 7; then one of 1 and 4, by lot.
    kept = Counter(len(item.episode.steps) for item in result.selected)
    assert kept[7] == 2 and kept[12] == 1 and {kept[1], kept[4]} == {2, 3}
    assert result.left_out == {"length is full": 18}


def test_every_environment_has_its_own_spread(run: Run, make_episode: MakeEpisode) -> None:
    episodes = [make_episode(f"{env}{n}", env=env, seed=n) for env in "ab" for n in range(5)]
    kept = Counter(item.episode.env for item in run(Spread(per_env=2), episodes).selected)
    assert kept == {"a": 2, "b": 2}


def test_of_about_equally_good_episodes_of_a_task_the_shortest_is_taken(run: Run, make_episode: MakeEpisode) -> None:
    def scored(name: str, score: float, steps: int, seed: int = 0) -> Episode:
        return make_episode(name, score=score, actions=("go",) * steps, seed=seed)

    episodes = [
        scored("best", 1.0, 9),
        scored("nearly", 0.9, 4),
        scored("poor", 0.5, 1),
        scored("worst", 0.0, 2),
        scored("other", 0.2, 30, seed=1),
    ]
    # Bars: 0.9·1 + 0.1·0 = 0.9; without tolerance 1; with 0.5, 0.5.
    result = run(Shortest(tolerance=0.1), episodes)
    assert names(result) == {"nearly", "other"}
    assert result.left_out == {"longer than another": 1, "scores below the best": 2}
    assert names(run(Shortest(tolerance=0.0), episodes)) == {"best", "other"}
    assert names(run(Shortest(tolerance=0.5), episodes)) == {"poor", "other"}


def test_a_score_exactly_at_the_bar_is_good_enough(run: Run, make_episode: MakeEpisode) -> None:
    # 0.9·0.5 + 0.1·0.2 = 0.47, which floating point puts a hair higher.
    scores = {"top": (0.5, 5), "bar": (0.47, 2), "low": (0.2, 1)}
    episodes = [make_episode(name, score=score, actions=("go",) * steps) for name, (score, steps) in scores.items()]
    assert names(run(Shortest(tolerance=0.1), episodes)) == {"bar"}


@pytest.mark.parametrize("tolerance", [-0.1, 1.1])
def test_a_tolerance_is_a_share(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        Shortest(tolerance=tolerance)
