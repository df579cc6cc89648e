"""What a reflection is worth: randomised withholding, uplift with its interval, benching, retirement."""

from __future__ import annotations

from memory.credit.credit import Credit, CreditConfig
from memory.credit.eprocess import log_e_value, log_stakes
from memory.credit.retirement import Retirement, RetirementConfig
from memory.credit.uplift import Strata, Uplift, estimate, moments, sample
from memory.credit.withholding import Draw, draw_lots, uniforms

__all__ = [
    "Credit",
    "CreditConfig",
    "Draw",
    "Retirement",
    "RetirementConfig",
    "Strata",
    "Uplift",
    "draw_lots",
    "estimate",
    "log_e_value",
    "log_stakes",
    "moments",
    "sample",
    "uniforms",
]
