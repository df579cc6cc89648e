"""README and `docs/` say what there is: commands, links, names; and their notebooks run."""

from __future__ import annotations

import importlib.util
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.main import get_command

from agentlab import LabConfig, RoundConfig
from agentlab.cli import app
from agentlab.protocols import protocol
from agentlab.protocols.measured import Game, Learned
from agentlab.protocols.showing import outcome
from agentlab.rounds.config import flat

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def hook(name: str) -> ModuleType:
    """A module of `docs/hooks`, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / "hooks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


notebook, reference, leaderboard = hook("notebook"), hook("reference"), hook("leaderboard")
COMMANDS = dict(reference.commands())


def text(path: Path) -> str:
    return notebook.page(path) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")


def command_lines() -> Iterator[tuple[str, str]]:
    """Every command line that a page quotes, with the page: in blocks, between backticks, and in tables."""
    for path in [*PAGES, *NOTEBOOKS]:
        said = text(path)
        blocks = "\n".join(re.findall(r"```[a-z]*\n(.*?)```", said, re.S))
        lines = [line.strip() for line in blocks.splitlines()]
        lines += [
            " ".join(line.split()) for line in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", said, flags=re.S))
        ]
        for line in lines:
            if re.match(r"(\.venv/bin/)?agentlab( |$)", line):
                yield path.name, line


QUOTED = sorted(set(command_lines()))


def readings(line: str) -> Iterator[list[str]]:
    """What a quoted line can mean: without its comment and its redirection, `a|b` as each of them."""
    words = shlex.split(re.sub(r"\s+[#>].*$", "", line), posix=True)[1:]
    yield from (list(one) for one in product(*(word.split("|") if word.isascii() else [word] for word in words)))


def parse(words: list[str]) -> None:
    """Parse a command line as the program does, and run nothing. One that only names a command is one too."""
    if " ".join(["agentlab", *words]).removesuffix(" --help") in COMMANDS:
        return
    command: Any = get_command(app)
    context = None
    while True:
        context = command.make_context(command.name or "agentlab", list(words), parent=context)
        rest = [*context._protected_args, *context.args]
        if not hasattr(command, "commands") or not rest:
            return
        _, command, words = command.resolve_command(context, rest)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize(("page", "line"), QUOTED)
def test_every_command_line_that_is_quoted_is_one(page: str, line: str) -> None:
    for words in readings(line):
        if "…" not in line:
            parse(words)


def test_a_command_line_that_is_none_is_noticed() -> None:
    for words in (["run", "toy/doors", "--no-such-option"], ["remember", "this"], ["play", "--seed", "x"]):
        with pytest.raises(Exception, match=r"No such|valid integer"):
            parse(words)


def test_every_command_stands_in_a_guide() -> None:
    quoted = {" ".join(words) for _, line in QUOTED for words in readings(line)}
    for words in COMMANDS:
        said = words.removeprefix("agentlab").strip()
        assert any(f"{one} ".startswith(f"{said} ") for one in quoted), f"no guide says what `{words}` is for"


def test_the_reference_has_every_command_with_its_options() -> None:
    page = reference.commands_page()
    assert "## agentlab memory search\n" in page and "--explain" in page and page.count("\n## ") > 40


@pytest.mark.parametrize("door", reference.doors())
def test_every_public_name_is_described(door: str) -> None:
    page, homes = reference.door_page(door), reference.homes()[door]
    for name in reference.names(door):
        value = getattr(import_module(door), name)
        if inspect.isclass(value) or inspect.isroutine(value):
            assert (value.__doc__ or "").strip(), f"{door}.{name} has no docstring"
        described = f"::: {homes[name]}\n" in page
        assert described or f"#{homes[name]})" in page
        assert described or f"::: {homes[name]}\n" in reference.door_page(homes[name].rpartition(".")[0])


def test_settings_that_a_page_shows_are_settings() -> None:
    shown = [block for path in PAGES for block in re.findall(r"```toml\n(.*?)```", text(path), re.S)]
    assert len(shown) >= 2
    for block in shown:
        given = tomllib.loads(block)
        assert RoundConfig.model_validate(flat(given)) if "envs" in given else LabConfig.model_validate(given)


def anchors(said: str) -> set[str]:
    """The anchors of a page's headings, as Markdown makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", said, flags=re.S), re.M)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    made = {ROOT / "docs" / name for name in (*reference.pages(), *leaderboard.pages())}
    for target, _, anchor in re.findall(r"\]\(([^)#\s]*)(#([^)\s]+))?\)", text(path)):
        if ":" in target:
            continue
        place = (path.parent / target).resolve() if target else path
        assert place.exists() or place in made, f"{path.name} links to {target}, which is not there"
        if anchor and place.exists():
            assert anchor in anchors(text(place)), f"{path.name} links to {target}#{anchor}, which is not there"


def test_the_leaderboard_has_who_played_and_what_is_published_the_best_first() -> None:
    chosen = protocol("tales")
    game = {seed: Game(final=0.0, best=0.5, won=False, steps=2, seconds=3.0, tokens=7) for seed in range(5)}
    arms = {arm: dict.fromkeys(chosen.ways[0].envs, game) for arm in chosen.arms}
    learned = Learned(
        protocol=chosen.name, version=1, way=chosen.ways[0].name, seed=0, model="m", made_with="1.0 (abc)",
        split="dev", arms=arms,
    )  # fmt: skip
    page = leaderboard.page([outcome(chosen, [learned], "dev", 5)])
    rows = [row.split(" | ") for row in page.splitlines() if row.startswith("| ")][1:]
    assert len(rows) == len(chosen.arms) + len(chosen.published)
    total = [row[4] for row in rows]
    means = [float(cell.split()[0]) for cell in total if cell != "–"]
    assert "not whole" in page and means == sorted(means, reverse=True)
    assert len(means) == len(chosen.arms) and total[len(means) :] == ["–"] * len(chosen.published)
    (base,) = [row for row in rows if row[0] == "| base, with tools"]
    assert [cell.split()[0] for cell in base[1:9]] == ["0.500"] * 4 + ["0", "840", "1,960", "m"] and "abc" in base[9]
    (sonnet,) = [row for row in rows if "sonnet" in row[0]]
    assert sonnet[1:5] == ["0.958", "0.724", "–", "–"]


def test_every_page_has_its_place_in_the_site() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    for path in PAGES[2:]:
        assert path.name in nav, f"{path.name} is not in the navigation of mkdocs.yml"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_prints_what_it_shows(path: Path, tmp_path: Path) -> None:
    shown = [
        "".join("".join(output["text"]) for output in cell["outputs"])
        for cell in notebook.cells(path)
        if cell["cell_type"] == "code"
    ]
    printed = notebook.run(path, tmp_path)
    assert [bool(said) for said in printed] == [bool(said) for said in shown]
    # Ids follow from the weights' last digits, which differ between machines; tables have the same rows.
    assert [said.split()[:1] for said in printed] == [said.split()[:1] for said in shown]


def test_the_environment_that_a_page_shows_keeps_its_contract() -> None:
    block = re.search(r"```python\n(.*?)```", text(ROOT / "docs" / "own-environment.md"), re.S)
    assert block is not None and "check_or_raise" in block[1]
    exec(block[1], {"__name__": "lamps"})
