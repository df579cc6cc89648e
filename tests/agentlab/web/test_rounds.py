"""The pages of rounds: every phase shows, the gate leads to the game that got worse, and all text is text."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport
from agentlab.rounds.graph import NODES
from agentlab.rounds.parts import SocietyConfig
from agentlab.rounds.report import ENDED, save
from agentlab.web.app import application
from agentlab.web.safety import Access
from agentlab.workspace.config import LabConfig
from memory.records import Episode, now
from trainers import BaseRef, job
from trainers.data import Example
from trainers.gate import GateConfig, SequentialGate, decide
from trainers.training import Point
from trainers.training.curve import Curve

HOSTILE = "<script>alert(1)</script>\"'{{ 7 * 7 }}</pre><img src=x onerror=alert(2)>\x1b[31m\u202e'; DROP TABLE rounds;"
TASKS = [f"toy/doors:dev:{seed}" for seed in range(30)]
PHASES = [*NODES, *ENDED]


def hostile(value: Any) -> Any:
    """The same with every text in it made hostile, names of fields left."""
    if isinstance(value, dict):
        return {name: hostile(one) for name, one in value.items()}
    if isinstance(value, list):
        return [hostile(one) for one in value]
    return HOSTILE if isinstance(value, str) else value


def full(number: int, **fields: Any) -> RoundReport:
    """The report of a round with something in every field."""
    gate = SequentialGate(30, GateConfig())
    won, lost = dict.fromkeys(TASKS, True), dict.fromkeys(TASKS, False)
    decided = gate.look(won, lost) or decide(won, lost)
    pair = decided.paired.model_dump(mode="json")
    estimate = {"value": 0.5, "n": 9, "low": 0.25, "high": 0.75}
    loss = {"env": "toy/doors", "best": "base", "paired": pair, "p": 0.5, "forgotten": True}
    usual: dict[str, Any] = {
        "id": f"round-{number}",
        "number": number,
        "config": RoundConfig(envs=["toy/doors"], seeds=7, society=SocietyConfig()),
        "incumbent": "adapter-0",
        "adapter": "adapter-1",
        "playing": {"actor": "write"},
        "balance": {"temperature": 0.5},
        "collected": {"random": {"tasks": 9, "won": 4, "steps": 3}},
        "revised": {"tasks": 2},
        "judged": {"judgements": 6},
        "selected": {"toy/doors": 3},
        "kl_episodes": {"toy/other": 2},
        "left_out": {"duplicate": 2},
        "short_of": {"anchors": 1},
        "society": {"generator 1": "adapter-1", "critic 2": "adapter-2"},
        "training": {"first_loss": 2.0, "last_loss": 0.5},
        "monitors": {"k": 4, "s": 2, "pass_at_1": estimate, "entropy": estimate, "drift": estimate, "successes": 1},
        "gate": decided.model_dump(mode="json"),
        "forgetting": {
            "adapter": "adapter-1", "against": "base", "outside": {"toy/other": pair}, "lost": ["toy/other"],
            "losses": [loss], "unplayable": {"toy/gone": "no such game"},
        },
        "promoted": True,
        "retired": {"rf-1": "no longer needed"},
        "note": "A note.",
    }  # fmt: skip
    return RoundReport.model_validate({**usual, **fields})


def every_text_hostile(number: int) -> RoundReport:
    """A report in which every text, also every name in a count, is hostile, but for its own id."""
    found = full(number).model_dump(mode="json", exclude={"config"})
    counts = ("collected", "revised", "judged", "selected", "kl_episodes", "left_out", "short_of", "balance", "playing")
    for name in counts:
        found[name] = {HOSTILE: hostile(next(iter(found[name].values())))}
    found["collected"] = {HOSTILE: {"tasks": 9, "won": 4, HOSTILE: 3}}
    found["society"] = {HOSTILE: HOSTILE}
    found["training"], found["retired"] = {HOSTILE: HOSTILE, "first_loss": 1.0}, {HOSTILE: HOSTILE}
    found["gate"]["envs"] = {HOSTILE: found["gate"]["paired"]}
    found["forgetting"]["outside"] = {HOSTILE: found["gate"]["paired"]}
    found["forgetting"]["unplayable"] = {HOSTILE: HOSTILE}
    found = hostile(found) | {"id": f"round-{number}", "phase": "done", "started_at": HOSTILE}
    config = {"envs": [HOSTILE], "anchors": [HOSTILE], "general": HOSTILE}
    return RoundReport.model_validate({**found, "config": config})


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rounds") / "lab"
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing")) as lab:
        save(lab, full(1, phase="done", ended_at=now()))
        for number, phase in enumerate(PHASES, 2):
            save(lab, RoundReport(id=f"round-{number}", number=number, config=RoundConfig(envs=["toy/x"]), phase=phase))
        save(lab, every_text_hostile(99))
        lab.database.rounds.put("round-odd", {"id": "round-odd"})
        for seed, ours, theirs in [(0, "won", "won"), (1, "lost", "won"), (2, "won", "lost")]:
            for arm, status in (("base", theirs), ("candidate adapter-1", ours)):
                for round, words in (("round-1", "toy/doors"), ("round-99", HOSTILE)):
                    id = f"{round}-{arm.split()[0]}-{seed}"
                    fields = {"id": id, "run": f"{round}-gate", "env": words, "split": "dev", "seed": seed}
                    lab.database.episodes.put(Episode.model_validate({**fields, "arm": arm, "status": status}))
        (folder / "jobs").mkdir()
        for round, words in (("round-1", "toy/doors:train:0"), ("round-99", HOSTILE)):
            example = Example(token_ids=[1, 2, 3], weights=[0, 0, 1], episode=words, task=words)
            config = job.JobConfig(base=BaseRef(name=words, fingerprint="f"))
            job.create(folder / "jobs" / round, config, [example] * 2)
        curve = Curve(folder / "jobs" / "round-1")
        curve.begin(after=0)
        for step in range(1, 501):
            curve.add(Point(step=step, steps=600, loss=5 / step, learning_rate=1e-3))
    return folder


@pytest.fixture(scope="module")
def client(lab: Path) -> Iterator[TestClient]:
    made = application(lab, Access(token="t"))
    with TestClient(made.asgi(), base_url="http://127.0.0.1") as client:
        yield client
    for looking in made.labs:
        looking.close()


def page(client: TestClient, address: str, status: int = 200) -> str:
    found = client.get(address)
    assert found.status_code == status, found.text[:2000]
    return found.text


def test_a_round_in_each_phase_shows_and_so_does_its_twin(client: TestClient) -> None:
    for number, phase in enumerate(PHASES, 2):
        shown = page(client, f"/rounds/round-{number}")
        assert ("hx-get" in shown) == (phase not in ENDED), phase
        assert json.loads(page(client, f"/rounds/round-{number}.json"))["report"]["phase"] == phase
        page(client, f"/rounds/round-{number}/beside")
        assert "None yet" in page(client, f"/rounds/round-{number}/examples")


def test_the_list_leads_to_every_round(client: TestClient) -> None:
    shown = page(client, "/rounds")
    known = json.loads(page(client, "/rounds.json"))["rounds"]
    assert len(known) == len(PHASES) + 2
    assert all(f'href="/rounds/{round["id"]}"' in shown for round in known)


def test_a_record_of_another_form_hides_no_round_and_is_told(client: TestClient) -> None:
    assert json.loads(page(client, "/rounds.json"))["unreadable"] == ["round-odd"]
    told = re.search(r'data-testid="unreadable">[^<]*', page(client, "/rounds"))
    assert told is not None and "round-odd" in told[0]
    assert len(json.loads(page(client, "/index.json"))["rounds"]) == 8
    page(client, "/rounds/round-odd", 400)


def test_the_game_that_got_worse_is_one_click_from_its_round(client: TestClient) -> None:
    shown = page(client, "/rounds/round-1")
    row = re.search(r'<tr data-testid="gate-worse">.*?</tr>', shown, re.S)
    assert row is not None
    links = re.findall(r'href="([^"]+)"', row[0])
    one, other = "/episodes/round-1-base-1", "/episodes/round-1-candidate-1"
    assert links == [one, other, f"{other}?beside=round-1-base-1"]
    for address in links:
        page(client, address)
    assert shown.index("gate-worse") < shown.index("gate-better") < shown.index("gate-both")


def test_what_was_selected_measured_and_lost_is_all_there(client: TestClient) -> None:
    shown = page(client, "/rounds/round-1")
    for mark in ("funnel", "monitors", "paired", "looks", "retention", "retired", "curve", "adapter", "phases"):
        assert f'data-testid="{mark}"' in shown
    assert "left out: duplicate" in shown and "FORGOTTEN" in shown and "no such game" in shown
    assert 'href="/memory/rf-1"' in shown and 'href="/adapters/adapter-1"' in shown


def test_every_agent_of_a_society_is_named_and_whose_the_figures_are(client: TestClient) -> None:
    shown = page(client, "/rounds/round-1")
    row = re.search(r'<dd data-testid="society">.*?</dd>', shown)
    assert row is not None
    assert re.findall(r'(\w+ \d) <a href="([^"]+)"', row[0]) == [
        ("generator 1", "/adapters/adapter-1"), ("critic 2", "/adapters/adapter-2"),
    ]  # fmt: skip
    assert "of generator 1 alone" in row[0] and "selected, examples of all agents" in shown
    other = page(client, "/rounds/round-2")
    assert 'data-testid="society"' not in other and "of all agents" not in other


def test_the_curve_is_drawn_by_a_script_of_the_server_and_stands_in_the_page_without_one(client: TestClient) -> None:
    shown = page(client, "/rounds/round-1")
    assert 'src="/static/uplot.min.js"' in shown and 'src="/static/curve.js"' in shown
    assert "uplot" not in page(client, "/rounds")
    line = re.search(r'<polyline class="curve" points="([^"]+)"', shown)
    assert line is not None and 100 < len(line[1].split()) <= 200
    data = re.search(r'data-curve="([^"]+)"', shown)
    assert data is not None and len(json.loads(unescape(data[1]))["steps"]) == 500
    for address in ("/static/uplot.min.js", "/static/uplot.min.css", "/static/curve.js"):
        assert client.get(address).status_code == 200


def test_hostile_text_in_every_field_is_text(client: TestClient) -> None:
    addresses = ["", "/beside", "/beside?other=round-1", "/examples", "/examples/1"]
    for address in ["/rounds", "/", *(f"/rounds/round-99{rest}" for rest in addresses)]:
        shown = page(client, address)
        assert "<script>alert" not in shown and "<img" not in shown and "</pre><img" not in shown, address
        assert "\x1b" not in shown and "\u202e" not in shown and "{{" not in shown.replace("{{ 7 * 7 }}", ""), address
        if address not in ("/", "/rounds"):
            assert "&lt;script&gt;alert(1)" in shown, address
        assert not re.search(r"<[^>]*\sstyle=|<script>", shown), address


def test_examples_mark_what_carries_loss_and_lead_to_each_other(client: TestClient, lab: Path) -> None:
    assert "/rounds/round-1/examples/2" in page(client, "/rounds/round-1/examples")
    shown = page(client, "/rounds/round-1/examples/1")
    assert 'rel="next"' in shown and 'rel="prev"' not in shown
    assert "no longer in the lab" in shown
    assert "2 examples" in page(client, "/rounds/round-1/examples/3", 404)


def test_two_rounds_stand_beside_each_other(client: TestClient) -> None:
    shown = page(client, "/rounds/round-1/beside?other=round-2")
    assert "round-2 beside round-1" in shown
    differing = shown[shown.index('data-testid="differing"') :]
    assert "seeds" in differing and "gate.alpha" not in differing


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/rounds/raund-1", 404), ("/rounds/round-1/beside?other=x", 404), ("/rounds/x/examples", 404),
        ("/rounds/round-1?offset=-1", 400), ("/rounds/round-1/examples/x", 400), ("/rounds/%2e%2e/examples", 404),
        ("/rounds/round-1?offset=9999", 200), ("/rounds?offset=9999", 200),
    ],
)  # fmt: skip
def test_an_address_that_makes_no_sense_is_answered(client: TestClient, address: str, status: int) -> None:
    assert client.get(address).status_code == status


def test_what_a_program_at_work_writes_is_on_the_page_at_the_next_look(client: TestClient, lab: Path) -> None:
    number = PHASES.index("train") + 2
    before = page(client, f"/rounds/round-{number}")
    assert "Nobody is at work" in before and "Not trained yet" in before
    with Lab.open(lab, progress=False) as writing:
        assert writing.database.events is not None  # an event is kept once the database is open
        writing.progress.start("training", 10)
        writing.progress.advance("training", 4, "loss 0.250")
        folder = lab / "jobs" / f"round-{number}"
        folder.mkdir()
        Curve(folder).begin(after=0)
        Curve(folder).add(Point(step=1, steps=10, loss=0.25))
        shown = page(client, f"/rounds/round-{number}")
    assert f"process {os.getpid()} on {socket.gethostname()}" in shown and ">training<" in shown
    assert "1 of 10 steps" in shown and 'data-testid="curve"' in shown
