"""The settings of a round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentlab.agent.tasks import make_tasks
from agentlab.rounds.parts import (
    BalanceConfig,
    EachOnce,
    ForgettingConfig,
    KLConfig,
    MonitoringConfig,
    PreferenceConfig,
    QuestionsConfig,
    RevisionConfig,
    SearchingConfig,
    SocietyConfig,
    StopConfig,
    TeacherConfig,
    TrainingConfig,
    Way,
    each_once,
)
from agentlab.search.calls import CallsConfig
from memory.credit import RetirementConfig
from trainers import OnPolicyConfig
from trainers.data import SelectionConfig
from trainers.gate import GateConfig

if TYPE_CHECKING:
    from environments import Task

MOST_GAMES = 100_000
"""More games of one environment in a round are surely a slip, and would fill the memory before the first is played."""

EXPERT = (
    "first_seed", "search", "balance", "revision", "anchors", "validation", "general", "questions", "preferences",
    "teacher", "on_policy", "society", "kl", "monitor", "forgetting", "held_out_seeds", "early_stop", "retire",
    "retire_games", "retirement",
)  # fmt: skip
"""Settings that are rarely changed: they stand in the table `expert` of a file."""


def flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a file, those of its table `expert` beside the others, under the names of this version."""
    expert = fields.get("expert")
    found = {name: value for name, value in fields.items() if name != "expert" or not isinstance(expert, Mapping)}
    found |= expert if isinstance(expert, Mapping) else {}
    return {"kl" if name == "hold" else name: value for name, value in found.items()}


Collect = Way | Literal["auto", "both", "none"]


