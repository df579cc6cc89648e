"""The router: which skills play an episode, and at which weights, by what the task looks like.

After PSEC (Liu et al. 2025), where a weight W0 acts as W0·x + Σ α_i(s)·B_i·A_i·x. Here the context s is the task, the
weights are chosen once, at the start of an episode, and nothing is trained for it: α is the softmax of the cosines
between the embedding of the task and the mean of those that each skill was trained on.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agentlab.errors import AgentLabError, BadConfig
from memory.records import content_id

if TYPE_CHECKING:
    import numpy as np

    from agentlab.engines.base import Engine
    from agentlab.lab import Lab

SERVED = tuple[str, Path]
"""An adapter's id and the folder of its weights."""


@dataclass(frozen=True)
class RouterConfig:
    """Settings of a router.

    Attributes:
        skills: ids of adapters.
        temperature: of the softmax over cosines; towards 0 the nearest skill plays alone, above 1 all weigh the same.
        bound: weights below it are set to 0, the largest one never.
        steps: weights are multiples of 1/steps, so that few compositions are made and kept.
    """

    skills: tuple[str, ...]
    temperature: float = 0.1
    bound: float = 0.1
    steps: int = 10

    def __post_init__(self) -> None:
        if len(set(self.skills)) < 2 or len(set(self.skills)) < len(self.skills):
            raise BadConfig(
                f"A router needs two or more different skills; it was given {list(self.skills)}; name them."
            )
        if not (self.temperature > 0 and 0 <= self.bound <= 1 and self.steps >= 1):
            raise BadConfig(
                f"A router with temperature {self.temperature}, bound {self.bound} and {self.steps} steps makes no "
                "sense; the temperature is above 0, the bound between 0 and 1, and there is at least one step."
            )

    @property
    def name(self) -> str:
        """How it is called in tables and records."""
        return f"skills({','.join(self.skills)})"

    def weights(self, cosines: Sequence[float]) -> dict[str, float]:
        """The weights of the skills that serve, by id; they sum to 1."""
        top = max(cosines)
        raised = [math.exp((cosine - top) / self.temperature) for cosine in cosines]
        shares = [value / sum(raised) for value in raised]
        kept = [share if share >= self.bound or share == max(shares) else 0.0 for share in shares]
        # Largest remainders: the rounded weights sum to 1 as well.
        exact = [share / sum(kept) * self.steps for share in kept]
        counts = [math.floor(share) for share in exact]
        order = sorted(range(len(exact)), key=lambda at: (counts[at] - exact[at], at))
        for at in order[: self.steps - sum(counts)]:
            counts[at] += 1
        return {skill: count / self.steps for skill, count in zip(self.skills, counts, strict=True) if count}


def parse(text: str, resolve: Callable[[str], str]) -> RouterConfig:
    """Read `skills(A,B)` or `skills(A,B,temperature=0.2)`; `resolve` makes a full id of what stands for a skill.

    Raises BadConfig if it is not of that form.
    """
    parts = [part.strip() for part in text.removeprefix("skills(").removesuffix(")").split(",")]
    settings: dict[str, float] = {}
    for part in parts:
        name, sign, value = part.partition("=")
        if not sign:
            continue
        try:
            settings[name.strip()] = {"temperature": float, "bound": float, "steps": int}[name.strip()](value)
        except (KeyError, ValueError):
            raise BadConfig(
                f"'{part}' in '{text}' is no setting of a router; write skills(A,B,temperature=0.1,bound=0.1,steps=10)."
            ) from None
    if not text.startswith("skills(") or not text.endswith(")") or not all(parts):
        raise BadConfig(f"'{text}' names no skills; write skills(A,B) with the ids of adapters.")
    skills = tuple(resolve(part) for part in parts if "=" not in part)
    return RouterConfig(skills, **settings)  # type: ignore[arg-type]


def situation(goal: str, observation: str) -> str:
    """A task as text, as the memory is asked about it too."""
    return f"{goal}\n{observation}"


