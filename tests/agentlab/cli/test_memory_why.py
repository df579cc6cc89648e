from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentlab.cli import app
from agentlab.lab import Lab
from agentlab.workspace.config import LabConfig
from memory.records import Episode, Recall, Reflection


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    folder = tmp_path / "lab"
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing")) as opened:
        opened.database.episodes.put(Episode(id="ep-aa1", run="r", env="toy/doors", split="train", seed=1))
        opened.database.episodes.put(Episode(id="ep-bb2", run="r", env="toy/doors", split="train", seed=2))
        opened.memory.remember(
            [
                Reflection(id=id, kind="written", env="toy/doors", task="toy/doors:train:9", text=f"Text of {id}.")
                for id in ("r-1", "r-2")
            ]
        )
        opened.database.recalls.put(
            [
                Recall(episode="ep-aa1", reflection="r-1", rank=0, query="Where?", score=0.7, parts={"cosine": 0.25}),
                Recall(
                    episode="ep-aa1", reflection="r-2", rank=0, query="In a room.", score=0.9, channel="advice", step=3,
                    parts={"bonus": 1.5, "cosine": 0.9}, held_out=True, propensity=0.9,
                ),
            ]
        )  # fmt: skip
    return folder


def why(lab: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["memory", "why", *arguments, "--lab", str(lab)])


def test_what_was_recalled_is_told_with_query_rank_score_and_parts(lab: Path) -> None:
    shown = why(lab, "ep-aa1").stdout
    for part in (
        "from the beginning",
        "cosine 0.25",
        "Where?",
        "Text of r-1.",
        "held out",
        "bonus 1.5",
        "prior",
    ):
        assert part in shown, part


@pytest.mark.parametrize(("arguments", "ids"), [((), ["r-1", "r-2"]), (("3",), ["r-1", "r-2"]), (("2",), ["r-1"])])
def test_a_step_leaves_what_had_a_part_there(lab: Path, arguments: tuple[str, ...], ids: list[str]) -> None:
    found = json.loads(why(lab, "ep-aa", *arguments, "--json").stdout)
    assert found["episode"] == "ep-aa1" and [one["reflection"] for one in found["recalls"]] == ids
    assert found["step"] == (int(arguments[0]) if arguments else None)


def test_nothing_recalled_is_said(lab: Path) -> None:
    assert "Nothing was recalled" in why(lab, "ep-bb2").stdout


def test_an_unknown_episode_is_one_line(lab: Path) -> None:
    result = why(lab, "ep-none")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
