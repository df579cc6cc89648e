"""Experience becomes weights: which episodes are trained on, training jobs, gates, and the adapters of a lab.

Bottom up: settings and lineage; `data`, records from episodes; `objectives`, losses from records; `training`, the steps
of one job; `gate`, whether a candidate may serve; `trainers.job`, a job folder and its command; `adapters`, what a lab
knows of each; `trainers.transport`, jobs for another machine. Each room has a door like this one, and no other way in.

Names are imported when they are first asked for; PyTorch, transformers and peft only when a job runs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from trainers.doors import lazy

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as for agentlab: see there

if TYPE_CHECKING:
    from trainers.adapters.merging import MergeConfig
    from trainers.adapters.record import AdapterRecord
    from trainers.adapters.registry import AdapterRegistry
    from trainers.config import BaseRef, JobConfig, ObjectiveName, OnPolicyConfig
    from trainers.data.distillation import from_teacher
    from trainers.data.examples import Example, drop_oldest, from_episode
    from trainers.data.preferences import Preference, by_reward, by_votes, from_outcome, from_preference
    from trainers.data.records import Choice, Distilled, Judged, Pair, Record
    from trainers.data.selection import Selected, Selection, SelectionConfig, select, survey
    from trainers.data.selectors import Context, Selector
    from trainers.errors import TrainersError
    from trainers.gate.controller import AlphaSchedule, EarlyStop
    from trainers.gate.experimental import Balancer
    from trainers.gate.gate import GateConfig, GateResult, SequentialGate, decide
    from trainers.gate.monitors import MonitorConfig, Monitors, observe
    from trainers.gate.statistics import Paired, Ratio, bootstrap_ratio, holm, mcnemar, paired, wilson
    from trainers.lineage import Lineage, Member, Merge
    from trainers.training.canary import Canary
    from trainers.training.job_data import Job, JobResult, Report
    from trainers.training.weights import fingerprint, reference

__all__ = [
    # Which episodes, and how they become examples
    "Context",
    "Choice",
    "Distilled",
    "Example",
    "Judged",
    "Pair",
    "Preference",
    "Record",
    "Selected",
    "Selection",
    "SelectionConfig",
    "Selector",
    "by_reward",
    "by_votes",
    "drop_oldest",
    "from_episode",
    "from_outcome",
    "from_preference",
    "from_teacher",
    "select",
    "survey",
    # What steers the rounds, and what to watch over them
    "AlphaSchedule",
    "Balancer",
    "EarlyStop",
    "MonitorConfig",
    "Monitors",
    "observe",
    # Training jobs: see trainers.job for create and run
    "BaseRef",
    "Canary",
    "Job",
    "JobConfig",
    "JobResult",
    "Lineage",
    "ObjectiveName",
    "OnPolicyConfig",
    "Report",
    "fingerprint",
    "reference",
    # Gates and adapters
    "AdapterRecord",
    "AdapterRegistry",
    "GateConfig",
    "GateResult",
    "Member",
    "Merge",
    "MergeConfig",
    "SequentialGate",
    "decide",
    # Statistics
    "Paired",
    "Ratio",
    "bootstrap_ratio",
    "holm",
    "mcnemar",
    "paired",
    "wilson",
    # Errors
    "TrainersError",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "trainers.adapters.merging": ("MergeConfig",),
        "trainers.adapters.record": ("AdapterRecord",),
        "trainers.adapters.registry": ("AdapterRegistry",),
        "trainers.config": ("BaseRef", "JobConfig", "ObjectiveName", "OnPolicyConfig"),
        "trainers.data.distillation": ("from_teacher",),
        "trainers.data.examples": ("Example", "drop_oldest", "from_episode"),
        "trainers.data.preferences": ("Preference", "by_reward", "by_votes", "from_outcome", "from_preference"),
        "trainers.data.records": ("Choice", "Distilled", "Judged", "Pair", "Record"),
        "trainers.data.selection": ("Selected", "Selection", "SelectionConfig", "select", "survey"),
        "trainers.data.selectors": ("Context", "Selector"),
        "trainers.errors": ("TrainersError",),
        "trainers.gate.controller": ("AlphaSchedule", "EarlyStop"),
        "trainers.gate.experimental": ("Balancer",),
        "trainers.gate.gate": ("GateConfig", "GateResult", "SequentialGate", "decide"),
        "trainers.gate.monitors": ("MonitorConfig", "Monitors", "observe"),
        "trainers.gate.statistics": ("Paired", "Ratio", "bootstrap_ratio", "holm", "mcnemar", "paired", "wilson"),
        "trainers.lineage": ("Lineage", "Member", "Merge"),
        "trainers.training.canary": ("Canary",),
        "trainers.training.job_data": ("Job", "JobResult", "Report"),
        "trainers.training.weights": ("fingerprint", "reference"),
    },
)
