"""Distillation rounds: balance → collect → revise → select → train → monitor → gate → promote or reject → retire.
One that plays while it trains (GRPO) practises instead of collecting, selecting and training; a society of agents
(experimental) takes the place of these too.

A round is a transaction. Every node can be done twice without harm: finished work is found in the lab's journal, a
training job goes on from its checkpoint, ids follow from content. A kill at any node, and the same command again, gives
what an unbroken run gives.

A node is a function `(workspace, report) -> name of the next node`, listed in `agentlab.rounds.graph.NODES`; what it
found out it writes into the report, which is stored when it returns. A merge of adapters stands at a gate of the same
kind (`merge_gate`).
"""

from __future__ import annotations

from agentlab.rounds.config import RoundConfig
from agentlab.rounds.graph import abandon, run_round
from agentlab.rounds.parts import TrainingConfig
from agentlab.rounds.presets import PRESETS
from agentlab.rounds.remote import export_round, import_round
from agentlab.rounds.report import RoundReport, reports

__all__ = [
    "PRESETS",
    "RoundConfig",
    "RoundReport",
    "TrainingConfig",
    "abandon",
    "export_round",
    "import_round",
    "reports",
    "run_round",
]
