"""Who may serve."""

from __future__ import annotations

import pytest

from trainers.errors import NotComparable
from trainers.gate.gate import GateConfig, GateResult, Results, SequentialGate, decide, swayed


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


@pytest.mark.parametrize(
    ("candidate", "incumbent", "promote", "sways"),
    [
        ("wwwwww", "llllll", True, False),
        ("wwwwwl", "llllll", False, False),
        # Six pairs won alone pass; five do not, nor do six beside one that was lost.
        ("wwwwwwe", "llllllw", True, True),
        ("wwwwwwe", "lllllll", True, False),
        ("wwwwwwl", "lllllle", True, True),
        ("wwwwwww", "lllllle", True, False),
        ("wwwwwe", "llllll", False, True),
        ("llllle", "llllll", False, False),
        ("wwwwww", "llllle", False, True),
        ("wwwwwl", "llllle", False, False),
    ],
)
def test_what_errored_sways_a_decision_that_would_fall_otherwise_if_it_spoke_against_it(
    candidate: str, incumbent: str, promote: bool, sways: bool
) -> None:
    def judge(ours: Results, theirs: Results) -> bool:
        assert None not in {*ours.values(), *theirs.values()}
        return decide(ours, theirs, GateConfig(min_pairs=1)).promote

    ours, theirs = results(candidate), results(incumbent)
    assert decide(ours, theirs, GateConfig(min_pairs=1)).promote is promote
    assert swayed(promote, ours, theirs, judge) is sways


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


def test_environments_whose_names_have_colons_are_compared_one_by_one() -> None:
    candidate = results("w" * 40, "gym:good") | results("l" * 10, "gym:bad")
    incumbent = results("l" * 40, "gym:good") | results("w" * 10, "gym:bad")
    assert decide(candidate, incumbent).regressions == ["gym:bad"]


def test_all_challenges_of_one_incumbent_together_err_no_more_often_than_alpha() -> None:
    config = GateConfig(alpha=0.05)
    assert config.level() == config.level(1) == 0.05
    one_sided = [config.level(challenge) / 2 for challenge in range(1, 2000)]
    assert one_sided == sorted(one_sided, reverse=True) and sum(one_sided) == pytest.approx(0.05, rel=1e-3)
    with pytest.raises(ValueError, match="count from 1"):
        config.level(0)


@pytest.mark.parametrize("sequential", [False, True])
def test_a_later_challenge_must_show_more(sequential: bool) -> None:
    """Eight pairs that only the candidate won: p = 0.0078."""
    candidate, incumbent = results("w" * 8 + "l" * 12), results("l" * 20)

    def promoted(challenge: int) -> bool:
        if not sequential:
            return decide(candidate, incumbent, challenge=challenge).promote
        result = SequentialGate(20, challenge=challenge).look(candidate, incumbent)
        assert result is not None and result.challenge == challenge
        return result.promote

    assert [promoted(challenge) for challenge in (1, 2, 3, 4)] == [True, True, True, False]


@pytest.mark.parametrize(("challenge", "least"), [(1, 6), (2, 7), (3, 8), (10, 12)])
def test_with_fewer_than_the_least_pairs_no_candidate_can_pass(challenge: int, least: int) -> None:
    config = GateConfig(min_pairs=1)
    assert config.least_pairs(challenge) == least
    for pairs in (least - 1, least):
        result = decide(results("w" * pairs), results("l" * pairs), config, challenge=challenge)
        assert result.promote is (pairs == least)
    assert GateConfig(min_pairs=20).least_pairs(challenge) == 20


def test_a_regression_is_refused_at_the_same_level_however_many_came_before() -> None:
    candidate = results("w" * 40, "good") | results("l" * 6, "bad")
    incumbent = results("l" * 40, "good") | results("w" * 6, "bad")
    assert [decide(candidate, incumbent, challenge=challenge).regressions for challenge in (1, 9)] == [["bad"]] * 2


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


