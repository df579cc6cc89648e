"""Chores in a room, after ALFWorld (Shridhar et al. 2021), made from a seed in plain Python: `household/clean`.

The six kinds of tasks, the words and the rules are ALFWorld's: one stands at one piece of furniture at a time, sees
what is there, carries one thing, and what is closed hides what is in it. A game belongs to the fold that the hash of
its room and task falls into, so no first sight of one fold occurs in another.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from environments.base import Task, TextEnv, Turn
from environments.folds import belongs
from environments.household_rooms import CHANGES, DONE, LAMP_STANDS, LAMPS, ROOMS, Furniture, Room
from environments.parameters import Game, Parameter

DESCRIPTION = "chores in a room after ALFWorld: find, clean, heat, cool, light, put away (plain Python)"
_PARAMETERS = {
    "distractors": Parameter(8, 0, 20, "the number of things that do not matter", size=True),
    "old_grammar": Parameter(0, 0, 1, "whether one says `put X in/on Y` (1), as before ALFWorld 0.4, or `move X to Y`"),
    "step_limit": Parameter(50, 1, 10_000, "the number of actions an episode may have"),
}
GAMES = {
    "household/place": Game("find a thing and put it where it is wanted", _PARAMETERS),
    "household/light": Game("find a thing and look at it under a lamp", _PARAMETERS),
    "household/clean": Game("find a thing, clean it, put it where it is wanted", _PARAMETERS),
    "household/heat": Game("find a thing, heat it, put it where it is wanted", _PARAMETERS),
    "household/cool": Game("find a thing, cool it, put it where it is wanted", _PARAMETERS),
    "household/two": Game("find two things of a kind and put them where they are wanted", _PARAMETERS),
    "household/any": Game("one of the six chores, by lot", _PARAMETERS),
}


@dataclass
class _Game:
    """A room with its things, and what is to be done."""

    chore: str
    kind: str  # of thing
    target: str  # kind of furniture; for `light` the lamp
    goal: str
    furniture: dict[str, Furniture]
    places: dict[str, str]  # where each thing is; "" is in the hand
    lamp: str = ""
    closed: set[str] = field(default_factory=set)
    changed: dict[str, tuple[str, ...]] = field(default_factory=dict)  # things that were made clean, and hot or cool
    at: str = ""
    lit: bool = False

    def first_sight(self) -> str:
        return f"You are in the middle of a room. Looking quickly around you, you see {_listed(list(self.furniture))}."


def _kind(name: str) -> str:
    return name.partition(" ")[0]


def _listed(names: list[str]) -> str:
    """Names with their articles: `a mug 1, and an apple 2`."""
    words = [f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])}, and {words[-1]}" if words else "nothing"


class Household(TextEnv):
    """A chore in a room. It cannot be lost but by time; the score counts the steps of the chore that are done.

    Args:
        env_id: the id under which the registry made it.
        chore: place, light, clean, heat, cool, two; or any, one of them by lot.
        distractors: the number of things that do not matter.
        old_grammar: whether one puts a thing in/on a place or moves it there.
        step_limit: the number of actions an episode may have.
    """

    def __init__(
        self,
        env_id: str = "household/any",
        chore: str = "any",
        *,
        distractors: int = 8,
        old_grammar: bool = False,
        step_limit: int = 50,
    ) -> None:
        super().__init__(env_id, step_limit)
        self.chore = chore
        self._distractors = distractors
        self._old = old_grammar
        self._game: _Game | None = None

    def begin(self, task: Task) -> Turn:
        rng = random.Random(f"household {self.chore} {self._distractors} {task.split} {task.seed}")
        while True:
            game = _made(self.chore, self._distractors, rng)
            if belongs(f"{game.first_sight()}\n{game.goal}", task.split):
                break
        self._game = game
        return self._turn(game.first_sight(), goal=game.goal)

    def act(self, action: str) -> Turn:
        game = self._game
        assert game is not None
        command = " ".join(action.split())
        if command not in self._commands(game):
            return self._turn("Nothing happens.")
        return self._turn(self._done(game, command))

    def _done(self, game: _Game, command: str) -> str:
        verb, _, rest = command.partition(" ")
        if command == "look":
            return self._look(game)
        if command == "inventory":
            held = self._held(game)
            return f"You are carrying: {_listed([held])}." if held else "You are not carrying anything."
        if verb == "go":
            game.at = rest.removeprefix("to ")
            return f"You arrive at {game.at}. {self._seen(game, game.at)}"
        if verb == "open":
            game.closed.discard(rest)
            return f"You open the {rest}. {self._seen(game, rest)}"
        if verb == "close":
            game.closed.add(rest)
            return f"You close the {rest}."
        if verb == "use":
            game.lit = True
            return f"You turn on the {rest}."
        if verb == "examine":
            if rest in game.furniture:
                return self._seen(game, rest)
            how = " ".join(game.changed.get(rest, ()))
            return f"This is a {how} {rest}." if how else f"There's nothing special about {rest}."
        if verb == "take":
            thing = rest.partition(" from ")[0]
            game.places[thing] = ""
            return f"You pick up the {thing} from the {game.at}."
        if verb in CHANGES:
            thing, _, tool = rest.partition(" with ")
            # What is heated is no longer cool, and the other way round; to be clean is another matter.
            kept = [one for one in game.changed.get(thing, ()) if (one == "clean") != (verb == "clean")]
            game.changed[thing] = tuple(sorted([*kept, DONE[verb]]))
            return f"You {verb} the {thing} using the {tool}."
        thing = self._held(game)
        game.places[thing] = game.at
        return f"You put the {thing} in/on the {game.at}." if self._old else f"You move the {thing} to the {game.at}."

    def _commands(self, game: _Game) -> list[str]:
        held = self._held(game)
        commands = ["look", "inventory", *(f"go to {name}" for name in game.furniture if name != game.at)]
        if held:
            commands.append(f"examine {held}")
        if not game.at:
            return commands
        shut = game.at in game.closed
        commands.append(f"examine {game.at}")
        if game.furniture[game.at].closes:
            commands.append(f"{'open' if shut else 'close'} {game.at}")
        if not shut:
            here = [thing for thing, place in game.places.items() if place == game.at]
            commands += [f"examine {thing}" for thing in here]
            if not held:
                commands += [f"take {thing} from {game.at}" for thing in here]
            else:
                commands.append(f"put {held} in/on {game.at}" if self._old else f"move {held} to {game.at}")
        if game.lamp and game.lamp.rpartition(" on ")[2] == game.at:
            commands.append(f"use {game.lamp.partition(' on ')[0]}")
        for verb, (tool, kinds) in CHANGES.items():
            if held and _kind(held) in kinds and _kind(game.at) == tool:
                commands.append(f"{verb} {held} with {game.at}")
        return commands

    @staticmethod
    def _held(game: _Game) -> str:
        return next((thing for thing, place in game.places.items() if not place), "")

    @staticmethod
    def _seen(game: _Game, name: str) -> str:
        if name in game.closed:
            return f"The {name} is closed."
        lamp, _, stand = game.lamp.partition(" on ")
        there = [thing for thing, place in game.places.items() if place == name] + ([lamp] if stand == name else [])
        one = game.furniture[name]
        opened = f"The {name} is open. " if one.closes else ""
        return f"{opened}{'In' if one.inside else 'On'} the {name}, you see {_listed(there)}."

    def _look(self, game: _Game) -> str:
        if not game.at:
            return game.first_sight()
        return f"You are facing the {game.at}. {self._seen(game, game.at)}"

    def _score(self, game: _Game) -> tuple[int, int]:
        """How many steps of the chore are done, and how many there are."""
        things = [thing for thing in game.places if _kind(thing) == game.kind]
        if game.chore == "light":
            holds = _kind(self._held(game)) == game.kind
            return int(holds) + int(holds and game.lit), 2
        there = [thing for thing in things if _kind(game.places[thing]) == game.target]
        if game.chore == "two":
            held = [thing for thing in things if not game.places[thing]]
            return min(4, 2 * len(there) + len(held)), 4
        wanted = DONE.get(game.chore)
        if wanted is None:
            return max(2 * bool(there), int(any(not game.places[thing] for thing in things))), 2
        ready = [thing for thing in things if wanted in game.changed.get(thing, ())]
        if any(thing in ready for thing in there):
            return 3, 3
        return max(2 * bool(ready), int(any(not game.places[thing] for thing in things))), 3

    def _turn(self, observation: str, goal: str = "") -> Turn:
        game = self._game
        assert game is not None
        done, whole = self._score(game)
        won = done == whole
        if game.chore == "light" and game.lit and not won:
            game.lit = False  # a lamp that was turned on without the thing in hand is turned on again
        held = self._held(game)
        how = f", {' '.join(game.changed[held])}" if held in game.changed else ""
        carried = f"You carry {_listed([held] if held else [])}{how}."
        state = f"{self._look(game)}\n{carried}\nScore: {done / whole:.2f}"
        return Turn(observation, self._commands(game), done / whole, won, False, state, goal)


def _made(chore: str, distractors: int, rng: random.Random) -> _Game:
    """A game of a chore that can be done."""
    while True:
        does = chore if chore != "any" else rng.choice(("place", "light", "clean", "heat", "cool", "two"))
        name = rng.choice([name for name, room in ROOMS.items() if does in room.chores])
        room = ROOMS[name]
        furniture: dict[str, Furniture] = {}
        for kind, one in room.furniture.items():
            for number in range(rng.randint(one.least, one.most)):
                furniture[f"{kind} {number + 1}"] = one
        shown = dict(sorted(furniture.items(), key=lambda _: rng.random()))
        kinds = {_kind(one) for one in furniture}
        tool, able = CHANGES.get(does, ("", tuple(room.lies)))
        lamp = ""
        if does == "light":
            stands = [one for one in furniture if _kind(one) in LAMP_STANDS]
            if not stands:
                continue
            lamp = f"{LAMPS[name]} 1 on {rng.choice(stands)}"
        kind = rng.choice([one for one in room.lies if one in able])
        places = [one for one in furniture if _kind(one) in room.lies[kind]]
        targets = sorted({_kind(one) for one in places} - {tool})
        target = LAMPS[name] if does == "light" else rng.choice(targets) if targets else ""
        starts = [one for one in places if _kind(one) != target]
        if not target or not starts or (tool and tool not in kinds):
            continue
        game = _Game(does, kind, target, _goal(does, kind, target, room), shown, {}, lamp)
        game.closed = {one for one in furniture if furniture[one].closes}
        others = [other for other in room.lies if other != kind and kinds & {*room.lies[other]}]
        numbers: dict[str, int] = {}
        for thing in [kind] * (2 if does == "two" else 1) + rng.choices(others, k=distractors):
            numbers[thing] = numbers.get(thing, 0) + 1
            where = starts if thing == kind else [one for one in furniture if _kind(one) in room.lies[thing]]
            game.places[f"{thing} {numbers[thing]}"] = rng.choice(where)
        return game


def _goal(chore: str, kind: str, target: str, room: Room) -> str:
    put = f"{'in' if chore != 'light' and room.furniture[target].inside else 'on'} {target}"
    words = {
        "place": f"put some {kind} {put}",
        "light": f"look at {kind} under the {target}",
        "clean": f"clean some {kind} and put it {put}",
        "heat": f"heat some {kind} and put it {put}",
        "cool": f"cool some {kind} and put it {put}",
        "two": f"put two {kind} {put}",
    }
    return f"Your task is to: {words[chore]}."


def make(name: str, parameters: Mapping[str, int]) -> TextEnv:
    """The environment `name` with all its `parameters`."""
    return Household(
        GAMES[name].canonical(name, parameters),
        name.removeprefix("household/"),
        distractors=parameters["distractors"],
        old_grammar=bool(parameters["old_grammar"]),
        step_limit=parameters["step_limit"],
    )


def why_not() -> str | None:
    """Why this family cannot be played here; None if it can."""
    return None
