"""The router: which skills play an episode, and at which weights, by what the task looks like.

After PSEC (Liu et al. 2025), where a weight W0 acts as W0·x + Σ α_i(s)·B_i·A_i·x. Here the context s is the task, the
weights are chosen once, at the start of an episode, and nothing is trained for it: α is the softmax of the cosines
between the embedding of the task and the mean of those that each skill was trained on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from agentlab.agent.router_config import RouterConfig
from agentlab.agent.society import Society
from agentlab.engines.base import Adapter
from agentlab.errors import AgentLabError
from agentlab.workspace.lineage import trained_on
from memory.records import content_id

if TYPE_CHECKING:
    import numpy as np

    from agentlab.agent.experimental.society import Cast
    from agentlab.engines.model import Model
    from agentlab.workspace.workspace import Workspace

SERVED = tuple[str, Path]
"""An adapter's id and the folder of its weights."""


def situation(goal: str, observation: str) -> str:
    """A task as text, as the memory is asked about it too."""
    return f"{goal}\n{observation}"


def format_weights(weights: Mapping[str, float]) -> str:
    """Weights in words, as an episode records what played it: `0.7*adapter-a + 0.3*adapter-b`; one alone is its id."""
    if len(weights) == 1:
        return next(iter(weights))
    return " + ".join(f"{weight:g}*{skill}" for skill, weight in weights.items())


class Router:
    """Chooses skills for episodes and gives the model that plays with them.

    Args:
        config: its settings.
        centroids: shape (skills, dimensions), rows of length 1, in the order of the skills.
        embed: the vector (dimensions,) of a text, of length 1.
        serve: the id and the folder of the adapter that has these weights of skills; it may take its time.
        model: plays.
    """

    def __init__(
        self,
        config: RouterConfig,
        centroids: np.ndarray,
        embed: Callable[[str], np.ndarray],
        serve: Callable[[Mapping[str, float]], SERVED],
        model: Model,
    ) -> None:
        self.config = config
        self.centroids = centroids
        self._embed = embed
        self._serve = serve
        self._model = model
        self._lock = threading.RLock()

    @classmethod
    def of(cls, workspace: Workspace, config: RouterConfig, model: Model) -> Router:
        """The router over adapters of a lab.

        Raises UnknownAdapter, BadAdapter, WrongBase, AgentLabError if the lab has none of the episodes that one was
        trained on.
        """
        import numpy as np

        base = workspace.fingerprint
        folders = {skill: workspace.adapters.folder_of(skill, base) for skill in config.skills}
        centroids = np.stack([centroid(workspace, skill) for skill in config.skills])

        def serve(weights: Mapping[str, float]) -> SERVED:
            name = format_weights(weights)
            if name in folders:  # one alone
                return name, folders[name]
            return name, composed(workspace, {skill: folders[skill] for skill in weights}, weights)

        return cls(config, centroids, workspace.memory.embedder.embed_query, serve, model)

    def weights(self, goal: str, observation: str) -> dict[str, float]:
        """The skills that serve a task, by what it says at its start, with their weights."""
        with self._lock:
            vector = self._embed(situation(goal, observation))
        return self.config.weights([float(cosine) for cosine in self.centroids @ vector])

    def model(self, goal: str, observation: str, trial: int = 0) -> Model:
        """The model as it plays this task, in every trial; its adapter says which skills at which weights.

        Raises CanaryFailed if the composition does not score as it was measured: the base never stands in for it.
        """
        weights = self.weights(goal, observation)
        with self._lock:
            adapter, folder = self._serve(weights)
        return self._model.with_adapter(Adapter(adapter, folder))


def chooser(workspace: Workspace, config: RouterConfig | Society, model: Model) -> Router | Cast:
    """Who gives each episode of an arm its model: a router by the task, a society by the trial. Raises as these do."""
    if isinstance(config, Society):
        from agentlab.agent.experimental.society import Cast

        return Cast(workspace, config, model)
    return Router.of(workspace, config, model)


def centroid(workspace: Workspace, adapter: str) -> np.ndarray:
    """The mean direction (dimensions,) of the tasks that an adapter was trained on, each counted once.

    Raises AgentLabError if the lab has none of its episodes.
    """
    first = {task: id for id, _, task in reversed(trained_on(workspace, adapter))}
    episodes = workspace.database.episodes.load(sorted(first.values()))
    texts = [situation(episode.goal, episode.steps[0].observation) for episode in episodes if episode.steps]
    if not texts:
        raise AgentLabError(
            f"The lab has no episode that {adapter} was trained on, so no task can be compared with it; route between "
            "adapters that were trained here, or merge it."
        )
    mean = workspace.memory.embedder.embed(texts).mean(axis=0)
    unit: np.ndarray = mean / max(float((mean @ mean) ** 0.5), 1e-12)
    return unit


def composed(workspace: Workspace, folders: Mapping[str, Path], weights: Mapping[str, float]) -> Path:
    """The folder of the exact weighted sum of adapters, made if it is not there; `composed/` is a cache."""
    from trainers.adapters import MergeConfig, check_files, compose
    from trainers.errors import BadAdapter

    target = workspace.folder / "composed" / content_id("composed", format_weights(weights))
    try:
        check_files(target)
    except BadAdapter:  # not there yet, or damaged: a cache is never trusted
        compose(folders, workspace.model_folder, target, MergeConfig(weights=tuple(weights.values())))
    return target
