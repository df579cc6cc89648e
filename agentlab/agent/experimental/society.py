"""How a society plays: whose turn it is, and what a critic is shown of the attempts before it.

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from agentlab.agent.recall import MemorySnapshot, Recalled
from agentlab.agent.society import Society
from agentlab.engines.base import Adapter
from memory.prompts import one_line
from memory.records import Episode
from memory.retrieval import Count

if TYPE_CHECKING:
    from agentlab.agent.spec import EpisodeSpec
    from agentlab.engines.model import Model
    from agentlab.workspace.workspace import Workspace

ENDS = {"won": "won", "lost": "lost", "truncated": "came to no end"}


class Cast:
    """Gives each trial the model of the agent whose turn it is. Raises BadAdapter, WrongBase for one that cannot."""

    def __init__(self, workspace: Workspace, society: Society, model: Model) -> None:
        self._society, self._model = society, model
        fingerprint = workspace.fingerprint
        agents = {*society.generators, *society.critics} - {None}
        self._folders = {id: workspace.adapters.folder_of(id, fingerprint) for id in agents if id is not None}

    def model(self, goal: str, observation: str, trial: int) -> Model:
        """The model as it plays a trial. Raises CanaryFailed if its adapter does not score as it was measured."""
        adapter = self._society.adapter(trial)
        return self._model if adapter is None else self._model.with_adapter(Adapter(adapter, self._folders[adapter]))


class Attempts(MemorySnapshot):
    """Shows each critic what all generators came to in its game, and nothing else of the memory."""

    def recall(self, spec: EpisodeSpec, goal: str, observation: str) -> Recalled:
        """The attempts at this game, within the budget of the arm's recall."""
        found, society = super().recall(spec, goal, observation), spec.arm.router
        if isinstance(society, Society) and spec.arm.recall is not None:
            ids = [replace(spec, trial=trial).id for trial in society.seen(spec.trial)]
            played = self.memory.database.episodes.load(ids)
            found.hints = attempts(played, spec.arm.recall.budget, self.count_tokens, told=society.told)
        return found


def attempts(played: Sequence[Episode], budget: int, count: Count, *, told: bool = True) -> str:
    """A line for each attempt: its commands, and with `told` how it ended.

    Each has an equal part of the `budget` in tokens; one that is longer shows the last of its commands. What errored is
    no attempt.
    """
    lines = []
    for number, episode in enumerate(played, 1):
        if episode.status == "errored":
            continue
        actions = [one_line(step.action) for step in episode.steps]
        opening = f"- Attempt {number}{f' {ENDS[episode.status]}' if told else ''}: "
        for cut in range(len(actions) + 1):
            line = opening + "; ".join([*(["…"] if cut else []), *actions[cut:]])
            if count(f"{line}\n") <= budget // len(played):
                break
        lines.append(line)
    return "\n".join(lines)
