"""An adapter for other programs: a folder that peft and vLLM load as it is, and that says how it was prompted.

Beside the weights lie the tokenizer, the format of the prompts, the canary, a card, a script that plays one game, and
where that is wanted the base.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from memory.prompts import Prompting
from memory.records import PromptName
from memory.text import loaded
from trainers.adapters import cards, loading, prompt_format
from trainers.adapters.episodes import by_env
from trainers.adapters.loading import BASE
from trainers.adapters.prompt_format import PromptFormat
from trainers.data.examples import Tokenizer
from trainers.errors import CannotExport
from trainers.training.canary import Canary
from trainers.training.disk import room_on_disk
from trainers.training.weights import fingerprint

if TYPE_CHECKING:
    from trainers.adapters.record import AdapterRecord
    from trainers.adapters.registry import AdapterRegistry

READ = 20
"""Episodes that are read to know how those of an adapter were prompted; as a rule all were in one way."""

GAME = "toy/doors"
"""What is played where the lab has none of the games that an adapter was trained on."""

TOKENIZER = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model", "chat_template*"
)  # fmt: skip
MODEL = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", *TOKENIZER)


class Exported(NamedTuple):
    """An adapter that was exported: its record, where to, how its episodes were prompted, the command that serves it,
    and what has to be known about its base (nothing, as a rule)."""

    record: AdapterRecord
    folder: Path
    format: PromptName
    serve: str
    caution: str


def how_to_serve(id: str, base: str, rank: int) -> str:
    """The command that serves an exported adapter with vLLM, called in its folder."""
    return loading.serving(id, cards.hub_id(base) or base, rank)


def how_to_load(folder: str) -> str:
    """The lines of Python that load an adapter that was exported into `folder` with peft."""
    place = json.dumps(folder)
    return (
        "from peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer\n\n"
        f"model = AutoPeftModelForCausalLM.from_pretrained({place})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({place})"
    )


def export(
    registry: AdapterRegistry,
    adapter: str,
    folder: Path | str,
    *,
    base: Path,
    with_base: bool = False,
    think: int = 0,
) -> Exported:
    """Write an adapter, with all that others need to use it, into the new folder `folder`: all of it, or nothing.

    `base` is the folder of its base, which `with_base` puts beside it (its weights by hard links, where the disk has
    them). Where it was trained to think, the script that plays lets it think for at most `think` tokens (0: some).

    Raises UnknownAdapter, BadAdapter, WrongBase if `base` is not its base, CannotExport if something is in `folder`,
    NoChatTemplate if it was trained on chats that the base's tokenizer does not know, DiskFull.
    """
    record, target = registry.get(adapter), Path(folder).expanduser().absolute()
    source = registry.folder_of(record.id, fingerprint(base))
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise CannotExport(f"{target} exists and is no empty folder; nothing is overwritten; name a new one")
    beside = target.with_name(f".{target.name}.partial")
    with room_on_disk(target):
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            exported = _written(registry, record, source, beside, target, base.resolve(), with_base, think)
            os.replace(beside, target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return exported


def _written(
    registry: AdapterRegistry,
    record: AdapterRecord,
    source: Path,
    folder: Path,
    target: Path,
    base: Path,
    with_base: bool,
    think: int,
) -> Exported:
    """What is exported, once it lies in `folder`, which is to be `target`."""
    published, form = cards.hub_id(record.base), _format(registry, record, base)
    for name in ("adapter_model.safetensors", "canary.json"):
        shutil.copyfile(source / name, folder / name)
    settings = loaded((source / "adapter_config.json").read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = str(target / BASE) if with_base else published or str(base)
    _put(folder / "adapter_config.json", json.dumps(settings, indent=1, sort_keys=True))
    _put(folder / prompt_format.FILE, json.dumps(form.model_dump(), indent=1, ensure_ascii=False))
    games = by_env(registry.database, record.lineage.episodes)
    game = max(games, key=lambda env: len(games[env]), default=GAME)
    _put(folder / "play.py", loading.play(game, form, think))
    for file in _files(base, TOKENIZER):
        shutil.copyfile(file, folder / file.name)
    if with_base:
        (folder / BASE).mkdir()
        for file in _files(base, MODEL):
            (_link if file.suffix == ".safetensors" else shutil.copyfile)(file, folder / BASE / file.name)
    served = BASE if with_base else published or str(base)
    rank, canary = int(settings["r"]), Canary.load(source / "canary.json")
    section = loading.section(record.id, served, rank, canary, form, with_base=with_base)
    _put(folder / cards.NAME, registry.card(record.id, loading=section))
    serve = f"cd {shlex.quote(str(target))} && {loading.serving(record.id, served, rank)}"
    return Exported(record, target, form.format, serve, "" if with_base else _caution(record, published))


def _format(registry: AdapterRegistry, record: AdapterRecord, base: Path) -> PromptFormat:
    """As most of the episodes were prompted that it was trained on; those of unknown ones were transcripts."""
    from transformers import AutoTokenizer

    episodes = registry.database.episodes
    known = [row.id for row in episodes.rows(record.lineage.episodes)][:READ]
    names = Counter(episode.prompt for episode in episodes.load(known)).most_common(1)
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    return PromptFormat.of(Tokenizer.of(tokenizer), Prompting.named(names[0][0] if names else "transcript"))


def _caution(record: AdapterRecord, published: str | None) -> str:
    if published is None:
        return (
            "adapter_config.json names the folder of its base on this machine; elsewhere, write there where that base "
            "lies, or export it --with-base"
        )
    if published != record.base:
        return (
            f"it was trained on {record.base} as its package has the weights, and {published} has them rounded "
            "otherwise; the canary in the card tells whether that matters; --with-base takes along the ones it knows"
        )
    return ""


def _files(folder: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})


def _link(source: Path, target: Path) -> None:
    """A hard link to a file, or a copy where there can be none. In a hub's cache files are links themselves."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _put(file: Path, text: str) -> None:
    file.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
