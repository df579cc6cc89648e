"""The pages of the memory: what they show, and the changes that their forms make."""

from __future__ import annotations

import contextlib
import gc
import json
import re
import shutil
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from agentlab.lab import Lab
from agentlab.views.memories import Asked, memories
from agentlab.web.app import application
from agentlab.web.exporting import export
from agentlab.web.looking import Looking
from agentlab.web.safety import Access
from agentlab.workspace import asking, folding
from agentlab.workspace.config import LabConfig, write_config
from memory.records import Advice, Episode, Link, Recall, Reflection, Step
from memory.store import Mending

HOSTILE = (
    "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)> \u202egnp.exe\x1b[31m{{ 7*7 }} %2e; DROP TABLE"
)
"""Markup, a template, a right-to-left mark, a terminal code and SQL, in one text."""

SECRET = "The silver key opens the cellar behind the oven."


def reflection(id: str, text: str = "Coins are found in the kitchen.", **values: object) -> Reflection:
    usual = {
        "kind": "grounded",
        "env": "toy/doors",
        "task": "toy/doors:train:1",
        "created_at": "2026-05-01T10:00:00+00:00",
    }
    return Reflection.model_validate({"id": id, "text": text, **usual, **values})


def recalls(id: str, *results: tuple[bool, bool], env: str = "toy/doors") -> list[Recall]:
    """Recalls of which a lot decided, as (held out, won)."""
    return [
        Recall(
            episode=f"e-{id}-{env[-1]}-{n}", reflection=id, rank=0, query="Where?", score=1, env=env, held_out=held_out,
            won=won, propensity=0.5,
        )
        for n, (held_out, won) in enumerate(results)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("screens") / "lab"
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing"), progress=False) as lab:
        lab.memory.remember(
            [
                reflection("r-helps", "Read the note before any door.", tags=["place"]),
                reflection("r-hurts", SECRET, kind="written", env="toy/other"),
                reflection("r-again-1"),
                reflection("r-again-2", task="toy/doors:train:2"),
                reflection(
                    "r-odd", HOSTILE, kind=HOSTILE, env=HOSTILE, task=HOSTILE, goal=HOSTILE, tags=[HOSTILE],
                    run=HOSTILE, source=HOSTILE, topic=HOSTILE, context=HOSTILE, derived_from=[HOSTILE],
                    evidence=[{"episode": HOSTILE, "steps": [0]}],
                    advice=[Advice(state=HOSTILE, action=HOSTILE, value=1.0)],
                ),
            ]
        )  # fmt: skip
        step = Step(
            index=0, observation="A door.", state="s", admissible=["go"], action="go", result="Gone.", next_state="t"
        )
        lab.database.episodes.put(
            Episode(
                id="e-told", run="r", env="toy/other", split="train", seed=1, status="won", hints=f"- {SECRET}",
                recalled=["r-hurts"], steps=[step], token_ids=[1, 2], action_spans=[(0, 1)],
            )
        )  # fmt: skip
        lab.database.recalls.put(
            [
                *recalls("r-helps", *[(False, True)] * 30, *[(True, False)] * 30),
                *recalls("r-hurts", *[(False, False)] * 30, *[(True, True)] * 30),
                *recalls("r-hurts", (False, True), (True, True), env="toy/other"),
                Recall(episode="e-told", reflection="r-hurts", rank=0, query="q", score=1, won=True, env="toy/other"),
            ]
        )
        lab.database.links.put([Link(source="r-helps", target="r-odd", kind=HOSTILE, weight=0.5)])
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "lab"))


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    app = application(folder, Access(token="t"))
    yield TestClient(app.asgi(), base_url="http://127.0.0.1", follow_redirects=True)
    for lab in app.labs:
        lab.close()


