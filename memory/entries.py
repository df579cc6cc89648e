"""What a file of reflections holds: its entries, whoever wrote it, each checked before it is let in."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from memory import errors, foreign, moments, parquet
from memory.cleaning import clean, cleaned
from memory.history import same
from memory.records import Link, Recall, Reflection
from memory.reflections import Version

Origin = Literal["agentlab", "langmem", "mem0"]
NAME_LIMIT = 200  # characters of an id, an environment, a source

# From a file to entries


def entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each entry of the file with where it stands in it. Raises `BadImport`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise errors.BadImport(f"{path} cannot be read ({error.strerror}); check the path.") from error
    if data.startswith(parquet.MAGIC):
        for number, row in enumerate(parquet.read(path), 1):
            yield f"row {number}", row
        return
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        bad = data[: error.start].count(b"\n") + 1
        raise errors.BadImport(f"{path.name}, line {bad}: it is not UTF-8; save the file as UTF-8 text.") from error
    if (whole := _whole(path, text)) is not None:
        for number, entry in enumerate(whole, 1):
            yield f"item {number}", _object(path, f"item {number}", entry)
        return
    # Not splitlines(): a text may hold other line ends than \n, which JSON does not escape.
    for place, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"line {place}", _object(path, f"line {place}", _parsed(path, line, place))


def _whole(path: Path, text: str) -> list[Any] | None:
    """The list that the file is or holds, or None if it is JSON lines."""
    if not text.lstrip().startswith("["):
        try:
            value = _json(text)
        except (ValueError, RecursionError):
            return None
        found = [value.get(name) for name in foreign.LISTS] if isinstance(value, dict) else []
        return next((entries for entries in found if isinstance(entries, list)), None)
    value = _parsed(path, text, None)
    return value if isinstance(value, list) else None


def _parsed(path: Path, text: str, line: int | None) -> Any:
    try:
        return _json(text)
    except (ValueError, RecursionError) as error:
        at = line or (error.lineno if isinstance(error, json.JSONDecodeError) else 1)
        raise errors.BadImport(
            f"{path.name}, line {at}: it is not valid JSON ({why(error)}); correct it (nothing was imported)."
        ) from error


def _json(text: str) -> Any:
    """JSON as the standard has it: no NaN, nothing infinite."""
    return json.loads(text, parse_constant=_finite, parse_float=_finite)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _object(path: Path, where: str, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise errors.BadImport(f"{path.name}, {where}: it is not an object; correct it (nothing was imported).")
    return entry


def why(error: Exception) -> str:
    """The first complaint, in one line."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place}: {first['msg']}" if place else first["msg"]
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, column {error.colno}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())


# From entries to reflections


@dataclass
class Item:
    """One entry of a file, checked. `given` are the fields that the file states."""

    reflection: Reflection
    given: set[str]
    recalls: list[Recall] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    versions: list[Version] = field(default_factory=list)

    def named(self, own: Callable[[str], str]) -> Item:
        """The same item with every reflection's id as `own` has it."""

        def named(reflection: Reflection) -> Reflection:
            merged = reflection.merged_into
            return reflection.model_copy(
                update={
                    "id": own(reflection.id),
                    "derived_from": [own(id) for id in reflection.derived_from],
                    "merged_into": own(merged) if merged else None,
                }
            )

        id = own(self.reflection.id)
        return Item(
            named(self.reflection),
            self.given,
            recalls=[recall.model_copy(update={"reflection": id}) for recall in self.recalls],
            links=[link.model_copy(update={"source": id, "target": own(link.target)}) for link in self.links],
            versions=[replace(version, reflection=named(version.reflection)) for version in self.versions],
        )

    def over(self, old: Reflection) -> Reflection:
        """`old` with what the file states in its place."""
        return old.model_copy(update={name: getattr(self.reflection, name) for name in self.given})


@dataclass
class Reader:
    """Turns the entries of one file into checked items. The first entry decides whose export the file is."""

    path: Path
    format: Origin | None
    namespace: str | None
    keep_namespaces: bool
    source: str | None
    clock: Callable[[], str]

    def item(self, entry: dict[str, Any]) -> Item:
        """One entry, checked and cleaned. Raises ValueError (of which pydantic's errors are)."""
        name = self.format or foreign.recognised(entry)
        if name is None:
            raise ValueError("it is no reflection, no item of LangMem, and no memory of mem0 (--format says which)")
        self.format = name  # type: ignore[assignment]
        entry = dict(entry)
        attached: dict[str, list[Any]] = {}
        if name in foreign.READERS:
            entry = foreign.READERS[name](entry, None if self.keep_namespaces else self.namespace or "")
        else:
            attached = {part: _list(part, entry.pop(part, [])) for part in parquet.ATTACHED}
            if self.namespace is not None:
                entry["namespace"] = self.namespace
        if self.source is not None:
            entry["source"] = self.source
        given = {*entry}  # what follows is not stated by the file, and makes no difference to what is there already
        entry.setdefault("source", f"import:{self.path.stem}")
        entry.setdefault("created_at", self.clock())
        entry.setdefault("updated_at", entry["created_at"])
        reflection = _checked(Reflection.model_validate(entry))
        return Item(
            reflection,
            given,
            recalls=[_recall(item, reflection.id) for item in attached.get("recalls", [])],
            links=[_link(item, reflection.id) for item in attached.get("links", [])],
            versions=_earlier(attached.get("versions", []), reflection),
        )


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError(f"{name}: it is not a list of objects")
    return value


def _checked(reflection: Reflection) -> Reflection:
    """As `remember` keeps it; ids and names are single words that no terminal and no path can trip over."""
    id = reflection.id
    if not id or clean(id, NAME_LIMIT) != id or "\n" in id:
        raise ValueError("id: it is empty, too long, or holds control characters")
    names = ("kind", "env", "task", "run", "namespace", "source")
    values = {name: " ".join(clean(getattr(reflection, name), NAME_LIMIT).split()) for name in names}
    times = {name: moments.stored(getattr(reflection, name)) for name in ("created_at", "updated_at")}
    try:
        return cleaned(reflection.model_copy(update=values | times))
    except errors.InvalidReflection:
        raise ValueError("text: it is empty, and there is no advice either") from None


def _recall(item: dict[str, Any], reflection: str) -> Recall:
    recall = Recall.model_validate(item | {"reflection": reflection})
    names = {"query": clean(recall.query), "episode": clean(recall.episode, NAME_LIMIT)}
    return recall.model_copy(update=names | {"at": moments.stored(recall.at)})


def _link(item: dict[str, Any], source: str) -> Link:
    link = Link.model_validate(item | {"source": source})
    names = {"target": clean(link.target, NAME_LIMIT), "kind": clean(link.kind, NAME_LIMIT)}
    return link.model_copy(update=names | {"at": moments.stored(link.at)})


def _earlier(items: Sequence[dict[str, Any]], reflection: Reflection) -> list[Version]:
    versions = []
    for number, item in enumerate(items, 1):
        if {*item} != {"at", "change", "reflection"}:
            raise ValueError(f"versions.{number}: it needs `at`, `change` and `reflection`, and nothing else")
        old = _checked(Reflection.model_validate(item["reflection"]))
        if old.id != reflection.id:
            raise ValueError(f"versions.{number}: it is of another reflection")
        old = old.model_copy(update={"namespace": reflection.namespace, "source": reflection.source})
        versions.append(Version(number, moments.stored(str(item["at"])), clean(str(item["change"]), 40), old))
    if versions and not same(versions[-1].reflection, reflection):
        raise ValueError("versions: the last one is not the reflection itself")
    return versions
