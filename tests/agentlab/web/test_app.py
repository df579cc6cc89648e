"""Pages of labs that are empty, appear later, are replaced, of an earlier version or being written; reading alone."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import threading
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import NotALab
from agentlab.lab import Lab
from agentlab.web import app as web
from agentlab.web.app import application
from agentlab.web.asked import Asked, BadAddress
from agentlab.web.page import Action, Done
from agentlab.web.pages import PAGES, TABS
from agentlab.workspace.config import LabConfig
from memory.store import schema

CONFIG = LabConfig(embedder="hashing", threads=1)
LISTS = [path for _, path in TABS]


def play(folder: Path, seeds: int = 1, name: str = "first") -> None:
    engine = ScriptedEngine(lambda *_: 0.0)
    with Lab.open(folder, create=True, config=CONFIG, engine=engine, progress=False) as lab:
        lab.run("toy/doors", seeds=range(seeds), trials=1, arm="random", name=name)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A lab with settings, in which nothing was played."""
    with Lab.open(tmp_path / "lab", create=True, config=CONFIG, engine=ScriptedEngine(lambda *_: 0.0), progress=False):
        pass
    return tmp_path / "lab"


def episodes(client: TestClient, root: str = "") -> int:
    found: int = client.get(f"{root}/index.json").json()["took"]["episodes"]
    return found


def twin(path: str) -> str:
    return "/index.json" if path == "/" else f"{path}.json"


@pytest.mark.parametrize("path", LISTS)
def test_every_page_and_its_twin_answer_for_a_lab_and_for_an_empty_one(
    path: str, browse: Any, small_lab: Path, empty: Path
) -> None:
    for folder in (small_lab, empty):
        client = browse(folder)
        page, data = client.get(path), client.get(twin(path))
        assert page.status_code == 200 and "<h1" in page.text and page.text.rstrip().endswith("</html>")
        assert data.status_code == 200 and isinstance(data.json(), dict)


@pytest.mark.parametrize("path", [page.path for page in PAGES if page.path not in LISTS])
def test_a_page_of_what_is_not_there_is_a_line_and_404(path: str, browse: Any, small_lab: Path, empty: Path) -> None:
    for folder in (small_lab, empty):
        client = browse(folder)
        for id in ("nothing", "%00", "..%5c", "%3Cscript%3E", "a" * 1000, "%25", "'%20OR%201=1", "%F0%9F%98%80"):
            at = re.sub(r"\{[\w:]+\}", id, path)
            answer = client.get(at)
            assert answer.status_code in (400, 404), at
            assert "<script>" not in answer.text
            assert client.get(twin(at)).status_code in (400, 404)


def test_a_lab_that_is_played_in_later_is_seen_then(browse: Any, empty: Path) -> None:
    client = browse(empty)
    assert episodes(client) == 0
    play(empty)
    assert episodes(client) == 1
    play(empty, 3)
    assert episodes(client) == 3


def test_a_lab_whose_file_is_replaced_is_read_anew(browse: Any, empty: Path, small_lab: Path) -> None:
    play(empty)
    client = browse(empty)
    assert episodes(client) == 1
    copy = empty / "copy"
    shutil.copyfile(small_lab / "lab.db", copy)
    copy.replace(empty / "lab.db")
    assert episodes(client) == episodes(browse(small_lab)) > 1


def test_a_lab_that_is_deleted_while_it_is_looked_at_is_a_line_and_seen_when_it_is_back(
    browse: Any, empty: Path, tmp_path: Path
) -> None:
    play(empty)
    client = browse(empty)
    assert episodes(client) == 1
    empty.rename(tmp_path / "away")
    for path in LISTS:
        answer = client.get(path)
        assert 400 <= answer.status_code < 500 and "Traceback" not in answer.text
        assert "error" in client.get(twin(path)).json()
    (tmp_path / "away").rename(empty)
    assert episodes(client) == 1


