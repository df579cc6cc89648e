from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentlab.agent.result import DatabaseSink, EpisodeResult
from agentlab.cli import app
from agentlab.cli.episodes import compare
from agentlab.lab import Lab
from agentlab.workspace.config import LabConfig
from environments import Task, make
from memory.records import Episode, Step, Usage
from memory.store.journal import Journal

RUNNER = CliRunner()


def played(id: str, seed: int, actions: list[str], *, run: str = "first") -> Episode:
    """An episode of the toy game with these actions, recorded as the agent records them."""
    env = make("toy/doors")
    observation, info = env.start(Task(env="toy/doors", split="train", seed=seed))
    episode = Episode(id=id, run=run, env="toy/doors", split="train", seed=seed, goal=info["goal"], arm="base")
    for index, action in enumerate(actions):
        commands, state = info["admissible_commands"], info["state"]
        result, reward, _, _, info = env.step(action)
        episode.steps.append(
            Step(
                index=index,
                observation=observation,
                state=state,
                admissible=commands,
                action=action,
                result=result,
                next_state=info["state"],
                reward=reward,
                score=info["score"],
                logprob=-1.5,
            )
        )
        observation = result
    episode.score = info["score"]
    episode.status = "won" if info["won"] else "lost" if info["lost"] else "truncated"
    return episode


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    folder = tmp_path / "lab"
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing")) as opened:
        opened.database.episodes.put(played("ep-aa1", 1, ["look", "read note"]))
        opened.database.episodes.put(played("ep-bb2", 2, ["read note"], run="second"))
    return folder


def agentlab(lab: Path, *arguments: str) -> Result:
    return RUNNER.invoke(app, [*arguments, "--lab", str(lab)])


def test_episodes_are_listed_the_newest_first(lab: Path) -> None:
    rows = json.loads(agentlab(lab, "episodes", "--json").stdout)
    assert [(row["id"], row["steps"]) for row in rows] == [("ep-bb2", 1), ("ep-aa1", 2)]
    assert "ep-aa1" in agentlab(lab, "episodes").stdout


def test_what_episodes_took_is_read_off_their_rows(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Lab.open(lab) as opened:
        sink = DatabaseSink(opened.database)
        for place in range(3):
            episode = played(f"ep-c{place}", place, ["look"], run="third")
            episode.usage = Usage(input_tokens=1000 + place, cost=0.5 if place else 0.0)
            sink.put(EpisodeResult(episode))
    for name in ("items", "get"):  # the journal of a run is long
        monkeypatch.setattr(Journal, name, None)
    rows = json.loads(agentlab(lab, "episodes", "--json").stdout)
    assert [row.get("usage", {}).get("input_tokens") for row in rows] == [1002, 1001, 1000, None, None]
    assert [row["cost"] for row in rows] == [0.5, 0.5, 0.0, 0.0, 0.0]
    head, _, newest, *_ = agentlab(lab, "episodes", "--run", "third").stdout.splitlines()
    assert (head.split()[-2:], newest.split()[-2:]) == (["tokens", "cost"], ["1,002", "$0.5000"])


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (["--run", "second"], ["ep-bb2"]),
        (["--task", "toy/doors:train:1"], ["ep-aa1"]),
        (["--status", "won"], []),
        (["--env", "toy/doors", "-n", "1"], ["ep-bb2"]),
        (["--split", "test"], []),
    ],
)
def test_episodes_can_be_narrowed(lab: Path, arguments: list[str], ids: list[str]) -> None:
    assert [row["id"] for row in json.loads(agentlab(lab, "episodes", "--json", *arguments).stdout)] == ids


def test_an_empty_listing_says_why_it_is_empty(lab: Path, tmp_path: Path) -> None:
    assert "Nothing fits" in agentlab(lab, "episodes", "--arm", "none").stdout
    with Lab.open(tmp_path / "new", create=True, config=LabConfig(embedder="hashing")):
        pass
    assert "agentlab run" in agentlab(tmp_path / "new", "episodes").stdout


def test_an_unknown_adapter_is_one_line(lab: Path) -> None:
    result = agentlab(lab, "episodes", "--adapter", "adapter-x")
    assert result.exit_code == 2
    assert "no adapter has the id 'adapter-x'" in result.stderr


def test_replay_plays_the_episode_again_and_verifies_it(lab: Path) -> None:
    result = agentlab(lab, "replay", "ep-aa")
    assert result.exit_code == 0, result.output
    assert "> read note    (log p -1.50 of 5 commands)" in result.stdout
    assert "Verified: all 2 steps" in result.stdout
    data = json.loads(agentlab(lab, "replay", "ep-aa1", "--json").stdout)
    assert data["verified"] is True
    assert data["differences"] == []


def test_replay_says_where_the_environment_answers_otherwise(lab: Path) -> None:
    with Lab.open(lab) as opened:
        episode = opened.database.episodes.get("ep-aa1")
        episode.steps[1].result = "The note is \x1b[31mblank."
        opened.database.episodes.put(episode)
    result = agentlab(lab, "replay", "ep-aa1")
    assert result.exit_code == 1
    assert "the observation after step 1 differs" in result.stdout
    assert "The note is blank." in result.stdout


def test_replay_shows_what_was_thought_and_noted_and_what_was_no_command(lab: Path) -> None:
    with Lab.open(lab) as opened:
        episode = opened.database.episodes.get("ep-aa1")
        first, second = episode.steps
        first.thought, first.token_ids = "I want to see.", [1, 2, 3]
        second.action, second.result, second.invalid, second.note = "sing", "Nothing happens.", True, "Mind the gap."
        episode.status, episode.score = "truncated", 0.0
        opened.database.episodes.put(episode)
    result = agentlab(lab, "replay", "ep-aa1")
    for part in ("I want to see.", "(log p -1.50 of 3 tokens", "(Mind the gap.)", "> sing", "1 invalid action"):
        assert part in result.stdout
    assert "Verified: all 2 steps" in result.stdout


def test_plain_replay_only_prints(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Lab.open(lab) as opened:
        episode = opened.database.episodes.get("ep-aa1")
        episode.env, episode.error, episode.status = "gone/game", "the JVM died", "errored"
        opened.database.episodes.put(episode)
    result = agentlab(lab, "replay", "ep-aa1", "--plain")
    assert result.exit_code == 0
    assert "cause: the JVM died" in result.stdout
    assert "Verified" not in result.stdout
    assert json.loads(agentlab(lab, "replay", "ep-aa1", "--plain", "--json").stdout)["verified"] is None


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [("observation", "Elsewhere.", "first observation"), ("admissible", ["dance"], "admissible commands")],
)
def test_each_kind_of_difference_is_found(field: str, value: object, what: str) -> None:
    episode = played("ep", 1, ["look"])
    setattr(episode.steps[0], field, value)
    assert [difference.what for difference in compare(episode)] == [what]


def test_another_score_or_result_is_a_difference() -> None:
    episode = played("ep", 1, ["look"])
    episode.score, episode.status = 1.0, "won"
    assert [difference.what for difference in compare(episode)] == ["score", "result"]


def test_an_unknown_episode_is_one_line_with_the_nearest(lab: Path) -> None:
    result = agentlab(lab, "replay", "ep-aa9")
    assert result.exit_code == 2
    assert "did you mean 'ep-aa1'?" in result.stderr
