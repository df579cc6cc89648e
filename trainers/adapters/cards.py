"""Adapter cards: the README.md beside an adapter's weights, in the form that peft writes and model hubs read.

The registry writes it, from the adapter's record and whether it ever served, whenever its status changes. An adapter's
folder can be pushed to a hub as it is: the card names no path of this machine.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple

from trainers.adapters.episodes import by_env
from trainers.errors import BadAdapter
from trainers.gate.gate import GateResult, rate
from trainers.gate.statistics import p_text
from trainers.training.canary import Canary

if TYPE_CHECKING:
    from memory.store import Database
    from trainers.adapters.record import AdapterRecord
    from trainers.lineage import Lineage

NAME = "README.md"


class Published(NamedTuple):
    """Where a hub has a base model that is called by a short name here, and its licence there."""

    id: str
    license: str


PUBLISHED = {"SmolLM2-135M-Instruct": Published("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")}

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)

STATUS = {
    "candidate": "It was not evaluated at its gate yet.",
    "promoted": "It passed its gate, and was promoted.",
    "rejected": "It did not pass its gate, and never served.",
    "retired": "It never served, and was put away.",
}
SERVED = STATUS | {
    "rejected": "It served once, but did not pass its gate after that.",
    "retired": "It served once, and was taken out of use.",
}
"""The same of an adapter that serves or served: one that was trained again, to the same weights, can be rejected."""

SETTINGS = {
    "objective": "objective",
    "rank": "LoRA rank",
    "alpha": "LoRA alpha",
    "dropout": "LoRA dropout",
    "targets": "LoRA targets",
    "learning_rate": "learning rate",
    "warmup_ratio": "warm-up",
    "batch_size": "examples a step",
    "epochs": "passes",
    "seed": "seed",
    "examples": "examples",
    "steps": "steps",
    "tokens": "tokens, in all",
    "chosen_tokens": "tokens that carry loss",
    "first_loss": "first loss",
    "last_loss": "last loss, mean of ten steps",
    "dtype": "number format",
    "device": "device",
}
"""What the table of the training shows, in this order, with the names that a reader knows."""


def write(folder: Path, card: str) -> None:
    """Write the card of the adapter in `folder`: the whole of it, or the old one stays."""
    beside = folder / f"{NAME}.partial"
    beside.write_text(card, encoding="utf-8")
    os.replace(beside, folder / NAME)


def card(
    database: Database, record: AdapterRecord, folder: Path, *, served: bool = False, loading: str | None = None
) -> str:
    """The card as Markdown with a YAML head; `folder` has the canary, `served` says whether it serves or ever did.

    `loading` stands in the place of what it says of loading. The same record always gives the same card.
    """
    episodes = {env: len(ids) for env, ids in by_env(database, record.lineage.episodes).items()}
    parts = [
        _head(record),
        _summary(record, served),
        _data(record, episodes),
        _training(record),
        _gate(record),
        _canary(folder),
        loading or _loading(record),
        _base(record),
        _lineage(record),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def base_name(base: str) -> str:
    """A base model's name without the folders of this machine."""
    return base if HUB_ID.fullmatch(base) else PurePath(base).name


def hub_id(base: str) -> str | None:
    """What a hub calls a base model, if it is known to have it."""
    published = PUBLISHED.get(base)
    return published.id if published else base if HUB_ID.fullmatch(base) else None


def _head(record: AdapterRecord) -> str:
    id, published = hub_id(record.base), PUBLISHED.get(record.base)
    tags = [*([f"base_model:adapter:{id}"] if id else []), "lora", "transformers", "text-games", "agentlab"]
    lines = [
        *([f"base_model: {id}"] if id else []),
        "library_name: peft",
        *([f"license: {published.license}"] if published else []),
        "pipeline_tag: text-generation",
        "tags:",
        *(f"- {tag}" for tag in tags),
    ]
    return "\n".join(["---", *lines, "---"])


def _summary(record: AdapterRecord, served: bool) -> str:
    forced = "It was promoted without having passed its gate, by a person's decision." if record.forced else ""
    merged = record.lineage.merge
    made = f"merged it ({merged.method}) from adapters trained" if merged else "trained it"
    return (
        f"# {record.id}\n\nA LoRA adapter for {_linked(record.base)} with which an agent plays text games: the model "
        f"ranks the commands that a game admits, and the best is taken. AgentLab {made} on what the agent itself had "
        f"played. Status: **{record.status}**. {forced or (SERVED if served else STATUS)[record.status]}"
    )


