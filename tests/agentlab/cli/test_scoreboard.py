from __future__ import annotations

import pytest

from agentlab.agent.rollout import TaskResult, Trial
from agentlab.cli import scoreboard
from agentlab.cli.options import seeds
from agentlab.errors import BadConfig
from agentlab.experiments.evaluation import Table, row
from environments import Task

COIN, BIG_COIN, SORTING = "twx/coin", "twx/coin?numLocations=9", "twx/sorting"


def results(arm: str, env: str, statuses: list[str]) -> list[TaskResult]:
    return [
        TaskResult(Task(env=env, split="dev", seed=seed), arm, (Trial(f"ep-{seed}", status, 0.0, 3),))
        for seed, status in enumerate(statuses)
    ]


def table(*envs: str) -> Table:
    arms = {"base": ["lost", "lost", "won", "truncated"], "adapter": ["won", "won", "won", "errored"]}
    rows = [row(arm, [r for env in envs for r in results(arm, env, statuses)]) for arm, statuses in arms.items()]
    made = Table(envs=list(envs), rows=rows)
    made.compare("adapter", "base")
    return made


def test_actions_that_were_not_admissible_are_counted_where_there_are_any(capsys: pytest.CaptureFixture[str]) -> None:
    task = Task(env=COIN, split="dev", seed=0)
    trials = (Trial("ep-0", "lost", 0.0, 3, invalid=2), Trial("ep-1", "won", 1.0, 3, invalid=1))
    rows = [row("base", [TaskResult(task, "base", trials)], trials=count) for count in (1, 2)]
    assert [one.cells[COIN].invalid for one in rows] == [2, 3]
    scoreboard.show(Table(envs=[COIN], rows=rows))
    shown = capsys.readouterr().out
    assert "2 invalid actions" in shown and "3 invalid actions" in shown
    scoreboard.show(table(COIN))
    assert "invalid" not in capsys.readouterr().out


def test_each_rate_stands_with_its_n_and_interval(capsys: pytest.CaptureFixture[str]) -> None:
    scoreboard.show(table(COIN, SORTING), title="Held-out games")
    shown = capsys.readouterr().out
    for part in (
        "Held-out games",
        "0.25 (1/4)",
        "[0.05, 0.70]",
        "1.00 (3/3)",
        "1 errored",
        "twx/coin",
        "all",
        "0.25 (2/8)",
    ):
        assert part in shown


def test_one_environment_needs_no_column_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    scoreboard.show(table(COIN))
    assert " all" not in capsys.readouterr().out


def test_comparisons_are_sentences_with_n_and_p(capsys: pytest.CaptureFixture[str]) -> None:
    scoreboard.show(table(COIN, SORTING))
    assert "adapter against base: +0.67 on 6 pairs" in capsys.readouterr().out
    comparison = table(COIN).comparisons[0]
    assert "p = " in scoreboard.sentence(comparison)
    assert "p < 0.0001" in scoreboard.sentence(comparison.model_copy(update={"p": 1e-9}))


def test_parameters_leave_the_head_of_a_column_only_where_it_stays_clear() -> None:
    assert scoreboard.short_names([BIG_COIN, SORTING]) == {BIG_COIN: COIN, SORTING: SORTING}
    assert scoreboard.short_names([COIN, BIG_COIN]) == {COIN: COIN, BIG_COIN: BIG_COIN}


def test_a_rate_of_nothing_is_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    made = Table(envs=[COIN], rows=[row("base", results("base", COIN, ["errored"]), trials=2), row("none", [])])
    scoreboard.show(made)
    shown = capsys.readouterr().out
    assert "1 errored" in shown
    assert "trials" in shown
    assert "–" in shown


@pytest.mark.parametrize(
    ("given", "expected"), [("3", [3]), ("0-3", [0, 1, 2, 3]), ("0-2, 9,1", [0, 1, 2, 9]), ("5-5", [5])]
)
def test_seeds_are_given_as_numbers_and_ranges(given: str, expected: list[int]) -> None:
    assert seeds(given) == expected


@pytest.mark.parametrize("given", ["", "a", "3-1", "-1", "1-", "1,,2", "0-99999999999"])
def test_seeds_that_make_no_sense_are_refused(given: str) -> None:
    with pytest.raises(BadConfig, match=r"--seeds|a slip"):
        seeds(given)
