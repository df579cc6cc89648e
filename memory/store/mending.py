"""What a person changes in the memory by hand: benched, pinned, forgotten, restored, edited, with a reason.

However many reflections are meant, it is one operation, which is undone as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from memory import errors
from memory.records import Reflection, ReflectionStatus, content_id, now
from memory.store import repeats
from memory.store.database import Database
from memory.store.filters import Filter
from memory.store.reflection_listing import Listing
from memory.text.cleaning import TEXT_LIMIT, clean

Verb = Literal["bench", "pin", "unpin", "forget", "restore", "vouch"]
VERBS: tuple[Verb, ...] = ("bench", "pin", "unpin", "forget", "restore", "vouch")

REASON = 300
"""The longest reason that is kept, in characters."""

_DONE: dict[Verb, tuple[str, dict[str, Any]]] = {
    "bench": ("benched", {"status": "benched"}),
    "pin": ("pinned", {"pinned": True}),
    "unpin": ("unpinned", {"pinned": False}),
    "forget": ("forgotten", {"status": "forgotten"}),
    "restore": ("restored", {"status": "active"}),
    "vouch": ("vouched", {"vouched": True}),
}
"""The name of the operation, and what it sets."""

MENDED = ("edited", *(name for name, _ in _DONE.values()))
"""The names of the operations by which a person changes something."""

_MEANT: dict[Verb, tuple[ReflectionStatus, ...]] = {
    "bench": ("active",),
    "pin": ("active", "benched", "retired"),
    "unpin": ("active", "benched", "retired", "forgotten", "merged", "repeated"),
    "forget": ("active", "benched", "retired", "repeated"),
    "restore": ("benched", "forgotten", "retired"),
    "vouch": ("active", "repeated"),
}
"""Of which statuses a filter means reflections, where it names none."""


@dataclass(frozen=True)
class Mended:
    """What was done: to which reflections, as which operation (None: nothing changed), and which were left as they are,
    since a person has pinned them."""

    verb: str
    changed: list[Reflection] = field(default_factory=list)
    pinned: list[str] = field(default_factory=list)
    operation: str | None = None

    @property
    def line(self) -> str:
        """It in a sentence."""
        count, verb = len(self.changed), "forgot" if self.verb == "forgotten" else self.verb
        what = self.changed[0].id if count == 1 else f"{count:,} reflections"
        said = f"{verb.capitalize()} {what}" if count else "Nothing changed"
        left = len(self.pinned)
        return said + (f"; {left:,} pinned {'one is' if left == 1 else 'ones are'} left as they are." if left else ".")


class Mending:
    """Changes by hand in one namespace (None: in all); `clock` gives the present as `records.now` does."""

    def __init__(self, database: Database, namespace: str | None = None, clock: Callable[[], str] = now) -> None:
        self.database = database
        self.namespace = namespace
        self.clock = clock

    def meant(self, verb: Verb, wanted: Filter) -> list[str]:
        """The ids of those that are `wanted` and that this would change, the oldest first."""
        found: list[int] = []
        for status in _MEANT[verb]:
            if wanted.status in (None, status):
                pinned = {"pin": False, "unpin": True}.get(verb, wanted.pinned)
                probation = True if verb == "vouch" else wanted.on_probation
                here = replace(wanted, status=status, pinned=pinned, on_probation=probation, namespace=self.namespace)
                found += Listing(self.database.connection, here).numbers().tolist()
        return self.database.reflections.ids(sorted(found))

    def apply(self, verb: Verb, ids: Sequence[str], *, reason: str = "") -> Mended:
        """Do it to all of these, or to none. Ids may be shortened.

        Of what only repeats another one that other one is pinned, which says it for both. What a person has pinned is
        neither benched nor forgotten; of several it is left out. What is counted with another one is taken out of that
        count when it is restored; what was benched or forgotten out of it is counted so again.

        Raises:
            UnknownReflection, and PinnedReflection if there is nothing but pinned ones.
        """
        name, values = _DONE[verb]
        with self.database.transaction():
            items: dict[str, Reflection] = {}
            for id in ids:
                item = self._meant(verb, self.database.reflections.get(id, self.namespace))
                items[item.id] = item
            pinned = [id for id, item in items.items() if item.pinned and verb in ("bench", "forget")]
            if pinned and len(pinned) == len(items):
                raise errors.PinnedReflection(_refusal(pinned, name))
            free = [item for id, item in items.items() if id not in pinned]
            what = free[0].id if len(free) == 1 else f"{len(free)} reflections"
            with self.database.operations.record(name, _detail(what, reason)) as number:
                found = [self._put(item, name, self._changed(verb, item) or values) for item in free]
                changed = [new for new in found if new is not None]
            operation = self.database.operations.id_of(number)
        return Mended(name, changed, pinned, operation)

    def edit(self, id: str, text: str, *, reason: str = "", seen: str | None = None) -> Mended:
        """Put another text in place of a reflection's; the old one stays in its versions.

        `seen` is the `wording` of the text that the new one was written from, if anybody saw one.

        One that only repeated another one says something of its own from then on; one that others repeat leaves its old
        words to them.

        Raises:
            UnknownReflection, EditedMeanwhile if it has another text than was seen, and InvalidReflection if the new
            one is empty, or too long to be kept whole.
        """
        text = edited(text)
        with self.database.transaction():
            old = self.database.reflections.get(id, self.namespace)
            if seen is not None and seen != wording(old.text) and text != old.text:
                raise errors.EditedMeanwhile(
                    f"{old.id} was edited meanwhile, so nothing changed; look at its text of now, and edit that."
                )
            with self.database.operations.record("edited", _detail(old.id, reason)) as number:
                new = self._put(old, "edited", {"text": text})
            operation = self.database.operations.id_of(number)
        return Mended("edited", [new] if new else [], [], operation)

    def _changed(self, verb: Verb, item: Reflection) -> dict[str, Any]:
        """What a verb sets of this one, where that is not the same for all."""
        if verb == "vouch":
            # The lab's own needs nobody's word.
            return {"vouched": bool(item.source)}
        return self._restored(item) if verb == "restore" else {}

    def _meant(self, verb: Verb, found: Reflection) -> Reflection:
        if verb == "pin" or (verb == "unpin" and not found.pinned):
            return repeats.saying(self.database, found)
        return found

    def _restored(self, item: Reflection) -> dict[str, Any]:
        """As what it comes back into use: as what it was last in use, where that can be."""
        counted, into = ("repeated", "merged"), item.merged_into
        if into is None or item.status in counted or not self.database.reflections.has(into):
            return {"status": "active"}
        past = [version.reflection.status for version in self.database.versions.of(item.id)]
        used = next((status for status in reversed(past) if status in ("active", *counted)), "active")
        stands = self.database.reflections.get(into).status in ("active", *counted)
        return {"status": used if stands else "active"}

    def _put(self, old: Reflection, change: str, values: dict[str, Any]) -> Reflection | None:
        """The reflection as it is now; None if it was so before."""
        new = repeats.reworded(old, old.model_copy(update={**values, "updated_at": self.clock()}))
        return new if repeats.put_changed(self.database, old, new, change) else None


def wording(text: str) -> str:
    """A name for a text, which two of different words do not share."""
    return content_id("w", text)


def edited(text: str) -> str:
    """A text that a person wrote, as it is kept. Raises InvalidReflection if it is empty, or too long."""
    changed = clean(text, len(text))
    if not changed:
        raise errors.InvalidReflection(
            "The new text is empty, so nothing changed; `memory forget` takes a reflection out of use."
        )
    if len(changed) > TEXT_LIMIT:
        raise errors.InvalidReflection(
            f"The new text has {len(changed):,} characters, and a reflection at most {TEXT_LIMIT:,}, so nothing "
            "changed; shorten it."
        )
    return changed


def _detail(what: str, reason: str) -> str:
    """What the history says of an operation."""
    reason = " ".join(clean(reason, REASON).split())
    return f"{what}: {reason}" if reason else what


def _refusal(pinned: Sequence[str], name: str) -> str:
    if len(pinned) > 1:
        return f"All {len(pinned)} are pinned, so none is {name}; unpin them first (`agentlab memory unpin`)."
    return f"{pinned[0]} is pinned, so it is not {name}; unpin it first (`agentlab memory unpin {pinned[0]}`)."
