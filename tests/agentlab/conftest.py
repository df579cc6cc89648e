"""What the tests of the top floor share: a player that reads notes, and labs of the toy game."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agentlab.engines.scripted import ScriptedEngine
from agentlab.lab import Lab
from agentlab.progress import Progress
from agentlab.workspace.config import LabConfig
from environments import Task
from memory.records import Episode, Step
from trainers.training.canary import Canary


def reads_notes(transcript: str, command: str) -> float:
    """A score that wins the toy game: read the note, open the door that it names, take the coin."""
    last = transcript.rstrip(">").rstrip().splitlines()[-1]
    if command == "take coin":
        return 0.0
    if command.startswith("open "):
        return 0.0 if f"the {command.removeprefix('open ')} is safe" in last else -9.0
    return -1.0 if command == "read note" else -5.0


@pytest.fixture
def note_reader() -> ScriptedEngine:
    """An engine that wins the toy game in five steps."""
    return ScriptedEngine(reads_notes)


@pytest.fixture
def add_skill(tmp_path: Path) -> Callable[..., str]:
    """Adds an adapter of random weights, with a true canary, to a lab whose model is the tiny one; gives its id."""

    def made(lab: Lab, *episodes: str, seed: int = 0, round: str | None = None) -> str:
        import torch

        from trainers.adapters import skills
        from trainers.adapters.deltas import Factors, Merged, write
        from trainers.job import Lineage
        from trainers.training.weights import load_model, reference

        lots, base = torch.Generator().manual_seed(seed), reference("tiny", lab.model_folder)
        delta = {
            name: Factors(
                0.5 * torch.randn(4, module.in_features, generator=lots),
                0.5 * torch.randn(module.out_features, 4, generator=lots),
            )
            for name, module in load_model(lab.model_folder).named_modules()
            if name.endswith("v_proj")
        }
        folder = tmp_path / f"skill-{seed}"
        folder.mkdir()
        settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "target_modules": ["v_proj"]}
        (folder / "adapter_config.json").write_text(json.dumps(settings))
        write(folder, Merged(delta, 4, 0.0, 0.0), [folder])
        text = Canary(token_ids=list(range(40, 80)), spans=[(5, 40)], base_logprob=0, adapter_logprob=0, base="")
        skills.measure(lab.model_folder, delta, [text.model_copy(update={"base": base.fingerprint})]).save(
            folder / "canary.json"
        )
        return lab.adapters.add(folder, base, Lineage(round=round, episodes=list(episodes))).id

    return made


@pytest.fixture
def task() -> Callable[..., Task]:
    """Makes a task of the toy game."""

    def made(seed: int = 0, split: str = "train", env: str = "toy/doors") -> Task:
        return Task(env=env, split=split, seed=seed)  # type: ignore[arg-type]

    return made


@pytest.fixture
def step() -> Callable[..., Step]:
    """Makes a step that leads from one room to the next; `values` say what is otherwise."""

    def made(index: int, action: str, **values: Any) -> Step:
        usual: dict[str, Any] = {
            "observation": f"Observation {index}.",
            "state": f"You are in room {index}. Dark.",
            "admissible": [action],
            "result": f"Observation {index + 1}.",
            "next_state": f"You are in room {index + 1}. Dark.",
        }
        return Step(index=index, action=action, **{**usual, **values})

    return made


@pytest.fixture
def lived() -> Callable[..., Episode]:
    """Makes an episode of these steps, by default a lost one."""

    def made(*steps: Step, status: str = "lost", **values: Any) -> Episode:
        usual: dict[str, Any] = {"goal": "Find the coin.", "arm": "m", "run": "r", "score": 0.0}
        origin: dict[str, Any] = {"id": "ep-1", "env": "toy/doors", "split": "train", "seed": 3}
        return Episode(**{**origin, **usual, **values}, steps=list(steps), status=status)  # type: ignore[arg-type]

    return made


class Told(Progress):
    """Keeps what it is told, as (event, stage or message)."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.stages: dict[str, tuple[int, int]] = {}
        self.finished: list[str] = []

    def say(self, message: str) -> None:
        self.messages.append(message)

    def start(self, stage: str, total: int) -> None:
        self.stages[stage] = (0, total)

    def advance(self, stage: str, units: int = 1, note: str = "") -> None:
        done, total = self.stages[stage]
        self.stages[stage] = (done + units, total)

    def finish(self, stage: str, note: str = "") -> None:
        self.finished.append(stage)


