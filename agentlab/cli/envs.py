"""`agentlab envs`: what can be played, with which parameters; `--import`, which brings in one's own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agentlab.cli import output
from agentlab.cli.options import Json
from agentlab.cli.output import Column

HOW = "Parameters go behind the name: {example}. Separate several by commas."
OWN = (
    "One's own: register it in a module (examples/own_environment.py), and name that with `agentlab --import MODULE`, "
    "in AGENTLAB_IMPORT, or by an entry point of the group agentlab.environments."
)

TOOLS = (
    "Each takes tools, whose calls are commands: {names}, as in 'twx/arithmetic?tools=calculator+notes'; `tools` in "
    "lab.toml adds some where an id names none, and 'twx/arithmetic?tools=none' then plays without."
)


def envs(
    env: Annotated[
        str | None, typer.Argument(help="One environment, such as twx/coin: its parameters with their ranges.")
    ] = None,
    json: Json = False,
) -> None:
    """List the environments; with a name, the parameters of that one, their ranges and defaults."""
    if env is None:
        _all(json)
    else:
        _one(env, json)


def _all(json: bool) -> None:
    from environments import families, games

    rows: list[dict[str, Any]] = []
    for family in families():
        known = family.environment_ids if family.available else ()  # what is not here is told in one line
        for name in known or (f"{family.name}/…",):
            game = games(name) if known else None
            rows.append(
                {
                    "env": name,
                    "available": family.available,
                    "parameters": list(game.parameters) if game else [],
                    "about": game.description if game else family.description,
                    "why_not": family.why_not,
                }
            )
    from environments.tools import tool_names

    columns = [Column("env"), Column("available", head=True), Column("about", wide=True)]
    if any(row["why_not"] for row in rows):
        columns.append(Column("why_not", "what is missing", wide=True))
    output.listing(rows, columns, as_data=json, empty="There are no environments.")
    if not json:
        output.say("")
        output.console().print(output.text("`agentlab envs ENV` shows the parameters of one. " + OWN))
        output.say("")
        output.console().print(output.text(TOOLS.format(names=", ".join(tool_names()))))


def _one(env: str, json: bool) -> None:
    from environments import canonical, games

    name = canonical(env).partition("?")[0]
    game = games(name)
    rows = [
        {
            "parameter": key,
            "default": one.default,
            "range": f"{one.low} to {one.high}",
            "low": one.low,
            "high": one.high,
            "meaning": one.meaning,
        }
        for key, one in game.parameters.items()
    ]
    if json:
        output.as_json({"env": name, "about": game.description, "parameters": rows})
        return
    output.say(f"{name}: {game.description}", "bold")
    output.say("")
    columns = [
        Column("parameter"),
        Column("default", head=True),
        Column("range", head=True),
        Column("meaning", wide=True),
    ]
    output.listing(rows, columns, as_data=False, empty="It has no parameters that are known here.")
    if rows:
        changed = [(row["parameter"], row["high"] if row["default"] == row["low"] else row["low"]) for row in rows[:2]]
        output.say("")
        example = f"'{name}?" + ",".join(f"{key}={value}" for key, value in changed) + "'"
        output.console().print(output.text(HOW.format(example=example)))


def bring_in(modules: list[str]) -> None:
    """Import modules that register environments; they may lie in the folder that one is in.

    Raises:
        BadConfig: if one cannot be imported.
    """
    from agentlab.errors import BadConfig
    from agentlab.workspace.environments import BROUGHT_IN

    sys.path.insert(0, str(Path.cwd()))
    for module in modules:
        try:
            if not all(part.isidentifier() for part in module.split(".")):
                raise ImportError("that is no name of a module")
            importlib.import_module(module)
            BROUGHT_IN.append(module)
        except (Exception, SystemExit) as error:
            cause = output.one_line(str(error)) or type(error).__name__
            raise BadConfig(
                f"--import {module}: it cannot be imported ({cause}); give the name of a module, such as my_games for "
                "my_games.py in this folder."
            ) from error
