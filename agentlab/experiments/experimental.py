"""Steering vectors (experimental): made from steps of a lab's train games, by the model that will be steered."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean
from typing import TYPE_CHECKING, Any

from agentlab.engines.base import Tokenizing
from agentlab.engines.experimental import vectors
from agentlab.engines.experimental.vectors import Card, SteeringConfig
from agentlab.errors import AgentLabError
from agentlab.workspace.environments import environment
from memory.prompts import Prompting
from memory.records import content_id
from memory.store import EpisodeFilter

if TYPE_CHECKING:
    import torch

    from agentlab.engines.experimental.steering import Asked
    from agentlab.workspace.workspace import Workspace
    from environments.base import Split


@dataclass(frozen=True)
class Judged:
    """A step of an episode, with the question behind it, and whether that episode was won."""

    episode: str
    won: bool
    asked: Asked


def make_steering(workspace: Workspace, envs: Sequence[str], config: SteeringConfig) -> Card:
    """Make a steering vector from train games of these environments, and keep it: see `Lab.steer`.

    The same steps and settings are the same vector, which is made once.
    """
    from agentlab.engines.experimental import steering

    workspace.must_write()
    envs = [environment(env, workspace.database) or env for env in envs]
    engine, steps = vectors.must_open(workspace.engine), judged_steps(workspace, envs, config)
    asked, root = [one.asked for one in steps], workspace.folder / "steering"
    which = (f"{one.episode} {len(one.asked.tokens)}" for one in steps)
    id = content_id("steering", workspace.fingerprint, config, *which)
    if (root / id).exists():
        return vectors.read_card(root / id)
    with engine.opened() as model:
        layers = steering.steered_layers(model)
        if config.method == "self-control":
            stage = "suffix gradients"
            workspace.progress.start(stage, len(steps) * steering.ITERATIONS)
            found = steering.self_control(
                model, asked, layers, config.strength, lambda: workspace.progress.advance(stage)
            )
            workspace.progress.finish(stage)
        elif config.method == "mean-difference":
            won, lost = ([one.asked for one in steps if one.won is how] for how in (True, False))
            found = steering.mean_difference(model, won, lost, layers)
        else:
            found = steering.random_direction(model, asked, layers, config.seed)
        score = suffix_scores(model, steps, {at: config.strength * vector for at, vector in found.items()})
    card = Card(
        id=id,
        model=workspace.config.model,
        fingerprint=workspace.fingerprint,
        made=config,
        layers=layers,
        steps=len(steps),
        envs=sorted({row.env for row in workspace.database.episodes.rows(one.episode for one in steps)}),
        episodes=[one.episode for one in steps],
        score=score,
    )
    return vectors.write(root, card, found)


def suffix_scores(model: Any, steps: Sequence[Judged], added: Mapping[int, torch.Tensor]) -> dict[str, float]:
    """Mean suffix scores of some steps, of a model as it is and as it is steered: see `Card.score`."""
    import torch

    from agentlab.engines.experimental.steering import suffix_score

    with torch.inference_mode():
        base = [float(suffix_score(model, one.asked, {})) for one in steps]
        steered = [float(suffix_score(model, one.asked, added)) for one in steps]
    won, lost = ([score for score, one in zip(base, steps, strict=True) if one.won is how] for how in (True, False))
    return {"base": fmean(base), "steered": fmean(steered), "won": fmean(won), "lost": fmean(lost)}


def judged_steps(
    workspace: Workspace, envs: Sequence[str], config: SteeringConfig, split: Split = "train"
) -> list[Judged]:
    """A step of each of some won and some lost episodes that no adapter played, drawn by the seed, as the lab's model
    reads them without memory.

    Raises AgentLabError if no game was won, or none lost.
    """
    rows = [
        row
        for env in dict.fromkeys(envs)
        for row in workspace.database.episodes.find(EpisodeFilter(env=env, split=split, adapter="", minimised=False))
        if row.status != "errored"
    ]
    lots, found = random.Random(config.seed), list[Judged]()
    for won in (True, False):
        ids = [row.id for row in rows if (row.status == "won") is won]
        lots.shuffle(ids)
        steps = list(islice(_steps(workspace, ids, config.question, lots), config.steps // 2))
        if not steps:
            raise AgentLabError(
                f"The base has {'won' if won else 'lost'} no {split} game of {', '.join(envs)} here that it could "
                "read; steering is made from steps of both; play more with `agentlab run --arm base` first."
            )
        found += [Judged(id, won, asked) for id, asked in steps]
    return found


def _steps(workspace: Workspace, ids: Sequence[str], question: str, lots: random.Random) -> Iterator[tuple[str, Asked]]:
    """A step of each of these episodes that was played as it stands, and the question behind it."""
    from agentlab.engines.experimental.steering import Asked, Question
    from trainers.data import from_episode
    from trainers.errors import BadExample

    engine = workspace.engine
    assert isinstance(engine, Tokenizing), "local"
    for id in ids:
        (episode,) = workspace.database.episodes.load([id])
        if episode.relabelled_from is not None:
            continue
        asked = Question.of(engine.tokenize, question, chat=Prompting.named(episode.prompt).chat)
        try:
            played = from_episode(episode, engine.tokenize, max_tokens=engine.context - len(asked.tokens))
        except BadExample:
            continue
        _, end = lots.choice(played.spans)
        yield id, Asked(tuple(played.token_ids[:end]), asked)
