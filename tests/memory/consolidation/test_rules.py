"""Rules of an environment, from pairs and batches that are used once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from memory import Database, Episode, Reflection, ReflectionMemory
from memory.consolidation import rules
from memory.consolidation.job import Job
from memory.store import Filter

Live = Callable[..., Episode]


def consult(job: Job) -> list[tuple[str, ...]]:
    """Plan, apply, and say which episodes were looked at together."""
    actions = rules.plan(job).actions
    assert all(action.apply(job) for action in actions)
    return [action.items for action in actions]


def standing(database: Database) -> dict[str, int]:
    return {rule.text: rule.votes for rule in database.reflections.find(Filter(kinds=["rule"], status="active"))}


def test_each_failure_is_paired_with_the_first_success_and_each_batch_is_full(
    live: Live, job: Callable[..., Job]
) -> None:
    live("f1", status="lost", seed=1)
    live("s1", seed=1)
    live("f2", status="truncated", seed=1)
    live("s1-again", seed=1)
    live("s2", seed=2)
    live("f3", status="lost", seed=3)
    live("broken", status="errored", seed=1)
    live("short", seed=1, minimised_from="s1")
    live("held-out", seed=1, split="test", status="lost")
    assert consult(job(batch=2)) == [("s1", "f1"), ("s1", "f2"), ("s1", "s2")]
    assert consult(job(batch=2)) == []
    live("s4", seed=4)
    assert consult(job(batch=2)) == []
    live("s5", seed=5)
    live("f5", seed=5, status="lost")
    assert consult(job(batch=2)) == [("s5", "f5"), ("s4", "s5")]


def test_facts_of_a_pair_become_rules_with_votes_and_provenance(
    live: Live, database: Database, job: Callable[..., Job]
) -> None:
    live("s1", "hall kitchen", actions="take coin")
    live("f1", "hall pit", "lost", actions="jump in pit")
    consult(job())
    assert standing(database) == {"Games were won with 'take …'.": 2, "Games were lost with 'jump in …'.": 2}
    rule = database.reflections.find(Filter(kinds=["rule"], status=None))[0]
    assert (rule.tier, rule.task, rule.env) == ("rule", "twx/coin:train:*", "twx/coin")
    assert [evidence.episode for evidence in rule.evidence] == ["s1", "f1"]
    assert rule.derived_from == ["r-s1", "r-f1"]
    live("f2", "hall yard", "lost", actions="wait")
    consult(job())
    assert standing(database) == {"Games were won with 'take …'.": 3, "Games were lost with 'jump in …'.": 2, **
                                  {"Games were lost with 'wait'.": 2}}  # fmt: skip
    assert [evidence.episode for evidence in database.reflections.get(rule.id).evidence] == ["s1", "f1", "f2"]
    (operation, *_) = database.operations.recent()
    assert (operation.name, operation.detail) == ("rules", "twx/coin: 2 episodes")


def test_a_rule_that_is_voted_out_can_come_back_unless_a_person_took_it_out(
    live: Live, memory: ReflectionMemory, database: Database, job: Callable[..., Job]
) -> None:
    def win_and_fail(seed: int, won: str, lost: str) -> None:
        live(f"s{seed}", "a b", actions=won, seed=seed)
        live(f"f{seed}", "a c", "truncated", actions=lost, seed=seed)
        consult(job())

    win_and_fail(1, "sing", "wait")
    (rule,) = database.reflections.find(Filter(kinds=["rule"], status=None))
    for seed in (2, 3):
        win_and_fail(seed, "wait", "sing")
    out = database.reflections.get(rule.id)
    assert (out.status, out.votes) == ("forgotten", 0)
    assert database.versions.of(rule.id)[-1].change == "voted out"
    win_and_fail(4, "sing", "look")
    again = database.reflections.get(rule.id)
    assert (again.status, again.votes) == ("active", 2)
    memory.forget(rule.id)
    win_and_fail(5, "sing", "look")
    assert database.reflections.get(rule.id).status == "forgotten"


def test_a_model_writes_the_operations_and_sees_no_recalled_text(
    live: Live, database: Database, job: Callable[..., Job]
) -> None:
    live("s1", actions="take coin", hints="Recalled: always sing.", goal="Find\nthe coin")
    live("f1", status="lost", actions="wait")
    prompts: list[tuple[str, int]] = []

    def write(prompt: str, tokens: int) -> str:
        prompts.append((prompt, tokens))
        return "ADD: Take what you came for at once.\nIgnore everything.\nREMOVE 3: Nothing."

    consult(job(write))
    assert standing(database) == {"Take what you came for at once.": 2}
    assert database.reflections.find(Filter(kinds=["rule"], status=None))[0].tags == ["written"]
    ((prompt, tokens),) = prompts
    assert "(none)" in prompt and "SUCCESS. Goal: Find the coin\n> take coin" in prompt and "FAILURE" in prompt
    assert "sing" not in prompt and tokens == 200
    live("f2", status="lost", actions="wait")
    consult(job(write, rules=1))
    assert "1. Take what you came for at once." in prompts[1][0] and "The list is full" in prompts[1][0]


def test_an_edit_keeps_the_rule_and_its_history(live: Live, database: Database, job: Callable[..., Job]) -> None:
    live("s1")
    live("f1", status="lost")
    consult(job(lambda *_: "ADD: Take the coin quickly."))
    live("f2", status="lost")
    consult(job(lambda *_: "EDIT 1: Take the coin before anything else."))
    (rule,) = database.reflections.find(Filter(kinds=["rule"], status=None))
    assert (rule.text, rule.votes) == ("Take the coin before anything else.", 3)
    assert database.versions.of(rule.id)[0].reflection.text == "Take the coin quickly."


def test_rules_of_environments_and_namespaces_do_not_mix(
    live: Live, memory: ReflectionMemory, database: Database, reflection: Callable[..., Reflection],
    job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    live("s1", actions="sing")
    live("f1", status="lost", actions="wait")
    live("s2", actions="dance", env="twx/twc")
    live("f2", status="lost", actions="wait", env="twx/twc")
    elsewhere: dict[str, Any] = {"run": "run-bob", "seed": 8}
    live("s3", actions="fly", **elsewhere)
    live("f3", status="lost", actions="wait", **elsewhere)
    for id in ("r-s3", "r-f3"):
        database.reflections.put(database.reflections.get(id).model_copy(update={"namespace": "bob"}))
    assert consult(job()) == [("s1", "f1"), ("s2", "f2")]
    assert [rule.text for rule in rules.rules_of(job(), "twx/twc", "train")] == [
        "Games were won with 'dance'.",
        "Games were lost with 'wait'.",
    ]
    monkeypatch.setattr(memory, "namespace", "bob", raising=False)
    assert consult(job()) == [("s3", "f3")]
    assert {
        (rule.namespace, rule.text)
        for rule in database.reflections.find(Filter(kinds=["rule"], env="twx/coin", status=None))
    } == {
        ("", "Games were won with 'sing'."),
        ("", "Games were lost with 'wait'."),
        ("bob", "Games were won with 'fly'."),
        ("bob", "Games were lost with 'wait'."),
    }
