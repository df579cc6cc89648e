"""The other end of `zmachine`: one game in a process of its own, which can neither open nor write a file.

It is run by its path, in a folder of its own, and imports nothing of ours. A line of standard input is a command, as
JSON; a line of standard output is what came of it. It ends when its input does.
"""

from __future__ import annotations

import codecs
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


def forbid_files(but: int) -> None:
    """From here on no file can be written, and no more than `but` be open at a time."""
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + but, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


class Game(jericho.FrotzEnv):
    """A game whose introduction, too, is told when no file can be written any more."""

    def load(self, story_file: str, seed: int | None = None) -> None:
        forbid_files(but=1)  # the library is loaded by now; the game itself is still to be read
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


def read(commands: queue.SimpleQueue[str]) -> None:
    """Pass on what comes in."""
    for line in sys.stdin:
        commands.put(json.loads(line))
    os._exit(0)  # also in the middle of a game that never stops


def main(file: str, ask: bool) -> None:
    """Play the game of a file; it is asked for its score after each command if it is to be (`ask`)."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the library prints is no answer
    codecs.lookup("cp1252")  # is read from a file when it is first needed, which is when a game speaks
    warnings.simplefilter("ignore")  # that a game is not one of those that jericho knows
    game = Game(file, SEED)
    text = game.reset()[0]
    forbid_files(but=0)
    commands: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=read, args=(commands,), daemon=True).start()
    while True:
        out.write(json.dumps(heard(game, text, ask)) + "\n")
        out.flush()
        text = game.step(commands.get())[0]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == "ask")
