"""Hard deletion: reflections leave every table for good, with their versions, words, vectors, links and recalls.

What is counted with one goes with it, since it says the same. The recalls of all of them go at once, so that the sums
from which credit is read stay those of the recalls that are left. Of the episodes that they served the record of the
prompt is taken out: the memory block, and the tokens in which it stood. Where a tool told one in the game, its answers
go whole, since they may have it with a count or among other answers, and with them whatever repeats them. Notes of work
that is done go where they quote one.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from memory import errors
from memory.records import Episode, Reflection
from memory.store.database import Database
from memory.store.merges import family
from memory.store.operations import PURGED
from memory.store.sql import chunks, marks
from memory.store.versions import stored

GONE = "(purged)"
"""What stands in an episode for a memory block that was taken out."""

TELLING = 20
"""A text of fewer characters may stand anywhere; it is not looked for."""

TELLS = "recall "
"""What begins a call of the tool that tells reflections in a game."""

UNFINISHED = "purged texts are left in the file"
"""The setting that says so, from the deletion on until the file was written anew."""

_MADE_OF = re.compile(rb'"(?:minimised|relabelled)_from":"([^"\\]+)"')
"""Of an episode as it is stored, the one that it was made of."""


@dataclass(frozen=True)
class Purged:
    """What was deleted, or is to be: `ids` of reflections, the `texts` that any of their versions had, `recalls`, and
    the `episodes` in whose prompts they stood.

    `said` names reflections and episodes that stay and have one of the texts in theirs.
    """

    ids: list[str]
    texts: list[str] = field(default_factory=list)
    recalls: int = 0
    episodes: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def quotable(self) -> list[str]:
        """The texts as they may stand elsewhere, the longest first: without their last point, as before a count. None
        that is so short that it may stand anywhere."""
        forms = {text.removesuffix(".") for text in self.texts}
        return sorted((form for form in forms if len(form) >= TELLING), key=len, reverse=True)


def meant(database: Database, ids: Sequence[str], namespace: str | None = None) -> Purged:
    """What a purge of these would delete: them, and all that is counted with them.

    Raises:
        UnknownReflection, PinnedReflection, and CannotPurge for what is counted with one that stays.
    """
    asked = [database.reflections.full_id(id, namespace) for id in ids]
    every = list(dict.fromkeys(member for kin in family(database.connection, asked).values() for member in kin))
    pinned = sorted(database.reflections.pinned(every))
    if pinned:
        raise errors.PinnedReflection(
            f"{pinned[0]} is pinned{f', and {len(pinned) - 1} more are' if len(pinned) > 1 else ''}, so nothing is "
            f"purged; unpin it first (`agentlab memory unpin {pinned[0]}`)."
        )
    known = set(every)
    for part in chunks(every):
        rows = database.connection.execute(
            f"SELECT id, merged_into FROM reflections WHERE id IN {marks(part)} AND merged_into IS NOT NULL", part
        )
        for id, into in rows:
            if into not in known:
                raise errors.CannotPurge(
                    f"{id} is counted with {into}, whose credit rests on it too, so it is not purged alone; purge "
                    f"{into}, or undo the merge first (`agentlab memory history {id}`)."
                )
    texts = sorted(_texts(database, every), key=len, reverse=True)
    return Purged(every, texts, database.recalls.count_of(every) if every else 0, _served(database, every))


def purge(database: Database, ids: Sequence[str], *, namespace: str | None = None, detail: str = "") -> Purged:
    """Delete these, and all that is counted with them, in one transaction; raises as `meant` does.

    What SQLite has freed still holds them until `finish`. A note of it stays among the operations.
    """
    with database.transaction():
        found = meant(database, ids, namespace)
        if not found.ids:
            return found
        last = database.reflections.last_change()
        numbers = _column(database, "SELECT number FROM reflections WHERE id IN", found.ids)
        said = _take_out_of_episodes(database, found)
        _delete_vectors(database, found.texts)
        _delete_rows(database, found.ids, numbers)
        said += _take_out_of_contexts(database, found.quotable)
        _delete_notes(database, found.quotable)
        database.operations.note(PURGED, detail or _named(found.ids))
        database.settings.put(UNFINISHED, True)
        # Indexes follow by this number, which must not begin again below what they have seen.
        database.connection.execute(
            "UPDATE reflections SET changed = ? WHERE changed = (SELECT max(changed) FROM reflections) AND changed < ?",
            (last + 1, last),
        )
        # Merged into one segment, the words of what was deleted are gone too.
        database.connection.execute("INSERT INTO reflections_fts (reflections_fts) VALUES ('optimize')")
    return Purged(found.ids, found.texts, found.recalls, found.episodes, said)


def finish(database: Database) -> bool:
    """Write the file anew where a purge has left its texts in what was freed, also one that was killed; False if a
    reader keeps them in the log."""
    if not database.settings.get(UNFINISHED):
        return True
    emptied = database.connection.vacuum()
    database.settings.drop(UNFINISHED)
    return emptied


def _named(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{ids[0]} and {len(ids) - 1} more"


def _column(database: Database, sql: str, values: Sequence[Any]) -> list[Any]:
    return [row[0] for part in chunks(values) for row in database.connection.execute(f"{sql} {marks(part)}", part)]


def _run(database: Database, sql: str, values: Sequence[Any]) -> None:
    for part in chunks(values):
        database.connection.execute(sql.replace("(…)", marks(part)), part * sql.count("(…)"))


def _texts(database: Database, ids: Sequence[str]) -> set[str]:
    payloads = _column(
        database,
        "SELECT versions.payload FROM reflection_versions AS versions JOIN reflections "
        "ON reflections.number = versions.reflection WHERE id IN",
        ids,
    )
    items = [stored(payload) for payload in payloads]
    return {text for item in items for text in (item.text, item.context) if text}


def _served(database: Database, ids: Sequence[str]) -> list[str]:
    """The episodes in whose prompts these stood."""
    found = _column(
        database, "SELECT episode FROM recalls WHERE NOT held_out AND channel <> 'advice' AND reflection IN", ids
    )
    return sorted(set(found))


def _take_out_of_episodes(database: Database, found: Purged) -> list[str]:
    """Out of those that these served, and of what was made of them; returns the others in which a text stands."""
    told = set(_column(
        database,
        "SELECT DISTINCT episode FROM recalls WHERE NOT held_out AND channel = 'tool' AND reflection IN", found.ids,
    ))  # fmt: skip
    for id in found.episodes:
        for (payload,) in database.connection.execute("SELECT payload FROM episodes WHERE id = ?", (id,)):
            episode = Episode.stored(zlib.decompress(payload))
            database.episodes.put(_without_prompt(episode, found.quotable, told=id in told))
    # What is asked in the middle of a game may repeat what was read or told before.
    _run(database, "UPDATE recalls SET query = '' WHERE channel IN ('advice', 'tool') AND episode IN (…)",
         found.episodes)  # fmt: skip
    served, said, written = set(found.episodes), [], _written(found.quotable)
    for (number,) in database.connection.execute("SELECT number FROM episodes ORDER BY number"):
        ((payload,),) = database.connection.execute("SELECT payload FROM episodes WHERE number = ?", (number,))
        whole = zlib.decompress(payload)
        if served.intersection(origin.decode() for origin in _MADE_OF.findall(whole)):
            episode = Episode.stored(whole)
            served.add(episode.id)
            database.episodes.put(_without_prompt(episode, found.quotable, told=True))
        elif any(text in whole for text in written):
            said.append(Episode.stored(whole).id)
    return said


def _without_prompt(episode: Episode, texts: Sequence[str], *, told: bool) -> Episode:
    """Without the memory block, its tokens and its notes, and without these texts, wherever they are repeated; where a
    tool `told` one, without all that it answered."""
    answers = [step.result for step in episode.steps if told and f"{step.action} ".startswith(TELLS)]
    # "You remember: …" is repeated without its first words too.
    parts = [part for answer in answers for part in (answer, answer.partition(": ")[2]) if len(part) >= TELLING]
    forms = sorted({*texts, *parts}, key=len, reverse=True)

    def without(value: Any) -> Any:
        if isinstance(value, list):
            return [without(one) for one in value]
        for form in forms if isinstance(value, str) else ():
            value = value.replace(form, GONE)
        return value

    steps = []
    for step in episode.steps:
        kept = {name: without(value) for name, value in step if isinstance(value, str | list)}
        if (kept["thought"], kept["action"]) != (step.thought, step.action):
            kept |= {"token_ids": [], "logprobs": []}
        steps.append(step.model_copy(update={**kept, "note": ""}))
    whole: dict[str, Any] = {"hints": GONE, "token_ids": [], "action_spans": [], "steps": steps}
    return episode.model_copy(update={**whole, "error": without(episode.error)})


def _delete_vectors(database: Database, texts: Sequence[str]) -> None:
    shas = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    _run(database, "DELETE FROM vectors WHERE sha IN (…)", shas)


def _delete_rows(database: Database, ids: Sequence[str], numbers: Sequence[int]) -> None:
    states = _column(database, "SELECT DISTINCT state FROM advice WHERE reflection IN", numbers)
    touched = _column(
        database,
        "SELECT DISTINCT operation FROM reflection_versions WHERE operation NOT NULL AND reflection IN",
        numbers,
    )
    _run(database, "DELETE FROM recalls WHERE reflection IN (…)", ids)
    # Their counts are 0 by now.
    _run(database, "DELETE FROM recall_totals WHERE reflection IN (…)", ids)
    for table, key in (("reflection_versions", "reflection"), ("advice", "reflection"), ("reflections", "number")):
        _run(database, f"DELETE FROM {table} WHERE {key} IN (…)", numbers)
    for table in ("links", "link_versions"):
        _run(database, f"DELETE FROM {table} WHERE source IN (…) OR target IN (…)", ids)
    left = "number IN (…) AND number NOT IN (SELECT state FROM advice)"
    texts = [row for part in chunks(states) for row in database.connection.execute(
        f"SELECT text FROM states WHERE {left.replace('(…)', marks(part))}", part
    )]  # fmt: skip
    _delete_vectors(database, [text for (text,) in texts])
    _run(database, f"DELETE FROM states WHERE {left}", states)
    database.operations.drop_empty(touched)


def _take_out_of_contexts(database: Database, texts: Sequence[str]) -> list[str]:
    """Empty the contexts, also of earlier versions, in which one of these texts stands; returns what has one elsewhere,
    in its own text or in its advice."""
    written = _written(texts)
    said: dict[str, None] = {}
    for table, key in (("reflections", "number"), ("reflection_versions", "rowid")) if written else ():
        for (number,) in database.connection.execute(f"SELECT {key} FROM {table}"):
            ((payload,),) = database.connection.execute(f"SELECT payload FROM {table} WHERE {key} = ?", (number,))
            whole = zlib.decompress(payload)
            if not any(text in whole for text in written):
                continue
            item = Reflection.stored(whole)
            if any(text in item.context for text in texts):
                whole = item.model_copy(update={"context": ""}).model_dump_json().encode()
                packed = zlib.compress(whole, 1)
                database.connection.execute(f"UPDATE {table} SET payload = ? WHERE {key} = ?", (packed, number))
            if any(text in whole for text in written):
                said[item.id] = None
    return list(said)


def _delete_notes(database: Database, texts: Sequence[str]) -> None:
    """Of the work that is noted as done, what quotes one of these texts, such as a judgement or a question. Where it is
    needed again, it is done again."""
    for text in texts:
        database.connection.execute("DELETE FROM journal WHERE instr(payload, ?)", (json.dumps(text)[1:-1],))


def _written(texts: Sequence[str]) -> list[bytes]:
    """Texts as JSON has them: most payloads are then done with before they are read."""
    return [json.dumps(text, ensure_ascii=False)[1:-1].encode(errors="surrogatepass") for text in texts]
