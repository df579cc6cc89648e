"""The memory remembers, recalls what fits, records whom it served, and lets a person look after it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from memory import Advice, Database, Episode, HashingEmbedder, Reflection, ReflectionMemory, SqliteFaissStore, errors
from memory.index.embedder import CachedEmbedder
from memory.index.vectors import Vectors
from memory.store import EVERYTHING, Filter

Maker = Callable[..., Reflection]


def ids(hits: list[object]) -> list[str]:
    return [hit.reflection.id for hit in hits]  # type: ignore[attr-defined]


@pytest.fixture
def filled(memory: ReflectionMemory, reflection: Maker) -> ReflectionMemory:
    memory.remember(
        [
            reflection("kitchen", "Coins are found in the kitchen.", tags=["coin"]),
            reflection("door", "Open the wooden door before going east.", kind="written", task="twx/coin:train:4"),
            reflection("book", "Read the cookbook first.", env="twx/twc", task="twx/twc:train:1", run="run-2"),
        ]
    )
    return memory


def test_what_fits_is_recalled_first_and_its_service_recorded(filled: ReflectionMemory) -> None:
    hits = filled.recall("where are coins found", episode="ep-7", k=2, channel="exemplar")
    assert hits[0].reflection.id == "kitchen"
    (served,) = filled.database.recalls.of_reflection("kitchen")
    assert (served.episode, served.rank, served.channel, served.query) == (
        "ep-7",
        0,
        "exemplar",
        "where are coins found",
    )
    assert (served.score, served.parts) == (hits[0].score, hits[0].parts)
    filled.outcome("ep-7", True)
    assert filled.database.recalls.of_reflection("kitchen")[0].won is True


def test_looking_is_not_serving(filled: ReflectionMemory) -> None:
    filled.search("coins")
    filled.recall("coins", episode="ep-7", record=False)
    assert filled.database.recalls.of_reflection("kitchen") == []


def test_recall_keeps_to_its_filters(filled: ReflectionMemory) -> None:
    def found(**wanted: object) -> set[str]:
        return set(ids(filled.recall("coins", episode="ep-1", record=False, k=9, wanted=Filter(**wanted))))  # type: ignore[arg-type]

    assert found() == {"kitchen", "door", "book"}
    assert found(env="twx/coin") == found(exclude_run="run-2") == {"kitchen", "door"}
    assert found(task="twx/coin:train:4") == found(kinds=["written"]) == {"door"}
    assert found(exclude_task="twx/coin:train:3") == {"door", "book"}
    assert found(before="2001-01-01") == found(split="dev") == found(tier="rule") == set()
    assert found(split="train") == found(after="2001-01-01") == found(tier="raw") == found()
    assert found(after="2999-01-01") == found(source="somebody") == set()
    assert found(tag="coin") == {"kitchen"}
    filled.forget("door")
    assert found(status="forgotten") == {"door"}
    assert found(status=None) == {"kitchen", "door", "book"}


def test_a_search_keeps_to_its_filters(filled: ReflectionMemory) -> None:
    filled.forget("book")
    assert set(ids(filled.search("coins"))) == {"kitchen", "door"}
    assert ids(filled.search("coins", wanted=Filter(tag="coin"))) == ["kitchen"]
    assert ids(filled.search("coins", wanted=Filter(kinds=["written"]))) == ["door"]
    assert ids(filled.search("coins", wanted=Filter(status="forgotten"))) == ["book"]
    assert set(ids(filled.search("coins", wanted=Filter(status=None, env="twx/twc")))) == {"book"}
    assert len(filled.search("coins", k=1)) == 1
    assert ids(filled.search("coins", wanted=Filter(task="twx/coin:train:4"))) == ["door"]
    assert set(ids(filled.search("coins", wanted=Filter(after="2001-01-01", source="", tier="raw")))) == {
        "kitchen",
        "door",
    }
    assert (
        filled.search("coins", wanted=Filter(before="2001-01-01"))
        == filled.search("coins", wanted=Filter(tier="summary"))
        == []
    )


def test_a_budget_serves_and_records_only_what_fits(filled: ReflectionMemory) -> None:
    # In words: kitchen 6, door 7, book 4.
    def count(text: str) -> int:
        return len(text.split())

    hits = filled.recall("coins in the kitchen", episode="ep-7", k=3, budget=11, count_tokens=count)
    assert ids(hits)[0] == "kitchen" and set(ids(hits)) == {"kitchen", "book"}
    assert [hit.text for hit in hits] == [hit.reflection.text for hit in hits]
    assert {recall.reflection: recall.rank for recall in filled.database.recalls.of_episode("ep-7")} == {
        "kitchen": 0,
        "book": 1,
    }
    assert filled.recall("coins", episode="ep-8", budget=3, count_tokens=count, shorten=False) == []
    assert filled.database.recalls.of_episode("ep-8") == []


def test_what_is_too_long_for_the_whole_budget_is_shortened(memory: ReflectionMemory, reflection: Maker) -> None:
    memory.remember([reflection("long", "\n".join(["Example. Task: win", *["> look around"] * 30, "> take coin"]))])
    (hit,) = memory.recall("coin", episode="ep-1", channel="exemplar", budget=12)
    assert hit.text == "Example. Task: win\n> look around\n> take coin"
    assert len(hit.reflection.text) > 400
    assert len(memory.database.recalls.of_episode("ep-1")) == 1


def test_inside_a_transaction_recall_knows_what_is_committed(memory: ReflectionMemory, reflection: Maker) -> None:
    memory.remember([reflection("here", "The silver key.")])
    assert ids(memory.search("silver key")) == ["here"]
    with memory.database.transaction():
        memory.remember([reflection("coming", "Another silver key.")])
        assert ids(memory.search("silver key")) == ["here"]
    assert set(ids(memory.search("silver key"))) == {"here", "coming"}


def test_an_empty_memory_recalls_nothing(memory: ReflectionMemory) -> None:
    assert memory.recall("anything", episode="ep-1") == []
    assert memory.similar_states("anything", wanted=Filter(env="twx/coin")) == []
    assert memory.remember([]) == []


def test_remembering_again_changes_nothing_that_a_person_edited(memory: ReflectionMemory, reflection: Maker) -> None:
    assert memory.remember([reflection()]) == ["rf-1"]
    memory.edit("rf-1", "Coins lie in the cellar.")
    assert memory.remember([reflection(), reflection("rf-2")]) == ["rf-1", "rf-2"]
    assert memory.show("rf-1").reflection.text == "Coins lie in the cellar."
    assert memory.count() == 2


def test_of_two_with_one_id_the_first_is_remembered(memory: ReflectionMemory, reflection: Maker) -> None:
    assert memory.remember([reflection(text="First."), reflection(text="Second.")]) == ["rf-1", "rf-1"]
    assert [item.reflection.text for item in memory.show("rf-1").versions] == ["First."]


def test_remembering_is_all_or_nothing(memory: ReflectionMemory, reflection: Maker) -> None:
    with pytest.raises(errors.InvalidReflection, match="neither text nor advice"):
        memory.remember([reflection("good"), reflection("bad", "\x1b[0m")])
    assert memory.count(EVERYTHING) == 0


def test_text_from_outside_is_cleaned_and_cut(memory: ReflectionMemory, reflection: Maker) -> None:
    memory.remember([reflection(text="\x1b[31mred\x07" + "x" * 9000, goal="find\x00 it", tags=["a\x1b[1mb"])])
    kept = memory.show("rf-1").reflection
    assert (kept.text[:4], len(kept.text), kept.goal, kept.tags) == ("redx", 4000, "find it", ["ab"])
    assert memory.edit("rf-1", "\x1b[2Jnew").text == "new"


@pytest.mark.parametrize(
    ("text", "part"), [("\x1b[2J", "memory forget"), ("x" * 4001, "4,001 characters"), ("é" * 4001, "at most 4,000")]
)
def test_an_edit_is_kept_whole_or_refused(memory: ReflectionMemory, reflection: Maker, text: str, part: str) -> None:
    memory.remember([reflection(text="old")])
    with pytest.raises(errors.InvalidReflection, match=part):
        memory.edit("rf-1", text)
    assert memory.show("rf-1").reflection.text == "old"
    assert memory.edit("rf-1", f" {'é' * 4000}\x07\n").text == "é" * 4000


def test_an_edit_is_found_by_its_new_words(filled: ReflectionMemory) -> None:
    filled.edit("kitchen", "The silver key opens the chest.")
    assert ids(filled.search("silver key chest"))[0] == "kitchen"
    assert [item.change for item in filled.show("kitchen").versions] == ["remembered", "edited"]


def test_what_is_forgotten_is_not_recalled_until_restored(filled: ReflectionMemory) -> None:
    assert filled.forget("kit").status == "forgotten"
    assert "kitchen" not in ids(filled.recall("coins", episode="ep-1", k=9))
    assert (filled.count(), filled.count(Filter(status="forgotten")), filled.count(EVERYTHING)) == (2, 1, 3)
    assert filled.restore("kit").status == "active"
    assert "kitchen" in ids(filled.recall("coins", episode="ep-1", k=9))


def test_what_is_pinned_is_not_forgotten(filled: ReflectionMemory) -> None:
    filled.pin("door")
    with pytest.raises(errors.MemoryStoreError, match="unpin"):
        filled.forget("door")
    assert filled.show("door").reflection.status == "active"
    filled.unpin("door")
    assert filled.forget("door").status == "forgotten"


def test_pinning_twice_is_one_version(filled: ReflectionMemory) -> None:
    assert filled.pin("door").pinned
    assert filled.pin("door").pinned
    assert not filled.unpin("door").pinned
    assert [item.change for item in filled.show("door").versions] == ["remembered", "pinned", "unpinned"]
    with pytest.raises(errors.UnknownReflection, match="did you mean 'door'"):
        filled.pin("doors")


def test_showing_gives_the_steps_it_rests_on(
    filled: ReflectionMemory, database: Database, episode: Callable[..., Episode]
) -> None:
    assert filled.show("kitchen").evidence[0].episode is None
    database.episodes.put(episode())
    (source,) = filled.show("kitchen").evidence
    assert source.id == "ep-1"
    assert [step.action for step in source.steps] == ["go south"]


def test_advice_of_a_task_is_that_of_its_active_reflections(
    memory: ReflectionMemory, reflection: Maker, advice: Callable[..., Advice]
) -> None:
    one, two = advice("Here.", "wait", value=0), advice("Here.", "take coin")
    memory.remember([reflection("a", "", advice=[one, two]), reflection("b", "", advice=[one], task="other")])
    assert memory.advice_for_task("twx/coin:train:3") == [("a", one), ("a", two)]
    assert memory.advice_for_task("twx/coin:train:3", wanted=Filter(run="run-2")) == []
    assert memory.advice_for_task("twx/coin:train:3", episodes={"ep-other"}) == []
    assert len(memory.advice_for_task("twx/coin:train:3", wanted=Filter(run="run-1"))) == 2
    memory.forget("a")
    assert memory.advice_for_task("twx/coin:train:3") == []


def test_advice_comes_from_the_most_similar_states_of_the_same_environment(
    memory: ReflectionMemory, reflection: Maker, advice: Callable[..., Advice]
) -> None:
    kitchen = advice("You are in the kitchen. A coin is here.", "take coin")
    useless = advice("You are in the kitchen. A fork is here.", "take fork", value=0)
    hall = advice("You are in the hall. A door is east.", "open door")
    memory.remember(
        [reflection("a", advice=[kitchen, useless, hall]), reflection("b", advice=[kitchen], env="twx/twc")]
    )
    first, second = memory.similar_states("You are in the kitchen. A fork is here.", wanted=Filter(env="twx/coin"), k=2)
    assert (first[0], first[2], second[0]) == (kitchen, "a", hall)
    assert 1 > first[1] > second[1]
    assert memory.similar_states(kitchen.state, wanted=Filter(env="twx/twc"), k=1)[0][1:] == (pytest.approx(1), "b")
    assert memory.similar_states(kitchen.state, wanted=Filter(env="twx/coin", split="dev")) == []
    assert memory.similar_states(kitchen.state, wanted=Filter(env="twx/coin", before="2001-01-01")) == []
    memory.forget("a")
    assert memory.similar_states("You are in the kitchen.", wanted=Filter(env="twx/coin")) == []


def test_similar_states_are_found_behind_many_of_other_environments(
    memory: ReflectionMemory, reflection: Maker, advice: Callable[..., Advice]
) -> None:
    near = [advice(f"You are in the kitchen. Coin {number}.", "take coin") for number in range(60)]
    memory.remember([reflection("a", advice=near, env="twx/twc"), reflection("b", advice=[advice("A cellar.")])])
    assert [
        id for _, _, id in memory.similar_states("You are in the kitchen.", wanted=Filter(env="twx/coin"), k=2)
    ] == ["b"]


def test_similar_states_compare_those_of_their_own_environment_alone(
    memory: ReflectionMemory, reflection: Maker, advice: Callable[..., Advice], monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [
        reflection(f"a {part}", advice=[advice(f"Kitchen {part} {number}.") for number in range(40)], env="twx/twc")
        for part in range(10)
    ]
    memory.remember([*others, reflection("b", advice=[advice("A cellar."), advice("A hall.")])])
    memory.similar_states("Kitchen 0 1.", wanted=Filter(env="twx/coin"))
    compared: list[int] = []
    of_rows, of_all = Vectors.cosines_of, Vectors.cosines
    monkeypatch.setattr(
        Vectors, "cosines_of", lambda self, query, rows: (compared.append(len(rows)), of_rows(self, query, rows))[1]
    )
    monkeypatch.setattr(
        Vectors,
        "cosines",
        lambda self, query, **start: (compared.append(len(self)), of_all(self, query, **start))[1],
    )
    assert len(memory.similar_states("Kitchen 0 1.", wanted=Filter(env="twx/coin"))) == 2
    assert sum(compared) == 2


def test_similar_states_follow_what_is_written_and_forgotten(
    memory: ReflectionMemory, reflection: Maker, advice: Callable[..., Advice]
) -> None:
    def found() -> list[str]:
        return [id for _, _, id in memory.similar_states("A cellar.", wanted=Filter(env="twx/coin"), k=2)]

    memory.remember([reflection("a", advice=[advice("A cellar.")])])
    assert found() == ["a"]
    memory.remember([reflection("b", text="Wine is kept below.", advice=[advice("A cellar with wine.")])])
    assert found() == ["a", "b"]
    memory.forget("a")
    assert found() == ["b"]
    with pytest.raises(RuntimeError), memory.database.transaction():
        memory.restore("a")
        assert found() == ["a", "b"]
        raise RuntimeError("rolled back")
    memory.restore("a")
    assert found() == ["a", "b"]


def test_an_export_holds_every_reflection_as_it_is(filled: ReflectionMemory, tmp_path: Path) -> None:
    filled.forget("book")
    target = tmp_path / "out.jsonl"
    assert filled.export(target) == 3
    found = [Reflection.model_validate_json(line) for line in target.read_text().splitlines()]
    assert found == filled.database.reflections.find()
    stream = io.StringIO()
    assert filled.export(stream, wanted=Filter(status="active")) == 2
    assert stream.getvalue().count("\n") == 2
    assert [path.name for path in tmp_path.glob("out*")] == ["out.jsonl"]


def test_an_export_to_a_place_that_is_not_there_says_so(filled: ReflectionMemory, tmp_path: Path) -> None:
    with pytest.raises(errors.MemoryStoreError, match="could not be written"):
        filled.export(tmp_path / "nowhere" / "out.jsonl")


def test_a_second_start_uses_the_saved_index(
    filled: ReflectionMemory, open_memory: Callable[..., ReflectionMemory], tmp_path: Path, notes: list[str]
) -> None:
    with filled:
        assert filled.search("coins")
    assert (tmp_path / "texts.faiss").exists()
    assert ids(open_memory().search("coins found kitchen"))[0] == "kitchen"
    assert notes == []


def test_a_deleted_index_is_made_again_and_said_once(
    filled: ReflectionMemory,
    open_memory: Callable[..., ReflectionMemory],
    reflection: Maker,
    advice: Callable[..., Advice],
    tmp_path: Path,
    notes: list[str],
) -> None:
    filled.remember([reflection("cellar", advice=[advice()])])
    filled.similar_states("Room", wanted=Filter(env="twx/coin"))
    filled.save()
    for file in tmp_path.glob("*.faiss"):
        file.unlink()
    with open_memory() as memory:
        assert ids(memory.search("coins found kitchen"))[0] in ("kitchen", "cellar")
        assert memory.similar_states("Room", wanted=Filter(env="twx/coin"))
    assert notes == [
        "The index texts.faiss was missing; making it again from the database (4 items).",
        "The index texts.states.faiss was missing; making it again from the database (1 items).",
    ]
    notes.clear()
    assert open_memory().search("coins")
    assert notes == []


def test_an_index_that_was_first_looked_into_while_empty_is_missed_as_well(
    open_memory: Callable[..., ReflectionMemory], tmp_path: Path, reflection: Maker, notes: list[str]
) -> None:
    with open_memory() as memory:
        assert memory.search("coins") == []
        memory.remember([reflection(text="Coins lie in the kitchen.")])
        assert memory.search("coins")
        memory.save()
    (tmp_path / "texts.faiss").unlink()
    assert open_memory().search("coins")
    assert notes == ["The index texts.faiss was missing; making it again from the database (1 items)."]


def test_another_embedder_makes_the_index_again(
    filled: ReflectionMemory, open_memory: Callable[..., ReflectionMemory], notes: list[str]
) -> None:
    filled.save()
    progress: list[tuple[int, int]] = []
    other = open_memory(HashingEmbedder(48), progress=lambda done, total: progress.append((done, total)))
    assert ids(other.search("coins found kitchen"))[0] == "kitchen"
    assert notes == [
        "The index texts.faiss was made by the embedder 'hashing-64', and this lab uses 'hashing-48'; "
        "making it again from the database (3 items)."
    ]
    assert progress == [(3, 3)]


def test_one_process_sees_what_another_remembers(
    memory: ReflectionMemory, path: Path, tmp_path: Path, reflection: Maker
) -> None:
    with Database(path, readonly=True) as database:
        reader = ReflectionMemory(database, HashingEmbedder(64), tmp_path / "texts.faiss")
        assert reader.search("silver key") == []
        memory.remember([reflection(text="The silver key opens the chest.")])
        assert ids(reader.search("silver key")) == ["rf-1"]
        memory.edit("rf-1", "A red apple.")
        assert reader.search("a red apple")[0].parts["cosine"] > 0.9
        reader.close()
    assert not (tmp_path / "texts.faiss").exists()


@pytest.mark.parametrize("which", ["memory", "store"])
def test_a_thread_in_a_transaction_and_one_without_search_at_the_same_time(
    tmp_path: Path, reflection: Callable[..., Reflection], monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """Each waits for the other's lock only if they take them in different orders."""
    # Not closed where it fails: that would wait for the lock, too.
    memory = ReflectionMemory(Database(tmp_path / "lab.db"), HashingEmbedder(), tmp_path / "memory.faiss")
    store = SqliteFaissStore.of_memory(memory)

    def search() -> None:
        if which == "memory":
            memory.recall("door", episode="ep-a", record=False)
        else:
            store.search(("notes",), query="door")

    for n in range(2):
        memory.remember([reflection(f"r-{n}", f"Door {n} needs a key.")])
        store.put(("notes",), str(n), {"text": f"Window {n} is shut."})
        if n == 0:
            search()  # what comes later is new to it
    inside, waiting = Event(), Event()
    embed = CachedEmbedder.embed

    def slowly(embedder: CachedEmbedder, *texts: Any, **more: Any) -> Any:
        if not inside.is_set() and not memory.database.connection.in_transaction:
            inside.set()
            waiting.wait(0.3)  # holds what a search holds that takes over what is new, while the other one comes
        return embed(embedder, *texts, **more)

    def within() -> None:
        inside.wait(10)
        with memory.database.transaction():
            waiting.set()
            search()

    monkeypatch.setattr(CachedEmbedder, "embed", slowly)
    threads = [Thread(target=search, daemon=True), Thread(target=within, daemon=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert inside.is_set()
    assert not any(thread.is_alive() for thread in threads)
    memory.database.close()
