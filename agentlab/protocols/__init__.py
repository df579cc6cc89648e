"""Protocols: benchmarks that anybody can repeat with one command, named and versioned."""

from agentlab.protocols.protocol import Protocol, Way
from agentlab.protocols.running import run_protocol
from agentlab.protocols.shelf import protocol, protocols

__all__ = ["Protocol", "Way", "protocol", "protocols", "run_protocol"]
