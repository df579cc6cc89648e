"""Memories that this tool or another one exported, as offers: LangGraph's stores, LangMem, mem0 and OpenMemory.

Looked up in langmem 0.0.30 with langgraph's `Item.dict()`, in the rows of langgraph-checkpoint's Postgres and SQLite
stores, in mem0ai 2.2.1 with the answers of mem0's platform, and in the export of OpenMemory's own server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from memory.interchange.admission import moment_of
from memory.text import jsonlines

Origin = Literal["agentlab", "langmem", "mem0", "openmemory"]
NOTE = "note"
"""The kind of what other tools exported."""
UNKNOWN = (
    "it is no reflection, no item of LangMem or a LangGraph store, and no memory of mem0 or OpenMemory "
    "(--format says which)"
)


class Offer(NamedTuple):
    """What an entry offers: `fields` for `admission.admitted`, by the name `key` that it has in its tool.

    `place` is where it was there: a namespace, a user or agent.
    """

    key: str
    fields: dict[str, Any]
    place: str


Reader = Callable[[Mapping[str, Any], str], Offer]
"""Reads an entry at a moment. Raises ValueError for what is none, or is not in use any more."""


def agentlab(item: Mapping[str, Any], at: str) -> Offer:
    """A reflection as this tool exports it. What it says of its own standing is not looked at by anybody."""
    id = item.get("id")
    if not isinstance(id, str) or not id.strip():
        raise ValueError("id: it is missing, or no text")
    return Offer(id, dict(item), str(item.get("namespace") or ""))


def langmem(item: Mapping[str, Any], at: str) -> Offer:
    """An item of a LangGraph store, as LangMem fills it, or as a row of a store's table.

    An item is `{namespace, key, value, created_at, updated_at}`; a row has a `prefix` (joined by dots) in place of the
    namespace, and its `value` may be JSON text. `value` is `{"kind": …, "content": {…}}` (from a store manager) or
    `{"content": …}` (from the tool that manages memories); the content is a text or the fields of the user's schema.
    """
    value, path = item.get("value"), item.get("prefix") or item.get("namespace") or []
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = jsonlines.parsed(value.encode("utf-8", "replace"))
    if not isinstance(value, Mapping) or not isinstance(item.get("key"), str):
        raise ValueError("an item of a LangGraph store needs a text as `key` and an object as `value`")
    expires = moment_of(item.get("expires_at"))
    if expires is not None and expires <= at:
        raise ValueError("it has expired")
    labels = path.split(".") if isinstance(path, str) else path if isinstance(path, list) else [path]
    place = "/".join(map(str, labels))
    kind = value.get("kind")
    tags = [f"namespace:{place}"] if place else []
    if isinstance(kind, str) and kind != "Memory":
        tags.append(f"kind:{kind}")
    named = {name: part for name, part in value.items() if name != "kind"}
    fields = {"kind": NOTE, "text": _prose(named), "tags": tags, "created_at": item.get("created_at")}
    return Offer(f"{place}\x1f{item['key']}", fields, place)


def mem0(item: Mapping[str, Any], at: str) -> Offer:
    """A memory of mem0, `{id, memory, hash, metadata, categories, user_id, agent_id, …, created_at, updated_at}`.

    A point of its vector store has the same in `payload`, the text as `data`.
    """
    if isinstance(item.get("payload"), Mapping):
        payload = item["payload"]
        item = {**payload, "id": item.get("id"), "memory": payload.get("data")}
    if not isinstance(item.get("id"), (str, int)) or not isinstance(item.get("memory"), (str, type(None))):
        raise ValueError("a memory of mem0 needs an `id` and a text as `memory`")
    if item.get("event") == "DELETE":
        raise ValueError("it was deleted there")
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
    fields = {"kind": NOTE, "text": item.get("memory") or "", "created_at": item.get("created_at")}
    fields["tags"] = [tag for tag in tags if isinstance(tag, (str, int, float))]
    fields |= {name: metadata[name] for name in ("task", "env") if isinstance(metadata.get(name), str)}
    place = "/".join(str(value) for name, value in owners if name in ("user", "agent"))
    return Offer(str(item["id"]), fields, place)


def openmemory(item: Mapping[str, Any], at: str) -> Offer:
    """A memory of OpenMemory, `{id, content, state, metadata, app, categories, user_id, created_at, updated_at}`."""
    state = item.get("state")
    if state not in (None, "active"):
        raise ValueError(f"it is {' '.join(str(state)[:40].split())} there")
    return mem0({**item, "memory": item.get("content"), "app_id": item.get("app")}, at)


READERS: dict[str, Reader] = {"agentlab": agentlab, "langmem": langmem, "mem0": mem0, "openmemory": openmemory}


def recognised(entry: Mapping[str, Any]) -> str | None:
    """Whose export this entry is from: one of `READERS`, or None. One without an id is told so by its reader."""
    names = entry.keys()
    if {"key", "value"} <= names and names & {"namespace", "prefix"}:
        return "langmem"
    if "memory" in names or ("id" in names and isinstance(entry.get("payload"), Mapping)):
        return "mem0"
    if {"id", "content"} <= names and names & {"state", "app", "user_id", "categories", "category_ids"}:
        return "openmemory"
    return "agentlab" if {"kind", "text"} <= names else None


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
