"""Recall for an episode: text and exemplars for its prompt, advice for its scores, each recorded with the episode.

Advice comes from three places: the episode itself, earlier trials of the same task, and other tasks of the same
environment whose states are similar. Only what was learned on train folds serves other tasks, and what a run wrote is
served to other tasks only after the run has ended, so that tasks played at the same time cannot depend on which of them
happened to finish first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentlab.advice import AdviceBook, AdviceWeights
from agentlab.arms import RecallConfig
from memory.records import Advice, state_key

if TYPE_CHECKING:
    from agentlab.play import EpisodeSpec
    from memory import ReflectionMemory
    from memory.reflection_memory import Face

HINT_LIMIT = 1200  # characters of the memory block: it stays in the window for the whole episode


@dataclass
class Recalled:
    """What one episode recalled.

    `task_book` holds the advice of earlier trials of this task; `elsewhere` finds advice in similar states.
    """

    hints: str = ""
    ids: list[str] = field(default_factory=list)
    task_book: AdviceBook = field(default_factory=AdviceBook)
    memory: ReflectionMemory | None = None
    env: str = ""
    task: str = ""
    frozen_at: str | None = None
    config: RecallConfig = field(default_factory=RecallConfig)
    _transfer: dict[str, dict[str, float]] = field(default_factory=dict)

    def bonuses(self, state: str, commands: Sequence[str], within: AdviceBook, weights: AdviceWeights) -> list[float]:
        """The sum of what this episode, this task and similar states advise on each command, in nats.

        Facts about this very state (from here or from earlier trials) are merged before they become a bonus; advice
        from elsewhere counts only for commands about which nothing is known here.
        """
        here = state_key(state)
        transferred = self._elsewhere(state, weights)
        bonuses = []
        for command in commands:
            now, before = within.facts.get((here, command)), self.task_book.facts.get((here, command))
            if now is not None and before is not None:
                bonuses.append(weights.bonus(AdviceBook([now, before]).facts[here, command]))
            elif now is not None or before is not None:
                bonuses.append(weights.bonus(now or before))  # type: ignore[arg-type]
            else:
                bonuses.append(transferred.get(command, 0.0))
        return bonuses

    def _elsewhere(self, state: str, weights: AdviceWeights) -> dict[str, float]:
        """Bonus by command from the most similar states of other tasks, scaled by similarity."""
        if self.memory is None or self.config.transfer <= 0:
            return {}
        known = self._transfer.get(state)
        if known is None:
            known = {}
            for advice, cosine, _ in self.memory.similar_states(
                state, env=self.env, k=8, before=self.frozen_at, split="train"
            ):
                if cosine >= self.config.similarity:
                    bonus = self.config.transfer * cosine * weights.bonus(advice)
                    known[advice.action] = max(known.get(advice.action, 0.0), bonus)
            self._transfer[state] = known
        return known


class Recaller:
    """Serves one run's episodes from the long-term memory.

    `run` is the run being played: what it writes is recalled within the same task only. `frozen_at` bounds what
    counts as known before the run (ISO time); resuming a run uses the time at which it first began.
    """

    def __init__(self, memory: ReflectionMemory, run: str, frozen_at: str) -> None:
        self.memory = memory
        self.run = run
        self.frozen_at = frozen_at

    def recall(self, spec: EpisodeSpec, goal: str, observation: str) -> Recalled:
        """Everything that serves this episode; the recalls are recorded under its id."""
        config = spec.arm.recall or RecallConfig(advice=False)
        blocks: list[str] = []
        ids: list[str] = []
        wanted: list[tuple[int, Face, list[str], str]] = [
            (config.exemplars, "exemplar", ["exemplar"], ""),
            (config.text, "text", ["grounded", "written"], "- "),
        ]
        for count, face, kinds, mark in wanted:
            if count:
                hits = self.memory.recall(
                    f"{goal}\n{observation}",
                    episode=spec.id,
                    env=spec.task.env,
                    kinds=kinds,
                    k=count,
                    face=face,
                    exclude_task=spec.task.id,
                    before=self.frozen_at,
                    split="train",
                )
                blocks += [f"{mark}{hit.reflection.text}" for hit in hits]
                ids += [hit.reflection.id for hit in hits]
        recalled = self._with_advice(spec, config, self.written(spec))
        recalled.hints = "\n".join(blocks)[:HINT_LIMIT]
        recalled.ids = list(dict.fromkeys([*ids, *recalled.ids]))
        return recalled

    def restore(self, spec: EpisodeSpec, goal: str, ids: list[str], hints: str) -> Recalled:
        """The same again for a resumed episode: its hints as they stood, advice from the same reflections."""
        config = spec.arm.recall or RecallConfig(advice=False)
        wanted = set(ids)
        recalled = self._with_advice(spec, config, [pair for pair in self.written(spec) if pair[0] in wanted])
        recalled.hints, recalled.ids = hints, ids
        return recalled

    def written(self, spec: EpisodeSpec) -> list[tuple[str, Advice]]:
        """Advice of earlier trials of this task in this run and arm, as (reflection id, advice)."""
        return self.memory.advice_for_task(spec.task.id, run=self.run, tag=f"arm:{spec.arm.name}")

    def _with_advice(self, spec: EpisodeSpec, config: RecallConfig, pairs: list[tuple[str, Advice]]) -> Recalled:
        recalled = Recalled(
            memory=self.memory, env=spec.task.env, task=spec.task.id, frozen_at=self.frozen_at, config=config
        )
        if config.advice:
            recalled.task_book = AdviceBook(advice for _, advice in pairs)
            recalled.ids = list(dict.fromkeys(reflection for reflection, _ in pairs))
        return recalled