def page(client: TestClient, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    return answer.text


def rows(client: TestClient, query: str = "") -> list[str]:
    return [row["id"] for row in client.get(f"/memory.json{query}").json()["rows"]]


def send(client: TestClient, address: str, **fields: object) -> str:
    answer = client.post(address, data={"token": "t", "reason": "it misleads", **fields})
    assert answer.status_code == 200, answer.text
    return answer.text


def statuses(folder: Path) -> dict[str, str]:
    with Lab.open(folder, write=False, progress=False) as lab:
        return {item.id: item.status for item in lab.database.reflections.find()}


def test_the_list_shows_each_uplift_with_its_interval_and_what_it_rests_on(client: TestClient) -> None:
    text = page(client, "/memory?sort=uplift")
    row = client.get("/memory.json?sort=uplift").json()["rows"][0]
    assert row["id"] == "r-helps" and row["uplift"]["low"] > 0
    assert f"+{row['uplift']['mean']:.2f}" in text and "30+30" in text and "<svg" in text
    assert "not measured" in text


def test_it_is_sorted_by_what_helped_and_by_what_harmed(client: TestClient) -> None:
    assert rows(client, "?sort=uplift")[:2] == ["r-helps", "r-hurts"]
    assert rows(client, "?sort=harm")[:2] == ["r-hurts", "r-helps"]
    assert rows(client, "?sort=recalled")[0] == "r-hurts"


def test_repeats_stand_under_the_one_that_they_repeat(client: TestClient) -> None:
    assert "r-again-2" not in rows(client)
    assert 'data-testid="repeats-r-again-1" class="whole">1 repeat</a>' in page(client, "/memory")
    assert rows(client, "?of=r-again-1") == rows(client, "?status=repeated") == ["r-again-2"]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("?env=toy/other", {"r-hurts"}),
        ("?kind=written", {"r-hurts"}),
        ("?tag=place", {"r-helps"}),
        ("?search=silver+key", {"r-hurts"}),
        ("?search=silver+key&by=meaning&kind=written", {"r-hurts"}),
        ("?after=2026-06-01", set()),
        ("?source=-", {"r-helps", "r-hurts", "r-again-1"}),
        (f"?source={quote(HOSTILE[:60])}", set()),
        ("?pinned=yes", set()),
    ],
)
def test_it_is_narrowed_by_the_address(client: TestClient, query: str, ids: set[str]) -> None:
    assert set(rows(client, query)) == ids
    page(client, f"/memory{query}")


def on_probation(client: TestClient, query: str = "") -> int:
    """How many the page says are on probation."""
    (told,) = re.findall(
        r'data-testid="on-probation">on probation</a> <span class="quiet">(\d+)<', page(client, f"/memory{query}")
    )
    return int(told)


def test_it_is_narrowed_to_what_is_on_probation(client: TestClient, folder: Path) -> None:
    before = on_probation(client)
    theirs = {f"r-theirs-{n}" for n in range(3)}
    with Lab.open(folder, progress=False) as lab:
        for id in theirs:
            lab.database.reflections.put(reflection(id, source="import:notes.jsonl", text=f"The {id} door."))
    assert on_probation(client) == before + 3 == len(rows(client, "?probation=yes"))
    assert set(rows(client, "?probation=yes&source=import:notes.jsonl")) == theirs
    assert on_probation(client, "?source=import:notes.jsonl") == 3
    assert not rows(client, "?probation=yes&source=-") and 'data-testid="on-probation"' not in page(
        client, "/memory?source=-"
    )
    with Lab.open(folder, progress=False) as lab:
        Mending(lab.database).apply("vouch", ["r-theirs-1"])
    assert set(rows(client, "?probation=yes&source=import:notes.jsonl")) == theirs - {"r-theirs-1"}
    assert on_probation(client) == before + 2
    assert client.get("/memory?probation=perhaps").status_code == 400


