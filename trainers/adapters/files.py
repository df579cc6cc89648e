"""The files of an adapter, checked before any of them is loaded: safetensors, whole, and no pickle."""

from __future__ import annotations

from pathlib import Path

from memory.text import loaded
from trainers.errors import BadAdapter
from trainers.training.weights import flaw

PICKLED = {".bin", ".pt", ".pth", ".pkl", ".ckpt"}


def check_files(folder: Path) -> None:
    """Raise BadAdapter unless `folder` holds an adapter that can be loaded safely: safetensors, whole, no pickle."""
    pickled = [path.name for path in sorted(folder.glob("*")) if path.suffix in PICKLED]
    if pickled:
        raise BadAdapter(
            f"{folder} holds pickled weights ({', '.join(pickled)}); loading them would run whatever code is in them; "
            "convert them to safetensors and remove them"
        )
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise BadAdapter(f"{folder} has no {name}; it is not a whole adapter; train or copy it again")
    _check_settings(folder / "adapter_config.json")
    weights = folder / "adapter_model.safetensors"
    wrong = flaw(weights)
    if wrong is not None:
        raise BadAdapter(f"{weights} {wrong}; or train the adapter again")


def _check_settings(file: Path) -> None:
    try:
        settings = loaded(file.read_text(encoding="utf-8"))
        if not isinstance(settings, dict):
            raise ValueError("it holds no settings by name")
        missing = [name for name in ("peft_type", "r", "lora_alpha", "target_modules") if not settings.get(name)]
        missing += [] if int(settings.get("r") or 1) > 0 else ["r"]
    except (OSError, OverflowError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise BadAdapter(f"{file} is no configuration of an adapter ({reason}); train or copy it again") from error
    if missing or settings["peft_type"] != "LORA":
        lacking = f"it names no {', '.join(missing)}" if missing else f"it is of type {settings['peft_type']}"
        raise BadAdapter(f"{file} is no configuration of a LoRA adapter ({lacking}); train or copy it again")
