"""What a round will cost, before anything of it is played: games, steps, examples, and the time where it is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from agentlab.agent.tasks import looked_at
from agentlab.rounds.config import RoundConfig
from agentlab.rounds.ladder import PROBED, variants
from agentlab.rounds.report import RoundReport, reports

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace


class Phase(BaseModel):
    """A part of a round: at most so many games and steps, and the seconds that it will take (None: not known).

    `basis` says what the seconds were taken from.
    """

    phase: str
    games: int = 0
    steps: int = 0
    seconds: float | None = None
    basis: str = ""


class Estimate(BaseModel):
    """The parts of a round in their order, and what stands in its way (empty: nothing)."""

    round: str
    phases: list[Phase]
    problem: str = ""

    @property
    def seconds(self) -> float | None:
        """Of all parts together; None if one of them is not known."""
        known = [phase.seconds for phase in self.phases if phase.seconds is not None]
        return sum(known) if len(known) == len(self.phases) else None


def estimate(workspace: Workspace, config: RoundConfig) -> Estimate:
    """What a new round with these settings comes to at most. Nothing is played, and no model is loaded.

    Times are those of this lab's own earlier games and trainings; a game that is won early takes less.
    """
    from agentlab.rounds.challenges import next_challenge
    from agentlab.rounds.checking import hopeless

    limits = _step_limits(config.envs)
    steps = sum(limits.values())
    phases = []
    if balance := config.balance:
        games = min(balance.tasks, len(limits) * config.seeds) * balance.trials * len(balance.temperatures)
        phases.append(_played(workspace, "balance", games, games * max(limits.values()), True))
    for way in config.ways(workspace.serving()):
        trials = {"random": config.random_trials, "model": config.model_trials}.get(way, 1)
        games = len(limits) * config.seeds * trials
        most = config.seeds * trials * steps
        if config.ladder:  # some games of each easier variant come first
            probed = min(PROBED, config.seeds) * trials
            rungs = {name: len(list(variants(name))) - 1 for name in limits}
            games += probed * sum(rungs.values())
            most += probed * sum(limits[name] * rungs[name] for name in limits)
        if way not in ("random", "model"):  # a search plays as many steps as it may, however many games that makes
            games, most = len(limits) * config.seeds, len(limits) * config.seeds * config.search.budget.steps
        thinks = way == "model" or (way != "random" and config.search.guide == "model")
        phases.append(_played(workspace, f"collect: {way}", games, most, thinks))
    if config.society:
        games = len(limits) * config.seeds * 2 * config.society.agents
        most = config.seeds * 2 * config.society.agents * steps
        phases.append(_played(workspace, "society: play, then train each agent", games, most, True))
    if config.plays_to_train:
        games = config.on_policy.steps * config.on_policy.episodes
        most = games * max(limits.values())
        phases.append(_played(workspace, "practise: play and train by turns", games, most, True))
    else:
        phases.append(_trained(workspace, config))
    phases.append(_played(workspace, "gate", 2 * len(limits) * config.gate_seeds, 2 * config.gate_seeds * steps, True))
    if config.retire_games:
        games = len(limits) * config.retire_games
        phases.append(_played(workspace, "retire", games, config.retire_games * steps, True))
    return Estimate(
        round=f"round-{len(reports(workspace)) + 1}", phases=phases, problem=hopeless(config, next_challenge(workspace))
    )


def _step_limits(envs: list[str]) -> dict[str, int]:
    limits = {}
    for name in envs:
        with looked_at(name) as env:
            limits[env.env_id] = env.step_limit
    return limits


def _played(workspace: Workspace, name: str, games: int, steps: int, thinks: bool) -> Phase:
    """Games that a model (or chance) plays, with what a step has taken so far."""
    from memory import EpisodeFilter

    spent, done = workspace.database.episodes.time_taken(EpisodeFilter(by_model=thinks))
    if not done or not spent:
        return Phase(phase=name, games=games, steps=steps)
    # Episodes are in flight side by side, and each counts all of the time.
    seconds = steps * spent / done / workspace.concurrency
    return Phase(phase=name, games=games, steps=steps, seconds=seconds, basis=f"{done:,} steps played here")


def _trained(workspace: Workspace, config: RoundConfig) -> Phase:
    """The training, as the last one of this lab went: its examples are known only when the games are won."""
    known: list[RoundReport] = [report for report in reports(workspace) if report.training.get("seconds")]
    earlier = [report for report in known if not report.config.plays_to_train]
    if not earlier:
        return Phase(phase="train")
    last = earlier[-1]
    agents = 2 * config.society.agents if config.society else 1
    seconds = agents * float(last.training["seconds"]) * config.training.epochs / last.config.training.epochs
    return Phase(phase="train", seconds=seconds, basis=f"{last.id}: {last.training['examples']} examples")
