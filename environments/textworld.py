"""Games of TextWorld (Côté et al. 2018), generated from a seed and played without Java.

`tw/quest` and `tw/treasure`; `tw/cooking` and one's own files (`tw/FILE-OR-FOLDER`) are in modules of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from environments.base import Split, TextEnv
from environments.parameters import Game, Parameter
from environments.textworld_cooking import COOKING, CookingEnv
from environments.textworld_files import GAME, takes
from environments.textworld_files import make as make_of_files
from environments.textworld_game import TextWorldEnv, stored, why_not

__all__ = ["DESCRIPTION", "GAME", "GAMES", "QuestEnv", "TreasureEnv", "make", "takes", "why_not"]

DESCRIPTION = "TextWorld: quests, treasures and meals by a recipe, generated from a seed (no Java)"
GAMES = {
    "tw/quest": Game(
        "do the few things that the task asks for, in its order",
        {
            "nb_objects": Parameter(6, 1, 40, "the number of objects, furniture included"),
            "nb_rooms": Parameter(3, 1, 20, "the number of rooms", size=True),
            "quest_length": Parameter(3, 1, 10, "the number of actions that the quest takes", size=True),
            "step_limit": Parameter(10, 1, 10_000, "the number of actions an episode may have"),
        },
    ),
    "tw/treasure": Game(
        "find the object that the task names, and take no other",
        {
            "level": Parameter(
                1, 1, 20, "how hard it is: 5 rooms up to level 10, then 10 with doors and boxes", size=True
            ),
            "step_limit": Parameter(50, 1, 10_000, "the number of actions an episode may have"),
        },
    ),
    "tw/cooking": COOKING,
}


class QuestEnv(TextWorldEnv):
    """A quest through generated rooms; it cannot be lost by time.

    Args:
        env_id: the id under which the registry made it.
        nb_rooms: the number of rooms.
        nb_objects: the number of objects.
        quest_length: the number of actions that the quest takes.
        step_limit: the number of actions an episode may have.
    """

    def __init__(
        self,
        env_id: str = "tw/quest",
        *,
        nb_rooms: int = 3,
        nb_objects: int = 6,
        quest_length: int = 3,
        step_limit: int = 10,
    ) -> None:
        super().__init__(env_id, step_limit)
        self._shape = (nb_rooms, nb_objects, quest_length)

    def generated(self, split: Split, seed: int) -> Any:
        return _game(*self._shape, seed)


@lru_cache(maxsize=512)
def _game(nb_rooms: int, nb_objects: int, quest_length: int, seed: int) -> Any:
    def generate(textworld: Any) -> Any:  # 0.3 s
        options = textworld.GameOptions()
        options.nb_rooms, options.nb_objects, options.quest_length = nb_rooms, nb_objects, quest_length
        options.seeds = seed
        return textworld.generator.make_game(options)

    return stored(f"quest-{nb_rooms}-{nb_objects}-{quest_length}-{seed}", generate)


class TreasureEnv(TextWorldEnv):
    """A treasure hunt (after Parisotto and Salakhutdinov 2017): the wrong object loses.

    Args:
        env_id: the id under which the registry made it.
        level: how hard it is, from 1 to 20; TextWorld has ten more, of which one game may take minutes to be made.
        step_limit: the number of actions an episode may have.
    """

    def __init__(self, env_id: str = "tw/treasure", *, level: int = 1, step_limit: int = 50) -> None:
        super().__init__(env_id, step_limit)
        self._level = level

    def generated(self, split: Split, seed: int) -> Any:
        return _treasure(self._level, seed)


@lru_cache(maxsize=512)
def _treasure(level: int, seed: int) -> Any:
    def generate(textworld: Any) -> Any:
        from textworld.challenges.tw_treasure_hunter import treasure_hunter

        options = textworld.GameOptions()
        options.seeds = seed
        options.grammar.only_last_action = True  # what is wanted, and not the way there
        return treasure_hunter.make({"level": level}, options)

    return stored(f"treasure-{level}-{seed}", generate)


def make(name: str, parameters: Mapping[str, int]) -> TextEnv:
    """The environment `name` with all its `parameters`."""
    if name not in GAMES:
        return make_of_files(name, parameters)
    kinds = {"tw/quest": QuestEnv, "tw/treasure": TreasureEnv, "tw/cooking": CookingEnv}
    return kinds[name](GAMES[name].canonical(name, parameters), **parameters)
