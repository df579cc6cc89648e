"""What the tests of all packages share: a language model of about a million parameters, made on the spot."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from agentlab.lab import Lab
    from agentlab.progress import Progress

# Before anything imports PyTorch: test processes share few cores, and the last bits of a sum depend on the threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# What would need the network fails at once.
os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow ones first: what a process that is done takes over from another one at the end, are then quick ones."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an untrained Llama with about 1M parameters and its tokenizer (`tests.tiny_model`).

    Do not change it: copy it.
    """
    from tests import tiny_model

    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_model.make(folder)
    gc.collect()
    gc.freeze()  # PyTorch and transformers are half a million objects: no collection looks through them again
    return folder


@pytest.fixture(scope="session")
def tiny_chat_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same model with a chat template (ChatML) and the special tokens that it is made of."""
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-chat"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM.from_pretrained(tiny_model)
        model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def open_at(tiny_model: Path) -> Callable[..., Lab]:
    """Opens a lab of the tiny model in a folder, and makes it where there is none."""
    from agentlab.lab import Lab
    from agentlab.workspace.config import LabConfig

    config = LabConfig(model=str(tiny_model), embedder="hashing", dtype="float32", threads=1, context=512)

    def opened(folder: Path, progress: Progress | None = None) -> Lab:
        return Lab.open(folder, create=True, config=config, progress=progress)

    return opened


@pytest.fixture(scope="session")
def in_a_process(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[int, str]]:
    """Runs code in a process of its own: (exit code, what it printed). `sys.argv[1:]` are the arguments.

    The process is a copy of one that has imported what takes seconds to import, and nothing of ours.
    """
    server = multiprocessing.get_context("forkserver")
    heavy = ["torch", "transformers.trainer", "transformers.models.llama.modeling_llama", "peft", "faiss"]
    server.set_forkserver_preload(heavy)
    folder, numbers = tmp_path_factory.mktemp("processes"), count()

    def run(code: str, *arguments: str) -> tuple[int, str]:
        said = folder / f"printed-{next(numbers)}"
        begin = (
            f"import os, sys\nsaid = os.open({str(said)!r}, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)\n"
            "os.dup2(said, 1), os.dup2(said, 2)\n"
            f"sys.path[:], sys.argv[:] = {sys.path!r}, {['-c', *arguments]!r}\n"
        )
        process = server.Process(target=exec, args=(begin + code, {"__name__": "__main__"}))
        process.start()
        process.join()
        assert process.exitcode is not None
        return process.exitcode, said.read_text(encoding="utf-8")

    return run


@pytest.fixture(scope="session", autouse=True)
def one_command_line() -> Iterator[None]:
    """The command line is put together once in a process of tests, and not for each call: that takes .1 s."""
    from typer import testing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(testing, "_get_command", cache(testing._get_command))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_schema() -> Iterator[None]:
    """A new database is a copy of one that was migrated once in this process of tests: that takes .05 s."""
    from memory.store import schema
    from memory.store.connection import Connection

    migrate, migrations = Connection._migrate, schema.MIGRATIONS
    empty = Connection(":memory:")._connection

    def copied(connection: Connection) -> None:
        if connection._checked_version() or schema.MIGRATIONS is not migrations:
            migrate(connection)
        else:
            empty.backup(connection._connection)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "_migrate", copied)
        yield


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test runner that tells its processes how wide its terminal is (make, xdist) must not cut what is printed."""
    monkeypatch.delenv("COLUMNS", raising=False)
