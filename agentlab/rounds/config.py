"""The settings of a round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from memory.retirement import RetirementConfig
from trainers.gate import GateConfig
from trainers.selection import SelectionConfig

if TYPE_CHECKING:
    from environments import Task


class TrainingConfig(BaseModel):
    """How an adapter is trained; the names and defaults are those of `trainers.job.JobConfig`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    learning_rate: float = Field(1e-3, gt=0.0)
    batch_size: int = Field(4, ge=1)
    epochs: int = Field(2, ge=1)
    max_tokens: int = Field(1024, ge=64)


class RoundConfig(BaseModel):
    """Settings of a round.

    Attributes:
        envs: the environments to learn.
        collect: who explores; `auto` is a random policy with memory while no adapter serves, and both after that.
        seeds: train seeds of each environment in this round.
        first_seed: the first of them; None takes the n-th block in the n-th round.
        random_trials: trials of the random policy at one task.
        model_trials: trials of the model at one task.
        temperature: at which the model explores.
        selection: which successes are trained on, out of all that the lab has.
        training: how.
        gate: when an adapter is promoted.
        gate_seeds: dev seeds of each environment on which candidate and incumbent are compared.
        held_out_seeds: that many dev and test games of each environment are compared with the training data, and what
            begins alike is not trained on.
        retire: what is done at the end with reflections whose measured uplift has gone under the adapter that serves:
            `on` retires them, `dry-run` only names them in the report, `off` does not look.
        retire_games: train games of each environment that a promoted adapter plays with memory, so that there is
            evidence; half of what is recalled is withheld by lot. 0 leaves that to ordinary play.
        retirement: which uplift counts as gone.
        seed: of exploration, selection and training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    envs: list[str] = Field(min_length=1)
    collect: Literal["auto", "random", "model", "both", "none"] = "auto"
    seeds: int = Field(40, ge=1)
    first_seed: int | None = Field(None, ge=0)
    random_trials: int = Field(30, ge=1)
    model_trials: int = Field(4, ge=1)
    temperature: float = Field(1.0, gt=0)
    selection: SelectionConfig = SelectionConfig()
    training: TrainingConfig = TrainingConfig()
    gate: GateConfig = GateConfig()
    gate_seeds: int = Field(20, ge=1)
    held_out_seeds: int = Field(100, ge=0)
    retire: Literal["on", "dry-run", "off"] = "on"
    retire_games: int = Field(0, ge=0)
    retirement: RetirementConfig = RetirementConfig()
    seed: int = 0

    def train_seeds(self, number: int) -> range:
        """The train seeds of each environment that round `number` (1-based) explores."""
        first = (number - 1) * self.seeds if self.first_seed is None else self.first_seed
        return range(first, first + self.seeds)

    def retire_seeds(self, number: int) -> range:
        """The train seeds behind those, on which a promoted adapter is watched recalling."""
        last = self.train_seeds(number).stop
        return range(last, last + self.retire_games)

    def tasks(self, number: int) -> list[Task]:
        """Everything that round `number` will play."""
        from agentlab.tasks import make_tasks

        train = [] if self.collect == "none" else [*self.train_seeds(number)]
        if self.retire != "off":
            train += self.retire_seeds(number)
        explored = make_tasks(self.envs, "train", train) if train else []
        return [*explored, *make_tasks(self.envs, "dev", range(self.gate_seeds))]
