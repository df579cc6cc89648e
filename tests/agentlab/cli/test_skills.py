from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agentlab.cli import app
from agentlab.lab import Lab
from memory.records import Episode

RUNNER = CliRunner()
ENV = "toy/doors?rooms=1,step_limit=3"


@pytest.fixture
def lab(
    tmp_path: Path, open_at: Callable[..., Lab], add_skill: Callable[..., str], lived: Callable[..., Episode], step: Any
) -> tuple[Path, list[str]]:
    """A lab with two adapters of the tiny model, trained on the toy game."""
    with open_at(tmp_path / "lab") as opened:
        opened.database.episodes.put(lived(step(0, "look"), id="one", env=ENV))
        ids = [add_skill(opened, "one", seed=seed, round=f"round-{seed}") for seed in (1, 2)]
    return tmp_path / "lab", ids


def adapters(lab: Path, *arguments: str) -> Result:
    return RUNNER.invoke(app, ["adapters", *arguments, "--lab", str(lab)])


def test_a_merge_says_what_it_is_and_what_is_lost(lab: tuple[Path, list[str]]) -> None:
    folder, (one, two) = lab
    said = adapters(folder, "merge", one, two, "--weights", "1,-0.5")
    assert said.exit_code == 0, said.output
    assert f"1*{one} + -0.5*{two} by cat, rank 8; 0.00% from the exact sum." in said.stdout
    merged = said.stdout.split(":")[0]
    assert f"agentlab adapters gate {merged} --lab {folder}`" in said.stdout
    cut = json.loads(adapters(folder, "merge", one, two, "--by", "svd", "--rank", "2", "--json").stdout)
    assert cut["status"] == "candidate" and cut["lineage"]["merge"]["rank"] == 2
    assert 0.1 < cut["lineage"]["merge"]["error"] < 1
    assert "for want of rank" in adapters(folder, "merge", one, two, "--by", "ties", "--rank", "2").stdout
    listed = json.loads(adapters(folder, "list", "--json").stdout)
    assert len(listed) == 5 and {row["status"] for row in listed} == {"candidate"}


def test_a_merge_is_gated_and_what_was_forgotten_is_shown(lab: tuple[Path, list[str]]) -> None:
    folder, (one, two) = lab
    assert "No held-out game was played yet" in adapters(folder, "forgetting").stdout
    merged = json.loads(adapters(folder, "merge", one, two, "--json").stdout)["id"]
    few = adapters(folder, "gate", merged, "--seeds", "0-2")
    assert few.exit_code == 2 and "20" in few.stderr and few.stderr.count("\n") == 1
    assert json.loads(adapters(folder, "forgetting", "--json").stdout)["table"]["rows"] == []
    gated = adapters(folder, "gate", merged, "--seeds", "0-19")
    assert gated.exit_code == 0, gated.output
    assert f"{merged} was rejected: " in gated.stdout
    assert f"against {one} on {ENV}" in gated.stdout
    found = json.loads(adapters(folder, "gate", merged, "--seeds", "0-19", "--json").stdout)
    assert found["incumbent"] == "base" and len(found["kept"]) == 2
    adapters(folder, "promote", merged, "--force")
    shown = adapters(folder, "forgetting").stdout
    assert f"{merged} on {ENV} against" in shown and "the best before it" in shown
    assert f"{one}: round-1" in shown and f"{merged}: cat" in shown
    played = json.loads(adapters(folder, "forgetting", "--play", "--seeds", "0-3", "--json").stdout)
    assert [row["arm"] for row in played["table"]["rows"]] == ["base", one, two, merged]
    assert [row["cells"][ENV]["n"] for row in played["table"]["rows"]] == [20, 20, 20, 20]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["merge", "{one}"], "two or more different adapters"),
        (["merge", "{one}", "{two}", "--weights", "1,x"], "are no weights"),
        (["merge", "{one}", "{two}", "--weights", "1"], "need as many weights"),
        (["merge", "{one}", "{two}", "--rank", "4"], "cat has no rank"),
        (["merge", "{one}", "adapter-zzz"], "adapter-zzz"),
        (["gate", "{one}"], "was trained, not merged"),
    ],
)
def test_bad_input_is_one_line(lab: tuple[Path, list[str]], arguments: list[str], part: str) -> None:
    folder, (one, two) = lab
    result = adapters(folder, *(word.format(one=one, two=two) for word in arguments))
    assert result.exit_code == 2, result.output
    assert part in result.stderr
    assert result.stderr.count("\n") == 1