class RoundConfig(BaseModel):
    """Settings of a round.

    Attributes:
        envs: the environments to learn.
        collect: who explores: one way or a list of them. `random` and `model` play on, `mcts`, `best_of_n`, `deepening`
            and `self_explore` search (see `search`); `both` is the first two; `auto` is a random policy with memory
            while no adapter serves, and both after that, or from the start where `balance` is set.
        seeds: train seeds of each environment in this round.
        first_seed: the first of the train seeds; None: in the n-th round the n-th block of them is played.
        ladder: where too few games of an environment are won, explore and learn from easier variants of it too.
        random_trials: trials of the random policy at one task.
        model_trials: trials of the model at one task.
        temperature: at which the model explores.
        memory: what the model recalls while it explores: `trials` its earlier trials of the task, `all` whatever the
            base with memory recalls; its prompt is trained on without that (context distillation).
        search: how those of `collect` search that do.
        balance: picks temperature and threshold anew in every round; None: they stay as they are set. It needs a model
            that explores, by itself or as the guide of a search.
        revise: make revisions of failures that a success shares its beginning with, and train on them too.
        revision: how failures are revised, where `revise` is set.
        selection: which successes are trained on, out of all that the lab has. The objectives in pairs only heed its
            `max_trial`, and refuse the rest, as they do `revise`, `anchors`, `validation` and `general`.
        calls: when a call of a tool is written into a success, in games that have tools.
        learn_from: `all` episodes, or only those in which something was `recalled`.
        anchors: ids of fixed episodes, which a rehearsal draws its share from.
        validation: ids of trusted episodes, whose loss is the scale of the others' (`importance`); without any, the
            anchors.
        general: a file of general texts to rehearse, in the usual forms of training texts (`trainers.data.read_texts`).
        questions: teach questions that are made of what the memory holds, and ask others before and after; None:
            neither. Only the objectives `sft` and `minor_sft` can.
        preferences: which pairs the objectives `dpo` and `step_dpo` learn from.
        teacher: what the objective `soft_distill` takes for the policy that played with memory.
        on_policy: what the objective `grpo` plays while it trains; such a round neither explores nor selects.
        society: several agents that play, see each other's attempts, and are trained each on its own; None: one.
        kl: on which other games the adapter is regularised to its base (KL), so that it changes nothing there; only the
            objective `sft` can.
        training: how an adapter is trained, and for which objective.
        monitor: what is watched of the new adapter: drift always, variety and what lies within reach by samples, of
            which it takes none by default.
        gate: when an adapter is promoted.
        forgetting: how many games of families outside `envs`, on which adapters of the lab were trained, are played
            with what the gate lets through; a credible loss there is told, and refused where `gate.refuse_regressions`.
        gate_seeds: how many dev games of each environment candidate and incumbent are compared on; every round takes
            the next ones, which no earlier gate has seen.
        held_out_seeds: that many dev and test games of each environment are compared with the training data, and what
            begins alike is not trained on.
        early_stop: ends a series of rounds whose held-out score no longer rises; None: it goes on.
        retire: what is done at the end with reflections whose measured uplift has gone under the adapter that serves:
            `on` retires them, `dry-run` only names them in the report, `off` does not look.
        retire_games: train games of each environment that a promoted adapter plays with memory, so that there is
            evidence; half of what is recalled is held out at random. 0 leaves that to ordinary play.
        retirement: which uplift counts as gone.
        seed: of exploration, selection and training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    envs: EachOnce = Field(min_length=1)
    collect: Collect | list[Way] = "auto"
    seeds: int = Field(40, ge=1, le=MOST_GAMES)
    first_seed: int | None = Field(None, ge=0, le=2**53)
    ladder: bool = False
    random_trials: int = Field(30, ge=1, le=MOST_GAMES)
    model_trials: int = Field(4, ge=1, le=MOST_GAMES)
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    memory: Literal["trials", "all"] = "trials"
    search: SearchingConfig = SearchingConfig()
    balance: BalanceConfig | None = None
    revise: bool = False
    revision: RevisionConfig = RevisionConfig()
    selection: SelectionConfig = SelectionConfig()
    calls: CallsConfig = CallsConfig()
    learn_from: Literal["all", "recalled"] = "all"
    anchors: list[str] = []
    validation: list[str] = []
    general: str = ""
    questions: QuestionsConfig | None = None
    preferences: PreferenceConfig = PreferenceConfig()
    teacher: TeacherConfig = TeacherConfig()
    on_policy: OnPolicyConfig = OnPolicyConfig()
    society: SocietyConfig | None = None
    kl: KLConfig = KLConfig()
    training: TrainingConfig = TrainingConfig()
    monitor: MonitoringConfig = MonitoringConfig()
    gate: GateConfig = GateConfig()
    gate_seeds: int = Field(20, ge=1, le=MOST_GAMES)
    forgetting: ForgettingConfig = ForgettingConfig()
    held_out_seeds: int = Field(100, ge=0, le=MOST_GAMES)
    early_stop: StopConfig | None = None
    retire: Literal["on", "dry-run", "off"] = "on"
    retire_games: int = Field(0, ge=0, le=MOST_GAMES)
    retirement: RetirementConfig = RetirementConfig()
    seed: int = Field(0, ge=0, lt=2**32)  # what numpy takes

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, fields: Any) -> Any:
        return flat(fields) if isinstance(fields, dict) else fields

    @property
    def plays_to_train(self) -> bool:
        """Whether the games are played while training, and not before."""
        return self.training.objective == "grpo"

    @property
    def begins(self) -> str:
        """The node with which it begins."""
        if self.plays_to_train:
            return "practise"
        return "society" if self.society else "balance" if self.balance else "collect"

    def ways(self, incumbent: str | None) -> list[Way]:
        """Who explores while `incumbent` serves, each once."""
        if self.plays_to_train or self.society:
            return []
        if isinstance(self.collect, list):
            return list(dict.fromkeys(self.collect))
        if self.collect == "none":
            return []
        if self.collect == "both" or (self.collect == "auto" and (incumbent is not None or self.balance)):
            return ["random", "model"]
        return ["random" if self.collect == "auto" else self.collect]

    def named(self) -> RoundConfig:
        """The same with its environments under their canonical ids, each once, as a round keeps it.

        Raises UnknownEnvironment.
        """
        from environments import canonical

        kl = self.kl.model_copy(update={"envs": each_once(map(canonical, self.kl.envs))})
        return self.model_copy(update={"envs": each_once(map(canonical, self.envs)), "kl": kl})

    @property
    def dev_seeds(self) -> int:
        """How many dev games of each environment this round looks at."""
        return max(self.gate_seeds, self.monitor.tasks)

    def train_seeds(self, number: int) -> range:
        """The train seeds of each environment that round `number` (1-based) explores."""
        first = (number - 1) * self.seeds if self.first_seed is None else self.first_seed
        return range(first, first + self.seeds)

    def retire_seeds(self, number: int) -> range:
        """The train seeds behind those, on which a promoted adapter is watched recalling."""
        last = self.train_seeds(number).stop
        return range(last, last + self.retire_games)

    def tasks(self, number: int, dev: Sequence[int] | None = None) -> list[Task]:
        """Everything that round `number` will play, on these dev games, by default the first."""
        explores = self.ways(None) or self.balance or self.plays_to_train or self.society
        train = [*self.train_seeds(number)] if explores else []
        if self.retire != "off":
            train += self.retire_seeds(number)
        explored = make_tasks(self.envs, "train", train) if train else []
        return [*explored, *make_tasks(self.envs, "dev", range(self.dev_seeds) if dev is None else dev)]
