"""The pages as files, to be read without a server: what a colleague is sent, or a paper links to."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

from agentlab.errors import AgentLabError
from agentlab.web.app import FAILURES, Application, application
from agentlab.web.asked import Asked
from agentlab.web.looking import Looking
from agentlab.web.page import Page
from agentlab.web.pages import PAGES
from agentlab.web.pages.labs import labs
from agentlab.web.rendering import HERE, render
from agentlab.workspace.workspace import CONFIG_FILE

LONGEST = 120
"""Characters of a file's name; of a longer one the beginning and a hash are kept."""

MARK = "agentlab-export"
"""A file by which a folder is known as one that an export wrote, and may be written over."""


def export(folder: Path, target: Path) -> int:
    """Write the pages of the lab in `folder`, or of all in it, into `target`; returns how many.

    Pages of an earlier export that are no more are deleted there. Raises NotALab, and AgentLabError if `target` holds
    something else, or lies in a lab.
    """
    if any((place / CONFIG_FILE).exists() for place in (target, *target.expanduser().resolve().parents)):
        raise AgentLabError(f"{target} lies in a lab, whose files are its own; give --export a folder outside of it.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())) and not (target / MARK).exists():
        raise AgentLabError(f"{target} is not empty, and holds no export; give --export a new folder.")
    made = application(folder)
    try:
        return _write(made, target)
    finally:
        for lab in made.labs:
            lab.close()


def _write(made: Application, target: Path) -> int:
    target.mkdir(parents=True, exist_ok=True)
    (target / MARK).write_text("The pages of a lab, written by `agentlab view --export`.\n", encoding="utf-8")
    shutil.copytree(HERE / "static", target / "static", dirs_exist_ok=True)
    written: set[Path] = set()
    listed = labs(made.labs) if made.labs[0].name else None
    broken = {lab.name for lab in listed.labs if lab.problem} if listed else set()
    for lab in made.labs:
        if lab.name in broken:
            continue  # the list of labs says why
        root = PurePosixPath("labs", lab.name) if lab.name else PurePosixPath()
        pages = list(_pages(lab))
        known = {address for _, _, address in pages}
        for page, asked, address in pages:
            place = root / _file(address)
            links = _Links(place, root, known)
            try:
                text = made.html(lab, page, asked, page.view(lab.workspace, asked), address, **links.values)
            except FAILURES as failure:  # one record that is broken hides no other
                values = made.common(lab) | links.values | {"line": str(failure), "title": "Not possible"}
                text = render("failed.html", values)
            written.add(_put(target / place, text))
    if listed:
        links = _Links(PurePosixPath("index.html"), PurePosixPath(), set())
        values = made.common(None) | links.values | {"view": listed, "title": "Labs"}
        written.add(_put(target / "index.html", render("labs.html", values)))
    for page_before in target.rglob("*.html"):
        if page_before not in written:  # what was deleted in the lab is not to be sent on
            page_before.unlink()
    return len(written)


def _pages(lab: Looking) -> Iterator[tuple[Page, Asked, str]]:
    """Every page that is written, with its address below the lab."""
    for page in PAGES:
        for values in page.exported(lab.workspace):
            address = page.path
            for name, value in values.items():
                for kind in ("", ":path"):
                    address = address.replace("{" + name + kind + "}", quote(value, safe=""))
            yield page, Asked(values, frozenset(values), as_file=True), address


def _file(address: str) -> PurePosixPath:
    """The file of an address: one level a part, so that no name leads out of the folder."""
    parts = [_name(part) for part in address.strip("/").split("/") if part]
    return PurePosixPath(*parts[:-1], f"{parts[-1]}.html") if parts else PurePosixPath("index.html")


def _name(part: str) -> str:
    """A quoted part of an address as the name of a file: no two have the same, and none begins with a dot."""
    name = part.replace("%", "=")
    if name.startswith("."):
        name = f"=2E{name[1:]}"
    digest = hashlib.sha256(part.encode()).hexdigest()[:16]
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}={digest}"


class _Links:
    """How one page, as a file, leads to others: by relative paths, and nowhere where there is no file."""

    def __init__(self, place: PurePosixPath, root: PurePosixPath, known: set[str]) -> None:
        self.up = "../" * len(place.parent.parts)
        self.root = root
        self.known = known

    @property
    def values(self) -> dict[str, Any]:
        """What the templates are given instead of a server's addresses."""
        return {
            "link": self.page,
            "static": lambda path: self.up + "static" + path,
            "top": self.up + "index.html",
            "lab_link": lambda name: quote(f"{self.up}labs/{name}/index.html"),
            "writable": False,
            "token": "",
            "live": False,
        }

    def page(self, path: str, anchor: str = "", **query: Any) -> str:
        """The file of a page; the list it is a part of where that was not written, since a file has no query."""
        address = "/" + "/".join(quote(unquote(part), safe="") for part in path.strip("/").split("/") if part)
        while address not in self.known and address != "/":
            address = address.rpartition("/")[0] or "/"
        return self.up + quote(str(self.root / _file(address)), safe="/=") + (f"#{quote(anchor)}" if anchor else "")


def _put(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file
