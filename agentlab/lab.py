"""A lab: one project, and the calls that a person makes on it; each is a function of a room below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentlab.workspace.environments import as_played
from agentlab.workspace.workspace import Workspace

if TYPE_CHECKING:
    from agentlab.agent.arms import Arm
    from agentlab.agent.rollout import Rollout
    from agentlab.datasets import Exported, Redact
    from agentlab.engines.experimental.vectors import Card
    from agentlab.experiments.evaluation import Table
    from agentlab.experiments.results import Results
    from agentlab.experiments.two_by_two import TwoByTwo
    from agentlab.reflectors.base import Reflector
    from agentlab.rounds.config import RoundConfig
    from agentlab.rounds.report import RoundReport
    from environments.base import Split


class Lab(Workspace):
    """One project. Open it with `Lab.open`, as a context manager.

    Attributes:
        folder: where it lies.
        config: its settings.
        database: the SQLite file with everything that was lived and learned.
        memory: the long-term memory over it.
        adapters: the adapters with their lineage.
        progress: told how far long work is.
    """

    # -- how it plays ------------------------------------------------------------------------------------------------

    def arm(self, name: str) -> Arm:
        """An arm by name: `random`, `base`, `adapter`, each of the last two also as `… + memory`; or an adapter's id.

        `adapter` is the one that serves. `skills(A,B)` composes adapters for each task (`agentlab.agent.router`).
        `society` is the last one that a round trained (`agentlab.agent.society`).
        `steering-ID@0.1` is the base, steered (experimental).
        """
        from agentlab.agent.arms import arm_of

        return arm_of(self, name)

    def rollout(
        self,
        run: str,
        arm: Arm,
        *,
        reflectors: Sequence[str | Reflector] | None = None,
        seed: int | None = None,
        refining: bool = False,
    ) -> Rollout:
        """A rollout of this lab for an arm, with its model, memory and checkpoints. Close it after use.

        With `refining` it keeps the refined forms of what it wins on train games too.

        Raises UnknownReflector for a name that no reflector has.
        """
        from agentlab.agent.rollout import rollout_of

        return rollout_of(self, run, arm, reflectors=reflectors, seed=seed, refining=refining)

    def begun(self, run: str) -> str:
        """When a run began, which may be now."""
        from agentlab.agent.rollout import begun

        return begun(self, run)

    # -- what it plays, learns and measures --------------------------------------------------------------------------

    def run(
        self,
        envs: str | Sequence[str],
        *,
        split: Split = "train",
        seeds: Sequence[int] = range(10),
        trials: int = 3,
        arm: str | Arm | None = None,
        name: str | None = None,
        reflectors: Sequence[str | Reflector] | None = None,
        again: bool = False,
    ) -> Results:
        """Play tasks; what is lived and learned stays in the lab. The same call again goes on where it stopped.

        A run recalls what was known when it first began. Without a `name` it has one that follows from its games, its
        arm and the reflectors asked for, so that other games are another run, which recalls what this one taught.
        `reflectors` are names (see `agentlab.reflectors.registry`) or one's own; by default those of the settings.
        With `again` what errors is played once more at the end. Without an `arm` the adapter that serves plays, with
        memory; the base with memory where none does.
        """
        from agentlab.experiments.run import run

        envs = as_played(envs, self.config.tools)
        return run(
            self,
            envs,
            split=split,
            seeds=seeds,
            trials=trials,
            arm=arm,
            name=name,
            reflectors=reflectors,
            again=again,
        )

    def explore(
        self,
        envs: str | Sequence[str],
        *,
        seeds: Sequence[int] = range(20),
        trials: int = 30,
        name: str | None = None,
    ) -> int:
        """Random exploration of train games, without a model: each until it is won, at most `trials` times.

        Wins, their refined forms and what both teach stay in the lab, for memory and for distillation. Returns how many
        games were won. The same call again goes on where it stopped, and with more trials tries what was not won.
        """
        from agentlab.experiments.collection import explore

        return explore(self, as_played(envs, self.config.tools), seeds=seeds, trials=trials, name=name)

    def say_what_is_known(self, run: str) -> None:
        """Say it, if something was learned since a run began: it goes on without."""
        from agentlab.experiments.run import say_what_is_known

        say_what_is_known(self, run)

    def evaluate(
        self,
        envs: str | Sequence[str],
        *,
        split: Split = "test",
        seeds: Sequence[int] = range(20),
        arms: str | Arm | Sequence[str | Arm] | None = None,
        trials: int = 1,
        name: str | None = None,
        again: bool = False,
    ) -> Table:
        """Measure arms side by side on the same tasks and seeds; by default random, base and base + memory, and the
        adapter with and without memory where one serves.

        With `trials` > 1 every arm but `random` is also shown within that many trials: for an arm without memory that
        row is the plain Retry arm.

        Without a `name` it has one that follows from what it measures and with which adapters. One that was stopped,
        or in which games errored, goes on where it stopped; one that is finished gives its table again, until more is
        known: then arms with memory are measured anew, with what is known by now. `about` has name and date. With
        `again` what errors is played once more at once.
        """
        from agentlab.agent.arms import default_arms
        from agentlab.experiments.evaluation import evaluate

        envs, arms = as_played(envs, self.config.tools), default_arms(self) if arms is None else arms
        return evaluate(self, envs, split=split, seeds=seeds, arms=arms, trials=trials, name=name, again=again)

    def two_by_two(self, envs: str | Sequence[str], **settings: Any) -> TwoByTwo:
        """Memory off and on × adapter old and new; its settings are those of `agentlab.experiments.two_by_two`."""
        from agentlab.experiments.two_by_two import two_by_two

        return two_by_two(self, as_played(envs, self.config.tools), **settings)

    def steer(self, envs: str | Sequence[str], **settings: Any) -> Card:
        """Make a steering vector (experimental) from won and lost train games: for a local model alone.

        `settings` are those of `agentlab.engines.experimental.vectors.SteeringConfig`. The arm `ID@STRENGTH` plays with
        it. Raises UnknownEnvironment, BadConfig, UnsupportedModel, AgentLabError if no game was won or none lost.
        """
        from agentlab.engines.experimental.vectors import SteeringConfig
        from agentlab.experiments.experimental import make_steering
        from agentlab.workspace.config import parse

        config = parse(SteeringConfig, settings, Path("steering"))
        return make_steering(self, as_played(envs, self.config.tools), config)

    def export_episodes(self, folder: Path | str, *, redact: Redact | None = None, **chosen: Any) -> Exported:
        """Write its episodes into `folder` as a Hugging Face data set, which TRL's trainers take as it is; every text
        goes through `redact`. `chosen` are properties of `memory.store.EpisodeFilter`, such as `split="train"`."""
        from agentlab.datasets import export_episodes
        from memory.store import EpisodeFilter

        return export_episodes(self, folder, wanted=EpisodeFilter(**chosen), redact=redact)

    # -- rounds ------------------------------------------------------------------------------------------------------

    def round(self, config: RoundConfig) -> RoundReport:
        """Collect, select, train, gate, and promote or reject. An unfinished round is finished first."""
        from agentlab.rounds import run_round

        self.must_write()
        return run_round(self, config.model_copy(update={"envs": as_played(config.envs, self.config.tools)}))

    def rounds(self) -> list[RoundReport]:
        """Reports of all rounds, oldest first."""
        from agentlab.rounds import reports

        return reports(self)
