"""The pages of adapters: lineage and history, and promote and roll back only after a name was typed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from agentlab.lab import Lab
from agentlab.web.app import application
from agentlab.web.safety import Access
from agentlab.workspace.config import LabConfig
from memory.records import Episode, Recall, Reflection
from trainers import Lineage, Merge
from trainers.adapters import AdapterRecord
from trainers.gate import decide
from trainers.training import Canary

HOSTILE = "<script>alert(1)</script>\"'{{ 7 * 7 }}<img src=x onerror=alert(2)>\x1b[31m\u202e'; DROP TABLE adapters;"
TASKS = [f"toy/doors:dev:{seed}" for seed in range(30)]
WON, LOST = dict.fromkeys(TASKS, True), dict.fromkeys(TASKS, False)
HEADER = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
SETTINGS = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"]}


def put(lab: Lab, id: str, **fields: Any) -> None:
    """An adapter whose files are right."""
    place = lab.folder / "adapters" / id
    place.mkdir(parents=True)
    (place / "adapter_config.json").write_text(json.dumps(SETTINGS))
    (place / "adapter_model.safetensors").write_bytes(len(HEADER).to_bytes(8, "little") + HEADER + bytes(4))
    Canary(token_ids=[1, 2, 3], spans=[(1, 3)], base_logprob=-9, adapter_logprob=-1, base="f").save(
        place / "canary.json"
    )
    record = {"id": id, "base": "tiny", "fingerprint": "f" * 64, "path": f"adapters/{id}", **fields}
    lab.adapters.records.put(AdapterRecord.model_validate(record))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "lab"
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing")) as lab:
        lineage = Lineage(round="round-1", episodes=["ep-1", "ep-2"], reflections=["rf-1"])
        put(lab, "adapter-good", gate=decide(WON, LOST), lineage=lineage, training={"examples": 2, "dtype": "float32"})
        put(lab, "adapter-bad", gate=decide(LOST, WON), lineage=lineage)
        put(lab, "adapter-new", lineage=lineage)
        played = {"run": "eval-1", "env": "toy/doors", "split": "test", "seed": 1, "status": "won"}
        lab.database.episodes.put(Episode.model_validate({"id": "ep-1", **played, "adapter": "adapter-good"}))
        lab.database.reflections.put(Reflection(id="rf-1", kind="k", env="toy/doors", task="t", run="r", text="x"))
        recall = Recall(episode="ep-1", reflection="rf-1", channel="advice", rank=0, query="q", score=1.0)
        lab.database.recalls.put([recall])
        lab.database.evaluations.put("eval-1", {})
        odd = Episode.model_validate(
            {**played, "id": HOSTILE, "run": HOSTILE, "env": HOSTILE, "arm": HOSTILE, "adapter": "adapter-odd"}
        )
        lab.database.episodes.put(odd)
        merge = Merge(method="linear", weights={HOSTILE: 1.0}, rank=4, error=0, truncation=0)
        gate = decide(WON, LOST)
        gate = gate.model_copy(update={"reason": HOSTILE, "envs": {HOSTILE: gate.paired}, "regressions": [HOSTILE]})
        names = {key: [HOSTILE] for key in ("episodes", "reflections", "kl_episodes")}
        hostile = {
            "parent": HOSTILE, "base": HOSTILE, "fingerprint": HOSTILE, "job": HOSTILE, "gate": gate,
            "settings": {HOSTILE: HOSTILE}, "training": {HOSTILE: HOSTILE}, "weights": HOSTILE, "created_at": HOSTILE,
        }  # fmt: skip
        put(lab, "adapter-odd", lineage=Lineage(round=HOSTILE, code_version=HOSTILE, **names), **hostile)
        put(lab, "adapter-odder", lineage=Lineage(merge=merge, parent=HOSTILE), forced=True)
    return folder


@pytest.fixture
def client(lab: Path) -> Iterator[TestClient]:
    made = application(lab, Access(token="t"))
    with TestClient(made.asgi(), base_url="http://127.0.0.1", follow_redirects=False) as client:
        yield client
    for looking in made.labs:
        looking.close()


@pytest.fixture
def serving(lab: Path) -> Callable[[], str | None]:
    """What serves now."""

    def read() -> str | None:
        with Lab.open(lab, write=False) as looking:
            return looking.serving()

    return read


def page(client: TestClient, address: str, status: int = 200) -> str:
    found = client.get(address)
    assert found.status_code == status, found.text[:2000]
    return found.text


def asked(client: TestClient, address: str, **form: str) -> int:
    return client.post(address, data={"token": "t", **form}).status_code


def test_the_list_leads_to_each_adapter(client: TestClient) -> None:
    shown = page(client, "/adapters")
    for name in ("good", "bad", "new", "odd", "odder"):
        assert f'href="/adapters/adapter-{name}"' in shown


def test_the_lineage_is_drawn_with_a_link_at_every_thing_that_it_names(client: TestClient) -> None:
    shown = page(client, "/adapters/adapter-good")
    drawing = shown[shown.index('<svg class="lineage"') : shown.index("</svg>")]
    assert re.findall(r'<a href="([^"]+)"', drawing) == [
        "/memory?adapter=adapter-good",
        "/adapters/adapter-good#trained",
        "/adapters/adapter-good#trained",
        "/rounds/round-1/examples",
        "/rounds/round-1",
        "/adapters/adapter-good",
        "/comparisons/eval-1",
    ]
    assert 'href="/memory/rf-1"' in shown and 'href="/episodes/ep-1"' in shown
    assert 'href="/rounds/round-1#gate"' in shown


def test_how_it_is_used_elsewhere_can_be_copied(client: TestClient) -> None:
    shown = page(client, "/adapters/adapter-good")
    assert "vllm serve tiny" in shown and "AutoPeftModelForCausalLM" in shown and shown.count("data-copy=") == 3


def test_hostile_text_in_every_field_of_a_record_is_text(client: TestClient) -> None:
    for address in ("/adapters", "/adapters/adapter-odd", "/adapters/adapter-odder"):
        shown = page(client, address)
        assert "<script>alert" not in shown and "<img" not in shown, address
        assert "\x1b" not in shown and "\u202e" not in shown, address
        assert "&lt;script&gt;alert(1)" in shown, address
        assert not re.search(r"<[^>]*\sstyle=|<script>", shown), address
        page(client, f"{address}.json")


def test_an_unknown_adapter_is_answered_with_the_nearest(client: TestClient) -> None:
    assert "adapter-good" in page(client, "/adapters/adapter-goot", 404)


def test_nothing_is_promoted_before_its_whole_name_was_typed(
    client: TestClient, serving: Callable[[], str | None]
) -> None:
    for typed in ({}, {"name": ""}, {"name": "good"}, {"name": "adapter-bad"}):
        assert asked(client, "/adapters/adapter-good/promote", **typed) == 400
    assert client.post("/adapters/adapter-good/promote", data={"name": "adapter-good"}).status_code == 400
    assert serving() is None


def test_a_gate_that_said_no_or_was_not_there_needs_force(
    client: TestClient, serving: Callable[[], str | None]
) -> None:
    for name in ("adapter-bad", "adapter-new"):
        assert "also without a passed gate" in page(client, f"/adapters/{name}")
        assert asked(client, f"/adapters/{name}/promote", name=name) == 400
    assert "also without a passed gate" not in page(client, "/adapters/adapter-good")
    assert asked(client, "/adapters/adapter-nix/promote", name="adapter-nix") == 404
    assert serving() is None


def test_while_another_process_writes_nothing_is_changed_and_that_is_said(
    client: TestClient, lab: Path, serving: Callable[[], str | None]
) -> None:
    with Lab.open(lab, progress=False):
        found = client.post("/adapters/adapter-good/promote", data={"token": "t", "name": "adapter-good"})
        assert found.status_code == 503 and "is being written by process" in found.text
        assert page(client, "/adapters/adapter-good")
    assert serving() is None


def test_what_is_promoted_serves_and_is_rolled_back_by_its_name(
    client: TestClient, lab: Path, serving: Callable[[], str | None]
) -> None:
    assert asked(client, "/adapters/rollback", name="adapter-good") == 400, "nothing served before the base"
    found = client.post("/adapters/adapter-good/promote", data={"token": "t", "name": "adapter-good"})
    assert (found.status_code, serving()) == (303, "adapter-good")
    assert "adapter-good serves now" in page(client, found.headers["location"])
    assert 'data-testid="serves"' in page(client, "/adapters/adapter-good")
    assert asked(client, "/adapters/adapter-bad/promote", name="adapter-bad", force="yes") == 303
    with Lab.open(lab, write=False) as looking:
        assert (looking.serving(), looking.adapters.get("adapter-bad").forced) == ("adapter-bad", True)
    assert asked(client, "/adapters/rollback", name="adapter-good") == 400, "another one serves"
    assert serving() == "adapter-bad"
    found = client.post("/adapters/rollback", data={"token": "t", "name": "adapter-bad"})
    assert (found.status_code, serving()) == (303, "adapter-good")
    shown = page(client, "/adapters")
    assert shown.count("promoted</td>") == 2 and "rolled back" in shown
    assert "retired" in page(client, "/adapters/adapter-bad")
    assert "adapter-good" in page(client, "/") and 'data-testid="served"' in page(client, "/")
