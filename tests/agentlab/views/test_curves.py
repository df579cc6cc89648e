"""A curve that is drawn loses no spike, however long the training was."""

from __future__ import annotations

import math
from pathlib import Path

from agentlab.views.curves import PLAIN, Curve, curve
from trainers.training import Point
from trainers.training.curve import Curve as Kept


def trained(folder: Path, losses: list[float]) -> Path:
    kept = Kept(folder)
    kept.begin(after=0)
    with kept.path.open("a") as stream:
        for step, loss in enumerate(losses, 1):
            rate = math.nan if step == 2 else 0.5
            point = Point(step=step, steps=len(losses) + 5, loss=loss, learning_rate=rate, measures={"kl": 0.1})
            stream.write(point.model_dump_json().replace("null", "NaN") + "\n")
    return folder


def test_nothing_trained_yet_is_an_empty_curve(tmp_path: Path) -> None:
    assert curve(tmp_path) == Curve()
    assert curve(tmp_path).plain == Curve()


def test_a_short_curve_is_all_there_and_what_is_no_number_is_left_open(tmp_path: Path) -> None:
    found = curve(trained(tmp_path, [3.0, math.nan, 1.0]))
    assert (found.steps, found.done, found.total) == ([1, 2, 3], 3, 8)
    assert found.loss == [3.0, None, 1.0]
    assert found.learning_rate == [0.5, None, 0.5]
    assert found.measures == {"kl": [0.1, 0.1, 0.1]}
    assert (found.least, found.most) == (1.0, 3.0)


def test_a_long_curve_is_thinned_but_keeps_its_spikes_and_its_end(tmp_path: Path) -> None:
    losses = [2.0] * 5000
    losses[1234], losses[4321], losses[-1] = 9.0, math.nan, 0.25
    found = curve(trained(tmp_path, losses))
    assert len(found.steps) == 1000 and found.done == 5000
    assert found.loss[found.steps.index(1235)] == 9.0
    assert found.loss[found.steps.index(4322)] is None
    assert (found.steps[-1], found.loss[-1]) == (5000, 0.25)
    assert found.steps == sorted(found.steps)
    assert len(found.plain.steps) == PLAIN
    assert 9.0 in found.plain.loss and found.plain.loss[-1] == 0.25
