"""`agentlab serve` as a process of its own, with a real model and a client of OpenAI's: ended, killed, beside a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest

from agentlab.lab import Lab
from agentlab.workspace.config import LabConfig
from agentlab.workspace.lock import WriteLock
from memory.records import Reflection
from memory.store import Filter

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from agentlab.cli import main; main()", "serve"]


@pytest.fixture
def lab(tmp_path: Path, tiny_chat_model: Path) -> Path:
    config = LabConfig(model=str(tiny_chat_model), embedder="hashing", dtype="float32", threads=1, context=512)
    with Lab.open(tmp_path / "lab", create=True, config=config, progress=False):
        pass
    return tmp_path / "lab"


Serve = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture
def serve(lab: Path) -> Iterator[Serve]:
    """Starts a server: its process and its address."""
    started = []

    def start(*options: str) -> tuple[subprocess.Popen[str], str]:
        command = [*COMMAND, "--lab", str(lab), "--port", "0", *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().split(" is at ")[1].split(",")[0]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def said(client: openai.OpenAI, text: str, **more: object) -> str:
    """What is answered to a message of a user."""
    answer = client.chat.completions.create(
        model="default", messages=[{"role": "user", "content": text}], max_tokens=5, **more
    )  # type: ignore[call-overload]
    return str(answer.choices[0].message.content)


def streamed(client: openai.OpenAI, text: str) -> str:
    pieces = client.chat.completions.create(
        model="base", messages=[{"role": "user", "content": text}], max_tokens=5, stream=True
    )
    return "".join(piece.choices[0].delta.content or "" for piece in pieces)


@contextmanager
def asking(address: str, key: str = "none") -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=address, api_key=key, max_retries=0, timeout=120) as client:
        yield client


def noted(lab: Path, namespace: str = "") -> list[Reflection]:
    """What is kept, once somebody has done what still waited."""
    with Lab.open(lab, progress=False):
        pass
    with Lab.open(lab, write=False, progress=False) as looking:
        return looking.database.reflections.find(Filter(env="chat", namespace=namespace))


def test_the_official_client_chats_whole_and_streamed_with_several_at_once(lab: Path, serve: Serve) -> None:
    server, address = serve()
    with asking(address) as client:
        assert {model.id for model in client.models.list()} == {"default", "base"}
        once = said(client, "You are in the hall.")
        assert streamed(client, "You are in the hall.") == once
        with ThreadPoolExecutor() as pool:
            answers = list(pool.map(lambda _: said(client, "You are in the hall."), range(6)))
        assert answers == [once] * 6
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-4")
        with pytest.raises(openai.BadRequestError, match="room"):
            said(client, "word " * 2000)
        with pytest.raises(openai.UnprocessableEntityError):
            said(client, "Hello.", temperature=9)
    server.send_signal(signal.SIGINT)
    assert server.wait(60) == 0


def test_ctrl_c_ends_it_in_the_midst_of_an_answer(lab: Path, serve: Serve) -> None:
    server, address = serve("--max-tokens", "100000")
    pieces = []

    def ask() -> None:
        with asking(address) as client, pytest.raises(openai.APIError):
            messages = [{"role": "user", "content": "You are in the hall."}]
            for piece in client.chat.completions.create(
                model="base", messages=messages, stream=True, temperature=2.0, seed=1
            ):  # type: ignore[call-overload]
                if not pieces:
                    server.send_signal(signal.SIGINT)
                pieces.append(piece)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(60)
    assert not thread.is_alive() and pieces
    assert server.wait(60) == 0


def test_each_key_has_a_memory_of_its_own_through_restarts(lab: Path, serve: Serve) -> None:
    keys = {}
    for name in ("anna", "bert"):
        made = subprocess.run(
            [*COMMAND, "--client", name, "--lab", str(lab)], capture_output=True, text=True, cwd=ROOT, check=True
        )
        keys[name] = made.stdout.strip()
    server, address = serve()
    with asking(address, keys["anna"]) as anna, asking(address, keys["bert"]) as bert, asking(address) as nobody:
        said(anna, "I live in Lisbon.")
        said(bert, "I live in Porto.")
        with pytest.raises(openai.AuthenticationError):
            said(nobody, "Where do I live?")
    server.kill()
    server.wait()
    _, address = serve()
    for name, town, other in (("anna", "Lisbon", "Porto"), ("bert", "Porto", "Lisbon")):
        (kept,) = noted(lab, f"chat/{name}")
        assert town in kept.text and other not in kept.text
        with asking(address, keys[name]) as client:
            raw = client.chat.completions.with_raw_response.create(
                model="base", messages=[{"role": "user", "content": "Do I live in Lisbon or in Porto?"}], max_tokens=2
            )
            assert raw.http_response.json()["agentlab"]["recalled"] == [kept.id]


def test_a_kill_at_any_moment_of_many_chats_loses_nothing_that_was_answered(lab: Path, serve: Serve) -> None:
    acknowledged: list[str] = []
    for attempt in range(3):
        server, address = serve()

        def chat(number: int, attempt: int = attempt, address: str = address) -> None:
            with asking(address) as client:
                for turn in range(100):
                    text = f"I live in town {attempt}x{number}x{turn}."
                    try:
                        (streamed if number % 2 else said)(client, text)
                    except (openai.APIError, httpx.HTTPError):
                        return
                    acknowledged.append(text)  # the last byte has come

        threads = [threading.Thread(target=chat, args=(number,)) for number in range(4)]
        before = len(acknowledged)
        for thread in threads:
            thread.start()
        # Between requests, and in the midst of others.
        while len(acknowledged) < before + 3 + attempt and any(thread.is_alive() for thread in threads):
            threads[0].join(0.01)
        server.send_signal(signal.SIGKILL)
        server.wait()
        for thread in threads:
            thread.join()
    kept = " ".join(one.text for one in noted(lab))
    assert len(acknowledged) >= 12 and [text for text in acknowledged if text not in kept] == []


def test_it_goes_on_beside_a_run_and_what_waits_survives_the_kill_of_both(lab: Path, serve: Serve) -> None:
    server, address = serve()
    playing = WriteLock(lab / ".lock")
    playing.acquire()
    with asking(address) as client:
        assert said(client, "I live in Lisbon.")
    server.kill()
    server.wait()
    playing.release()  # as a kill does
    (kept,) = noted(lab)
    assert "Lisbon" in kept.text


def test_who_leaves_is_not_written_for(lab: Path, serve: Serve) -> None:
    server, address = serve("--max-tokens", "100000")
    body = {"messages": [{"role": "user", "content": "You are in the hall."}], "temperature": 2.0, "stream": True}
    with httpx.stream("POST", f"{address}/chat/completions", json=body, timeout=60) as response:
        next(response.iter_lines())
    with asking(address) as client:
        assert said(client, "Hello.") is not None, "the model is free again"
    assert os.path.exists(f"/proc/{server.pid}")
