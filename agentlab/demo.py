"""The demonstration: the whole loop on real games, small enough for two processor cores and a cup of coffee."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentlab.rounds import RoundConfig, RoundReport
from trainers.data import SelectionConfig
from trainers.gate import GateConfig

if TYPE_CHECKING:
    from agentlab.experiments.evaluation import Table
    from agentlab.lab import Lab

ENVS = ("twx/coin", "twx/mapreader", "twx/peckingorder")
TEST_SEEDS = range(5)
CREDIT_SEEDS = range(100, 104)
"""Train games on which half of what is recalled is held out, so that single reflections are seen to help or not."""

TRIALS = 2


@dataclass(frozen=True)
class Demonstration:
    """What the demonstration came to."""

    table: Table
    report: RoundReport
    tried_again: list[str]


def config() -> RoundConfig:
    """The round of the demonstration: 30 train games of each kind, at most 12 successes of each."""
    return RoundConfig(
        envs=list(ENVS),
        seeds=30,
        selection=SelectionConfig(cap_per_task=1, cap_per_env=12),
        gate=GateConfig(min_pairs=12),
        gate_seeds=7,
    )


def demonstrate(lab: Lab) -> Demonstration:
    """Play, reflect, recall, try again; distil; gate; measure the whole, and its parts. Stopped at any point, the same
    call goes on."""
    say = lab.progress.say
    say("1/4  The base model plays, reflects on its failures, recalls what it wrote, and tries again.")
    results = lab.run(ENVS, split="train", seeds=range(1), trials=3, arm="base + memory", name="demo-play")
    tried_again = [trial.episode for result in results if len(result.trials) > 1 for trial in result.trials]
    say("2/4  A distillation round: explore, select, train, and let held-out games decide.")
    known = [report for report in lab.rounds() if report.phase == "done"]
    report = known[0] if known else lab.round(config())
    say(f"3/4  Measuring on {len(TEST_SEEDS)} test games of each kind that nothing above has seen.")
    arms = ["random", "base", "base + memory"]
    if lab.serving():
        arms += ["adapter", "adapter + memory"]
    table = lab.evaluate(ENVS, split="test", seeds=TEST_SEEDS, arms=arms, trials=TRIALS, name="demo-test")
    retry, memory = f"base + retry, {TRIALS} trials", f"base + memory, {TRIALS} trials"
    table.compare(memory, retry)
    if lab.serving():
        table.compare("adapter", "base")
        table.compare(f"adapter + memory, {TRIALS} trials", f"adapter + retry, {TRIALS} trials")
    say("4/4  What single reflections are worth: half of what is recalled is held out, on a few train games.")
    with _held_out(lab):
        lab.run(ENVS, split="train", seeds=CREDIT_SEEDS, trials=1, arm="base + memory", name="demo-credit")
    return Demonstration(table, report, tried_again)


@contextmanager
def _held_out(lab: Lab) -> Iterator[None]:
    """For a while, hold out as much as tells most in a few games, whatever that costs these games."""
    usual = lab.config
    lab.config = usual.model_copy(update={"hold_out": 0.5, "hold_out_cost": 1.0})
    try:
        yield
    finally:
        lab.config = usual
