"""The gate: whether a candidate may serve, and what steers and watches a series of rounds.

Statistics of paired wins and losses, the gate and its sequential form, monitors of what training does to a policy, and
the controllers of exploration, of the bar for good trajectories and of the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainers.doors import lazy

if TYPE_CHECKING:
    from trainers.gate.controller import AlphaSchedule, EarlyStop
    from trainers.gate.experimental import Balancer, subset
    from trainers.gate.gate import GateConfig, GateResult, Results, SequentialGate, decide, swayed
    from trainers.gate.monitors import Estimate, MonitorConfig, Monitors, Scored, observe
    from trainers.gate.statistics import Paired, Ratio, bootstrap_ratio, holm, mcnemar, p_text, paired, wilson

__all__ = [
    # Statistics
    "Paired",
    "Ratio",
    "bootstrap_ratio",
    "holm",
    "mcnemar",
    "p_text",
    "paired",
    "wilson",
    # The gate
    "GateConfig",
    "GateResult",
    "Results",
    "SequentialGate",
    "decide",
    "swayed",
    # What is watched, and what steers
    "AlphaSchedule",
    "Balancer",
    "EarlyStop",
    "Estimate",
    "MonitorConfig",
    "Monitors",
    "Scored",
    "observe",
    "subset",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "trainers.gate.statistics": (
            "Paired",
            "Ratio",
            "bootstrap_ratio",
            "holm",
            "mcnemar",
            "p_text",
            "paired",
            "wilson",
        ),
        "trainers.gate.gate": ("GateConfig", "GateResult", "Results", "SequentialGate", "decide", "swayed"),
        "trainers.gate.monitors": ("Estimate", "MonitorConfig", "Monitors", "Scored", "observe"),
        "trainers.gate.controller": ("AlphaSchedule", "EarlyStop"),
        "trainers.gate.experimental": ("Balancer", "subset"),
    },
)
