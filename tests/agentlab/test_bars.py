from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from agentlab.bars import Bars, Lines, progress, span, visible
from agentlab.cli import output
from agentlab.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_without_a_terminal_there_is_one_line_a_tenth_with_an_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    bars = Lines(clock)
    bars.start("Playing", 100)
    for _ in range(100):
        clock.seconds += 2
        bars.advance("Playing", note="won 3")
    bars.finish("Playing", "42 won")
    bars.say("index\nbuilt again")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 13
    assert lines[0] == "Playing: 0 of 100"
    assert lines[1] == "Playing: 10 of 100, 20 s elapsed, ETA of this stage 3:00 (won 3)"
    assert lines[-2:] == ["Playing: done after 3:20 (42 won)", "index built again"]


def test_what_is_left_is_no_less_than_the_longest_part_so_far(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    bars = Lines(clock)
    bars.start("Gate", 10)
    for seconds in (30, *(0.01 for _ in range(8))):
        clock.seconds += seconds
        bars.advance("Gate")
    clock.seconds += 18
    bars.advance("Gate")
    *_, nine, ten = capsys.readouterr().err.splitlines()
    assert nine == "Gate: 9 of 10, 30 s elapsed, ETA of this stage 30 s", "and not 3 s"
    assert ten == "Gate: 10 of 10, 48 s elapsed", "what is done has nothing left to be told"


def test_stages_that_never_began_are_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Lines()
    bars.advance("x")
    bars.finish("x")
    assert capsys.readouterr().err == ""


def test_a_stage_that_was_stopped_does_not_claim_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Lines(Clock())
    bars.start("Playing", 31)
    bars.advance("Playing", 4)
    bars.finish("Playing")
    assert capsys.readouterr().err.splitlines()[-1] == "Playing: stopped at 4 of 31 after 0 s"


def test_an_empty_stage_divides_by_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Lines(Clock())
    bars.start("Nothing", 0)
    bars.finish("Nothing")
    assert capsys.readouterr().err.splitlines() == ["Nothing: 0 of 0", "Nothing: done after 0 s"]


def test_on_a_terminal_there_are_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setattr("sys.stderr", screen)
    with progress() as bars:
        assert isinstance(bars, Bars)
        bars.say("[b]the index was built again[/b]")
        bars.start("Training", 10)
        bars.advance("Training", 3, "loss 0.5\x1b[2J")
        bars.advance("Training", 7)
        bars.finish("Training", "loss 0.4")
        bars.start("Stopped", 8)
        bars.advance("Stopped", 2)
        bars.finish("Stopped")
        bars.start("Gate", 5)
        bars.start("Gate", 6)
        bars.advance("Gate", 6)
        bars.advance("unknown")
        bars.finish("unknown")
    shown = output.clean(screen.getvalue())
    for part in ("[b]the index was built again[/b]", "Training", "10/10", "loss 0.4", "2/8", "Gate", "6/6"):
        assert part in shown
    assert "\x1b[2J" not in screen.getvalue()


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0 s"), (59.4, "59 s"), (200, "3:20"), (3723, "1:02:03"), (-1, "0 s")]
)
def test_spans_are_written_for_a_person(seconds: float, shown: str) -> None:
    assert span(seconds) == shown


def test_python_draws_in_a_terminal_and_is_silent_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(visible()) is Progress
    monkeypatch.setattr("sys.stderr", Terminal())
    assert isinstance(visible(), Bars)


def test_a_notebook_shows_one_line_a_stage_and_writes_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Shown:
        def update(self, shown: dict[str, str], raw: bool) -> None:
            seen[-1] = shown["text/plain"]

    def display(shown: dict[str, str], raw: bool, display_id: bool) -> Shown:
        seen.append(shown["text/plain"])
        return Shown()

    shell = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    bars = visible()
    for stage in ("Playing", "Gate"):
        bars.start(stage, 2)
        bars.advance(stage, 2)
        bars.finish(stage, "1 won")
    assert [line.partition(" after")[0] for line in seen] == ["Playing: done", "Gate: done"]


def test_a_drawing_ends_with_its_last_stage_or_with_the_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", screen)
    bars = Bars()

    def drawing() -> bool:
        return screen.getvalue().count("\x1b[?25l") > screen.getvalue().count("\x1b[?25h")  # the cursor is hidden

    for _ in range(2):
        bars.start("Round", 2)
        bars.start("Games", 1)
        bars.finish("Games")
        assert drawing(), "the round still goes on"
        bars.finish("Round")
        assert not drawing()
    bars.start("Round", 2)
    bars.close()
    assert not drawing()
