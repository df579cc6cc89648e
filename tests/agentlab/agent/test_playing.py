"""How a lab's model plays: what is set otherwise is told apart in every record."""

from __future__ import annotations

from collections.abc import Callable

from agentlab.agent.arms import arm_of
from agentlab.agent.playing import playing_of
from agentlab.lab import Lab


def test_each_way_to_play_has_episodes_of_its_own(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    usual, found = lab.config, {}
    for settings in (
        {}, {"prompt": "transcript"}, {"prompt": "chat"}, {"actor": "write"}, {"actor": "write", "think": 8},
        {"actor": "write", "prompt": "transcript"},
    ):  # fmt: skip
        lab.config = usual.model_copy(update=settings)
        found[str(settings)] = arm_of(lab, "base").identity, str(playing_of(lab))
    identities, playing = zip(*found.values(), strict=True)
    # The transcript is what a model that ranks reads anyway.
    assert len(set(identities)) == len(set(playing)) == len(found) - 1
    assert found["{}"] == found["{'prompt': 'transcript'}"] and playing[0] == "{}"
