"""The other end of `zmachine`: one game in a process of its own, which can neither open nor write a file.

It is run by its path, in a folder of its own that it removes, and imports nothing of ours. A line of standard input is
a command, as JSON; a line of standard output is what came of it. It ends when its input does.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import queue
import resource
import sys
import threading
import warnings
from typing import Any

import jericho

SEED = 1  # of the game's lots; 0 would be the time
MEMORY = 4 << 30  # bytes of addresses, most of which nothing is in


def forbid_files(but: int) -> None:
    """From here on no file can be written, and no more than `but` be open at a time. It cannot be taken back."""
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + but, free + but))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def forbid_more() -> None:
    """From here on it takes no more memory than any game needs, and begins no other process."""
    for what, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_NPROC, 0)):
        with contextlib.suppress(ValueError, OSError):  # not every system knows both
            resource.setrlimit(what, (most, most))


def remove(file: str) -> None:
    """Remove the game and its folder, which nobody needs once it has been read."""
    with contextlib.suppress(OSError):
        os.unlink(file)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(file))


class Game(jericho.FrotzEnv):
    """A game whose introduction, too, is told when no file can be written any more.

    Attributes:
        commands: what comes in.
    """

    def __init__(self, file: str) -> None:
        self.commands: queue.SimpleQueue[str] = queue.SimpleQueue()
        super().__init__(file, SEED)

    def load(self, story_file: str, seed: int | None = None) -> None:
        # The library is loaded by now; the game itself is still to be read.
        threading.Thread(target=read, args=(self.commands, os.path.abspath(story_file)), daemon=True).start()
        forbid_more()
        forbid_files(but=1)
        super().load(story_file, seed)


def heard(game: Game, text: str, ask: bool) -> dict[str, Any]:
    """What the game said, and where it stands as far as that can be known."""
    said: dict[str, Any] = {"text": text}
    if game.is_fully_supported:  # one of those whose memory jericho knows
        said["points"] = [game.get_score(), game.get_max_score()]
        said["won"], said["lost"] = game.victory(), game.game_over()
    elif ask:
        state = game.get_state()
        said["score"] = game.step("score")[0]
        game.set_state(state)
    return {**said, "broke": game.frotz_lib.halted() > 0}


def read(commands: queue.SimpleQueue[str], file: str) -> None:
    """Pass on what comes in."""
    code = 1
    try:
        for line in sys.stdin:
            commands.put(json.loads(line))
        code = 0
    finally:
        remove(file)
        os._exit(code)  # also in the middle of a game that never stops


def main(file: str, ask: bool) -> None:
    """Play the game of a file; it is asked for its score after each command if it is to be (`ask`)."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the library prints is no answer
    codecs.lookup("cp1252")  # is read from a file when it is first needed, which is when a game speaks
    warnings.simplefilter("ignore")  # that a game is not one of those that jericho knows
    game = Game(file)
    text = game.reset()[0]
    forbid_files(but=0)
    remove(os.path.abspath(file))
    while True:
        out.write(json.dumps(heard(game, text, ask)) + "\n")
        out.flush()
        text = game.step(game.commands.get())[0]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == "ask")
