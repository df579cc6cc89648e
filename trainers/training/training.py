"""The training of one job with transformers' Trainer and peft. Imported only when training starts, since it is slow.

Here the model is made ready and what came out is checked; `trainers.training.loop` does the steps.
"""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import torch
from accelerate import PartialState
from peft import LoraConfig, PeftModel, get_peft_model
from peft.helpers import disable_input_dtype_casting
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoConfig, AutoModelForCausalLM

from memory.records import content_id
from trainers.config import JobConfig
from trainers.data.records import Record
from trainers.errors import BadBase, BadTargets, OutOfMemory, TrainingDiverged, UnsupportedModel
from trainers.objectives import dispatch
from trainers.objectives.base import Comparing, Item
from trainers.training import baseline, divergence, packing, proof, reporting
from trainers.training import canary as canaries
from trainers.training.canary import Canary
from trainers.training.footprint import Footprint, ran_out
from trainers.training.job_data import Job, Progress, Report
from trainers.training.loop import JobTrainer
from trainers.training.setup import Setup, resolve


class Trained(NamedTuple):
    """A trained model, ready to be written."""

    save_adapter: Callable[[Path], None]
    canary: Canary
    report: Report


def train(job: Job, base: Path, progress: Progress | None = None) -> Trained:
    """Train `job` on the base model in folder `base`, from its last whole checkpoint if it has one.

    Every process that was launched for the job calls this; each gets the trained model, and the first one reports.
    """
    examples = [example for example in job.examples if example.spans]
    objective = dispatch.objective_of(job.config, examples)
    setup = resolve(job.config, proof.shape(examples).longest, fused=_fused(base))
    with _process_state(job.config.threads), ExitStack() as stack:
        main = PartialState(cpu=setup.device == "cpu").is_main_process
        if main:
            (job.folder / divergence.BATCH).unlink(missing_ok=True)
        model = _model(job.config, base, setup)
        setup = _proved(model, objective, examples, setup)
        if setup.why_padded is None:
            stack.enter_context(packing.packed(model.get_base_model(), setup.attention))
        if setup.dtype is torch.bfloat16:
            # LoRA weights stay float32; autocast rounds them for each product, instead of peft widening every
            # activation to float32 and back.
            stack.enter_context(disable_input_dtype_casting(model))
        items = objective.prepare(examples)
        if isinstance(objective, dispatch.Comparing):
            items = _with_base(job, objective, items, model, setup)
        stack.enter_context(reporting.logging_into(job.folder))
        trainer = JobTrainer.of(job, examples, items, objective, model, setup, progress if main else None)
        trainer.go()
        _refuse_broken(model)
        canary = canaries.make(
            [taught for example in examples if (taught := example.taught) is not None],
            lambda example: trainer.score(example, adapter=False),
            lambda example: trainer.score(example, adapter=True),
            job.config.base.fingerprint,
        )
        report = trainer.report()
    return Trained(lambda folder: _save_adapter(model, job.config, folder), canary, report)


def wait_for_all() -> None:
    """Return once every process of the job has come here; at once where there is only one."""
    PartialState().wait_for_everyone()


def leave() -> None:
    """Take this process out of the group that trained together, as the last thing before it ends."""
    PartialState().destroy_process_group()


def _proved(model: PeftModel, objective: dispatch.Objective, records: Sequence[Record], setup: Setup) -> Setup:
    """The setup with what was found out about packing; see `trainers.training.proof`, and what it raises."""
    device = str(PartialState().device)
    with proof.refusing(f"be moved to {device}; choose another model"):
        model.to(device).eval()
    bare = model.get_base_model()
    proof.check_model(bare, objective, records, setup.precision)
    if objective.in_trees:
        why: str | None = "its records share their beginnings instead"
    else:
        why = proof.why_not_packed(bare, setup.attention, records, setup.precision)
    return setup._replace(why_padded=why)


def _fused(base: Path) -> bool:
    """Whether the class of the model in folder `base` has PyTorch's fused attention."""
    settings = AutoConfig.from_pretrained(base, local_files_only=True)
    kind = AutoModelForCausalLM._model_mapping.get(type(settings), None)
    return bool(getattr(kind, "_supports_sdpa", True))


