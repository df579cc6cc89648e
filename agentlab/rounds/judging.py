"""Judging: a model scores the attempts that a round may compare (Self-Rewarding), and may compare its judgements
(Meta-Rewarding).

Both are kept in the journal, by who judged, so that nothing is judged twice by the same model, in a later round either.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import permutations
from statistics import fmean, pvariance
from typing import TYPE_CHECKING, Any, NamedTuple

from agentlab.engines.base import WriteRequest
from agentlab.errors import BadConfig
from agentlab.rounds.config import RoundConfig
from agentlab.rounds.held_out import held_out
from agentlab.rounds.pool import comparable
from agentlab.rounds.report import RoundReport
from memory.records import Episode, content_id
from memory.text import answer_in
from trainers.data import Battle, Preference, bradley_terry, draw, starts_of, won_battles

if TYPE_CHECKING:
    from agentlab.engines.model import Model
    from agentlab.workspace.workspace import Workspace

TOKENS = 120
"""Tokens of a judgement, or of a comparison of two."""

AT_ONCE = 4
"""Attempts that are judged, and entered into the journal, together; the same ones however often it is killed."""

HOPELESS = 40
"""Attempts after which a judge of whose judgements none could be read is asked no more."""

JUDGEMENTS, READ = "judgements", "of which could be read"
DIFFER, ALIKE = "pairs that the game scored differently", "of which alike"
"""What a report counts of them."""


def judges(config: RoundConfig) -> bool:
    """Whether a model judges in a round."""
    return config.training.in_pairs and "judge" in (config.preferences.sources or ())


def check_judge(workspace: Workspace, config: RoundConfig) -> None:
    """Raise BadConfig where nobody could judge in this lab."""
    if not judges(config):
        return
    if config.preferences.judge.by == "critic":
        if not workspace.config.critic:
            raise BadConfig(
                '`preferences.judge.by` is "critic", and this lab has none; name a model under `critic` in lab.toml, '
                "such as openai:NAME, or have the model judge itself."
            )
    elif not workspace.model().writes:
        raise BadConfig(
            f"The engine {workspace.engine.name} writes nothing, so it cannot judge; name a model that does under "
            '`critic` in lab.toml, and set `preferences.judge.by` to "critic".'
        )


def judge(workspace: Workspace, report: RoundReport) -> str:
    """Judge the attempts that this round may compare, each once, and compare judgements where these are learned from.

    Raises BadConfig, EngineFailed, LimitReached; what was judged is kept.
    """
    check_judge(workspace, report.config)
    settings, journal = report.config.preferences.judge, workspace.database.journal
    model = workspace.critic if settings.by == "critic" else workspace.model(report.incumbent)
    assert model is not None, "checked"
    forbidden, stage = starts_of(held_out(workspace, report)), "judging attempts"
    tasks = [
        [episode.id for episode in judged]
        for tried in comparable(workspace, report, forbidden, Counter())
        if (judged := _candidates(tried, report.config))
    ]
    todo, scope = [id for task in tasks for id in task], _scope(workspace, report)
    done, asked, read = journal.items(scope), 0, False
    workspace.progress.start(stage, len(todo))
    while asked < len(todo) and (read or asked < HOPELESS):
        part = todo[asked : asked + AT_ONCE]
        if fresh := [id for id in part if id not in done]:
            with workspace.spending.counted():
                found = _judged(model, workspace.database.episodes.load(fresh), report.config)
            with workspace.database.transaction():
                for id, entry in found.items():
                    journal.put(scope, id, entry)
            done |= found
        asked, read = asked + len(part), read or any(_read(done[id]) for id in part)
        workspace.progress.advance(stage, len(part))
    workspace.progress.finish(stage)
    entries = {id: done[id] for id in todo[:asked]}
    every = [one for entry in entries.values() for one in entry["judgements"]]
    report.judged = {
        "attempts": asked,
        JUDGEMENTS: len(every),
        READ: sum(one["score"] is not None for one in every),
    }
    if settings.judgements:
        scores = _scores(entries)
        differing = sum(len({scores[id] for id in task if id in scores}) > 1 for task in tasks)
        _compare(workspace, report, model, entries, math.ceil(settings.judgements * differing))
    return "select"


def _candidates(tried: Sequence[Episode], config: RoundConfig) -> list[Episode]:
    """The attempts at a task that are judged, at random among those that do different things; none if all do the same.

    A refined form is left out: it would be compared with the episode that it was made of.
    """
    played = {tuple(episode.actions): episode for episode in tried if episode.minimised_from is None}
    if len(played) < 2:
        return []
    drawn = sorted(played.values(), key=lambda episode: draw(config.seed, episode.id, "judged|"))
    return drawn[: config.preferences.judge.candidates]


def _judged(model: Model, episodes: Sequence[Episode], config: RoundConfig) -> dict[str, dict[str, Any]]:
    """The judgements of attempts by their ids, with their scores and tokens, as the journal keeps them."""
    from agentlab.reflectors.experimental.judging import SCORES, judging_prompt, score_in

    settings = config.preferences.judge
    samples = range(settings.samples if settings.temperature else 1)
    requests = [
        _request(model, judging_prompt(episode), SCORES, config, f"{episode.id}|{at}", settings.temperature)
        for episode in episodes
        for at in samples
    ]
    written, found = iter(model.write_all(requests)), dict[str, dict[str, Any]]()
    for episode in episodes:
        own = [next(written) for _ in samples]
        judgements = [
            {"text": (text := answer_in(one.text)), "score": score_in(text, cut=one.cut), "ids": one.token_ids}
            for one in own
        ]
        found[episode.id] = {"judgements": judgements, "prompt": own[0].prompt_ids}
    return found


def _request(
    model: Model, prompt: str, endings: Sequence[str], config: RoundConfig, name: str, temperature: float = 0.0
) -> WriteRequest:
    seed = int(draw(config.seed, name, "judge|")[:8], 16)
    return WriteRequest(prompt, model.adapter, TOKENS, temperature, seed, endings=endings)


def _read(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The judgements that could be read."""
    return [one for one in entry["judgements"] if one["score"] is not None]


