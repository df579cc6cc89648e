"""The process in which a game of ALFWorld is played: TextWorld's logic, and its planner, the library fast-downward.

The library ends its program where memory is short, and may hang or crash; what translates games for it keeps settings
in module globals, which two games at once would share, and takes `sys.argv` and `sys.stdout` away. So each environment
has a process of its own.
"""

from __future__ import annotations

import ast
import importlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from environments.answers import format_value
from environments.child import Child, serve
from environments.textworld_game import textworld
from environments.worker import format_error

_TURN = {"seen": str, "situation": str, "won": bool, "commands": list}
# How ALFWorld writes in a name what a name of its planner cannot have.
_SIGNS = (("_bar_", "|"), ("_minus_", "-"), ("_plus_", "+"), ("_dot_", "."), ("_comma_", ","))
# What an expression of a grammar is made of: `r.name or r.id`, `o.indefinite + ' ' + o.name`.
_PARTS = (ast.Expression, ast.Name, ast.Load, ast.Attribute, ast.Constant, ast.BinOp, ast.Add, ast.BoolOp, ast.Or)


class Planner(Child):
    """A process that plays games, one after the other. Raises EnvironmentDied if it cannot be started."""

    def __init__(self) -> None:
        super().__init__(__name__, "planner", _TURN, "{file} is no game of ALFWorld ({why}); download it again")


def named(ids: Sequence[str]) -> dict[str, str]:
    """The names that ALFWorld gives the things of a game: `Cabinet_bar__minus_01…` is `cabinet 3`.

    Those of a kind are numbered from the last one on, in the order of their ids.
    """
    kinds = {}
    for one in ids:
        text = one
        for written, sign in _SIGNS:
            text = text.replace(written, sign)
        kind, bar, _ = text.partition("|")
        kinds[one] = (f"{kind}basin" if "basin" in one and bar else kind, bool(bar))
    left = Counter(kind for kind, many in kinds.values() if many)
    names = {}
    for one in sorted(ids):
        kind, many = kinds[one]
        names[one] = f"{kind} {left[kind]}" if many else f"{kind} "
        left[kind] -= many
    return names


# In the process


class _Game:
    """A game; one library for all that are played, since none is ever unloaded."""

    def __init__(self) -> None:
        infos = textworld().EnvInfos(won=True, admissible_commands=True)
        self._env = importlib.import_module("textworld.envs.pddl").PddlEnv(infos)
        self._textgen = importlib.import_module("textworld.envs.pddl.textgen")
        made = self._textgen.EvalSymbol
        # TextWorld evaluates what stands in a grammar: none is made of what is no expression of a grammar.
        self._textgen._Converter.walk_EvalSymbol = lambda _, node: made(validate_expression(node.statement))

    def begin(self, file: str) -> dict[str, Any]:
        env = self._env
        try:
            env.load(dict(json.loads(Path(file).read_text(encoding="utf-8"))))
            for action in env._logic.actions.values():  # a grammar is read when it is loaded, these when they are used
                for text in (action.template, action.feedback_rule):
                    self._textgen._parse_and_convert(text, rule_name="symbols")
            names = named([info.id for info in env._entity_infos.values()])
            for info in env._entity_infos.values():
                info.name = names[info.id]
            return self._told(env.reset())
        except (OSError, ValueError, KeyError, TypeError) as error:
            return {"no game": format_error(error)}

    def act(self, action: str) -> dict[str, Any]:
        return self._told(self._env.step(action)[0])

    def _told(self, state: Any) -> dict[str, Any]:
        situation = " ".join(self._derived(rule) for rule in ("#look.feedback#", "#inventory.feedback#"))
        commands = list(state["admissible_commands"])
        return {
            "seen": str(state.feedback), "situation": situation, "won": bool(state["won"]), "commands": commands,
        }  # fmt: skip

    def _derived(self, rule: str) -> str:
        """What the game's own grammar says of its state."""
        env = self._env
        context = {
            "state": env._pddl_state,
            "facts": list(env._pddl_state.facts),
            "variables": {},
            "mapping": {},
            "entity_infos": env._entity_infos,
        }
        return " ".join(str(env._logic.grammar.derive(rule, context)).split())


def validate_expression(text: str) -> str:
    """An expression of a grammar, which names things and what they are called.

    Raises:
        ValueError: if it is anything else: a file is no program.
    """
    try:
        if all(map(_harmless, ast.walk(ast.parse(text.strip(), mode="eval")))):
            return text
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    raise ValueError(f"its grammar has {format_value(text)}, which is no expression of a grammar")


def _harmless(part: ast.AST) -> bool:
    name = part.id if isinstance(part, ast.Name) else part.attr if isinstance(part, ast.Attribute) else ""
    constant = isinstance(part, ast.Constant) and not isinstance(part.value, str)
    return isinstance(part, _PARTS) and not name.startswith("_") and not constant


def play() -> None:
    """Play what is asked for on the standard input, until that ends."""
    game = _Game()
    serve(begin=game.begin, act=game.act)
