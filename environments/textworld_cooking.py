"""TextWorld's cooking games, as in the competition First TextWorld Problems, generated from a seed: `tw/cooking`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from environments.base import Split, Turn
from environments.errors import BadParameter
from environments.parameters import Game, Parameter
from environments.textworld_game import TextWorldEnv, hashable, stored

ROOMS = (1, 6, 9, 12)
COOKING = Game(
    "find the kitchen, read the cookbook, fetch and prepare what its recipe needs, prepare the meal, and eat it",
    {
        "recipe": Parameter(1, 1, 5, "the number of ingredients", size=True),
        "take": Parameter(1, 0, 5, "how many of these have to be fetched", size=True),
        "cook": Parameter(0, 0, 1, "whether ingredients have to be fried, roasted or grilled"),
        "cut": Parameter(0, 0, 1, "whether ingredients have to be chopped, sliced or diced"),
        "open": Parameter(0, 0, 1, "whether doors and containers are closed at first"),
        "drop": Parameter(0, 0, 1, "whether one can carry hardly more than the ingredients"),
        "go": Parameter(1, 1, 12, "the number of rooms: 1, 6, 9 or 12", size=True, values=ROOMS),
        "step_limit": Parameter(50, 1, 10_000, "the number of actions an episode may have"),
    },
)
_FOODS: dict[Split, str] = {"train": "train", "dev": "valid", "test": "test"}
_CUT = {"chopped": "chop", "sliced": "slice", "diced": "dice"}
_COOK = {"fried": "fry", "roasted": "roast", "grilled": "grill"}


class MealEnv(TextWorldEnv):
    """Says and refuses in a cooking game what its text does and its logic does not; any other game is as it is."""

    def act(self, action: str) -> Turn:
        refused = self._refused(action.strip())
        return self._turn(refused) if refused else super().act(action)

    def _offer(self) -> None:
        super()._offer()
        # Its logic has a rule for each number of ingredients; the meal needs all that the recipe has.
        whole = f"make/recipe/{len(self._ingredients())}"
        for action in self._progress.valid_actions:
            if action.name == whole:
                self._commands["prepare meal"] = action

    def _refused(self, command: str) -> str:
        """What is said to a meal that TextWorld's logic lets pass, and its text does not; empty where nothing is."""
        if command != "prepare meal" or command not in self._commands:
            return ""
        names = {key: info.name for key, info in self._game.infos.items()}
        known, carried = defaultdict[str, set[str]](set), set[str]()
        for fact in self._progress.state.facts:
            first, *others = (variable.name for variable in fact.arguments)
            if not others:
                known[names.get(first, "")].add(fact.name)
            elif fact.name == "in" and others == ["I"]:
                carried.add(names[first])
        for name, cooking, cutting in self._ingredients():
            if name not in carried:
                return "You still miss something."
            if known[name] & {*_COOK} != {cooking} - {"raw"}:
                return "Something still needs to be cooked."
            if known[name] & {*_CUT} != {cutting} - {"uncut"}:
                return "Something still needs to be cut."
        return ""

    def examined(self, name: str) -> str:
        return self._recipe() if name == "cookbook" and self._ingredients() else super().examined(name)

    def outcome(self, verb: str, rest: str) -> str:
        if verb in ("cook", *_CUT.values()):
            return super().examined(rest.partition(" with ")[0])
        return super().outcome(verb, rest)

    def _ingredients(self) -> list[tuple[str, str, str]]:
        """Name, way to cook and way to cut of what the recipe asks for; nothing where no meal is cooked."""
        return self._game.metadata.get("ingredients") or []

    def _recipe(self) -> str:
        ingredients = self._ingredients()
        ways = [
            f"{how[way]} the {name}"
            for name, cooking, cutting in ingredients
            for how, way in ((_CUT, cutting), (_COOK, cooking))
            if way in how
        ]
        names = ", ".join(name for name, _, _ in ingredients)
        return f"The recipe. Ingredients: {names}. Directions: {', '.join([*ways, 'prepare meal'])}."


class CookingEnv(MealEnv):
    """A meal by a recipe. An ingredient that is eaten, burned or prepared in another way than the recipe's loses.

    Folds are those of the competition: dev and test games have foods that train games never have, and other ways to
    prepare those that they have, but for five that are only ever taken (water, salt, flour, oil, pepper).

    Args:
        env_id: the id under which the registry made it.
        recipe: the number of ingredients.
        take: how many of these have to be fetched; the others are carried from the start.
        cook: whether ingredients have to be cooked; else they are already.
        cut: whether ingredients have to be cut; else they are already.
        open: whether doors and containers are closed at first.
        drop: whether one can carry hardly more than the ingredients.
        go: the number of rooms.
        step_limit: the number of actions an episode may have.

    Raises:
        BadParameter: if there are no such games: of so many rooms, with more to be fetched than the recipe has, or with
            something to cut and nothing to cook where there is a grill.
    """

    def __init__(
        self,
        env_id: str = "tw/cooking",
        *,
        recipe: int = 1,
        take: int = 1,
        cook: int = 0,
        cut: int = 0,
        open: int = 0,
        drop: int = 0,
        go: int = 1,
        step_limit: int = 50,
    ) -> None:
        if cut and not cook and go not in ROOMS[:2]:
            raise BadParameter(f"{env_id} cannot be made; with cut=1 and more than 6 rooms its games need cook=1 too")
        if take > recipe:
            raise BadParameter(f"{env_id} cannot have take={take}; of {recipe} ingredients no more can be fetched")
        super().__init__(env_id, step_limit)
        self._shape = (recipe, take, cook, cut, open, drop, go)

    def generated(self, split: Split, seed: int) -> Any:
        return _game(*self._shape, split, seed)


@lru_cache(maxsize=512)
def _game(recipe: int, take: int, cook: int, cut: int, open: int, drop: int, go: int, split: Split, seed: int) -> Any:
    flags = {"cook": bool(cook), "cut": bool(cut), "open": bool(open), "drop": bool(drop)}
    settings = {"recipe": recipe, "take": take, **flags, "go": go, "split": _FOODS[split], "recipe_seed": 0}

    def generate(textworld: Any) -> Any:  # 0.5 s
        from textworld.challenges.tw_cooking import cooking

        options = textworld.GameOptions()
        options.seeds = seed
        with _unproved(textworld):
            return hashable(cooking.make(settings, options))

    return stored(f"cooking-{recipe}-{take}-{cook}-{cut}-{open}-{drop}-{go}-{seed}", generate)


@contextmanager
def _unproved(textworld: Any) -> Iterator[None]:
    """TextWorld proves its own solution on a Z-machine, which is not here; a test plays it instead."""
    maker, proof = textworld.GameMaker, textworld.GameMaker.set_walkthrough
    maker.set_walkthrough = lambda *_: None
    try:
        yield
    finally:
        maker.set_walkthrough = proof
