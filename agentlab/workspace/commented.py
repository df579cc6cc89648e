"""Settings as a TOML file in which each line is explained: by what the docstrings of their classes say."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Collection, Iterator
from typing import Any

from pydantic import BaseModel

WIDTH = 120
_NAMED = re.compile(r"(?:^|(?<=[.;:)] ))((?:[a-z_]+, )*[a-z_]+): ")


def commented(settings: BaseModel, *, about: str = "", expert: Collection[str] = ()) -> str:
    """The TOML of `settings`, a comment before each. What is None stands as a comment, with what it could be.

    Reading it back gives the same settings; those of the names in `expert` stand in a table of that name at the end.
    """
    lines = [f"# {line}".rstrip() for line in textwrap.wrap(about, WIDTH - 2)]
    lines += [*([""] if lines else []), *_table(settings, "", said=True, but=expert)]
    if expert:
        usual = [name for name in type(settings).model_fields if name not in expert]
        lines += ["", "# What is rarely changed.", *_table(settings, "expert", said=True, but=usual)]
    return "\n".join(lines).strip() + "\n"


def explained(model: type[BaseModel]) -> dict[str, str]:
    """What the docstrings of a class of settings say of each field: `name: text`, also `a, b: text`.

    Those of its bases count, and of the class that it names as `explained_by`.
    """
    found: dict[str, str] = {}
    kin = [one for one in model.__mro__ if issubclass(one, BaseModel) and one is not BaseModel]
    for one in [getattr(model, "explained_by", model), *reversed(kin)]:
        for paragraph in inspect.cleandoc(one.__doc__ or "").split("\n\n"):
            names: list[str] = []
            text = " ".join(paragraph.split())
            start = 0
            for part in _NAMED.finditer(text):
                if not set(part.group(1).split(", ")) <= one.model_fields.keys():
                    continue
                found |= dict.fromkeys(names, text[start : part.start()].rstrip(" ;"))
                names, start = part.group(1).split(", "), part.end()
            found |= dict.fromkeys(names, text[start:])
    return {name: said for name, said in found.items() if name in model.model_fields}


def _table(settings: BaseModel, name: str, *, said: bool, but: Collection[str] = ()) -> Iterator[str]:
    """The lines of a table without the fields in `but`, single values first; with `said` false all as comments."""
    mark, about = ("" if said else "# "), explained(type(settings))
    if name:
        yield f"{mark}[{name}]"
    fields = {key: field for key, field in type(settings).model_fields.items() if key not in but}
    before = ""
    for key, field in fields.items():
        value = getattr(settings, key)
        if isinstance(value, BaseModel) or (value is None and _part(field.annotation)):
            continue
        # What is said of several stands before the first.
        yield from (f"# {line}" for line in textwrap.wrap(about.get(key, ""), WIDTH - 2) if about.get(key) != before)
        before = about.get(key, "")
        yield f"# {key} = …" if value is None else f"{mark}{key} = {_toml(value)}"
    for key, field in fields.items():
        value, part = getattr(settings, key), _part(field.annotation)
        if part is None and not isinstance(value, BaseModel):
            continue
        yield ""
        yield from (f"# {line}" for line in textwrap.wrap(about.get(key, ""), WIDTH - 2))
        inner = f"{name}.{key}" if name else key
        if isinstance(value, BaseModel):
            yield from _table(value, inner, said=said)
        elif part is not None and not any(info.is_required() for info in part.model_fields.values()):
            yield from _table(part(), inner, said=False)
        else:
            yield f"# [{inner}]"


def _part(annotation: Any) -> type[BaseModel] | None:
    """The class of settings in `X` or `X | None`."""
    for kind in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _toml(value: Any) -> str:
    """A value as TOML: what JSON writes for text, numbers and lists of them is TOML too; tables stand in a line."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, (list, tuple, set, frozenset)):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return json.dumps(value, ensure_ascii=False)
