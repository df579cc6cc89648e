"""Rounds of a lab whose model writes: it collects, is trained and stands at its gate as it plays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentlab.agent.playing import RANKING
from agentlab.engines.base import TurnRequest
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import BadConfig
from agentlab.experiments.forgetting import played
from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, TrainingConfig
from agentlab.rounds.collecting import collect
from agentlab.rounds.graph import run_round
from agentlab.rounds.pool import as_read
from agentlab.rounds.records import records
from agentlab.workspace.config import LabConfig
from memory.prompts import Prompting
from memory.records import Episode
from memory.store import EpisodeFilter
from trainers import job
from trainers.data import Example, Pair
from trainers.data.selection import SelectionConfig
from trainers.gate import GateConfig

ENV = "toy/doors?colours=2,rooms=1,step_limit=3"
QUICK = RoundConfig(
    envs=[ENV],
    collect="both",
    seeds=2,
    random_trials=10,
    model_trials=1,
    gate_seeds=6,
    held_out_seeds=2,
    selection=SelectionConfig(cap_per_task=1),
    training=TrainingConfig(learning_rate=5e-3, epochs=2, rank=4),
    gate=GateConfig(min_pairs=6),
)


@pytest.fixture(scope="module")
def writing_at(tiny_chat_model: Path) -> Callable[..., Lab]:
    """Opens a lab whose model writes in chats, a thought of at most 8 tokens before each command."""
    config = LabConfig(
        model=str(tiny_chat_model), embedder="hashing", dtype="float32", threads=1, context=768, actor="write", think=8
    )

    def opened(folder: Path, **playing: Any) -> Lab:
        lab = Lab.open(folder, create=True, config=config)
        lab.config = lab.config.model_copy(update=playing)
        return lab

    return opened


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory, writing_at: Callable[..., Lab]) -> Iterator[Lab]:
    """A lab that has run a round, which was stopped before its gate and gone on with by a command that ranks."""
    folder = tmp_path_factory.mktemp("writing") / "lab"
    with writing_at(folder) as lab:
        assert run_round(lab, QUICK, until="gate").phase == "gate"
    with writing_at(folder, actor="rank", think=0) as lab:
        lab.round(QUICK)
        yield lab


def test_a_whole_round_is_played_by_writing(gated: Lab) -> None:
    (report,) = gated.rounds()
    assert report.phase == "done" and report.gate and report.adapter is not None
    assert report.playing == {"actor": "write", "think": 8, "samples": 1, "prompt": "auto"}
    episodes = gated.database.episodes
    rows = episodes.find(EpisodeFilter(by_model=True))
    modelled = episodes.load([row.id for row in rows if row.minimised_from is None])
    assert {episode.prompt for episode in modelled} == {"chat+thought"}
    assert {episode.run for episode in modelled} >= {"round-1", "round-1-gate"}
    assert all(step.token_ids for episode in modelled for step in episode.steps), "as they were written"
    assert gated.config.actor == "rank", "the round's own way to play is its own"


def test_what_chance_won_is_taught_as_the_model_reads_a_game(gated: Lab) -> None:
    from transformers import AutoTokenizer

    cut = AutoTokenizer.from_pretrained(gated.model_folder)
    examples = job.load(gated.folder / "jobs" / "round-1").examples
    assert examples
    for example in examples:
        assert isinstance(example, Example)
        text = cut.decode(example.token_ids)
        assert text.startswith("<|im_start|>system\nYou play a text game.") and "Thought:" in text
        for start, end in example.spans:
            taught = cut.decode(example.token_ids[start:end])
            assert taught.endswith("<|im_end|>")
            # Chance thinks nothing, and nobody shall learn to think nothing.
            assert taught.startswith((" ", "Thought:")) and "Thought:\nAction:" not in taught


def test_pairs_compare_thoughts_and_commands_in_the_prompt_that_is_played(gated: Lab) -> None:
    from transformers import AutoTokenizer

    cut = AutoTokenizer.from_pretrained(gated.model_folder)
    (report,) = gated.rounds()
    asked = QUICK.model_copy(update={"training": TrainingConfig(objective="dpo")})
    gated.config = gated.config.model_copy(update=report.playing)
    made = records(gated, report.model_copy(update={"config": asked}), [])
    gated.config = gated.config.model_copy(update=RANKING)
    assert made.records
    for pair in made.records:
        assert isinstance(pair, Pair)
        better, worse = (cut.decode(side.token_ids) for side in (pair.better, pair.worse))
        assert better.startswith("<|im_start|>system") and worse.startswith("<|im_start|>system")
        assert "Thought:" in "".join(cut.decode(pair.worse.token_ids[a:b]) for a, b in pair.worse.spans)


def test_what_was_won_by_writing_counts_for_a_lab_that_writes_alone(gated: Lab) -> None:
    assert played(gated, "dev") == {}
    gated.config = gated.config.model_copy(update=gated.rounds()[0].playing)
    assert set(played(gated, "dev")) == {"base", str(gated.rounds()[0].adapter)}
    gated.config = gated.config.model_copy(update=RANKING)


def test_every_way_to_collect_has_the_model_write(open_lab: Callable[..., Lab], report: Callable[..., Any]) -> None:
    asked: list[TurnRequest] = []

    def reply(request: TurnRequest) -> str:
        asked.append(request)
        return f"Thought: I try.\nAction: {(request.commands or ['look'])[request.seed % len(request.commands or [1])]}"

    lab = open_lab(engine=ScriptedEngine({}, replies=reply), actor="write", think=4, samples=2)
    made = report(envs=[ENV], collect="model", seeds=2, model_trials=1)
    assert collect(lab, made) == "select"
    rows = lab.database.episodes.find(EpisodeFilter(run=made.id, minimised=False))
    episodes = lab.database.episodes.load([row.id for row in rows])
    assert len(episodes) == 2 and {episode.prompt for episode in episodes} == {"transcript+thought"}
    assert all(step.thought == "I try." for episode in episodes for step in episode.steps)
    assert len(asked) == 2 * sum(len(episode.steps) for episode in episodes) and {one.think for one in asked} == {4}


def test_an_episode_is_taught_as_the_lab_reads_it_now() -> None:
    fields: dict[str, Any] = {"run": "r", "env": ENV, "split": "train", "seed": 0, "token_ids": [1, 2], "id": "ep"}
    ranked = Episode(**fields, action_spans=[(1, 2)])
    assert as_read(ranked, Prompting()) is ranked
    read = as_read(ranked, Prompting(chat=True, thought=True))
    assert (read.prompt, read.token_ids, read.action_spans) == ("chat+thought", [], [])
    assert as_read(read, Prompting()).prompt == "transcript"


def test_soft_distillation_is_refused_where_the_model_writes(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab(actor="write")
    with pytest.raises(BadConfig, match="soft_distill"):
        lab.round(QUICK.model_copy(update={"training": TrainingConfig(objective="soft_distill")}))
    assert lab.rounds() == []
