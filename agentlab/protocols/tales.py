"""`tales`: what plays here of TALES (Cui et al. 2025), with its tasks, parameters and step limits.

`tales-twx` and `tales-tw` are two of its three parts by themselves; `tw-cooking` has levels of the same games as others
have published on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentlab.protocols import sciworld
from agentlab.protocols.protocol import Protocol, Published, Way, with_tools

STEPS = "step_limit=100"
BAG = "limitInventorySize=0"


def _simon(length: int, more: str) -> str:
    return f"twx/simonsays?gameLength={length},numDistractors=4,{more},{STEPS}"


LENGTHS = (10, 50, 100)
TASKS = {
    "CookingWorld": (
        f"twx/cookingworld?numLocations=1,numIngredients=2,numDistractorItems=5,includeDoors=0,{BAG},{STEPS}"
    ),
    "TextWorldCommonsense": f"twx/twc?numLocations=1,numItemsToPutAway=1,includeDoors=0,{BAG},{STEPS}",
    "CoinCollector": f"twx/coin?numLocations=1,numDistractorItems=5,{BAG},{STEPS}",
    "Arithmetic": f"twx/arithmetic?{STEPS}",
    "MapReader": (
        f"twx/mapreader?numLocations=2,maxDistanceApart=1,maxDistractorItemsPerLocation=2,includeDoors=0,{BAG},{STEPS}"
    ),
    "Sorting": f"twx/sorting?{STEPS}",
    "PeckingOrder": f"twx/peckingorder?{STEPS}",
    **{f"SimonSays{length}": _simon(length, "memorization=0") for length in LENGTHS},
    **{f"SimonSaysWithMemory{length}": _simon(length, "memorization=1,verbose=0") for length in LENGTHS},
    **{f"SimonSaysWithMemory{length}Verbose": _simon(length, "memorization=1,verbose=1") for length in LENGTHS},
}
# Chance wins the longest games of Simon's too slowly to learn from, and where each command is told when it is to be
# given, short ones teach the same. Of the ways to cook, which are many, more games are told, with fewer or more other
# things about.
LEARN = {
    **{name: env for name, env in TASKS.items() if not name.startswith("SimonSays")},
    **{
        f"CookingWorld, {others} others": TASKS["CookingWorld"].replace("Items=5", f"Items={others}")
        for others in (1, 2, 3, 4, 6)
    },
    **{
        name.replace("10", str(length)): env.replace("gameLength=10,", f"gameLength={length},")
        for name, env in TASKS.items()
        if "gameLength=10," in env
        for length in ((10, 25, 50) if "Memory" in name else (10, 25))
    },
}

TOOLS = {
    "Arithmetic": "calculator",
    "MapReader": "navigator",
    "Sorting": "sort",
    **dict.fromkeys((name for name in [*TASKS, *LEARN] if "Memory" in name), "checklist"),
}

ROUND: Mapping[str, Any] = {
    "collect": "random",
    "seeds": 50,
    "random_trials": 1500,
    "selection": {"cap_per_task": 1, "cap_per_env": 40},
    "gate_seeds": 5,
}
MEANS = {
    "claude-3.7-sonnet": 0.958,
    "gpt-4.1": 0.925,
    "o3 (medium)": 0.919,
    "Qwen2.5-72B-Instruct": 0.838,
    "Llama-3.1-8B-Instruct": 0.503,
    "Qwen2.5-7B-Instruct": 0.456,
    "Llama-3.2-1B-Instruct": 0.190,
}

TALES_TWX = Protocol(
    name="tales-twx",
    version=3,
    measures="the sixteen TextWorldExpress tasks of TALES, 100 steps, the best score that was reached",
    takes="its time was not measured yet",
    score="best",
    games=5,
    training_seeds=1,
    ways=[
        Way("with tools", with_tools(TASKS, TOOLS), list(with_tools(LEARN, TOOLS).values())),
        Way("without tools", TASKS, list(LEARN.values())),
    ],
    rounds=[ROUND],
    arms=["random", "base", "base + memory", "adapter", "adapter + memory"],
    published=[Published(name, {"mean": mean}) for name, mean in MEANS.items()],
    note=(
        "The track of admissible commands: the agent ranks those, and learned from its own games of the train fold. "
        "The published models play zero-shot and write free text, without a list of commands."
    ),
)

# The ten levels are those of the games that TALES downloads (Adhikari et al. 2020), which were generated so.
LEVELS = (
    "open=1",
    "cook=1,open=1",
    "cut=1,open=1",
    "go=6,open=1",
    "go=9,open=1",
    "go=12,open=1",
    "cook=1,cut=1,open=1",
    "go=6,open=1,recipe=3,take=3",
    "cook=1,cut=1,go=6,open=1,recipe=3,take=3",
    "cook=1,cut=1,go=12,open=1,recipe=3,take=3",
)
COOKING = {f"TWCookingLevel{level}": f"tw/cooking?{how},{STEPS}" for level, how in enumerate(LEVELS, 1)}

TALES_TW = Protocol(
    name="tales-tw",
    version=3,
    measures="the ten levels of cooking games of TALES, 100 steps, the best score that was reached",
    takes="its time was not measured yet",
    score="best",
    games=5,
    training_seeds=1,
    ways=[Way("without tools", COOKING)],
    rounds=[ROUND],
    arms=["random", "base", "base + memory", "adapter", "adapter + memory"],
    note=(
        "The track of admissible commands: the agent ranks those, and learned from its own games of the train fold. "
        "The games are generated here with the parameters of each level; those that TALES downloads have other seeds, "
        "and their text is longer: the levels are the same, not the games. TALES has no score of these ten alone."
    ),
)

# Four of these levels with 100 train games of each, as Adhikari et al. (2020) have it.
GATA_LEVELS = {
    "level 1": "cut=1,open=1",
    "level 2": "cook=1,cut=1,open=1",
    "level 3": "go=9,open=1",
    "level 4": "cook=1,cut=1,go=6,open=1,recipe=3,take=3",
}

TW_COOKING = Protocol(
    name="tw-cooking",
    version=3,
    measures="four levels of TextWorld's cooking games, learned from 100 train games of each, 100 steps",
    takes="its time was not measured yet",
    score="final",
    games=20,
    training_seeds=1,
    ways=[
        Way(
            "without tools",
            {name: f"tw/cooking?{how},{STEPS}" for name, how in GATA_LEVELS.items()},
            [f"tw/cooking?{how},step_limit=50" for how in GATA_LEVELS.values()],
        )
    ],
    rounds=[{**ROUND, "seeds": 100, "gate_seeds": 20, "selection": {"cap_per_task": 1, "cap_per_env": 100}}],
    arms=["random", "base", "base + memory", "adapter", "adapter + memory"],
    note=(
        "The levels, the numbers of train and test games and the steps (50 in learning, 100 in tests) are those of "
        "GATA (Adhikari et al. 2020), whose games are a download. Here they are generated with the parameters of each "
        "level, foods of test games being in no train game, so it is the levels that may be compared and not the "
        "games. GATA learns each level by itself; here one adapter learns all four. Like GATA, the agent chooses among "
        "admissible commands."
    ),
)

SCIENCE = {name: f"{env},easy=0" for name, env in sciworld.TASKS.items()}
PARTS = {"TextWorldExpress": TASKS, "ScienceWorld": SCIENCE, "TextWorld": COOKING}
SCIENCE_MEANS = {
    "claude-3.7-sonnet": 0.724,
    "gpt-4.1": 0.761,
    "o3 (medium)": 0.930,
    "Qwen2.5-72B-Instruct": 0.350,
    "Llama-3.1-8B-Instruct": 0.157,
    "Qwen2.5-7B-Instruct": 0.126,
    "Llama-3.2-1B-Instruct": 0.024,
}
EVERYTHING = {name: env for tasks in PARTS.values() for name, env in tasks.items()}

TALES = Protocol(
    name="tales",
    version=3,
    measures="three parts of TALES, 56 tasks, 100 steps, the best score that was reached",
    takes="its time was not measured yet; the hundreds of commands of ScienceWorld want a graphics card",
    score="best",
    games=5,
    training_seeds=1,
    ways=[
        Way("with tools", with_tools(EVERYTHING, TOOLS), [*with_tools(LEARN, TOOLS).values(), *COOKING.values()]),
        Way("without tools", EVERYTHING, [*LEARN.values(), *COOKING.values()]),
    ],
    rounds=[ROUND, {**sciworld.ROUND, "envs": [f"{env},easy=0" for env in sciworld.LEARN]}],
    fewer={"identify-life-stages-2": 4},
    arms=["random", "base", "base + memory", "adapter", "adapter + memory"],
    groups={part: list(tasks) for part, tasks in PARTS.items()},
    published=[
        Published(name, {"TextWorldExpress": mean, "ScienceWorld": SCIENCE_MEANS[name]}) for name, mean in MEANS.items()
    ],
    note=(
        f"{TALES_TWX.note} The ten levels of cooking games are generated here, as in `tales-tw`. A task of "
        "ScienceWorld with fewer than five test variations is played on all of them. TALES's parts ALFWorld (a "
        "download) and Jericho are not in it, so its total is not TALES's: the parts are to be compared."
    ),
)
