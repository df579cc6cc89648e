"""What is too hard to win is learned from easier variants."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport
from agentlab.rounds.candidates import rows_of
from agentlab.rounds.collecting import collect
from agentlab.rounds.estimating import estimate
from agentlab.rounds.ladder import PROBED, climb, learned_from, variants
from environments import Task
from memory.store import EpisodeFilter

HARD = "toy/doors?colours=6,rooms=6,step_limit=9"
SEEDS = PROBED + 5


def settings(**more: object) -> RoundConfig:
    given = {"envs": [HARD], "seeds": SEEDS, "ladder": True, "collect": "random", "random_trials": 1, **more}
    return RoundConfig.model_validate(given).named()


class Explorer:
    """Wins every game of some environments, and says what it was given."""

    def __init__(self, *won: str) -> None:
        self.won, self.played = won, list[tuple[str, int]]()

    def __call__(self, tasks: Sequence[Task]) -> int:
        self.played += [(task.env, task.seed) for task in tasks]
        return sum(task.env in self.won for task in tasks)


def ladder() -> list[str]:
    return list(variants(settings().envs[0]))


def test_the_first_variant_that_is_won_often_enough_is_played_whole_and_those_above_only_probed() -> None:
    rungs = ladder()
    explorer = Explorer(rungs[1], rungs[2])
    assert climb(settings(), 1, explorer) == {"tasks": PROBED + SEEDS, "won": SEEDS}
    assert explorer.played == [(rungs[0], seed) for seed in range(PROBED)] + [(rungs[1], at) for at in range(SEEDS)]


def test_where_nothing_is_ever_won_the_easiest_variant_is_played_whole() -> None:
    rungs = ladder()
    explorer = Explorer()
    assert climb(settings(), 1, explorer) == {"tasks": PROBED * (len(rungs) - 1) + SEEDS, "won": 0}
    assert [seed for env, seed in explorer.played if env == rungs[-1]] == list(range(SEEDS))


def test_what_is_won_often_enough_as_it_is_needs_no_variant() -> None:
    explorer = Explorer(*settings().envs)
    assert climb(settings(), 1, explorer) == {"tasks": SEEDS, "won": SEEDS}
    assert {env for env, _ in explorer.played} == {*settings().envs}


def test_without_a_ladder_everything_is_explored_at_once_and_nothing_else() -> None:
    explorer = Explorer()
    assert climb(settings(ladder=False), 2, explorer) == {"tasks": SEEDS, "won": 0}
    assert explorer.played == [(settings().envs[0], seed) for seed in range(SEEDS, 2 * SEEDS)]
    assert learned_from(settings(ladder=False)) == settings().envs


@pytest.mark.parametrize("collected", ["random", "model", "mcts"])
def test_a_round_learns_from_the_wins_of_easier_variants_whoever_explores(
    spelling: Callable[..., Lab], report: Callable[..., RoundReport], collected: str
) -> None:
    lab = spelling(script={"look": 0.0})
    made = report(
        adapter=None,
        **settings(collect=collected, model_trials=1, temperature=5.0, search={"budget": {"steps": 9}}).model_dump(),
    )
    collect(lab, made)
    won = {row.env for row in rows_of(lab, made.config) if row.status == "won"}
    assert won and won <= {*learned_from(made.config)[1:]}, "six doors of six colours are not passed by chance"
    assert made.collected[collected]["tasks"] > SEEDS
    assert {row.env for row in rows_of(lab, made.config.model_copy(update={"ladder": False}))} == {*made.config.envs}


def test_a_ladder_that_was_stopped_collects_what_an_unbroken_one_does(
    spelling: Callable[..., Lab], report: Callable[..., RoundReport], breaks: Callable[..., object]
) -> None:
    whole, broken = (report(adapter=None, **settings().model_dump()) for _ in range(2))
    collect(unbroken := spelling("unbroken"), whole)
    lab = spelling("broken", progress=breaks("exploring", PROBED + 3))
    with pytest.raises(KeyboardInterrupt):
        collect(lab, broken)
    collect(lab, broken)
    assert broken.collected == whole.collected
    found = [{row.id for row in one.database.episodes.find(EpisodeFilter())} for one in (lab, unbroken)]
    assert found[0] == found[1]


def test_an_estimate_counts_the_games_of_easier_variants(spelling: Callable[..., Lab]) -> None:
    lab = spelling()
    plain, with_ladder = (estimate(lab, settings(ladder=on)).phases[0] for on in (False, True))
    assert with_ladder.games == plain.games + PROBED * (len(ladder()) - 1)
    assert with_ladder.steps == plain.steps + PROBED * (len(ladder()) - 1) * 9
