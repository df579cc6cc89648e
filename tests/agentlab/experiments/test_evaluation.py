from __future__ import annotations

import math

import pytest

from agentlab.agent.rollout import TaskResult, Trial
from agentlab.experiments.evaluation import ALL, Cell, Row, Table, known, outcomes, row
from agentlab.experiments.results import Results
from agentlab.rounds import RoundConfig, RoundReport
from environments import Task
from trainers.gate.statistics import wilson


def results(statuses: dict[str, list[list[str]]], arm: str = "a") -> list[TaskResult]:
    """For each environment, for each seed, how its trials ended."""
    scores = {"won": 1.0, "lost": 0.5, "truncated": 0.0, "errored": 0.0}
    return [
        TaskResult(
            Task(env=env, split="test", seed=seed),
            arm,
            tuple(Trial("e", status, scores[status], 3) for status in trials),
        )
        for env, tasks in statuses.items()
        for seed, trials in enumerate(tasks)
    ]


def test_a_row_has_a_cell_for_each_environment_and_one_for_all() -> None:
    made = row("a", results({"x": [["won"], ["lost"]], "y": [["won"]]}))
    assert {env: (cell.wins, cell.n) for env, cell in made.cells.items()} == {"x": (1, 2), "y": (1, 1), ALL: (2, 3)}
    assert (made.cells[ALL].low, made.cells[ALL].high) == wilson(2, 3)
    assert made.cells["x"].score == 0.75


def test_what_is_known_leaves_errors_out_and_can_be_of_one_environment() -> None:
    made = row("a", results({"x": [["won"], ["errored"]], "x?y=1": [["lost"]], "gym/a:b-v0": [["won"]]}))
    others = {"x?y=1:test:0": False, "gym/a:b-v0:test:0": True}
    assert made.known == known(made.outcomes) == {"x:test:0": True, **others}
    assert known(made.outcomes, "gym/a:b-v0") == {"gym/a:b-v0:test:0": True}
    assert known(made.outcomes, "x") == {"x:test:0": True} and "known" not in made.model_dump()


def test_trials_count_up_to_the_number_asked_for() -> None:
    found = results({"x": [["lost", "won"], ["lost", "truncated"]]})
    assert row("a", found, trials=1).cells[ALL].wins == 0
    assert row("a", found, trials=2).cells[ALL].wins == 1
    assert row("a", found, trials=2).cells[ALL].score == 0.75
    assert list(outcomes(found, 2).values()) == [True, False]


def test_what_errored_is_neither_success_nor_failure() -> None:
    cell = row("a", results({"x": [["won"], ["errored"], ["lost"]]})).cells[ALL]
    assert (cell.wins, cell.n, cell.errored) == (1, 2, 1)
    assert cell.score == 0.75


def test_nothing_known_is_a_dash_and_no_rate() -> None:
    cell = row("a", results({"x": [["errored"]]})).cells[ALL]
    assert str(cell) == "–"
    assert math.isnan(cell.rate)
    assert (cell.low, cell.high) == (0.0, 1.0)


def test_a_cell_shows_its_interval() -> None:
    assert str(Cell(wins=1, n=2, low=0.0945, high=0.9055, score=0.5)) == "0.50 (1/2) [0.09, 0.91]"


def table() -> Table:
    base = results({"x": [["lost"], ["lost"], ["lost"], ["won"], ["errored"]]})
    better = results({"x": [["won"], ["won"], ["won"], ["lost"], ["won"]]})
    return Table(envs=["x"], rows=[row("base", base), row("better", better)])


def test_two_arms_are_compared_in_pairs_without_what_errored() -> None:
    found = table().compare("better", "base")
    assert (found.n, found.only_arm, found.only_against) == (4, 3, 1)
    assert found.difference == pytest.approx(0.5)
    assert found.p == pytest.approx(0.625)


def test_a_comparison_is_kept_once_with_its_table() -> None:
    made = table()
    made.compare("better", "base")
    again = made.compare("better", "base")
    other = made.compare("base", "better")
    assert made.comparisons == [again, other]
    assert Table.model_validate_json(made.model_dump_json()) == made


def test_a_table_reads_as_one_and_keeps_what_an_arm_is_called_from_being_markup() -> None:
    cell = Cell(wins=3, n=4, low=0.3, high=0.95, score=0.8)
    mine = Row(arm="<b>mine</b>", trials=1, cells={"toy/doors": cell, "all": cell}, outcomes={})
    table = Table(envs=["toy/doors"], rows=[mine])
    titles, line = repr(table).splitlines()
    assert titles.split() == ["arm", "toy/doors"]
    assert line.split("  ") == ["<b>mine</b>", "0.75 (3/4) [0.30, 0.95]"]
    html = table._repr_html_()
    assert "&lt;b&gt;mine" in html and "<b>" not in html
    two = Table(envs=["toy/doors", "twx/coin"], rows=[mine])
    assert two.grid[1] == ["<b>mine</b>", str(cell), "–", str(cell)]


def test_a_run_and_a_game_show_themselves_in_a_line() -> None:
    ways = [["won"], ["lost", "won"], ["lost"], ["errored"]]
    played = Results(results({"toy/doors": ways}, "base"))
    assert repr(played[1]) == "<toy/doors:test:1 by base: lost, won>"
    assert repr(played).splitlines()[1].split() == ["toy/doors", "4", "1", "2", "1"]
    assert "<td>toy/doors</td><td>4</td>" in played._repr_html_() and len(played) == 4


def test_a_round_shows_itself_as_a_short_table() -> None:
    config = RoundConfig(envs=["toy/doors"])
    report = RoundReport(id="round-1", number=1, config=config, phase="done", adapter="adapter-0", promoted=False)
    lines = [line.split("  ")[0] for line in repr(report).splitlines()]
    assert lines == ["round", "environments", "phase", "adapter", "promoted"]
    assert str(report) == repr(report) and "<td>adapter-0</td>" in report._repr_html_()
