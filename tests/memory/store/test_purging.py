"""Hard deletion: what goes along, what stays, and what must not be deleted alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from memory.errors import CannotPurge, CannotUndo, PinnedReflection, UnknownReflection
from memory.records import Advice, Episode, Link, Recall, Reflection, Step
from memory.store import Database, History, Mending, meant, purge

TEXT = "The silver key opens the cellar behind the oven."


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "lab.db") as database:
        yield database


def put(database: Database, id: str, text: str = TEXT, **values: object) -> Reflection:
    usual = {"kind": "k", "env": "e", "task": "e:train:1", "text": text}
    item = Reflection.model_validate({"id": id, **usual, **values})
    database.reflections.put(item)
    return item


def test_what_says_the_same_goes_along_and_its_words_are_found_no_more(database: Database) -> None:
    put(database, "r-1")
    put(database, "r-2", status="repeated", merged_into="r-1")
    put(database, "r-3", "Coins are found in the kitchen.")
    database.links.put([Link(source="r-3", target="r-1", kind="similar", weight=0.5)])
    assert meant(database, ["r-1"]).ids == ["r-1", "r-2"]
    assert purge(database, ["r-1"]).ids == ["r-1", "r-2"]
    assert [item.id for item in database.reflections.find()] == ["r-3"]
    assert database.links.of("r-3") == []
    words = "SELECT count(*) FROM reflections_fts WHERE reflections_fts MATCH 'silver'"
    assert database.connection.execute(words) == [(0,)]
    assert database.connection.execute("SELECT count(*) FROM reflections_fts_docsize") == [(1,)]


def test_what_is_counted_with_one_that_stays_is_not_deleted_alone(database: Database) -> None:
    put(database, "r-1")
    put(database, "r-2", status="merged", merged_into="r-1")
    with pytest.raises(CannotPurge, match="r-1"):
        purge(database, ["r-2"])
    put(database, "r-3", pinned=True)
    with pytest.raises(PinnedReflection):
        purge(database, ["r-1", "r-3"])
    with pytest.raises(UnknownReflection):
        purge(database, ["r-4"])
    assert database.reflections.count() == 3


def test_a_note_beside_another_one_that_quotes_it_is_emptied_and_a_text_is_named(database: Database) -> None:
    put(database, "r-1")
    put(database, "r-2", "Look behind the oven.", context=f"Near: {TEXT}")
    put(database, "r-3", f"Summary: {TEXT}", tier="summary")
    assert purge(database, ["r-1"]).said == ["r-3"]
    assert database.reflections.get("r-2").context == ""
    assert all(version.reflection.context == "" for version in database.versions.of("r-2"))


def played(id: str, *steps: dict[str, object], **values: object) -> Episode:
    usual = {"observation": "A room.", "state": "s", "admissible": [], "action": "look", "result": "A room.",
             "next_state": "s"}  # fmt: skip
    lived = [Step.model_validate({"index": n, **usual, **step}) for n, step in enumerate(steps)]
    return Episode.model_validate(
        {"id": id, "run": "r", "env": "e", "split": "train", "seed": 1, "steps": lived, **values}
    )


def test_what_a_tool_told_of_it_in_a_game_is_gone_from_all_of_the_game(database: Database) -> None:
    put(database, "r-1")
    put(database, "r-2", "Look behind the oven.")
    counted = f"{TEXT.removesuffix('.')} in 2 of 3 games."
    among = "You remember: The silver key opens the cellar (2), attic (1), of 3 games."
    game = played(
        "e-1",
        {"action": "recall key", "result": f"You remember: {counted}", "next_state": f"s\nrecall key: {counted}"},
        {
            "observation": f"You remember: {counted}",
            "thought": f"I know that {counted}",
            "token_ids": [1],
            "logprobs": [0],
        },
        {"action": "recall attic", "result": among, "thought": "Which door?", "token_ids": [2], "logprobs": [0]},
        {"state": among.removeprefix("You remember: "), "admissible": [f"say {counted}"]},
    )
    database.episodes.put(game)
    database.episodes.put(game.model_copy(update={"id": "e-short", "minimised_from": "e-1"}))
    database.recalls.put(
        [
            Recall(episode="e-1", reflection="r-1", rank=0, query="key", score=1, channel="tool", step=0),
            Recall(episode="e-1", reflection="r-2", rank=0, query=counted, score=1, channel="advice", step=2),
        ]
    )
    assert purge(database, ["r-1"]).said == []
    for id in ("e-1", "e-short"):
        left = database.episodes.get(id)
        assert "silver" not in left.model_dump_json() and [step.token_ids for step in left.steps[1:3]] == [[], [2]]
    assert [recall.query for recall in database.recalls.of_episode("e-1")] == [""]


def test_notes_of_work_that_quote_it_are_gone_and_others_stay(database: Database) -> None:
    put(database, "r-1", 'The note "Ofen" says: Öffne die Tür am Ofen zuletzt.')
    quoted = {"said": ["Good, since", 'it read: The note "Ofen" says: Öffne die Tür am Ofen zuletzt (seen twice).']}
    database.journal.put("judged", "ep-1", quoted)
    database.journal.put("judged", "ep-2", {"said": ["Bad."]})
    purge(database, ["r-1"])
    assert list(database.journal.items("judged")) == ["ep-2"]


def test_games_and_advice_in_which_its_words_stand_otherwise_are_named(database: Database) -> None:
    put(database, "r-1")
    said = f"{TEXT.removesuffix('.')} in 2 games."
    put(database, "r-2", "Look.", advice=[Advice(state=said, action="look", value=1.0)])
    database.episodes.put(played("e-1", {"result": said}))
    database.episodes.put(played("e-2", {"result": "Nothing."}))
    assert purge(database, ["r-1"]).said == ["e-1", "r-2"]


def test_what_an_index_follows_by_does_not_begin_again(database: Database) -> None:
    put(database, "r-1", "Coins are found in the kitchen.")
    put(database, "r-2")
    seen = database.reflections.last_change()
    purge(database, ["r-2"])
    put(database, "r-3", "Another one.")
    changed = database.connection.execute("SELECT changed FROM reflections WHERE id = 'r-3'")
    assert changed[0][0] > seen


def test_operations_on_it_alone_go_and_those_on_others_stay_to_be_undone(database: Database) -> None:
    for id in ("r-1", "r-2"):
        put(database, id, f"{TEXT} {id}")
    mending = Mending(database)
    mending.edit("r-1", "Something else entirely, of the same length.")
    both = mending.apply("bench", ["r-1", "r-2"], reason="both").operation
    database.recalls.put([Recall(episode="e", reflection="r-1", rank=0, query="q", score=1)])
    purge(database, ["r-1"], detail="r-1: private")
    past = History(database)
    assert [operation.name for operation in past.operations()] == ["purged", "benched"]
    past.undo(both or "")
    assert database.reflections.get("r-2").status == "active"
    with pytest.raises(CannotUndo, match="for good"):
        past.undo(past.operations()[1].id)
    assert [one.name for one in past.batches()] == ["undo", "purged", "benched"]


def test_commands_are_counted_and_paged_with_what_each_of_them_did(database: Database) -> None:
    for n in range(6):
        put(database, f"r-{n}", f"{TEXT} {n}")
    mending = Mending(database)
    mending.apply("bench", ["r-0"])
    with database.operations.batch("tidy") as batch:
        for n in range(1, 5):
            mending.apply("forget", [f"r-{n}"])
    mending.apply("pin", ["r-5"])
    found = database.operations.batches()
    assert [(one.name, one.n, one.changed) for one in found] == [("pinned", 1, 1), ("tidy", 4, 4), ("benched", 1, 1)]
    assert database.operations.batches(limit=1, offset=1) == [found[1]] and database.operations.count_batches() == 3
    past = History(database)
    past.undo(past.batch(batch)[-1].id)
    assert database.operations.batches()[2].undone == 1
    assert len(past.undo_batch(batch[:8])) == 3
    assert {item.status for item in database.reflections.find()} == {"active", "benched"}
