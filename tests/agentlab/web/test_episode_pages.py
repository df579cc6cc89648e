from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from agentlab.lab import Lab
from agentlab.web.app import application
from agentlab.web.exporting import export
from agentlab.workspace.config import LabConfig
from memory.records import Episode, Evidence, Recall, Reflection, Step, Usage

HOSTILE = "</script><script>alert(1)</script>\" onload='x' \x1b[31m\u202e{{ 7777*3 }} '; DROP TABLE episodes --\nb"
HUGE = "x" * 1_000_000


def step(index: int, action: str, text: str = "A room.", **values: Any) -> Step:
    usual: dict[str, Any] = {"observation": text, "state": text, "result": text, "next_state": text}
    return Step(index=index, action=action, **{**usual, "admissible": [action, "wait"], **values})


def hostile_step(index: int) -> Step:
    more: dict[str, Any] = {"note": HOSTILE, "thought": HOSTILE, "scores": [-1.0, -2.0], "bonus": [0.5, 0.0], "cut": 7}
    return step(index, HOSTILE, HOSTILE, reward=-1.0, score=-1.0, **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab whose newest episode has hostile text in every field; with a sibling, recalls, and huge observations."""
    found: Path = tmp_path_factory.mktemp("pages") / "lab"
    with Lab.open(found, create=True, config=LabConfig(embedder="hashing")) as lab:
        texts = dict.fromkeys(("run", "arm", "engine", "goal", "hints"), HOSTILE)
        usual: dict[str, Any] = {"env": "toy/doors", "split": "train", "seed": 1}
        put = lab.database.episodes.put
        put(Episode(id="ep-huge", **{**usual, "seed": 2}, run="r", steps=[step(0, "look", HUGE), step(1, "go", HUGE)]))
        put(Episode(id="ep-other", trial=1, **usual, **texts, steps=[step(0, "look")], status="won", score=1.0))
        hostile = {"env": HOSTILE, "split": "train", "seed": 3, "error_kind": "engine", "adapter": HOSTILE}
        put(Episode(id="ep-env", **hostile, **texts, status="errored", error=HOSTILE, minimised_from=HOSTILE))
        put(
            Episode(
                id="ep-hostile", **usual, **texts, adapter=HOSTILE, status="lost", error=HOSTILE, error_kind="engine",
                relabelled_from=HOSTILE, steps=[step(0, "look"), hostile_step(1), step(2, "end")], temperature=1.0,
                usage=Usage(input_tokens=1234, output_tokens=5, cost=0.5),
            )
        )  # fmt: skip
        born: dict[str, Any] = {"env": "toy/doors", "task": "toy/doors:train:1", "run": HOSTILE, "text": HOSTILE}
        evidence = [Evidence(episode="ep-hostile", steps=[1])]
        lab.memory.remember([Reflection(id="r-1", kind="written", evidence=evidence, **born)])
        parts = {"bonus": 0.5, "command": 0, HOSTILE: 1.0}
        recall: dict[str, Any] = {"episode": "ep-hostile", "reflection": "r-1", "query": HOSTILE}
        recall |= {"rank": 0, "score": 1.0}
        lab.database.recalls.put([Recall(**recall)])
        for channel in ("advice", "tool"):
            lab.database.recalls.put([Recall(**recall, channel=channel, parts=parts, step=1)])  # type: ignore[arg-type]
    return found


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    made = application(folder)
    yield TestClient(made.asgi(), base_url="http://127.0.0.1", follow_redirects=False)
    for lab in made.labs:
        lab.close()


def page(client: TestClient, address: str, status: int = 200) -> str:
    answer = client.get(address)
    assert answer.status_code == status, answer.text
    return answer.text


def harmless(html: str) -> bool:
    """Nothing that was recorded is markup, drives a terminal, turns text around or was taken for a template."""
    # What a form sends back is as it was, whatever is in it; nobody sees it.
    free = re.sub(r'<script src="[^"<>]*" defer></script>|type="hidden" name="[a-z_]*" value="[^"]*"', "", html)
    return not any(sign in free for sign in ("<script", "\x1b", "\u202e", "23331", " onload='"))


PAGES = (
    "/episodes", "/episodes?form=all", "/episodes/ep-hostile", "/episodes/ep-hostile?step=1", "/episodes/ep-env",
    "/episodes/ep-hostile?whole=1", "/episodes/ep-hostile?beside=ep-other&step=1", "/episodes/ep-other?play=1",
)  # fmt: skip


@pytest.mark.parametrize("address", PAGES)
def test_hostile_text_in_every_field_is_shown_as_text(client: TestClient, address: str) -> None:
    html = page(client, address)
    assert "alert(1)" in html and harmless(html)


@pytest.mark.parametrize("name", ["env", "arm", "run", "goal", "adapter", "task"])
def test_an_address_may_ask_for_anything_and_finds_it_or_nothing(client: TestClient, name: str) -> None:
    answer = client.get("/episodes", params={name: HOSTILE})
    assert answer.status_code == 200 and harmless(answer.text)


@pytest.mark.parametrize("query", ["sort=worse", "form=x", "offset=-1", "offset=x", "offset=99999999999999"])
def test_an_address_that_makes_no_sense_is_told_in_a_line(client: TestClient, query: str) -> None:
    page(client, f"/episodes?{query}", 400)


def test_a_list_is_narrowed_by_links_and_its_twin_is_the_same(client: TestClient) -> None:
    assert 'data-testid="facet-status"' in page(client, "/episodes")
    lost = client.get("/episodes.json?status=lost").json()
    assert [row["id"] for row in lost["episodes"]] == ["ep-hostile"] and lost["total"] == 1
    assert "ep-hostile" not in page(client, "/episodes?status=won")


def test_a_step_has_its_commands_ranked_with_what_was_recalled_beside_it(client: TestClient) -> None:
    html = page(client, "/episodes/ep-hostile?step=1")
    for mark in (
        "commands",
        "chosen",
        "recalled",
        "born",
        "sibling",
        "slider",
        "first-loss",
        "first-difference",
        "previous",
        "next",
    ):
        assert f'data-testid="{mark}"' in html, mark
    assert 'data-key="ArrowLeft"' in html and 'data-key="ArrowRight"' in html
    assert 'data-testid="previous"' not in page(client, "/episodes/ep-hostile")
    assert 'data-testid="next"' not in page(client, "/episodes/ep-hostile?step=2")


def test_what_is_huge_is_cut_with_a_way_to_the_whole(client: TestClient) -> None:
    short = page(client, "/episodes/ep-huge")
    assert len(short) < 100_000 and "full=1" in short
    assert len(page(client, "/episodes/ep-huge?full=1")) > 2_000_000
    assert len(page(client, "/episodes/ep-huge?whole=1")) < 200_000


def test_two_that_are_ticked_stand_beside_each_other(client: TestClient) -> None:
    answer = client.get("/episodes/beside?episode=ep-hostile&episode=ep-other")
    assert answer.status_code == 303
    html = page(client, answer.headers["location"])
    assert html.count('data-testid="step"') == 2
    assert re.search(r'href="/episodes/ep-hostile\?beside=ep-other&amp;step=1" data-testid="differs"', html)
    page(client, "/episodes/beside?episode=ep-hostile", 400)
    page(client, "/episodes/beside", 400)


@pytest.mark.parametrize("address", ["/episodes/none", "/episodes/none.json", "/episodes/ep-hostile?beside=none"])
def test_an_episode_that_is_not_there_is_not_found(client: TestClient, address: str) -> None:
    page(client, address, 404)


def test_weights_of_the_middle_of_a_round_lead_to_that_round(browse: Callable[..., TestClient], tmp_path: Path) -> None:
    with Lab.open(tmp_path / "lab", create=True, config=LabConfig(embedder="hashing")) as lab:
        played: dict[str, Any] = {"env": "toy/doors", "split": "train", "run": "round-2-practice", "status": "won"}
        lab.database.episodes.put(Episode(id="ep-step", **played, seed=1, adapter="round-2-step-7"))
        lab.database.episodes.put(Episode(id="ep-adapter", **played, seed=2, adapter="adapter-x"))
    client = browse(tmp_path / "lab")
    for address in ("/episodes", "/episodes/ep-step"):
        text = page(client, address)
        assert 'href="/rounds/round-2"' in text and "/adapters/round-2" not in text
    assert 'href="/adapters/adapter-x"' in page(client, "/episodes/ep-adapter")


@pytest.mark.parametrize("weights", ["steering-abc@0.1", "0.7*adapter-x + 0.3*adapter-y"])
def test_what_is_no_adapter_by_itself_is_named_and_leads_nowhere(
    browse: Callable[..., TestClient], tmp_path: Path, weights: str
) -> None:
    with Lab.open(tmp_path / "lab", create=True, config=LabConfig(embedder="hashing")) as lab:
        lab.database.episodes.put(
            Episode(
                id="ep-1", env="toy/doors", split="train", seed=1, run="r", adapter=weights, steps=[step(0, "look")]
            )
        )
    client = browse(tmp_path / "lab")
    for address in ("/episodes", "/episodes/ep-1"):
        text = page(client, address)
        assert weights in text and 'href="/adapters/' not in text


def test_exported_replays_are_whole_and_lead_nowhere_where_nothing_is(folder: Path, tmp_path: Path) -> None:
    export(folder, tmp_path / "out")
    html = (tmp_path / "out" / "episodes" / "ep-hostile.html").read_text(encoding="utf-8")
    assert html.count('data-testid="step"') == 3 and harmless(html) and "<form" not in html.split("<dialog")[0]
    for place in (tmp_path / "out").rglob("*.html"):
        for target in re.findall(r'href="([^"#?]+)', place.read_text(encoding="utf-8")):
            assert target.startswith("http") or (place.parent / target).exists(), (place, target)


def test_an_empty_lab_says_what_fills_it(tmp_path: Path) -> None:
    with Lab.open(tmp_path / "lab", create=True, config=LabConfig(embedder="hashing")):
        pass
    made = application(tmp_path / "lab")
    client = TestClient(made.asgi(), base_url="http://127.0.0.1")
    assert "agentlab run" in page(client, "/episodes")
    assert "agentlab eval" in page(client, "/comparisons")
    made.labs[0].close()
