"""Rounds that play while they train. What needs TRL is skipped without it: `pip install "trl>=1.16,<1.17"`."""

from __future__ import annotations

import json
import runpy
import signal
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agentlab.errors import AgentLabError, BadConfig
from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport
from agentlab.rounds.checking import check_practice, check_settings
from agentlab.rounds.practising import run_of
from environments import registry
from memory.store import EpisodeFilter
from trainers import job
from trainers.errors import MissingDependency

GAME = Path(__file__).with_name("practice_game.py")
own: Any = SimpleNamespace(**runpy.run_path(str(GAME)))


@pytest.fixture(scope="module", autouse=True)
def game() -> Iterator[None]:
    own.added()
    yield
    registry.unregister(own.ENV)


def config(**settings: Any) -> RoundConfig:
    return RoundConfig.model_validate({"envs": ["toy/doors"], "training": {"objective": "grpo"}, **settings})


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"collect": "model"}, "collect"),
        ({"ladder": True}, "ladder"),
        ({"temperature": 0.5}, "temperature"),
        ({"revise": True}, "revise"),
        ({"selection": {"cap_per_task": 1}}, "selection"),
        ({"kl": {"envs": ["toy/doors?rooms=1"]}}, "kl"),
        ({"training": {"objective": "grpo", "epochs": 3}}, "training.epochs"),
        ({"on_policy": {"improvement": 1.0}}, "on_policy.improvement"),
        ({"on_policy": {"discount": 0.5}}, "on_policy.discount"),
    ],
)
def test_what_a_round_that_plays_to_train_cannot_use_is_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(BadConfig, match=f"`{named}` would do nothing"):
        check_settings(config(**settings))


def test_a_step_with_more_games_than_there_are_is_refused() -> None:
    with pytest.raises(BadConfig, match="this round has 3"):
        check_settings(config(seeds=3, on_policy={"games": 4}))
    check_settings(config(seeds=4, on_policy={"games": 4}))


def test_what_it_plays_is_refused_where_nothing_plays_while_it_trains() -> None:
    settings = {"on_policy": {"steps": 3}}
    with pytest.raises(BadConfig, match="`on_policy` would do nothing"):
        check_settings(config(**settings, training={}))
    check_settings(config(**settings))
    check_settings(config(on_policy={"attempts": 2, "improvement": 1.0}))
    check_settings(config(on_policy={"step_weight": 1.0, "discount": 0.5}))


def test_it_neither_explores_nor_lets_any_other_way_collect() -> None:
    assert config().ways(None) == config().ways("adapter-1") == []
    assert len(config(seeds=7, gate_seeds=3, retire="off").tasks(1)) == 10


def workspace(**changes: Any) -> Any:
    engine = SimpleNamespace(tokenize=list, context=100, command_tokens=list)
    usual = {"workers": None, "engine": engine, "config": SimpleNamespace(engine="transformers")}
    return SimpleNamespace(**{**usual, **changes})


def test_workers_servers_and_other_machines_cannot_play_with_weights_that_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trainers.training.on_policy.version", lambda name: "1.16.3")
    check_practice(workspace())
    for changes, remedy in (
        ({"workers": object()}, "leave out `--workers`"),
        ({"config": SimpleNamespace(engine="vllm")}, "set `engine` to transformers"),
        ({"engine": object()}, "set `engine` to transformers"),
    ):
        with pytest.raises(BadConfig, match=remedy):
            check_practice(workspace(**changes))
    with pytest.raises(BadConfig, match="leave out `--export`"):
        check_practice(workspace(), elsewhere=True)


