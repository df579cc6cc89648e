"""Episodes, examples and a finished training job, for the tests of trainers."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory.records import Episode, Step
from trainers import job
from trainers.data.examples import Example
from trainers.training.weights import reference


@pytest.fixture
def make_episode() -> Callable[..., Episode]:
    """Builds a won episode; `actions` are its commands, anything else a field of Episode."""

    def build(id: str = "e", actions: tuple[str, ...] = ("north", "take coin"), **fields: object) -> Episode:
        start = str(fields.pop("start", "A room."))
        steps = [
            Step(
                index=i,
                observation=start if i == 0 else f"Room {i}.",
                state=f"s{i}",
                admissible=["north", "take coin"],
                action=action,
                result=f"Room {i + 1}.",
                next_state=f"s{i + 1}",
            )
            for i, action in enumerate(actions)
        ]
        known: dict[str, object] = {
            "id": id,
            "run": "r",
            "env": "toy/doors",
            "split": "train",
            "seed": 0,
            "goal": "Find the coin.",
            "status": "won",
            "score": 1.0,
            "steps": steps,
        }
        return Episode.model_validate(known | fields)

    return build


def examples(count: int = 20, vocabulary: int = 512) -> list[Example]:
    """Random examples of 20 to 60 tokens in which every seventh to ninth token is chosen."""
    rng = random.Random(0)
    made = []
    for number in range(count):
        length = rng.randint(20, 60)
        made.append(
            Example(
                token_ids=[rng.randrange(vocabulary) for _ in range(length)],
                weights=[1.0 if i > 5 and i % 7 < 3 else 0.0 for i in range(length)],
                episode=f"e{number}",
                task=f"toy/doors:train:{number}",
            )
        )
    return made


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes the tiny model of a family, each once; takes what `benchmarks.tiny_models.make` does. Do not change it."""
    from benchmarks.tiny_models import make

    made: dict[str, Path] = {}

    def once(family: str, **settings: Any) -> Path:
        key = repr((family, settings))
        if key not in made:
            made[key] = make(tmp_path_factory.mktemp("models") / family, family, **settings)
        return made[key]

    return once


@pytest.fixture(scope="session")
def some_examples() -> list[Example]:
    return examples()


@pytest.fixture(scope="session")
def config(tiny_model: Path) -> job.JobConfig:
    """Ten steps, a checkpoint after every third."""
    return job.JobConfig(base=reference("tiny", tiny_model), save_every=3, dtype="float32")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, config: job.JobConfig, some_examples: list[Example]) -> Path:
    """The folder of a job that ran unbroken to its end. Do not change it: copy it."""
    folder = tmp_path_factory.mktemp("trained") / "job"
    lineage = job.Lineage(round="round-1", episodes=[example.episode for example in some_examples], seeds=[0])
    job.create(folder, config, some_examples, lineage)
    job.run(folder)
    return folder


@pytest.fixture
def kill_job(in_a_process: Callable[..., tuple[int, str]]) -> Callable[[Path, str], None]:
    """Runs a job in a process of its own that `moment`, a piece of code, has die (`die()`) by SIGKILL."""

    def run(folder: Path, moment: str) -> None:
        begin = "import signal\ndef die(): os.kill(os.getpid(), signal.SIGKILL)\nprogress = None\n"
        end = "from trainers import job\njob.run(sys.argv[1], progress=progress)\n"
        ended, said = in_a_process(f"{begin}{moment}\n{end}", str(folder))
        assert ended == -signal.SIGKILL, said

    return run
