"""Steering (experimental): vectors made from a lab's train games, with which an arm plays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentlab.engines.experimental import vectors
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import AgentLabError, BadConfig, BadSteering
from agentlab.experiments.experimental import judged_steps
from agentlab.lab import Lab
from agentlab.workspace.copying import copy_lab
from memory.records import Episode
from memory.store import EpisodeFilter
from trainers.errors import UnknownAdapter

ENV = "toy/doors?colours=2,rooms=1,step_limit=4"


@pytest.fixture(scope="module")
def folder(open_at: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab in which chance has won and lost some train and dev games."""
    folder = tmp_path_factory.mktemp("steered") / "lab"
    with open_at(folder) as opened:
        opened.run(ENV, seeds=range(16), trials=1, arm="random")
        opened.evaluate(ENV, split="dev", seeds=range(16), arms=["random"])
    return folder


@pytest.fixture
def lab(folder: Path, open_at: Callable[..., Lab]) -> Iterator[Lab]:
    with open_at(folder) as opened:
        yield opened


def asked(**settings: Any) -> vectors.SteeringConfig:
    return vectors.SteeringConfig(**settings)


def test_steps_are_of_won_and_lost_train_games_alike_one_of_a_game(lab: Lab) -> None:
    steps = judged_steps(lab, [ENV], asked(steps=6))
    assert [one.won for one in steps] == [True] * 3 + [False] * 3 and len({one.episode for one in steps}) == 6
    rows = lab.database.episodes.rows([one.episode for one in steps])
    assert {row.split for row in rows} == {"train"}
    assert {one.episode: one.won for one in steps} == {row.id: row.status == "won" for row in rows}
    assert steps == judged_steps(lab, [ENV], asked(steps=6)) != judged_steps(lab, [ENV], asked(steps=6, seed=1))
    text = lab.engine.tokenizer.decode(steps[0].asked.tokens)  # type: ignore[union-attr]
    episode: Episode = lab.database.episodes.load([steps[0].episode])[0]
    assert episode.goal in text and text.endswith("\n") and text.splitlines()[-1][2:] in episode.actions


@pytest.mark.parametrize("method", ["self-control", "mean-difference", "random"])
def test_a_vector_is_kept_with_where_it_is_from_and_made_once(
    lab: Lab, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = lab.steer(ENV, method=method, steps=6, strength=0.2)
    assert card.fingerprint == lab.fingerprint and card.made == asked(method=method, steps=6, strength=0.2)
    assert card.episodes == [one.episode for one in judged_steps(lab, [ENV], card.made)]
    assert card.envs == [ENV] and card.sha256
    root = lab.folder / "steering"
    assert vectors.read_card(root / card.id) == card and card in vectors.cards(root, pytest.fail)
    if method == "self-control":
        assert card.score["steered"] > card.score["base"]
    monkeypatch.setattr(vectors, "write", None)
    assert lab.steer([ENV], method=method, steps=6, strength=0.2) == card
    assert vectors.named(root, card.id).strength == 0.2


def test_an_arm_plays_with_it_and_its_episodes_say_so(lab: Lab) -> None:
    card = lab.steer(ENV, method="random", steps=2)
    names = ["base", f"{card.id}@0", f"{card.id}@-3", f"{card.id} + memory"]
    table = lab.evaluate(ENV, split="dev", seeds=range(100, 106), arms=names)
    assert [row.arm for row in table.rows] == ["base", f"{card.id}@0", f"{card.id}@-3", f"{card.id}@0.1 + memory"]

    def played(adapter: str) -> list[Any]:
        found = lab.database.episodes.find(EpisodeFilter(split="dev", adapter=adapter, by_model=True))
        episodes = [lab.database.episodes.load([row.id])[0] for row in found]
        return sorted((one.task_id, one.token_ids, [step.scores for step in one.steps]) for one in episodes)

    assert played("") and played(f"{card.id}@0") == played("")
    pushed = played(f"{card.id}@-3")
    assert [one[0] for one in pushed] == [one[0] for one in played("")] and pushed != played("")
    assert played(f"{card.id}@0.1")
    assert {row.adapter for row in lab.database.episodes.rows(lab.steer(ENV, steps=8).episodes)} == {None}


def test_workers_play_with_it_in_a_copy_of_the_lab(lab: Lab, tmp_path: Path) -> None:
    card = lab.steer(ENV, method="random", steps=2)
    copy_lab(lab, tmp_path / "copy", adapters=[f"{card.id}@0.5"], threads=1)
    with Lab.open(tmp_path / "copy", progress=False) as other:
        model = other.model(f"{card.id}@0.5")
        assert model.adapter_id == f"{card.id}@0.5" == lab.model(f"{card.id}@0.5").adapter_id


def test_what_cannot_be_steered_is_refused_in_one_line(
    lab: Lab, tmp_path: Path, open_at: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(kind: type[AgentLabError], ask: Callable[[], object]) -> None:
        with pytest.raises(kind) as raised:
            ask()
        assert "\n" not in str(raised.value) and len(str(raised.value)) < 400

    card = lab.steer(ENV, method="random", steps=2)
    for settings in ({"strength": 0}, {"strength": float("nan")}, {"steps": 1}, {"method": "no"}, {"layers": [1]}):
        refused(BadConfig, lambda settings=settings: lab.steer(ENV, **settings))  # type: ignore[misc]
    refused(AgentLabError, lambda: lab.steer("toy/doors"))  # no game was played
    for name in ("steering-none", "steering-", f"{card.id}@x", "steering-../../lab"):
        refused(AgentLabError, lambda name=name: lab.arm(name))  # type: ignore[misc]
    with pytest.raises(UnknownAdapter):  # so whatever takes adapters alone takes none of these
        lab.adapters.get(card.id)
    monkeypatch.setitem(lab.__dict__, "fingerprint", "other weights")
    refused(BadSteering, lambda: lab.model(card.id))
    with Lab.open(tmp_path / "scripted", create=True, engine=ScriptedEngine(lambda text, command: 0.0)) as other:
        refused(AgentLabError, lambda: other.steer(ENV))
        refused(AgentLabError, lambda: other.model(card.id))
