"""The exemplar reflector: a success, minimised where a replay is at hand, kept as an example for the prompt."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from agentlab.minimise import refine
from agentlab.reflectors.base import reflection_of
from environments import EnvironmentsError, TextEnv
from memory import rendering
from memory.quoting import quoted
from memory.records import Episode, Reflection

OBSERVATION_LIMIT = 240  # characters of each observation in an exemplar


class ExemplarReflector:
    """Keeps won episodes as worked examples.

    `minimise` shortens a success before it is kept. A rollout minimises by replay in the environment of the episode
    (`in_env`); without either the episode is kept as it was played.
    """

    name = "exemplar"
    oracle = True

    def __init__(self, minimise: Callable[[Episode], Episode] | None = None) -> None:
        self.minimise = minimise

    def in_env(self, env: TextEnv) -> ExemplarReflector:
        """The same reflector, minimising by replay in `env` if it has no other way to do so."""
        if self.minimise is not None:
            return self

        def shorten(episode: Episode) -> Episode:
            with suppress(EnvironmentsError):
                return refine(episode, env)
            return episode

        return ExemplarReflector(shorten)

    def reflect(self, episode: Episode) -> list[Reflection]:
        if not episode.won:
            return []
        shown = self.minimise(episode) if self.minimise else episode
        lines = [f"Example. Task: {shown.goal}"]
        for step in shown.steps:
            seen = quoted(step.observation)
            cut = seen if len(seen) <= OBSERVATION_LIMIT else seen[:OBSERVATION_LIMIT].rsplit(" ", 1)[0] + " …"
            lines.append(f"{cut}\n>{rendering.action(step.action)}")
        return [
            reflection_of(
                episode,
                kind=self.name,
                text="\n".join(lines),
                steps=[step.index for step in episode.steps],
                importance=1.0,
                tags=[f"steps:{len(shown.steps)}"],
            )
        ]
