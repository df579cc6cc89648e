"""The exemplar reflector: a success, minimised where a replay is at hand, kept as an example for the prompt."""

from __future__ import annotations

from collections.abc import Callable

from agentlab.reflectors.base import reflection_of
from memory import prompts
from memory.records import Episode, Reflection
from memory.text import EXAMPLE, quoted, quoted_line

OBSERVATION_LIMIT = 240  # characters of each observation in an exemplar
THOUGHT_LIMIT = 240  # and of each thought


class ExemplarReflector:
    """Keeps won episodes as worked examples.

    `minimise` shortens a success before it is kept. To one that has none, a rollout that refines by replay in the
    environment gives its own (`refined_by`); without either the episode is kept as it was played.

    What was thought before an action stands before it, as few-shot text for a model that thinks (Yao et al. 2023,
    ReAct), unless memory had a word in the prompt: a thought may repeat that, and memories would breed memories.
    """

    name = "exemplar"
    oracle = True

    def __init__(self, minimise: Callable[[Episode], Episode] | None = None) -> None:
        self.minimise = minimise

    def refined_by(self, refine: Callable[[Episode], Episode]) -> ExemplarReflector:
        """The same reflector, showing the form that `refine` makes if it has no other way to do so."""
        return self if self.minimise is not None else ExemplarReflector(refine)

    def reflect(self, episode: Episode) -> list[Reflection]:
        if not episode.won:
            return []
        shown = self.minimise(episode) if self.minimise else episode
        own = not episode.hints.strip() and not any(step.note for step in episode.steps)
        lines = [f"{EXAMPLE}{quoted_line(shown.goal)}"]
        for step in shown.steps:
            seen = quoted(step.observation)
            cut = seen if len(seen) <= OBSERVATION_LIMIT else seen[:OBSERVATION_LIMIT].rsplit(" ", 1)[0] + " …"
            thought = f"> think: {quoted_line(step.thought, THOUGHT_LIMIT)}\n" if step.thought and own else ""
            lines.append(f"{cut}\n{thought}>{prompts.action(step.action)}")
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