def test_a_lab_that_is_closed_while_a_page_is_made_is_read_once_more(
    show: Any, browse: Any, small_lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = application(small_lab)
    client = TestClient(made.asgi(), base_url="http://127.0.0.1")
    before = episodes(client)
    made.labs[0].workspace.close()  # as another thread does that saw another file in its place
    real = type(made.labs[0]).workspace.fget
    assert real is not None
    monkeypatch.setattr(type(made.labs[0]), "_changed", lambda *_: made.labs[0]._opened._closed)
    assert episodes(client) == before
    made.labs[0].close()


def test_a_lab_of_an_earlier_version_is_read_and_followed_and_stays_as_it_is(
    browse: Any, tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:-1])
        before.setattr(schema, "VERSION", schema.VERSION - 1)
        with Lab.open(empty, engine=ScriptedEngine(lambda *_: 0.0), progress=False) as lab:
            assert lab.database.connection.execute("PRAGMA user_version")[0][0] == schema.VERSION
    was = (empty / "lab.db").read_bytes()
    client = browse(empty)
    assert episodes(client) == 0
    assert (empty / "lab.db").read_bytes() == was
    play(empty)  # which brings it up to date in its place
    assert episodes(client) == 1


def test_a_folder_of_labs_lists_them_also_one_that_is_broken(browse: Any, tmp_path: Path, small_lab: Path) -> None:
    folder = tmp_path / "labs"
    for name in ("one", "two {x} #?%", "broken", "torn"):
        shutil.copytree(small_lab, folder / name)
    (folder / "broken" / "lab.toml").write_text("this is no TOML")
    (folder / "torn" / "lab.db").write_bytes(b"SQLite format 3\x00" + bytes(500))
    client = browse(folder)
    listed = client.get("/")
    assert listed.status_code == 200
    labs = {lab["name"]: lab for lab in client.get("/index.json").json()["labs"]}
    assert set(labs) == {"one", "two-x-", "broken", "torn"}
    assert labs["broken"]["problem"] and labs["torn"]["problem"] and not labs["one"]["problem"]
    assert episodes(client, "/labs/one") == episodes(client, "/labs/two-x-") == episodes(browse(small_lab))
    for name in ("broken", "torn"):
        answer = client.get(f"/labs/{name}/")
        assert 400 <= answer.status_code < 500 and "Traceback" not in answer.text
    assert client.get("/labs/nothing/").status_code == 404


def test_where_no_lab_is_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(NotALab) as refused:
            application(folder)
        assert "--lab" in str(refused.value) and "\n" not in str(refused.value)


