"""Checking: settings that would cost something and change nothing are refused before a round begins.

A stored round keeps the settings that it has, so they are not checked when they are read.
"""

from __future__ import annotations

import math
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from agentlab.errors import BadConfig
from agentlab.rounds.config import RoundConfig
from agentlab.search.config import METHODS
from trainers import ObjectiveName
from trainers.data import SelectionConfig
from trainers.gate import GateConfig

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace


def check_settings(config: RoundConfig, *, elsewhere: bool = False) -> None:
    """Raise BadConfig for what the objective or `learn_from` cannot use, a balance that nobody explores by, and a
    society that is to be trained `elsewhere`."""
    _check_idle(config)
    if config.society:
        _check_society(config, elsewhere)
    if config.plays_to_train:
        _check_on_policy(config)
    if config.training.in_pairs:
        _check_pairs(config)
    if config.kl.envs:
        _check_hold(config)
    if config.revise and config.learn_from == "recalled":
        raise BadConfig(
            '`revise` would do nothing; in what is executed again nothing is recalled, and `learn_from = "recalled"` '
            "leaves that out; drop one of the two."
        )
    if config.balance is not None and not _model_explores(config):
        raise BadConfig(
            "`balance` picks the temperature at which the model explores, and by `collect` and `search` it does not; "
            'add "model" to `collect`, search with `search.guide = "model"`, or drop `balance`.'
        )


def check_actor(config: RoundConfig, actor: str) -> None:
    """Raise BadConfig for an objective that cannot learn from how the lab's model plays."""
    if actor == "write" and config.training.objective == "soft_distill":
        raise BadConfig(
            "The objective soft_distill learns from the log-probabilities of all commands, and a model that writes has "
            "only those of what it wrote; set the objective sft, which teaches what was written with memory for the "
            'prompt without it, or play with `actor = "rank"`.'
        )


def hopeless(config: RoundConfig, challenge: int = 1) -> str:
    """Why no candidate could pass the gate of this round, and what to set; empty if one could.

    `challenge` is the number of the candidate among those that challenge what serves. See `GateConfig.least_pairs`.
    """
    envs, gate = len(config.envs), config.gate
    return too_few(
        gate, challenge, envs, config.gate_seeds, "`gate_seeds`", "set gate_seeds to {0} or more (--gate-games {0})"
    )


def too_few(gate: GateConfig, challenge: int, envs: int, seeds: int, named: str, remedy: str) -> str:
    """Why no candidate could pass a gate of so many `seeds` (which are `named` so) in each environment; empty if one
    could. `remedy` says what to do, with the seeds that would be enough as {0}."""
    planned, least = envs * seeds, gate.least_pairs(challenge)
    if planned >= least:
        return ""
    why = (
        f"`gate.min_pairs` = {gate.min_pairs}"
        if least == gate.min_pairs
        else f"with `gate.alpha` = {gate.alpha:g}, at challenge {challenge}, fewer can never be told from chance"
    )
    return (
        f"The gate can never pass: {planned} pairs of games are played ({envs} environments × {named} = {seeds}), "
        f"and it needs {least} ({why}); {remedy.format(math.ceil(least / envs))}."
    )


USED_BY: dict[str, tuple[ObjectiveName, ...]] = {
    "questions": ("sft", "minor_sft"),
    "preferences": ("dpo", "step_dpo"),
    "teacher": ("soft_distill",),
    "on_policy": ("grpo",),
    "training.beta": ("minor_sft", "dpo", "step_dpo", "kto", "grpo"),
    "training.nll_weight": ("dpo", "step_dpo"),
    "training.desirable_weight": ("kto",),
    "training.undesirable_weight": ("kto",),
}
"""Settings that some objectives alone read."""


EXPLORES = (
    "collect", "ladder", "random_trials", "model_trials", "temperature", "memory", "search", "balance", "revise",
    "revision", "selection", "calls", "learn_from", "anchors", "validation", "general", "questions", "kl",
    "training.epochs", "training.spike",
)  # fmt: skip
"""Settings of exploring, selecting, asking and passing over data again, none of which a round does that plays to train.
"""


def taken_over(config: RoundConfig) -> dict[str, Any]:
    """The settings of an earlier round as those of a new one: what its objective does not read is left as it usually
    is. An earlier version usually had other numbers there."""
    given, judge = config.model_dump(), config.preferences.judge
    if not judge.temperature and judge.samples > 1:
        del given["preferences"]["judge"]["samples"]  # nobody set it: with this temperature it would have been refused
    for name, objectives in USED_BY.items():
        if config.training.objective not in objectives:
            *parts, last = name.split(".")
            within = given
            for part in parts:
                within = within[part]
            del within[last]
    return given


def _check_idle(config: RoundConfig) -> None:
    usual = RoundConfig(envs=config.envs)
    for name, objectives in USED_BY.items():
        if config.training.objective not in objectives and attrgetter(name)(config) != attrgetter(name)(usual):
            raise BadConfig(
                f"`{name}` would do nothing; the objective {config.training.objective} does not read it, only "
                f"{' and '.join(objectives)} {'does' if len(objectives) == 1 else 'do'}; drop it, or set that "
                "objective."
            )


