"""The tables, as numbered migrations. The number of the last one applied is the file's `PRAGMA user_version`.

A migration is never edited once released: a change to the tables is a new function at the end of `MIGRATIONS`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from memory.store.newer_schema import (
    events_and_facets,
    held_out_and_channels,
    inbox_and_who_asked,
    probation,
    texts_in_every_script,
    topics_and_repeats,
    uses_of_tools,
)

if TYPE_CHECKING:
    import sqlite_utils

APPLICATION_ID = 0x41474C42
"""`AGLB`, kept in the header of the file, so that another program's database is not taken for ours."""


def episodes_and_reflections(db: sqlite_utils.Database) -> None:
    """Version 1: what was lived, what was learned from it, and where that was used."""
    db.table("episodes").create(
        {
            "number": int,
            "id": str,
            "run": str,
            "env": str,
            "split": str,
            "seed": int,
            "task": str,
            "trial": int,
            "arm": str,
            "engine": str,
            "adapter": str,
            "status": str,
            "score": float,
            "steps": int,
            "goal": str,
            "error": str,
            "minimised_from": str,
            "started_at": str,
            "seconds": float,
            "payload": bytes,
        },
        pk="number",
        not_null={"id", "run", "env", "split", "seed", "task", "status", "payload"},
    ).create_index(["id"], unique=True).create_index(["run"]).create_index(["env", "split"]).create_index(["task"])

    db.table("reflections").create(
        {
            "number": int,
            "id": str,
            "kind": str,
            "env": str,
            "task": str,
            "run": str,
            "status": str,
            "pinned": int,
            "importance": float,
            "text": str,
            "tags": str,
            "created_at": str,
            "changed": int,
            "stamp": int,
            "payload": bytes,
        },
        pk="number",
        not_null={"id", "kind", "env", "task", "run", "status", "text", "tags", "changed", "stamp", "payload"},
    ).create_index(["id"], unique=True).create_index(["env", "status"]).create_index(["task", "status"])
    # `changed` lets a cache follow what is new; `stamp` (a hash of the text) lets it verify what it has.
    db.table("reflections").create_index(["changed", "stamp"]).create_index(["stamp"])
    db.table("reflection_versions").create(
        {"reflection": int, "version": int, "at": str, "change": str, "payload": bytes},
        pk=("reflection", "version"),
        foreign_keys=[("reflection", "reflections", "number")],
    )

    # Only states where some action gained something: those that are looked up by similarity.
    db.table("states").create(
        {"number": int, "env": str, "key": str, "stamp": int, "text": str},
        pk="number",
        not_null={"env", "key", "stamp", "text"},
    ).create_index(["env", "key"], unique=True).create_index(["stamp"])
    db.table("advice").create(
        {"reflection": int, "position": int, "state": int},
        pk=("reflection", "position"),
        foreign_keys=[("reflection", "reflections", "number"), ("state", "states", "number")],
    ).create_index(["state"])

    db.table("recalls").create(
        {
            "episode": str,
            "reflection": str,
            "face": str,
            "rank": int,
            "query": str,
            "score": float,
            "parts": str,
            "at": str,
            "won": int,
        },
        pk=("episode", "reflection", "face"),
        not_null={"rank", "query", "score", "parts", "at"},
        foreign_keys=[("reflection", "reflections", "id")],
    ).create_index(["reflection", "won", "at"])

    db.table("vectors").create(
        {"number": int, "model": str, "sha": str, "vector": bytes},
        pk="number",
        not_null={"model", "sha", "vector"},
    ).create_index(["model", "sha"], unique=True)


def work_and_adapters(db: sqlite_utils.Database) -> None:
    """Version 2: resumable work, settings, rounds, evaluations and the register of adapters."""
    db.table("journal").create(
        {"number": int, "scope": str, "key": str, "payload": str, "at": str},
        pk="number",
        not_null={"scope", "key", "payload", "at"},
    ).create_index(["scope", "key"], unique=True)
    db.table("adapters").create(
        {
            "number": int,
            "id": str,
            "parent": str,
            "base": str,
            "status": str,
            "created_at": str,
            "path": str,
            "payload": str,
        },
        pk="number",
        not_null={"id", "base", "status", "created_at", "path", "payload"},
    ).create_index(["id"], unique=True)
    db.table("settings").create({"key": str, "value": str}, pk="key", not_null={"value"})
    for name in ("rounds", "evaluations"):
        db.table(name).create(
            {"number": int, "id": str, "payload": str, "at": str},
            pk="number",
            not_null={"id", "payload", "at"},
        ).create_index(["id"], unique=True)