def test_a_lab_that_is_being_written_is_refused_for_changes_in_a_line_and_loses_nothing(
    show: Any, post: Any, ask: Any, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mark(lab: Lab, asked: Asked) -> Done:
        lab.database.settings.put("marked", "yes")
        return Done("Marked.", "/")

    monkeypatch.setattr(web, "ACTIONS", (Action("/mark", mark),))
    app, sent = show(empty), {"origin": "http://127.0.0.1"}
    with Lab.open(empty, engine=ScriptedEngine(lambda *_: 0.0), progress=False) as writing:
        writing.database.settings.put("theirs", "1")
        refused = post(app, "/mark", {}, **sent)
        assert refused.status == 503 and b"is being written by process" in refused.body
        assert ask(app, "/").status == 200
        writing.database.settings.put("theirs", "2")
        assert writing.database.settings.get("theirs") == "2" and writing.database.settings.get("marked") is None
    assert post(app, "/mark", {}, **sent).status == 303
    with Lab.open(empty, progress=False) as lab:  # the lock was given back at once
        assert lab.database.settings.get("marked") == "yes"


def fields_of(html: str) -> dict[str, str]:
    """What the form of a page that says that it was not possible sends, as it stands."""
    form = html.partition('data-testid="again"')[2].partition("</form>")[0]
    found = {name: unescape(value) for name, value in re.findall(r'<input[^>]*name="(\w+)" value="([^"]*)"', form)}
    text = re.search(r'<textarea name="text"[^>]*>\n(.*?)</textarea>', form, re.S)
    return found | ({"text": unescape(text[1])} if text else {})


def test_what_was_typed_into_a_form_that_failed_is_sent_again_from_the_page_that_says_so(
    show: Any, post: Any, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Asked] = []

    def edit(lab: Lab, asked: Asked) -> Done:
        if not asked.text("reason"):
            raise BadAddress("A reason is missing.")
        given.append(asked)
        return Done("Edited.", "/")

    monkeypatch.setattr(web, "ACTIONS", (Action("/memory/{id:path}/edit", edit),))
    app, sent, address = show(empty), {"origin": "http://127.0.0.1"}, "/memory/r%3F%201/edit"
    typed = {
        "text": 'Two\n"lines"</textarea><script>alert(1)</script>',
        "reason": 'it\'s "so"',
        "id": "a",
        "back": "?x=1",
    }
    with Lab.open(empty, engine=ScriptedEngine(lambda *_: 0.0), progress=False) as writing:
        writing.database.settings.put("theirs", "1")
        locked = post(app, address, {**typed, "name": "r 1"}, **sent)
    html = locked.body.decode()
    assert locked.status == 503 and "<script>alert" not in html and f'action="{address}"' in html
    assert fields_of(html) == {**typed, "name": "", "token": "secret"}, "what confirms is typed anew"
    missing = post(app, address, {**typed, "reason": ""}, **sent)
    assert missing.status == 400
    again = {**fields_of(missing.body.decode()), "reason": "Now."}
    assert post(app, address, again, **sent).status == 303
    assert (given[0].values["text"], given[0].text("id")) == (typed["text"], "r? 1")


def test_what_was_typed_into_a_form_of_an_earlier_start_is_shown_and_not_sent_from_there(
    show: Any, post: Any, empty: Path
) -> None:
    refused = post(show(empty), "/memory/r/edit", {"text": "A long text.", "token": "old"}, origin="http://127.0.0.1")
    html = refused.body.decode()
    assert refused.status == 400 and "A long text." in html
    assert 'method="post"' not in html and "secret" not in html


def test_who_looks_on_sees_what_is_written_beside_it_and_takes_no_lock(browse: Any, empty: Path) -> None:
    client = browse(empty)
    engine = ScriptedEngine(lambda *_: 0.0)
    with Lab.open(empty, engine=engine, progress=False) as lab:
        lab.progress.start("Playing", 4)
        lab.run("toy/doors", seeds=range(2), trials=1, arm="random", name="beside")
        assert client.get("/index.json").json()["work"]["pid"] > 0
        assert episodes(client) == 2
    assert client.get("/index.json").json()["work"] is None
    with Lab.open(empty, engine=engine, progress=False):
        pass


def test_the_file_is_unchanged_after_ten_thousand_reads_by_several_threads(small_lab: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    shutil.copytree(small_lab, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    made = application(folder)
    pages = [page for page in PAGES if page.path in LISTS]
    problems: list[BaseException] = []
    played = made.labs[0].workspace.database.episodes.count()

    def read(times: int) -> None:
        try:
            for number in range(times):
                page = pages[number % len(pages)]
                workspace = made.labs[0].workspace
                if number % 50:
                    assert workspace.database.episodes.count() == played
                else:
                    page.view(workspace, Asked({}))
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=read, args=(2500,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    with Lab.open(folder, progress=False):  # nobody holds the lock meanwhile
        pass
    for thread in threads:
        thread.join()
    for lab in made.labs:
        lab.close()
    assert not problems
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert after == before


def test_a_record_that_is_damaged_hides_no_other_page(browse: Any, tmp_path: Path, small_lab: Path) -> None:
    folder = tmp_path / "lab"
    shutil.copytree(small_lab, folder)
    with sqlite3.connect(folder / "lab.db") as connection:
        connection.execute("UPDATE episodes SET payload = x'00' WHERE number = 1")
        newest = "(SELECT max(number) FROM episodes)"
        connection.execute(f"UPDATE episodes SET started_at = '<b>never</b>' WHERE number = {newest}")
    client = TestClient(browse(folder).app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    page = client.get("/")
    assert page.status_code == 200 and "<b>never" not in page.text and "&lt;b&gt;never" in page.text


def test_times_that_are_none_are_shown_as_they_are() -> None:
    from agentlab.web.rendering import ago, exact

    for stamp in ("", "never", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "\u202ea" * 100):
        assert len(ago(stamp)) <= 40 and len(exact(stamp)) <= 40
    assert exact("2026-01-02T03:04:05+02:00") == "2026-01-02 01:04:05 UTC"


def test_the_answer_as_data_has_what_the_page_shows(browse: Any, small_lab: Path) -> None:
    data = json.loads(browse(small_lab).get("/index.json").text)
    page = browse(small_lab).get("/").text
    assert all(row["id"] in page for row in data["episodes"])
