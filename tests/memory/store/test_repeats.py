"""Equal sentences are one item with a count; nothing of where they come from is lost, and no count leaks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory import Advice, Database, Evidence, Reflection, ReflectionMemory
from memory.consolidation.consolidation import Consolidation, ConsolidationConfig
from memory.consolidation.report import health
from memory.errors import PinnedReflection
from memory.interchange.transfer import import_reflections
from memory.store import ACTIVE, EVERYTHING, Filter
from memory.store.history import History
from memory.store.repeats import ONCE, tallies

Maker = Callable[..., Reflection]
Say = Callable[..., Reflection]
KITCHEN, HALL = "The coin was in the kitchen.", "The coin was in the hall."
BEGINNING = "2030-01-01T00:00:00.000000+00:00"


@pytest.fixture
def say(reflection: Maker) -> Say:
    """A sentence that was read off game number `seed`."""

    def said(seed: int, text: str = KITCHEN, fold: str = "train", **values: Any) -> Reflection:
        values = {"topic": "where: coin", "run": f"run-{seed}", **values}
        if not values["topic"]:
            del values["topic"]
        id = values.pop("id", f"r-{fold}-{seed}")
        return reflection(
            id, text, task=f"twx/coin:{fold}:{seed}", evidence=[Evidence(episode=f"ep-{seed}", steps=[seed])], **values
        )

    return said


def shown(memory: ReflectionMemory, **wanted: Any) -> list[str]:
    """The texts of what a recall would show."""
    return sorted(
        hit.text
        for hit in memory.recall("Where is the coin?", episode="ep-x", record=False, k=9, wanted=Filter(**wanted))
    )


def test_equal_sentences_are_one_item_with_its_count_and_evidence(
    memory: ReflectionMemory, database: Database, say: Say
) -> None:
    memory.remember([say(seed) for seed in range(12)])
    memory.remember([say(seed, HALL) for seed in range(12, 30)])
    assert shown(memory) == [
        "The coin was in the hall in 18 of 30 games.",
        "The coin was in the kitchen in 12 of 30 games.",
    ]
    assert (memory.count(), memory.count(Filter(status="repeated"))) == (2, 28)
    detail = memory.show("r-train-0")
    assert [(source.id, source.indices) for source in detail.evidence] == [(f"ep-{n}", [n]) for n in range(12)]
    assert detail.tally == (12, 30)
    assert health(memory).repeats.exact == 0


def test_a_sentence_that_answers_no_question_is_counted_by_itself(memory: ReflectionMemory, say: Say) -> None:
    memory.remember([say(1, "Never eat the book.", topic=""), say(2, "Never eat the book.", topic="")])
    assert shown(memory) == ["Never eat the book. (seen in 2 games)"]
    memory.remember([say(3, "Never burn the book.", topic="")])
    assert "Never burn the book." in shown(memory), "once is not worth a count"


def test_several_plays_of_one_game_are_one_game(memory: ReflectionMemory, say: Say) -> None:
    memory.remember([say(1, id="first"), say(1, id="second"), say(2)])
    assert memory.show("first").tally == (2, 2)


@pytest.mark.parametrize(
    "difference",
    [
        {"kind": "written"},
        {"env": "twx/twc"},
        {"source": "someone else"},
        {"oracle": False},
        {"fold": "test"},
        {"topic": "which: coin"},
        {"text": HALL},
    ],
    ids=lambda difference: next(iter(difference)),
)
def test_what_differs_in_more_than_words_is_another_item(
    memory: ReflectionMemory, say: Say, difference: dict[str, Any]
) -> None:
    memory.remember([say(1), say(2, **difference)])
    assert memory.count() == 2


def test_namespaces_do_not_count_each_others_games(open_memory: Callable[..., ReflectionMemory], say: Say) -> None:
    alice, bob = open_memory(namespace="alice"), open_memory(namespace="bob")
    alice.remember([say(1)])
    bob.remember([say(2), say(3)])
    assert (alice.count(), bob.count()) == (1, 1)
    assert shown(bob) == ["The coin was in the kitchen in 2 of 2 games."]


def test_work_repeated_after_a_kill_counts_once(memory: ReflectionMemory, say: Say) -> None:
    for _ in range(2):
        memory.remember([say(1), say(2)])
    assert shown(memory) == ["The coin was in the kitchen in 2 of 2 games."]


def test_each_game_keeps_its_own_advice(memory: ReflectionMemory, say: Say, advice: Callable[..., Advice]) -> None:
    memory.remember([say(seed, topic="", advice=[advice(f"State of {seed}.", value=0.5)]) for seed in range(3)])
    assert memory.count() == 1
    for seed in range(3):
        found = memory.advice_for_task(f"twx/coin:train:{seed}")
        assert [(id, one.state) for id, one in found] == [(f"r-train-{seed}", f"State of {seed}.")]
    near = memory.similar_states("State of 2.", wanted=Filter(env="twx/coin"), k=3)
    assert {one.state for one, _, _ in near} == {"State of 0.", "State of 1.", "State of 2."}
    assert memory.advice_for_task("twx/coin:train:2", wanted=Filter(exclude_run="run-2")) == []
    assert memory.advice_for_task("twx/coin:train:2", episodes=["ep-2"])
    assert memory.advice_for_task("twx/coin:train:2", episodes=["ep-0"]) == []


def test_what_is_taken_out_of_use_takes_the_advice_along(
    memory: ReflectionMemory, say: Say, advice: Callable[..., Advice]
) -> None:
    memory.remember([say(seed, advice=[advice()]) for seed in range(2)])
    memory.forget("r-train-0")
    assert memory.advice_for_task("twx/coin:train:1") == []
    memory.restore("r-train-0")
    assert memory.advice_for_task("twx/coin:train:1")


def test_a_search_tells_all_answers_to_a_question_in_one_hit(memory: ReflectionMemory, say: Say) -> None:
    memory.remember([say(seed) for seed in range(3)])
    assert [hit.text for hit in memory.search("coin")] == ["The coin was in the kitchen in 3 of 3 games."]
    memory.remember([say(seed, HALL) for seed in range(3, 8)])
    memory.remember([say(seed, f"The coin was in room {seed}.") for seed in range(8, 20)])
    memory.remember([say(20, "Doors open.", topic="")])
    hits = memory.search("coin in the kitchen")
    assert [hit.text for hit in hits] == [
        "The coin was in the hall (5), the kitchen (3), room 10 (1), room 11 (1), room 12 (1), room 13 (1), "
        "room 14 (1), room 15 (1), and 6 more, of 20 games.",
        "Doors open.",
    ]
    assert hits[0].reflection.text == KITCHEN, "the answer that fits the query best stands for them"
    assert len(memory.search("coin", k=1)) == 1


def test_a_search_among_some_tells_the_answers_of_those(memory: ReflectionMemory, say: Say) -> None:
    memory.remember([say(1), say(2, HALL), say(3, "The coin was in the attic.", created_at=BEGINNING)])
    memory.forget("r-train-2")
    assert [hit.text for hit in memory.search("coin")] == ["The coin was in the attic (1), kitchen (1), of 2 games."]
    assert [hit.text for hit in memory.search("coin", wanted=Filter(before=BEGINNING))] == [KITCHEN]
    assert len(memory.search("coin", wanted=EVERYTHING)) == 3, "what was forgotten is looked at one by one"


def test_a_run_sees_the_count_as_of_its_beginning(memory: ReflectionMemory, say: Say) -> None:
    early, late = "2029-12-31T23:00:00.000000+00:00", "2030-01-02T00:00:00.000000+00:00"
    memory.remember([say(seed, created_at=early) for seed in (1, 2)])
    memory.remember([say(3, created_at=late), say(4, HALL, created_at=late)])
    assert shown(memory, before=BEGINNING) == ["The coin was in the kitchen in 2 of 2 games."]
    assert shown(memory) == [
        "The coin was in the hall in 1 of 4 games.",
        "The coin was in the kitchen in 3 of 4 games.",
    ]


def test_what_was_learned_on_the_task_or_in_the_run_itself_is_not_counted(memory: ReflectionMemory, say: Say) -> None:
    memory.remember([say(1), say(2), say(3), say(4, HALL)])
    assert shown(memory, exclude_task="twx/coin:train:1") == [
        "The coin was in the hall in 1 of 3 games.",
        "The coin was in the kitchen in 2 of 3 games.",
    ], "the first to say it was game 1; others said it too"
    assert shown(memory, exclude_run="run-4") == ["The coin was in the kitchen in 3 of 3 games."]


def test_held_out_games_are_counted_apart(memory: ReflectionMemory, say: Say) -> None:
    memory.remember([say(1), say(2), say(1, fold="test"), say(2, fold="test"), say(3, fold="test")])
    assert shown(memory, split="train") == ["The coin was in the kitchen in 2 of 2 games."]


def test_to_take_back_a_writing_takes_back_its_part_of_the_count(
    memory: ReflectionMemory, database: Database, say: Say
) -> None:
    for seed in range(3):
        with database.operations.record("remembered", str(seed)):
            memory.remember([say(seed)])
    third, _, first = [operation.id for operation in database.operations.recent()]
    history = History(database)
    undone = history.undo(third)
    assert shown(memory) == ["The coin was in the kitchen in 2 of 2 games."]
    history.undo(undone.id)
    assert shown(memory) == ["The coin was in the kitchen in 3 of 3 games."]
    undone = history.undo(first)
    assert shown(memory) == ["The coin was in the kitchen in 2 of 2 games."], "those that are left go on saying it"
    assert database.reflections.get("r-train-0").status == "forgotten"
    assert (database.reflections.get("r-train-1").status, database.reflections.get("r-train-2").merged_into) == (
        "active",
        "r-train-1",
    )
    history.undo(undone.id)
    assert shown(memory) == ["The coin was in the kitchen in 3 of 3 games."]
    assert memory.show("r-train-0").tally.games == 3


def test_a_judgement_holds_for_what_is_written_again(memory: ReflectionMemory, database: Database, say: Say) -> None:
    memory.remember([say(1)])
    database.reflections.put(memory.show("r-train-1").reflection.model_copy(update={"status": "benched"}))
    memory.remember([say(2)])
    assert memory.count() == 0, "what harmed does not come back by being written again"
    memory.forget("r-train-1")
    memory.remember([say(3)])
    assert shown(memory) == ["The coin was in the kitchen in 1 of 2 games."]


def test_an_episode_counts_once_for_the_credit_of_a_sentence(memory: ReflectionMemory, say: Say) -> None:
    memory.remember([say(1, topic=""), say(2, topic="")])
    memory.recall("Where is the coin?", episode="ep-9", k=5)
    memory.outcome("ep-9", won=True)
    counts = memory.database.recalls.counts(["r-train-1", "r-train-2"])
    assert [tuple(counts[id]) for id in ("r-train-1", "r-train-2")] == [(1, 1, 1), (0, 0, 0)]


def test_repeats_do_not_crowd_a_search(memory: ReflectionMemory, say: Say) -> None:
    memory.remember([say(seed, topic="") for seed in range(200)])
    memory.remember([say(900, "Nothing but the cat is in the garden.", topic="")])
    found = [hit.reflection.id for hit in memory.search("Where is the coin?", k=2)]
    assert sorted(found) == ["r-train-0", "r-train-900"]


def test_old_duplicates_are_counted_by_consolidation_and_their_advice_goes_on(
    memory: ReflectionMemory, database: Database, say: Say, advice: Callable[..., Advice]
) -> None:
    for seed in range(4):
        database.reflections.put(say(seed, importance=0.5, advice=[advice(f"State of {seed}.")]))
    assert health(memory).repeats.exact == 3
    settings = ConsolidationConfig(forget_below=0)
    assert Consolidation(memory, settings).run(["merge"]).counts == {"merge": 1}
    assert health(memory).repeats.exact == 0
    assert shown(memory) == ["The coin was in the kitchen in 4 of 4 games."]
    assert [one.state for _, one in memory.advice_for_task("twx/coin:train:3")] == ["State of 3."]
    History(database).undo(database.operations.recent()[0].id)
    assert memory.count() == 4
    assert Consolidation(memory, settings).run(["merge"]).counts == {}, "what was taken apart stays apart"


def test_what_a_person_took_out_of_a_count_is_not_counted_again(memory: ReflectionMemory, say: Say) -> None:
    memory.remember([say(1), say(2)])
    memory.restore("r-train-2")
    assert memory.count() == 2
    assert Consolidation(memory, ConsolidationConfig(forget_below=0)).run(["merge"]).counts == {}


def test_one_that_is_edited_says_something_of_its_own(memory: ReflectionMemory, say: Say) -> None:
    memory.remember([say(1), say(2), say(3)])
    memory.edit("r-train-2", "The coin was in the pantry.")
    assert shown(memory) == [
        "The coin was in the kitchen in 2 of 3 games.",
        "The coin was in the pantry in 1 of 3 games.",
    ]


def test_answers_to_one_question_are_not_merged_however_alike_they_sound(memory: ReflectionMemory, say: Say) -> None:
    memory.remember([say(1), say(2, HALL)])
    assert Consolidation(memory, ConsolidationConfig(forget_below=0, duplicate=0.01)).run(["merge"]).counts == {}
    assert memory.count() == 2


def test_advice_goes_on_as_long_as_what_counts_it_in_the_end_is_in_use(
    memory: ReflectionMemory, database: Database, say: Say, advice: Callable[..., Advice]
) -> None:
    memory.remember([say(seed, advice=[advice()]) for seed in (1, 2)])
    memory.remember([say(3, "In the kitchen the coin was.", advice=[advice()])])
    first = database.reflections.get("r-train-1")
    database.reflections.put(first.model_copy(update={"status": "repeated", "merged_into": "r-train-3"}))
    assert all(memory.advice_for_task(f"twx/coin:train:{seed}") for seed in (1, 2, 3))
    memory.forget("r-train-3")
    assert not any(memory.advice_for_task(f"twx/coin:train:{seed}") for seed in (1, 2, 3))


def test_what_somebody_else_says_again_comes_in_once_and_claims_no_games(
    memory: ReflectionMemory, say: Say, advice: Callable[..., Advice], tmp_path: Path
) -> None:
    memory.remember([say(seed, topic="", advice=[advice(f"State of {seed}.")]) for seed in range(4)])
    memory.export(tmp_path / "out.jsonl")
    with Database(tmp_path / "other.db") as other:
        report = import_reflections(other, tmp_path / "out.jsonl")
        assert len(report.added) == 4
        assert (other.reflections.count(ACTIVE), other.reflections.count(Filter(status="repeated"))) == (1, 3)
        assert tallies(other, other.reflections.find(ACTIVE)) == {report.added[0]: ONCE}
        assert import_reflections(other, tmp_path / "out.jsonl").same == report.added
        assert len(other.reflections.find(Filter(advising=True))) == 4


def test_a_pin_on_one_that_repeats_holds_what_says_it(memory: ReflectionMemory, say: Say) -> None:
    memory.remember([say(1), say(2)])
    assert memory.pin("r-train-2").id == "r-train-1"
    assert memory.database.reflections.get("r-train-1").pinned
    with pytest.raises(PinnedReflection):
        memory.forget("r-train-1")
    memory.unpin("r-train-2")
    assert not memory.database.reflections.get("r-train-1").pinned


@pytest.mark.parametrize("status", ["repeated", "merged"])
def test_what_counts_with_another_by_way_of_one_that_is_edited_still_counts_with_it(
    memory: ReflectionMemory, database: Database, say: Say, advice: Callable[..., Advice], status: str
) -> None:
    memory.remember([say(seed, advice=[advice()]) for seed in range(3)])
    memory.remember([say(3, "In the kitchen the coin was.", topic="", advice=[advice()])])
    first = database.reflections.get("r-train-0").model_copy(update={"status": status, "merged_into": "r-train-3"})
    database.reflections.put(first)
    memory.edit("r-train-0", "Never open the door.")
    heir = database.reflections.get("r-train-1")
    assert (heir.text, heir.status, heir.merged_into) == (KITCHEN, "repeated", "r-train-3")
    assert database.reflections.get("r-train-2").merged_into == "r-train-1"
    assert all(memory.advice_for_task(f"twx/coin:train:{seed}") for seed in (1, 2, 3))


@pytest.mark.parametrize("status", ["repeated", "merged"])
def test_a_pin_holds_what_says_it_in_the_end(
    memory: ReflectionMemory, database: Database, say: Say, status: str
) -> None:
    memory.remember([say(1), say(2), say(3, HALL)])
    first = database.reflections.get("r-train-1").model_copy(update={"status": status, "merged_into": "r-train-3"})
    database.reflections.put(first)
    assert memory.pin("r-train-2").id == "r-train-3"
    memory.unpin("r-train-2")
    assert not database.reflections.get("r-train-3").pinned
    # What an earlier version pinned on the way can be unpinned by its own name.
    database.reflections.put(first.model_copy(update={"pinned": True}))
    assert memory.unpin("r-train-1").id == "r-train-1"
    assert memory.forget("r-train-1").status == "forgotten"


def test_a_search_goes_on_behind_all_answers_to_one_question(memory: ReflectionMemory, say: Say) -> None:
    memory.remember([say(seed, f"The coin was in the kitchen of house {seed}.") for seed in range(40)])
    memory.remember([say(seed, f"Coin {seed} is no use.", topic="") for seed in range(40, 45)])
    hits = memory.search("the coin was in the kitchen of the house", k=5)
    assert len({hit.reflection.topic or hit.reflection.id for hit in hits}) == len(hits) == 5


@pytest.mark.parametrize("status", ["active", "benched"])
def test_the_old_words_of_one_that_was_edited_stay_with_those_that_repeated_it(
    memory: ReflectionMemory, say: Say, status: str
) -> None:
    memory.remember([say(seed) for seed in range(3)])
    old = memory.database.reflections.get("r-train-0")
    memory.database.reflections.put(old.model_copy(update={"status": status}), change=status)
    memory.edit("r-train-0", "Never open the door.")
    with_status = {item.id: item.status for item in memory.database.reflections.find()}
    assert with_status == {"r-train-0": status, "r-train-1": status, "r-train-2": "repeated"}
    assert memory.show("r-train-0").tally.games == 1
    assert memory.show("r-train-1").tally == (2, 3)
    History(memory.database).undo(memory.database.operations.recent()[-1].id)
    assert memory.show("r-train-0").tally == (3, 3)


def test_words_that_are_taken_back_stay_with_those_that_have_repeated_them_since(
    memory: ReflectionMemory, database: Database, say: Say
) -> None:
    memory.remember([say(seed) for seed in range(2)])
    memory.edit("r-train-0", HALL)
    edited = database.operations.recent()[-1].id
    memory.remember([say(seed, HALL) for seed in (2, 3)])
    assert memory.show("r-train-0").tally.games == 3
    undone = History(database).undo(edited)
    assert shown(memory) == [
        "The coin was in the hall in 2 of 4 games.",
        "The coin was in the kitchen in 2 of 4 games.",
    ]
    History(database).undo(undone.id)
    assert memory.show("r-train-0").tally == (3, 4) and memory.show("r-train-1").tally == (1, 4)


def test_those_that_said_the_words_of_before_a_merge_say_them_again_when_it_is_taken_back(
    memory: ReflectionMemory, database: Database, say: Say
) -> None:
    memory.remember([say(seed) for seed in range(3)])
    with database.operations.record("merge") as number:
        one = database.reflections.get("r-train-0")
        database.reflections.put(one.model_copy(update={"text": HALL}), change="merged")
    History(database).undo(database.operations.id_of(number) or "")
    assert memory.show("r-train-0").tally == (3, 3) and memory.count() == 1


def test_words_that_are_taken_back_are_not_said_twice_where_another_one_says_them(
    memory: ReflectionMemory, database: Database, say: Say
) -> None:
    memory.remember([say(0), say(1, HALL)])
    memory.edit("r-train-0", HALL)
    edited = database.operations.recent()[-1].id
    memory.remember([say(2, HALL), say(3, HALL)])
    undone = History(database).undo(edited)
    assert shown(memory) == [
        "The coin was in the hall in 3 of 4 games.",
        "The coin was in the kitchen in 1 of 4 games.",
    ]
    memory.remember([say(4)])
    History(database).undo(undone.id)
    assert memory.show("r-train-4").reflection.status == "active"


def test_those_who_say_a_sentence_after_it_came_back_go_on_with_who_says_it_again(
    memory: ReflectionMemory, database: Database, say: Say
) -> None:
    memory.remember([say(0), say(1)])
    memory.edit("r-train-0", HALL)
    undone = History(database).undo(database.operations.recent()[-1].id)
    memory.remember([say(5)])
    History(database).undo(undone.id)
    assert memory.show("r-train-1").tally == (2, 3)
