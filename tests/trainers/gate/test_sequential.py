"""A test that may look several times errs no more often than one that looks once."""

from __future__ import annotations

import itertools
import random
from math import comb

import pytest

from trainers.gate.gate import GateConfig, SequentialGate
from trainers.gate.sequential import Boundary, predictive_power
from trainers.gate.statistics import mcnemar


def test_one_look_at_all_pairs_is_mcnemars_exact_test() -> None:
    for discordant in range(40):
        bound = Boundary(0.025).look(discordant, 1.0)
        for won in range(discordant + 1):
            passes = mcnemar(won, discordant - won) < 0.05 and won > discordant - won
            assert (bound is not None and won >= bound) == passes


def test_the_bounds_of_two_looks_are_those_worked_out_by_hand() -> None:
    boundary = Boundary(0.1, rho=1.0)
    # Of 5 pairs all must be won: 1/32 <= 0.1 / 2, and with 4 of them it would be 6/32.
    assert boundary.look(5, 0.5) == 5
    assert boundary.spent == 1 / 32
    # Of 10: 32 paths have crossed; 10 and 9 wins can only be reached through 5 of 5, but for 5 paths with 4, then 5.
    # Those with 9: 5; with 8: comb(10, 8) - comb(5, 3) = 35; 72/1024 < 0.1; with 7 it would be 172/1024.
    assert boundary.look(10, 1.0) == 8
    assert boundary.spent == (32 + 5 + comb(10, 8) - comb(5, 3)) / 1024


def test_the_error_over_all_looks_is_exact_by_enumeration() -> None:
    looks = [(3, 0.25), (6, 0.5), (9, 0.75), (13, 1.0)]
    boundary = Boundary(0.1, rho=2.0)
    bounds = [boundary.look(*look) for look in looks]
    crossed = 0
    for path in itertools.product((0, 1), repeat=13):
        crossed += any(
            bound is not None and sum(path[:n]) >= bound for (n, _), bound in zip(looks, bounds, strict=True)
        )
    assert boundary.spent == crossed / 2**13
    assert 0.05 < boundary.spent < 0.1


def test_few_pairs_can_cross_no_bound_and_what_they_leave_is_spent_later() -> None:
    boundary = Boundary(0.025)
    assert boundary.look(0, 0.1) is None and boundary.look(3, 0.5) is None and boundary.spent == 0
    assert boundary.look(20, 1.0) == Boundary(0.025).look(20, 1.0)


@pytest.mark.parametrize("look", [(4, 1.0), (6, 0.0), (6, 1.1)])
def test_a_look_that_cannot_be_is_refused(look: tuple[int, float]) -> None:
    boundary = Boundary(0.025)
    boundary.look(5, 0.5)
    with pytest.raises(ValueError, match="a look counts all pairs so far"):
        boundary.look(*look)


@pytest.mark.parametrize("settings", [(0.0, 2.0), (1.0, 2.0), (0.025, 0.0)])
def test_an_error_that_is_no_probability_is_refused(settings: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="alpha must lie"):
        Boundary(*settings)


def test_predictive_power_is_what_its_definition_says() -> None:
    # 6 pairs won of 6 pass at 0.025 one-sided (1/64), 5 of 6 do not (7/64); so after 5 of 5, one pair is left.
    # It is discordant with probability (5 + .5) / (5 + 1), and then won with (5 + .5) / (5 + 1).
    assert predictive_power(5, 0, 5, 6, 0.025) == pytest.approx((5.5 / 6) ** 2)


def test_it_is_nothing_when_the_test_cannot_be_passed_any_more_and_all_when_it_is_passed() -> None:
    assert predictive_power(0, 3, 10, 14, 0.025) == 0.0
    assert predictive_power(10, 0, 20, 20, 0.025) == pytest.approx(1.0)
    assert 0.2 < predictive_power(8, 4, 20, 60, 0.025) < predictive_power(10, 2, 20, 60, 0.025) < 1


@pytest.mark.parametrize("counts", [(-1, 0, 5, 9), (3, 3, 5, 9), (1, 1, 9, 8)])
def test_counts_that_cannot_be_are_refused(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        predictive_power(*counts, 0.025)


def simulated(only_candidate: float, only_incumbent: float, gates: int) -> tuple[float, float]:
    """(share of candidates promoted, share of the planned 48 pairs that were played) over so many gates."""
    rng, planned, promoted, played = random.Random(7), 48, 0, 0
    for _ in range(gates):
        gate = SequentialGate(planned, GateConfig(looks=4, min_pairs=12))
        candidate: dict[str, bool | None] = {}
        incumbent: dict[str, bool | None] = {}
        result = None
        while result is None:
            for pair in range(len(candidate), len(candidate) + 12):
                draw = rng.random()
                candidate[f"a:dev:{pair}"] = draw < only_candidate
                incumbent[f"a:dev:{pair}"] = only_candidate <= draw < only_candidate + only_incumbent
            result = gate.look(candidate, incumbent)
        promoted += result.promote
        played += planned - result.saved
    return promoted / gates, played / gates / planned


def test_a_candidate_that_is_not_better_is_promoted_in_fewer_than_one_gate_of_forty() -> None:
    promoted, played = simulated(0.25, 0.25, 2000)
    assert 0.005 < promoted < 0.025 + 2 * 0.0035  # two standard errors
    assert played < 0.6


def test_a_candidate_that_is_better_is_promoted_with_few_pairs() -> None:
    promoted, played = simulated(0.55, 0.05, 400)
    assert promoted > 0.98 and played < 0.55


def test_a_candidate_that_is_worse_is_given_up_soon() -> None:
    promoted, played = simulated(0.05, 0.3, 400)
    assert promoted == 0 and played < 0.35
