"""The settings of the parts of a round, each a table of its own in a TOML file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from agentlab.search.config import SearchConfig
from agentlab.trajectories.budget import Budget
from trainers import JobConfig, ObjectiveName
from trainers.gate import AlphaSchedule, Balancer

Way = Literal["random", "model", "mcts", "best_of_n", "deepening", "self_explore"]
"""A way to collect."""

PairSource = Literal["reward", "votes", "tree", "step", "first_pit", "judge"]


def each_once(names: Iterable[str]) -> list[str]:
    """The names in their order, each once."""
    return list(dict.fromkeys(names))


EachOnce = Annotated[list[str], AfterValidator(each_once)]
"""A list of names, of which one that is given again says nothing."""


class Part(BaseModel):
    """Base of the parts: a misspelt setting is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SearchingConfig(Part):
    """How a round searches.

    guide: who proposes: chance, which costs no scorings, or the `model` with the adapter that serves.
    budget: the bounds of the search of one task.
    settings: of the methods.
    """

    guide: Literal["random", "model"] = "random"
    budget: Budget = Budget()
    settings: SearchConfig = SearchConfig()


class BalanceConfig(Part):
    """B-STaR's choice of temperature and threshold (Zeng et al. 2025), on some of its tasks; experimental.

    Every task of the subset is played `trials` times at each temperature, without memory. What is trained on then has
    at least the score of the threshold, won or not.

    The temperature counts where the model explores or guides a search. The threshold is a choice only where a win can
    score below the bar. Elsewhere a higher one leaves out failures alone, which never lowers the balance score, and of
    equal scores the higher bar is taken: the highest of the grid is picked in every round.

    temperatures, thresholds: the grid.
    tasks: how many tasks the subset has.
    trials: of each task at each temperature.
    target: n* of the balance score.
    """

    temperatures: list[float] = Field([0.5, 0.7, 0.9, 1.1], min_length=1)
    thresholds: list[float] = Field([0.0, 0.25, 0.5, 0.75, 1.0], min_length=1)
    tasks: int = Field(10, ge=1)
    trials: int = Field(4, ge=1)
    target: int = Field(8, ge=1)

    @property
    def balancer(self) -> Balancer:
        """The controller with this grid."""
        return Balancer.model_validate(self.model_dump(exclude={"trials"}))


class RevisionConfig(Part):
    """How failures are revised (Yuan et al. 2025, Agent-R).

    judge: who finds the first bad step: the `tree` of what was tried, or the `actor` by its own log-probabilities.
    alphas: what a trajectory must be worth to be spliced in, and what its splice must reach when it is executed again,
        by how many rounds of the lab have revised, this one included; it rises, and at 1.0 both must win.
    beta: by how much both must be worth more than the failure.
    budget: the bounds of executing the revisions of one task again.
    """

    judge: Literal["tree", "actor"] = "tree"
    alphas: AlphaSchedule = AlphaSchedule()
    beta: float = Field(0.2, ge=0.0, lt=1.0)
    budget: Budget = Budget()


class SocietyConfig(Part):
    """Multiagent finetuning (Subramaniam et al. 2025), in place of exploring and selecting; experimental.

    Each train game is played by so many generators, then by so many critics, in whose prompts stand the attempts of all
    generators. Generator n learns from its own attempts that are right, critic n from its own that are right and how
    those had begun: the share `corrected` where generator n was wrong, the rest where it was right already.

    agents: generators, and as many critics.
    corrected: w of the paper.
    target: what is right: what the game says (`outcome`); or, where nothing is to be told, the sequence of actions that
        most critics of a game came to (`votes`).
    """

    agents: int = Field(3, ge=2, le=10)
    corrected: float = Field(0.5, gt=0.0, lt=1.0)
    target: Literal["outcome", "votes"] = "outcome"


class JudgeConfig(Part):
    """Who judges attempts, and how (Yuan et al. 2024, Self-Rewarding; Wu et al. 2024, Meta-Rewarding); experimental.

    by: `own` is the round's own model with the adapter that serves, `critic` the one that `critic` in lab.toml names.
    samples: judgements of an attempt, whose scores are averaged; one that cannot be read does not count.
    temperature: at which they are written; at 0 there is one of each attempt.
    candidates: attempts at a task that are judged at most.
    tolerance: ρ of the length rule: of the attempts whose scores lie within this share of the best, the shortest is the
        better side, and of those as near to the worst the longest is the worse one. 0: of those that score the same,
        two that part last.
    judgements: how many pairs of judgements there are at most for one of attempts, so that the model learns to judge
        as well: it compares the judgements of one attempt, two at a time. 0 is Self-Rewarding.
    """

    by: Literal["own", "critic"] = "own"
    samples: int = Field(3, ge=1, le=64)
    temperature: float = Field(0.7, ge=0.0, allow_inf_nan=False)
    candidates: int = Field(4, ge=2)
    tolerance: float = Field(0.0, ge=0.0, lt=0.5)
    judgements: float = Field(0.0, ge=0.0, le=10.0)


