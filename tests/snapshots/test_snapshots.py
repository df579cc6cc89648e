"""Nothing that only moves code changes what is decided: scenes are what they were, scores to 1e-4."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from scenes import GAMES, SCENES, TINY

SCRIPTED = [f"{family}, {engine}" for family in GAMES for engine in ("scripted", "tiny")]


@pytest.fixture(autouse=True)
def tiny(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small model under a name that is the same everywhere: what is left to chance depends on it."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: {TINY: str(tiny_model)}[name])


def held(name: str, folder: Path) -> None:
    """Play a scene and compare it with its file, or write the file where that is asked for."""
    now = json.loads(json.dumps(SCENES[name](folder / "lab")))
    file = Path(__file__).with_name(f"{name.replace(', ', '-')}.json")
    if os.environ.get("SNAPSHOTS") == "write":
        file.write_text(json.dumps(now, ensure_ascii=False).replace(', {"', ',\n{"') + "\n", encoding="utf-8")
    differs("it", now, json.loads(file.read_text(encoding="utf-8")))


def differs(where: str, now: Any, then: Any) -> None:
    """Fail at the first place where one differs from the other."""
    if isinstance(now, dict) and isinstance(then, dict):
        assert now.keys() == then.keys(), where
        for key in now:
            differs(f"{where}, {key}", now[key], then[key])
    elif isinstance(now, list) and isinstance(then, list):
        assert len(now) == len(then), where
        for place, both in enumerate(zip(now, then, strict=True)):
            differs(f"{where}, {place}", *both)
    elif isinstance(now, float):
        assert now == pytest.approx(then, abs=1e-4), where
    else:
        assert now == then, where


@pytest.mark.parametrize("name", SCRIPTED)
def test_games_are_decided_and_scored_as_before(name: str, tmp_path: Path) -> None:
    held(name, tmp_path)


@pytest.mark.weights
@pytest.mark.slow
def test_the_real_model_decides_and_scores_as_before(tmp_path: Path) -> None:
    for family in GAMES:
        held(f"{family}, SmolLM2", tmp_path / family)


@pytest.mark.slow
def test_a_round_selects_trains_and_concludes_as_before(tmp_path: Path) -> None:
    held("round", tmp_path)
