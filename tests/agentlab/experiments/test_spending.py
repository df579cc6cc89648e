"""Play with a model behind a scripted API: what it takes and may take, and what becomes of a run when it fails."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agentlab.agent.tasks import make_tasks
from agentlab.cli import app
from agentlab.cli.doctor import health
from agentlab.errors import ApiRefused, LimitReached, Stopped
from agentlab.lab import Lab
from agentlab.workspace.config import ChatConfig, LabConfig

Serve = Callable[..., Any]
RUNNER = CliRunner()
OFFERED = "response_format"


def plays(request: dict[str, Any]) -> dict[str, Any]:
    """A player that reads notes; what it writes takes 110 tokens."""
    if OFFERED not in request:
        return {"text": "A note names the safe door, so it is worth reading before any door is opened."}
    commands = request[OFFERED]["json_schema"]["schema"]["properties"]["command"]["enum"]
    seen = request["messages"][-1]["content"]
    wanted = ["take coin", *(f"open {color} door" for color in ("black", "blue", "red", "green") if color in seen)]
    safe = next((one for one in commands if f"the {one.removeprefix('open ')} is safe" in seen), "read note")
    chosen = next((one for one in (wanted[0], safe) if one in commands), commands[0])
    return {"text": json.dumps({"command": chosen})}


def played(lab: Lab) -> dict[str, list[str]]:
    """What was done in each episode that came to its end."""
    rows = lab.database.episodes.find()
    return {row.id: lab.database.episodes.get(row.id).actions for row in rows if row.minimised_from is None}


@dataclass
class Fault:
    """What a server answers instead; None: it is sound."""

    answer: Callable[[dict[str, Any]], Any] | None = None


@pytest.fixture
def fault() -> Fault:
    return Fault()


@pytest.fixture
def chat_lab(tmp_path: Path, serve: Serve, fault: Fault) -> Callable[..., Any]:
    """Opens a lab whose model stands behind a scripted API."""
    api = serve(lambda request: (fault.answer or plays)(request))

    def opened(name: str, *, concurrency: int = 1) -> Lab:
        chat = ChatConfig(price_in=1.0, price_out=10.0)
        config = LabConfig(
            model="openai:m", engine="chat", server=api.url, embedder="hashing", chat=chat, concurrency=concurrency
        )
        return Lab.open(tmp_path / name, create=True, config=config, progress=False)

    return opened


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_run_under_limits_that_goes_on_equals_an_unbroken_one(chat_lab: Callable[..., Any], concurrency: int) -> None:
    with chat_lab("whole", concurrency=concurrency) as lab:
        whole = lab.run("toy/doors", seeds=range(3), trials=2)
        meant = played(lab)
    spent = sum(trial.usage.input_tokens + trial.usage.output_tokens for result in whole for trial in result.trials)
    assert spent == 110 * sum(map(len, meant.values()))
    stops = 0
    for limit in range(330, spent + 330, 330):
        with chat_lab("parts", concurrency=concurrency) as lab:
            lab.limit(tokens=limit)
            try:
                parts = lab.run("toy/doors", seeds=range(3), trials=2)
            except LimitReached:
                stops += 1
                # No more than the steps that were under way.
                took = lab.spending.spent.input_tokens + lab.spending.spent.output_tokens
                assert limit <= took < limit + concurrency * 110
            else:
                break
    assert stops > 2 and parts == whole
    with chat_lab("parts") as lab:
        assert played(lab) == meant


def test_what_was_spent_counts_when_the_same_is_asked_again(chat_lab: Callable[..., Any]) -> None:
    with chat_lab("lab") as lab:
        lab.limit(cost=1.0)
        lab.run("toy/doors", seeds=range(2), trials=1)
        first = lab.spending.spent
    assert first.cost == pytest.approx((100 * 1 + 10 * 10) / 1e6 * first.output_tokens / 10)
    with chat_lab("lab") as lab:
        lab.limit(cost=first.cost)
        lab.run("toy/doors", seeds=range(2), trials=1)  # nothing is left to be played
        assert lab.spending.spent.cost == pytest.approx(first.cost)
        with pytest.raises(LimitReached):
            lab.run("toy/doors", seeds=range(2, 4), trials=1)


def test_what_all_episodes_in_flight_took_counts_before_one_of_them_goes_on(chat_lab: Callable[..., Any]) -> None:
    with chat_lab("lab", concurrency=2) as lab:
        lab.limit(tokens=330)
        with pytest.raises(LimitReached):
            lab.run("toy/doors", seeds=range(2), trials=1)
        before = lab.spending.spent.output_tokens
        assert not lab.database.episodes.find(), "both are in flight"
    with chat_lab("lab", concurrency=2) as lab:
        lab.config.concurrency = 1
        lab.limit(tokens=330)
        with pytest.raises(LimitReached):
            lab.run("toy/doors", seeds=range(2), trials=1)
        assert lab.spending.spent.output_tokens == before > 0


def test_what_an_episode_took_counts_once_where_it_goes_on_in_the_same_process(chat_lab: Callable[..., Any]) -> None:
    with chat_lab("lab") as lab:
        lab.limit(tokens=330)
        with pytest.raises(LimitReached):
            lab.run("toy/doors", seeds=[0], trials=1)
        lab.spending.tokens = 10**6
        (result,) = lab.run("toy/doors", seeds=[0], trials=1)
        took = lab.spending.spent
    (trial,) = result.trials
    assert took.output_tokens == trial.usage.output_tokens > 30


def test_what_reflecting_takes_is_in_the_episode(chat_lab: Callable[..., Any]) -> None:
    with chat_lab("lab") as lab:
        (result,) = lab.run("toy/doors", seeds=[0], trials=1, reflectors=["written", "contrast"])
        (trial,) = result.trials
        episode = lab.database.episodes.get(trial.episode)
    assert trial.usage == episode.usage and episode.usage.output_tokens > 10 * len(episode.steps)


def test_what_errored_is_played_again_by_the_same_call_and_was_paid_for(
    chat_lab: Callable[..., Any], fault: Fault
) -> None:
    with chat_lab("whole") as lab:
        whole = lab.run("toy/doors", seeds=range(2), trials=1)
        meant = played(lab)
    fault.answer = lambda request: (
        {"status": 400, "body": "odd"} if "The note says" in request["messages"][-1]["content"] else plays(request)
    )
    with chat_lab("lab") as lab:
        errored = lab.run("toy/doors", seeds=range(2), trials=1)
        assert [result.trials[0].error_kind for result in errored] == ["engine", "engine"]
    fault.answer = None
    with chat_lab("lab") as lab:
        again = lab.run("toy/doors", seeds=range(2), trials=1)
        assert played(lab) == meant
    lost, both, once = ([result.trials[0].usage.output_tokens for result in one] for one in (errored, again, whole))
    assert lost == [10, 10] and both == [10 + tokens for tokens in once]


def test_a_wrong_key_ends_the_run_at_once_and_keeps_what_was_played(chat_lab: Callable[..., Any], fault: Fault) -> None:
    refused: list[int] = []

    def revoked(request: dict[str, Any]) -> Any:
        refused.append(1)
        return {"status": 401, "body": "revoked"}

    with chat_lab("lab") as lab:
        lab.run("toy/doors", seeds=[0], trials=1, name="mine")
        kept = played(lab)
        fault.answer = revoked
        with pytest.raises(ApiRefused):
            lab.run("toy/doors", seeds=range(3), trials=1, name="mine")
        assert played(lab) == kept and len(refused) == 1
        fault.answer = None
        results = lab.run("toy/doors", seeds=range(3), trials=1, name="mine")
        assert [result.trials[0].status for result in results] == ["won"] * 3


def test_whoever_stops_a_run_does_not_wait_for_a_server_that_hangs(chat_lab: Callable[..., Any], fault: Fault) -> None:
    hang = threading.Event()
    with chat_lab("lab", concurrency=2) as lab:
        arm = lab.arm("base")
        rollout = lab.rollout("mine", arm)

        def hangs(request: dict[str, Any]) -> Any:
            if "The note says" in request["messages"][-1]["content"] and not rollout.stop.is_set():
                rollout.stop.set()  # the other game ends at its next step, as by Ctrl-C
                hang.wait(60)
            return plays(request)

        fault.answer = hangs
        began = time.monotonic()
        try:
            with pytest.raises(Stopped):
                rollout.play(make_tasks("toy/doors", "train", range(2)), arm)
        finally:
            hang.set()
            rollout.close()
        assert time.monotonic() - began < 45


def agentlab(lab: Path, *arguments: str) -> Result:
    return RUNNER.invoke(app, [*arguments, "--lab", str(lab)])


def test_on_the_command_line_a_limit_is_one_line_and_what_was_taken_stands_in_the_tables(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    lab, url = tmp_path / "lab", serve(plays).url
    asked = ("toy/doors", "--seeds", "0-1", "--engine", "chat", "--model", "openai:m", "--server", url)
    run = ("run", *asked, "--arm", "base", "--trials", "1")
    unknown = agentlab(lab, *run, "--max-cost", "1")
    assert unknown.exit_code == 2 and "price_in" in unknown.stderr and unknown.stderr.count("\n") == 1
    stopped = agentlab(lab, *run, "--max-tokens", "150")
    assert stopped.exit_code == 2 and "--max-tokens 150" in stopped.stderr
    assert agentlab(lab, *run, "--max-tokens", "9999").exit_code == 0
    settings = (lab / "lab.toml").read_text(encoding="utf-8").replace("price_in = 0.0", "price_in = 100.0")
    (lab / "lab.toml").write_text(settings, encoding="utf-8")
    table = agentlab(lab, "eval", *asked, "--arm", "base", "--arm", "random", "--max-cost", "1")
    assert table.exit_code == 0, table.output
    head, _, base, *_ = table.stdout.splitlines()
    steps = [
        row["steps"]
        for row in json.loads(agentlab(lab, "episodes", "--split", "test", "--arm", "base", "--json").stdout)
    ]
    assert head.split() == ["arm", "toy/doors", "tokens", "cost"]
    assert base.split()[-2:] == [f"{110 * sum(steps):,}", f"${sum(steps) / 100:.4f}"]
    listed = agentlab(lab, "episodes", "--arm", "base", "--split", "test").stdout
    assert f"${steps[0] / 100:.4f}" in listed
    assert "tokens" not in agentlab(lab, "episodes", "--arm", "random").stdout
    first = json.loads(agentlab(lab, "episodes", "--arm", "base", "--split", "test", "--json").stdout)[0]["id"]
    assert f"{100 * steps[0]:,} tokens read" in agentlab(lab, "replay", first).stdout


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (("--engine", "chat"), "PROVIDER:MODEL"),
        (("--engine", "chat", "--model", "openai:m", "--actor", "rank"), "--actor write"),
        (("--model", "openai:m"), "--engine chat"),
        (("--engine", "chat", "--model", "openai:m"), "OPENAI_API_KEY"),
    ],
)
def test_what_does_not_go_together_makes_no_lab(
    tmp_path: Path, serve: Serve, given: tuple[str, ...], part: str
) -> None:
    result = agentlab(tmp_path / "lab", "run", "toy/doors", *given)
    assert result.exit_code == 2 and part in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "lab").exists()


def test_what_needs_weights_says_that_there_are_none(tmp_path: Path, serve: Serve) -> None:
    lab, url = tmp_path / "lab", serve(plays).url
    made = agentlab(
        lab, "run", "toy/doors", "--seeds", "0", "--trials", "1", "--arm", "base", "--engine", "chat",
        "--model", "openai:m", "--server", url,
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    before = len(json.loads(agentlab(lab, "episodes", "--json").stdout))
    refused = agentlab(lab, "rounds", "run", "toy/doors")
    assert refused.exit_code == 2 and "without weights" in refused.stderr
    assert len(json.loads(agentlab(lab, "episodes", "--json").stdout)) == before
    (model,) = [finding for finding in health(lab) if finding.check == "model"]
    assert model.verdict == "ok" and "API" in model.detail