def test_another_namespace_is_looked_into_when_it_is_asked_for(client: TestClient, folder: Path) -> None:
    with Lab.open(folder, progress=False) as lab:
        lab.database.reflections.put(reflection("r-theirs", namespace="theirs"))
    assert "r-theirs" not in rows(client) and rows(client, "?namespace=theirs") == ["r-theirs"]
    assert "theirs</a>" in page(client, "/memory") and "r-helps" in rows(client, "?namespace=-")
    send(client, "/memory/r-theirs/mend", verb="bench")
    assert statuses(folder)["r-theirs"] == "benched"
    assert client.get("/memory?namespace=theirs&search=coins&by=meaning").status_code == 400


def test_what_reached_into_another_namespace_is_not_taken_back_unasked(client: TestClient, folder: Path) -> None:
    with Lab.open(folder, progress=False) as lab:
        lab.database.reflections.put(reflection("r-theirs", namespace="theirs"))
        both = Mending(lab.database).apply("bench", ["r-helps", "r-theirs"]).operation
    answer = client.post(f"/changes/{both}/undo", data={"token": "t"})
    assert answer.status_code == 400 and statuses(folder)["r-theirs"] == "benched"
    # What was done in another one alone is listed, and taken back, where that one is asked for.
    text = send(client, "/memory/r-theirs/mend", verb="pin")
    theirs = [one["id"] for one in client.get("/changes.json?namespace=theirs").json()["operations"]]
    ours = [one["id"] for one in client.get("/changes.json").json()["operations"]]
    assert theirs == [theirs[0], both] and ours == [both] and 'name="namespace" value="theirs"' in text
    assert client.get(f"/changes/{theirs[0]}").status_code == 400
    assert theirs[0] in page(client, f"/changes/{theirs[0]}?namespace=theirs")
    assert client.post(f"/changes/{theirs[0]}/undo", data={"token": "t"}).status_code == 400
    send(client, f"/changes/{theirs[0]}/undo", namespace="theirs")
    with Lab.open(folder, write=False, progress=False) as lab:
        assert not lab.database.reflections.get("r-theirs").pinned


def test_facets_count_what_another_choice_would_show(client: TestClient) -> None:
    facets = client.get("/memory.json?kind=written").json()["facets"]
    assert facets["kind"]["grounded"] == 2 and facets["env"] == {"toy/other": 1}


@pytest.mark.parametrize("by", ["words", "meaning"])
def test_facets_of_a_search_count_its_hits_that_another_choice_would_show(client: TestClient, by: str) -> None:
    def facets(more: str) -> dict[str, dict[str, int]]:
        return dict(client.get(f"/memory.json?search=silver+key+note&by={by}{more}").json()["facets"])

    open = facets("")
    assert open["env"]["toy/other"] == 1 and open["env"]["toy/doors"] >= 1
    assert facets("&env=toy/other")["env"] == open["env"]
    assert facets("&status=benched")["status"] == open["status"]


def test_what_names_no_environment_is_found_under_its_facet(client: TestClient, folder: Path) -> None:
    with Lab.open(folder, progress=False) as lab:
        lab.database.reflections.put(reflection("r-note", "Doors creak.", env="", task="", source="a colleague"))
    text = page(client, "/memory")
    (address,) = re.findall(r'<a href="([^"]*)">no environment</a>', text)
    assert rows(client, address.replace("/memory", "")) == ["r-note"] and text.count(">the agent</a>") == 1
    assert "<b" in page(client, address).partition("no environment</b>")[0]


def test_what_repeats_is_counted_among_the_hits_of_a_search(client: TestClient) -> None:
    found = client.get("/memory.json?search=kitchen").json()
    assert (found["total"], found["among"], found["facets"]["status"]) == (1, None, {"active": 1, "repeated": 1})