def words_credit_and_operations(db: sqlite_utils.Database) -> None:
    """Version 3: full-text search, namespaces, what was withheld, links, and changes that can be undone together."""
    reflections = db.table("reflections")
    reflections.add_column("namespace", str, not_null_default="")
    reflections.add_column("source", str, not_null_default="")
    reflections.add_column("tier", str, not_null_default="raw")
    reflections.create_index(["namespace", "status"]).create_index(["source", "created_at"])
    # An index of words that holds no text of its own. Triggers keep it inside the transaction of every change.
    for statement in (
        "CREATE VIRTUAL TABLE reflection_words USING fts5("
        "text, content='reflections', content_rowid='number', tokenize='porter unicode61')",
        "CREATE TRIGGER reflection_words_insert AFTER INSERT ON reflections BEGIN "
        "INSERT INTO reflection_words (rowid, text) VALUES (new.number, new.text); END",
        "CREATE TRIGGER reflection_words_delete AFTER DELETE ON reflections BEGIN "
        "INSERT INTO reflection_words (reflection_words, rowid, text) VALUES ('delete', old.number, old.text); END",
        "CREATE TRIGGER reflection_words_update AFTER UPDATE OF text ON reflections WHEN old.text <> new.text BEGIN "
        "INSERT INTO reflection_words (reflection_words, rowid, text) VALUES ('delete', old.number, old.text); "
        "INSERT INTO reflection_words (rowid, text) VALUES (new.number, new.text); END",
        "INSERT INTO reflection_words (reflection_words) VALUES ('rebuild')",
        "CREATE VIRTUAL TABLE reflection_terms USING fts5vocab(reflection_words, row)",
    ):
        db.execute(statement)

    recalls = db.table("recalls")
    recalls.add_column("env", str, not_null_default="")
    recalls.add_column("withheld", int, not_null_default=0)
    recalls.add_column("propensity", float, not_null_default=1.0)
    recalls.create_index(["env", "reflection"])
    db.execute("UPDATE recalls SET env = ifnull((SELECT env FROM episodes WHERE episodes.id = recalls.episode), '')")

    db.table("links").create(
        {"source": str, "target": str, "kind": str, "weight": float, "at": str},
        pk=("source", "target", "kind"),
        not_null={"weight", "at"},
    ).create_index(["target", "kind"])

    # What was done in one go (an edit, a merge, a whole consolidation) is undone in one go.
    db.table("operations").create(
        {"number": int, "id": str, "at": str, "name": str, "detail": str, "undone": int},
        pk="number",
        not_null={"id", "at", "name", "detail"},
        defaults={"undone": 0},
    ).create_index(["id"], unique=True)
    versions = db.table("reflection_versions")
    versions.add_column("operation", int)
    versions.create_index(["operation"])
    versions.create_index(["at"])


def totals_of_recalls(db: sqlite_utils.Database) -> None:
    """Version 4: how often each reflection was served or withheld, and won, kept as totals."""
    # Of several faces of one reflection in one episode, the first counts.
    db.table("recalls").add_column("counted", int, not_null_default=0)
    db.execute(
        "UPDATE recalls SET counted = 1 WHERE rowid IN (SELECT min(rowid) FROM recalls GROUP BY episode, reflection)"
    )
    db.execute("DROP INDEX idx_recalls_env_reflection")
    db.execute(
        "CREATE INDEX recalls_by_lot ON recalls (reflection, env, propensity, withheld, won, at, counted) "
        "WHERE counted AND propensity < 1 AND won IS NOT NULL"
    )
    keys = ("reflection", "env", "propensity", "withheld")
    db.execute(
        "CREATE TABLE recall_totals (reflection TEXT NOT NULL, env TEXT NOT NULL, propensity REAL NOT NULL, "
        "withheld INTEGER NOT NULL, n INTEGER NOT NULL, ended INTEGER NOT NULL, won INTEGER NOT NULL, "
        f"last TEXT NOT NULL, PRIMARY KEY ({', '.join(keys)})) WITHOUT ROWID"
    )
    db.execute(
        "INSERT INTO recall_totals SELECT reflection, env, propensity, withheld, count(*), count(won), "
        "ifnull(sum(won), 0), max(at) FROM recalls WHERE counted GROUP BY reflection, env, propensity, withheld"
    )
    added = (
        "INSERT INTO recall_totals VALUES (new.reflection, new.env, new.propensity, new.withheld, 1, "
        "new.won IS NOT NULL, ifnull(new.won, 0), new.at) ON CONFLICT DO UPDATE SET n = n + 1, "
        "ended = ended + excluded.ended, won = won + excluded.won, last = max(last, excluded.last);"
    )
    taken = (
        "UPDATE recall_totals SET n = n - 1, ended = ended - (old.won IS NOT NULL), won = won - ifnull(old.won, 0) "
        f"WHERE {' AND '.join(f'{key} = old.{key}' for key in keys)};"
    )
    for when, body in (
        ("INSERT ON recalls WHEN new.counted", added),
        ("UPDATE ON recalls WHEN old.counted", taken + added),
        ("DELETE ON recalls WHEN old.counted", taken),
    ):
        db.execute(f"CREATE TRIGGER recall_totals_{when.split()[0].lower()} AFTER {when} BEGIN {body} END")


