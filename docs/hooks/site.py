"""What MkDocs is told beside `mkdocs.yml`: pages that are made, links out of `docs/`, and nothing from other hosts."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from posixpath import dirname, normpath, relpath
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import leaderboard
import notebook
import reference
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)]*)?(\))")
_REMOTE = re.compile(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")


def brought() -> dict[str, str]:
    """Pages from outside `docs/`, by their place in the site."""
    pages = {name.lower(): (ROOT / name).read_text("utf-8") for name in ("CHANGELOG.md", "CONTRIBUTING.md")}
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.md")):
        pages[f"results/{path.name}"] = path.read_text("utf-8")
    for path in sorted((ROOT / "examples").glob("*.py")):
        pages[f"examples/{path.stem}.md"] = f"# {path.name}\n\n```python\n{path.read_text('utf-8')}```\n"
    return pages


def place(target: str) -> str:
    """Where in the site the file is that a link names from the root of the repository."""
    if target in ("CHANGELOG.md", "CONTRIBUTING.md"):
        return target.lower()
    if target.startswith("benchmarks/results/"):
        return target.removeprefix("benchmarks/")
    if target.startswith("examples/"):
        return str(Path(target).with_suffix(".md"))
    return (
        str(Path(target.removeprefix("docs/")).with_suffix(".md"))
        if target.endswith(".ipynb")
        else target.removeprefix("docs/")
    )


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made."""
    made = reference.pages() | leaderboard.pages() | brought()
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        files.remove(files.get_file_from_path(f"notebooks/{path.name}"))
        made[f"notebooks/{path.stem}.md"] = notebook.page(path)
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Have links to files of the repository lead to their pages."""
    here = page.file.src_uri
    # Where the page lies in the repository, from which its links are written.
    home = (
        "" if here in ("changelog.md", "contributing.md") else "benchmarks" if here.startswith("results/") else "docs"
    )
    source = normpath(f"{home or '.'}/{here}")

    def moved(link: re.Match[str]) -> str:
        start, target, anchor, end = link.group(1), link.group(2), link.group(3) or "", link.group(4)
        if ":" in target:
            return link.group()
        to = place(normpath(f"{dirname(source)}/{target}"))
        return f"{start}{relpath(to, dirname(here) or '.')}{anchor}{end}"

    return _LINK.sub(moved, markdown)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Refuse a page that would load something from another host."""
    if found := _REMOTE.search(re.sub(r'<link rel="canonical"[^>]*>', "", output)):
        raise PluginError(f"{page.file.src_uri} loads something from another host: {found.group()[:200]}")
    return output
