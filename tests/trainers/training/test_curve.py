"""The curve of a job: there while it trains, whole after a kill, and read whatever became of its last line."""

from __future__ import annotations

import json
import math
from pathlib import Path

from trainers.training import Point, read_curve
from trainers.training.curve import NAME, Curve


def points(*steps: int) -> list[Point]:
    return [Point(step=step, steps=9, loss=1 / step, learning_rate=0.1, measures={"kl": 0.5}) for step in steps]


def written(folder: Path, *steps: int) -> Curve:
    curve = Curve(folder)
    curve.begin(after=0)
    for point in points(*steps):
        curve.add(point)
    return curve


def test_each_step_can_be_read_as_soon_as_it_is_done(tmp_path: Path) -> None:
    curve = written(tmp_path, 1, 2)
    assert read_curve(tmp_path) == points(1, 2)
    curve.add(*points(3))
    assert read_curve(tmp_path) == points(1, 2, 3)


def test_a_torn_line_costs_that_step_alone_and_training_goes_on_behind_its_checkpoint(tmp_path: Path) -> None:
    curve = written(tmp_path, 1, 2, 3, 4)
    with curve.path.open("ab") as stream:
        stream.write(b'{"step": 5, "ste')
    assert read_curve(tmp_path) == points(1, 2, 3, 4)
    again = Curve(tmp_path)
    again.begin(after=2)
    assert read_curve(tmp_path) == points(1, 2)
    again.add(*points(3))
    assert read_curve(tmp_path) == points(1, 2, 3)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_loss_that_is_no_number_is_kept_as_such(tmp_path: Path) -> None:
    curve = written(tmp_path)
    curve.add(Point(step=1, steps=9, loss=math.nan))
    assert math.isnan(read_curve(tmp_path)[0].loss)


def test_a_job_that_an_earlier_version_finished_has_the_losses_of_its_report(tmp_path: Path) -> None:
    assert read_curve(tmp_path) == []
    (tmp_path / "report.json").write_text(json.dumps({"losses": [3.0, 2.0]}))
    assert [(point.step, point.steps, point.loss) for point in read_curve(tmp_path)] == [(1, 2, 3.0), (2, 2, 2.0)]
    for damaged in ("", "[]", '{"losses": ["x"]}', '{"losses": 3}'):
        (tmp_path / "report.json").write_text(damaged)
        assert read_curve(tmp_path) == []


def test_bytes_that_are_no_points_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(
        b'\xff\xfe\n[1]\n{"step": "x"}\nnull\n' + b"9" * 5000 + b'\n{"step":1,"steps":2,"loss":0.5}'
    )
    assert [point.loss for point in read_curve(tmp_path)] == [0.5]
