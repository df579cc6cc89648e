"""Who may serve."""

from __future__ import annotations

import pytest

from trainers.errors import NotComparable
from trainers.gate import GateConfig, GateResult, decide


def results(pattern: str, env: str = "a") -> dict[str, bool | None]:
    """One task a letter: `w` won, `l` not won, `e` the environment failed."""
    return {f"{env}:dev:{seed}": {"w": True, "l": False, "e": None}[mark] for seed, mark in enumerate(pattern)}


def test_a_candidate_that_is_clearly_better_is_promoted() -> None:
    result = decide(results("w" * 20 + "l" * 10), results("w" * 5 + "l" * 25), GateConfig(alpha=0.01))
    assert result.promote
    assert str(result.candidate) == "20/30 = 0.67 [0.49, 0.81]"
    assert (result.paired.only_a, result.paired.only_b) == (15, 0)
    assert "won 20 of 30 against 5, +50 points" in result.reason


def test_a_candidate_that_may_be_better_by_chance_is_not() -> None:
    result = decide(results("w" * 8 + "l" * 22), results("w" * 5 + "l" * 25))
    assert not result.promote and "could be chance" in result.reason


@pytest.mark.parametrize("candidate", ["w" * 10 + "l" * 20, "l" * 30])
def test_a_candidate_that_is_not_better_is_not(candidate: str) -> None:
    result = decide(results(candidate), results("l" * 20 + "w" * 10))
    assert not result.promote and "not better" in result.reason


def test_too_few_pairs_decide_nothing() -> None:
    result = decide(results("w" * 19), results("l" * 19))
    assert not result.promote and "only 19 usable pairs" in result.reason


def test_failures_of_the_environment_count_for_nobody() -> None:
    result = decide(results("e" + "w" * 29), results("l" * 29 + "e"))
    assert result.promote and result.errored == 2
    assert (result.candidate.n, result.incumbent.n) == (28, 28)


def test_a_task_that_only_one_side_played_is_left_out_and_counted() -> None:
    result = decide(results("w" * 30), results("l" * 25))
    assert result.unpaired == 5 and result.paired.n == 25


def test_a_candidate_that_spoils_one_environment_is_refused_unless_that_is_allowed() -> None:
    candidate = results("w" * 40, "good") | results("l" * 10, "bad")
    incumbent = results("l" * 40, "good") | results("w" * 10, "bad")
    refused = decide(candidate, incumbent)
    assert not refused.promote and refused.regressions == ["bad"] and "worse on bad" in refused.reason
    assert refused.envs["bad"].only_b == 10 and refused.envs["good"].only_a == 40
    assert decide(candidate, incumbent, GateConfig(refuse_regressions=False)).promote


def test_tasks_may_have_their_seed_beside_them() -> None:
    candidate = {("a:dev:1", seed): True for seed in range(20)}
    result = decide(candidate, {key: False for key in candidate})
    assert result.promote and list(result.envs) == ["a"]


def test_results_without_a_common_task_cannot_be_compared() -> None:
    with pytest.raises(NotComparable, match="share no task"):
        decide(results("w", "a"), results("w", "b"))


def test_no_results_at_all_promote_nothing() -> None:
    result = decide({}, {})
    assert not result.promote and result.candidate.value == 0.0


def test_a_result_survives_being_stored() -> None:
    result = decide(results("w" * 30), results("l" * 30))
    assert GateResult.model_validate_json(result.model_dump_json()) == result
