"""Selectors: the steps of which a selection is composed, each a small callable of one form (see `base`)."""

from trainers.data.selectors.base import Context, Selected, Selection, Selector, Text, chain
from trainers.data.selectors.caps import Cap, Dedupe
from trainers.data.selectors.diversity import Diversity
from trainers.data.selectors.importance import Importance
from trainers.data.selectors.length import Shortest, Spread
from trainers.data.selectors.rehearsal import Rehearsal
from trainers.data.selectors.rewards import Threshold, Won
from trainers.data.selectors.uncertainty import Uncertainty
from trainers.data.selectors.values import StepValues
from trainers.data.selectors.votes import Votes

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
