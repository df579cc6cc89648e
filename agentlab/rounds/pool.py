"""What a round may learn from: the episodes of the lab, what is made of them, and what selectors know about them.

What is made of episodes (relabelled in hindsight, revised) is never stored, so that nothing takes it for wins; where it
came from is kept beside it, for the lineage.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentlab.agent.playing import prompting_of
from agentlab.engines.base import Likelihood
from agentlab.errors import BadConfig, ReplayMismatch
from agentlab.rounds.candidates import fitting, rows_of
from agentlab.rounds.config import RoundConfig
from agentlab.rounds.questions import held_out
from agentlab.rounds.report import RoundReport, reports
from memory.prompts import Prompting
from memory.records import Episode
from memory.store import EpisodeFilter
from trainers.data import Context, Selected, SelectionConfig, Start, start_of

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace
    from memory.store import EpisodeRow

DROPOUT = "logprob_with_dropout"
"""What an engine must have for passes with dropout."""


@dataclass
class Pool:
    """Episodes with their weights, and how many were left out for which reason.

    `sources` gives the stored episodes that one was made of; any other was stored itself.
    """

    items: list[Selected]
    left_out: dict[str, int] = field(default_factory=dict)
    sources: dict[str, list[str]] = field(default_factory=dict)

    def origin(self, episode: Episode) -> list[str]:
        """The ids of the stored episodes that this one is, or was made of."""
        return self.sources.get(episode.id) or [episode.relabelled_from or episode.id]


def rules(report: RoundReport) -> SelectionConfig:
    """The selection of this round: one that also lets through what was not won, where the objective or a balanced
    threshold decides about that."""
    selection = report.config.selection
    mixed = report.config.training.objective == "kto" or "threshold" in report.balance
    return selection.model_copy(update={"only_won": False}) if mixed else selection


def pool(workspace: Workspace, report: RoundReport) -> Pool:
    """The successes of the train fold that the lab has, in all runs; other episodes where the selection asks for them,
    failures relabelled in hindsight where that does, and revisions where the round makes them."""
    from agentlab.rounds.calling import has_tools, with_calls, writes_calls
    from agentlab.rounds.revising import revisions

    config, selection, prompting = report.config, rules(report), prompting_of(workspace)
    rows, left_out = fitting(rows_of(workspace, config), report)
    items: list[Selected] = []
    sources: dict[str, list[str]] = {}

    def take(episode: Episode, **how: Any) -> None:
        reason = _unfit(episode, report)
        if reason is None:
            items.append(Selected(episode=as_read(_lean(episode, config), prompting), **how))
        else:
            left_out[reason] += 1

    writes = writes_calls(config)
    called = with_calls(workspace, report) if writes else {}
    for id, made_with in called.items():
        if made_with.episode is None:
            left_out[made_with.reason] += 1
        else:
            take(made_with.episode)
            sources[made_with.episode.id] = [id]
    as_played = [row for row in rows if row.status == "won" and row.id not in called]
    if writes:  # there were enough others
        left_out["no calls written"] = sum(has_tools(row.env) for row in as_played)
        as_played = [row for row in as_played if not has_tools(row.env)]
    for episode in _each(workspace, as_played):
        take(episode)
    if selection.hindsight or not selection.wins_only:
        from agentlab.reflectors.experimental.hindsight import HindsightReflector

        relabel = HindsightReflector().relabel
        for episode in _each(workspace, [row for row in rows if row.status in ("lost", "truncated")]):
            if not selection.wins_only:
                take(episode)
            for relabelled in relabel(episode) if selection.hindsight else ():
                take(relabelled)
    made = revisions(workspace, report)
    for one in made:
        take(one.episode, step_weights=one.step_weights, admitted=True)
    sources |= {one.episode.id: [one.bad, one.good] for one in made}
    return Pool(items, left_out=dict(+left_out), sources=sources)


def attempts(workspace: Workspace, config: RoundConfig) -> Iterator[Episode]:
    """Task by task, all episodes of the train fold that were played to an end, won or not, and refined ones, which were
    replayed; only a few are held at once."""
    tasks: dict[str, list[str]] = {}
    prompting = prompting_of(workspace)
    for row in rows_of(workspace, config):
        if row.status != "errored":
            tasks.setdefault(row.task, []).append(row.id)
    for episode in workspace.database.episodes.each(id for ids in tasks.values() for id in ids):
        yield as_read(_lean(episode, config), prompting)


def comparable(
    workspace: Workspace, report: RoundReport, forbidden: Set[Start], left_out: Counter[str]
) -> Iterator[list[Episode]]:
    """Task by task, the attempts that this round may compare, none of which begins like a game in `forbidden`; the
    others are counted by the reason."""
    config, latest = report.config, report.config.selection.max_trial
    for _, tried in groupby(attempts(workspace, config), key=lambda episode: episode.task_id):
        played = list[Episode]()
        for episode in tried:
            if start_of(episode) in forbidden:
                left_out["begins like a held-out game"] += 1
            elif config.learn_from == "recalled" and not prompted(episode):
                left_out["nothing recalled"] += 1
            elif latest is not None and episode.trial > latest:
                left_out["played too late"] += 1
            elif episode.steps:
                played.append(episode)
        yield played


def _each(workspace: Workspace, rows: Sequence[EpisodeRow]) -> Iterator[Episode]:
    return workspace.database.episodes.each(row.id for row in rows)


def _lean(episode: Episode, config: RoundConfig) -> Episode:
    """The episode without the scores of its commands, most of what a step weighs; only a teacher's are learned from."""
    if config.training.objective == "soft_distill":
        return episode
    steps = [step.model_copy(update={"scores": None, "bonus": None}) for step in episode.steps]
    return episode.model_copy(update={"steps": steps})