def langgraph_items(db: sqlite_utils.Database) -> None:
    """Version 5: items of a LangGraph store, and the texts of theirs that are searched by meaning."""
    db.table("items").create(
        {
            "number": int,
            "namespace": str,
            "key": str,
            "value": str,
            "created_at": str,
            "updated_at": str,
            "ttl": float,
            "expires_at": float,
            "changed": int,
        },
        pk="number",
        not_null={"namespace", "key", "value", "created_at", "updated_at", "changed"},
    ).create_index(["namespace", "key"], unique=True).create_index(["changed"], unique=True).create_index(
        ["expires_at"]
    )
    # A row without an item is free, and is taken again: the index then grows with the texts, not with the changes.
    db.table("item_texts").create(
        {"number": int, "item": int, "text": str, "sha": str, "stamp": int, "changed": int},
        pk="number",
        not_null={"text", "sha", "stamp", "changed"},
        foreign_keys=[("item", "items", "number")],
    ).create_index(["item"]).create_index(["sha"]).create_index(["changed", "stamp"])


def survivors(db: sqlite_utils.Database) -> None:
    """Version 6: into which other one a reflection is merged, so that what it did counts there."""
    db.table("reflections").add_column("merged_into", str)
    merged = db.execute("SELECT number, payload FROM reflections WHERE status = 'merged'").fetchall()
    for number, payload in merged:
        survivor = json.loads(zlib.decompress(payload))["merged_into"]
        db.execute("UPDATE reflections SET merged_into = ? WHERE number = ?", (survivor, number))
    db.execute("CREATE INDEX reflections_merged ON reflections (merged_into, id) WHERE merged_into IS NOT NULL")


def history_of_links(db: sqlite_utils.Database) -> None:
    """Version 7: which operation gave each link its weight, and what links were before one changed or removed them."""
    db.table("links").add_column("operation", int)
    db.table("links").create_index(["operation"])
    # Merges and summaries that stand can be told by what they did to the reflections.
    db.execute(
        "UPDATE links SET operation = (SELECT operations.number FROM reflections "
        "JOIN reflection_versions AS versions ON versions.reflection = reflections.number "
        "JOIN operations ON operations.number = versions.operation WHERE reflections.id = links.source AND NOT undone "
        "AND change = CASE links.kind WHEN 'merged' THEN 'merged' ELSE 'summarised' END ORDER BY version DESC LIMIT 1) "
        "WHERE kind IN ('merged', 'derived')"
    )
    db.table("link_versions").create(
        {
            "number": int,
            "source": str,
            "target": str,
            "kind": str,
            "weight": float,
            "at": str,
            "operation": int,
            "ended": int,
        },
        pk="number",
        not_null={"source", "target", "kind", "weight", "at"},
    ).create_index(["operation"]).create_index(["ended"]).create_index(["kind", "source"])


MIGRATIONS: tuple[Callable[[sqlite_utils.Database], None], ...]
MIGRATIONS = (
    episodes_and_reflections,
    work_and_adapters,
    words_credit_and_operations,
    totals_of_recalls,
    langgraph_items,
    survivors,
    history_of_links,
    texts_in_every_script,
    topics_and_repeats,
    held_out_and_channels,
    events_and_facets,
    uses_of_tools,
    inbox_and_who_asked,
    probation,
)
VERSION = len(MIGRATIONS)
