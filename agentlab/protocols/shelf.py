"""The protocols by their names."""

from __future__ import annotations

from agentlab.errors import BadConfig
from agentlab.protocols.alfworld import ALFWORLD
from agentlab.protocols.household import HOUSEHOLD
from agentlab.protocols.protocol import Protocol
from agentlab.protocols.sciworld import SCIWORLD
from agentlab.protocols.tales import TALES, TALES_TW, TALES_TWX, TW_COOKING
from agentlab.protocols.wang2023 import WANG2023
from environments.errors import did_you_mean


def protocols() -> list[Protocol]:
    """All protocols."""
    return [WANG2023, TALES, TALES_TWX, TALES_TW, SCIWORLD, ALFWORLD, HOUSEHOLD, TW_COOKING]


def protocol(name: str) -> Protocol:
    """The protocol of a name. Raises BadConfig if there is none."""
    known = {one.name: one for one in protocols()}
    if name not in known:
        raise BadConfig(f"There is no protocol {name!r}; {did_you_mean(name, list(known))}.")
    return known[name]
