"""A series of rounds ends when its held-out score no longer rises."""

from __future__ import annotations

from agentlab.rounds import RoundConfig, RoundReport
from agentlab.rounds.parts import StopConfig
from agentlab.rounds.stopping import course, held_out_score


def ended(number: int, won: int | None, phase: str = "done") -> RoundReport:
    gate = {} if won is None else {"candidate": {"won": won, "n": 20}}
    return RoundReport(
        id=f"round-{number}", number=number, config=RoundConfig(envs=["toy/doors"]), phase=phase, gate=gate
    )


def test_the_score_is_the_candidate_s_rate_at_the_gate() -> None:
    assert held_out_score(ended(1, 5)) == 0.25
    assert held_out_score(ended(1, None)) is None


def test_it_ends_after_so_many_rounds_without_a_gain_and_knows_the_best() -> None:
    rounds = [ended(1, 8), ended(2, 12), ended(3, 11)]
    assert not course(rounds, StopConfig()).stop
    known = course([*rounds, ended(4, 12)], StopConfig())
    assert known.stop and known.best == 2
    assert course(rounds, StopConfig(patience=1)).stop
    assert course(rounds, StopConfig(min_gain=0.3)).best == 1


def test_rounds_that_did_not_end_at_a_gate_count_neither_way() -> None:
    known = course([ended(1, 8), ended(2, 3, "abandoned"), ended(3, None)], StopConfig(patience=1))
    assert not known.stop and known.best == 1
