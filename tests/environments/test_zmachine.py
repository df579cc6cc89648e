"""A game of the Z-machine has a process of its own: it cannot end the program, write a file, or outlive its close."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from environments import EnvironmentsError, zmachine
from environments.errors import EnvironmentDied, EnvironmentHung
from environments.zmachine import Heard, Story

pytestmark = pytest.mark.skipif(
    zmachine.why_not() is not None, reason="jericho, which plays Z-machine games and is compiled, is not installed"
)

CODE = 0x60
NOTHING = b"\xb4"
READ = bytes((0xE4, 0x1F, 0x02, 0x40, 0x00, 0xFF))  # a line, into 0x240
SAVE = bytes((0xBE, 0x00, 0xFF, 0xFF))
FOREVER = bytes((0x8C, 0xFF, 0xFF))  # a jump to itself
UNKNOWN = bytes((0xBE, 0x7F, 0xFF))


def game(folder: Path, *code: bytes) -> Path:
    """A game of which all is written here: a header, an empty dictionary, and its code."""
    data = bytearray(1024)
    data[0] = 5
    words = {0x04: 0x300, 0x06: CODE, 0x08: 0x2F0, 0x0A: 0x200, 0x0C: 0x180, 0x0E: 0x2F0, 0x18: 0x40, 0x1A: 1024 // 4}
    for place, word in words.items():
        data[place : place + 2] = word.to_bytes(2, "big")
    data[0x2F0:0x2F4] = bytes((0, 6, 0, 0))
    data[0x240] = 80  # the length of a line that is read
    own = b"".join(code)
    data[CODE : CODE + len(own)] = own
    folder.mkdir(exist_ok=True)
    file = folder / "small.z5"
    file.write_bytes(data)
    return file


def process_of(story: Story) -> Any:
    return story._process


def folder_of(story: Story) -> Path:
    return Path(os.readlink(f"/proc/{process_of(story).pid}/cwd"))


def test_what_is_said_is_one_line_of_what_can_be_read(tmp_path: Path) -> None:
    story = Story(game(tmp_path, NOTHING, *[READ] * 12), plain=True)
    for command in ("two\nlines", "ü" * 500, "half \ud800", "", "\x00"):
        assert isinstance(story.say(command), Heard)
    story.close()


def test_a_game_that_saves_itself_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    story = Story(game(tmp_path / "games", NOTHING, READ, SAVE, *[READ] * 4), plain=False)
    folder = folder_of(story)
    story.say("go on")
    assert not folder.exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["games", "small.z5"]
    story.close()


def test_it_has_no_keys_and_can_take_no_limit_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "secret")
    story = Story(game(tmp_path, NOTHING, *[READ] * 4), plain=False)
    process = Path(f"/proc/{process_of(story).pid}")
    given = (process / "environ").read_bytes()
    assert b"PATH=" in given and b"SOME_API_KEY" not in given
    lines = [re.split(r"\s{2,}", line) for line in (process / "limits").read_text().splitlines()]
    limits = {name: (soft, hard) for name, soft, hard, *_ in lines}
    for name in ("Max open files", "Max file size", "Max processes", "Max address space"):
        assert limits[name][0] == limits[name][1] != "unlimited", name
    assert int(limits["Max open files"][1]) < 16
    story.close()


def test_a_game_that_never_stops_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(game(tmp_path, NOTHING, READ, FOREVER), plain=False)
    monkeypatch.setattr(zmachine, "CALL_LIMIT", 0.2)
    with pytest.raises(EnvironmentHung, match=r"small\.z5 did not answer within 0\.2 s; the episode is lost"):
        story.say("go on")
    assert process_of(story).returncode is not None


@pytest.mark.parametrize("code", [UNKNOWN, bytes(0x300 - CODE), b"\xff" * 400], ids=["unknown", "zeros", "ones"])
def test_a_damaged_game_ends_its_own_process_only(code: bytes, tmp_path: Path) -> None:
    with pytest.raises((EnvironmentsError, EnvironmentDied)) as error:  # when it begins, or later
        Story(game(tmp_path, code), plain=False).say("look")
    assert "\n" not in str(error.value)


def test_an_interpreter_that_ends_is_told_and_so_is_every_later_command(tmp_path: Path) -> None:
    story = Story(game(tmp_path, NOTHING, *[READ] * 8), plain=False)
    process_of(story).kill()
    for _ in range(2):
        with pytest.raises(EnvironmentDied, match=r"the interpreter of small\.z5 ended"):
            story.say("look")


def test_its_process_and_its_folder_go_with_it(tmp_path: Path) -> None:
    story = Story(game(tmp_path, NOTHING, READ, FOREVER), plain=False)
    process, folder = process_of(story), folder_of(story)
    story.close()
    story.close()
    assert process.returncode is not None
    assert not folder.exists()
    story = Story(game(tmp_path, NOTHING, READ, FOREVER), plain=False)
    process, folder = process_of(story), folder_of(story)
    del story
    assert process.returncode is not None
    assert not folder.exists()


def test_it_ends_with_the_program_even_in_a_game_that_never_stops(tmp_path: Path) -> None:
    story = Story(game(tmp_path, NOTHING, READ, FOREVER), plain=False)
    process = process_of(story)
    process.stdin.write(b'"go on"\n')
    process.stdin.close()
    assert process.wait(timeout=20) == 0
    story.close()


@pytest.mark.parametrize("code", [FOREVER, NOTHING + READ], ids=["hangs", "waits"])
def test_nothing_is_left_of_it_after_a_program_that_is_killed(
    code: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = tmp_path / "temporary"
    folders.mkdir()
    monkeypatch.setenv("TMPDIR", str(folders))
    file = game(tmp_path, code)
    program = (
        "from environments import zmachine as own; import os, pathlib\n"
        "start = own.subprocess.Popen\n"
        "def started(*given, **more):\n"
        "    process = start(*given, **more); print(process.pid, flush=True); return process\n"
        f"own.subprocess.Popen = started\nown.Story(pathlib.Path({str(file)!r}), plain=False)\n"
        "print('begun', flush=True); input()"
    )
    player = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert player.stdout is not None
    watch = os.pidfd_open(int(player.stdout.readline()))
    if code != FOREVER:
        assert player.stdout.readline() == b"begun\n"
    player.kill()
    player.communicate()
    assert select.select([watch], [], [], 60)[0]
    os.close(watch)
    assert not list(folders.glob("agentlab-game-*"))


def test_what_is_no_command_ends_its_process(tmp_path: Path) -> None:
    story = Story(game(tmp_path, NOTHING, READ), plain=False)
    process = process_of(story)
    process.stdin.write(b"no JSON\n")
    assert process.wait(timeout=20) == 1
    story.close()
