"""A series of rounds ends when its held-out score no longer rises."""

from __future__ import annotations

import pytest

from agentlab.rounds import RoundConfig, RoundReport
from agentlab.rounds.parts import StopConfig
from agentlab.rounds.stopping import course
from trainers.gate.gate import decide


def ended(
    number: int,
    ours: int | None,
    theirs: int = 0,
    of: int = 20,
    *,
    incumbent: str | None = None,
    promoted: bool = False,
    phase: str = "done",
) -> RoundReport:
    """A round whose candidate won so many of its gate's games, and whose incumbent so many of the same."""
    sides = [{f"e:dev:{number}{n}": n < won for n in range(of)} for won in (ours or 0, theirs)]
    return RoundReport(
        id=f"round-{number}", number=number, config=RoundConfig(envs=["toy/doors"]), phase=phase,
        gate={} if ours is None else decide(*sides).model_dump(mode="json"), incumbent=incumbent,
        adapter=f"ad-{number}", promoted=promoted,
    )  # fmt: skip


def test_a_round_is_scored_by_what_its_candidate_won_more_than_its_incumbent_on_the_same_games() -> None:
    # The second gate had easier games, and stopped early: neither says that its candidate plays better.
    known = course([ended(1, 8, 2), ended(2, 5, 5, of=5)], StopConfig())
    assert known.best == 1 and known.scores == {1: pytest.approx(0.3), 2: 0}


def test_the_gains_of_those_that_served_add_up() -> None:
    rounds = [
        ended(1, 8, 2, promoted=True),
        ended(2, 10, 8, incumbent="ad-1"),
        ended(3, 16, 12, incumbent="ad-1", promoted=True),
        ended(4, 10, 11, incumbent="ad-3"),
        ended(5, 12, 10, incumbent="merged"),
    ]
    known = course(rounds, StopConfig())
    assert known.scores == pytest.approx({1: 0.3, 2: 0.4, 3: 0.5, 4: 0.45, 5: 0.6})


def test_it_ends_after_so_many_rounds_without_a_gain_and_knows_the_best() -> None:
    rounds = [ended(1, 8), ended(2, 12), ended(3, 11)]
    assert not course(rounds, StopConfig()).stop
    known = course([*rounds, ended(4, 12)], StopConfig())
    assert known.stop and known.best == 2
    assert course(rounds, StopConfig(patience=1)).stop
    assert course(rounds, StopConfig(min_gain=0.3)).best == 1


def test_rounds_that_did_not_end_at_a_gate_count_neither_way() -> None:
    known = course([ended(1, 8), ended(2, 3, phase="abandoned"), ended(3, None)], StopConfig(patience=1))
    assert not known.stop and known.best == 1
