"""`household`: the six chores of ALFWorld in rooms that are made from a seed, which need no download."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentlab.protocols.protocol import Protocol, Way
from environments.household import GAMES

STEPS = "step_limit=50"
CHORES = {name.removeprefix("household/"): f"{name}?{STEPS}" for name in GAMES if not name.endswith("/any")}

# All chores by lot, each game once; what one has to look through in vain is learned from many.
ROUND: Mapping[str, Any] = {
    "collect": "random",
    "seeds": 400,
    "random_trials": 400,
    "selection": {"cap_per_task": 1, "cap_per_env": 400},
    "gate_seeds": 20,
}

HOUSEHOLD = Protocol(
    name="household",
    version=2,
    measures="six chores after ALFWorld in rooms that no train game has, 50 steps",
    takes="one round took 75 minutes on one busy core; its arms were not measured yet",
    score="final",
    games=50,
    training_seeds=3,
    ways=[Way("without tools", CHORES, [f"household/any?{STEPS}"])],
    rounds=[ROUND],
    arms=["random", "base", "base + memory", "adapter", "adapter + memory"],
    note=(
        "The track of admissible commands: the agent ranks those, and learned from its own random exploration of 400 "
        "train games. Chores, words and steps are ALFWorld's, rooms and objects are not: figures of ALFWorld are not "
        "to be compared with these. Every chore counts the same in the mean."
    ),
)