def as_read(episode: Episode, prompting: Prompting) -> Episode:
    """The episode as the lab's model reads a game: as it was played, if it was played so; else to be rendered so.

    What chance or a search played, or the model when it was set to play otherwise, teaches how the model plays now.
    """
    if episode.prompt == prompting.name:
        return episode
    return episode.model_copy(update={"prompt": prompting.name, "token_ids": [], "action_spans": []})


def prompted(episode: Episode) -> bool:
    """Whether anything recalled stood in its prompt or spoke in its scores."""
    return bool(episode.recalled or episode.hints.strip())


def _unfit(episode: Episode, report: RoundReport) -> str | None:
    """Why this round cannot learn from an episode, however good it is."""
    config = report.config
    if held_out(episode.env, episode.seed, config.questions):
        return "held out for questions"
    # Before the selection: a refined form must not take the place of the episode that is asked for.
    if config.learn_from == "recalled" and not prompted(episode):
        return "nothing recalled"
    if config.training.objective == "soft_distill" and not any(
        step.all_scores and len(step.admissible) > 1 for step in episode.steps
    ):
        return "no teacher played"
    if episode.score < report.balance.get("threshold", -math.inf):
        return "score below the balanced threshold"
    return None


def context(workspace: Workspace, report: RoundReport, here: Pool) -> Context:
    """What selectors know in this round; what is costly to know only where one of them needs it.

    Raises BadTexts, UnknownEpisode (memory.errors).
    """
    from trainers.data import read_texts

    config = report.config
    kinds = {selector.kind for selector in config.selection.selectors or ()}
    prompting = prompting_of(workspace)
    anchors, validation = (
        [as_read(episode, prompting) for episode in workspace.database.episodes.load(ids)]
        for ids in (config.anchors, config.validation)
    )
    return Context(
        seed=config.seed,
        round=report.number,
        improve=improve(workspace, report),
        history=history(workspace, report, here),
        loss=_loss(workspace, config.training.max_tokens) if "importance" in kinds else None,
        passes=_passes(workspace, config) if "uncertainty" in kinds else None,
        validation=validation or anchors,
        reaches=_reaches(workspace) if "step_values" in kinds else None,
        anchors=[one for one in anchors if not held_out(one.env, one.seed, config.questions)],
        general=read_texts(Path(config.general)) if config.general else (),
    )


def check_sources(workspace: Workspace, config: RoundConfig) -> None:
    """Look whether what the settings name is there, before anything is played.

    Raises BadTexts, UnknownEpisode (memory.errors), and BadConfig for a selector that a round cannot serve, and for
    games for KL regularisation of which the lab has no episode.
    """
    from trainers.data import read_texts

    workspace.database.episodes.load([*config.anchors, *config.validation])
    if config.general:
        read_texts(Path(config.general))
    unplayed = [
        env
        for env in config.kl.envs
        if all(
            row.status == "errored" for row in workspace.database.episodes.find(EpisodeFilter(env=env, split="train"))
        )
    ]
    if unplayed:
        raise BadConfig(
            f"The lab has no train episode of {', '.join(unplayed)} to regularise the adapter to its base on; play "
            "some (`agentlab search` or `agentlab run`), or take it out of `kl`."
        )
    if config.questions is not None and not isinstance(workspace.engine, Likelihood):
        raise BadConfig("This engine scores no texts, by which `questions` are answered; drop it.")
    kinds = {selector.kind for selector in config.selection.selectors or ()}
    if "uncertainty" in kinds and not hasattr(workspace.engine, DROPOUT):
        raise BadConfig("This engine makes no passes with dropout, which the selector 'uncertainty' asks for; drop it.")
    if "importance" in kinds and not (config.validation or config.anchors):
        raise BadConfig(
            "The selector 'importance' compares with trusted episodes; name some under `validation` or drop it."
        )


