"""reasoning-gym: the right answer wins, another has the data set's own score."""

from __future__ import annotations

import sys

import pytest

from environments import BadParameter, EnvironmentsError, MissingDependency, UnknownEnvironment, make
from environments import reasoning as module
from environments.check import check


def test_without_it_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    module._reasoning_gym.cache_clear()
    with pytest.raises(MissingDependency, match=r"agentlab\[reasoning\]"):
        make("reasoning/chain_sum")
    module._reasoning_gym.cache_clear()


def test_the_right_answer_wins_and_another_loses() -> None:
    pytest.importorskip("reasoning_gym")
    env = make("reasoning/chain_sum")
    for split in ("train", "dev", "test"):
        question, info = env.reset(seed=3, options={"split": split})
        assert info["admissible_commands"] is None and "=" in question
        answer = str(env._entry["answer"])  # type: ignore[attr-defined]
        _, reward, terminated, _, info = env.step(f" {answer} ")
        assert (reward, terminated, info["won"], info["score"]) == (1.0, True, True, 1.0)
        env.reset(seed=3, options={"split": split})
        told, reward, terminated, _, info = env.step("no idea")
        assert terminated and info["lost"] and reward < 1 and answer in told


@pytest.mark.parametrize("name", ["chain_sum", "leg_counting", "word_sorting"])
def test_the_contract_holds(name: str) -> None:
    pytest.importorskip("reasoning_gym")
    report = check(f"reasoning/{name}")
    assert report.ok, report


def test_an_answer_is_never_run_and_one_that_cannot_be_read_is_wrong() -> None:
    pytest.importorskip("reasoning_gym")
    for name in ("countdown", "puzzle24", "simple_integration", "spiral_matrix", "n_queens"):
        with pytest.raises(UnknownEnvironment, match="may run an answer"):
            make(f"reasoning/{name}")
    env = make("reasoning/prime_factorization")
    env.reset(seed=0)
    *_, terminated, _, info = env.step("no idea")
    assert terminated and info["lost"] and info["score"] == 0


@pytest.mark.slow
def test_every_data_set_that_is_played_keeps_the_contract_or_says_why_not() -> None:
    pytest.importorskip("reasoning_gym")
    from reasoning_gym.factory import DATASETS

    played, refused = [], []
    for name in DATASETS:
        try:
            env = make(f"reasoning/{name}")
            env.reset(seed=0)
        except EnvironmentsError:
            refused.append(name)
            continue
        report = check(f"reasoning/{name}", episodes=1, starts=5)
        assert report.ok, report
        played.append(name)
    assert len(played) > 60, refused


def test_what_is_another_question_in_another_process_is_not_played() -> None:
    pytest.importorskip("reasoning_gym")
    for name in ("word_ladder", "knight_swap"):
        with pytest.raises(UnknownEnvironment, match="not the same for the same seed"):
            make(f"reasoning/{name}")


def test_what_is_no_data_set_is_told() -> None:
    pytest.importorskip("reasoning_gym")
    with pytest.raises(UnknownEnvironment, match="chain_sum"):
        make("reasoning/chain_sums")
    with pytest.raises(BadParameter):
        make("reasoning/chain_sum?size=3")
