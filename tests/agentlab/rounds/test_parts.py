"""What the parts of a round can be set to."""

from __future__ import annotations

from agentlab.rounds import TrainingConfig
from trainers.job import JobConfig


def test_a_round_reaches_every_setting_of_its_training_with_the_same_defaults_and_bounds() -> None:
    # The base, the number format and the threads are the lab's; the seed is the round's.
    elsewhere = {"base", "dtype", "threads", "seed"}
    job, ours = JobConfig.model_json_schema(), TrainingConfig.model_json_schema()
    assert set(job["properties"]) - elsewhere == set(ours["properties"]) - {"max_tokens"}
    for name in set(job["properties"]) - elsewhere:
        assert ours["properties"][name] == job["properties"][name], name
