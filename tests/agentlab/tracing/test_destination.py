"""Where spans go: a file that a reader can load, the screen or a collector, which is refused or missed on one line."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from agentlab.cli import app
from agentlab.errors import BadConfig, MissingPackage
from agentlab.tracing import destination
from agentlab.tracing.destination import _FirstComplaint, begin

ROOT = Path(__file__).parents[3]
SPANS = ["invoke_workflow run", "invoke_agent random", "step", "reflect"]


def agentlab(folder: Path, *words: str, first: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own, since a tracer provider is set once in a process; `first` is run before."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment = {**kept, "PYTHONPATH": path, "NO_PROXY": "127.0.0.1", **variables}
    command = [sys.executable, "-c", f"{first}\nfrom agentlab.cli import main; main()", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)


def played(folder: Path, *before: str, **variables: str) -> subprocess.CompletedProcess[str]:
    game = ["run", "toy/doors", "--arm", "random", "--seeds", "0-1", "--trials", "1", "--json"]
    return agentlab(folder, *before, *game, **variables)


@pytest.fixture
def sdk() -> None:
    pytest.importorskip("opentelemetry.sdk.trace")


def test_a_file_has_a_line_of_json_for_each_span_that_a_reader_can_load(tmp_path: Path, sdk: None) -> None:
    done = played(tmp_path, "--trace", "spans.jsonl")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 2, "what is printed is the result alone"
    lines = [json.loads(line) for line in (tmp_path / "spans.jsonl").read_text(encoding="utf-8").splitlines()]
    spans = [line["resourceSpans"][0]["scopeSpans"][0]["spans"] for line in lines]
    assert all(len(one) == 1 for one in spans)
    known = {one["spanId"]: one for (one,) in spans}
    names = [one["name"] for one in known.values()]
    assert set(names) == set(SPANS) and names.count("invoke_agent random") == 2
    for one in known.values():
        assert (len(one["traceId"]), len(one["spanId"])) == (32, 16)
        assert int(one["startTimeUnixNano"]) <= int(one["endTimeUnixNano"])
        inner = {"invoke_agent random": "invoke_workflow run", "step": "invoke_agent random"}.get(one["name"])
        assert inner is None or known[one["parentSpanId"]]["name"] == inner
    assert {"key": "service.name", "value": {"stringValue": "agentlab"}} in lines[0]["resourceSpans"][0]["resource"][
        "attributes"
    ]
    assert played(tmp_path, AGENTLAB_TRACE="spans.jsonl", OTEL_SERVICE_NAME="mine").returncode == 0
    more = (tmp_path / "spans.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(more) > len(lines) and '"mine"' in more[-1], "the next command goes on in the file"


def test_a_program_in_python_is_traced_by_the_same_variable(tmp_path: Path, sdk: None) -> None:
    code = (
        "from agentlab import Lab, LabConfig\n"
        "with Lab.open('lab', create=True, config=LabConfig(embedder='hashing')) as lab:\n"
        "    lab.run('toy/doors', arm='random', seeds=[0], trials=1)\n"
    )
    environment = {**os.environ, "AGENTLAB_TRACE": "spans.jsonl", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, check=True)
    assert '"name":"invoke_workflow run"' in (tmp_path / "spans.jsonl").read_text(encoding="utf-8")


def test_the_screen_is_stderr(tmp_path: Path, sdk: None) -> None:
    done = played(tmp_path, AGENTLAB_TRACE="console")
    assert len(json.loads(done.stdout)) == 2
    told = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert {one["name"] for one in told} == set(SPANS)


class Collector:
    """Takes what is sent to it."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str, bytes]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.taken.append((self.path, str(self.headers.get("x-key")), body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing: this is a test."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def collector() -> Iterator[Collector]:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_collector_has_everything_when_the_command_has_ended(tmp_path: Path, collector: Collector) -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_EXPORTER_OTLP_HEADERS": "x-key=mine"}
    done = played(tmp_path, "--trace", "otlp", **variables)
    assert done.returncode == 0 and "lost" not in done.stderr, done.stderr
    assert {(path, key) for path, key, _ in collector.taken} == {("/v1/traces", "mine")}
    sent = b"".join(body for *_, body in collector.taken)
    assert all(name.encode() in sent for name in SPANS)


