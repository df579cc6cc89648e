"""What the parts of a round can be set to."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from agentlab.rounds import RoundConfig, TrainingConfig
from agentlab.rounds.parts import KLConfig, PreferenceConfig
from trainers.job import JobConfig


def test_a_round_reaches_every_setting_of_its_training_with_the_same_defaults_and_bounds() -> None:
    # The base, the number format and the threads are the lab's; the seed, and what is played meanwhile, the round's.
    elsewhere = {"base", "dtype", "threads", "seed", "on_policy"}
    job, ours = JobConfig.model_json_schema(), TrainingConfig.model_json_schema()
    assert set(job["properties"]) - elsewhere == set(ours["properties"]) - {"max_tokens"}
    for name in set(job["properties"]) - elsewhere:
        assert ours["properties"][name] == job["properties"][name], name


def test_an_environment_that_is_named_again_is_one_environment() -> None:
    twice = ["toy/doors", "toy/doors?step_limit=9", "toy/doors"]
    read = RoundConfig.model_validate({"envs": twice, "kl": {"envs": ["toy/doors?rooms=1"] * 2}})
    assert (read.envs, read.kl.envs) == (["toy/doors", "toy/doors?step_limit=9"], ["toy/doors?rooms=1"])
    spelt = ["toy/doors", "toy/doors?rooms=2", "toy/doors?colours=3,rooms=2"]
    named = RoundConfig(envs=spelt, kl=KLConfig(envs=[f"{env},step_limit=9" for env in spelt[1:]])).named()
    assert (named.envs, named.kl.envs) == (["toy/doors"], ["toy/doors?step_limit=9"])


def test_a_source_that_is_named_again_is_one_source() -> None:
    assert PreferenceConfig(sources=["judge", "reward", "judge"]).sources == ["judge", "reward"]
    with pytest.raises(ValidationError):
        PreferenceConfig(sources=[])
