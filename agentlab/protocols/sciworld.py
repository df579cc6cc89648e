"""`sciworld`: the thirty tasks of ScienceWorld (Wang et al. 2022) on the variations that SwiftSage was measured on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentlab.protocols.protocol import Protocol, Published, Way
from environments.scienceworld import GAMES

NAMES = [env.removeprefix("sciworld/") for env in GAMES]
TASKS = {name: f"sciworld/{name}?step_limit=100" for name in NAMES}

# Of these there are ten train and five dev variations at most: too few for two rounds and their gates.
FEW = ("identify-life-stages-1", "identify-life-stages-2", "power-component",
       "power-component-renewable-vs-nonrenewable-energy")  # fmt: skip
LEARN = [env for name, env in TASKS.items() if name not in FEW]

# AgentGym leaves out seven tasks whose solutions are long.
LONG = ("grow-plant", "grow-fruit", "inclined-plane-determine-angle", "inclined-plane-friction-named-surfaces",
        "inclined-plane-friction-unnamed-surfaces", "mendelian-genetics-known-plant",
        "mendelian-genetics-unknown-plant")  # fmt: skip
AGENTGYM = "AgentGym's 23 tasks"

# Those with fewer than ten test variations.
FEWER = {
    **dict.fromkeys(("boil", "melt", "freeze", "change-the-state-of-matter-of"), 9),
    **dict.fromkeys(("chemistry-mix-paint-secondary-color", "chemistry-mix-paint-tertiary-color"), 9),
    **dict.fromkeys(("identify-life-stages-1", "power-component"), 5),
    "chemistry-mix": 8,
    "identify-life-stages-2": 4,
    "power-component-renewable-vs-nonrenewable-energy": 5,
}

ROUND: Mapping[str, Any] = {
    "collect": "random",
    "seeds": 7,
    "random_trials": 40,
    "selection": {"cap_per_task": 1},
    "gate_seeds": 3,
}

SCIWORLD = Protocol(
    name="sciworld",
    version=1,
    measures="the thirty tasks of ScienceWorld with its simplifications, 100 steps, the first ten test variations",
    takes="its time was not measured yet; hundreds of commands a step want a graphics card",
    score="final",
    games=10,
    training_seeds=1,
    ways=[Way("without tools", TASKS, LEARN)],
    rounds=[ROUND],
    arms=["random", "base", "base + memory", "adapter", "adapter + memory"],
    fewer=FEWER,
    groups={AGENTGYM: [name for name in NAMES if name not in LONG]},
    published=[
        Published(name, {"mean": mean})
        for name, mean in {
            "SwiftSage (T5-large by gold paths, GPT-4)": 0.847,
            "Reflexion (GPT-4)": 0.453,
            "ReAct (GPT-4)": 0.364,
            "SayCan (GPT-4)": 0.338,
        }.items()
    ],
    note=(
        "The track of admissible commands: the agent ranks those, and learned from its own games of the first seven "
        "train variations of 26 tasks; the other four have too few. A task that was done wrong scores 0. The published "
        "scores are SwiftSage's (Lin et al. 2023) on at most ten test variations of each task by the same rule (270 of "
        "ScienceWorld 1.1.3; here there are 271), with gold paths or GPT-4, and other limits of steps. AgentGym and "
        "those who use it (Agent-R .702, its base .144) draw 200 games from the variations of 23 tasks: the same tasks "
        "and not the same games, so their figures are not to be compared with these."
    ),
)
