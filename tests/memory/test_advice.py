"""Facts about one action in one state add up."""

from __future__ import annotations

from memory.advice import merged_advice
from memory.records import Advice


def test_counts_are_summed_and_the_best_value_and_the_worst_blame_are_kept() -> None:
    facts = [
        Advice(state="here", action="go", visits=1, no_effect=1, negative=1, lost=0, blame=0.2, value=0.9),
        Advice(state="there", action="go", visits=7),
        Advice(state="here", action="go", visits=2, no_effect=3, negative=0, lost=1, blame=0.6, value=0.1),
    ]
    before = [fact.model_copy() for fact in facts]
    assert merged_advice(facts) == [
        Advice(state="here", action="go", visits=3, no_effect=4, negative=1, lost=1, blame=0.6, value=0.9),
        Advice(state="there", action="go", visits=7),
    ]
    assert facts == before
