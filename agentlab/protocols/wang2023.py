"""`wang2023`: four games with and without tools, game by game against the scores that T5 was published with.

Wang, Jansen, Côté and Ammanabrolu, "Behavior Cloned Transformers are Neurosymbolic Reasoners" (EACL 2023): T5-base was
cloned from gold paths, and had a tool for each game, which it was shown how to call. Here nothing is shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from agentlab.protocols.protocol import Protocol, Published, Way, with_tools

STEPS = "step_limit=50"
GAMES = {
    "mapreader": f"twx/mapreader?numLocations=15,maxDistanceApart=4,maxDistractorItemsPerLocation=3,{STEPS}",
    "arithmetic": f"twx/arithmetic?{STEPS}",
    "sorting": f"twx/sorting?{STEPS}",
    "twc": f"twx/twc?{STEPS}",
}
TOOLS = {"mapreader": "navigator", "arithmetic": "calculator", "sorting": "sort"}

# All train games that are won, each once; nothing of the test games, no gold path.
ROUND: Mapping[str, Any] = {
    "collect": "random",
    "seeds": 160,
    "random_trials": 80,
    "selection": {"cap_per_task": 1, "cap_per_env": 80},
    "gate_seeds": 20,
}


def _published() -> list[Published]:
    """T5's scores, from the released results of the paper."""
    known = json.loads(resources.files("agentlab.protocols").joinpath("wang2023.json").read_text(encoding="utf-8"))
    return [
        Published(system, {game: sum(scores) / len(scores) for game, scores in games.items()}, games)
        for system, games in known["scores"].items()
    ]


WANG2023 = Protocol(
    name="wang2023",
    version=3,
    measures="four games with and without tools, against the scores of T5 with and without its modules, game by game",
    takes="with tools, on one core: 50 minutes of learning and 13 of the last arm's games a training seed, base apart",
    score="final",
    games=100,
    training_seeds=3,
    ways=[
        Way("with tools", with_tools(GAMES, TOOLS)),
        Way("without tools", GAMES),
    ],
    rounds=[ROUND],
    arms=["random", "base", "base + memory", "adapter", "adapter + memory"],
    # A model that has not learned plays to the last step, in twenty times the time of one that has.
    first={"base": 20, "base + memory": 20},
    published=_published(),
    note=(
        "The agent ranks admissible commands, learned from its own games of the train fold, and was shown no gold "
        "path. T5 writes its commands, and was cloned from 100 gold paths of each game. The test games are those of "
        "the paper; a newer release of the environment places their objects otherwise."
    ),
)
