"""How held-out games begin, as far as a lab knows it without beginning one."""

from __future__ import annotations

from collections.abc import Callable

from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport
from agentlab.rounds.held_out import held_out
from agentlab.workspace.starts import known_starts
from memory.records import Episode, Step


def test_what_was_played_and_what_a_round_looked_at_is_known(
    open_lab: Callable[..., Lab],
    lived: Callable[..., Episode],
    step: Callable[..., Step],
) -> None:
    lab = open_lab()
    for fold in ("train", "dev", "test"):
        for trial in range(2):
            begun = step(0, "look", observation=f" First of {fold}. ")
            lab.database.episodes.put(lived(begun, id=f"{fold}-{trial}", split=fold, trial=trial))
    played = {("Find the coin.", f"First of {fold}.") for fold in ("dev", "test")}
    assert known_starts(lab) == played
    config = RoundConfig(envs=["toy/doors"], gate_seeds=2, held_out_seeds=3)
    looked_at = held_out(lab, RoundReport(id="round-1", number=1, config=config, phase="select"))
    assert known_starts(lab) == played | {(goal.strip(), seen.strip()) for goal, seen in looked_at}
    assert len(looked_at) >= 5
