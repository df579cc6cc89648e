"""Base models on disk: which one it is, and whether it is the one that was asked for."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from memory.text import loaded
from trainers.config import BaseRef
from trainers.errors import MissingBase, WrongBase


def fingerprint(folder: Path | str) -> str:
    """SHA-256 over the safetensors files of a model folder, in order of their names.

    Raises MissingBase if the folder holds none.
    """
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise MissingBase(
            f"no model weights in {folder}; a base model is a folder with config.json and *.safetensors; "
            "give the path of such a folder"
        )
    whole = hashlib.sha256()
    for file in files:
        stat = file.stat()
        whole.update(_digest(str(file.resolve()), stat.st_size, stat.st_mtime_ns))
    return whole.hexdigest()


@lru_cache(maxsize=64)
def _digest(path: str, _size: int, _changed: int) -> bytes:
    """A file's SHA-256; size and time of change are part of the key, so that another file is read again."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def flaw(file: Path) -> str | None:
    """What is wrong with a safetensors file by its header and its size: a pointer in its place, or cut short."""
    size = file.stat().st_size
    with open(file, "rb") as stream:
        first = stream.read(8)
        if first == b"version ":
            return "is a pointer of Git LFS, not the weights; fetch them with `git lfs pull`"
        length = int.from_bytes(first, "little")
        try:
            # A damaged length could ask for the whole memory.
            header = loaded(stream.read(length)) if length < size else {}
            end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
            whole = 8 + length + end == size
        except (ValueError, LookupError, TypeError, AttributeError):
            whole = False
    return None if whole else f"is damaged (it has {size} bytes); it was cut short; copy it again"


def reference(name: str, folder: Path | str) -> BaseRef:
    """The reference to the base model `name` whose weights lie in `folder`.

    A model named by its place is called by its folder's name: the reference travels to other machines, inside adapters
    too, where that place means nothing.
    """
    if Path(name).is_absolute():
        name = Path(name).name
    return BaseRef(name=name, fingerprint=fingerprint(folder), path=str(Path(folder).resolve()))


def locate(base: BaseRef, given: Path | str | None = None) -> Path:
    """The folder that holds exactly the weights that `base` names: the given one, or where they were before.

    Raises MissingBase if there is no such folder, WrongBase if it holds other weights.
    """
    candidates = [given] if given is not None else [base.path, base.name]
    folder = next((Path(path) for path in candidates if path is not None and Path(path).is_dir()), None)
    if folder is None:
        looked = ", ".join(str(path) for path in candidates if path is not None)
        raise MissingBase(f"base model {base.name} not found; looked at {looked}; give its folder with --base")
    found = fingerprint(folder)
    if found != base.fingerprint:
        raise WrongBase(
            f"{folder} holds other weights ({found[:12]}) than the base model {base.name} ({base.fingerprint[:12]}); "
            "an adapter fits only the weights it was made for; give the folder of those"
        )
    return folder


def load_model(folder: Path | str) -> Any:
    """The model in `folder` for scoring on the CPU, in float32. Quietly: whoever is working draws the progress."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    finally:
        if shown:
            logging.enable_progress_bar()
    return model.eval().requires_grad_(False)
