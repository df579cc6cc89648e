"""`agentlab bench`: what there is, what came of it, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentlab import protocols
from agentlab.cli import app
from agentlab.protocols import Protocol, Way
from agentlab.protocols.measured import Game, Learned
from agentlab.protocols.running import found, write
from agentlab.protocols.wang2023 import WANG2023

RUNNER = CliRunner()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which both ways of wang2023 were measured, by somebody who wins what has an even seed."""
    games = {seed: Game(final=float(seed % 2 == 0), best=1.0, won=seed % 2 == 0, steps=3) for seed in range(100)}
    for way in WANG2023.ways:
        for seed in range(3):
            arms = {arm: dict.fromkeys(way.envs, games) for arm in WANG2023.arms_of(seed)}
            one = Learned(
                protocol="wang2023", version=WANG2023.version, way=way.name, seed=seed, model="tiny", split="test",
                arms=arms, rounds=["round-1: promoted"],
            )  # fmt: skip
            write(tmp_path / f"{way.name.replace(' ', '-')}-{seed}-test-100.json", one.model_dump_json())
    monkeypatch.setattr(protocols, "run_protocol", lambda chosen, folder, **_: found(chosen, folder, "test", 100))
    return tmp_path


def test_the_list_says_what_each_measures_and_how_long_it_takes() -> None:
    shown = RUNNER.invoke(app, ["bench", "--list"]).stdout
    listed = json.loads(RUNNER.invoke(app, ["bench", "--json"]).stdout)
    for one in protocols.protocols():
        assert one.name in shown and one.measures in shown and one.takes in shown
        assert one.name in [row["protocol"] for row in listed]


def test_the_result_is_kept_as_text_and_data_with_every_comparison(place: Path) -> None:
    result = RUNNER.invoke(app, ["bench", "wang2023", "--folder", str(place)])
    assert result.exit_code == 0, result.output
    data = json.loads((place / "result.json").read_text())
    assert data["whole"] and data["training_seeds"] == 3
    (mean,) = [
        line["means"]["mean"] for line in data["lines"] if (line["arm"], line["way"]) == ("adapter", "with tools")
    ]
    assert mean["value"] == 0.5 and mean["low"] < 0.5 < mean["high"] and mean["games"] == 400
    against = {(one["other"], one["game"]): one["found"] for one in data["compared"] if one["way"] == "with tools"}
    assert against["T5 + module", "mean"]["difference"] == pytest.approx(0.5 - (1 + 1 + 0.98 + 0.97) / 4)
    assert against["T5 + module", "mean"]["p"] < 1e-3
    text = (place / "result.md").read_text()
    assert "T5 + module" in text and "This is not the whole protocol" not in text
    assert text.count("round-1: promoted") == 6


def test_a_published_mean_of_which_no_game_is_known_has_no_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocols, "run_protocol", lambda *_, **__: [])
    result = RUNNER.invoke(app, ["bench", "tales-twx", "--folder", str(tmp_path)])
    assert result.exit_code == 0 and "0.958" in result.output and "0.958 [" not in result.output


def test_an_unknown_protocol_or_way_is_refused_in_a_line(tmp_path: Path) -> None:
    for words in (["wang2024"], ["wang2023", "--way", "flying", "--folder", str(tmp_path / "bench")]):
        result = RUNNER.invoke(app, ["bench", *words])
        assert result.exit_code == 2 and "Traceback" not in result.output
    assert not (tmp_path / "bench").exists()


def test_training_seeds_that_are_none_are_refused_under_their_own_name(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["bench", "wang2023", "--training-seeds", "x", "--folder", str(tmp_path / "bench")])
    assert result.exit_code == 2 and "--training-seeds" in result.stderr
    assert not (tmp_path / "bench").exists()


def test_protocols_with_many_games_put_them_below_each_other(tmp_path: Path) -> None:
    from agentlab.protocols.showing import markdown, outcome

    many = Protocol(
        name="many", version=1, measures="many", takes="", score="best", games=1, training_seeds=1,
        ways=[Way("plainly", {f"game{n}": "toy/doors" for n in range(9)})], rounds=[], arms=["base", "adapter"],
    )  # fmt: skip
    game = {0: Game(final=0.0, best=1.0, won=False, steps=1)}
    arms = {arm: {f"game{n}": game for n in range(9)} for arm in many.arms}
    one = Learned(protocol="many", version=1, way="plainly", seed=0, model="m", split="test", arms=arms)
    text = markdown(outcome(many, [one], "test", 1), many)
    assert "| task | base, plainly | adapter, plainly |" in text and "| game8 |" in text
    assert max(line.count("|") for line in text.splitlines()) < 9