def test_a_collector_that_is_not_there_stops_nothing_and_is_missed_once(tmp_path: Path, sdk: None) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    quick = {"OTEL_BSP_SCHEDULE_DELAY": "1", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1"}
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", **quick}
    # Whoever shows what is logged is not shown it again and again either.
    done = played(tmp_path, "--trace", "otlp", first="import logging; logging.basicConfig()", **variables)
    assert done.returncode == 0 and len(json.loads(done.stdout)) == 2
    (missed,) = [line for line in done.stderr.splitlines() if "127.0.0.1" in line]
    assert missed.startswith("Spans may be lost") and "Traceback" not in done.stderr


def test_of_many_complaints_the_first_is_said_on_one_clean_line(capsys: pytest.CaptureFixture[str]) -> None:
    complaint, logger = _FirstComplaint(), logging.getLogger("opentelemetry.test_complaints")
    logger.addHandler(complaint)
    logger.propagate = False
    logger.info("nothing to say")
    logger.warning("no answer\n\x1b[2J%s", "at all" * 99)
    logger.error("and again")
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("Spans may be lost (no answer at all") and "\x1b" not in said
    assert len(said) < 400


def test_a_full_disk_is_a_complaint_by_its_cause(capsys: pytest.CaptureFixture[str]) -> None:
    complaint, logger = _FirstComplaint(), logging.getLogger("opentelemetry.test_disk")
    logger.addHandler(complaint)
    logger.propagate = False
    try:
        raise OSError(28, "No space left on device")
    except OSError:
        logger.exception("Exception while exporting Span.")
    assert "No space left on device" in capsys.readouterr().err


def refused(*words: str) -> str:
    """The one line by which the program refuses something."""
    result = CliRunner().invoke(app, [*words, "envs"])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
    assert isinstance(result.exception, SystemExit) and result.stdout == "" and "\x1b" not in result.stderr
    return result.stderr


@pytest.mark.parametrize("where", ["foo", "spans.json", "OTLP", " ", "x" * 9999 + "\x1b[2J"])
def test_what_is_no_place_is_refused_on_one_line(where: str) -> None:
    said = refused("--trace", where)
    assert "ends in .jsonl" in said and len(said) < 300


def test_a_file_that_cannot_be_made_is_refused_on_one_line(tmp_path: Path, sdk: None) -> None:
    said = refused("--trace", str(tmp_path / "no" / "spans.jsonl"))
    assert "no/spans.jsonl (No such file or directory)" in said


@pytest.mark.parametrize(
    ("protocol", "said"), [("grpc", "opentelemetry-exporter-otlp-proto-grpc"), ("smoke", "the protocol is smoke")]
)
def test_a_protocol_that_cannot_be_had_is_refused_on_one_line(
    sdk: None, monkeypatch: pytest.MonkeyPatch, protocol: str, said: str
) -> None:
    monkeypatch.setattr(destination, "metadata", SimpleNamespace(entry_points=lambda **_: ()))  # none is installed
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    assert said in refused("--trace", "otlp")


def test_where_it_is_not_installed_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destination, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"pip install 'agentlab\[otel\]'") as raised:
        begin("console")
    assert "\n" not in str(raised.value)


def test_nothing_said_is_nothing_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(destination.VARIABLE, raising=False)
    monkeypatch.setattr(destination, "find_spec", lambda name: pytest.fail("nobody asked for it"))
    begin()
    begin("")
    with pytest.raises(BadConfig):
        begin("nowhere")


def test_a_program_with_a_provider_of_its_own_keeps_it(
    traced: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], open_lab: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(destination.VARIABLE, str(tmp_path / "spans.jsonl"))
    open_lab().run("toy/doors", arm="random", seeds=[0], trials=1)
    assert "a tracer provider of its own" in capsys.readouterr().err
    assert not (tmp_path / "spans.jsonl").exists()
    assert traced.named("invoke_workflow run")
