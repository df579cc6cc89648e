"""Model folders in transformers form: whether one is whole and can be loaded safely, before anything rests on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agentlab.errors import BadModel, UnsupportedModel
from memory.text import loaded

PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def check(folder: Path) -> tuple[Any, Any]:
    """The configuration and the tokenizer of the language model in `folder`, whose files are whole.

    Raises BadModel if something is missing, damaged or pickled, UnsupportedModel if the architecture is not one of
    transformers' own (code in the folder is never run).
    """
    _check_weights(folder)
    return (config := _config(folder)), _tokenizer(folder, int(config.get_text_config(decoder=True).vocab_size))


def ends(folder: Path, config: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a text: the tokenizer's, and all that the folder's settings for writing name.

    Raises BadModel where these make no sense.
    """
    from transformers import GenerationConfig

    try:
        told = GenerationConfig.from_pretrained(folder, local_files_only=True).eos_token_id
    except OSError:  # there are none
        told = GenerationConfig.from_model_config(config).eos_token_id
    except Exception as error:  # transformers raises what it likes
        raise BadModel(
            f"{folder} has a generation_config.json that makes no sense ({_said(error)}); copy the model again."
        ) from error
    named = [tokenizer.eos_token_id, *(told if isinstance(told, list) else [told])]
    odd = [one for one in named if one is not None and (isinstance(one, bool) or not isinstance(one, int))]
    if odd:
        raise BadModel(f"{folder} names {odd[0]!r} as the end of a text, which is no token; copy the model again.")
    return frozenset(one for one in named if one is not None)


def _check_weights(folder: Path) -> None:
    from trainers.training import flaw

    files, index = sorted(folder.glob("*.safetensors")), folder / "model.safetensors.index.json"
    if not files:
        pickled = [path.name for pattern in PICKLED for path in sorted(folder.glob(pattern))]
        if pickled:
            raise BadModel(
                f"{folder} has pickled weights only ({', '.join(pickled[:3])}); loading them would run whatever code "
                "is in them; convert them to safetensors, or take a model that has these."
            )
        raise BadModel(f"{folder} holds no weights (no *.safetensors); give the folder of a whole model.")
    if index.is_file():
        try:
            named = {str(name) for name in dict(loaded(index.read_text(encoding="utf-8"))["weight_map"]).values()}
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise BadModel(f"{index} cannot be read ({error}); copy the model again.") from error
        missing = sorted(named - {file.name for file in files})
        if missing:
            raise BadModel(f"{folder} lacks {', '.join(missing[:3])}, which its index names; copy the model again.")
    for file in files:
        wrong = flaw(file)
        if wrong is not None:
            raise BadModel(f"{file} {wrong}.")


def _config(folder: Path) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        settings = loaded((folder / "config.json").read_text(encoding="utf-8"))
        kind = settings["model_type"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise BadModel(
            f"{folder} has no config.json that names a model type ({_said(error)}); give a model in transformers form."
        ) from error
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises what it likes
        if settings.get("auto_map"):
            raise UnsupportedModel(
                f"{folder} brings code of its own (model type {kind!r}), which is never run; take a model whose "
                "architecture is part of transformers."
            ) from error
        raise UnsupportedModel(
            f"{folder} is of type {kind!r}, which the installed transformers cannot read ({_said(error)}); update "
            "transformers, or take another model."
        ) from error
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise UnsupportedModel(f"{folder} is of type {kind!r}, which is no causal language model; take one that is.")
    return config


def _tokenizer(folder: Path, vocabulary: int) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        known = tokenizer.get_vocab().values()
        works = bool(tokenizer("Task:", add_special_tokens=False).input_ids)
    except Exception as error:  # transformers raises what it likes
        raise BadModel(
            f"{folder} has no tokenizer that can be loaded ({_said(error)}); copy its tokenizer files too."
        ) from error
    if not works:
        raise BadModel(f"{folder} has no tokenizer (tokenizer.json); copy its tokenizer files too.")
    if max(known) >= vocabulary:
        raise BadModel(
            f"The tokenizer in {folder} has tokens up to {max(known)}, and the model knows {vocabulary}; they do not "
            "belong together, or the embeddings were never enlarged; copy the model again."
        )
    return tokenizer


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
