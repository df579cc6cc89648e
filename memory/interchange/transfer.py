"""Reflections out of the memory into a file, and into the memory out of a file.

A file of JSON lines has one reflection a line: all fields of `Reflection`, and where there are any

- `recalls`: whom it served and how that ended (the fields of `Recall` but the reflection);
- `links`: from it to others in the same file (the fields of `Link` but the source);
- `versions`, if asked for: what it was, the first one first, as `{at, change, reflection}`.

A Parquet file has the same as columns (see `parquet`). That is for whoever looks into the file. What comes in
claims nothing for itself (see `admission`): of all this an import takes what was learned, and where, and leaves
credit, pins, history and standing behind. A lab that is to go on elsewhere as it is, is moved as a folder. An import is
an operation of its own, so it can be undone.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

from pydantic import ValidationError

from memory import errors
from memory.interchange import documents, foreign, parquet, quota
from memory.interchange.admission import NAME_LIMIT, STATED, WRITTEN, admitted
from memory.interchange.foreign import Origin
from memory.records import Reflection, content_id, now
from memory.store import repeats
from memory.store.database import Database
from memory.store.filters import EVERYTHING, Filter
from memory.store.reflections import same
from memory.store.sql import chunks
from memory.store.versions import Version
from memory.text.cleaning import TEXT_LIMIT, clean, name

Container = Literal["jsonl", "parquet"]


# Out


def export_reflections(
    database: Database,
    target: Path | str | TextIO,
    *,
    format: Container | None = None,
    wanted: Filter = EVERYTHING,
    history: bool = False,
) -> int:
    """Write the reflections that are `wanted`, the oldest first; return how many.

    `format` follows from the ending of the path: `.parquet` is Parquet, everything else JSON lines. A path is written
    whole or not at all. With `history` every earlier version comes along.

    Raises:
        MissingDependency: for Parquet without pyarrow.
        MemoryStoreError: if the file cannot be written.
    """
    counted = _Counted()
    with database.transaction():  # what another process writes meanwhile is not half in the file
        rows = counted.each(_rows(database, wanted, history))
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


class _Chosen(NamedTuple):
    number: int
    id: str


def _rows(database: Database, wanted: Filter, history: bool) -> Iterator[dict[str, Any]]:
    chosen = database.reflections.select(_Chosen, wanted)
    ids = {one.id for one in chosen}
    for part in chunks([one.number for one in chosen]):
        loaded = database.reflections.load(part)
        for number in part:
            yield _row(database, loaded[number], ids, history)


def _row(database: Database, reflection: Reflection, exported: set[str], history: bool) -> dict[str, Any]:
    row = reflection.model_dump(mode="json")
    recalls = database.recalls.as_they_came(reflection.id)
    links = [link for link in database.links.of(reflection.id) if link.source == reflection.id]
    links = sorted((link for link in links if link.target in exported), key=lambda item: (item.target, item.kind))
    attached: dict[str, list[Any]] = {
        "recalls": [recall.model_dump(mode="json", exclude={"reflection"}) for recall in recalls],
        "links": [link.model_dump(mode="json", exclude={"source"}) for link in links],
        "versions": _versions(database.versions.of(reflection.id)) if history else [],
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

OUT_OF_USE = ("forgotten", "benched", "merged")
"""What stands so where it comes from is not brought into use here."""

SHOWN = 100
"""Of so many entries that were left out, a report says which and why."""


@dataclass
class ImportReport:
    """What became of a file's entries.

    Attributes:
        added, replaced: the ids that they have here.
        cut: those of them whose text was too long, and has its beginning here.
        same: ids of what was there already and says the same.
        differing: ids of what was there already, says something else, and was kept as it is.
        left_out: the first entries that could not be taken, each as `where: why`; `omitted` is how many there were.
    """

    added: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    omitted: int = 0

    def leave_out(self, complaint: str) -> None:
        self.omitted += 1
        if len(self.left_out) < SHOWN:
            self.left_out.append(complaint)


def import_reflections(
    database: Database,
    path: Path | str,
    *,
    format: Origin | None = None,
    namespace: str | None = None,
    keep_namespaces: bool = False,
    source: str | None = None,
    replace: bool = False,
    strict: bool = False,
    limit: int = quota.QUOTA,
    clock: Callable[[], str] = now,
) -> ImportReport:
    """Bring in the reflections of a file, as data that claims nothing for itself: see `admission`.

    What the file may be is told by `documents`, whose export it is by its entries (`format` overrides that). An
    entry that cannot be taken, or is not in use there, nor what it says again, is left out and named. Ids are made here
    from those of the file, always the same, so that importing twice adds nothing; neither does a text that this memory
    has about that environment. An entry with the id of something of this memory's own is that one.

    Args:
        namespace: where all goes; None: the default one.
        keep_namespaces: each goes to a namespace named as its own there (of other tools: their user or agent, or the
            store's path); otherwise users and paths become tags.
        source: who wrote it, for this lab and its quota; by default `import:` and the name of the file.
        replace: what is there but differs gives way, unless it is pinned: a version of an earlier import to a new one;
            what is of this memory's own is forgotten, and what the file says comes in beside it, without its credit.
        strict: an entry that cannot be taken refuses the file.
        limit: how many active reflections one source may bring in within 24 hours, into all namespaces together.

    Raises:
        BadImport: if the file, or with `strict` an entry, or every entry cannot be taken. Then nothing was imported,
            nor with QuotaExceeded or MissingDependency.
    """
    path = Path(path)
    source = name(source or "", NAME_LIMIT) or f"import:{name(path.stem, NAME_LIMIT)}"
    work = _Import(database, format, None if keep_namespaces else namespace or "", source, replace, clock())
    report = work.report
    with database.operations.record("import", clean(path.name)):
        waiting: list[tuple[str, documents.Entry]] = []
        for where, entry in chain(documents.entries(path), waiting):
            try:
                if not work.take(entry):
                    waiting.append((where, entry))
            except (ValueError, OverflowError, RecursionError) as error:
                complaint = f"{where}: {_why(error)}"
                if strict:
                    raise errors.BadImport(
                        f"{path.name}, {complaint}; correct or remove it (nothing was imported)."
                    ) from error
                report.leave_out(complaint)
            if len(work.added) > limit:
                break
        if report.omitted and not (report.added or report.same or report.replaced or report.differing):
            raise errors.BadImport(
                f"{path.name}, {report.left_out[0]}; no entry of it can be taken (nothing was imported)."
            )
        quota.check(database, work.added, limit, now(), apart=False)
    return report


@dataclass
class _Import:
    """One import on its way. `namespace` None lets each entry say where it goes."""

    database: Database
    format: Origin | None
    namespace: str | None
    source: str
    replace: bool
    at: str
    report: ImportReport = field(default_factory=ImportReport)
    added: list[Reflection] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)
    _says_again: dict[str, str] = field(default_factory=dict)
    _out: set[str] = field(default_factory=set)

    def take(self, entry: documents.Entry) -> bool:
        """Put one entry into the memory, or not, and note which. False if it says again what is not read yet: it is to
        be given again behind all others. Raises ValueError if it cannot be taken."""
        if isinstance(entry, documents.Unreadable):
            raise ValueError(entry.why)
        tool = self.format or foreign.recognised(entry)
        if tool is None:
            raise ValueError(foreign.UNKNOWN)
        offer = foreign.READERS[tool](entry, self.at)
        # The first entry that is one decides whose export the file is.
        self.format = tool  # type: ignore[assignment]
        goal = name(offer.place, NAME_LIMIT) if self.namespace is None else self.namespace
        key = content_id("note", tool, ascii(offer.key)[1:-1], *([goal] if goal else []))
        new = admitted(offer.fields, id=key, source=self.source, at=self.at, namespace=goal)
        if not self._read(offer):
            return False
        stated = {*STATED} & offer.fields.keys()
        if self.database.reflections.has(key):
            old = self.database.reflections.get(key)
            if old.status == "forgotten":
                raise ValueError(f"it is here as {old.id}, but was taken out of use; restore it if it is wanted")
            update = {part: getattr(new, part) for part in stated}
            new = repeats.reworded(
                old, old.model_copy(update=update | {"source": self.source, "vouched": False, "updated_at": self.at})
            )
            self._settle(offer, old, new, stated, change="replaced")
        elif (own := self._own(offer, goal)) is not None:
            self._settle(offer, own, new, stated, change="imported")
        elif known := self._known(new):
            self.report.same.append(known)
        else:
            self._refuse_unused(offer)
            self._put(offer, repeats.counted(self.database, new), "imported", self.report.added)
        return True

    def _read(self, offer: foreign.Offer) -> bool:
        """Note how an entry stands where it comes from; False if it says again what is not read yet, the first time."""
        status, again = offer.fields.get("status"), offer.fields.get("merged_into")
        if status in OUT_OF_USE:
            self._out.add(offer.key)
        elif status == "repeated" and isinstance(again, str) and offer.key not in self._says_again:
            self._says_again[offer.key] = again
            if again not in self._seen:
                return False
        self._seen.add(offer.key)
        return True

    def _refuse_unused(self, offer: foreign.Offer) -> None:
        """Raise ValueError if an entry, or what it says again, is out of use there.

        That is all that it is believed of its standing, since that gets it nothing.
        """
        key, passed = offer.key, set[str]()
        while key not in self._out and key in self._says_again and key not in passed:
            passed.add(key)
            key = self._says_again[key]
        if key in self._out:
            raise ValueError(f"{'it' if key == offer.key else 'what it says again'} is out of use there")

    def _settle(self, offer: foreign.Offer, old: Reflection, new: Reflection, stated: set[str], change: str) -> None:
        """What there is and what the file says: the same, or one of them."""
        if all(_content(old, part) == _content(new, part) for part in stated):
            self.report.same.append(old.id)
        elif not self.replace or old.pinned:
            self.report.differing.append(old.id)
        else:
            self._refuse_unused(offer)
            if new.id != old.id:
                gone = old.model_copy(update={"status": "forgotten", "updated_at": self.at})
                self.database.reflections.put(gone, change=f"replaced by {new.id}")
            self._put(offer, new, change, self.report.replaced, old if old.id == new.id else None)

    def _put(
        self, offer: foreign.Offer, new: Reflection, change: str, among: list[str], old: Reflection | None = None
    ) -> None:
        repeats.put_changed(self.database, old or new, new, change)
        if change == "imported":
            self.added.append(new)
        among.append(new.id)
        if _was_cut(offer.fields.get("text"), new.text):
            self.report.cut.append(new.id)

    def _own(self, offer: foreign.Offer, namespace: str) -> Reflection | None:
        """The reflection of this memory that the entry is a copy of, by its id."""
        if self.format != "agentlab" or clean(offer.key, NAME_LIMIT) != offer.key:
            return None
        if not self.database.reflections.has(offer.key):
            return None
        found = self.database.reflections.get(offer.key)
        return found if found.namespace == namespace else None

    def _known(self, new: Reflection) -> str | None:
        """The id of what says the same about the same environment, if the entry has nothing more than its text."""
        if new.advice:
            return None
        known = self.database.reflections.with_text(new.text, new.env, new.namespace)
        return known[0] if known else None


def _was_cut(said: Any, kept: str) -> bool:
    """Whether `kept` is only the beginning of what an entry said, which was too long, or became so as a quotation."""
    whole = clean(said, len(said)) if isinstance(said, str) else ""
    return len(whole) > TEXT_LIMIT or whole[-1:] != kept[-1:] == "…"


def _content(reflection: Reflection, part: str) -> Any:
    """A part of what a reflection says, as it would be admitted: cleaned and quoted, without the day of its writing."""
    clear = admitted(reflection.model_dump(), id=reflection.id, source="", at=reflection.updated_at)
    value = getattr(clear, part)
    return [tag for tag in value if not tag.startswith(WRITTEN)] if part == "tags" else value


def _why(error: Exception) -> str:
    """The first complaint, in one line."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place}: {first['msg']}" if place else first["msg"]
    return "it is nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:200]
