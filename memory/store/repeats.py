"""Equal sentences are one item: what says again what another one says is counted there.

A reflection that is written with a text that is there already, of the same kind, environment, fold, source and
feedback, is kept as `repeated`. It stays a record of its own, with its episode, its steps and its advice, so that
nothing of where the sentence comes from is lost, and to take it back takes back its part of the count. Nothing is
rewritten for this, and no count is stored: it is read off the records, as of whatever moment is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from memory.records import TASK_SPLIT, Evidence, Reflection, task_parts
from memory.store.filters import Filter
from memory.store.merges import families
from memory.store.reflections import stamp
from memory.store.sql import chunks, marks

if TYPE_CHECKING:
    from memory.store.database import Database

_STANDING = ("active", "benched", "retired")
"""What says a text that is written again. What a person forgot is learned anew, what was measured to harm is not."""

MOST_ANSWERS = 8
"""So many answers to a question are told, the most frequent ones."""


class Tally(NamedTuple):
    """In how many games something was seen, `of` those that answered its question at all (0: there is no question)."""

    games: int
    of: int = 0


ONCE = Tally(1)


def counted(database: Database, reflection: Reflection) -> Reflection:
    """`reflection`, which is new, as it is to be kept: as what it says, or as one more that says it."""
    said = _said_by(database, reflection)
    return reflection.model_copy(update={"status": "repeated", "merged_into": said}) if said else reflection


def saying(database: Database, reflection: Reflection) -> Reflection:
    """What says the text of this one in the end, and advises for it; itself, if nothing counts it."""
    while reflection.status in ("repeated", "merged") and reflection.merged_into:
        reflection = database.reflections.get(reflection.merged_into, reflection.namespace)
    return reflection


def reworded(old: Reflection, new: Reflection) -> Reflection:
    """`new`, which takes the place of `old`, as it is to be kept: other words are no repetition."""
    if new.status != "repeated" or new.text == old.text:
        return new
    return new.model_copy(update={"status": "active", "merged_into": None})


def _said_by(database: Database, reflection: Reflection) -> str | None:
    """The id of the one that says what `reflection` says again; None if nothing does."""
    if not reflection.text or reflection.tier != "raw" or reflection.status != "active" or reflection.pinned:
        return None
    rows = database.connection.execute(
        "SELECT number FROM reflections WHERE stamp = ? AND env = ? AND kind = ? AND namespace = ? AND source = ? "
        f"AND merged_into IS NULL AND text <> '' AND status IN {marks(_STANDING)} AND tier = 'raw' ORDER BY number",
        (stamp(reflection.text), reflection.env, reflection.kind, reflection.namespace, reflection.source, *_STANDING),
    )
    for known in database.reflections.load([number for (number,) in rows]).values():
        if _same(known, reflection):
            return known.id
    return None


def _same(known: Reflection, new: Reflection) -> bool:
    return _sort(known) == _sort(new) and known.id != new.id


def _sort(item: Reflection) -> tuple[object, ...]:
    return item.text, item.topic, item.oracle, task_parts(item.task).split


def tallies(database: Database, reflections: Iterable[Reflection], wanted: Filter | None = None) -> dict[str, Tally]:
    """In how many games each of these was seen, by id; of `wanted` counts when and on what ground they were learned.

    Of games that somebody else played nothing is known here: what another source brought in was seen in one.
    """
    learned, bounds = wanted.learned("reflections.") if wanted is not None else ("", [])
    bounded = f" AND {learned}" if learned else ""
    items = {item.id: item for item in reflections}
    games = dict.fromkeys(items, 1)
    for part in chunks([item.id for item in items.values() if not item.source]):
        rows = database.connection.execute(
            f"{families(part)} SELECT root, count(DISTINCT task) FROM family JOIN reflections ON id = member "
            f"WHERE 1{bounded} GROUP BY root",
            [*part, *bounds],
        )
        games.update(rows)
    asked = {question(item): 0 for item in items.values() if item.topic}
    for which in asked:
        *where, split = which
        asked[which] = database.connection.execute(
            "SELECT count(DISTINCT task) FROM reflections WHERE topic = ? AND topic <> '' AND env = ? "
            f"AND namespace = ? AND {TASK_SPLIT} AND status <> 'forgotten'{bounded}",
            (*where, split, split, *bounds),
        )[0][0]
    return {id: Tally(count, asked.get(question(items[id]), 0)) for id, count in games.items()}


def question(item: Reflection) -> tuple[str, str, str, str]:
    """What the texts answer that are counted together, and where it was asked."""
    return item.topic, item.env, item.namespace, task_parts(item.task).split


def with_tally(reflection: Reflection, tally: Tally) -> str:
    """The text of a reflection with its count: *The coin was in the kitchen in 12 of 30 games.*"""
    if tally.of > 1:
        return f"{reflection.text.removesuffix('.')} in {tally.games} of {tally.of} games."
    return f"{reflection.text} (seen in {tally.games} games)" if tally.games > 1 else reflection.text


def answers(database: Database, item: Reflection, wanted: Filter) -> str:
    """All answers among what is `wanted` to the question that `item` answers, in a sentence, the most frequent first:

    *The coin was in the kitchen (12), cupboard (3), hall (1), of 30 games.* Empty where there are not several.
    """
    if not item.topic:
        return ""
    topic, env, namespace, split = question(item)
    numbers = database.connection.execute(
        f"SELECT number FROM reflections WHERE topic = ? AND env = ? AND namespace = ? AND {TASK_SPLIT} "
        "AND merged_into IS NULL",
        (topic, env, namespace, split, split),
    )
    fitting = database.reflections.rows([number for (number,) in numbers], wanted)
    known = list(database.reflections.load(list(fitting)).values())
    if len(known) < 2:
        return ""
    seen = tallies(database, known, wanted)
    known.sort(key=lambda one: (-seen[one.id].games, one.text))
    # What all of them begin with is said once; each has a word of its own left.
    words = [one.text.removesuffix(".").split() for one in known]
    alike = sum(
        1 for _ in takewhile(lambda them: len(set(them)) == 1, zip(*(said[:-1] for said in words), strict=False))
    )
    lines = [f"{' '.join(said[alike:])} ({seen[one.id].games})" for one, said in zip(known, words, strict=True)]
    more = [f"and {len(lines) - MOST_ANSWERS} more"] if len(lines) > MOST_ANSWERS else []
    return f"{' '.join([*words[0][:alike], ', '.join([*lines[:MOST_ANSWERS], *more])])}, of {seen[item.id].of} games."


def kin(database: Database, reflections: Iterable[Reflection], most: int | None = None) -> dict[str, list[Reflection]]:
    """For each of these, by id, itself and what is counted with it, `most` of that or all, the oldest first."""
    found = {}
    for item in reflections:
        rows = database.connection.execute(
            f"{families([item.id])} SELECT number FROM family JOIN reflections ON id = member WHERE member <> root "
            "ORDER BY number LIMIT ?",
            (item.id, -1 if most is None else most),
        )
        found[item.id] = [item, *database.reflections.load([number for (number,) in rows]).values()]
    return found


def evidence(
    database: Database, reflections: Iterable[Reflection], most: int | None = None
) -> dict[str, list[Evidence]]:
    """What each of these rests on, by id: its own evidence and that of what is counted with it (see `kin`)."""
    return {id: merged_evidence(items) for id, items in kin(database, reflections, most).items()}


def put_changed(database: Database, old: Reflection, new: Reflection, change: str) -> bool:
    """Keep `new` in place of `old`. If it says something else, what repeated the old words goes on saying them."""
    changed = database.reflections.put(new, change=change)
    if new.text != old.text:
        for heir in left_behind(database, old, new.updated_at):
            database.reflections.put(heir, change="said first")
    return changed


def left_behind(
    database: Database, old: Reflection, present: str, said: Callable[[Reflection], bool] = lambda _: True
) -> list[Reflection]:
    """What repeats `old`, and is `said` by these words, as it is to be kept once that one says something else: the
    oldest of it stands as the old one did."""
    standing = {"status": "repeated" if old.merged_into else old.status, "merged_into": old.merged_into}
    return [
        heir.model_copy(update={"updated_at": present} if heir.merged_into else {"updated_at": present, **standing})
        for heir in heirs(database, old.id, said)
    ]


def heirs(database: Database, id: str, said: Callable[[Reflection], bool] = lambda _: True) -> list[Reflection]:
    """What is left where a sentence is taken back and others said it again: the oldest says it from then on.

    As they are to be kept, in the order in which they were written; of them those that are `said` so.
    """
    rows = database.connection.execute(
        "SELECT number FROM reflections WHERE merged_into = ? AND status = 'repeated' ORDER BY number", (id,)
    )
    numbers = [number for (number,) in rows]
    loaded = database.reflections.load(numbers)
    chosen = [loaded[number] for number in numbers if said(loaded[number])]
    if not chosen:
        return []
    first, *others = chosen
    return [
        first.model_copy(update={"status": "active", "merged_into": None}),
        *(other.model_copy(update={"merged_into": first.id}) for other in others),
    ]


def merged_evidence(items: Iterable[Reflection]) -> list[Evidence]:
    """The evidence of all of them: each episode once, with all its steps."""
    steps: dict[str, set[int]] = {}
    for item in items:
        for source in item.evidence:
            steps.setdefault(source.episode, set()).update(source.steps)
    return [Evidence(episode=episode, steps=sorted(found)) for episode, found in steps.items()]