@pytest.mark.parametrize("found", [None, "1.17.0", "1.1.0"])
def test_without_the_version_of_trl_that_it_is_written_for_it_is_refused_in_a_line(
    found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr("trainers.training.on_policy.version", version)
    with pytest.raises(MissingDependency, match=r"pip install 'agentlab\[rl\]'") as refused:
        check_practice(workspace())
    assert "\n" not in str(refused.value)


def test_a_round_that_is_refused_has_not_begun(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    with pytest.raises(BadConfig):
        lab.round(config())
    assert lab.rounds() == []


# -- with TRL ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def needs_trl() -> None:
    pytest.importorskip("trl", reason='TRL is not installed (`pip install "trl>=1.16,<1.17"` runs these tests)')


Practise = Callable[..., Lab]


@pytest.fixture(scope="module")
def open_practice(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, needs_trl: None) -> Iterator[Practise]:
    """Opens a lab of the tiny model in which such rounds are run."""
    opened: list[Lab] = []

    def open_it(name: str = "lab", **changes: Any) -> Lab:
        folder = tmp_path_factory.mktemp("practice") / name
        lab = Lab.open(folder, create=True, config=own.settings(str(tiny_model)), **changes)
        opened.append(lab)
        return lab

    yield open_it
    for lab in opened:
        lab.close()


@pytest.fixture(scope="module")
def practised(open_practice: Practise) -> Lab:
    """A lab in which a round has played and trained."""
    lab = open_practice()
    lab.round(own.round_of())
    return lab


def rewards(lab: Lab) -> list[float]:
    """The mean reward of each step."""
    lines = (lab.folder / "jobs" / "round-1" / "curve.jsonl").read_text().splitlines()
    return [json.loads(line)["measures"]["reward"] for line in lines]


def test_it_learns_from_what_it_plays(practised: Lab) -> None:
    found = rewards(practised)
    assert len(found) == 8
    assert sum(found[-3:]) / 3 > sum(found[:2]) / 2 + 0.3


def test_it_goes_on_as_any_round_does(practised: Lab) -> None:
    (report,) = practised.rounds()
    assert (report.phase, report.collected["grpo"]["tasks"]) == ("done", 8 * 2 * 8)
    assert 0 < report.collected["grpo"]["won"] < 8 * 2 * 8
    assert report.gate["paired"]["n"] >= 1 and report.promoted is not None
    record = practised.adapters.get(str(report.adapter))
    assert record.lineage.round == "round-1"
    assert set(record.lineage.episodes) <= {row.id for row in practised.database.episodes.find()}
    assert report.selected == {own.ENV: len(record.lineage.episodes)}
    assert report.monitors["drift"] is not None
    assert report.training["mismatch"] < 0.01  # what played is what was trained, in the same number format


def test_its_episodes_say_which_weights_played(practised: Lab) -> None:
    rows = practised.database.episodes.find(EpisodeFilter(run="round-1-practice"))
    assert {row.adapter for row in rows} == {None, *(f"round-1-step-{step}" for step in range(1, 8))}
    episode = practised.database.episodes.load([rows[0].id])[0]
    assert episode.token_ids and episode.action_spans


def test_what_it_leaves_is_a_job_of_what_it_learned_from(practised: Lab) -> None:
    (report,) = practised.rounds()
    made = job.load(practised.folder / "jobs" / "round-1")
    assert made.done and job.result(made.folder) is not None
    assert {record.step for record in made.examples} <= set(range(8))  # type: ignore[union-attr]
    assert not (practised.folder / "jobs" / "round-1.practice").exists()
    # Nothing more is trained, and nothing else comes of it.
    again = job.run(made.folder, base=practised.model_folder)
    assert again.report.steps == report.training["steps"] == 8
    assert again.report.dtype == "float32", "in bfloat16 what a step changes is rounded away beside what plays"


def test_a_group_of_which_all_won_or_lost_weighs_nothing(practised: Lab) -> None:
    made = job.load(practised.folder / "jobs" / "round-1")
    groups: dict[tuple[int, str], list[Any]] = {}
    for record in made.examples:
        groups.setdefault((record.step, record.example.task), []).append(record)  # type: ignore[union-attr]
    alike = [group for group in groups.values() if len({one.reward for one in group}) == 1]
    mixed = [group for group in groups.values() if len({one.reward for one in group}) > 1]
    assert alike and mixed
    assert not any(one.spans for group in alike for one in group)
    for group in mixed:
        for one in group:
            signs = {weight > 0 for weight in one.example.weights if weight}
            assert signs == {one.reward > 0.5}


def test_our_advantages_are_trls_where_whole_episodes_are_compared(
    open_practice: Practise, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import GRPOTrainer

    from trainers.training.grpo import OnPolicyTrainer

    theirs, ours = [], []
    plain, overridden = GRPOTrainer._generate_and_score_completions, OnPolicyTrainer._generate_and_score_completions

    def of_trl(self: Any, inputs: Any) -> Any:
        found = plain(self, inputs)
        theirs.append(found["advantages"].clone())
        return found

    def of_us(self: Any, inputs: Any) -> Any:
        found = overridden(self, inputs)
        ours.append((found["advantages"].clone(), found["completion_mask"] * found["tool_mask"]))
        return found

    monkeypatch.setattr(GRPOTrainer, "_generate_and_score_completions", of_trl)
    monkeypatch.setattr(OnPolicyTrainer, "_generate_and_score_completions", of_us)
    open_practice().round(own.round_of(steps=2))
    assert len(theirs) == 2 and any(one.any() for one in theirs)
    for one, (per_token, mask) in zip(theirs, ours, strict=True):
        assert (per_token - one.unsqueeze(1) * mask).abs().max() < 1e-4


def test_steps_from_one_place_have_advantages_of_their_own(open_practice: Practise) -> None:
    lab = open_practice()
    lab.round(own.round_of(steps=2, step_weight=1.0))
    made = job.load(lab.folder / "jobs" / "round-1")
    several = [{weight for weight in record.example.weights if weight} for record in made.examples]  # type: ignore[union-attr]
    assert any(len(weights) > 1 for weights in several)


def test_a_later_attempt_has_the_memory_of_the_one_before_and_is_rewarded_for_being_better(
    open_practice: Practise,
) -> None:
    lab = open_practice()
    lab.round(own.round_of(steps=2, group=6, attempts=2, improvement=0.5))
    rows = lab.database.episodes.find(EpisodeFilter(run=run_of(lab.rounds()[0])))
    episodes = {one.id: one for one in lab.database.episodes.load([row.id for row in rows])}
    assert len(episodes) == 2 * 2 * 6 * 2
    assert {one.trial for one in episodes.values()} == {0, 1}
    first = [one for one in episodes.values() if one.trial == 0]
    later = [one for one in episodes.values() if one.trial == 1]
    assert not any(one.recalled for one in first)
    assert any(one.recalled for one in later)
    pairs = {(one.task_id, one.adapter, one.rng_seed): one for one in first}
    made = job.load(lab.folder / "jobs" / "round-1")
    for record in made.examples:
        episode = episodes[record.example.episode]  # type: ignore[union-attr]
        before = pairs[episode.task_id, episode.adapter, episode.rng_seed]
        extra = 0.5 * (episode.won - before.won) if episode.trial else 0.0
        assert record.reward == pytest.approx(episode.won + extra)  # type: ignore[union-attr]


def test_a_round_of_which_every_game_ends_alike_fails_and_keeps_what_was_lived(
    open_practice: Practise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own.Doors, "act", lambda self, action: self._turn(lost=True))
    lab = open_practice()
    with pytest.raises(AgentLabError, match="round-1 learned nothing: every group"):
        lab.round(own.round_of(steps=1))
    (report,) = lab.rounds()
    assert report.phase == "failed" and len(lab.database.episodes.find()) == 16


@pytest.mark.slow
def test_a_killed_round_comes_to_the_same_weights(
    practised: Lab, tmp_path: Path, tiny_model: Path, in_a_process: Callable[..., tuple[int, str]]
) -> None:
    """Killed between two checkpoints and right after one; what was played since is read again, and nothing twice."""
    code = f"import runpy, sys; runpy.run_path({str(GAME)!r})['main'](*sys.argv[1:])"
    for units in ("2", "5"):
        status, _ = in_a_process(code, str(tmp_path / "lab"), str(tiny_model), units)
        assert status == -signal.SIGKILL
    status, said = in_a_process(code, str(tmp_path / "lab"), str(tiny_model), "0")
    assert status == 0, said
    with Lab.open(tmp_path / "lab", write=False) as lab:
        (report,) = lab.rounds()
        (unbroken,) = practised.rounds()
        assert report.adapter == unbroken.adapter
        assert report.collected == unbroken.collected
        assert {row.id for row in lab.database.episodes.find()} == {
            row.id for row in practised.database.episodes.find()
        }


def test_ctrl_c_is_gone_on_from(open_practice: Practise, practised: Lab, breaks: Any) -> None:
    lab = open_practice(progress=breaks("practising", 4))
    with pytest.raises(KeyboardInterrupt):
        lab.round(own.round_of())
    report: RoundReport = lab.round(own.round_of())
    assert report.adapter == practised.rounds()[0].adapter
