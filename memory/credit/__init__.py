"""What a reflection is worth: randomised assignment, uplift with its interval, benching, retirement."""

from __future__ import annotations

from memory.credit.assignment import Assignment, assign, uniforms
from memory.credit.config import CreditConfig
from memory.credit.credit import Credit
from memory.credit.eprocess import log_e_value, log_stakes
from memory.credit.probation import Judged, Probation
from memory.credit.retirement import Retirement, RetirementConfig
from memory.credit.tools import ToolCredit, ToolPlace
from memory.credit.uplift import Strata, Uplift, estimate, moments, sample

__all__ = [
    "Credit",
    "CreditConfig",
    "Assignment",
    "Judged",
    "Probation",
    "Retirement",
    "RetirementConfig",
    "Strata",
    "ToolCredit",
    "ToolPlace",
    "Uplift",
    "assign",
    "estimate",
    "log_e_value",
    "log_stakes",
    "moments",
    "sample",
    "uniforms",
]
