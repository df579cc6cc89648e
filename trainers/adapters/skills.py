"""Skills: adapters that were learned apart and serve together, merged into one that has a canary and a lineage."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memory.records import content_id
from trainers.adapters.merging import MergeConfig
from trainers.config import BaseRef
from trainers.data.examples import Example
from trainers.errors import CannotMerge, MissingDependency, WrongBase
from trainers.lineage import Lineage, Merge
from trainers.training import canary as canaries
from trainers.training import code
from trainers.training.canary import Canary
from trainers.training.disk import room_on_disk
from trainers.training.weights import fingerprint, load_model

if TYPE_CHECKING:
    from trainers.adapters.deltas import Delta
    from trainers.adapters.record import AdapterRecord
    from trainers.adapters.registry import AdapterRegistry


def merge(
    registry: AdapterRegistry, adapters: Sequence[str], base: Path, config: MergeConfig | None = None
) -> AdapterRecord:
    """Merge adapters of one base into a new one, a candidate; `base` is the folder of that base.

    Doing it again changes nothing. Its lineage names the adapters with their weights, the method and the seed, and the
    episodes of all of them, also those of their KL regularisation to the base. It was not evaluated at a gate.

    Raises UnknownAdapter, CannotMerge if there are not two or more different adapters or they cannot be merged so,
    WrongBase if they are not all made for `base`, BadAdapter if files of one are missing or damaged.
    """
    config = config or MergeConfig()
    records = [registry.get(adapter) for adapter in adapters]
    ids = [record.id for record in records]
    if len(set(ids)) < 2 or len(set(ids)) < len(ids):
        raise CannotMerge(
            f"a merge takes two or more different adapters, each once; got {', '.join(ids) or 'none'}; to have one "
            "count more, give it a larger weight"
        )
    odd = next((record for record in records if record.fingerprint != records[0].fingerprint), None)
    if odd is not None:
        raise WrongBase(
            f"{ids[0]} was made for {records[0].base} ({records[0].fingerprint[:12]}), {odd.id} for {odd.base} "
            f"({odd.fingerprint[:12]}); what one adds has no meaning for the other; merge adapters of one base"
        )
    folders = {record.id: registry.folder_of(record.id, base=fingerprint(base)) for record in records}
    target = registry.folder / "adapters" / content_id("merging", *ids, config.model_dump_json())
    try:
        done = compose(folders, base, target, config)
        parents = [record.lineage for record in records]
        lineage = Lineage(
            episodes=list(dict.fromkeys(id for parent in parents for id in parent.episodes)),
            reflections=list(dict.fromkeys(id for parent in parents for id in parent.reflections)),
            kl_episodes=list(dict.fromkeys(id for parent in parents for id in parent.kl_episodes)),
            seeds=[] if done.seed is None else [done.seed],
            code_version=code.code_version(),
            merge=done,
        )
        return registry.add(target, BaseRef(name=records[0].base, fingerprint=records[0].fingerprint), lineage)
    finally:
        shutil.rmtree(target, ignore_errors=True)


def compose(adapters: Mapping[str, Path], base: Path, target: Path, config: MergeConfig | None = None) -> Merge:
    """Write the merge of `adapters` (folders by id) to the folder `target`, all of it or nothing, with its canary.

    What is in `target` is replaced. Raises as `merge` does.
    """
    config = config or MergeConfig()
    try:
        from trainers.adapters import deltas
    except ImportError as error:
        raise MissingDependency(
            f"merging needs torch and safetensors; {error}; pip install torch safetensors"
        ) from error
    folders = list(adapters.values())
    merged = deltas.merge([deltas.read(folder) for folder in folders], config)
    texts = [Canary.load(folder / "canary.json") for folder in folders]
    beside = target.with_name(target.name + ".partial")
    canary = measure(base, merged.delta, texts)
    with room_on_disk(target):
        for left in (beside, target):
            shutil.rmtree(left, ignore_errors=True)
        deltas.write(beside, merged, folders)
        canary.save(beside / "canary.json")
        os.replace(beside, target)
    return Merge(
        method=config.method,
        weights=dict(zip(adapters, config.of(len(folders)), strict=True)),
        rank=merged.rank,
        density=config.kept if config.kept < 1 else None,
        seed=config.seed if config.method == "dare" else None,
        error=merged.error,
        truncation=merged.truncation,
    )


def measure(base: Path, delta: Delta, texts: Sequence[Canary]) -> Canary:
    """The canary of weights that `delta` changes: how the base in folder `base` and they score recorded texts.

    The weights are added by hand, so that whoever loads the files through peft is held against another way. Raises
    CannotMerge if they score no text in a way that tells them from the base.
    """
    import torch

    from trainers.objectives.losses import Batch, collate, example_logprobs

    examples = [_example(number, text) for number, text in enumerate(texts)]
    model = load_model(base)

    def scores() -> list[float]:
        return [float(example_logprobs(model, Batch(*collate([example])))) for example in examples]

    with torch.no_grad():
        before = scores()
        for name, factors in delta.items():
            model.get_submodule(name).weight += factors.b @ factors.a
        after = scores()
    found = canaries.make(
        examples,
        lambda example: before[int(example.episode)],
        lambda example: after[int(example.episode)],
        texts[0].base,
        tried=len(examples),
    )
    if not found.discriminates:
        raise CannotMerge(
            f"the merged adapter moves the adapters' own texts by {found.adapter_logprob - found.base_logprob:+.2f} "
            "nats only; nothing could tell it from the base; give larger weights, another method or more rank"
        )
    return found


def _example(number: int, text: Canary) -> Example:
    weights = [0.0] * len(text.token_ids)
    for start, end in text.spans:
        weights[start:end] = [1.0] * (end - start)
    return Example(token_ids=text.token_ids, weights=weights, episode=str(number), task="canary")
