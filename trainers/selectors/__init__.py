"""Selectors: the steps of which a selection is composed, each a small callable of one form (see `base`)."""

from trainers.selectors.base import Context, Selected, Selection, Selector, Text, chain
from trainers.selectors.caps import Cap, Dedupe
from trainers.selectors.diversity import Diversity
from trainers.selectors.importance import Importance
from trainers.selectors.length import Shortest, Spread
from trainers.selectors.rehearsal import Rehearsal
from trainers.selectors.rewards import Threshold, Won
from trainers.selectors.uncertainty import Uncertainty
from trainers.selectors.values import StepValues
from trainers.selectors.votes import Votes

__all__ = [
    # The interface
    "Context",
    "Selected",
    "Selection",
    "Selector",
    "Text",
    "chain",
    # By reward, agreement, loss and certainty
    "Won",
    "Threshold",
    "Votes",
    "Importance",
    "Uncertainty",
    "StepValues",
    # By what is there already
    "Cap",
    "Dedupe",
    "Diversity",
    "Shortest",
    "Spread",
    "Rehearsal",
]
