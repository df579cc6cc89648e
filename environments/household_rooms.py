"""What there is in a household: rooms, furniture, things, where they lie, and what can be done to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Furniture:
    """What there may be of a piece of furniture in a room: how many at least and at most."""

    least: int
    most: int
    closes: bool = False
    inside: bool = False  # whether things are in it, not on it


@dataclass(frozen=True)
class Room:
    """A kind of room."""

    furniture: Mapping[str, Furniture]
    lies: Mapping[str, tuple[str, ...]]  # where a kind of thing may lie, and be wanted
    chores: tuple[str, ...]


_CLOSED = {"closes": True, "inside": True}
ROOMS = {
    "kitchen": Room(
        {
            "cabinet": Furniture(2, 5, **_CLOSED),
            "drawer": Furniture(1, 3, **_CLOSED),
            "countertop": Furniture(1, 3),
            "diningtable": Furniture(0, 1),
            "shelf": Furniture(0, 2),
            "fridge": Furniture(1, 1, **_CLOSED),
            "microwave": Furniture(1, 1, **_CLOSED),
            "sinkbasin": Furniture(1, 1, inside=True),
            "stoveburner": Furniture(1, 2),
            "coffeemachine": Furniture(0, 1),
            "garbagecan": Furniture(1, 1, inside=True),
        },
        {
            "apple": ("countertop", "diningtable", "fridge", "garbagecan", "sinkbasin"),
            "bread": ("countertop", "diningtable", "fridge"),
            "egg": ("countertop", "diningtable", "fridge", "garbagecan"),
            "lettuce": ("countertop", "diningtable", "fridge"),
            "potato": ("countertop", "diningtable", "fridge", "sinkbasin"),
            "tomato": ("countertop", "diningtable", "fridge", "garbagecan"),
            "mug": ("cabinet", "countertop", "coffeemachine", "shelf", "sinkbasin"),
            "cup": ("cabinet", "countertop", "fridge", "shelf", "sinkbasin"),
            "plate": ("cabinet", "countertop", "diningtable", "shelf"),
            "bowl": ("cabinet", "countertop", "diningtable", "shelf"),
            "pan": ("cabinet", "countertop", "stoveburner"),
            "pot": ("cabinet", "countertop", "stoveburner"),
            "fork": ("countertop", "diningtable", "drawer"),
            "knife": ("countertop", "diningtable", "drawer"),
            "spoon": ("countertop", "diningtable", "drawer"),
            "spatula": ("countertop", "diningtable", "drawer"),
            "saltshaker": ("cabinet", "countertop", "diningtable", "drawer", "shelf"),
            "peppershaker": ("cabinet", "countertop", "diningtable", "drawer", "shelf"),
            "dishsponge": ("cabinet", "countertop", "drawer", "sinkbasin"),
        },
        ("place", "clean", "heat", "cool", "two"),
    ),
    "bathroom": Room(
        {
            "cabinet": Furniture(1, 4, **_CLOSED),
            "countertop": Furniture(1, 2),
            "drawer": Furniture(0, 2, **_CLOSED),
            "shelf": Furniture(0, 2),
            "toilet": Furniture(1, 1),
            "bathtubbasin": Furniture(0, 1, inside=True),
            "sinkbasin": Furniture(1, 2, inside=True),
            "handtowelholder": Furniture(1, 2),
            "garbagecan": Furniture(1, 1, inside=True),
        },
        {
            "soapbar": ("bathtubbasin", "cabinet", "countertop", "garbagecan", "sinkbasin", "toilet"),
            "soapbottle": ("cabinet", "countertop", "shelf", "toilet"),
            "spraybottle": ("cabinet", "countertop", "garbagecan", "shelf", "toilet"),
            "toiletpaper": ("cabinet", "countertop", "drawer", "toilet"),
            "candle": ("cabinet", "countertop", "shelf", "toilet"),
            "cloth": ("bathtubbasin", "cabinet", "countertop", "drawer", "sinkbasin"),
            "handtowel": ("countertop", "handtowelholder"),
        },
        ("place", "clean", "two"),
    ),
    "bedroom": Room(
        {
            "bed": Furniture(1, 1),
            "desk": Furniture(1, 2),
            "drawer": Furniture(2, 5, **_CLOSED),
            "dresser": Furniture(0, 1),
            "shelf": Furniture(1, 3),
            "sidetable": Furniture(0, 2),
            "laundryhamper": Furniture(0, 1, **_CLOSED),
            "safe": Furniture(0, 1, **_CLOSED),
            "garbagecan": Furniture(1, 1, inside=True),
        },
        {
            "alarmclock": ("desk", "dresser", "shelf", "sidetable"),
            "book": ("bed", "desk", "drawer", "dresser", "shelf", "sidetable"),
            "cellphone": ("bed", "desk", "drawer", "dresser", "safe", "sidetable"),
            "cd": ("desk", "drawer", "garbagecan", "safe", "shelf"),
            "creditcard": ("desk", "drawer", "dresser", "shelf", "sidetable"),
            "keychain": ("desk", "drawer", "safe", "shelf", "sidetable"),
            "laptop": ("bed", "desk"),
            "mug": ("desk", "shelf", "sidetable"),
            "pen": ("desk", "drawer", "garbagecan", "shelf", "sidetable"),
            "pencil": ("desk", "drawer", "garbagecan", "shelf", "sidetable"),
            "pillow": ("bed",),
        },
        ("place", "light", "two"),
    ),
    "livingroom": Room(
        {
            "armchair": Furniture(1, 2),
            "sofa": Furniture(1, 1),
            "coffeetable": Furniture(1, 2),
            "sidetable": Furniture(1, 3),
            "diningtable": Furniture(0, 1),
            "drawer": Furniture(1, 4, **_CLOSED),
            "cabinet": Furniture(0, 3, **_CLOSED),
            "shelf": Furniture(0, 2),
            "tvstand": Furniture(0, 1),
            "garbagecan": Furniture(1, 1, inside=True),
        },
        {
            "box": ("armchair", "coffeetable", "diningtable", "sofa"),
            "creditcard": ("armchair", "coffeetable", "drawer", "sidetable", "sofa"),
            "keychain": ("armchair", "coffeetable", "drawer", "sidetable", "sofa"),
            "laptop": ("armchair", "coffeetable", "diningtable", "sofa"),
            "newspaper": ("armchair", "coffeetable", "drawer", "garbagecan", "sidetable", "sofa"),
            "pillow": ("armchair", "sofa"),
            "remotecontrol": ("armchair", "coffeetable", "drawer", "sidetable", "sofa", "tvstand"),
            "statue": ("cabinet", "coffeetable", "shelf", "sidetable", "tvstand"),
            "vase": ("cabinet", "coffeetable", "shelf", "sidetable", "tvstand"),
            "watch": ("cabinet", "coffeetable", "drawer", "shelf", "sidetable"),
        },
        ("place", "light", "two"),
    ),
}
_DISHES = ("mug", "cup", "plate", "bowl", "pan", "pot")
# What a chore can be done to, and with which furniture.
CHANGES = {
    "clean": (
        "sinkbasin",
        (
            *_DISHES,
            "apple",
            "lettuce",
            "potato",
            "tomato",
            "fork",
            "knife",
            "spoon",
            "spatula",
            "dishsponge",
            "soapbar",
            "cloth",
        ),
    ),
    "heat": ("microwave", ("apple", "bread", "egg", "potato", "tomato", "mug", "cup", "plate")),
    "cool": ("fridge", ("apple", "bread", "egg", "lettuce", "potato", "tomato", *_DISHES)),
}
DONE = {"clean": "clean", "heat": "hot", "cool": "cool"}
LAMPS = {"bedroom": "desklamp", "livingroom": "floorlamp"}
LAMP_STANDS = ("desk", "sidetable", "dresser", "coffeetable", "shelf")
