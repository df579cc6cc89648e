"""The real vLLM, started as a stranger would: it serves what was exported as it is, and a chat model to play with.

Where AGENTLAB_VLLM_PYTHON names a Python that has it.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentlab.engines.vllm import PYTHON
from agentlab.lab import Lab
from agentlab.workspace.config import LabConfig
from trainers.adapters import export
from trainers.training import Canary

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get(PYTHON), reason=f"{PYTHON} names no Python that has vLLM"),
]
HERE = ("--dtype", "float32", "--max-model-len", "2048", "--max-num-batched-tokens", "2048", "--block-size", "32")
CPU = ("--enforce-eager", "--no-enable-chunked-prefill")
"""What a CPU and a short run need beside what is printed."""


@pytest.fixture
def vllm(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Runs `vllm serve MODEL …` in a folder; gives the URL, once it answers there.

    As a module, since the program `vllm` asks for a distribution of that name, and the build for CPUs has another.
    """
    running: list[subprocess.Popen[bytes]] = []

    def started(arguments: Sequence[str], folder: Path) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        verb, model, *rest = arguments
        assert verb == "serve"
        program = [os.environ[PYTHON], "-P", "-m", "vllm.entrypoints.openai.api_server", "--model", model]
        settings = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
        settings.pop("PYTHONPATH", None)
        place = ("--host", "127.0.0.1", "--port", str(port))
        with (tmp_path / "vllm.log").open("wb") as log:
            running.append(
                subprocess.Popen(
                    [*program, *rest, *place, *HERE, *CPU],
                    cwd=folder,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=settings,
                    start_new_session=True,
                )
            )
        url = f"http://127.0.0.1:{port}"
        while running[-1].poll() is None:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5)
                return url
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        raise AssertionError((tmp_path / "vllm.log").read_text()[-3000:])

    yield started
    for server in running:
        server.terminate()
        server.wait(60)


def test_what_was_exported_is_served_by_the_line_that_is_printed_and_its_canary_shows(
    vllm: Callable[..., str], open_at: Callable[..., Lab], add_skill: Callable[..., str], tmp_path: Path
) -> None:
    with open_at(tmp_path / "lab") as lab:
        skill = add_skill(lab)
        done = export(lab.adapters, skill, tmp_path / "out", base=lab.model_folder, with_base=True)
    _, folder, _, program, *arguments = shlex.split(done.serve)
    assert program == "vllm"
    url = vllm(arguments, Path(folder))
    canary = Canary.load(done.folder / "canary.json")

    def scored(model: str) -> float:
        asked = {"model": model, "prompt": canary.token_ids, "max_tokens": 1, "prompt_logprobs": 0}
        request = urllib.request.Request(f"{url}/v1/completions", json.dumps(asked).encode())
        request.add_header("Content-Type", "application/json")
        rows: Any = json.load(urllib.request.urlopen(request))["choices"][0]["prompt_logprobs"]
        places = [at for start, end in canary.spans for at in range(start, end)]
        return sum(float(rows[at][str(canary.token_ids[at])]["logprob"]) for at in places)

    assert scored(skill) == pytest.approx(canary.adapter_logprob, abs=1e-2)
    assert scored("base") == pytest.approx(canary.base_logprob, abs=1e-2)
    assert abs(canary.adapter_logprob - canary.base_logprob) > 0.1


def test_a_model_behind_a_real_server_of_openais_protocol_plays_by_writing(
    vllm: Callable[..., str], tiny_chat_model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("langchain_openai")
    url = vllm(["serve", str(tiny_chat_model), "--served-model-name", "tiny"], tmp_path)
    config = LabConfig(model="openai:tiny", engine="chat", server=url, embedder="hashing")
    with Lab.open(tmp_path / "lab", create=True, config=config, progress=False) as lab:
        results = lab.run("toy/doors?step_limit=4", seeds=range(2), trials=1)
        episodes = lab.database.episodes.load([result.trials[-1].episode for result in results])
    for episode in episodes:
        assert episode.status != "errored", episode.error
        assert episode.usage.input_tokens > 0 and episode.usage.output_tokens > 0
        assert all(step.action in step.admissible for step in episode.steps if not step.invalid)
        assert not all(step.invalid for step in episode.steps), "it is held to the commands by a schema"
