"""`alfworld`: ALFWorld's own games (Shridhar et al. 2021), which are a download."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentlab.protocols.protocol import Protocol, Way
from environments.alfworld import GAMES

TASKS = {name.removeprefix("alfworld/"): f"{name}?step_limit=50" for name in GAMES if not name.endswith("/any")}

ROUND: Mapping[str, Any] = {
    "collect": "random",
    "seeds": 60,
    "random_trials": 80,
    "selection": {"cap_per_task": 1, "cap_per_env": 40},
    "gate_seeds": 5,
}

ALFWORLD = Protocol(
    name="alfworld",
    version=1,
    measures="the six kinds of chores of ALFWorld, 50 steps, in rooms that no train game has",
    takes="its time was not measured yet",
    score="final",
    games=50,
    training_seeds=1,
    ways=[Way("without tools", TASKS)],
    rounds=[ROUND, ROUND],
    fewer={
        "pick_and_place_simple": 24,
        "look_at_obj_in_light": 18,
        "pick_clean_then_place_in_recep": 31,
        "pick_heat_then_place_in_recep": 23,
        "pick_cool_then_place_in_recep": 21,
        "pick_two_obj_and_place": 17,
    },
    arms=["random", "base", "base + memory", "adapter", "adapter + memory"],
    note=(
        "Test games are the 134 of `valid_unseen` (out of distribution), dev games those of `valid_seen` (in "
        "distribution), of which the gates have seen the first of each kind. Every kind counts the same in the mean. "
        "The agent ranks admissible commands. To be compared with it, with that in mind: figures within one trial, of "
        "the same split and the same version of ALFWorld (from 0.4 on its games say `move X to Y`, before that `put X "
        "in/on Y`). Not to be compared: Reflexion's 130 of 134, which are within twelve trials with feedback, and "
        "GiGPO's .867, which is of `valid_seen`."
    ),
)
