"""The newer migrations, in the order of `memory.store.schema`, which numbers them."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING

from memory.store.words import index_texts

if TYPE_CHECKING:
    import sqlite_utils


def texts_in_every_script(db: sqlite_utils.Database) -> None:
    """Version 8: an index of words that finds Chinese, Japanese and what else does not part its words."""
    for name in ("insert", "delete", "update"):
        db.execute(f"DROP TRIGGER IF EXISTS reflection_words_{name}")
    db.execute("DROP TABLE IF EXISTS reflection_terms")
    db.execute("DROP TABLE IF EXISTS reflection_words")
    index_texts(db)


def topics_and_repeats(db: sqlite_utils.Database) -> None:
    """Version 9: which question a reflection answers, and a way from a text to the one that says it."""
    db.table("reflections").add_column("topic", str, not_null_default="")
    db.execute("CREATE INDEX reflections_topic ON reflections (topic, env, namespace, task) WHERE topic <> ''")
    # Without those that only repeat: however many they are, the one they repeat is found at once.
    db.execute(
        "CREATE INDEX reflections_said ON reflections (stamp, env, kind, namespace) "
        "WHERE merged_into IS NULL AND text <> ''"
    )


def held_out_and_channels(db: sqlite_utils.Database) -> None:
    """Version 10: the columns of recalls by the field's words: the channel of a recall, and that it was held out."""
    # Names alone change. SQLite renames them in indexes and triggers too.
    for table, old, new in (
        ("recalls", "face", "channel"),
        ("recalls", "withheld", "held_out"),
        ("recall_totals", "withheld", "held_out"),
    ):
        db.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")


def events_and_facets(db: sqlite_utils.Database) -> None:
    """Version 11: what a program at work tells, the step of a recall, and by what listings of episodes are sorted."""
    db.table("events").create(
        {"number": int, "at": str, "kind": str, "stage": str, "done": int, "total": int, "note": str},
        pk="number",
        not_null={"at", "kind", "stage", "done", "total", "note"},
    )
    db.table("recalls").add_column("step", int)
    episodes = db.table("episodes")
    episodes.add_column("error_kind", str)
    for name, kind in (("input_tokens", int), ("output_tokens", int), ("cost", float)):
        episodes.add_column(name, kind, not_null_default=0)
    update = "UPDATE episodes SET error_kind = ?, input_tokens = ?, output_tokens = ?, cost = ? WHERE number = ?"
    numbers = [number for (number,) in db.execute("SELECT number FROM episodes")]
    for number in numbers:
        ((payload,),) = db.execute("SELECT payload FROM episodes WHERE number = ?", (number,)).fetchall()
        try:
            stored = json.loads(zlib.decompress(payload))
        except (zlib.error, ValueError):  # one record that is damaged keeps nobody from the others
            continue
        took = stored.get("usage") or {}
        values = [
            stored.get("error_kind"),
            *(took.get(name) or 0 for name in ("input_tokens", "output_tokens", "cost")),
        ]
        if any(values):
            db.execute(update, [*values, number])
    # All that a listing is narrowed, sorted and counted by: the rows themselves, with their payloads, are far longer.
    db.execute(
        "CREATE INDEX episodes_listed ON episodes (env, arm, split, status, adapter, error_kind, run, trial, score, "
        "steps, input_tokens, output_tokens, cost, seconds, started_at, minimised_from)"
    )
    db.execute("CREATE INDEX episodes_goals ON episodes (goal)")
    db.execute(
        "CREATE INDEX reflections_listed ON reflections (namespace, status, tier, kind, source, env, pinned, "
        "importance, created_at, task, run)"
    )


def uses_of_tools(db: sqlite_utils.Database) -> None:
    """Version 12: what each tool was in each episode of an environment with tools, and the totals of that."""
    db.execute(
        "CREATE TABLE tool_uses (episode TEXT NOT NULL, tool TEXT NOT NULL, env TEXT NOT NULL, engine TEXT NOT NULL, "
        "adapter TEXT NOT NULL, at TEXT NOT NULL, won INTEGER, steps INTEGER NOT NULL, proposed INTEGER NOT NULL, "
        "made INTEGER NOT NULL, held_out INTEGER NOT NULL, propensity REAL NOT NULL, PRIMARY KEY (episode, tool)) "
        "WITHOUT ROWID"
    )
    db.execute(
        "CREATE INDEX tool_uses_by_lot ON tool_uses (env, at, tool, engine, adapter, propensity, held_out, won) "
        "WHERE propensity < 1 AND won IS NOT NULL"
    )
    db.execute("CREATE INDEX tool_uses_made ON tool_uses (tool, env, at) WHERE made > 0")
    keys = ("tool", "env", "engine", "adapter", "propensity", "held_out")
    # The sums of the new row and of the old one, by the name of the column.
    sums = {
        "episodes": "1",
        "ended": "{}.won IS NOT NULL",
        "won": "ifnull({}.won, 0)",
        "calling": "{0}.made > 0 AND {0}.won IS NOT NULL",
        "calling_won": "{0}.made > 0 AND ifnull({0}.won, 0)",
        "steps": "{}.steps",
        "proposed": "{}.proposed",
        "made": "{}.made",
    }
    columns = ", ".join(f"{name} INTEGER NOT NULL" for name in sums)
    db.execute(
        "CREATE TABLE tool_totals (tool TEXT NOT NULL, env TEXT NOT NULL, engine TEXT NOT NULL, adapter TEXT NOT NULL, "
        f"propensity REAL NOT NULL, held_out INTEGER NOT NULL, {columns}, PRIMARY KEY ({', '.join(keys)})) "
        "WITHOUT ROWID"
    )
    values = ", ".join([*(f"new.{key}" for key in keys), *(value.format("new") for value in sums.values())])
    db.execute(
        f"CREATE TRIGGER tool_totals_insert AFTER INSERT ON tool_uses BEGIN INSERT INTO tool_totals VALUES ({values}) "
        f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = {name} + excluded.{name}' for name in sums)}; END"
    )
    taken = ", ".join(f"{name} = {name} - ({value.format('old')})" for name, value in sums.items())
    db.execute(
        f"CREATE TRIGGER tool_totals_delete AFTER DELETE ON tool_uses BEGIN UPDATE tool_totals SET {taken} "
        f"WHERE {' AND '.join(f'{key} = old.{key}' for key in keys)}; END"
    )


def inbox_and_who_asked(db: sqlite_utils.Database) -> None:
    """Version 13: small changes that are asked for while another process writes, and who asked for what was done."""
    db.execute(
        "CREATE TABLE inbox (number INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, asked_by TEXT NOT NULL, "
        "verb TEXT NOT NULL, payload TEXT NOT NULL, done_at TEXT, outcome TEXT, refusal TEXT)"
    )
    db.execute("CREATE INDEX inbox_waiting ON inbox (number) WHERE done_at IS NULL")
    db.table("operations").add_column("asked_by", str, not_null_default="")


def probation(db: sqlite_utils.Database) -> None:
    """Version 14: of what came from outside, what was vouched for. What came in earlier is on probation from now on."""
    db.table("reflections").add_column("vouched", int, not_null_default=0)
