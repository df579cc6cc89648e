"""Recall for an episode: text and exemplars for its prompt, advice for its scores, each recorded with the episode.

Advice comes from three places: the episode itself, earlier trials of the same task, and other tasks of the same
environment whose states are similar. Only what was learned on train folds serves other tasks, with notes that name no
task at all, such as those that other tools exported: these are text, and serve every environment. What came from
outside serves train games alone, by lot, until it has shown that it helps (`memory.credit.probation`). What a run wrote
is served to other tasks only after the run has ended, so that tasks played at the same time cannot depend on which of
them happened to finish first.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from agentlab.agent import spans
from agentlab.agent.arms import RecallConfig
from agentlab.agent.strength import DEFAULT, EXPLORE, Strength
from agentlab.engines.base import Tokenizing
from agentlab.reflectors.registry import TEXT_KINDS
from agentlab.text import carried
from agentlab.trajectories.advice import AdviceBook, AdviceWeights
from agentlab.trajectories.tried import Tried
from memory import Credit, CreditConfig, Filter, retrieval
from memory.clock import follow
from memory.credit import Assignment
from memory.interchange import NOTE
from memory.records import Advice, Recall, now

if TYPE_CHECKING:
    from agentlab.agent.spec import EpisodeSpec
    from agentlab.engines.model import Model
    from memory import ReflectionMemory
    from memory.reflection_memory import Channel

CONSOLIDATED = ("rule", "summary")  # the kinds of text that consolidation makes of reflections
QUERY_LIMIT = 200  # characters of a state that are kept with a recall
KNOWN_BEFORE = 50  # reflections on a task from earlier runs that advise on it, the newest: later plays tried them all
TOLD = 2  # reflections that the tool `recall` tells at once
BOOKS = 64  # tasks whose advice is at hand for their next trial


Parts = dict[str, float]
"""Of an action prior: the `bonus` that it added to a score, in nats, the place of that `command` among the admissible
ones, and the `cosine` of the two states where it comes from another task."""


class _Elsewhere(NamedTuple):
    """What the most similar state of another task advises on one command: bonus in nats, cosine, reflection."""

    bonus: float
    cosine: float
    reflection: str


@dataclass
class Recalled:
    """What one episode recalled.

    `ids` names every reflection that served it; advice is added when it first enters a score. `recalls` are the records
    of that, which are stored with the episode.
    `task_book` holds the advice of earlier trials of this task.
    """

    hints: str = ""
    ids: list[str] = field(default_factory=list)
    task_book: AdviceBook = field(default_factory=AdviceBook)
    recalls: list[Recall] = field(default_factory=list)
    memory: ReflectionMemory | None = None
    episode: str = ""
    env: str = ""
    frozen_at: str | None = None
    config: RecallConfig = field(default_factory=RecallConfig)
    credit: Credit | None = None
    draws: dict[str, Assignment] = field(default_factory=dict)
    _advised: set[str] = field(default_factory=set)
    _similar: dict[str, list[tuple[Advice, float, str]]] = field(default_factory=dict)

    def bonuses(
        self,
        state: str,
        commands: Sequence[str],
        tried: Tried,
        weights: AdviceWeights,
        least: float = 0.0,
        scale: float = 1.0,
    ) -> list[float]:
        """What earlier trials of this task and similar states elsewhere advise on each command, in nats, times `scale`.

        Advice from elsewhere counts only for commands of which nothing is known here. A gain attracts until it was
        `tried` in this episode. Where several trials spoke of one command, the one that said most counts as recalled:
        all of them would be ever more with every trial. What says less than `least` is not given, and so not recalled.
        """
        known = self.task_book.bonuses(state, commands, weights, tried.times(state, commands))
        bonuses = [scale * bonus for bonus in known]
        transferred = self._elsewhere(state, commands, weights)
        served: dict[str, Parts] = {}
        for at, (command, times) in enumerate(zip(commands, tried.times(state, commands), strict=True)):
            source = self.task_book.source(state, command)
            if source is not None:
                if abs(bonuses[at]) < least:
                    bonuses[at] = 0.0
                elif known[at]:
                    served.setdefault(source, {"bonus": bonuses[at], "command": at})
            elif not times:
                for one in transferred.get(command, []):
                    parts: Parts = {"bonus": scale * one.bonus, "cosine": one.cosine, "command": at}
                    if parts["bonus"] >= least and self._assigned(one.reflection, parts, state, len(tried)):
                        bonuses[at] = parts["bonus"]
                        served.setdefault(one.reflection, parts)
                        break
        self._served(served, state, len(tried))
        return bonuses

    def _served(self, served: Mapping[str, Parts], state: str, step: int) -> None:
        """Record, once for each, that advice of these reflections entered the episode's scores."""
        fresh = {reflection: parts for reflection, parts in served.items() if reflection not in self._advised}
        if not fresh or self.memory is None:
            return
        draws = {self.draws.get(id) or Assignment(id, False, 1.0): parts for id, parts in fresh.items()}
        self._record(draws, state, step)
        self.ids = list(dict.fromkeys([*self.ids, *fresh]))

    def _assigned(self, reflection: str, parts: Parts, state: str, step: int) -> bool:
        """Whether this advice may serve; that it was held out is recorded where it would have entered a score."""
        if self.credit is None:
            return True
        draw = self.draws.get(reflection)
        if draw is None:
            (draw,) = self.credit.split(self.episode, [reflection], env=self.env, decided=self.recalls)
            self.draws[reflection] = draw
        if draw.held_out and reflection not in self._advised:
            self._record({draw: parts}, state, step)
        return not draw.held_out

    def _record(self, draws: Mapping[Assignment, Parts], state: str, step: int) -> None:
        self.recalls += [
            Recall(
                episode=self.episode,
                reflection=draw.reflection,
                rank=len(self._advised) + place,
                query=state[:QUERY_LIMIT],
                score=parts.get("cosine", 1.0),
                parts=parts,
                channel="advice",
                env=self.env,
                held_out=draw.held_out,
                propensity=draw.propensity,
                step=step,
            )
            for place, (draw, parts) in enumerate(draws.items())
        ]
        self._advised.update(draw.reflection for draw in draws)

    def _elsewhere(self, state: str, commands: Sequence[str], weights: AdviceWeights) -> dict[str, list[_Elsewhere]]:
        """What the most similar states of other tasks advise, by command, the strongest advice first.

        The bonus is scaled by the likeness of the states and, where the advised command is not admissible here, by
        that of the wordings.
        """
        if self.memory is None or self.config.transfer <= 0:
            return {}
        if state not in self._similar:
            with spans.recall("advice", state) as span:
                tried = self.credit is not None and self.credit.config.probation > 0
                self._similar[state] = self.memory.similar_states(
                    state,
                    wanted=Filter(
                        env=self.env, before=self.frozen_at, split="train", on_probation=None if tried else False
                    ),
                    k=8,
                )
                spans.found(span, [reflection for _, _, reflection in self._similar[state]])
        known: dict[str, list[_Elsewhere]] = {}
        for advice, cosine, reflection in self._similar[state]:
            bonus = self.config.transfer * cosine * weights.bonus(advice)
            if cosine < self.config.similarity or bonus <= 0:
                continue
            bears = carried(advice.action, commands) if self.config.wording else {advice.action: 1.0}
            for command, likeness in bears.items():
                known.setdefault(command, []).append(_Elsewhere(likeness * bonus, cosine, reflection))
        # Equals by their ids: in what order they were stored depends on which of several games ended first.
        return {
            command: sorted(found, key=lambda one: (-one.bonus, one.reflection)) for command, found in known.items()
        }


