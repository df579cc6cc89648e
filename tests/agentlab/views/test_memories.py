"""The read model of the memory: sorted by what credit says, answered from an index, and tied to the adapters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from agentlab.lab import Lab
from agentlab.views.memories import LISTED, Asked, memories, rows, select
from agentlab.views.memory_item import memory_item, pieces
from agentlab.workspace.config import LabConfig
from memory.credit import Credit
from memory.records import Episode, Evidence, Recall, Reflection, Step
from memory.store import Filter, Listing
from memory.store import versions as module
from memory.store.versions import stored
from trainers.adapters import AdapterRecord, learned_from
from trainers.lineage import Lineage


def chosen(id: str, episode: str, *, held_out: bool, won: bool, odds: float = 0.5) -> Recall:
    return Recall(
        episode=episode, reflection=id, rank=0, query="q", score=1, env="toy/doors", held_out=held_out, won=won,
        propensity=odds,
    )  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("views") / "lab"
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing"), progress=False) as lab:
        lab.memory.remember(
            [
                Reflection(
                    id=f"r-{n}", kind="grounded", env="toy/doors", task=f"toy/doors:train:{n}", run="run",
                    text=f"Door {n // 2} is safe.", importance=n / 10, tags=["even"] if n % 2 == 0 else [],
                    created_at=f"2026-05-0{n + 1}T00:00:00.000000+00:00",
                    evidence=[Evidence(episode=f"e-{n}", steps=[0])],
                )
                for n in range(6)
            ]
        )  # fmt: skip
        # r-0 helps, and what repeats it (r-1) was measured too; r-2 harms; of r-4 only one side is known.
        lab.database.recalls.put(
            [
                *(chosen("r-0", f"a{n}", held_out=n % 2 == 0, won=n % 2 == 1) for n in range(20)),
                *(chosen("r-1", f"b{n}", held_out=n % 2 == 0, won=n % 2 == 1) for n in range(20)),
                *(chosen("r-2", f"c{n}", held_out=n % 2 == 0, won=n % 2 == 0) for n in range(40)),
                *(chosen("r-4", f"d{n}", held_out=False, won=True) for n in range(9)),
            ]
        )
        step = Step(
            index=0, observation="A door.", state="s", admissible=["go"], action="go", result="Gone.", next_state="t"
        )
        for id, n, of in (("e-5", 5, None), ("e-5-short", 5, "e-5"), ("a1", 7, None)):
            lab.database.episodes.put(
                Episode(
                    id=id, run="run", env="toy/doors", split="train", seed=n, status="won", steps=[step],
                    minimised_from=of,
                )
            )  # fmt: skip
        record = AdapterRecord(
            id="adapter-1", base="b", fingerprint="f", path="p",
            lineage=Lineage(round="round-1", episodes=["e-5-short", "a1"]),
        )  # fmt: skip
        lab.adapters.records.put(record)
        yield lab


def test_sorting_by_uplift_is_by_the_mean_that_credit_gives_each(lab: Lab) -> None:
    found = memories(lab, Asked(sort="uplift")).rows
    for row in found:
        measured = lab.memory.credit.uplift(row.id)
        known = row.uplift and row.uplift.mean
        assert known == (measured.mean if measured.served and measured.held_out else None)
    assert [row.id for row in found] == ["r-0", "r-2", "r-4"]
    # What repeats it counts for it.
    assert found[0].uplift is not None and found[0].uplift.served == 20 and found[0].repeats == 1


def test_an_order_is_made_anew_when_an_episode_has_ended(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentlab.views.standings.SELDOM", 0)
    assert memories(lab, Asked(sort="harm")).rows[0].id == "r-2"
    lab.database.recalls.put(
        [chosen("r-4", f"z{n}", held_out=n % 2 == 0, won=n % 2 == 0) for n in range(200)]
    )  # fmt: skip
    assert memories(lab, Asked(sort="harm")).rows[0].id == "r-4"
    lab.database.connection.execute("DELETE FROM recalls WHERE episode LIKE 'z%'")
    assert memories(lab, Asked(sort="harm")).rows[0].id == "r-2"


def test_pages_follow_each_other_in_every_order(lab: Lab) -> None:
    for sort in ("age", "uplift", "harm", "recalled", "importance"):
        one_by_one = [memories(lab, Asked(sort=sort), offset=n, limit=1).rows[0].id for n in range(3)]  # type: ignore[arg-type]
        assert one_by_one == [row.id for row in memories(lab, Asked(sort=sort)).rows]  # type: ignore[arg-type]


def test_facets_have_what_another_choice_would_give(lab: Lab) -> None:
    found = memories(lab, Asked(replace(LISTED, kinds=["written"])))
    assert (found.total, found.items, found.facets["kind"]) == (0, 6, {"grounded": 3})
    assert memories(lab, Asked(replace(LISTED, status="repeated", repeats=True))).total == 3
    assert memories(lab, Asked(replace(LISTED, tag="even"))).total == 3


def test_a_listing_reads_no_rows(lab: Lab) -> None:
    asked: list[str] = []

    class Spied:
        def execute(self, sql: str, values: object = ()) -> list[tuple[object, ...]]:
            asked.extend(row[3] for row in lab.database.connection.execute(f"EXPLAIN QUERY PLAN {sql}", values))  # type: ignore[arg-type]
            return lab.database.connection.execute(sql, values)  # type: ignore[arg-type]

    listing = Listing(Spied(), Filter(env="toy/doors", status=None, namespace="", after="2026-05-02"))  # type: ignore[arg-type]
    listing.facets(), listing.numbers(), listing.page("newest", 50), listing.page("importance", 50)
    read = [line for line in asked if line.startswith(("SCAN reflections", "SEARCH reflections"))]
    assert len(read) == 4 and all("COVERING INDEX reflections_listed" in line for line in read)


def test_an_adapter_learned_from_what_served_or_is_the_source_of_its_episodes(lab: Lab) -> None:
    items = {item.id: item for item in lab.database.reflections.find()}
    taught = learned_from(lab.adapters, list(items.values()))
    # a1 was served r-0; r-5, which repeats r-4, was read off the episode whose short form was trained on.
    assert {id: [(one.served, one.read_off) for one in found] for id, found in taught.items()} == {
        "r-0": [(1, 0)], "r-4": [(0, 1)], "r-5": [(0, 1)],
    }  # fmt: skip
    found, total = select(lab, Asked(adapter="adapter-1"))
    assert {item.id for item in found} == {"r-0", "r-4"} and total == 2
    assert rows(lab, [items["r-0"]])[0].adapters[0].round == "round-1"


def test_an_item_is_read_without_all_that_hangs_on_it(lab: Lab) -> None:
    item = memory_item(lab, "r-2")
    assert len(item.recalls) == 40 and item.total == 40 and item.effects[0].uplift.high < 0
    assert [source.kept for source in memory_item(lab, "r-4").sources] == [False, True]


def test_the_next_page_of_an_item_measures_nothing_again_until_something_was_recalled(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    by_env = Credit.by_env
    monkeypatch.setattr(Credit, "by_env", lambda *given: (asked.append(1), by_env(*given))[1])
    first = memory_item(lab, "r-0")
    assert memory_item(lab, "r-0", offset=10).effects == first.effects and first.effects and len(asked) == 1
    lab.database.recalls.put([chosen("r-1", "late", held_out=False, won=True)])
    assert memory_item(lab, "r-0").effects[0].uplift.served == first.effects[0].uplift.served + 1
    lab.database.connection.execute("DELETE FROM recalls WHERE episode = 'late'")


def test_of_many_versions_the_newest_are_read_each_with_what_it_changed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentlab.views.memory_item.VERSIONS", 3)
    item = lab.database.reflections.get("r-5")
    for n in range(8):
        lab.database.reflections.put(item.model_copy(update={"importance": n / 10}))
    read = []
    monkeypatch.setattr(module, "stored", lambda payload: (read.append(1), stored(payload))[1])
    shown = memory_item(lab, "r-5").versions
    assert [(one.version, one.fields[0].before, one.fields[0].after) for one in shown[1:]] == [
        (shown[0].version + 1, "0.5", "0.6"), (shown[0].version + 2, "0.6", "0.7")
    ] and shown[0].fields[0].before == "0.4" and len(shown) == 3 and len(read) == 4  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "marks"),
    [
        ("The coin is here.", "The coin is there.", " -+"),
        ("one\ntwo", "one\ntwo\nthree", " -+"),
        ("same", "same", ""),
        ("", "new", "+"),
        ("x" * 5000, "y" * 5000, "-+"),
    ],
)
def test_a_difference_put_together_gives_both_texts(before: str, after: str, marks: str) -> None:
    parts = pieces(before, after)
    assert "".join(part.mark for part in parts).startswith(marks)
    if parts:
        assert "".join(part.text for part in parts if part.mark != "+") == before
        assert "".join(part.text for part in parts if part.mark != "-") == after