def looked(candidate: str, incumbent: str, config: GateConfig | None = None, blocks: int = 5) -> GateResult:
    """A sequential gate over all these pairs in so many blocks, as far as it goes."""
    ours, theirs = list(results(candidate).items()), list(results(incumbent).items())
    gate, size = SequentialGate(len(ours), config), -(-len(ours) // blocks)
    for end in range(size, len(ours) + size, size):
        result = gate.look(dict(ours[:end]), dict(theirs[:end]))
        if result is not None:
            return result
    raise AssertionError("it never decided")


def test_a_sequential_gate_promotes_as_soon_as_the_answer_is_clear() -> None:
    result = looked("w" * 60, "l" * 60)
    assert result.promote and (result.planned, result.saved, len(result.looks)) == (60, 36, 2)
    assert result.looks[0].needed is None, "with fewer pairs than min_pairs no error is spent"
    assert result.looks[0].spent == 0 < result.looks[1].spent < 0.025
    assert result.paired.n == 24 and "look 2, 24 of 60 pairs played" in result.reason


def test_it_gives_up_when_passing_has_become_unlikely() -> None:
    result = looked("l" * 60, "w" * 12 + "l" * 48)
    assert not result.promote and (result.saved, len(result.looks)) == (48, 1)
    assert "unlikely" in result.reason and result.looks[0].chance < 0.05


def test_it_plays_on_while_the_answer_is_open_and_its_last_bound_is_the_harder_one() -> None:
    lucky_at_last = "l" * 48 + "w" * 7 + "l" * 5
    config = GateConfig(futility=0.0)
    result = looked(lucky_at_last, "l" * 60, config)
    assert result.promote and (result.saved, len(result.looks)) == (0, 5)
    assert result.looks[-1].needed == 7
    result = looked("l" * 48 + "w" * 5 + "l" * 7, "l" * 60, config)
    assert not result.promote and "won 5 pairs alone, needed more" in result.reason
    result = looked("l" * 59 + "w", "wl" * 30, config)
    assert not result.promote and "not better" in result.reason


def test_with_one_look_it_decides_as_the_fixed_gate_does() -> None:
    for won in range(0, 21, 2):
        for lost in range(0, 21, 2):
            candidate = "w" * won + "l" * (40 - won)
            incumbent = "l" * won + "w" * lost + "l" * (40 - won - lost)
            fixed = decide(results(candidate), results(incumbent))
            assert looked(candidate, incumbent, blocks=1).promote == fixed.promote


def test_one_environment_that_looks_worse_holds_an_early_promotion_up_and_is_judged_on_all_pairs() -> None:
    def played(pairs: int) -> tuple[dict[str, bool | None], dict[str, bool | None]]:
        bad = "w" * 3 + "l" * (pairs - 3)
        wins, losses = results("w" * pairs, "good"), results("l" * pairs, "good")
        return wins | results("l" * pairs, "bad"), losses | results(bad, "bad")

    gate = SequentialGate(60)
    assert gate.look(*played(15)) is None, "clearly better in all, but it looks worse on one"
    result = gate.look(*played(30))
    assert result is not None and result.promote and result.saved == 0
    assert result.envs["bad"].difference < 0 and result.regressions == []
    result = SequentialGate(60, GateConfig(refuse_regressions=False)).look(*played(15))
    assert result is not None and result.promote and result.saved == 30


def test_a_regression_that_stands_at_the_end_refuses_what_had_won_enough() -> None:
    candidate = results("w" * 40, "good") | results("l" * 10, "bad")
    incumbent = results("l" * 40, "good") | results("w" * 10, "bad")
    result = SequentialGate(50).look(candidate, incumbent)
    assert result is not None and not result.promote and "worse on bad" in result.reason


def test_pairs_that_errored_are_played_but_not_counted() -> None:
    result = looked("w" * 24 + "e" * 36, "l" * 60, GateConfig(min_pairs=30))
    assert not result.promote and "only 24 usable pairs" in result.reason
    assert [look.usable for look in result.looks] == [12, 24, 24, 24, 24]


def test_a_sequential_result_survives_being_stored() -> None:
    result = looked("w" * 60, "l" * 60)
    assert GateResult.model_validate_json(result.model_dump_json()) == result
