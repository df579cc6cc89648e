"""The settings of a training job, which its base model and its objective are part of: what every room above reads."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ObjectiveName = Literal["sft", "minor_sft", "soft_distill", "dpo", "step_dpo", "kto", "grpo"]

MACHINE = ("attention", "device", "threads", "save_every", "checkpointing", "report_to")
"""The settings that concern the machine that trains, and not what is learned: they may be changed in job.json there."""


class BaseRef(BaseModel):
    """A base model: its name for people, the fingerprint of its weights, and where it was when the job was made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    fingerprint: str
    path: str | None = None


class OnPolicyConfig(BaseModel):
    """What the objective "grpo" plays while it trains: games before each step of the optimizer, with the weights as
    they are then.

    steps: of the optimizer.
    games: of the train fold that are played for a step.
    group: how often each of them is played; its episodes are compared with one another (G of GRPO, Shao et al. 2024).
    reward: of an episode: `won` is 1 or 0, `score` what the game counts.
    step_weight: ω of step-level advantages beside those of whole episodes (GiGPO, Feng et al. 2025): steps from where a
        group came by several times are compared by what followed them. 0 is GRPO alone.
    discount: γ of what follows a step.
    attempts: after each other at a game; later ones with the memory of those before, as an agent with memory plays.
    improvement: α by which an attempt is rewarded for what it is better than the one before (SCoRe, Kumar et al. 2024).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(40, ge=1, le=100_000)
    games: int = Field(4, ge=1, le=10_000)
    group: int = Field(8, ge=2, le=10_000)
    reward: Literal["won", "score"] = "won"
    step_weight: float = Field(0.0, ge=0.0, allow_inf_nan=False)
    discount: float = Field(0.95, gt=0.0, le=1.0)
    attempts: int = Field(1, ge=1, le=10)
    improvement: float = Field(0.0, ge=0.0, allow_inf_nan=False)

    @property
    def episodes(self) -> int:
        """How many are played for a step."""
        return self.games * self.group * self.attempts


class JobConfig(BaseModel):
    """Settings of a training job; the defaults are those measured best on SmolLM2-135M.

    base: the model that gets the adapter; training always starts from it, never from an earlier adapter.
    rank, alpha, dropout, targets: the LoRA layers (Hu et al. 2021); `targets` as peft's `target_modules`.
    learning_rate, warmup_ratio, clip: AdamW without weight decay, linear warm-up and decay, gradient norm limit.
    batch_size, epochs, seed: examples a step, passes over the data, order and initial weights.
    dtype: of the frozen weights and the activations; `auto` is bfloat16 where the processor computes in it, and for
        `grpo` float32, with which what is trained is what plays. LoRA weights are always float32.
    attention: `auto` takes the plain form on a CPU for short examples, where it is twice as fast, and on an accelerator
        FlashAttention if that is installed. Whichever it is, batches run without padding.
    device: `auto` takes an accelerator if there is one.
    threads: of PyTorch on a CPU. The weights can differ in the last bits between numbers of threads.
    save_every: steps between checkpoints, of which there are more where steps take long.
    checkpointing: whether activations are computed again for the gradient instead of kept, for a third more time;
        `auto` does so only when memory runs out with a single example at once.
    spike: a loss of more than this many times the median of all before stops the job; 0 lets it go on.
    report_to: of "tensorboard", "wandb", "mlflow" and "trackio", those that get the curves while it trains.
    objective: what is learned from which kind of record: "sft" (weighted supervised fine-tuning) and "minor_sft" from
        Example, the first also from Regularised, "soft_distill" from Distilled, "dpo" and "step_dpo" from Pair, "kto"
        from Judged. "grpo" plays while it trains, in a round, and leaves what it learned from as Trajectory records.
        Those that compare with the base want a tenth of the learning rate of "sft", or less.
    beta: how strongly "minor_sft", "dpo", "step_dpo", "kto" and "grpo" are regularised to the base; 0.1 is that of DPO
        and KTO, and of GRPO 0.04.
    nll_weight: of the likelihood of the better side beside "dpo" and "step_dpo"; 0 is DPO itself, 1 is as in ScPO.
    desirable_weight, undesirable_weight: λ of the two kinds in "kto"; their ratio makes up for unequal numbers.
    on_policy: what "grpo" played.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: BaseRef
    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    targets: str | list[str] = "all-linear"
    learning_rate: float = Field(1e-3, gt=0.0)
    warmup_ratio: float = Field(0.06, ge=0.0, lt=1.0)
    clip: float = Field(1.0, gt=0.0)
    batch_size: int = Field(4, ge=1)
    epochs: int = Field(2, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)  # what numpy takes
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    attention: Literal["auto", "eager", "sdpa", "flash"] = "auto"
    device: Literal["auto", "cpu"] = "auto"
    threads: int = Field(1, ge=1)
    save_every: int = Field(20, ge=1)
    checkpointing: Literal["auto", "on", "off"] = "auto"
    spike: float = Field(20.0, ge=0.0, allow_inf_nan=False)
    report_to: list[str] = []
    objective: ObjectiveName = "sft"
    beta: float = Field(0.1, gt=0.0, allow_inf_nan=False)
    nll_weight: float = Field(0.0, ge=0.0, allow_inf_nan=False)
    desirable_weight: float = Field(1.0, gt=0.0, allow_inf_nan=False)
    undesirable_weight: float = Field(1.0, gt=0.0, allow_inf_nan=False)
    on_policy: OnPolicyConfig | None = None
