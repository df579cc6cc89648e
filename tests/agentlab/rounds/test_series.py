"""A series of rounds plays more games each time, for as long as it has time and that improves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport, series
from agentlab.rounds.report import save
from agentlab.rounds.series import following, run_series
from trainers.gate.gate import decide

CONFIG = RoundConfig(envs=["toy/doors"], seeds=10)


@pytest.mark.parametrize("first", [None, 5])
def test_the_next_round_plays_more_games_all_of_them_new(first: int | None) -> None:
    config: RoundConfig | None = CONFIG.model_copy(update={"first_seed": first})
    seen: set[int] = set()
    for number, (games, left) in enumerate([(10, 1000), (20, 15), (30, 15)], 1):
        assert config is not None
        here = set(config.train_seeds(number))
        assert len(here) == games and not here & seen
        seen |= here
        config = following(config, number, took=10, left=left)


def test_it_plays_fewer_where_the_time_is_short_and_none_where_less_is_left_than_the_last_one_took() -> None:
    short = following(CONFIG, 1, took=10, left=15)
    assert short is not None and short.seeds == 15
    assert following(CONFIG, 1, took=10, left=9) is None


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[int]], list[RoundReport]]:
    """Rounds that win so many of twenty gate games more than what served, and take a minute for ten games."""
    clock, reports, gains = [0.0], list[RoundReport](), list[int]()

    def run_round(lab: Lab, config: RoundConfig) -> RoundReport:
        clock[0] += 6 * config.seeds
        number = len(reports) + 1
        sides = [{f"e:dev:{number}{n}": n < won for n in range(20)} for won in (gains[number - 1], 0)]
        report = RoundReport(
            id=f"round-{number}", number=number, config=config, phase="done", adapter=f"ad-{number}",
            gate=decide(*sides).model_dump(mode="json"), promoted=gains[number - 1] > 0,
            incumbent=reports[-1].adapter if reports else None,
        )  # fmt: skip
        save(lab, report)
        reports.append(report)
        return report

    monkeypatch.setattr(series, "run_round", run_round)
    monkeypatch.setattr(series.time, "monotonic", lambda: clock[0])

    def of(these: list[int]) -> list[RoundReport]:
        gains[:] = these
        return reports

    return of


def test_it_ends_when_its_time_is_over(open_lab: Callable[..., Lab], played: Callable[..., list[RoundReport]]) -> None:
    played([10, 10, 10, 10])
    with open_lab() as lab:
        found = list(run_series(lab, CONFIG, minutes=8))
    assert [report.config.seeds for report in found] == [10, 20, 40], "1 + 2 + 4 minutes, and 8 more do not fit"


def test_it_ends_when_nothing_is_gained_any_more(
    open_lab: Callable[..., Lab], played: Callable[..., list[RoundReport]]
) -> None:
    played([10, 0, 0, 10])
    with open_lab() as lab:
        assert len(list(run_series(lab, CONFIG, minutes=10_000))) == 3


def test_the_first_round_is_run_whatever_it_takes(
    open_lab: Callable[..., Lab], played: Callable[..., list[RoundReport]]
) -> None:
    played([10])
    with open_lab() as lab:
        assert len(list(run_series(lab, CONFIG, minutes=0.1))) == 1


def test_a_round_that_is_finished_first_is_one_of_the_series(
    open_lab: Callable[..., Lab], played: Callable[..., list[RoundReport]]
) -> None:
    played([0, 0, 0, 10])
    with open_lab() as lab:
        save(lab, RoundReport(id="round-1", number=1, config=CONFIG, phase="train"))
        assert len(list(run_series(lab, CONFIG, minutes=10_000))) == 2, "neither it nor the one after it gained"
