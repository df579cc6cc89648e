"""Notebooks without Jupyter: run their cells, keep small outputs, show them as a page.

python docs/hooks/notebook.py docs/notebooks/*.ipynb    run them and store what they print
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def cells(path: Path) -> list[dict[str, Any]]:
    """The cells of a notebook."""
    return list(json.loads(path.read_text(encoding="utf-8"))["cells"])


def run(path: Path, folder: Path) -> list[str]:
    """What each code cell prints, its last expression as Jupyter shows it, when they are run in `folder` in order."""
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = []
    with contextlib.chdir(folder):
        for cell in cells(path):
            if cell["cell_type"] == "code":
                out = io.StringIO()
                with contextlib.redirect_stdout(out):
                    _cell("".join(cell["source"]), names)
                printed.append(out.getvalue())
    return printed


def _cell(source: str, names: dict[str, Any]) -> None:
    body = ast.parse(source)
    last = body.body.pop() if body.body and isinstance(body.body[-1], ast.Expr) else None
    exec(compile(body, "<cell>", "exec"), names)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
        if value is not None:
            print(repr(value))


def page(path: Path) -> str:
    """The notebook as Markdown."""
    parts = []
    for cell in cells(path):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        said = "".join("".join(output["text"]) for output in cell["outputs"])
        if said:
            parts.append(f"```text\n{said.rstrip()}\n```")
    return "\n\n".join(parts) + f"\n\nThis page is the notebook `docs/notebooks/{path.name}`; the tests run it.\n"


def store(path: Path, printed: list[str]) -> None:
    """Write what was printed into the notebook."""
    book = json.loads(path.read_text(encoding="utf-8"))
    for cell, said in zip((one for one in book["cells"] if one["cell_type"] == "code"), printed, strict=True):
        shown = {"name": "stdout", "output_type": "stream", "text": said.splitlines(keepends=True)}
        cell["outputs"] = [shown] if said else []
    path.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    import tempfile

    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as scratch:
            store(Path(name), run(Path(name).absolute(), Path(scratch)))
