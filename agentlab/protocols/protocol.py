"""What a protocol is: which games, what is learned before, who plays, and what others have published on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentlab.rounds.config import RoundConfig


@dataclass(frozen=True)
class Way:
    """A way to play the games of a protocol, such as with tools: the environment of each, by the game's name.

    `learn` are the environments that are learned from, where these are not the same, such as easier ones.
    """

    name: str
    envs: Mapping[str, str]
    learn: Sequence[str] = ()


def with_tools(envs: Mapping[str, str], tools: Mapping[str, str]) -> dict[str, str]:
    """The same environments, some of them with tools."""
    return {name: f"{env},tools={tools[name]}" if name in tools else env for name, env in envs.items()}


@dataclass(frozen=True)
class Published:
    """What others have reached on the same games: the score of every game, or what each came to in the mean."""

    name: str
    means: Mapping[str, float]
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Protocol:
    """A benchmark. A change of anything that it measures is another `version`.

    Attributes:
        name: how a person asks for it.
        measures: what it measures, in a sentence.
        takes: how long that takes, and on what.
        score: what is reported of a game: the `final` score of an episode or the `best` that it reached.
        games: test games of each environment, from the first seed on.
        fewer: how many test games those have that have fewer; all of them are played.
        training_seeds: how many times everything is learned anew.
        rounds: settings of the rounds of distillation, beside `seed`; those without `envs` learn those of the way.
        arms: who plays; `adapter` stands for what serves after the rounds. The last one is what is to be measured, and
            plays after every training seed; what it is measured beside plays after the first one only.
        first: how many games of each an arm plays that does not play all of them; the first ones.
        groups: games whose mean is shown by itself, such as the parts of a benchmark.
        published: what others have reached: on games, groups, or in the mean of all.
        note: what has to be said beside the figures.
    """

    name: str
    version: int
    measures: str
    takes: str
    score: str
    games: int
    training_seeds: int
    ways: Sequence[Way]
    rounds: Sequence[Mapping[str, Any]]
    arms: Sequence[str]
    first: Mapping[str, int] = field(default_factory=dict)
    fewer: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    published: Sequence[Published] = ()
    note: str = ""

    def arms_of(self, seed: int) -> list[str]:
        """Who plays after a training seed."""
        return list(self.arms if seed == 0 else self.arms[-1:])

    def count_of(self, arm: str, name: str, games: int) -> int:
        """How many of so many games an arm plays of a name."""
        return min(games, self.first.get(arm, games), self.fewer.get(name, games))

    def round_config(self, number: int, way: Way, seed: int) -> RoundConfig:
        """The settings of round `number`, from 0 on, of a training seed."""
        envs = list(dict.fromkeys(way.learn or way.envs.values()))
        return RoundConfig(**{"envs": envs, "seed": seed, **self.rounds[number]})