def _linked(base: str) -> str:
    id = hub_id(base)
    return f"[{base}](https://huggingface.co/{id})" if id else f"`{base_name(base)}`"


def _data(record: AdapterRecord, episodes: dict[str, int]) -> str:
    total = len(record.lineage.episodes)
    rows = [[f"`{env}`", n] for env, n in episodes.items()]
    if missing := total - sum(episodes.values()):
        rows.append(["no longer in the lab", missing])
    table = _table(["environment", "episodes"], [*rows, ["all", total]]) if total else "No episodes are recorded."
    return f"## Training data\n\n{table}{_regularised(record.lineage)}"


def _regularised(lineage: Lineage) -> str:
    if not lineage.kl_episodes:
        return ""
    episodes = "1 episode" if len(lineage.kl_episodes) == 1 else f"{len(lineage.kl_episodes)} episodes"
    # What one skill of a merge was regularised on may be what another one learned.
    which = "at least one of the adapters that it was merged from" if lineage.merge else "it"
    return f"\n\nOn {episodes} of other games {which} was kept to what the base does there (KL regularisation)."


def _training(record: AdapterRecord) -> str:
    known = record.settings | record.training
    rows = [[title, _number(known[name])] for name, title in SETTINGS.items() if name in known]
    versions: dict[str, str] = record.training.get("versions", {})
    rows += [[name, version] for name, version in versions.items()]
    return f"## Training\n\n{_table(['', ''], rows)}" if rows else ""


def _gate(record: AdapterRecord) -> str:
    if record.gate is None:
        return "## Gate\n\nIt has not played the held-out games that decide whether an adapter may serve."
    gate = record.gate
    return (
        "## Gate\n\nHeld-out games, each played with the adapter and with what served until then; rates with Wilson's, "
        f"differences with Newcombe's 95 % interval, McNemar's exact p.\n\n{_gate_table(gate)}\n\n"
        f"{'Passed' if gate.promote else 'Not passed'}: {gate.reason}."
    )


def _gate_table(gate: GateResult) -> str:
    rows = []
    for env, part in [*gate.envs.items(), ("all", gate.paired)]:
        low, high = part.interval
        rows.append(
            (
                env,
                part.n,
                rate(part.both + part.only_a, part.n).brief,
                rate(part.both + part.only_b, part.n).brief,
                f"{part.difference:+.2f} [{low:+.2f}, {high:+.2f}]",
                p_text(part.p),
            )
        )
    return _table(["game", "n", "adapter", "incumbent", "difference", "p (McNemar)"], rows)


def _canary(folder: Path) -> str:
    try:
        canary = Canary.load(folder / "canary.json")
    except BadAdapter:
        return ""
    tokens = sum(end - start for start, end in canary.spans)
    return (
        f"## Canary\n\n`canary.json` holds a text of the training data. Loaded rightly, the model gives its {tokens} "
        f"chosen tokens a log-probability of {canary.adapter_logprob:.2f} ± {canary.tolerance:.2f}; the base without "
        f"the adapter gives {canary.base_logprob:.2f}."
    )


def _loading(record: AdapterRecord) -> str:
    base = hub_id(record.base) or base_name(record.base)
    return (
        "## How to load\n\n```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
        f"base = AutoModelForCausalLM.from_pretrained({json.dumps(base)})\n"
        'model = PeftModel.from_pretrained(base, ".")  # this folder, or its id on a hub\n```'
    )


def _base(record: AdapterRecord) -> str:
    return (
        "## Base weights\n\nIt was trained on base weights whose SHA-256, over the safetensors files in the order of "
        f"their names, is\n`{record.fingerprint}`.\nOn others of the same name (rounded otherwise, say) it may do "
        "worse; the canary tells."
    )


def _lineage(record: AdapterRecord) -> str:
    lineage = record.lineage
    rows: list[tuple[str, str | None]] = [
        ("made", record.created_at[:10]),
        ("round", lineage.round),
        ("agent of a society", str(lineage.member) if lineage.member else None),
        ("merged from", str(lineage.merge) if lineage.merge else None),
        ("after", record.parent or (None if lineage.merge else "the base model")),
        ("job", record.job),
        ("AgentLab", lineage.code_version),
        ("weights (SHA-256)", record.weights and f"`{record.weights}`"),
    ]
    return "## Lineage\n\n" + _table(["", ""], [row for row in rows if row[1]])


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [titles, ["---"] * len(titles), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