@pytest.fixture
def told() -> Told:
    """A progress that remembers."""
    return Told()


@pytest.fixture
def open_lab(tmp_path: Path, note_reader: ScriptedEngine) -> Iterator[Callable[..., Lab]]:
    """Opens a lab (by default always the same one) without a model and with the hashing embedder."""
    opened: list[Lab] = []

    def open_it(name: str = "lab", engine: Any = note_reader, progress: Progress | None = None, **config: Any) -> Lab:
        settings = LabConfig(embedder="hashing", threads=1, **config)
        lab = Lab.open(tmp_path / name, create=True, config=settings, engine=engine, progress=progress)
        opened.append(lab)
        return lab

    yield open_it
    for lab in opened:
        lab.close()


class Traced:
    """What is told to OpenTelemetry in a test, once it has ended."""

    def __init__(self, exporter: Any) -> None:
        self.exporter = exporter

    @property
    def spans(self) -> list[Any]:
        """All spans, as they began."""
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time)

    def named(self, beginning: str) -> list[Any]:
        """Those whose name begins so."""
        return [span for span in self.spans if span.name.startswith(beginning)]

    def above(self, span: Any) -> list[Any]:
        """The spans to which one belongs, the innermost first."""
        known = {one.context.span_id: one for one in self.spans}
        found = []
        while span.parent is not None:
            span = known[span.parent.span_id]
            found.append(span)
        return found

    def path(self, span: Any) -> str:
        """Where it stands: the names from the outermost on."""
        return " > ".join(one.name for one in [*reversed(self.above(span)), span])

    def says(self, text: str) -> list[str]:
        """The names of the spans in which a text stands anywhere."""
        return [span.name for span in self.spans if text in span.to_json()]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Traced:
    """Has this test's program listen to its spans, as one does that uses the package as a library."""
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    monkeypatch.delenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", raising=False)
    exporter, provider = InMemorySpanExporter(), sdk.TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
    return Traced(exporter)


class ScriptedApi:
    """A server with OpenAI's chat completions, in this process, that answers as a test says.

    `answer` is given each request and says what comes back: a text, or what is otherwise: `status`, `headers`, `body`;
    `text`, `finish`, `tokens` (read, written) and `message` of a completion; `missing` bytes, after which the
    connection breaks. `asked` are the requests so far, `keys` and `paths` what came with them.
    """

    def __init__(self, answer: Callable[[dict[str, Any]], str | dict[str, Any]]) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                api.asked.append(request)
                api.keys.append(self.headers.get("authorization"))
                api.paths.append(self.path)
                said = api.answer(request)
                said = {"text": said} if isinstance(said, str) else said
                body = said.get("body", completion(**said)).encode()
                self.send_response(said.get("status", 200))
                headers = {"content-type": "application/json", **said.get("headers", {})}
                for name, value in {**headers, "content-length": len(body) + said.get("missing", 0)}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(body)
                self.close_connection = bool(said.get("missing"))

            def log_message(self, *_: Any) -> None:
                """Nothing: this is a test."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # whoever asked has gone
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def completion(text: str | None = "", finish: str = "stop", tokens: tuple[int, int] = (100, 10), **other: Any) -> str:
    """The body of a chat completion."""
    message = {"role": "assistant", "content": text, **other.get("message", {})}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    found = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "usage": usage}
    return json.dumps({**found, "choices": [{"index": 0, "finish_reason": finish, "message": message}]})


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ScriptedApi]]:
    """Starts a scripted API. There is no key, and the pauses between tries are short."""
    pytest.importorskip("langchain_openai")
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("agentlab.engines.provider.PAUSE", 0.01)
    started: list[ScriptedApi] = []

    def start(answer: Callable[[dict[str, Any]], str | dict[str, Any]]) -> ScriptedApi:
        started.append(ScriptedApi(answer))
        return started[-1]

    yield start
    for one in started:
        one.close()
