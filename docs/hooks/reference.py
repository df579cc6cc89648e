"""Pages of the reference, made when the site is built: commands from `--help`, settings and names from docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("agentlab", "memory", "trainers", "environments")


def doors() -> list[str]:
    """The packages and their rooms that say in `__all__` which names they have for others, packages first."""
    found = []
    for package in PACKAGES:
        inits = sorted((ROOT / package).rglob("__init__.py"), key=lambda path: (len(path.parts), path))
        found += [
            ".".join(path.parent.relative_to(ROOT).parts) for path in inits if "\n__all__ = " in path.read_text("utf-8")
        ]
    return found


def names(door: str) -> list[str]:
    """The public names of a door, in its order."""
    return list(import_module(door).__all__)


@cache
def homes() -> dict[str, dict[str, str]]:
    """For each door, for each of its names, where it is described: at the innermost door that has it."""
    described: dict[int, str] = {}
    for door in sorted(doors(), key=lambda door: (-door.count("."), door == "agentlab")):
        for name in names(door):
            # By identity: a constant has no name of its own, and small numbers and texts are shared.
            value = getattr(import_module(door), name)
            if inspect.isclass(value) or inspect.isroutine(value):
                described.setdefault(id(value), f"{door}.{name}")
    return {
        door: {name: described.get(id(getattr(import_module(door), name)), f"{door}.{name}") for name in names(door)}
        for door in doors()
    }


def first_line(value: Any) -> str:
    """The first sentence of a class's or function's own docstring; empty where it has none."""
    if not (inspect.isclass(value) or inspect.isroutine(value)) or not value.__doc__:
        return ""
    return " ".join(inspect.cleandoc(value.__doc__).split("\n\n")[0].split())


def door_page(door: str) -> str:
    """The page of one door."""
    parts = [f"# `{door}`", ""]
    elsewhere = []
    for name, home in homes()[door].items():
        if home == f"{door}.{name}":
            parts += [f"::: {home}", ""]
        else:
            said = first_line(getattr(import_module(door), name)).replace("|", "\\|")
            elsewhere.append(f"| [`{name}`]({home.rpartition('.')[0]}.md#{home}) | {said} |")
    inner = [f"[`{one}`]({one}.md)" for one in doors() if one.startswith(f"{door}.")]
    rooms = [f"Rooms with names for others: {', '.join(inner)}.", ""] if inner else []
    table = ["| name | what it is |", "|---|---|", *elsewhere, ""] if elsewhere else []
    said = inspect.cleandoc(import_module(door).__doc__ or "")
    return "\n".join([parts[0], "", said, "", *rooms, *table, *parts[2:]])


def commands() -> Iterator[tuple[str, str]]:
    """Every command that a person may give, and its help."""
    from typer.main import get_command

    from agentlab.cli import app

    def each(command: Any, words: str, parent: Any) -> Iterator[tuple[str, str]]:
        context = command.context_class(command, info_name=words.rpartition(" ")[2], parent=parent)
        context.max_content_width = 100
        yield words, command.get_help(context)
        for name, inner in getattr(command, "commands", {}).items():
            if not inner.hidden:
                yield from each(inner, f"{words} {name}", context)

    yield from each(get_command(app), "agentlab", None)


def commands_page() -> str:
    """All commands with their help."""
    parts = ["# Commands", "", "What `--help` prints for each.", ""]
    for words, said in commands():
        parts += [f"## {words}", "", "```text", said.rstrip(), "```", ""]
    return "\n".join(parts)


def settings_page() -> str:
    """The settings of a lab and of a round, each explained."""
    from agentlab.rounds import PRESETS, RoundConfig
    from agentlab.rounds.config import EXPERT
    from agentlab.workspace.commented import commented
    from agentlab.workspace.config import LabConfig

    presets = ", ".join(f"`{name}`" for name in PRESETS)
    lab, round = commented(LabConfig()), commented(RoundConfig(envs=["twx/coin"]), expert=EXPERT)
    return (
        f"# Settings\n\n## A lab\n\n`lab.toml` in its folder, with the defaults:\n\n```toml\n{lab}```\n\n"
        "## A round\n\nAs `agentlab rounds config` prints them, for `agentlab rounds run --config FILE`. Presets: "
        f"{presets}.\n\n```toml\n{round}```\n"
    )


@cache
def pages() -> dict[str, str]:
    """All pages of the reference, by their place in the documents."""
    made = {"reference/commands.md": commands_page(), "reference/settings.md": settings_page()}
    return made | {f"reference/{door}.md": door_page(door) for door in doors()}
