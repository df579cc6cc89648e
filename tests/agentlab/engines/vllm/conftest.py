"""A server that answers as vLLM does, with the tiny model behind it, and fails in every way."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from agentlab.engines.base import Adapter
from agentlab.engines.transformers import TransformersEngine
from agentlab.engines.vllm import VllmEngine
from agentlab.lab import Lab


class Handler(BaseHTTPRequestHandler):
    """One request. The server's `fault` says what goes wrong: a name of one, or nothing."""

    protocol_version = "HTTP/1.1"
    server: ScriptedServer

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def answer(self, body: Any, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if self.server.fault == "half an answer" else data)
        if self.server.fault == "half an answer":
            self.close_connection = True

    def refuse(self, status: int, why: str) -> None:
        self.answer({"error": {"message": why, "code": status}}, status)

    def do_GET(self) -> None:
        self.server.asked.append((self.path, {}))
        if self.path == "/health":
            self.answer({}, 200)
        else:
            loaded = [{"id": name, "root": "x", "parent": self.server.name} for name in self.server.adapters]
            served = [{"id": name, "root": "x", "max_model_len": 2048} for name in (self.server.name,)]
            self.answer({"data": [*served, *loaded]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        fault = self.server.fault if self.path == "/v1/completions" else ""
        if fault == "hangs":
            self.server.awake.wait(30)
        elif fault == "500":
            return self.refuse(500, "EngineDeadError")
        elif fault == "dies":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return None
        elif fault == "nonsense":
            return self.answer({"choices": [{"index": 0, "logprobs": {"top_logprobs": [{"token_id:1": "much"}]}}]})
        elif fault == "no json":
            return self.answer("busy")
        return getattr(self.server, "do_" + self.path.rsplit("/", 1)[1])(self, body)


class ScriptedServer(ThreadingHTTPServer):
    """Serves the weights of a local engine by the name of its base, and adapters that are loaded."""

    daemon_threads = True

    def __init__(self, behind: TransformersEngine) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind = behind
        self.name = behind.name
        self.base: Any = behind.weights()
        self.adapters: dict[str, Any] = {}
        self.fault = ""
        self.most = 128
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.awake = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def posted(self, path: str) -> list[dict[str, Any]]:
        """What was posted there."""
        return [body for where, body in self.asked if where == path]

    def do_tokenize(self, handler: Handler, body: dict[str, Any]) -> None:
        handler.answer({"tokens": self.behind.tokenize(body["prompt"])})

    def do_load_lora_adapter(self, handler: Handler, body: dict[str, Any]) -> None:
        if body["lora_name"] in self.adapters and not body.get("load_inplace"):
            return handler.refuse(400, "it has already been loaded")
        if self.fault == "takes no adapters":
            return handler.refuse(400, "LoRA rank 128 is greater than max_lora_rank 64.")
        silent = self.fault == "answers with the base"
        model = self.base if silent else self.behind._models._merged(Path(body["lora_path"]))
        self.adapters[body["lora_name"]] = model
        return handler.answer({})

    def do_completions(self, handler: Handler, body: dict[str, Any]) -> None:
        model = self.base if body["model"] == self.name else self.adapters.get(body["model"])
        if model is None:
            return handler.refuse(404, f"The model `{body['model']}` does not exist.")
        many = body["prompt"] if isinstance(body["prompt"][0], list) else [body["prompt"]]
        if body.get("logprobs", 0) > self.most:
            return handler.refuse(400, f"Requested sample logprobs, which is greater than max allowed: {self.most}")
        return handler.answer({"choices": self.choices(model, many, body)})

    @torch.inference_mode()
    def choices(self, model: Any, many: list[list[int]], body: dict[str, Any]) -> list[dict[str, Any]]:
        padded = torch.tensor([ids + [0] * (max(map(len, many)) - len(ids)) for ids in many])
        known = torch.log_softmax(model(input_ids=padded).logits.float(), dim=-1)
        return [{"index": at, **self.choice(model, ids, known[at], body)} for at, ids in enumerate(many)]

    def choice(self, model: Any, ids: list[int], known: torch.Tensor, body: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        last = known[len(ids) - 1]
        if "prompt_logprobs" in body:
            made["prompt_logprobs"] = [None] + [
                {str(token): {"logprob": float(known[place, token])}} for place, token in enumerate(ids[1:])
            ]
        if "logprob_token_ids" in body:
            assert body["logprobs"] == len(body["logprob_token_ids"])
            made["logprobs"] = {
                "top_logprobs": [{f"token_id:{token}": float(last[token]) for token in body["logprob_token_ids"]}]
            }
            return made
        tokens, logprobs = list(ids), []
        ends = {self.behind.tokenizer.eos_token_id, *body.get("stop_token_ids", [])}
        while len(logprobs) < body["max_tokens"]:
            tokens.append(int(last.argmax()))
            logprobs.append(float(last.max()))
            if tokens[-1] in ends or body.get("stop", "\0") in self.behind.tokenizer.decode(tokens[-1:]):
                break
            last = torch.log_softmax(model(input_ids=torch.tensor([tokens])).logits[0, -1].float(), dim=-1)
        if self.fault == "gives up":
            made["finish_reason"] = "abort"
        return {**made, "token_ids": tokens[len(ids) :], "logprobs": {"token_logprobs": logprobs}}


@pytest.fixture(scope="session")
def behind(tiny_model: Path) -> TransformersEngine:
    """The local engine whose weights are served."""
    return TransformersEngine(tiny_model, dtype="float32", device="cpu")


@pytest.fixture
def scripted(behind: TransformersEngine) -> Iterator[ScriptedServer]:
    """The server, at a free port."""
    server = ScriptedServer(behind)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.awake.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def served(scripted: ScriptedServer, tiny_model: Path, tmp_path: Path) -> Iterator[Callable[..., VllmEngine]]:
    """Makes an engine that asks it."""
    made: list[VllmEngine] = []

    def make(**settings: Any) -> VllmEngine:
        engine = VllmEngine(
            tiny_model, **{"server": scripted.url, "log": tmp_path / "vllm.log", "seconds": 20, **settings}
        )
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def adapters(open_at: Callable[..., Lab], add_skill: Callable[..., str], tmp_path: Path) -> list[Adapter]:
    """Two adapters of the tiny model, with true canaries."""
    with open_at(tmp_path / "lab") as lab:
        ids = [add_skill(lab, seed=seed) for seed in (0, 1)]
        return [Adapter(id, lab.adapters.folder_of(id, lab.fingerprint)) for id in ids]
