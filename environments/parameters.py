"""Environment ids with parameters: `twx/coin?includeDoors=0,numLocations=3`.

An id has one canonical form (parameters sorted, those at their default left out), so that one game has one name in
every record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from environments.errors import BadParameter, did_you_mean

Value = int | float | str


@dataclass(frozen=True)
class Parameter:
    """A whole-number parameter of a game: its default, its lowest and highest value, and what it means.

    `size` says that more of it makes a larger, harder game; `values` are those that it can have, if not all between.
    """

    default: int
    low: int
    high: int
    meaning: str
    size: bool = False
    values: tuple[int, ...] = ()

    def less(self, value: int) -> int:
        """The value halfway down to the lowest; the highest below that where it cannot be had."""
        half = self.low + (value - self.low) // 2
        return max((one for one in self.values if one <= half), default=self.low) if self.values else half


@dataclass(frozen=True)
class Game:
    """One environment of a family: what one does in it and with which parameters."""

    description: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    def complete(self, env_id: str, given: Mapping[str, Value]) -> dict[str, int]:
        """All parameters: those `given`, and the defaults of the others.

        Raises:
            BadParameter: if one is unknown, not a whole number, or out of its range.
        """
        values = {name: parameter.default for name, parameter in self.parameters.items()}
        for name, value in given.items():
            parameter = self.parameters.get(name)
            if parameter is None:
                raise BadParameter(f"{env_id} has no parameter `{name}`; {did_you_mean(name, self.parameters)}")
            if not isinstance(value, int) or not parameter.low <= value <= parameter.high:
                raise BadParameter(
                    f"{env_id} cannot have {name}={value}; {parameter.meaning}; give a whole number from "
                    f"{parameter.low} to {parameter.high}"
                )
            if parameter.values and value not in parameter.values:
                known = ", ".join(map(str, parameter.values))
                raise BadParameter(f"{env_id} cannot have {name}={value}; {parameter.meaning}; give one of {known}")
            values[name] = int(value)
        return values

    def canonical(self, env_id: str, given: Mapping[str, Value]) -> str:
        """The one id of this game with these parameters."""
        values = self.complete(env_id, given)
        return join(env_id, {name: value for name, value in values.items() if value != self.parameters[name].default})

    def smaller(self, env_id: str, given: Mapping[str, Value]) -> str | None:
        """The id with everything that makes this game large halfway down to its lowest; None if it is there already."""
        values = self.complete(env_id, given)
        less = {name: one.less(values[name]) for name, one in self.parameters.items() if one.size}
        return self.canonical(env_id, values | less) if less.items() - values.items() else None


def split_id(env_id: str) -> tuple[str, dict[str, Value]]:
    """The id without its parameters, and the parameters.

    Raises:
        BadParameter: if what follows the question mark is not a list of name=value.
    """
    name, mark, query = env_id.strip().partition("?")
    parameters: dict[str, Value] = {}
    for pair in query.split(",") if mark else []:
        key, equals, text = (part.strip() for part in pair.partition("="))
        if not key or not equals or not text:
            raise BadParameter(f"`{env_id}` has a parameter without a value: `{pair}`; write `{name}?name=1,other=2`")
        if key in parameters:
            raise BadParameter(f"`{env_id}` gives `{key}` twice; which one is meant is unclear; keep one of them")
        parameters[key] = value_of(text)
    return name, parameters


def value_of(text: str) -> Value:
    """A whole number, a number or a word, whichever `text` is."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def join(name: str, parameters: Mapping[str, Value]) -> str:
    """The id of `name` with `parameters`, sorted; what is true or false is 1 or 0.

    Raises:
        BadParameter: if a value cannot stand in an id.
    """
    values = {key: int(value) if isinstance(value, bool) else value for key, value in sorted(parameters.items())}
    for key, value in values.items():
        if isinstance(value, str) and ("," in value or value != value.strip() or not value):
            raise BadParameter(f"{name} cannot have {key}={value!r}; a value in an id is a word without a comma")
    query = ",".join(f"{key}={value}" for key, value in values.items())
    return f"{name}?{query}" if query else name
