"""Credit: what was held out at random decides what is recalled, and what is benched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from memory import Credit, CreditConfig, Database, Recall, Reflection, ReflectionMemory, errors
from memory.credit.assignment import Assignment
from memory.credit.credit import Cost, Verdict
from memory.credit.uplift import Strata
from memory.store import Filter, Mending, RecallFilter
from memory.store.recalls import RecallEvidence

ENV = "toy/doors"
EVERY = CreditConfig(hold_out=0.5, max_cost=1.0)


@pytest.fixture
def put(database: Database, reflection: Callable[..., Reflection]) -> Callable[..., None]:
    """Keeps a reflection."""
    return lambda id, **values: database.reflections.put(reflection(id, env=ENV, **values)) and None


@pytest.fixture
def seen(database: Database) -> Callable[..., None]:
    """Puts ended episodes on record in which a lot decided over one reflection: (n, won) served and held out."""
    numbers = iter(range(10**6))

    def put(
        id: str, served: tuple[int, int], held_out: tuple[int, int], env: str = ENV, at: str = "2025-01-01"
    ) -> None:
        database.recalls.put(
            [
                Recall(
                    episode=f"past-{next(numbers)}", reflection=id, rank=0, query="q", score=1.0, env=env, at=at,
                    won=place < won, held_out=side, propensity=0.9,
                )
                for side, (n, won) in ((False, served), (True, held_out))
                for place in range(n)
            ]
        )  # fmt: skip

    return put


@pytest.fixture
def harmful(put: Callable[..., None], seen: Callable[..., None]) -> str:
    put("bad")
    seen("bad", (100, 20), (20, 14))
    return "bad"


# Choosing


def test_a_sample_depends_on_episode_item_and_evidence_alone(
    database: Database, put: Callable[..., None], seen: Callable[..., None]
) -> None:
    put("a")
    put("b")
    seen("a", (30, 20), (10, 2))
    credit = Credit(database)
    alone, both = credit.use(["a"], ENV, "ep-x"), credit.use(["b", "a"], ENV, "ep-x")
    assert alone["a"] == both["a"] == Credit(database).use(["a"], ENV, "ep-x")["a"]
    assert alone["a"] != credit.use(["a"], ENV, "ep-y")["a"]
    assert credit.use([], ENV, "ep-x") == {}
    seen("a", (1, 1), (0, 0))
    assert alone["a"] != credit.use(["a"], ENV, "ep-x")["a"]


def test_what_helps_is_mostly_chosen_what_harms_hardly_and_the_unknown_is_tried(
    database: Database, put: Callable[..., None], seen: Callable[..., None], harmful: str
) -> None:
    put("good")
    put("new")
    seen("good", (300, 240), (60, 24))
    firsts = [max(use, key=use.__getitem__) for use in _samples(database, ["good", "new", harmful])]
    assert firsts.count("good") > 240
    assert 0 < firsts.count("new") < 60
    assert firsts.count(harmful) == 0


def _samples(database: Database, ids: list[str]) -> Iterator[dict[str, float]]:
    credit = Credit(database)
    return (credit.use(ids, ENV, f"ep-{number}") for number in range(300))


def test_only_evidence_of_the_environment_itself_moves_a_sample(
    database: Database, put: Callable[..., None], seen: Callable[..., None]
) -> None:
    put("a")
    before = Credit(database).use(["a"], ENV, 1)
    seen("a", (100, 100), (100, 0), env="toy/other")
    assert Credit(database).use(["a"], ENV, 1) == before
    assert Credit(database).use(["a"], None, 1)["a"] > 0.8


def test_a_run_that_began_earlier_sees_what_was_known_then(
    database: Database, put: Callable[..., None], seen: Callable[..., None]
) -> None:
    put("a")
    put("b")
    seen("a", (40, 30), (10, 2), at="2025-01-01")
    then = Credit(database).use(["a", "b"], ENV, 1)
    run = Credit(database, before="2025-01-02")
    seen("a", (40, 0), (10, 10), at="2025-01-03")
    assert run.use(["a", "b"], ENV, 1) == then
    assert run.use(["b", "a"], ENV, 1) == then, "also from what it has kept"
    assert Credit(database).use(["a", "b"], ENV, 1) != then
    assert run.cost().episodes == 50


def test_what_changes_next_to_nothing_does_not_outrank_what_fits(
    open_memory: Callable[..., ReflectionMemory], seen: Callable[..., None], reflection: Callable[..., Reflection]
) -> None:
    """A ten times larger side served, and next to no difference."""
    memory = open_memory()
    memory.remember([
        reflection("fits", "The coin is in the kitchen.", env=ENV),
        reflection("other", "Doors open with a key.", env=ENV),
    ])  # fmt: skip
    seen("other", (900, 455), (100, 50))
    seen("fits", (900, 450), (100, 50))
    assert memory.credit.uplift("other").p > 0.9 and 0 < memory.credit.uplift("other").mean < 0.01
    for number in range(50):
        asked = {"wanted": Filter(env=ENV), "episode": f"ep-{number}", "record": False, "credit": memory.credit}
        for lots in (True, False):
            hits = memory.recall("The coin is in the kitchen.", lots=lots, **asked)  # type: ignore[arg-type]
            assert [hit.reflection.id for hit in hits] == ["fits", "other"]


def test_the_use_that_is_recalled_by_is_a_sample_of_the_uplift_on_its_own_scale(
    open_memory: Callable[..., ReflectionMemory], seen: Callable[..., None], reflection: Callable[..., Reflection]
) -> None:
    memory = open_memory()
    memory.remember([reflection("a", env=ENV), reflection("b", "Doors open with a key.", env=ENV)])
    seen("a", (80, 60), (20, 5))
    uplift, samples = memory.credit.uplift("a"), list[float]()
    for number in range(400):
        hits = memory.recall(
            "coins", wanted=Filter(env=ENV), episode=f"ep-{number}", record=False, credit=memory.credit
        )
        samples += [hit.parts["use"] for hit in hits if hit.reflection.id == "a"]
    deviation = (uplift.high - uplift.low) / (2 * 1.96)
    mean = sum(samples) / 400
    assert len(samples) == 400 and abs(mean - uplift.mean) < 4 * deviation / 20
    assert (sum((sample - mean) ** 2 for sample in samples) / 400) ** 0.5 == pytest.approx(deviation, rel=0.15)


# Holding out


def test_what_a_lot_held_out_is_recorded_and_never_returned_in_any_channel(
    open_memory: Callable[..., ReflectionMemory], reflection: Callable[..., Reflection]
) -> None:
    memory = open_memory()
    memory.remember([reflection(f"rf-{n}", f"Coin {n} is in the kitchen.", env=ENV) for n in range(3)])
    credit, held_out = Credit(memory.database, EVERY), 0
    for number in range(40):
        for channel in ("text", "exemplar"):
            hits = memory.recall("coin", wanted=Filter(env=ENV), episode=f"ep-{number}", channel=channel, credit=credit)
            lots = {row.reflection: row.held_out for row in memory.database.recalls.of_episode(f"ep-{number}")}
            assert {hit.reflection.id for hit in hits} == {id for id, held in lots.items() if not held}
            assert len(lots) == 3, "what was held out is on record"
            held_out += sum(lots.values())
    assert 60 < held_out < 180


def test_a_run_reads_only_of_what_lots_were_drawn_over(
    database: Database, put: Callable[..., None], seen: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for id in ("drawn", "survivor", "taken over", "new"):
        put(id)
    seen("drawn", (30, 20), (10, 2))
    seen("taken over", (30, 20), (10, 2))
    old = database.reflections.get("taken over")
    database.reflections.put(
        old.model_copy(update={"status": "merged", "merged_into": "survivor"}), change="merged into survivor"
    )
    asked: list[list[str]] = []
    evidence = database.recalls.evidence

    def spy(wanted: RecallFilter) -> list[Any]:
        asked.append(list(wanted.ids or ()))
        return evidence(wanted)

    monkeypatch.setattr(database.recalls, "evidence", spy)
    ids = ["drawn", "survivor", "new"]
    run = Credit(database, before="2026-01-01")
    assert run.worth(ids, ENV) == Credit(database).worth(ids, ENV)
    assert run.worth(ids, ENV)["survivor"] > 0 == run.worth(ids, ENV)["new"]
    assert asked == [["drawn", "survivor"], ids], "each once, and nothing of what is not known"

    # What was drawn over since counts after the next review, as everything does.
    seen("new", (30, 20), (10, 2), at="2025-06-01")
    assert run.worth(["new"], ENV) == {"new": 0.0}
    run.review()
    assert run.worth(["new"], ENV)["new"] > 0


@pytest.mark.parametrize("asks", [Credit.worth, lambda run, ids, env: run.use(ids, env, "ep-x")])
def test_another_thread_that_asks_meanwhile_is_told_the_same(
    database: Database, harmful: str, monkeypatch: pytest.MonkeyPatch, asks: Any
) -> None:
    evidence, meanwhile = database.recalls.evidence, list[dict[str, float]]()
    run = Credit(database, before="2026-01-01")

    def interrupted(*given: Any, **more: Any) -> list[Any]:
        found = evidence(*given, **more)
        monkeypatch.undo()
        meanwhile.append(asks(run, [harmful], ENV))
        return found

    monkeypatch.setattr(database.recalls, "evidence", interrupted)
    assert [asks(run, [harmful], ENV)] == meanwhile == [asks(Credit(database), [harmful], ENV)]


def test_what_is_held_out_is_the_same_in_a_resumed_episode_and_for_every_channel(
    database: Database, put: Callable[..., None], seen: Callable[..., None]
) -> None:
    ids = [f"rf-{number}" for number in range(40)]
    for id in ids:
        put(id)
    first = Credit(database, EVERY).split("ep-x", ids, env=ENV)
    assert Credit(database, EVERY).split("ep-x", ids[::-1], env=ENV) == first[::-1]
    assert {draw.held_out for draw in first} == {True, False}
    assert first != Credit(database, EVERY).split("ep-y", ids, env=ENV)
    _record(database, "ep-x", first)
    for id in ids:
        seen(id, (30, 30), (30, 0))
    certain = CreditConfig(hold_out=0.5, max_cost=0.0)
    assert Credit(database, certain).split("ep-x", [*ids, ids[0]], env=ENV) == [*first, first[0]]


def _record(
    database: Database, episode: str, draws: list[Assignment], channel: Any = "text", won: bool | None = None
) -> None:
    database.recalls.put(
        [
            Recall(
                episode=episode, reflection=draw.reflection, rank=rank, query="q", score=1.0, env=ENV, channel=channel,
                held_out=draw.held_out, propensity=draw.propensity, won=won,
            )
            for rank, draw in enumerate(draws)
        ]
    )  # fmt: skip


def test_pinned_items_are_never_held_out(database: Database, put: Callable[..., None]) -> None:
    put("pinned", pinned=True)
    credit = Credit(database, EVERY)
    drawn = {draw for number in range(100) for draw in credit.split(f"ep-{number}", ["pinned"], env=ENV)}
    assert drawn == {Assignment("pinned", False, 1.0)}


def test_holding_out_can_be_turned_off(database: Database, put: Callable[..., None]) -> None:
    put("a")
    credit = Credit(database, CreditConfig(hold_out=0))
    assert {credit.split(f"ep-{number}", ["a"], env=ENV)[0] for number in range(50)} == {Assignment("a", False, 1.0)}


def test_nothing_is_held_out_while_the_cost_exceeds_its_bound(
    database: Database, put: Callable[..., None], seen: Callable[..., None]
) -> None:
    put("good")
    put("new")
    seen("good", (90, 80), (10, 2))
    credit = Credit(database, CreditConfig(hold_out=0.5, max_cost=0.02))
    cost = credit.cost()
    uplift = credit.uplift("good")
    assert cost == Cost(100, 10, pytest.approx(10 * uplift.mean))
    assert cost.share > 0.02
    assert {credit.split(f"ep-{number}", ["new"], env=ENV)[0].propensity for number in range(50)} == {1.0}
    for number in range(1000):  # served without a lot: the share falls
        _record(database, f"more-{number}", [Assignment("good", False, 1.0)], won=True)
    assert credit.split("ep-x", ["new"], env=ENV)[0].propensity == 1.0, "known at the next review"
    credit.review()
    assert credit.cost().share < 0.02
    assert credit.split("ep-x", ["new"], env=ENV)[0].propensity == 0.5


def test_an_episode_costs_no_more_than_the_bound_whatever_the_faces_ask_for(
    database: Database, put: Callable[..., None], seen: Callable[..., None]
) -> None:
    """What the first channel has drawn leaves less for the second."""
    put("a")
    put("b")
    for id in ("a", "b"):
        seen(id, (900, 720), (100, 40))
    config = CreditConfig(hold_out=0.5, max_cost=0.1)
    credit = Credit(database, config)
    assert credit.cost().share < config.max_cost
    both = {True: 0, False: 0}
    for number in range(200):
        first = credit.split(f"ep-{number}", ["a"], env=ENV)
        _record(database, f"ep-{number}", first)
        (second,) = credit.split(f"ep-{number}", ["b"], env=ENV)
        both[first[0].propensity < 1] += second.propensity < 1
    assert both[True] == 0, "half of 0.38 is more than the bound"
    assert both[False] > 0


def test_the_cost_of_a_long_experiment_stays_within_its_bound(database: Database, put: Callable[..., None]) -> None:
    """One item without which nothing is won."""
    put("key")
    # A prior that expects effects as great as this one.
    config = CreditConfig(hold_out=0.3, max_cost=0.05, prior=5.0)
    credit = Credit(database, config)
    lost = 0
    for number in range(600):
        draws = credit.split(f"ep-{number}", ["key"], env=ENV)
        _record(database, f"ep-{number}", draws, won=not draws[0].held_out)
        lost += draws[0].held_out
        if number % 20 == 19:
            credit.review()
    assert 0 < credit.cost().share <= config.max_cost * 1.05
    assert lost / 600 <= config.max_cost * 1.3


# Judging


def test_an_item_that_is_credibly_harmful_is_benched_with_its_evidence(database: Database, harmful: str) -> None:
    credit = Credit(database)
    planned = credit.review(dry_run=True)
    assert [verdict.reflection for verdict in planned] == [harmful]
    assert database.reflections.get(harmful).status == "active", "a dry run changes nothing"
    assert credit.review() == planned
    assert database.reflections.get(harmful).status == "benched"
    version = database.versions.of(harmful)[-1]
    assert version.change == planned[0].change
    assert str(planned[0].uplift) in version.change and planned[0].error < 0.05
    assert "won 20 of 100 served, 14 of 20 held out" in version.change
    (operation,) = database.operations.recent()
    assert (operation.name, operation.number, operation.changed) == ("bench", version.operation, 1)
    assert credit.review() == [], "once is enough"


def test_what_is_useless_unproven_or_pinned_is_left_alone(
    database: Database, put: Callable[..., None], seen: Callable[..., None]
) -> None:
    put("useless")
    seen("useless", (200, 100), (100, 50))
    put("few")
    seen("few", (200, 20), (9, 9))
    put("pinned", pinned=True)
    seen("pinned", (100, 20), (20, 14))
    put("retried")
    for number in range(50):  # never held out: lost whenever it was served, which says nothing
        _record(database, f"retry-{number}", [Assignment("retried", False, 1.0)], won=False)
    assert Credit(database).review() == []


def test_what_a_person_pins_while_it_is_judged_is_not_benched(
    database: Database, harmful: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Credit._verdicts

    def pinned_meanwhile(credit: Credit) -> list[Verdict]:
        found = judge(credit)
        Mending(database).apply("pin", [harmful])
        return found

    monkeypatch.setattr(Credit, "_verdicts", pinned_meanwhile)
    assert Credit(database).review() == []
    item = database.reflections.get(harmful)
    assert (item.status, item.pinned) == ("active", True)
    assert [one.name for one in database.operations.recent()] == ["pinned"]


@pytest.mark.parametrize("sides", [((200, 10), (9, 9)), ((9, 0), (200, 190))])
def test_harm_needs_enough_episodes_on_either_side(
    database: Database, put: Callable[..., None], seen: Callable[..., None], sides: tuple[Any, Any]
) -> None:
    put("few")
    seen("few", *sides)
    assert Credit(database, CreditConfig(min_n=9)).report().harmful, "with less it would be"
    assert Credit(database).report().harmful == Credit(database).review() == []


@pytest.mark.parametrize(("hold_out", "rate"), [(0.1, 0.35), (0.5, 0.6)])
def test_a_useless_item_is_benched_at_some_time_in_fewer_than_one_run_of_twenty(
    database: Database, hold_out: float, rate: float
) -> None:
    """400 items of 600 episodes each, judged after every tenth."""
    import numpy as np

    random, ids, ever = np.random.default_rng(0), [str(item) for item in range(400)], set[str]()
    counts, credit = np.zeros((len(ids), 4), int), Credit(database)
    for number in range(600):
        side, won = 2 * (random.random(len(ids)) < hold_out), random.random(len(ids)) < rate
        counts[np.arange(len(ids)), side] += 1
        counts[np.arange(len(ids)), side + 1] += won
        if number % 10 == 9:
            rows = [RecallEvidence(id, ENV, 1 - hold_out, *row) for id, row in zip(ids, counts.tolist(), strict=True)]
            ever |= {verdict.reflection for verdict in credit._harmful(Strata(ids, rows, {ENV: rate}, 10.0))}
    assert 0 < len(ever) / len(ids) <= 0.05


def test_a_review_is_of_one_namespace_if_it_is_given(
    database: Database, put: Callable[..., None], seen: Callable[..., None], harmful: str
) -> None:
    put("theirs", namespace="theirs")
    seen("theirs", (100, 20), (20, 14))
    assert [verdict.reflection for verdict in Credit(database, namespace="theirs").review(dry_run=True)] == ["theirs"]
    assert len(Credit(database).review(dry_run=True)) == 2
    assert Credit(database, namespace="theirs").cost().held_out == 20


def test_a_person_s_word_stands_until_new_evidence_speaks(
    database: Database, seen: Callable[..., None], harmful: str
) -> None:
    credit = Credit(database)
    assert len(credit.review()) == 1
    restored = database.reflections.get(harmful).model_copy(update={"status": "active"})
    database.reflections.put(restored, change="restored")
    assert credit.review() == []
    seen(harmful, (100, 50), (20, 10), at="2999-01-01")
    assert credit.review() == [], "what came since shows no harm"
    seen(harmful, (200, 20), (40, 36), at="2999-01-01")
    (verdict,) = credit.review()
    assert (verdict.uplift.served, verdict.uplift.held_out) == (300, 60), "only what came since"
    assert database.reflections.get(harmful).status == "benched"


def test_harm_in_one_environment_is_weighed_against_help_in_others(
    database: Database, seen: Callable[..., None], harmful: str
) -> None:
    seen(harmful, (300, 270), (60, 12), env="toy/other")
    assert Credit(database).review() == []
    assert Credit(database).uplift(harmful).mean > 0.2


# Looking


def test_an_uplift_is_that_of_the_table_and_found_by_the_beginning_of_an_id(database: Database, harmful: str) -> None:
    uplift = Credit(database).uplift("ba")
    assert (uplift.served, uplift.served_won, uplift.held_out, uplift.held_out_won) == (100, 20, 20, 14)
    assert -0.5 < uplift.mean < -0.2
    assert uplift.low < uplift.mean < uplift.high < 0
    assert uplift.p < 0.001
    with pytest.raises(errors.UnknownReflection):
        Credit(database).uplift("nobody")


def test_a_report_says_who_helps_who_harms_and_what_it_cost(
    database: Database, put: Callable[..., None], seen: Callable[..., None], harmful: str
) -> None:
    for number in range(5):
        put(f"rf-{number}")
        seen(f"rf-{number}", (50, 20 + 5 * number), (10, 4))
    put("unmeasured")
    credit = Credit(database)
    report = credit.report(limit=2)
    assert report.measured == 6
    assert [id for id, _ in report.best] == ["rf-4", "rf-3"]
    assert [id for id, _ in report.worst] == [harmful, "rf-0"]
    assert [id for id, _ in report.harmful] == [harmful]
    assert report.benched == []
    assert report.best[0][1] == credit.uplift("rf-4")
    assert report.cost.episodes == 120 + 5 * 60
    assert report.cost.held_out == 70
    credit.review()
    later = credit.report(limit=2)
    assert (later.harmful, [id for id, _ in later.benched]) == ([], [harmful])
    assert credit.report(limit=0).best == []


def test_a_memory_without_any_evidence_has_an_empty_report(database: Database) -> None:
    report = Credit(database).report()
    assert (report.cost, report.measured, report.best, report.benched) == (Cost(0, 0, 0.0), 0, [], [])
    assert report.cost.share == 0


@pytest.mark.parametrize(
    "values",
    [
        {"hold_out": -0.1},
        {"hold_out": 0.6},
        {"max_cost": 2},
        {"level": 1},
        {"bench_at": 0.5},
        {"min_n": 0},
        {"prior": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        CreditConfig(**values)


def test_thousands_of_items_are_reviewed_and_reported_at_once(
    database: Database, reflection: Callable[..., Reflection]
) -> None:
    """Every hundredth of 3000 does harm; each has 12 episodes on either side."""
    ids = [f"rf-{number:05d}" for number in range(3000)]
    with database.transaction():
        for id in ids:
            database.reflections.put(reflection(id, env=ENV))
        database.connection.executemany(
            "INSERT INTO recalls (episode, reflection, channel, rank, query, score, parts, at, won, env, held_out, "
            "propensity, counted) VALUES (?, ?, 'text', 0, '', 0, '{}', '2025-01-01', ?, ?, ?, 0.9, 1)",
            [
                (f"ep-{episode}", id, bool(held_out) if number % 100 == 0 else episode % 4 < 2, ENV, held_out)
                for number, id in enumerate(ids)
                for episode in range(24)
                for held_out in [episode % 2]
            ],
        )
    credit = Credit(database)
    assert [verdict.reflection for verdict in credit.review()] == ids[::100]
    report = credit.report()
    assert (report.measured, len(report.benched), report.cost.held_out) == (3000, 20, 36_000)
    assert len(credit.use(ids, ENV, 1)) == 3000
