from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from agentlab.agent.rollout import TaskResult, Trial
from agentlab.experiments.evaluation import Table, row
from agentlab.lab import Lab
from agentlab.web.app import application
from agentlab.workspace.config import LabConfig
from environments import Task
from memory.records import Episode

HOSTILE = "</script><script>alert(1)</script>\"' onload=x {{ 7*7 }}; DROP TABLE episodes"
ODD = "50%? better#2 ü"
ARMS = {"base": "10e", HOSTILE: "011", "base + memory": "111"}


def lab_at(folder: Path) -> Path:
    """A lab with a hostile evaluation, whose name, environment and arms are markup, and an empty record."""
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing")) as lab:
        rows = []
        for arm, marks in ARMS.items():
            results = []
            for seed, mark in enumerate(marks):
                status: Any = {"1": "won", "0": "lost", "e": "errored"}[mark]
                task = Task(env=HOSTILE, split="test", seed=seed)
                results.append(TaskResult(task, arm, (Trial("x", status, 1.0, 1),)))
                id = f"ep-{list(ARMS).index(arm)}-{seed}"
                lab.database.episodes.put(
                    Episode(id=id, run="mine", env=HOSTILE, split="test", seed=seed, arm=arm, status=status)
                )
            rows.append(row(arm, results))
        about = {"name": HOSTILE, "date": HOSTILE, "split": HOSTILE, "model": HOSTILE, "runs": {"base": "mine"}}
        table = Table(envs=[HOSTILE, "toy/none"], rows=rows, about=about).compare_with_base()
        for name in (HOSTILE, "a/b", ODD, "x.json", "x.md", "x.csv"):
            lab.database.evaluations.put(name, table.model_dump(mode="json"))
        lab.database.evaluations.put("nothing yet", {})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lab_at(tmp_path_factory.mktemp("comparisons") / "lab")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    made = application(folder)
    yield TestClient(made.asgi(), base_url="http://127.0.0.1")
    made.labs[0].close()


def page(client: TestClient, address: str, status: int = 200, **query: str) -> str:
    answer = client.get(address, params=query)
    assert answer.status_code == status, answer.text
    assert "<script>alert" not in answer.text or answer.headers["content-type"].startswith(
        ("application/json", "text/plain")
    )
    return answer.text


ONE = f"/comparisons/{quote(HOSTILE, safe='')}"


def test_every_evaluation_is_listed_and_its_link_leads_to_it(client: TestClient) -> None:
    html = page(client, "/comparisons")
    assert f'href="{ONE}"'.replace("'", "%27") in html and 'href="/comparisons/a%2Fb"' in html
    assert "nothing yet" not in html
    for address in (ONE, "/comparisons/a%2Fb", "/comparisons/a/b"):
        assert 'data-testid="arms"' in page(client, address)


def test_a_pair_leads_to_the_games_won_alone_and_these_to_both_replays(client: TestClient) -> None:
    html = page(client, ONE, arm=HOSTILE, against="base", only=HOSTILE)
    assert html.count('data-testid="side-by-side"') == 1
    assert 'href="/episodes/ep-1-1?beside=ep-0-1"' in html
    assert "ep-0-0" not in html


def test_a_cell_leads_to_its_games(client: TestClient) -> None:
    html = page(client, ONE, arm="base", env=HOSTILE)
    assert all(f"/episodes/ep-0-{seed}" in html for seed in range(3))
    assert 'data-testid="cell"' in html and "errored" in html


def test_both_ps_are_named(client: TestClient) -> None:
    html = page(client, ONE)
    assert "p (McNemar)" in html and "p (Holm)" in html


def test_a_comparison_is_there_as_data_and_as_text(client: TestClient) -> None:
    found = client.get("/comparisons/a/b.json").json()
    assert [line["arm"] for line in found["arms"]] == list(ARMS) and found["pairs"][0]["p_holm"] <= 1
    for ending in ("md", "csv"):
        answer = client.get(f"/comparisons/a/b.{ending}")
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
        assert answer.headers["x-content-type-options"] == "nosniff"


def twin(html: str) -> str:
    """Where the page says that it is as data."""
    return unescape(re.findall(r'href="([^"]*)" data-testid="json"', html)[0])


def test_a_page_leads_to_the_data_of_exactly_what_it_shows(client: TestClient, tmp_path: Path) -> None:
    address = twin(page(client, f"/comparisons/{quote(ODD, safe='')}", arm="base", env=HOSTILE, done="Done."))
    found = client.get(address)
    assert (found.json()["name"], found.json()["total"]) == (ODD, 3) and "done" not in address
    assert twin(client.get("/episodes?status=lost&offset=0").text) == "/episodes.json?status=lost&offset=0"
    for name in ("one", "two"):
        lab_at(tmp_path / name)
    made = application(tmp_path)
    several = TestClient(made.asgi(), base_url="http://127.0.0.1")
    assert several.get(twin(several.get("/compare?lab=two").text)).json()["chosen"] == ["two"]
    assert several.get(twin(several.get("/labs/two/comparisons/x.md?arm=base").text)).json()["name"] == "x.md"
    for lab in made.labs:
        lab.close()


@pytest.mark.parametrize("name", ["x.json", "x.md", "x.csv"])
def test_an_evaluation_whose_name_ends_as_other_forms_of_a_page_do_has_its_page(client: TestClient, name: str) -> None:
    html = page(client, f"/comparisons/{name}")
    assert 'data-testid="arms"' in html and client.get(twin(html)).json()["name"] == name


@pytest.mark.parametrize("ending", ["", ".json", ".md", ".csv"])
def test_an_evaluation_that_is_not_there_is_not_found(client: TestClient, ending: str) -> None:
    page(client, f"/comparisons/none{ending}", 404)
    page(client, f"/comparisons/nothing yet{ending}", 404)


def test_an_arm_that_is_not_there_is_not_found(client: TestClient) -> None:
    page(client, ONE, 404, arm="none", against="base")


def test_several_labs_stand_beside_each_other_and_a_broken_one_hides_none(folder: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        lab_at(tmp_path / name)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "lab.toml").write_text("=", encoding="utf-8")
    for name, where in (("damaged", 0), ("torn", 4096)):
        with (lab_at(tmp_path / name) / "lab.db").open("r+b") as file:
            file.seek(where)
            file.write(b"\xff" * 200_000)
    with sqlite3.connect(lab_at(tmp_path / "foreign") / "lab.db") as connection:
        connection.execute("ALTER TABLE evaluations RENAME COLUMN payload TO other")
    made = application(tmp_path)
    client = TestClient(made.asgi(), base_url="http://127.0.0.1")
    assert 'href="/compare"' in page(client, "/")
    found = client.get("/compare.json").json()
    assert {one["lab"] for one in found["arms"]} == {"one", "two"}
    html = page(client, "/compare", lab="one", against=found["arms"][0]["key"])
    assert "p (Holm)" in html and 'href="/labs/one/comparisons/a%2Fb"' in html
    assert "/labs/two/comparisons" not in html
    for lab in made.labs:
        lab.close()


def test_one_lab_alone_has_nothing_beside_it(client: TestClient) -> None:
    page(client, "/compare", 404)