def improve(workspace: Workspace, report: RoundReport) -> int:
    """Rounds that were trained on what is there since one last collected (the Improve steps of ReST), from 0."""
    steps = 0
    for earlier in reversed([*_before(workspace, report), report]):
        if earlier.collected:
            return steps
        steps += earlier is report or earlier.adapter is not None
    return steps - 1  # what there is was played before the first round


def history(workspace: Workspace, report: RoundReport, here: Pool) -> dict[str, int]:
    """The first round whose lineage names an episode, by the id of the episode; what is made anew in every round (a
    revision) is always new."""
    adapters = {record.id: record for record in workspace.adapters.list()}
    first: dict[str, int] = {}
    for earlier in _before(workspace, report):
        if earlier.adapter in adapters:
            for id in adapters[earlier.adapter].lineage.episodes:
                first.setdefault(id, earlier.number)
    episodes = [item.episode for item in here.items if item.episode.id not in here.sources]
    return {one.id: first[origin] for one in episodes for origin in here.origin(one) if origin in first}


def _before(workspace: Workspace, report: RoundReport) -> list[RoundReport]:
    return [earlier for earlier in reports(workspace) if earlier.number < report.number]


def _loss(workspace: Workspace, max_tokens: int) -> Callable[[Episode], float]:
    """The mean loss of the base, from which training starts, on the actions of an episode (nats a token); infinite for
    one that does not fit and so cannot be trained on either."""
    from trainers.data import from_episode
    from trainers.errors import BadExample

    engine: Any = workspace.engine

    @cache
    def loss(id: str, ids: tuple[int, ...], spans: tuple[tuple[int, int], ...]) -> float:
        return -float(engine.logprob(ids, spans)) / sum(end - start for start, end in spans)

    def of(episode: Episode) -> float:
        try:
            example = from_episode(episode, engine.tokenize, max_tokens=max_tokens)
        except BadExample:
            return math.inf
        return loss(episode.id, tuple(example.token_ids), tuple(example.spans))

    return of


def _passes(workspace: Workspace, config: RoundConfig) -> Callable[[Episode, int, float], list[float]] | None:
    """What passes with dropout give to an episode: the likelihood of its actions by the base, from which training
    starts, normalised by their length (the mean over their tokens of the log-probability).

    Each pass of each episode has a seed of its own, so nothing depends on the other episodes. None where the engine
    cannot do that.
    """
    from trainers.data import draw, from_episode
    from trainers.errors import BadExample

    engine: Any = workspace.engine
    if not hasattr(engine, DROPOUT):
        return None
    workspace.progress.say("Selecting by passes with dropout: several for each episode.")

    def of(episode: Episode, count: int, dropout: float) -> list[float]:
        try:
            example = from_episode(episode, engine.tokenize, max_tokens=config.training.max_tokens)
        except BadExample:  # it cannot be trained on either
            return []
        tokens = sum(end - start for start, end in example.spans)
        seeds = [int(draw(config.seed, episode.id, f"dropout {at}|")[:15], 16) for at in range(count)]
        ask = partial(engine.logprob_with_dropout, example.token_ids, example.spans, probability=dropout)
        return [ask(seed=seed) / tokens for seed in seeds]

    return of


def _reaches(workspace: Workspace) -> Callable[[Episode], list[bool]]:
    """Whether a win is known to follow each step of an episode, by all that was tried at its task; one that was
    relabelled in hindsight reaches the goal that it has now, of which that task's tree knows nothing."""
    from agentlab.search.tasks import tree_of
    from agentlab.search.tree import Tree
    from environments import Task

    @cache
    def tree(env: str, seed: int) -> Tree | None:
        try:
            return tree_of(workspace, None, Task(env=env, split="train", seed=seed))
        except ReplayMismatch:
            return None

    def of(episode: Episode) -> list[bool]:
        if episode.relabelled_from is not None:
            return [episode.won] * len(episode.steps)
        known = tree(episode.env, episode.seed)
        try:
            line = known.line(episode) if known is not None and known.root is not None else []
        except KeyError:  # it was made, not played
            line = []
        return [node.to_win is not None for node in line[1:]] or [episode.won] * len(episode.steps)

    return of