def test_a_search_that_may_have_more_hits_says_so(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentlab.views.memories.MOST_HITS", 1)
    assert client.get("/memory.json?search=note").json()["among"] == 1
    monkeypatch.setattr("agentlab.views.memories.PAGE", 1)
    assert client.get("/memory.json?search=note&by=meaning").json()["among"] == 1


def test_the_form_of_a_search_asks_for_the_best_fit_unless_another_order_is_chosen(client: TestClient) -> None:
    for address in ("/memory", "/memory?search=note"):
        options = re.findall(r'<option value="(\w*)" ?(selected)?', page(client, address).partition('name="sort"')[2])
        assert options[0] == ("", "") and not [chosen for _, chosen in options[:6] if chosen]


@pytest.mark.parametrize("query", ["?status=gone", "?offset=-1", "?sort=size", "?after=sometime", "?adapter=nobody"])
def test_an_address_that_makes_no_sense_is_told_in_a_line(client: TestClient, query: str) -> None:
    answer = client.get(f"/memory{query}")
    assert answer.status_code in (400, 404) and 'data-testid="failed"' in answer.text


def test_what_was_ticked_is_changed_in_one_operation_that_a_click_takes_back(client: TestClient, folder: Path) -> None:
    before = statuses(folder)
    text = send(client, "/memory/mend", verb="bench", id=["r-helps", "r-hurts"], back="?env=toy/doors")
    assert "2 reflections" in text and "Written after" in text
    assert [statuses(folder)[id] for id in ("r-helps", "r-hurts")] == ["benched", "benched"]
    (undo,) = re.findall(r'action="(/changes/op-[0-9a-f]+/undo)"', text)
    assert "it misleads" in page(client, "/changes")
    send(client, undo)
    assert statuses(folder) == before


def test_what_a_form_asks_for_while_another_process_writes_is_done_by_it_or_noted(
    client: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "APART", 0.01)
    with Lab.open(folder, progress=False):
        text = send(client, "/memory/mend", verb="bench", id=["r-helps", "r-hurts"], back="")
        assert "Benched 2 reflections." in text and statuses(folder)["r-helps"] == "benched"
        (undo,) = re.findall(r'action="(/changes/op-[0-9a-f]+/undo)"', text)
        assert "by screen" in page(client, "/changes")
        refused = client.post("/memory/r-none/mend", data={"token": "t", "reason": "x", "verb": "pin"})
        assert refused.status_code == 404 and "No reflection has the id" in refused.text
        assert "Undid op-" in send(client, undo) and statuses(folder)["r-helps"] == "active"
    monkeypatch.setattr(folding, "APART", 1000.0)
    monkeypatch.setattr(asking, "PATIENCE", 0.0)
    with Lab.open(folder, progress=False):
        text = send(client, "/memory/r-helps/edit", text="Read it twice.")
        assert "Noted as " in text and "as soon as it gets to it" in text and "undo-last" not in text
        assert "Read it twice." not in page(client, "/memory/r-helps")
        assert 'data-testid="left"' in page(client, "/changes") and "1 small change waits" in page(client, "/changes")
    assert "Read it twice." in page(client, "/memory/r-helps")
    assert 'data-testid="left"' not in page(client, "/changes")


def test_nothing_is_changed_without_a_reason_a_tick_or_the_token(client: TestClient, folder: Path) -> None:
    before = statuses(folder)
    for fields in ({"reason": "", "id": "r-helps"}, {"id": ""}, {"token": "other", "id": "r-helps"}):
        answer = client.post("/memory/mend", data={"token": "t", "reason": "x", "verb": "forget", **fields})
        assert answer.status_code == 400
    assert statuses(folder) == before


def test_the_item_has_its_versions_as_a_diff_with_reasons(client: TestClient) -> None:
    send(client, "/memory/r-helps/edit", text="Read the map before any door.")
    text = page(client, "/memory/r-helps")
    assert "<del>note </del><ins>map </ins>" in text and "it misleads" in text
    send(client, "/memory/r-helps/mend", verb="pin")
    assert "<b>pinned</b>" in page(client, "/memory/r-helps")


def test_who_edits_a_text_that_somebody_else_has_edited_meanwhile_is_told_and_takes_nothing_away(
    client: TestClient,
) -> None:
    (seen,) = re.findall(r'name="seen" value="([^"]+)"', page(client, "/memory/r-helps"))
    send(client, "/memory/r-helps/edit", text="Read the map before any door.", seen=seen)
    late = {"token": "t", "reason": "so", "text": "Read it at night.", "seen": seen}
    refused = client.post("/memory/r-helps/edit", data=late)
    assert refused.status_code == 400 and "meanwhile" in refused.text
    text = page(client, "/memory/r-helps")
    assert "Read the map before any door." in text and "at night" not in text
    (seen,) = re.findall(r'name="seen" value="([^"]+)"', text)
    send(client, "/memory/r-helps/edit", text="Read it at night.", seen=seen)
    assert "at night" in page(client, "/memory/r-helps")


def test_what_was_counted_with_another_one_comes_back_so_unless_it_is_taken_out_of_the_count(
    client: TestClient, folder: Path
) -> None:
    verbs = re.findall(r'<option value="(\w+)"', page(client, "/memory/r-again-2").partition('name="verb"')[2])
    assert verbs[:3] == ["forget", "restore", "pin"]
    for verb in ("bench", "restore"):
        send(client, "/memory/r-again-2/mend", verb=verb)
    assert statuses(folder)["r-again-2"] == "repeated" and "r-again-2" not in rows(client)
    assert "counted with <a" in page(client, "/memory/r-again-2")
    for verb in ("restore", "bench", "restore"):
        send(client, "/memory/r-again-2/mend", verb=verb)
    assert statuses(folder)["r-again-2"] == "active" and "counted with <a" not in page(client, "/memory/r-again-2")
    assert {row["id"]: row["repeats"] for row in client.get("/memory.json").json()["rows"]}["r-again-1"] == 0


def test_a_pinned_one_is_not_forgotten_and_the_page_says_why(client: TestClient, folder: Path) -> None:
    send(client, "/memory/r-helps/mend", verb="pin")
    answer = client.post("/memory/r-helps/mend", data={"token": "t", "verb": "forget", "reason": "x"})
    assert answer.status_code == 400 and "pinned" in answer.text
    assert statuses(folder)["r-helps"] == "active"


def test_the_item_shows_uplift_in_each_environment_and_every_recall(client: TestClient) -> None:
    item = client.get("/memory/r-hurts.json").json()
    assert [(one["env"], one["uplift"]["held_out"]) for one in item["effects"]] == [("toy/doors", 30), ("toy/other", 1)]
    assert item["total"] == 63 and len(item["recalls"]) == 50
    assert len(client.get("/memory/r-hurts.json?offset=50").json()["recalls"]) == 13
    assert "1/2" in page(client, "/memory/r-hurts") or "0/30" in page(client, "/memory/r-hurts")


def test_why_it_would_be_recalled_has_the_ranks_of_both_searches_and_the_credit(client: TestClient) -> None:
    why = client.get("/memory/r-helps.json?why=note+door").json()["why"]
    first = why["chosen"][0]
    assert first["id"] == "r-helps" and first["bm25_rank"] == 1 and first["use"] > 0
    assert "<mark>Read the note" in page(client, "/memory/r-helps?why=note+door")
    assert "not-chosen" in page(client, "/memory/r-hurts?why=note+door&env=toy/doors")


def test_two_moments_are_compared(client: TestClient) -> None:
    send(client, "/memory/r-helps/mend", verb="forget")
    found = client.get("/changes.json?from=1h").json()["moments"]["changes"]
    assert ("r-helps", "added") in [(one["id"], one["kind"]) for one in found]
    assert "added" in page(client, "/changes?from=1h")
    assert client.get("/changes?from=never").status_code == 400


def test_an_operation_on_which_later_changes_stand_is_refused_in_a_line(client: TestClient) -> None:
    first = send(client, "/memory/r-helps/mend", verb="bench")
    (undo,) = re.findall(r'action="(/changes/op-[0-9a-f]+/undo)"', first)[:1]
    send(client, "/memory/r-helps/mend", verb="forget")
    answer = client.post(undo, data={"token": "t"})
    assert answer.status_code == 400 and "undo that one first" in answer.text


def test_hostile_text_in_every_field_is_text(client: TestClient) -> None:
    send(client, "/memory/r-odd/edit", text=HOSTILE + " more", reason=HOSTILE[:280])
    for address in (
        "/memory",
        "/memory/r-odd",
        "/memory/r-helps",
        "/changes",
        "/changes?from=1d",
        "/memory/r-odd?why=x",
    ):
        text = page(client, address)
        assert not [mark for mark in ("<script>alert", "<img src=x", "\x1b", "\u202e") if mark in text], address
        assert "{{ 7*7 }}" in text or address == "/memory/r-helps"
    assert "&lt;script&gt;alert(1)" in page(client, "/memory/r-odd")
    assert page(client, f"/memory?search={quote(HOSTILE)}&tag={quote(HOSTILE)}")


def test_a_purge_needs_the_id_typed_and_leaves_the_text_nowhere(client: TestClient, folder: Path) -> None:
    (folder / "lab.version-1.db").write_bytes(SECRET.encode())
    assert "cannot be undone" in page(client, "/memory/r-hurts?purge=ask")
    refused = client.post("/memory/r-hurts/purge", data={"token": "t", "reason": "x", "name": "r-hurt"})
    assert refused.status_code == 400 and "r-hurts" in statuses(folder)
    text = send(client, "/memory/r-hurts/purge", name="r-hurts")
    assert "Purged r-hurts" in text and client.get("/memory/r-hurts").status_code == 404
    found = [path.name for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert found == []
    with Lab.open(folder, write=False, progress=False) as lab:
        for (table,) in lab.database.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
            for row in lab.database.connection.execute(f"SELECT * FROM {table}"):
                for value in row:
                    assert SECRET not in _readable(value), table
        assert lab.database.episodes.get("e-told").hints
    assert page(client, "/changes").count("purged") >= 1


def test_all_that_a_purge_leaves_to_do_is_told(client: TestClient, folder: Path) -> None:
    for n in range(40):
        (folder / f"copy-of-my-own-notes-{n}.txt").write_text(SECRET)
    text = send(client, "/memory/r-hurts/purge", name="r-hurts")
    assert [n for n in range(40) if f"copy-of-my-own-notes-{n}.txt" not in text] == []


def test_a_lab_that_was_opened_anew_leaves_nothing_of_itself_behind(folder: Path) -> None:
    looking = Looking(folder)
    old = weakref.ref(looking.workspace.database)
    for asked in (Asked(), Asked(sort="uplift"), Asked(search="note")):
        assert memories(looking.workspace, asked).total
    write_config(folder / "lab.toml", looking.workspace.config)
    assert memories(looking.workspace, Asked(sort="uplift")).total
    gc.collect()
    assert old() is None
    looking.close()


def test_as_files_it_can_be_read_and_not_changed(folder: Path, tmp_path: Path) -> None:
    export(folder, tmp_path / "pages")
    listed = (tmp_path / "pages" / "memory.html").read_text()
    item = (tmp_path / "pages" / "memory" / "r-helps.html").read_text()
    assert "memory/r-helps.html" in listed and "Read the note" in item
    assert 'method="post"' not in listed + item + (tmp_path / "pages" / "changes.html").read_text()


def _readable(value: object) -> str:
    if isinstance(value, bytes):
        with contextlib.suppress(zlib.error):
            value = zlib.decompress(value)
        return value.decode("utf-8", "replace")
    return json.dumps(value, ensure_ascii=False)
