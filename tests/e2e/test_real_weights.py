from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentlab import Lab, LabConfig
from agentlab.engines.model import Model
from memory.store import Filter

ENV = "twx/coin?step_limit=4"


@pytest.mark.weights
def test_the_real_model_plays_a_real_game_and_every_score_is_that_of_a_plain_forward_pass(tmp_path: Path) -> None:
    import torch

    config = LabConfig(model="SmolLM2-135M-Instruct", embedder="hashing", dtype="float32", threads=1, concurrency=1)
    with Lab.open(tmp_path / "lab", create=True, config=config) as lab:
        engine: Any = lab.engine
        (result,) = lab.run(ENV, split="dev", seeds=[1], arm="base + memory", trials=1)
        episode = lab.database.episodes.get(result.trials[0].episode)
        assert len(episode.steps) == 4
        assert all(step.action in step.admissible and step.observation for step in episode.steps)
        assert "coin" in episode.goal
        assert len(lab.database.reflections.find(Filter(kinds=["grounded"], status=None))) == 1

        def plain(ids: list[int], command: str) -> float:
            tail = engine.command_tokens(command)
            with torch.inference_mode():
                logits = engine.weights()(input_ids=torch.tensor([[*ids, *tail]])).logits[0, len(ids) - 1 : -1]
            return float(logits.log_softmax(-1).gather(1, torch.tensor(tail)[:, None]).sum())

        first = episode.steps[0]
        before = episode.token_ids[: episode.action_spans[0][0]]
        assert first.scores == pytest.approx([plain(before, command) for command in first.admissible], abs=1e-3)
        for step, (start, _) in zip(episode.steps[1:], episode.action_spans[1:], strict=True):
            assert step.logprob == pytest.approx(plain(episode.token_ids[:start], step.action), abs=1e-3)
        assert engine.tokenizer.decode(episode.token_ids[: len(before)]).endswith(f"{first.observation.strip()}\n>")
        # A model that has learned language prefers a sensible command to noise.
        assert plain(before, first.admissible[0]) > plain(before, "xq zzv kkp")
        assert "Paris" in Model(engine).write("What is the capital of France?", max_tokens=12).text
