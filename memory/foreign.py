"""Memories that other tools exported, as fields of reflections: LangMem (items of a LangGraph store) and mem0.

Looked up in langmem 0.0.30 with langgraph's `Item.dict()`, and in mem0ai 2.2.1 with the answers of mem0's platform.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from memory import moments
from memory.quoting import quoted
from memory.records import content_id

Reader = Callable[[Mapping[str, Any], str | None], dict[str, Any]]
NOTE = "note"
"""The kind of what they exported."""
TAGS = 20
"""At most so many tags are made of one memory's metadata."""


def langmem(item: Mapping[str, Any], namespace: str | None) -> dict[str, Any]:
    """An item of a LangGraph store, `{namespace, key, value, created_at, updated_at}`, as LangMem fills it.

    `value` is `{"kind": …, "content": {…}}` (from a store manager) or `{"content": …}` (from the tool that manages
    memories); the content is a text or the fields of the user's own schema. Raises ValueError.
    """
    value, path = item.get("value"), item.get("namespace") or []
    if not isinstance(value, Mapping) or not isinstance(item.get("key"), str):
        raise ValueError("an item of a LangGraph store needs a text as `key` and an object as `value`")
    place = "/".join(map(str, path)) if isinstance(path, list) else str(path)
    kind = value.get("kind")
    tags = [f"namespace:{place}"] if place else []
    if isinstance(kind, str) and kind != "Memory":
        tags.append(f"kind:{kind}")
    named = {name: part for name, part in value.items() if name != "kind"}
    return _note("langmem", f"{place}\x1f{item['key']}", _prose(named), tags, item, place, namespace)


def mem0(item: Mapping[str, Any], namespace: str | None) -> dict[str, Any]:
    """A memory of mem0, `{id, memory, hash, metadata, categories, user_id, agent_id, …, created_at, updated_at}`.

    Raises ValueError.
    """
    if not isinstance(item.get("id"), (str, int)) or not isinstance(item.get("memory"), str):
        raise ValueError("a memory of mem0 needs an `id` and a text as `memory`")
    owners = [(name, item[f"{name}_id"]) for name in ("user", "agent", "app", "run") if item.get(f"{name}_id")]
    metadata = item.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    categories = item.get("categories") or metadata.get("categories") or []
    tags = [*categories] if isinstance(categories, list) else []
    tags += [f"{name}:{value}" for name, value in owners]
    known = ("categories", "task", "env")
    tags += [
        f"{name}:{part}"
        for name, value in metadata.items()
        if name not in known
        for part in (value if isinstance(value, list) else [value])
        if isinstance(part, (str, int, float))
    ]
    place = "/".join(str(value) for name, value in owners if name in ("user", "agent"))
    fields = _note("mem0", str(item["id"]), item["memory"], tags, item, place, namespace)
    return fields | {name: metadata[name] for name in ("task", "env") if isinstance(metadata.get(name), str)}


READERS: dict[str, Reader] = {"langmem": langmem, "mem0": mem0}
LISTS = ("results", "items", "memories", "data")
"""Under which names an answer of one of these tools holds its list."""


def recognised(entry: Mapping[str, Any]) -> str | None:
    """Which tool's export this entry is from: `langmem`, `mem0`, `agentlab`, or None."""
    if {"namespace", "key", "value"} <= entry.keys():
        return "langmem"
    if {"id", "memory"} <= entry.keys():
        return "mem0"
    return "agentlab" if {"id", "kind", "text"} <= entry.keys() else None


def _note(
    tool: str, id: str, text: str, tags: list[Any], item: Mapping[str, Any], place: str, namespace: str | None
) -> dict[str, Any]:
    """A reflection's fields. `namespace` is where it goes; None: where it was, `place`.

    The id follows from the foreign one, so that the same memory imported twice is one. The text is a stranger's.
    """
    quote = quoted(text)
    if not quote:
        raise ValueError("it has no text")
    goal = place if namespace is None else namespace
    fields = {
        "id": content_id("note", tool, id, *([goal] if goal else [])),
        "kind": NOTE,
        "env": "",
        "task": "",
        "text": quote,
        "tags": list(dict.fromkeys(str(tag) for tag in tags))[:TAGS],
        "oracle": False,
        "namespace": goal,
    }
    for name in ("created_at", "updated_at"):
        if item.get(name) is not None:
            fields[name] = _time(item[name])
    if "created_at" in fields:
        fields.setdefault("updated_at", fields["created_at"])
    return fields


def _time(value: Any) -> str:
    """A time in ISO 8601 (without a zone: UTC) or in seconds since 1970, as it is stored. Raises ValueError."""
    try:
        if isinstance(value, (int, float)):
            return moments.stored(datetime.fromtimestamp(value, UTC).isoformat())
        moment = datetime.fromisoformat(value)
        return moments.stored((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat())
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{value!r} is no time in ISO 8601") from error


def _prose(value: Any) -> str:
    """A value as text: a text itself, an object of one part as that part, a larger one as `name: part; …`."""
    if isinstance(value, Mapping):
        parts = {name: part for name, part in value.items() if part not in (None, "", [], {})}
        if len(parts) == 1:
            return _prose(next(iter(parts.values())))
        return "; ".join(f"{name}: {_prose(part)}" for name, part in parts.items())
    if isinstance(value, list):
        return ", ".join(_prose(part) for part in value)
    return str(value) if value is not None else ""
