"""What a round trains on: the selection, made into the records that its objective learns from."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from agentlab.agent.playing import prompting_of
from agentlab.engines.base import Tokenizing
from agentlab.errors import BadConfig, ReplayMismatch
from agentlab.rounds.judging import agreement, compared_judgements, judged_scores
from agentlab.rounds.pool import as_read, comparable, context, pool, rules
from agentlab.rounds.report import RoundReport
from memory.records import Episode
from memory.store import EpisodeFilter
from trainers.data import (
    Example,
    Preference,
    Record,
    Regularised,
    Selected,
    Start,
    Text,
    Tokenize,
    by_judge,
    by_reward,
    by_votes,
    draw,
    from_episode,
    from_judgements,
    from_outcome,
    from_preference,
    start_of,
    starts_of,
    survey,
)
from trainers.errors import BadExample

if TYPE_CHECKING:
    from agentlab.rounds.config import RoundConfig
    from agentlab.workspace.workspace import Workspace

TEXTS, QUESTIONS, JUDGEMENTS = "general texts", "questions", "judgements"


@dataclass
class Records:
    """The records of a round, with what its report and its lineage say of them.

    `selected` counts them by environment, `episodes` are the stored episodes that they were made of, `reflections` what
    served those. `kl_episodes` are, by environment, the episodes on which nothing is taught, for the KL regularisation.
    `judged` says how often a judge preferred what the game scored higher.
    """

    records: list[Record] = field(default_factory=list)
    selected: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    short_of: dict[str, int] = field(default_factory=dict)
    episodes: list[str] = field(default_factory=list)
    reflections: list[str] = field(default_factory=list)
    kl_episodes: dict[str, list[str]] = field(default_factory=dict)
    judged: dict[str, int] = field(default_factory=dict)

    def add(self, make: Callable[[], Record], env: str, sources: Iterable[str], served: Iterable[str] = ()) -> None:
        """Add what `make` makes; what makes no example is left out, and counted by the reason."""
        try:
            self.records.append(make())
        except BadExample as error:
            self.left_out[error.reason] += 1
            return
        self.selected[env] += 1
        self.episodes += sources
        self.reflections += served


def records(workspace: Workspace, report: RoundReport, held_out: Sequence[Start]) -> Records:
    """The records of this round, none of which begins like a game in `held_out`.

    Raises CannotSelect, BadTexts, UnknownEpisode (memory.errors).
    """
    make = _pairs if report.config.training.in_pairs else _singles
    return make(workspace, report, starts_of(held_out))


def _singles(workspace: Workspace, report: RoundReport, forbidden: Set[Start]) -> Records:
    """A record of every episode that was selected."""
    config, here = report.config, pool(workspace, report)
    chosen = survey(
        here.items, rules(report), config.seed, held_out=forbidden, context=context(workspace, report, here)
    )
    made = Records(left_out=Counter(here.left_out) + Counter(chosen.left_out), short_of=chosen.short_of)
    for item in chosen.selected:
        episode = item.episode
        if config.training.objective == "kto" and not item.weight:
            made.left_out["without weight"] += 1
            continue
        made.add(_maker(item, config, tokenizer(workspace)), episode.env, here.origin(episode), episode.recalled)
    _regularise(made, workspace, config, forbidden)
    if config.questions is not None:
        _question(made, workspace, report, forbidden, config.questions.share)
    _rehearse(made, chosen.texts, workspace, config)
    return made


def _maker(item: Selected, config: RoundConfig, tokenize: Tokenize) -> Callable[[], Record]:
    """Makes the record of one episode, for the prompt without what was recalled."""
    from trainers.data import from_teacher

    make: Callable[..., Record] = from_episode
    if config.training.objective == "kto":
        make = partial(from_outcome, desirable=item.admitted or None)
    elif config.training.objective == "soft_distill":
        make = partial(from_teacher, **config.teacher.model_dump())
    return partial(
        make,
        item.episode,
        tokenize,
        weight=item.weight,
        step_weights=item.step_weights,
        max_tokens=config.training.max_tokens,
    )


def tokenizer(workspace: Workspace) -> Tokenize:
    """How the model of the lab cuts text."""
    engine = workspace.engine
    if not isinstance(engine, Tokenizing):
        raise BadConfig(
            f"The engine {engine.name} has no tokenizer (`tokenize`, `context`, `command_tokens`), so nothing can be "
            "trained for it; run rounds with the lab's own model."
        )
    return engine.tokenize


def _question(made: Records, workspace: Workspace, report: RoundReport, forbidden: Set[Start], share: float) -> None:
    """Questions beside the episodes; others are noted, to be asked."""
    from agentlab.rounds.questions import questions

    tokenize, limit = tokenizer(workspace), report.config.training.max_tokens
    wanted = round(len(made.records) * share / (1 - share))
    found = questions(workspace, report, forbidden, tokenize, wanted)
    for one in found.trained:
        made.add(partial(one.example, one.answer, tokenize, limit), QUESTIONS, [one.episode], one.reflections)
    if made.selected[QUESTIONS] < wanted:
        made.short_of[QUESTIONS] = wanted - made.selected[QUESTIONS]
    report.questions = {"trained": made.selected[QUESTIONS], "held_out": len(found.held_out)}


def _rehearse(made: Records, texts: Sequence[Text], workspace: Workspace, config: RoundConfig) -> None:
    """General texts, for the objectives that learn from plain examples."""
    from trainers.data import from_text

    if not texts:
        return
    if config.training.objective not in ("sft", "minor_sft"):
        made.left_out[f"{TEXTS}, from which {config.training.objective} cannot learn"] += len(texts)
        return
    for text in texts:
        made.add(partial(from_text, text, tokenizer(workspace), max_tokens=config.training.max_tokens), TEXTS, ())


def _regularise(made: Records, workspace: Workspace, config: RoundConfig, forbidden: Set[Start]) -> None:
    """Lay episodes of other environments, on which nothing is taught, beside some of the examples."""
    from trainers.data import apportion

    kl, taught = config.kl, [record for record in made.records if isinstance(record, Example)]
    quotas = apportion(round(kl.share * len(taught)), dict.fromkeys(kl.envs, 1.0))
    references: list[Example] = []
    for env, quota in quotas.items():
        examples = list(islice(_other_games(made, env, workspace, config, forbidden), quota))
        made.kl_episodes[env] = [example.episode for example in examples]
        references += examples
        if len(examples) < quota:
            made.short_of[f"KL on {env}"] = quota - len(examples)
    mass = math.fsum(weight for example in taught for weight in example.weights) / max(len(taught), 1)
    for at, example in enumerate(references):
        factor = kl.weight * mass / sum(example.weights)
        weights = [factor * weight for weight in example.weights]
        made.records[at] = Regularised(example=taught[at], reference=example.model_copy(update={"weights": weights}))


def _other_games(
    made: Records, env: str, workspace: Workspace, config: RoundConfig, forbidden: Set[Start]
) -> Iterator[Example]:
    """Train episodes of an environment, one a task and those that won first, since a skill of that game goes there."""
    rows = [
        row
        for row in workspace.database.episodes.find(EpisodeFilter(env=env, split="train"))
        if row.status != "errored"
    ]
    first: dict[str, str] = {}
    prompting = prompting_of(workspace)
    for row in sorted(rows, key=lambda row: (row.status != "won", draw(config.seed, row.id, "hold|"))):
        first.setdefault(row.task, row.id)
    for id in first.values():
        (episode,) = workspace.database.episodes.load([id])
        if start_of(episode) in forbidden:
            continue
        try:
            read = as_read(episode, prompting)
            yield from_episode(read, tokenizer(workspace), max_tokens=config.training.max_tokens)
        except BadExample as error:
            made.left_out[error.reason] += 1


# -- pairs -------------------------------------------------------------------------------------------------------------


def _pairs(workspace: Workspace, report: RoundReport, forbidden: Set[Start]) -> Records:
    """A record of every preference between episodes of the lab."""
    config = report.config
    made = Records()
    clearest, judged, scores = list[Preference](), list[Preference](), judged_scores(workspace, report)
    among = set[str]()
    for played in comparable(workspace, report, forbidden, made.left_out):
        by_model = by_judge(played, scores, tolerance=config.preferences.judge.tolerance)
        clearest += _clearest(preferences(workspace, config, played, by_model), config, made.left_out)
        judged += by_model
        among |= {episode.id for episode in played} & scores.keys()
    made.judged = agreement(judged)
    chosen = _limited(clearest, config, made.left_out)
    steps = 1 if config.training.objective == "step_dpo" else None
    for pair in chosen:
        make = partial(from_preference, pair, tokenizer(workspace), steps=steps, max_tokens=config.training.max_tokens)
        sides = (pair.better, pair.worse)
        served = [id for episode in sides for id in episode.recalled]
        made.add(make, pair.better.env, [episode.id for episode in sides], served)
    for judgements in compared_judgements(workspace, report, among, len(made.records)):
        make = partial(from_judgements, *judgements, max_tokens=config.training.max_tokens)
        made.add(make, JUDGEMENTS, [judgements.episode.id])
    return made


def preferences(
    workspace: Workspace, config: RoundConfig, played: Sequence[Episode], by_model: Sequence[Preference] = ()
) -> list[Preference]:
    """Every preference between these episodes, from each source that the settings name; the same pair only once.

    `by_model` are those of a judge.
    """
    from agentlab.search import pairs
    from agentlab.search.tree import Tree

    settings = config.preferences
    usual = ("step", "first_pit") if config.training.objective == "step_dpo" else ("reward", "tree")
    sources = settings.sources or usual
    # By how they act: a refined form would be compared with the episode that it was made of.
    attempted = [episode for episode in played if episode.minimised_from is None]
    found: list[Preference] = []
    if "reward" in sources:
        found += by_reward(attempted, per_task=settings.per_task)
    if "votes" in sources:
        found += by_votes(attempted, per_task=settings.per_task)
    found += by_model
    tasks: dict[str, list[Episode]] = defaultdict(list)
    for episode in played:
        tasks[episode.task_id].append(episode)
    for task, tried in sorted(tasks.items()):
        if not {"tree", "step", "first_pit"}.intersection(sources):
            break
        try:
            tree = Tree.of(tried)
        except ReplayMismatch as error:
            workspace.progress.say(f"{task}: no pairs. {error}")
            continue
        if "tree" in sources:
            found += pairs.preferences(tree, alpha=settings.alpha, beta=settings.gap)
        if "first_pit" in sources:
            found += pairs.first_pits(tree, probes=settings.probes)
        if "step" in sources:
            found += pairs.step_preferences(tree, gap=settings.gap, visits=settings.visits)
    return list({(pair.better.id, pair.worse.id, pair.shared): pair for pair in reversed(found)}.values())[::-1]


def _clearest(found: Sequence[Preference], config: RoundConfig, left_out: Counter[str]) -> list[Preference]:
    """The clearest pairs of one task."""
    ranked = sorted(found, key=lambda pair: (-pair.weight, -pair.shared, _random_order(pair, config)))
    if len(ranked) > config.preferences.per_task:
        left_out["task is full"] += len(ranked) - config.preferences.per_task
    return ranked[: config.preferences.per_task]


def _random_order(pair: Preference, config: RoundConfig) -> str:
    return draw(config.seed, f"{pair.better.id}|{pair.worse.id}|{pair.shared}", "pair|")


def _limited(clearest: Sequence[Preference], config: RoundConfig, left_out: Counter[str]) -> list[Preference]:
    """So many pairs of each environment, at random."""
    settings = config.preferences
    envs: Counter[str] = Counter()
    kept = []
    for pair in sorted(clearest, key=lambda pair: _random_order(pair, config)):
        envs[pair.better.env] += 1
        if settings.per_env is None or envs[pair.better.env] <= settings.per_env:
            kept.append(pair)
        else:
            left_out["environment is full"] += 1
    return kept
