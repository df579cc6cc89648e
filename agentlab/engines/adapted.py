"""A base model and what it becomes with adapters: one copy of the base's weights, and beside it what adapters change.

Into a small base an adapter is merged, in float32, which costs nothing on the way; beside a large one it is kept as two
thin matrices a layer (Hu et al. 2021, §4.1). Either way the weights that it leaves alone are the base's own, so that
several adapters fit beside each other and none is loaded again for being used in turn.
"""

from __future__ import annotations

import copy
import json
import math
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from agentlab.engines.experimental.steering import steer
from agentlab.engines.experimental.vectors import read_vectors
from agentlab.errors import BadModel
from trainers.adapters import check_files
from trainers.errors import BadAdapter
from trainers.training import ran_out

MERGED_BELOW = 10**9
"""Parameters of a base below which adapters are merged into it."""

LOADING = threading.RLock()
"""Held while a model is loaded: transformers changes what all threads share while it does that."""

KEPT = 4 * 2**30
"""Bytes that adapters may have in memory beside the base; the last `ALWAYS` are kept whatever their size."""

ALWAYS = 3


class AdaptedModels:
    """The base model in `folder`, and models that share its weights with adapters on them."""

    def __init__(self, folder: Path, device: str, dtype: torch.dtype) -> None:
        self.folder, self.device, self.dtype = folder, device, dtype
        self.base = load_base(folder, dtype).to(device)
        self.merges = sum(weights.numel() for weights in self.base.parameters()) < MERGED_BELOW
        self._exact: Any = None
        self._kept: OrderedDict[tuple[str, Path], tuple[Any, int]] = OrderedDict()

    def model(self, adapter: str, folder: Path, prove: Callable[[Any], None]) -> Any:
        """The model with the adapter of this id in `folder`; `prove` is asked about one that is not in memory.

        Raises BadAdapter if it cannot be laid on the base, and what `prove` raises.
        """
        key = adapter, folder
        if key not in self._kept:
            check_files(folder)
            with _laying(folder, self.folder):
                model = (self._merged if self.merges else self._beside)(folder).eval().requires_grad_(False)
            prove(model)
            self._kept[key] = model, self._own_bytes(model)
            while len(self._kept) > ALWAYS and sum(size for _, size in self._kept.values()) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def steered(self, id: str, folder: Path, strength: float) -> Any:
        """The base with the steering vector in `folder` added to its hidden states, so much of it. Raises BadSteering.

        It is a model of its own over the base's weights, so that the base is never steered, nor what plays beside.
        """
        key = id, folder
        if key not in self._kept:
            model, settings = _twin(self.base), self.base.config.get_text_config(decoder=True)
            vectors = read_vectors(folder, settings.num_hidden_layers, settings.hidden_size)
            steer(model, {at: (strength * vector).to(self.device) for at, vector in vectors.items()})
            self._kept[key] = model, 0
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def _beside(self, folder: Path) -> Any:
        from peft import PeftModel

        return PeftModel.from_pretrained(_twin(self.base), folder).get_base_model()

    def _merged(self, folder: Path) -> Any:
        """The sum is rounded once: it is formed with the weights as the files have them, in float32."""
        if self._exact is None:
            self._exact = self.base if self.dtype == torch.float32 else load_base(self.folder, torch.float32)
        whole = _sum(_twin(self._exact), folder)
        if self.dtype == torch.float32:
            return whole
        model = _twin(self.base)
        before = dict(self._exact.named_parameters())
        for name, weights in whole.named_parameters():
            if weights.data_ptr() != before[name].data_ptr():
                model.get_parameter(name).data = weights.data.to(self.device, self.dtype)
        return model

    def _own_bytes(self, model: Any) -> int:
        shared = {weights.data_ptr() for weights in self.base.parameters()}
        return sum(
            weights.numel() * weights.element_size()
            for weights in model.parameters()
            if weights.data_ptr() not in shared
        )


def load_base(folder: Path, dtype: torch.dtype) -> Any:
    """The model in `folder`. Raises BadModel if it cannot be loaded, or has not all weights."""
    from transformers import AutoModelForCausalLM

    try:
        with LOADING, quiet():
            model, loading = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are reported below, in one line
            )
    except Exception as error:  # transformers raises what it likes
        if ran_out(error):
            raise
        reason = " ".join(str(error).split())[:160]
        raise BadModel(f"{folder} cannot be loaded ({reason}); copy the model again.") from error
    for found, wrong in (("missing_keys", "lack"), ("mismatched_keys", "have in another shape")):
        if loading[found]:  # they would be drawn at random
            raise BadModel(
                f"The weights in {folder} {wrong} {len(loading[found])} of what its config.json asks for, "
                f"such as {min(map(str, loading[found]))}; they do not belong together; copy the model again."
            )
    return model.eval().requires_grad_(False)


def write_merged(base: Path, adapter: Path, dtype: torch.dtype, target: Path) -> None:
    """Write the model in `base` with an adapter merged into it to the new folder `target`, in a number format.

    Raises BadModel, BadAdapter (trainers.errors) if the adapter cannot be laid on it, and OSError.
    """
    check_files(adapter)
    with LOADING:
        with _laying(adapter, base):
            whole = _sum(load_base(base, torch.float32), adapter)
        with quiet():
            whole.to(dtype).save_pretrained(target)


def can_be_merged_into(folder: Path) -> bool:
    """Whether the model in `folder` is small, and its weights are numbers as they are."""
    from safetensors import safe_open

    if "quantization_config" in json.loads((folder / "config.json").read_text(encoding="utf-8")):
        return False
    parameters = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            parameters += sum(math.prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118
    return parameters < MERGED_BELOW


def _sum(exact: Any, adapter: Path) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(exact, adapter).merge_and_unload(safe_merge=True)


@contextmanager
def _laying(adapter: Path, base: Path) -> Iterator[None]:
    try:
        with quiet():
            yield
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        if ran_out(error):
            raise
        reason = " ".join(str(error).split())[:160]
        raise BadAdapter(
            f"the adapter in {adapter} cannot be laid on {base.name}; {reason}; it is damaged or was made for another "
            "model; copy or train it again"
        ) from error


def _twin(model: Any) -> Any:
    """A model of its own over the same numbers: layers and weights can be replaced in it, and the other stays."""
    memo: dict[int, Any] = {}
    for weights in model.parameters():
        memo[id(weights)] = torch.nn.Parameter(weights.data, requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer
    return copy.deepcopy(model, memo)


@contextmanager
def quiet() -> Iterator[None]:
    """Loading takes a moment: a bar or a report of its own would tear the progress display of whoever is working."""
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            # peft reads an attribute that transformers is about to rename.
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
