"""The gate by game: who got worse is told from what was stored, also while it is played and where games errored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport
from agentlab.views.gates import gate
from agentlab.workspace.config import LabConfig
from memory.records import Episode
from trainers.gate import decide

REPORT = RoundReport(id="round-1", number=1, config=RoundConfig(envs=["toy/doors"]), adapter="adapter-x")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.open(tmp_path_factory.mktemp("gate") / "lab", create=True, config=LabConfig(embedder="hashing")) as lab:
        play = player(lab)
        for seed, (base, candidate) in enumerate(
            [("won", "won"), ("lost", "won"), ("won", "truncated"), ("lost", "lost"), ("errored", "won")]
        ):
            play("base", seed, base)
            play("candidate adapter-x", seed, candidate)
        play("base", 5, "won")
        # Played again after an error: the later one counts.
        play("base", 6, "errored")
        play("base", 6, "won", trial=1)
        play("candidate adapter-x", 6, "lost")
        play("base", 0, "lost", run="round-10-gate")
        yield lab


def player(lab: Lab) -> Callable[..., None]:
    def play(arm: str, seed: int, status: str, run: str = "round-1-gate", trial: int = 0) -> None:
        id = f"{run}-{arm.split()[0]}-{seed}-{trial}"
        fields = {"id": id, "run": run, "env": "toy/doors", "split": "dev", "seed": seed, "arm": arm, "trial": trial}
        lab.database.episodes.put(Episode.model_validate({**fields, "status": status}))

    return play


def test_games_that_only_one_side_won_come_first_and_name_both_episodes(lab: Lab) -> None:
    found = gate(lab, REPORT)
    assert [(game.outcome, game.seed) for game in found.games] == [
        ("worse", 2), ("worse", 6), ("better", 1), ("errored", 4), ("unpaired", 5), ("neither", 3), ("both", 0),
    ]  # fmt: skip
    assert found.counts == {"worse": 2, "better": 1, "errored": 1, "unpaired": 1, "neither": 1, "both": 1}
    first = found.games[0]
    assert first.incumbent is not None and first.candidate is not None
    assert (first.incumbent.episode, first.incumbent.status) == ("round-1-gate-base-2-0", "won")
    assert (first.candidate.episode, first.candidate.status) == ("round-1-gate-candidate-2-0", "truncated")


def test_games_come_in_parts(lab: Lab) -> None:
    found = gate(lab, REPORT, offset=2, size=2)
    assert [game.outcome for game in found.games] == ["better", "errored"] and found.total == 7


def test_a_decision_that_is_none_of_this_version_leaves_its_reason(lab: Lab) -> None:
    tasks = [f"toy/doors:dev:{seed}" for seed in range(30)]
    decided = decide(dict.fromkeys(tasks, True), dict.fromkeys(tasks, False))
    found = gate(lab, REPORT.model_copy(update={"gate": decided.model_dump(mode="json")}))
    assert found.decision == decided and found.level == decided.level
    found = gate(lab, REPORT.model_copy(update={"gate": {"promote": "?", "reason": "as it was"}}))
    assert found.decision is None and found.reason == "as it was"


def test_a_lab_is_not_changed_by_looking(lab: Lab) -> None:
    with Lab.open(lab.folder, write=False) as looking:
        assert gate(looking, REPORT).total == 7
    assert not (Path(lab.folder) / "jobs").exists()
