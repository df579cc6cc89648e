"""On-policy learning of one job: TRL's GRPOTrainer over episodes that somebody plays with the weights as they are.

The loop, the ratio, the regularisation to the base and the checkpoints are TRL's. Ours are the episodes, their
advantages and masks, and the proof that what plays is what is trained. Imported only when such training starts.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
import trl
from datasets import Dataset
from peft.helpers import disable_input_dtype_casting
from trl import GRPOConfig, GRPOTrainer

from memory.records import Episode
from trainers.config import JobConfig, OnPolicyConfig
from trainers.data.examples import Example, Tokenize
from trainers.data.records import OWN, Trajectory
from trainers.data.trajectories import Sequenced, sequenced
from trainers.errors import BadExample, NothingToTrain, OutOfMemory, UnsupportedModel
from trainers.objectives.losses import Batch, collate, example_logprobs
from trainers.training import canary as canaries
from trainers.training import checkpoints, code, reporting
from trainers.training.arguments import on_one_device, usual
from trainers.training.canary import Canary
from trainers.training.curve import Curve
from trainers.training.footprint import Footprint, ran_out
from trainers.training.groups import Learned, Play, plan, scored
from trainers.training.job_data import Progress, Report
from trainers.training.loop import Watch
from trainers.training.played import PlayedLog
from trainers.training.setup import Setup, resolve
from trainers.training.training import _fused, _model, _process_state, _refuse_broken, _save_adapter

MISMATCH = 0.5
"""Nats a token by which what played may differ on average from what is trained; rounding to bfloat16 makes up .02."""

MEASURES = {
    "reward": "reward",
    "kl": "kl",
    "entropy": "entropy",
    "mismatch": "mismatch",
    "alike": "frac_reward_zero_std",
}
"""What is measured beside the loss, and what TRL calls it."""


def learn(
    folder: Path,
    config: JobConfig,
    base: Path,
    play: Play,
    games: int,
    tokenize: Tokenize,
    *,
    max_tokens: int,
    progress: Progress | None = None,
) -> Learned:
    """As of `trainers.training.on_policy`."""
    settings = config.on_policy or OnPolicyConfig()
    setup = resolve(config, max_tokens, fused=_fused(base))
    folder.mkdir(parents=True, exist_ok=True)
    with _process_state(config.threads), ExitStack() as stack:
        model = _model(config, base, setup)
        if setup.dtype is torch.bfloat16:
            stack.enter_context(disable_input_dtype_casting(model))
        stack.enter_context(reporting.logging_into(folder))
        with warnings.catch_warnings():
            # TRL warns of what is experimental in it, which is why its version is pinned, and of names in transformers.
            warnings.simplefilter("ignore")
            trainer = OnPolicyTrainer.of(folder, config, settings, base, model, setup, games, progress)
        trainer.play, trainer.tokenize, trainer.max_tokens = play, tokenize, max_tokens
        try:
            trainer.go()
        except Exception as error:
            if not ran_out(error):
                raise
            raise OutOfMemory(
                f"memory runs out with {config.batch_size} episodes at once; lower `training.batch_size` (a step stays "
                "what it is) or `training.max_tokens`, or use a larger machine"
            ) from error
        _refuse_broken(model)
        records = trainer.log_of_played.trajectories()
        taught = [example for record in records if (example := record.taught) is not None]
        if not taught:
            raise NothingToTrain(
                "every group of episodes came to the same, so nothing was better than anything else; play easier or "
                "harder games, or more episodes of each (`on_policy.group`)"
            )
        canary = trainer.heard(taught[-4:])
        report = trainer.report(records)
    return Learned(lambda place: _save_adapter(model, config, place), canary, report, records)


class OnPolicyTrainer(GRPOTrainer):
    """TRL's trainer, for which our episodes are the completions: one step of the optimizer for each that is played."""

    folder: Path
    config: JobConfig
    settings: OnPolicyConfig
    setup: Setup
    watch: Watch
    play: Play
    tokenize: Tokenize
    max_tokens: int
    log_of_played: PlayedLog
    last: Trajectory | None
    rows: list[tuple[list[float], float | None]]
    """Of each episode of the step the advantages of its completion's tokens, and what it was played by (nats)."""

    @classmethod
    def of(
        cls,
        folder: Path,
        config: JobConfig,
        settings: OnPolicyConfig,
        base: Path,
        model: peft.PeftModel,
        setup: Setup,
        games: int,
        progress: Progress | None,
    ) -> OnPolicyTrainer:
        """The trainer of a job whose work lies in `folder`, on the model in folder `base`."""
        # The largest part of a step that is no larger than what may go through the model at once.
        at_once = max(size for size in range(1, config.batch_size + 1) if settings.episodes % size == 0)
        parts = settings.episodes // at_once
        arguments = GRPOConfig(
            **usual(config, setup, folder, settings.steps),
            per_device_train_batch_size=at_once,
            gradient_accumulation_steps=parts,
            # One step for what was played: the policy that is trained is the one that played.
            steps_per_generation=parts,
            num_generations=settings.group * settings.attempts,
            max_steps=settings.steps,
            # Set below: TRL would keep a copy of the fresh adapter for the base that it is nothing else than.
            beta=0.0,
            temperature=1.0,
            shuffle_dataset=False,
            bf16=setup.dtype is torch.bfloat16,
            gradient_checkpointing=config.checkpointing == "on",
        )
        on_one_device(arguments)
        planned = plan(games, settings.steps, settings.games, config.seed)
        prompts = [str(game) for chosen in planned for game in chosen]
        tokenizer = transformers.AutoTokenizer.from_pretrained(base, local_files_only=True)
        watch = KeepingWatch(progress, [], Footprint(at_once, config.checkpointing == "on", False))
        trainer = cls(
            model=model,
            reward_funcs=[_reward],
            args=arguments,
            train_dataset=Dataset.from_dict({"prompt": prompts}),
            processing_class=tokenizer,
            callbacks=[watch],
            rollout_func=lambda prompts, trainer: trainer.played(prompts),
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.beta = config.beta
        trainer.folder, trainer.config, trainer.settings, trainer.setup = folder, config, settings, setup
        trainer.watch, trainer.log_of_played, trainer.rows = watch, PlayedLog(folder), []
        return trainer

    def go(self) -> None:
        """Train to the end, from the last whole checkpoint if there is one. Ctrl-C costs no step that was finished."""
        last = checkpoints.last_whole(Path(self.args.output_dir))
        done = int(last.name.rpartition("-")[2]) if last is not None else 0
        if last is not None:
            self.watch.recall(checkpoints.facts(last))
        self.log_of_played.begin(done)
        self.last = next(reversed(self.log_of_played.trajectories()), None)
        self.watch.tokens[:] = self.log_of_played.tokens()
        self.watch.curve = Curve(self.folder)
        try:
            self.train(resume_from_checkpoint=str(last) if last else None)
        except BaseException:  # Ctrl-C comes while it trains, or out of a game
            if self.watch.unsaved:
                self._save_checkpoint(self.model, None)
                self.watch.on_save(self.args, self.state, self.control)
            raise

    # -- playing ---------------------------------------------------------------------------------------------------

    def played(self, prompts: Sequence[str]) -> dict[str, list[Any]]:
        """The episodes of the next step, as TRL takes them; `prompts` are the places of games, each once an episode."""
        step, every = self.state.global_step, self.settings.group * self.settings.attempts
        games = [int(prompt) for prompt in prompts[::every]]
        adapter = self._publish(step) if step else None
        groups = self.play(step, games, adapter)
        self.model.train()
        found: dict[str, list[Any]] = {"prompt_ids": [], "completion_ids": [], "env_mask": [], "reward": []}
        records, self.rows, tokens = list[Trajectory](), [], 0
        for one in (one for group in groups for one in scored(group, self.settings)):
            sequence = self._sequenced(one.episode) if one.reward is not None else None
            if sequence is None:  # nothing is learned from it, and its place must be filled
                blank = [self._tokenizer.eos_token_id]
                row: tuple[list[int], list[int], list[int]] = (blank, blank, [0])
                self.rows.append(([0.0], None))
            else:
                at = sequence.prompt
                row = (sequence.token_ids[:at], sequence.token_ids[at:], [int(s == OWN) for s in sequence.sources[at:]])
                self.rows.append((sequence.weighted(one.advantages)[at:], sequence.logprob))
                assert one.reward is not None
                records.append(sequence.trajectory(one.episode, one.advantages, one.reward, step))
                tokens += len(sequence.token_ids)
            for name, ids in zip(("prompt_ids", "completion_ids", "env_mask"), row, strict=True):
                found[name].append(ids)
            found["reward"].append(one.reward if sequence is not None else None)
        self.log_of_played.add(step, records, tokens)
        self.last = next(reversed(records), self.last)
        self.watch.tokens[step:] = [tokens]
        # What is drawn from here on follows from the step, whatever playing has drawn.
        torch.manual_seed((self.config.seed << 24) + step)
        return {**found, "logprobs": None}  # type: ignore[dict-item]

    def _sequenced(self, episode: Episode) -> Sequenced | None:
        try:
            return sequenced(episode, self.tokenize, max_tokens=self.max_tokens)
        except BadExample:
            return None

    def _publish(self, step: int) -> Path:
        """The folder of the adapter as it is now, with its canary; those of earlier steps go."""
        for earlier in self.folder.glob("step-*"):
            if earlier.name != f"step-{step - 1}":  # an engine may still read that one
                shutil.rmtree(earlier)
        place = self.folder / f"step-{step}"
        _save_adapter(self.model, self.config, place)
        self.heard([self.last.own] if self.last is not None else []).save(place / "canary.json")
        return place

    def heard(self, examples: Sequence[Example]) -> Canary:
        """How base and adapter score one of these."""
        return canaries.make(
            examples,
            lambda example: self.score(example, adapter=False),
            lambda example: self.score(example, adapter=True),
            self.config.base.fingerprint,
        )

    def score(self, example: Example, *, adapter: bool) -> float:
        """The summed log-probability of the chosen tokens, with or without the adapter."""
        model: Any = self.model
        training = model.training
        model.eval()
        batch = Batch(*(tensor.to(self.args.device) for tensor in collate([example])))
        with torch.no_grad(), self.setup.precision(), ExitStack() as stack:
            if not adapter:
                stack.enter_context(model.disable_adapter())
            found = float(example_logprobs(model, batch))
        model.train(training)
        return found

    # -- learning --------------------------------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """TRL's batch, with the advantage of every token instead of one for all, and what it was played by."""
        found: dict[str, Any] = super()._generate_and_score_completions(inputs)
        places = found["completion_ids"]
        of_tokens = torch.zeros(places.shape, device=places.device)
        for row, (given, _) in enumerate(self.rows):
            of_tokens[row, : len(given)] = torch.tensor(given, device=places.device)
        found["advantages"] = of_tokens
        known = [math.nan if logprob is None else logprob for _, logprob in self.rows]
        found["played_logprob"] = torch.tensor(known, device=places.device)
        return found

    def _get_per_token_logps_and_entropies(self, *given: Any, **asked: Any) -> Any:
        found = super()._get_per_token_logps_and_entropies(*given, **asked)
        self._last_logps = found[0].detach()
        return found

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        loss = super()._compute_loss(model, inputs)
        mask = inputs["completion_mask"] * inputs.get("tool_mask", 1)
        apart = ((self._last_logps * mask).sum(-1) - inputs["played_logprob"]).abs() / mask.sum(-1).clamp(min=1)
        apart = apart[~apart.isnan()]
        if len(apart):
            self._must_be_who_played(float(apart.mean()))
        return loss

    def _must_be_who_played(self, mismatch: float) -> None:
        self._metrics["train"]["mismatch"].append(mismatch)
        if mismatch > MISMATCH:
            raise UnsupportedModel(
                f"what plays differs from what is trained by {mismatch:.2f} nats a token, so nothing can be learned "
                "on-policy; play and train in one number format (`dtype`), or choose another model"
            )

    def report(self, records: Sequence[Trajectory]) -> Report:
        """What was done, once training has ended."""
        seconds, tokens = self.watch.spent(), sum(self.watch.tokens)
        steps = [entry for entry in self.state.log_history if "loss" in entry]
        found = {ours: [entry.get(theirs) for entry in steps] for ours, theirs in MEASURES.items()}
        return Report(
            steps=self.state.global_step,
            examples=len(records),
            tokens=tokens,
            chosen_tokens=sum(source == OWN for record in records for source in record.sources),
            losses=[entry["loss"] for entry in steps],
            measures={
                name: [value for value in values if value is not None]
                for name, values in found.items()
                if any(v is not None for v in values)
            },
            seconds=round(seconds, 3),
            tokens_per_second=round(tokens / seconds, 1) if seconds else 0.0,
            resumed=self.watch.resumed,
            device=self.setup.device,
            dtype=str(self.setup.dtype).removeprefix("torch."),
            attention=self.setup.attention,
            why_padded="TRL trains it",
            threads=self.config.threads,
            processes=self.args.world_size,
            examples_at_once=self.args.per_device_train_batch_size,
            checkpointing=self.args.gradient_checkpointing,
            versions={module.__name__: str(module.__version__) for module in (torch, transformers, peft, trl)}
            | {"trainers": code.digest()},
        )

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        model: Any = self.model
        model.save_pretrained(output_dir, state_dict=state_dict, save_embedding_layers=False)


class KeepingWatch(Watch):
    """Notes of all that TRL logs what the curve shows, and has the last step kept as well."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        super().on_step_end(args, state, control, **kwargs)
        control.should_save |= state.global_step >= state.max_steps

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        measures = {ours: logs[theirs] for ours, theirs in MEASURES.items() if (logs or {}).get(theirs) is not None}
        kept = {name: value for name, value in (logs or {}).items() if name in ("loss", "learning_rate", "grad_norm")}
        super().on_log(args, state, control, logs=kept | measures, **kwargs)


def _reward(*, reward: list[float | None], **_: Any) -> list[float | None]:
    """What TRL shows; the advantages are made of the same before."""
    return reward
