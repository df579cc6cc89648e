from __future__ import annotations

import pytest

from agentlab.trajectories.advice import (
    BLAME_DISCOUNT,
    GAIN_DISCOUNT,
    AdviceBook,
    AdviceWeights,
    facts_of,
    immediate,
)
from memory.records import Advice, Step

WEIGHTS = AdviceWeights()


def step(index: int, action: str, *, state: str = "", after: str = "", reward: float = 0.0, score: float = 0.0) -> Step:
    return Step(
        index=index,
        observation=f"before {index}",
        state=state or f"state {index}",
        admissible=[action],
        action=action,
        result=f"after {index}",
        next_state=after or f"state {index + 1}",
        reward=reward,
        score=score,
    )


def fact(**values: float) -> Advice:
    return Advice(state="s", action="a", **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("known", "bonus"),
    [
        (fact(visits=1, lost=1, value=1.0), -8.0),
        (fact(visits=1, value=0.5), 3.0),
        (fact(visits=1, value=1.0), 4.5),
        (fact(visits=1, value=0.5, blame=0.6), 0.0),
        (fact(visits=1, negative=1), -3.0),
        (fact(visits=1), -0.7),
        (fact(visits=3), -1.4),
        (fact(visits=1, no_effect=1), -2.2),
        (fact(visits=7, no_effect=7), -2.1 - 4.5),
        (fact(visits=1, blame=0.36), -0.7 - 1.8),
    ],
)
def test_what_is_known_becomes_a_bonus_in_nats(known: Advice, bonus: float) -> None:
    assert WEIGHTS.bonus(known) == pytest.approx(bonus)


def test_a_book_adds_counts_and_keeps_the_best_value_and_the_worst_blame() -> None:
    book = AdviceBook([fact(visits=1, value=0.2, blame=0.1), fact(visits=2, no_effect=1, negative=1, value=0.1)])
    book.add(fact(lost=1, blame=0.6))
    (merged,) = book.facts.values()
    assert merged == fact(visits=3, no_effect=1, negative=1, lost=1, value=0.2, blame=0.6)
    assert len(book) == 1


def test_a_book_does_not_change_the_facts_that_it_was_given() -> None:
    given = fact(visits=1)
    book = AdviceBook([given])
    book.add(fact(visits=1))
    assert given.visits == 1


def test_bonuses_are_for_this_state_and_nothing_is_known_of_others() -> None:
    book = AdviceBook([fact(visits=1, lost=1)])
    assert book.bonuses("s", ["b", "a"], WEIGHTS) == [0.0, -8.0]
    assert book.bonuses("elsewhere", ["a"], WEIGHTS) == [0.0]


def test_a_step_shows_at_once_what_it_did() -> None:
    nothing = immediate(step(0, "look", state="s", after="s"))
    assert (nothing.visits, nothing.no_effect, nothing.value) == (1, 1, 0.0)
    gain = immediate(step(0, "take coin", state="s", after="s", reward=0.5, score=0.5))
    assert (gain.no_effect, gain.value, gain.negative) == (0, 0.5, 0)
    assert immediate(step(0, "drop coin", reward=-0.5)).negative == 1


def test_a_gain_that_was_had_does_not_attract_again_and_a_warning_stays() -> None:
    for known, bonus, again in ((fact(visits=1, value=1.0), 4.5, 0.0), (fact(visits=1, lost=1), -8.0, -8.0)):
        assert AdviceBook([known]).bonuses("s", ["a"], WEIGHTS, [0]) == [bonus]
        assert AdviceBook([known]).bonuses("s", ["a"], WEIGHTS, [2]) == [again]


def test_a_gain_is_backed_up_to_the_steps_that_led_to_it() -> None:
    steps = [step(0, "go"), step(1, "open"), step(2, "take", reward=1.0, score=1.0)]
    values = [found.value for found in facts_of(steps, lost=False)]
    assert values == pytest.approx([GAIN_DISCOUNT**2, GAIN_DISCOUNT, 1.0])


def test_what_came_after_the_last_gain_has_no_value() -> None:
    steps = [step(0, "take", reward=0.5, score=0.5), step(1, "dance", score=0.5)]
    assert [found.value for found in facts_of(steps, lost=False)] == [0.5, 0.0]


def test_a_loss_marks_the_last_step_and_blames_those_before_it_less_and_less() -> None:
    facts = facts_of([step(at, f"act {at}") for at in range(3)], lost=True)
    assert [found.lost for found in facts] == [0, 0, 1]
    assert [found.blame for found in facts] == pytest.approx([BLAME_DISCOUNT**2, BLAME_DISCOUNT, 0.0])


def test_the_same_action_in_the_same_state_is_one_fact() -> None:
    steps = [step(at, "look", state="s", after="s") for at in range(3)]
    (found,) = facts_of(steps, lost=False)
    assert (found.visits, found.no_effect) == (3, 3)


def test_no_steps_show_nothing() -> None:
    assert facts_of([], lost=True) == []