def written(weights: Mapping[str, float]) -> str:
    """Weights in words, as an episode records what played it: `0.7*adapter-a + 0.3*adapter-b`; one alone is its id."""
    if len(weights) == 1:
        return next(iter(weights))
    return " + ".join(f"{weight:g}*{skill}" for skill, weight in weights.items())


class Router:
    """Chooses skills for episodes and gives the engine that plays with them.

    Args:
        config: its settings.
        centroids: shape (skills, dimensions), rows of length 1, in the order of the skills.
        embed: the vector (dimensions,) of a text, of length 1.
        serve: the id and the folder of the adapter that has these weights of skills; it may take its time.
        engine: plays.
    """

    def __init__(
        self,
        config: RouterConfig,
        centroids: np.ndarray,
        embed: Callable[[str], np.ndarray],
        serve: Callable[[Mapping[str, float]], SERVED],
        engine: Engine,
    ) -> None:
        self.config = config
        self.centroids = centroids
        self._embed = embed
        self._serve = serve
        self._engine = engine
        self._lock = threading.RLock()

    @classmethod
    def of(cls, lab: Lab, config: RouterConfig, engine: Engine) -> Router:
        """The router over adapters of a lab.

        Raises UnknownAdapter, BadAdapter, WrongBase, AgentLabError if the lab has none of the episodes that one was
        trained on.
        """
        import numpy as np

        base = lab.fingerprint
        folders = {skill: lab.adapters.folder_of(skill, base) for skill in config.skills}
        centroids = np.stack([centroid(lab, skill) for skill in config.skills])

        def serve(weights: Mapping[str, float]) -> SERVED:
            name = written(weights)
            if name in folders:  # one alone
                return name, folders[name]
            return name, composed(lab, {skill: folders[skill] for skill in weights}, weights)

        return cls(config, centroids, lab.memory.embedder.embed_query, serve, engine)

    def weights(self, goal: str, observation: str) -> dict[str, float]:
        """The skills that serve a task, by what it says at its start, with their weights."""
        with self._lock:
            vector = self._embed(situation(goal, observation))
        return self.config.weights([float(cosine) for cosine in self.centroids @ vector])

    def engine(self, goal: str, observation: str) -> Engine:
        """The engine as it plays this task; its `adapter` says which skills at which weights.

        Raises CanaryFailed if the composition does not score as it was measured: the base never stands in for it.
        """
        weights = self.weights(goal, observation)
        with self._lock:
            adapter, folder = self._serve(weights)
        return self._engine.with_adapter(adapter, folder)


def centroid(lab: Lab, adapter: str) -> np.ndarray:
    """The mean direction (dimensions,) of the tasks that an adapter was trained on, each counted once.

    Raises AgentLabError if the lab has none of its episodes.
    """
    from agentlab.skills import trained_on

    first = {task: id for id, _, task in reversed(trained_on(lab, adapter))}
    episodes = lab.database.load_episodes(sorted(first.values()))
    texts = [situation(episode.goal, episode.steps[0].observation) for episode in episodes if episode.steps]
    if not texts:
        raise AgentLabError(
            f"The lab has no episode that {adapter} was trained on, so no task can be compared with it; route between "
            "adapters that were trained here, or merge it."
        )
    mean = lab.memory.embedder.embed(texts).mean(axis=0)
    unit: np.ndarray = mean / max(float((mean @ mean) ** 0.5), 1e-12)
    return unit


def composed(lab: Lab, folders: Mapping[str, Path], weights: Mapping[str, float]) -> Path:
    """The folder of the exact weighted sum of adapters, made if it is not there; `composed/` is a cache."""
    from trainers.adapters import MergeConfig, check_files, compose
    from trainers.errors import BadAdapter

    target = lab.folder / "composed" / content_id("composed", written(weights))
    try:
        check_files(target)
    except BadAdapter:  # not there yet, or damaged: a cache is never trusted
        compose(folders, lab.model_folder, target, MergeConfig(weights=tuple(weights.values())))
    return target