class PreferenceConfig(Part):
    """Which pairs are made of the episodes that the lab has.

    sources: `reward` won against lost episodes, `votes` what attempts agree on, `tree` ends of a tree where they
        parted, `step` single steps by what followed them, `first_pit` the first step from which nothing won any more,
        `judge` the best of a task against the worst, as a model judges them without knowing the score (see `judge`).
        None: `reward` and `tree` for the objective `dpo`, `step` and `first_pit` for `step_dpo`.
    per_task, per_env: at most so many pairs of one task and of one environment, the clearest of a task first.
    alpha, gap: what the better side must be worth at least, and by how much it must be better, in a tree.
    visits: episodes that must have taken a step before it is compared.
    probes: episodes that must have failed after a first pit.
    judge: who judges for the source `judge`, and how.
    """

    sources: Annotated[list[PairSource], Field(min_length=1), AfterValidator(each_once)] | None = None
    per_task: int = Field(4, ge=1)
    per_env: int | None = Field(60, ge=1)
    alpha: float = Field(0.5, ge=0.0, le=1.0)
    gap: float = Field(0.2, ge=0.0, lt=1.0)
    visits: int = Field(1, ge=1)
    probes: int = Field(4, ge=1)
    judge: JudgeConfig = JudgeConfig()


class TeacherConfig(Part):
    """What the policy that played with memory counts for: see `trainers.data.from_teacher`.

    temperature: what its log-probabilities are divided by.
    advice: what memory's bonus is multiplied by.
    """

    temperature: float = Field(1.0, gt=0.0)
    advice: float = Field(1.0, ge=0.0)


class TrainingConfig(Part):
    """How an adapter is trained; the names and defaults are those of `trainers.job.JobConfig`.

    `objective` also decides what is made of the selected episodes. Those that compare with the base (all but `sft` and
    `soft_distill`) want a tenth of this learning rate, or less. The settings of `trainers.job.MACHINE` can be changed
    again in the job folder, where that is trained on another machine.

    max_tokens: of an example; a longer one loses its oldest turns.
    """

    explained_by: ClassVar[type[BaseModel]] = JobConfig

    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    targets: str | list[str] = "all-linear"
    learning_rate: float = Field(1e-3, gt=0.0)
    warmup_ratio: float = Field(0.06, ge=0.0, lt=1.0)
    clip: float = Field(1.0, gt=0.0)
    batch_size: int = Field(4, ge=1)
    epochs: int = Field(2, ge=1)
    max_tokens: int = Field(1024, ge=64)
    spike: float = Field(20.0, ge=0.0, allow_inf_nan=False)
    objective: ObjectiveName = "sft"
    beta: float = Field(0.1, gt=0.0, allow_inf_nan=False)
    nll_weight: float = Field(0.0, ge=0.0, allow_inf_nan=False)
    desirable_weight: float = Field(1.0, gt=0.0, allow_inf_nan=False)
    undesirable_weight: float = Field(1.0, gt=0.0, allow_inf_nan=False)
    attention: Literal["auto", "eager", "sdpa", "flash"] = "auto"
    device: Literal["auto", "cpu"] = "auto"
    save_every: int = Field(20, ge=1)
    checkpointing: Literal["auto", "on", "off"] = "auto"
    report_to: list[str] = []

    @property
    def in_pairs(self) -> bool:
        """Whether the objective compares two episodes."""
        return self.objective in ("dpo", "step_dpo")


class KLConfig(Part):
    """KL regularisation to the base: on which other games the adapter is to change nothing, so that a skill acts on its
    own games alone.

    A merge adds up what its adapters change; what each changes on the games of the others disturbs them (see
    `trainers.objectives.dispatch.KLRegularisedSft`).

    envs: environments outside those of the round; whatever the lab has of their train fold serves, won or not.
    share: how many episodes of them all there are for one that is learned from.
    weight: of such an episode in the loss, where one that is learned from weighs 1 on average.
    """

    envs: EachOnce = []
    share: float = Field(1.0, gt=0.0, le=1.0)
    weight: float = Field(1.0, gt=0.0, allow_inf_nan=False)


class QuestionsConfig(Part):
    """Questions with short answers that are made of what the memory holds (`agentlab.rounds.questions`).

    Experimental.

    share: of what is trained on that such questions are; at 0 they are only asked.
    held_out: share of the train games of which nothing is trained on, so that their questions can be asked.
    asked: at most so many questions are asked, before and after the training.
    """

    share: float = Field(0.2, ge=0.0, le=0.9)
    held_out: float = Field(0.2, gt=0.0, lt=1.0)
    asked: int = Field(100, ge=1, le=100_000)


class MonitoringConfig(Part):
    """What is watched of a new adapter: see `trainers.gate.monitors`.

    tasks: dev games of each environment that it plays; 0 plays none, and success and entropy are then those of its
        games at the gate.
    k: independent trials of each, without memory. s: of Pass@K-S. temperature: of all trials.
    examples: training examples on which the drift from the base is measured.
    """

    tasks: int = Field(0, ge=0)
    k: int = Field(4, ge=1)
    s: int = Field(2, ge=1)
    temperature: float = Field(1.0, gt=0.0)
    examples: int = Field(20, ge=0)


class ForgettingConfig(Part):
    """seeds: dev games of each family outside the gate that is looked at for forgetting; 0 does not look."""

    seeds: int = Field(10, ge=0)


class StopConfig(Part):
    """patience: rounds without a gain after which a series ends; min_gain: what counts as a gain."""

    patience: int = Field(2, ge=1)
    min_gain: float = Field(0.0, ge=0.0)