def _scores(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {id: fmean(one["score"] for one in read) for id, entry in entries.items() if (read := _read(entry))}


def judged_scores(workspace: Workspace, report: RoundReport) -> dict[str, float]:
    """The mean score of every attempt that was judged by who judges in this round, from 0 to 5, by its id."""
    return _scores(workspace.database.journal.items(_scope(workspace, report))) if judges(report.config) else {}


def agreement(pairs: Sequence[Preference]) -> dict[str, int]:
    """How many pairs of a judge have sides that the game scored differently, and in how many it scored the better side
    higher."""
    apart = [pair.better.score > pair.worse.score for pair in pairs if pair.better.score != pair.worse.score]
    return {DIFFER: len(apart), ALIKE: sum(apart)} if pairs else {}


def unread(report: RoundReport) -> str:
    """Why there is nothing to train on, if nothing was judged, or no judgement could be read."""
    if report.judged.get("attempts") == 0:
        return (
            "there are no two attempts at a game that do different things, so none is judged; random exploration keeps "
            'wins alone: explore with a model as well (collect = ["best_of_n"] with search.guide = "model").'
        )
    if not report.judged.get(JUDGEMENTS) or report.judged[READ]:
        return ""
    return (
        f"none of {report.judged[JUDGEMENTS]} judgements can be read (each is to say `Score: N`, from 0 to 5), so that "
        'nothing is preferred; have a larger model judge (`critic` in lab.toml and preferences.judge.by = "critic"), '
        "or take pairs from another source."
    )


# -- judgements of judgements ------------------------------------------------------------------------------------------


class Compared(NamedTuple):
    """The best and the worst judgement of an attempt, as tokens, and those of the prompt to which they answer."""

    episode: Episode
    prompt: list[int]
    better: list[int]
    worse: list[int]


def _compare(
    workspace: Workspace, report: RoundReport, model: Model, entries: Mapping[str, Mapping[str, Any]], most: int
) -> None:
    """Have the model compare the judgements of the attempts of which it is least sure, every two in both orders."""
    from agentlab.reflectors.experimental.judging import VERDICTS, comparing_prompt, first_is_better

    journal, scope, stage = workspace.database.journal, f"{_scope(workspace, report)}|compared", "comparing judgements"
    variances = {id: pvariance([one["score"] for one in _read(entry)] or [0.0]) for id, entry in entries.items()}
    unsure = sorted(
        (id for id, variance in variances.items() if variance),
        key=lambda id: (-variances[id], draw(report.config.seed, id, "compared|")),
    )
    todo, done = unsure[:most], journal.items(scope)
    workspace.progress.start(stage, len(todo))
    for episode in workspace.database.episodes.each(todo):
        if episode.id not in done:
            texts = [one["text"] for one in _read(entries[episode.id])]
            orders = [*permutations(range(len(texts)), 2)]
            asked = [comparing_prompt(episode, texts[a], texts[b]) for a, b in orders]
            requests = [_request(model, prompt, VERDICTS, report.config, "compared") for prompt in asked]
            with workspace.spending.counted():
                said = [first_is_better(answer_in(one.text)) for one in model.write_all(requests)]
            battles = [Battle(*order, won) for order, won in zip(orders, said, strict=True)]
            journal.put(scope, episode.id, {"battles": battles})
        workspace.progress.advance(stage)
    workspace.progress.finish(stage)
    report.judged |= {"attempts whose judgements were compared": len(todo)}


def compared_judgements(
    workspace: Workspace, report: RoundReport, among: Collection[str], pairs: int
) -> Iterator[Compared]:
    """The best and the worst judgement of attempts, by their ratings among each other.

    `among` are the ids of the attempts that this round may learn from; there are no more than may stand beside so many
    `pairs` of these.
    """
    settings, journal = report.config.preferences.judge, workspace.database.journal
    if not judges(report.config) or not settings.judgements:
        return
    scope = _scope(workspace, report)
    entries = journal.items(scope)
    battles = {
        id: [Battle(*one) for one in entry["battles"]] for id, entry in journal.items(f"{scope}|compared").items()
    }
    every, left = [one for fought in battles.values() for one in fought], math.ceil(settings.judgements * pairs)
    for episode in workspace.database.episodes.each(id for id in battles if id in among):
        read = _read(entries[episode.id])
        ratings = bradley_terry(won_battles(battles[episode.id], len(read), every))
        best, worst = (ratings.index(extreme(ratings)) for extreme in (max, min))
        if left and ratings[best] - ratings[worst] > 1e-6:
            left -= 1
            yield Compared(episode, entries[episode.id]["prompt"], read[best]["ids"], read[worst]["ids"])


def _scope(workspace: Workspace, report: RoundReport) -> str:
    """Where the journal has what this judge said: by its weights, how it is asked, and the seed."""
    from agentlab.reflectors.experimental.judging import RUBRIC

    settings = report.config.preferences.judge
    critic = settings.by == "critic"
    who = (workspace.config.critic, "") if critic else (workspace.config.model, report.incumbent or "")
    return content_id("judge", *who, RUBRIC, settings.samples, settings.temperature, report.config.seed)