def _check_on_policy(config: RoundConfig) -> None:
    usual, settings = RoundConfig(envs=config.envs), config.on_policy
    idle = [name for name in EXPLORES if attrgetter(name)(config) != attrgetter(name)(usual)]
    if idle:
        raise BadConfig(
            f"{', '.join(f'`{name}`' for name in idle)} would do nothing; the objective grpo plays while it trains, at "
            "temperature 1 with the weights as they are, and neither explores nor selects before; drop what is named, "
            "and set `on_policy` instead."
        )
    if settings.games > (games := len(config.envs) * config.seeds):
        raise BadConfig(
            f"`on_policy.games` asks for {settings.games} games in a step, each once, and this round has {games} "
            f"({len(config.envs)} environments × `seeds` = {config.seeds}); set `seeds` (--games) higher, or it lower."
        )
    if settings.improvement and settings.attempts == 1:
        raise BadConfig(
            "`on_policy.improvement` would do nothing; it rewards what a later attempt at a game is better, and there "
            "is one; set `on_policy.attempts` to 2, or drop it."
        )
    if settings.discount != usual.on_policy.discount and not settings.step_weight:
        raise BadConfig(
            "`on_policy.discount` would do nothing; what follows a step counts for step-level advantages alone; set "
            "`on_policy.step_weight`, or drop it."
        )


def _check_society(config: RoundConfig, elsewhere: bool) -> None:
    usual = RoundConfig(envs=config.envs)
    idle = [name for name in EXPLORES if attrgetter(name)(config) != attrgetter(name)(usual)]
    idle = [name for name in idle if name not in ("temperature", "training.epochs", "training.spike")]
    if idle:
        raise BadConfig(
            f"{', '.join(f'`{name}`' for name in idle)} would do nothing; the agents of a `society` explore, and each "
            "learns from what is its own, so nothing else explores or selects; drop what is named, or `society`."
        )
    if config.training.objective not in ("sft", "minor_sft"):
        raise BadConfig(
            f"The objective {config.training.objective} cannot train a `society`, whose agents learn from attempts "
            "that are right; set sft or minor_sft, or drop `society`."
        )
    if elsewhere:
        raise BadConfig(
            "A `society` is trained here, one agent after the other, and an export carries one job; leave out "
            "`--export`, or drop `society`."
        )


def check_practice(workspace: Workspace, *, elsewhere: bool = False) -> None:
    """Raise BadConfig where a round could not play with the weights that it trains, as when it is to be trained
    `elsewhere`, MissingDependency without TRL."""
    from agentlab.engines.base import Tokenizing
    from trainers.training import check_trl

    if elsewhere:
        raise BadConfig(
            "The objective grpo plays while it trains, and there are no games where a job is trained elsewhere; leave "
            "out `--export`, or set another objective."
        )
    if workspace.workers is not None:
        raise BadConfig(
            "The objective grpo plays with weights that change at every step, and workers have theirs from the "
            "beginning of a run; leave out `--workers`."
        )
    if workspace.config.engine != "transformers" or not isinstance(workspace.engine, Tokenizing):
        raise BadConfig(
            f"The objective grpo plays in the process that trains, and this lab's model is asked by the engine "
            f"{workspace.config.engine}; set `engine` to transformers in lab.toml, or another objective."
        )
    check_trl()


def _check_pairs(config: RoundConfig) -> None:
    objective = config.training.objective
    usable = SelectionConfig(max_trial=config.selection.max_trial)
    idle = ["selection"] if config.selection != usable else []
    idle += [name for name in ("revise", "anchors", "validation", "general") if getattr(config, name)]
    if idle:
        raise BadConfig(
            f"{', '.join(f'`{name}`' for name in idle)} would do nothing; the objective {objective} learns from pairs "
            "of attempts, not from selected successes; drop what is named (of `selection` only `max_trial` counts), "
            "and set `preferences` instead."
        )
    judge, sources = config.preferences.judge, config.preferences.sources or ()
    if "judge" not in sources and judge != type(judge)():
        raise BadConfig(
            '`preferences.judge` would do nothing; nobody judges, since `preferences.sources` does not name "judge"; '
            "add it there, or drop this."
        )
    if judge.judgements and (judge.by == "critic" or judge.samples == 1 or not judge.temperature):
        why = "it is another model that judges" if judge.by == "critic" else "of one judgement there is no pair"
        raise BadConfig(
            f"`preferences.judge.judgements` would do nothing; it teaches the round's own model to judge, and {why}; "
            "drop it, or have the model judge itself with `samples` of 2 or more and a `temperature`."
        )
    if "samples" in judge.model_fields_set and judge.samples > 1 and not judge.temperature:
        raise BadConfig(
            f"`preferences.judge.samples` = {judge.samples} would do nothing; at `temperature` 0 all judgements of an "
            "attempt are the same, and one is made; set a temperature above 0, or drop `samples`."
        )
    if config.balance is not None and any(config.balance.thresholds):
        raise BadConfig(
            f"`balance.thresholds` would do nothing; the objective {objective} needs worse attempts beside better "
            "ones, so no score bars any; set thresholds = [0.0], which balances the temperature alone."
        )


def _check_hold(config: RoundConfig) -> None:
    both = sorted({*config.envs} & {*config.kl.envs})
    if both:
        raise BadConfig(
            f"`kl` names {', '.join(both)}, which the round is to learn; the adapter cannot change there and stay "
            "what its base is; name other environments."
        )
    if config.training.objective != "sft":
        raise BadConfig(
            f"The objective {config.training.objective} has no KL regularisation to the base on other games; only sft "
            "has; drop `kl` or set that objective."
        )


def _model_explores(config: RoundConfig) -> bool:
    ways = set(config.ways(None))
    return "model" in ways or (config.search.guide == "model" and not ways.isdisjoint(METHODS))
