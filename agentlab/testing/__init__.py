"""A conformance kit: does one's own engine, actor, reflector, environment or sink keep what the others rely on?

Each check runs sentences about behaviour and gives a report, which prints as a table; nothing is raised before
`report.raise_for_failures()`.
"""

from agentlab.testing.actors import check_actor
from agentlab.testing.engines import check_engine
from agentlab.testing.environments import check_environment
from agentlab.testing.reflectors import check_reflector
from agentlab.testing.report import Finding, Report
from agentlab.testing.sinks import check_sink

__all__ = [
    "Finding",
    "Report",
    "check_actor",
    "check_engine",
    "check_environment",
    "check_reflector",
    "check_sink",
]