def counter(model: Model | None) -> retrieval.Count:
    """How many tokens a text has for this model; roughly, for one without a tokenizer, or where none plays."""
    engine = model.engine if model is not None else None
    return (lambda text: len(engine.tokenize(text))) if isinstance(engine, Tokenizing) else retrieval.about


class MemorySnapshot:
    """The long-term memory as it was when a run began: all that playing an episode of it needs. It only reads.

    What an episode recalled is stored with its result. `run` is the run being played: what it writes is recalled within
    the same task only. `frozen_at` bounds what counts as known before the run (ISO time); resuming a run uses the time
    at which it first began. `count_tokens` is by what the memory block is measured. With `credit` what was measured
    before the run counts.
    """

    def __init__(
        self,
        memory: ReflectionMemory,
        run: str,
        frozen_at: str,
        *,
        count_tokens: retrieval.Count = retrieval.about,
        credit: CreditConfig | None = None,
    ) -> None:
        self.memory = memory
        self.run = run
        self.frozen_at = frozen_at
        self.count_tokens = count_tokens
        self.credit = None
        if credit is not None:
            self.credit = Credit(memory.database, credit, namespace=memory.namespace, before=frozen_at)
        self._strengths: dict[tuple[str, str | None], Strength] = {}
        self._books: dict[str, tuple[AdviceBook, int, str]] = {}
        """By the id of its first trial, the advice on a task: that of so many trials, up to a moment."""

    def strength(self, spec: EpisodeSpec) -> float:
        """What the advice of this episode is multiplied by: the best known, on some train games another one to try."""
        if not self._learns(spec):
            return DEFAULT
        key = spec.task.env, spec.arm.weights
        if key not in self._strengths:
            self._strengths[key] = Strength.known(self.memory.database, *key, before=self.frozen_at)
        rng = random.Random(f"{spec.id}|strength")
        if spec.task.split == "train" and rng.random() < EXPLORE:
            return self._strengths[key].draw(rng)
        return self._strengths[key].best()

    def strength_of(self, spec: EpisodeSpec) -> tuple[str, str | None] | None:
        """The environment and the weights for which the end of this episode says how strong advice should be."""
        return (spec.task.env, spec.arm.weights) if self._learns(spec) and spec.task.split == "train" else None

    def _learns(self, spec: EpisodeSpec) -> bool:
        config = spec.arm.recall
        return self.credit is not None and config is not None and config.advice and config.credit

    def recall(self, spec: EpisodeSpec, goal: str, observation: str) -> Recalled:
        """Everything that serves this episode."""
        config = spec.arm.recall or RecallConfig(advice=False)
        lines: list[str] = []
        ids: list[str] = []
        recalls: list[Recall] = []
        left = config.budget
        credit = self.credit if config.credit else None
        wanted: list[tuple[int, Channel, list[str], str]] = [
            (config.exemplars, "exemplar", ["exemplar"], ""),
            (config.text, "text", [*TEXT_KINDS, *CONSOLIDATED, *([NOTE] if config.imported else [])], "- "),
        ]
        for count, channel, kinds, mark in wanted:
            if not count or left <= 0:
                continue
            # With its mark and its line end, as it stands in the block.
            tokens = partial(self._tokens, mark)
            hits = self.memory.recall(
                f"{goal}\n{observation}",
                episode=spec.id,
                wanted=Filter(
                    env=spec.task.env,
                    kinds=kinds,
                    exclude_task=spec.task.id,
                    before=self.frozen_at,
                    split="train",
                    # What names no environment has a text to read, and nothing to act by.
                    anywhere=config.imported and channel == "text",
                    # Where nothing is measured, nothing can show that it helps.
                    on_probation=None if credit else False,
                ),
                k=count,
                channel=channel,
                budget=left,
                count_tokens=tokens,
                # What would be cut beside something whole is rather left out.
                shorten=not lines,
                credit=credit,
                recorded=recalls,
                lots=spec.task.split == "train",
            )
            lines += [f"{mark}{hit.text}" for hit in hits]
            ids += [hit.reflection.id for hit in hits]
            left -= sum(tokens(hit.text) for hit in hits)
        return self._recalled(spec, config, "\n".join(lines), list(dict.fromkeys(ids)), recalls)

    def search(self, spec: EpisodeSpec, query: str, recalled: Recalled, step: int) -> list[str]:
        """Texts on what is asked about in the middle of an episode (by the tool `recall`); they count as recalled."""
        config = spec.arm.recall or RecallConfig()
        credit = self.credit if config.credit else None
        found: list[Recall] = list(recalled.recalls)
        hits = self.memory.recall(
            query,
            episode=spec.id,
            wanted=Filter(
                env=spec.task.env,
                kinds=[*TEXT_KINDS, *CONSOLIDATED],
                exclude_task=spec.task.id,
                before=self.frozen_at,
                split="train",
                on_probation=None if credit else False,
            ),
            k=TOLD,
            channel="tool",
            budget=config.budget,
            count_tokens=self.count_tokens,
            credit=credit,
            recorded=found,
            lots=spec.task.split == "train",
        )
        fresh = [one.model_copy(update={"step": step}) for one in found[len(recalled.recalls) :]]
        known = {one.reflection for one in recalled.recalls if one.channel == "tool"}
        recalled.recalls += [one for one in fresh if one.reflection not in known]
        recalled.ids = list(dict.fromkeys([*recalled.ids, *(hit.reflection.id for hit in hits)]))
        return [hit.text for hit in hits]

    def _tokens(self, mark: str, text: str) -> int:
        return self.count_tokens(f"{mark}{text}\n")

    def restore(
        self, spec: EpisodeSpec, ids: Sequence[str], hints: str, recalls: Sequence[Recall] = (), *, before: str | None
    ) -> Recalled:
        """The same again for a resumed episode: its hints as they stood, and its advice as it was when it began."""
        config = spec.arm.recall or RecallConfig(advice=False)
        # The next trial reads what was learned since this one began: later than that, though the clock was set back.
        follow(max([before or "", *(one.at for one in recalls)]))
        # What was given or held out before stands as it was recorded; it comes after what the prompt began with.
        served = dict.fromkeys([*ids, *(one.reflection for one in recalls if not one.held_out)])
        again = self._recalled(spec, config, hints, list(served), list(recalls), before)
        again._advised = {one.reflection for one in recalls if one.channel == "advice"}
        again.draws = {one.reflection: Assignment(one.reflection, one.held_out, one.propensity) for one in recalls}
        return again

    def _recalled(
        self,
        spec: EpisodeSpec,
        config: RecallConfig,
        hints: str,
        ids: list[str],
        recalls: list[Recall],
        before: str | None = None,
    ) -> Recalled:
        return Recalled(
            hints=hints, ids=ids, recalls=recalls, task_book=self.book(spec, before) if config.advice else AdviceBook(),
            memory=self.memory, episode=spec.id, env=spec.task.env, frozen_at=self.frozen_at, config=config,
            credit=self.credit if config.credit and spec.task.split == "train" else None,
        )  # fmt: skip

    def book(self, spec: EpisodeSpec, before: str | None = None) -> AdviceBook:
        """Advice on this very task, of trials `before` a moment, each fact with the reflection that said most about it.

        It comes from earlier trials of this run and arm, and on the train fold from the newest that was learned on the
        task before the run; of that nothing which is on probation. Held-out tasks start from nothing in every run. The
        trials are known by their ids: an arm of the same name may have had another adapter, and what is played again
        after a kill must not advise itself.

        A book is filled up from trial to trial, so that none of them reads everything again. Where trials were skipped,
        because they were played before what errored is played again, it is made anew.
        """
        task, first = spec.task.id, replace(spec, trial=0).id
        book, since = AdviceBook(), None
        known = self._books.pop(first, None)
        if known is not None and spec.trial and spec.trial - known[1] in (0, 1):
            book, _, since = known
        else:
            if spec.task.split == "train":
                wanted = Filter(before=self.frozen_at, exclude_run=self.run, on_probation=False)
                _fill(book, self.memory.advice_for_task(task, wanted=wanted, newest=KNOWN_BEFORE))
        before = before or now()
        if spec.trial:
            earlier = {replace(spec, trial=trial).id for trial in range(spec.trial)}
            wanted = Filter(run=self.run, before=before, after=since)
            _fill(book, self.memory.advice_for_task(task, wanted=wanted, episodes=earlier))
        # A copy: other episodes may come and go meanwhile.
        for old in list(self._books)[: len(self._books) - BOOKS + 1]:
            self._books.pop(old, None)
        self._books[first] = book, spec.trial, before
        return book


def _fill(book: AdviceBook, found: Iterable[tuple[str, Advice]]) -> None:
    for reflection, advice in found:
        book.add(advice, reflection)
