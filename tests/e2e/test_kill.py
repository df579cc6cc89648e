from __future__ import annotations

import runpy
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentlab import Lab, Reflection, RoundReport, Table

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("round_script.py")
MOMENTS = {
    "exploring at random": "exploring at random:5",
    "exploring with the model": "exploring with the model:4",
    "training, before the first checkpoint": "training:3",
    "training, after a checkpoint": "training:22",
    "the gate, incumbent": "gate: base:5",
    "the gate, candidate": "gate: candidate:6",
    "the transaction of the promotion": "promoting",
    "right after the promotion": "promoted",
    "at the end of the round": "said",
}
CLOCK = {"started_at", "ended_at", "seconds", "tokens_per_second", "created_at", "updated_at", "at", "date"}


@dataclass
class Outcome:
    """Everything that a round and its evaluation leave, but what a clock says."""

    report: dict[str, Any]
    table: Table
    weights: bytes
    episodes: list[dict[str, Any]]
    reflections: list[dict[str, Any]]
    recalls: set[tuple[str, str, str, bool | None]]


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in CLOCK}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def together(reflections: list[Reflection]) -> list[dict[str, Any]]:
    """Reflections with all that say the same and what these are: one stands for all, the first to be written.

    Of games that are played at once that is the one that ends first, which a clock says.
    """
    groups: dict[str, list[Reflection]] = {}
    for found in reflections:
        groups.setdefault(found.merged_into or found.id, []).append(found)
    same = {
        found.id: {"said by": sorted(one.id for one in group), "as": sorted(one.status for one in group)}
        for group in groups.values()
        for found in group
    }
    without = {"status", "merged_into"}
    return [timeless(found.model_dump(mode="json", exclude=without)) | same[found.id] for found in reflections]


def outcome(folder: Path, model: Path) -> Outcome:
    """Make the call, to its end, and read what there is."""
    report, table = runpy.run_path(str(SCRIPT))["work"](folder, model)
    with Lab.open(folder, write=False) as lab:
        database = lab.database
        record = lab.adapters.get(report.adapter)
        episodes = database.episodes.load(sorted(row.id for row in database.episodes.find()))
        reflections = sorted(database.reflections.find(), key=lambda found: found.id)
        recalls = [recall for found in reflections for recall in database.recalls.of_reflection(found.id)]
        return Outcome(
            timeless(RoundReport.model_validate(report).model_dump(mode="json")),
            table.model_copy(update={"about": timeless(table.about)}),
            (folder / record.path / "adapter_model.safetensors").read_bytes(),
            [timeless(episode.model_dump(mode="json")) for episode in episodes],
            together(reflections),
            {(recall.episode, recall.reflection, recall.channel, recall.won) for recall in recalls},
        )


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Outcome:
    """What comes of it when nobody interferes."""
    return outcome(tmp_path_factory.mktemp("unbroken") / "lab", tiny_model)


@pytest.fixture(scope="module")
def killed(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, in_a_process: Callable[..., tuple[int, str]]
) -> Iterator[dict[str, Path]]:
    """A lab as it lies there after each kill. Each process goes on where the one before was killed."""
    folder = tmp_path_factory.mktemp("killed")
    code = f"import runpy; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    ended, said = in_a_process(code, str(folder / "lab"), str(tiny_model), *MOMENTS.values())
    assert ended == 0 and said.split() == [str(-signal.SIGKILL)] * len(MOMENTS), said[-3000:]
    yield {name: folder / f"lab-{number}" for number, name in enumerate(MOMENTS)}
    shutil.rmtree(folder)


def test_unbroken_it_learns_and_promotes(unbroken: Outcome) -> None:
    assert unbroken.report["promoted"] is True
    assert unbroken.report["training"]["steps"] > 22
    table = unbroken.table
    assert table.row("adapter").cells["all"].wins > table.row("base").cells["all"].wins
    assert {channel for _, _, channel, _ in unbroken.recalls} >= {"advice", "exemplar"}
    assert len(unbroken.weights) > 10_000


def test_killed_at_any_moment_the_same_call_gives_what_an_unbroken_one_gives(
    killed: dict[str, Path], unbroken: Outcome, tiny_model: Path
) -> None:
    # One test: in test processes beside each other each would make all of them anew.
    for moment, folder in killed.items():
        resumed = outcome(folder, tiny_model)
        assert resumed.weights == unbroken.weights, moment
        assert resumed.table == unbroken.table, moment
        assert resumed.report == unbroken.report, moment
        assert resumed.episodes == unbroken.episodes, moment
        assert resumed.reflections == unbroken.reflections, moment
        assert resumed.recalls == unbroken.recalls, moment
