"""Data: which episodes are trained on, with what weight, and the records of token ids that they become.

Selectors choose among episodes; examples, preferences, distillation and general texts become the records that an
objective learns from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainers.doors import lazy

if TYPE_CHECKING:
    from trainers.data.chat import ChatFrames, ChatTokens
    from trainers.data.distillation import from_teacher
    from trainers.data.examples import Example, Tokenize, Tokenizer, drop_oldest, drop_unread, from_episode, opening
    from trainers.data.experimental import Battle, bradley_terry, by_judge, from_judgements, won_battles
    from trainers.data.preferences import Preference, by_reward, by_votes, from_outcome, from_preference
    from trainers.data.records import Choice, Distilled, Judged, Pair, Record, Regularised, Trajectory
    from trainers.data.selection import SelectionConfig, select, survey
    from trainers.data.selectors.base import (
        Context,
        Selected,
        Selection,
        Selector,
        Start,
        Text,
        apportion,
        draw,
        solution,
        start_of,
        starts_of,
    )
    from trainers.data.texts import from_text, read_texts

__all__ = [
    # Which episodes
    "Context",
    "Selected",
    "Selection",
    "SelectionConfig",
    "Selector",
    "Start",
    "Text",
    "apportion",
    "draw",
    "select",
    "solution",
    "start_of",
    "starts_of",
    "survey",
    # What they become
    "Battle",
    "ChatFrames",
    "ChatTokens",
    "Choice",
    "Distilled",
    "Example",
    "Regularised",
    "Judged",
    "Pair",
    "Preference",
    "Record",
    "Tokenize",
    "Tokenizer",
    "Trajectory",
    "bradley_terry",
    "by_judge",
    "by_reward",
    "by_votes",
    "drop_oldest",
    "drop_unread",
    "from_episode",
    "from_judgements",
    "from_outcome",
    "from_preference",
    "from_teacher",
    "from_text",
    "opening",
    "read_texts",
    "won_battles",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "trainers.data.selectors.base": (
            "Context",
            "Selected",
            "Selection",
            "Selector",
            "Start",
            "Text",
            "apportion",
            "draw",
            "solution",
            "start_of",
            "starts_of",
        ),
        "trainers.data.selection": ("SelectionConfig", "select", "survey"),
        "trainers.data.chat": ("ChatFrames", "ChatTokens"),
        "trainers.data.examples": (
            "Example",
            "Tokenize",
            "Tokenizer",
            "drop_oldest",
            "drop_unread",
            "from_episode",
            "opening",
        ),
        "trainers.data.experimental": ("Battle", "bradley_terry", "by_judge", "from_judgements", "won_battles"),
        "trainers.data.records": ("Choice", "Distilled", "Regularised", "Judged", "Pair", "Record", "Trajectory"),
        "trainers.data.preferences": ("Preference", "by_reward", "by_votes", "from_outcome", "from_preference"),
        "trainers.data.distillation": ("from_teacher",),
        "trainers.data.texts": ("from_text", "read_texts"),
    },
)
