"""What plays is what was asked for, and what the record says, whatever was asked for beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agentlab.agent.arms import Arm
from agentlab.agent.tasks import make_tasks
from agentlab.engines.base import Adapter
from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.engines.transformers import TransformersEngine
from agentlab.errors import AgentLabError
from agentlab.lab import Lab
from agentlab.rounds.records import tokenizer

COMMANDS = ["look", "read note", "take coin"]


@pytest.fixture
def lab(open_lab: Callable[..., Lab], tiny_model: Path) -> Lab:
    return open_lab(model=str(tiny_model))


def test_a_rollout_plays_with_its_own_weights_whatever_was_made_after_it(
    lab: Lab, add_skill: Callable[..., str], note_reader: ScriptedEngine
) -> None:
    skill = add_skill(lab, seed=1)
    note_reader.by_adapter[skill] = {"look": 0.0}  # it never wins
    tasks = make_tasks("toy/doors", "train", [0])
    arms = [lab.arm("base"), lab.arm(skill), lab.arm("base")]
    rollouts = [lab.rollout(f"run-{at}", arm) for at, arm in enumerate(arms)]
    won = []
    for rollout, arm in zip(rollouts, arms, strict=True):
        (result,) = rollout.play(tasks, arm)
        rollout.close()
        won.append(result.won_within(1))
    assert won == [True, False, True]
    played = {row.run: row.adapter for row in lab.database.episodes.find()}
    assert played == {"run-0": None, "run-1": skill, "run-2": None}


def test_asking_for_a_tokenizer_changes_nobodys_weights(
    lab: Lab, add_skill: Callable[..., str], note_reader: ScriptedEngine
) -> None:
    cuts = {"tokenize": lambda text: [*text.encode()], "context": 64, "command_tokens": lambda text: [*text.encode()]}
    vars(note_reader).update(cuts)
    skill = add_skill(lab, seed=1)
    note_reader.by_adapter[skill] = {"look": 0.0}
    model = lab.model(skill)
    tokenizer(lab)
    lab.model()
    assert model.adapter_id == skill
    assert model.score(model.conversation("Find the coin."), COMMANDS).logprobs == [0.0, -10.0, -10.0]
    assert lab.model().adapter is None


def test_an_arm_is_not_played_by_a_rollout_of_other_weights(
    lab: Lab, add_skill: Callable[..., str], note_reader: ScriptedEngine
) -> None:
    skill = add_skill(lab, seed=1)
    rollout = lab.rollout("run", lab.arm("base"))
    with pytest.raises(AgentLabError, match=skill):
        rollout.play(make_tasks("toy/doors", "train", [0]), Arm("mine", adapter=skill))
    rollout.close()
    assert lab.database.episodes.find() == []


def test_engines_with_different_weights_are_asked_in_turn_and_each_answers_for_itself(
    lab: Lab, add_skill: Callable[..., str], tiny_model: Path
) -> None:
    ids = [add_skill(lab, seed=seed) for seed in (1, 2)]
    lab._engine = TransformersEngine(tiny_model, dtype="float32", device="cpu")
    models = [lab.model(None), *(lab.model(id) for id in ids)]
    alone = [Model(TransformersEngine(tiny_model, dtype="float32", device="cpu"))]
    alone += [alone[0].with_adapter(Adapter(id, lab.adapters.folder_of(id))) for id in ids]

    def scores(model: Model) -> list[float]:
        conversation = model.conversation("Find the coin.")
        conversation.observe("You are in the attic.")
        return model.score(conversation, COMMANDS).logprobs

    meant = [scores(model) for model in alone]
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        for at in order:
            assert scores(models[at]) == pytest.approx(meant[at], abs=1e-4)
    assert [model.adapter_id for model in models] == [None, *ids]
    assert abs(meant[0][0] - meant[1][0]) > 1e-2 and abs(meant[1][0] - meant[2][0]) > 1e-2
