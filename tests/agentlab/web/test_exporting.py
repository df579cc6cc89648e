"""Pages as files: every link leads to one, nothing lies outside of the folder, and nothing of a form is left."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from pydantic import BaseModel

from agentlab.errors import AgentLabError
from agentlab.web import exporting
from agentlab.web.asked import Asked
from agentlab.web.exporting import MARK, export
from agentlab.web.page import Page, Tab
from agentlab.workspace.workspace import Workspace

ODD = [
    "plain", "a/b", "../../etc/passwd", "..", ".", ".hidden", "ü ä", "%2F", "a%b", "50%", "#x", "?q=1", "a\\b", "con",
    "<b>", '"', "'", "&amp;", "=2F", "=2E", "x" * 400, "x" * 399 + "y", "\u202eabc", "a:b", "~", "-", "index",
]  # fmt: skip


class Links(HTMLParser):
    """What a page leads to, and which tags it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attributes:
            if name in ("href", "src", "action") and value is not None:
                self.found.append(value)


def check(folder: Path) -> int:
    """Every link of every page leads to a file in the folder; gives how many pages there are."""
    pages = sorted(folder.rglob("*.html"))
    inside = folder.resolve()
    for page in pages:
        for link in Links(page.read_text(encoding="utf-8")).found:
            parts = urlsplit(link)
            if link.startswith("data:"):
                continue
            assert not parts.scheme and not parts.netloc and not parts.query and not link.startswith("/"), (page, link)
            if parts.path:
                target = (page.parent / unquote(parts.path)).resolve()
                assert target.is_relative_to(inside) and target.is_file(), (page, link)
    return len(pages)


class Thing(BaseModel):
    id: str


def things(_: Workspace) -> Iterable[Mapping[str, str]]:
    return [{"id": id} for id in ODD]


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> None:
    """One page more, whose ids are as odd as they can be."""
    page = Page(
        "/things/{id}",
        "failed.html",
        lambda _, asked: Thing(id=asked.values["id"]),
        Tab("Things", "things"),
        lambda view: view.id,  # type: ignore[attr-defined]
        things,
    )
    monkeypatch.setattr(exporting, "PAGES", (*exporting.PAGES, page))
    real = exporting.Application.html
    monkeypatch.setattr(
        exporting.Application,
        "html",
        lambda *given, **more: real(*given, **more, **({"line": "."} if given[2] is page else {})),
    )


def test_every_link_of_every_page_leads_to_a_file(small_lab: Path, tmp_path: Path) -> None:
    written = export(small_lab, tmp_path / "out")
    assert written == check(tmp_path / "out") and (tmp_path / "out" / "index.html").is_file()


def test_odd_ids_have_files_of_their_own_inside_the_folder(odd: None, small_lab: Path, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    export(small_lab, tmp_path / "out")
    check(tmp_path / "out")
    files = sorted((tmp_path / "out" / "things").iterdir())
    assert len(files) == len(ODD) and all(file.is_file() and not file.name.startswith(".") for file in files)
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "out")} == before


def test_links_lead_to_the_files_of_odd_ids() -> None:
    from pathlib import PurePosixPath
    from urllib.parse import quote

    known = {"/things", *(f"/things/{quote(id, safe='')}" for id in ODD)}
    links = exporting._Links(PurePosixPath("things/one.html"), PurePosixPath(), known)
    targets = {links.page("/things/" + quote(id, safe="")) for id in ODD}
    assert len(targets) == len(ODD)
    assert links.page("/things/unknown") == links.page("/things", status="x") == "../things.html"
    assert links.page("/nowhere/at/all") == "../index.html"


def test_what_is_exported_changes_nothing_and_loads_nothing_from_elsewhere(small_lab: Path, tmp_path: Path) -> None:
    export(small_lab, tmp_path / "out")
    for page in (tmp_path / "out").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert 'method="post"' not in text.lower() and 'name="token"' not in text and "hx-" not in text
        assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text


def test_several_labs_are_exported_side_by_side_and_a_broken_one_is_named(small_lab: Path, tmp_path: Path) -> None:
    for name in ("one", "two #?", "broken"):
        shutil.copytree(small_lab, tmp_path / "labs" / name)
    (tmp_path / "labs" / "broken" / "lab.toml").write_text("none")
    export(tmp_path / "labs", tmp_path / "out")
    check(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out" / "labs").iterdir()} == {"one", "two-"}
    assert "broken" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_a_page_that_cannot_be_made_says_so_and_hides_no_other(
    small_lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Workspace, asked: Asked) -> Thing:
        raise AgentLabError("This one is damaged; restore it.")

    page = Page("/things", "failed.html", refused, Tab("Things", "things"), lambda _: "Things")
    monkeypatch.setattr(exporting, "PAGES", (*exporting.PAGES, page))
    export(small_lab, tmp_path / "out")
    check(tmp_path / "out")
    assert "This one is damaged" in (tmp_path / "out" / "things.html").read_text(encoding="utf-8")


def test_a_folder_with_something_else_in_it_is_refused_and_left_alone(small_lab: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    for target in (tmp_path / "out", tmp_path / "out" / "thesis.tex", small_lab):
        with pytest.raises(AgentLabError, match="--export"):
            export(small_lab, target)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]
    with pytest.raises(AgentLabError, match="--export"):
        export(small_lab, small_lab / "pages")
    assert not (small_lab / "pages").exists()


def test_an_export_may_be_written_over(small_lab: Path, tmp_path: Path) -> None:
    assert export(small_lab, tmp_path / "out") == export(small_lab, tmp_path / "out")
    assert (tmp_path / "out" / MARK).is_file()
    gone = tmp_path / "out" / "memory" / "r-purged.html"
    gone.parent.mkdir(exist_ok=True)
    gone.write_text("what was deleted since")
    export(small_lab, tmp_path / "out")
    assert not gone.exists()