def _model(config: JobConfig, base: Path, setup: Setup) -> PeftModel:
    settings = AutoConfig.from_pretrained(base, local_files_only=True)
    for part in {id(part): part for part in (settings, settings.get_text_config(decoder=True))}.values():
        for name, value in vars(part).items():
            # The base is used as it plays: dropout of its own would make a difference between it and itself.
            if "drop" in name and isinstance(value, float):
                setattr(part, name, 0.0)
    model = _loaded(config, base, settings, setup)
    # The seed governs the initial weights; the data order has its own generator.
    torch.manual_seed(config.seed)
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.targets,
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft warns of what it sets by itself, and of what is refused below.
        warnings.simplefilter("ignore")
        try:
            adapted = get_peft_model(model, lora)
        except ValueError as error:
            reason = " ".join(str(error).split())[:200]
            raise BadTargets(
                f"the model cannot have LoRA on targets={config.targets!r}; {reason}; name linear layers that it has, "
                'or leave it at "all-linear"'
            ) from error
    assert isinstance(adapted, PeftModel)
    _refuse_embeddings(adapted)
    # peft would write a card at each checkpoint, which nobody reads; a lab writes its own when it takes the adapter.
    adapted.create_or_update_model_card = lambda _: None
    return adapted


def _loaded(config: JobConfig, base: Path, settings: Any, setup: Setup) -> Any:
    """The model in folder `base`.

    Raises UnsupportedModel if it has not the attention that was asked for, BadBase if it cannot be loaded at all,
    OutOfMemory.
    """
    try:
        return AutoModelForCausalLM.from_pretrained(
            base,
            config=settings,
            dtype=setup.dtype,
            # FlashAttention comes in by packing.
            attn_implementation="sdpa" if setup.attention == "flash" else setup.attention,
            local_files_only=True,
            use_safetensors=True,
        )
    except Exception as error:  # transformers raises what it likes
        if ran_out(error):
            raise OutOfMemory(proof.TOO_LARGE) from error
        why = proof.in_one_line(error)
        if config.attention != "auto" and isinstance(error, (ImportError, ValueError)):
            raise UnsupportedModel(
                f"this model cannot be loaded with attention={config.attention!r} ({why}); set it to auto, or choose "
                "another model"
            ) from error
        raise BadBase(f"the base model in {base} cannot be loaded ({why}); copy it again, or choose another") from error


def _refuse_embeddings(model: PeftModel) -> None:
    """What the vocabulary goes in and out by stays as it is.

    Where both are one matrix, a change of the one is lost when it is merged or moves the other as well; and servers
    (vLLM) drop what an adapter adds to the head without a word.
    """
    bare: Any = model.get_base_model()
    ends = (bare.get_input_embeddings(), bare.get_output_embeddings())
    wrapped = [name for name, part in bare.named_modules() if isinstance(part, BaseTunerLayer) and part in ends]
    if wrapped:
        raise BadTargets(
            f"targets names {', '.join(wrapped)}; embeddings and the vocabulary's head cannot have LoRA, since they "
            "are often one matrix, and servers drop it there; take it out of targets"
        )


def _with_base(job: Job, objective: Comparing, items: list[Item], model: PeftModel, setup: Setup) -> list[Item]:
    """The items with what the base makes of them, from the job folder if it was computed there before."""

    device = str(PartialState().device)
    # Nothing is kept for a gradient that could be computed again instead.
    small = Footprint(job.config.batch_size, may_checkpoint=False)

    def compute(batch: Sequence[int]) -> baseline.Rows:
        model.to(device).eval()
        with setup.precision(), model.disable_adapter():
            return baseline.ask(objective, [items[index] for index in batch], model, device, small)

    plan = baseline.batches([len(item.record) for item in items], job.config.batch_size)
    key = content_id("baseline", job.id, *setup, torch.__version__)
    # The others find what the first process has kept.
    with PartialState().main_process_first():
        rows = baseline.recall(job.folder / "checkpoints" / "baseline.jsonl", key, plan, compute)
    return [item._replace(base=row) for item, row in zip(items, rows, strict=True)]


@contextmanager
def _process_state(threads: int) -> Iterator[None]:
    """Give the caller's random states, number of threads and verbosity back as they were."""
    from transformers.utils import logging as noise

    python, array, tensor = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    before = torch.get_num_threads()
    bars, verbosity = noise.is_progress_bar_enabled(), noise.get_verbosity()
    torch.set_num_threads(threads)
    noise.disable_progress_bar()
    noise.set_verbosity_error()
    try:
        yield
    finally:
        torch.set_num_threads(before)
        noise.set_verbosity(verbosity)
        random.setstate(python)
        numpy.random.set_state(array)
        torch.set_rng_state(tensor)
        if bars:
            noise.enable_progress_bar()


def _refuse_broken(model: PeftModel) -> None:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not torch.isfinite(parameter).all():
            raise TrainingDiverged(
                f"weight {name} is no longer a number after training; the learning rate is too high for this data; "
                "make a job with a lower learning_rate"
            )


def _save_adapter(model: PeftModel, config: JobConfig, folder: Path) -> None:
    """Write the adapter without anything that differs between machines or runs."""
    # Embeddings are never trained here; "auto" would ask a model hub whether they were resized.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    path = folder / "adapter_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = config.base.name
    settings["target_modules"] = sorted(settings["target_modules"])
    path.write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n", encoding="utf-8")
