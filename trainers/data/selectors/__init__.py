"""Selectors: the steps of which a selection is composed, each a small callable of one form (see `base`).

What no table shows to help yet is in `experimental`.
"""

from trainers.data.selectors.base import Context, Selected, Selection, Selector, Text, chain
from trainers.data.selectors.caps import Cap, Dedupe
from trainers.data.selectors.experimental.diversity import Diversity
from trainers.data.selectors.experimental.importance import Importance
from trainers.data.selectors.experimental.length import Shortest, Spread
from trainers.data.selectors.experimental.rehearsal import Rehearsal
from trainers.data.selectors.experimental.uncertainty import Uncertainty
from trainers.data.selectors.experimental.values import StepValues
from trainers.data.selectors.experimental.votes import Votes
from trainers.data.selectors.rewards import Threshold, Won

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
