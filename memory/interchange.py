"""Reflections out of the memory into a file, and back, without loss.

A file of JSON lines has one reflection a line: all fields of `Reflection`, and where there are any

- `recalls`: whom it served and how that ended (the fields of `Recall` but the reflection), so that credit survives;
- `links`: from it to others in the same file (the fields of `Link` but the source);
- `versions`, if asked for: what it was, the first one first, as `{at, change, reflection}`.

A Parquet file has the same as columns (see `memory.parquet`). Operations stay behind: they are undone where they were
done. An import is an operation of its own, so it can be undone.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TextIO

from memory import errors, parquet, quota
from memory.cleaning import clean
from memory.database import Database
from memory.entries import Item, Origin, Reader, entries, why
from memory.episodes import chunks, marks
from memory.history import same
from memory.records import Link, Recall, Reflection, now
from memory.reflections import Filter, Version

Container = Literal["jsonl", "parquet"]


# Out


def export_reflections(
    database: Database,
    target: Path | str | TextIO,
    *,
    format: Container | None = None,
    wanted: Filter | None = None,
    namespace: str | None = None,
    history: bool = False,
) -> int:
    """Write the reflections that are `wanted` (all, of one `namespace` or of all), the oldest first; return how many.

    `format` follows from the ending of the path: `.parquet` is Parquet, everything else JSON lines. A path is written
    whole or not at all. With `history` every earlier version comes along.

    Raises:
        MissingDependency: for Parquet without pyarrow.
        MemoryStoreError: if the file cannot be written.
    """
    chosen = wanted or Filter()
    if namespace is not None:
        chosen = replace(chosen, namespace=namespace)
    counted = _Counted()
    with database.transaction():  # what another process writes meanwhile is not half in the file
        rows = counted.each(_rows(database, chosen, history))
        if isinstance(target, (str, Path)):
            path = Path(target)
            write = _writer(format or ("parquet" if path.suffix == ".parquet" else "jsonl"))
            _write_whole(path, lambda beside: write(beside, rows))
        elif format == "parquet":
            raise errors.MemoryStoreError("Parquet is not written to a stream; give the path of a file.")
        else:
            target.writelines(map(_line, rows))
    return counted.count


@dataclass
class _Counted:
    count: int = 0

    def each(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for row in rows:
            self.count += 1
            yield row


def _rows(database: Database, wanted: Filter, history: bool) -> Iterator[dict[str, Any]]:
    where, values = wanted.sql()
    chosen = dict(database.execute(f"SELECT number, id FROM reflections WHERE {where} ORDER BY number", values))
    ids = set(chosen.values())
    for part in chunks(list(chosen)):
        loaded = database.load_reflections(part)
        for number in part:
            yield _row(database, loaded[number], ids, history)


def _row(database: Database, reflection: Reflection, exported: set[str], history: bool) -> dict[str, Any]:
    row = reflection.model_dump(mode="json")
    # In the order in which they came: an episode counts by the first of its recalls.
    came = database.execute("SELECT episode, face FROM recalls WHERE reflection = ? ORDER BY rowid", (reflection.id,))
    kept = {(recall.episode, recall.face): recall for recall in database.recalls_of(reflection.id)}
    recalls = [kept[episode, face] for episode, face in came]
    links = [link for link in database.links_of(reflection.id) if link.source == reflection.id]
    links = sorted((link for link in links if link.target in exported), key=lambda item: (item.target, item.kind))
    attached: dict[str, list[Any]] = {
        "recalls": [recall.model_dump(mode="json", exclude={"reflection"}) for recall in recalls],
        "links": [link.model_dump(mode="json", exclude={"source"}) for link in links],
        "versions": _versions(database.reflection_versions(reflection.id)) if history else [],
    }
    return row | {name: items for name, items in attached.items() if items}


def _versions(versions: Sequence[Version]) -> list[dict[str, Any]]:
    """Plain data of the versions, but for those that changed nothing: where an import put the item behind its own."""
    before = [None, *(version.reflection for version in versions)]
    return [
        {"at": version.at, "change": version.change, "reflection": version.reflection.model_dump(mode="json")}
        for old, version in zip(before, versions, strict=False)
        if old is None or not same(old, version.reflection)
    ]


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


def _writer(format: Container) -> Callable[[Path, Iterable[dict[str, Any]]], None]:
    def lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(map(_line, rows))

    return parquet.write if format == "parquet" else lines


def _write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Have the file written beside `path`, then put it in its place."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        if path.exists() and not path.is_file():
            raise OSError(0, "it is not a plain file")
        write(beside)
        beside.replace(path)
    except OSError as error:
        raise errors.MemoryStoreError(
            f"{path} could not be written ({error.strerror}); give a path in a folder where you may write."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


# In


@dataclass
class ImportReport:
    """What became of a file's entries, by their ids.

    `same` were there already, `differing` too but otherwise, and were kept as they are; `recalls` and `links` count
    what came along with the rest.
    """

    added: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    recalls: int = 0
    links: int = 0


def import_reflections(
    database: Database,
    path: Path | str,
    *,
    format: Origin | None = None,
    namespace: str | None = None,
    keep_namespaces: bool = False,
    source: str | None = None,
    replace: bool = False,
    limit: int = quota.QUOTA,
    clock: Callable[[], str] = now,
) -> ImportReport:
    """Bring in the reflections of a file: all or, if one entry cannot be kept, none.

    JSON lines, a JSON list, an object that holds a list, and Parquet are told apart by content, and so is whose export
    it is (`format` overrides that). Texts are cleaned as `ReflectionMemory.remember` does; those of other tools are
    quoted. An id that another namespace has becomes one of its own, always the same, as in `remember`.

    Args:
        namespace: where all goes. None: for our own files where they say, for those of others the default one.
        keep_namespaces: memories of other tools go to namespaces named as theirs (user or agent, or the store's path);
            otherwise these become tags.
        source: who wrote it. None: who the file says, else `import:` and the name of the file.
        replace: a reflection that is there but differs gets a new version rather than being kept as it is.
        limit: how many active reflections one source may bring in within 24 hours (see `memory.quota`).

    Raises:
        BadImport: naming the line, item or row; QuotaExceeded; MissingDependency.
    """
    path = Path(path)
    reader = Reader(path, format, namespace, keep_namespaces, source, clock)
    report = ImportReport()
    recalls: list[Recall] = []
    links: list[Link] = []
    added: list[Reflection] = []
    with database.operation("import", clean(path.name)):
        for where, entry in entries(path):
            try:
                item = reader.item(entry)
                item = item.named(partial(database.own_id, namespace=item.reflection.namespace))
                outcome = _keep(database, item, replace)
            except (ValueError, OverflowError, RecursionError) as error:
                raise errors.BadImport(
                    f"{path.name}, {where}: {why(error)}; correct or remove it (nothing was imported)."
                ) from error
            outcome_ids: list[str] = getattr(report, outcome)
            outcome_ids.append(item.reflection.id)
            if outcome != "differing":
                recalls += item.recalls
            if outcome in ("added", "replaced"):
                links += item.links
            if outcome == "added":
                added.append(item.reflection)
        quota.check(database, added, limit, now())
        report.recalls = _put_recalls(database, recalls)
        report.links = _put_links(database, links)
    return report


def _keep(database: Database, item: Item, replace: bool) -> str:
    """Put one item into the database, or not. Returns the name of the report's list that it belongs to."""
    id = item.reflection.id
    if not database.has_reflection(id):
        database.put_reflection(item.reflection, change="imported")
        if item.versions:
            _put_versions(database, id, item.versions)
        return "added"
    old = database.reflection(id)
    new = item.over(old)
    if same(old, new):
        return "same"
    if not replace:
        return "differing"
    database.put_reflection(new, change="replaced")
    return "replaced"


def _put_versions(database: Database, id: str, versions: Sequence[Version]) -> None:
    """Put earlier versions before the one that the import has just made."""
    number = database.execute("SELECT number FROM reflections WHERE id = ?", (id,))[0][0]
    database.execute(
        "UPDATE reflection_versions SET version = version + ? WHERE reflection = ?", (len(versions), number)
    )
    database.executemany(
        "INSERT INTO reflection_versions (reflection, version, at, change, payload) VALUES (?, ?, ?, ?, ?)",
        [
            (number, item.version, item.at, item.change, zlib.compress(item.reflection.model_dump_json().encode(), 1))
            for item in versions
        ],
    )


def _put_recalls(database: Database, recalls: Sequence[Recall]) -> int:
    """Keep the recalls that are not there yet; returns how many those were."""
    count = "SELECT count(*) FROM recalls"
    before = database.execute(count)[0][0]
    try:
        database.put_recalls(recalls)
    except OverflowError as error:
        raise errors.BadImport(f"A recall holds a number that is too large ({error}); nothing was imported.") from error
    return int(database.execute(count)[0][0] - before)


def _put_links(database: Database, links: Sequence[Link]) -> int:
    """Keep the links whose both ends are here and in one namespace; returns how many those were."""
    ends = {end for link in links for end in (link.source, link.target)}
    homes: dict[str, str] = {}
    for part in chunks(sorted(ends)):
        homes.update(database.execute(f"SELECT id, namespace FROM reflections WHERE id IN {marks(part)}", part))
    whole = [link for link in links if link.target in homes and homes[link.source] == homes[link.target]]
    database.put_links(whole)
    return len(whole)
