from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentlab.cli import app
from agentlab.cli.boundary import BAD_INPUT
from agentlab.lab import Lab
from agentlab.workspace.config import LabConfig
from memory.records import Episode, Reflection

RUNNER = CliRunner()
OLD = "2020-01-01T00:00:00.000000+00:00"


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    folder = tmp_path / "lab"
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing")) as opened:
        # As earlier versions of the tool left them: equal texts as several items.
        for number in range(3):
            opened.database.reflections.put(
                Reflection(
                    id=f"r-{number}", kind="written", env="toy/doors", task="toy/doors:train:1",
                    text="The \x1b[2Jsafe door is the one that the note names.",
                )
            )  # fmt: skip
        opened.memory.remember(
            [
                Reflection(
                    id="r-old", kind="written", env="toy/doors", task="toy/doors:train:2",
                    text="Nobody asked for it.",
                    created_at=OLD, updated_at=OLD,
                )
            ]
        )  # fmt: skip
    return folder


def consolidate(lab: Path, *arguments: str) -> Result:
    return RUNNER.invoke(app, ["memory", "consolidate", *arguments, "--lab", str(lab)])


def test_the_dry_run_prints_the_plan_and_leaves_every_byte(lab: Path) -> None:
    before = (lab / "lab.db").read_bytes()
    result = consolidate(lab, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "merge" in result.output and "r-0" in result.output and "say the same" in result.output
    assert "2 actions planned: 1 merge, 1 forget." in result.output
    assert (lab / "lab.db").read_bytes() == before


def test_what_was_done_is_shown_and_is_done_once(lab: Path) -> None:
    result = consolidate(lab)
    assert result.exit_code == 0 and "2 actions done: 1 merge, 1 forget." in result.output
    with Lab.open(lab, write=False) as here:
        statuses = {item.id: item.status for item in here.database.reflections.find()}
    assert statuses == {"r-0": "active", "r-1": "merged", "r-2": "merged", "r-old": "forgotten"}
    again = consolidate(lab)
    assert again.exit_code == 0 and "There is nothing to consolidate." in again.output


def test_only_and_json(lab: Path) -> None:
    result = consolidate(lab, "--dry-run", "--json", "--only", " forget ,")
    (action,) = json.loads(result.stdout)
    assert (action["action"], action["items"]) == ("forget", ["r-old"]) and "never recalled" in action["reason"]


def test_a_long_plan_shows_some_of_each_method(lab: Path) -> None:
    with Lab.open(lab) as here:
        here.memory.remember(
            [
                Reflection(id=f"r-{word}", kind="written", env="e", task="e:train:1", text=f"All about {word}.",
                           created_at=OLD, updated_at=OLD)
                for word in ("cats", "dogs", "birds")
            ]
        )  # fmt: skip
    result = consolidate(lab, "--dry-run", "-n", "1")
    assert "5 actions planned: 1 merge, 4 forget. --limit shows more of each." in result.output
    assert "r-cats" not in result.output


def test_rows_that_read_the_same_stand_there_once(lab: Path) -> None:
    with Lab.open(lab) as here:
        for seed in (1, 2):
            for trial, status in enumerate(("won", "lost", "lost")):
                here.database.episodes.put(
                    Episode(id=f"ep-{seed}-{trial}", run="one", env="toy/doors", split="train", seed=seed, trial=trial,
                            status=status)
                )  # fmt: skip
            task = f"toy/doors:train:{seed}"
            here.memory.remember(
                [Reflection(id=f"r-of-{seed}", kind="written", run="one", env="toy/doors", task=task, text=f"{seed}.")]
            )
    result = consolidate(lab, "--dry-run", "--only", "rules")
    assert [line.split()[:3] for line in result.stdout.splitlines() if line.startswith("rules")] == [
        ["rules", "2", "ep-1-0"], ["rules", "2", "ep-2-0"],
    ]  # fmt: skip
    assert "4 actions planned: 4 rules.\n" in result.stdout


def test_an_unknown_method_is_answered_with_the_nearest(lab: Path) -> None:
    result = consolidate(lab, "--only", "merge,link")
    assert result.exit_code == BAD_INPUT and "did you mean 'links'?" in result.output
    assert "give some of shortcuts, merge" in consolidate(lab, "--only", "zzz").output


def test_a_folder_without_a_lab_is_refused(tmp_path: Path) -> None:
    assert consolidate(tmp_path / "nothing").exit_code == BAD_INPUT
