"""All environments by id: `make("twx/coin")`, `make("twx/coin?numLocations=3")`, `families()`.

Importing this module also tells gymnasium of them, under `agentlab/` and with the slash as a hyphen:
`gymnasium.make("agentlab/twx-coin-v0", numLocations=3)`. Where nothing has imported it yet, gymnasium does so itself
when asked for `environments.registry:agentlab/twx-coin-v0`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

import gymnasium

from environments.base import ANSWER_LIMIT, TextEnv
from environments.errors import EnvironmentsError, UnknownEnvironment, did_you_mean
from environments.parameters import Game, Value, join, split_id
from environments.tools.shelf import PARAMETER, joined, named, tool
from environments.tools.wrapper import WithTools
from environments.worker import Worker

Factory = Callable[..., gymnasium.Env[Any, Any]]

# A family module has GAMES, DESCRIPTION, make(name, parameters) and why_not(); it imports nothing heavy by itself. One
# whose games others name has no GAMES, or says with takes(name) which other names it makes; GAME describes those.
_MODULES = {
    "toy": "environments.toy",
    "twx": "environments.textworld_express",
    "tw": "environments.textworld",
    "sciworld": "environments.scienceworld",
    "alfworld": "environments.alfworld",
    "household": "environments.household",
    "toytext": "environments.toy_text",
    "gym": "environments.gym",
    "textarena": "environments.textarena",
    "reasoning": "environments.reasoning",
    "openenv": "environments.openenv",
}
GROUP = "agentlab.environments"
"""Entry points of this group name modules that call `register`."""
_own: dict[str, Factory] = {}


@dataclass(frozen=True)
class Family:
    """Environments that come from one source; `why_not` says what is missing when they are not available.

    `checked` are those whose contract stands for all: a family of many slow ones names a few.
    """

    name: str
    environment_ids: tuple[str, ...]
    description: str
    available: bool
    why_not: str | None = None
    checked: tuple[str, ...] = ()


def make(env_id: str, worker: Worker | None = None, /, **overrides: Value) -> TextEnv:
    """The environment `env_id`; `overrides` are parameters that win over those in the id.

    It is made and runs in the thread of `worker`, by which others can stop waiting for it, also while it is made.

    Raises:
        UnknownEnvironment: if there is no such id.
        BadParameter: if a parameter is unknown or out of its range.
        MissingDependency: if something that is installed separately is absent.
        EnvironmentDied: if it hung while it was made.
    """
    name, given = split_id(env_id)
    parameters = {**given, **overrides}
    if PARAMETER in parameters:
        names = named(parameters.pop(PARAMETER))
        bare = join(name, parameters)
        if not names:
            return make(bare, worker)
        full = canonical(bare, **{PARAMETER: joined(names)})
        return made(full, lambda: WithTools(_factory(bare)(), [tool(one) for one in names], full), worker)
    return made(env_id, _factory(join(name, parameters)), worker)


def _factory(env_id: str) -> Callable[[], TextEnv]:
    """Makes an environment without tools, which runs in the thread in which it is made. Raises as `make` does."""
    name, parameters = split_id(env_id)
    if _is_own(name):
        return lambda: _as_text_env(_own[name](**parameters), env_id)
    module, game = _find(name)
    complete = parameters if game is None else game.complete(name, parameters)
    return lambda: module.make(name, complete)


def made(name: str, factory: Callable[[], TextEnv], worker: Worker | None = None) -> TextEnv:
    """What `factory` makes, made in the thread in which it will run: some things only work where they were made."""
    worker = worker or Worker(name)
    env = worker.call(factory, ANSWER_LIMIT)
    worker.name = env.env_id
    env.worker = worker
    return env


def canonical(env_id: str, /, **overrides: Value) -> str:
    """The one form of `env_id`: parameters sorted, those at their default and `tools=none` left out.

    Raises:
        UnknownEnvironment: if there is no such id.
        BadParameter: if a parameter is unknown or out of its range.
    """
    name, given = split_id(env_id)
    parameters = {**given, **overrides}
    names = named(parameters.pop(PARAMETER)) if PARAMETER in parameters else []
    tools: dict[str, Value] = {PARAMETER: joined(names)} if names else {}
    if not _is_own(name) and (game := _find(name)[1]) is not None:
        parameters = split_id(game.canonical(name, parameters))[1]
    return join(name, {**parameters, **tools})


def easier(env_id: str) -> str | None:
    """The next easier variant of an environment: a smaller game of its kind with the same tools. None if it has none:
    those of others do not say what makes them hard.

    Raises:
        UnknownEnvironment: if there is no such id.
        BadParameter: if a parameter is unknown or out of its range.
    """
    name, parameters = split_id(canonical(env_id))
    tools = {PARAMETER: parameters.pop(PARAMETER)} if PARAMETER in parameters else {}
    game = None if _is_own(name) else _find(name)[1]
    smaller = game.smaller(name, parameters) if game else None
    return smaller and canonical(smaller, **tools)


def register(env_id: str, factory: Factory) -> None:
    """Add an environment of one's own; `factory` gets the parameters of the id as keywords.

    It returns a `TextEnv`, or any other gymnasium environment whose observations are text, which is then wrapped.

    Raises:
        EnvironmentsError: if the id is taken, or is not of the form `family/name`.
    """
    family, slash, name = env_id.partition("/")
    if not family or not slash or not name or any(mark in env_id for mark in "?:, "):
        raise EnvironmentsError(f"`{env_id}` cannot be an id; ids are family/name without ?:, or blanks; rename it")
    others = family in _MODULES and not importlib.import_module(_MODULES[family]).GAMES
    if others or env_id in _shipped() or env_id in _own:
        raise EnvironmentsError(f"`{env_id}` is taken; an id names one environment only; choose another")
    _own[env_id] = factory


def unregister(env_id: str) -> None:
    """Remove an environment that was added with `register`; unknown ids are ignored."""
    _own.pop(env_id, None)


def families() -> list[Family]:
    """All families, with what each needs to be available."""
    found = []
    for name, path in _MODULES.items():
        module = importlib.import_module(path)
        why_not = module.why_not()
        checked = getattr(module, "CHECKED", tuple(module.GAMES))
        found.append(Family(name, tuple(module.GAMES), module.DESCRIPTION, why_not is None, why_not, checked))
    broken = _plugins()
    if _own:
        found.append(Family("own", tuple(_own), "registered by this program", True, checked=tuple(_own)))
    return found + [Family(name, (), "a plug-in", False, why) for name, why in broken.items()]


def environment_ids() -> list[str]:
    """The ids of all environments, without parameters, but for families whose games are named by others (`gym/...`)."""
    _plugins()
    return [*_shipped(), *_own]


def _shipped() -> list[str]:
    return [name for path in _MODULES.values() for name in importlib.import_module(path).GAMES]


def _is_own(name: str) -> bool:
    if name not in _own and name.partition("/")[0] not in _MODULES:
        _plugins()
    return name in _own


@cache
def _plugins() -> dict[str, str]:
    """Import what installed packages name in the group `agentlab.environments`, once; what could not be, and why."""
    broken = {}
    for plugin in entry_points(group=GROUP):
        try:
            plugin.load()
        except Exception as error:  # somebody else's program, which may raise anything
            broken[plugin.name] = f"{plugin.value}: {error}"
    return broken


def games(name: str) -> Game:
    """What the environment `name` is and which parameters it has.

    Raises:
        UnknownEnvironment: if there is no such id.
    """
    name = split_id(name)[0]
    game = None if _is_own(name) else _find(name)[1]
    return game or Game("no description")


def _find(name: str) -> tuple[ModuleType, Game | None]:
    family = name.partition("/")[0]
    if family in _MODULES:
        module = importlib.import_module(_MODULES[family])
        if name in module.GAMES:
            return module, module.GAMES[name]
        takes = getattr(module, "takes", lambda _: not module.GAMES)
        if name != f"{family}/" and takes(name):
            return module, getattr(module, "GAME", None)
    ids = environment_ids()
    broken = "".join(f"; the plug-in {plugin} could not be loaded ({why})" for plugin, why in _plugins().items())
    raise UnknownEnvironment(f"there is no environment `{name}`; {did_you_mean(name, ids)}{broken}")


def _as_text_env(env: gymnasium.Env[Any, Any], env_id: str) -> TextEnv:
    if isinstance(env, TextEnv):
        env.env_id = env_id
        return env
    from environments.gym import GymTextEnv

    return GymTextEnv(env, env_id=env_id)


def make_for_gymnasium(*, env_id: str, **parameters: Value) -> TextEnv:
    """What gymnasium calls; keywords given to `gymnasium.make` arrive as parameters."""
    parameters.pop("render_mode", None)
    return make(env_id, **parameters)


def _register_with_gymnasium(modules: Mapping[str, str]) -> None:
    for path in modules.values():
        for name in importlib.import_module(path).GAMES:
            gymnasium_id = f"agentlab/{name.replace('/', '-')}-v0"
            if gymnasium_id not in gymnasium.registry:
                gymnasium.register(gymnasium_id, entry_point=f"{__name__}:make_for_gymnasium", kwargs={"env_id": name})


_register_with_gymnasium(_MODULES)
