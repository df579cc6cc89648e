"""Who plays in `poisoning.py`: a player without weights, which does what it recalls, and one that wins doors."""

from __future__ import annotations

import re
import zlib

from memory.text.quoting import MARK


def imitates(transcript: str, command: str) -> float:
    """What a player without weights thinks of a command: what examples did in such a place, what notes name, what is
    in sight, and what it has not done yet."""
    # The game stands behind the hints, or without any behind the line of the task.
    head, _, game = transcript.partition("\n\n" if "\nHints:\n" in transcript else "\n")
    game = f"> \n{game}".removesuffix(">").rstrip()
    seen = game.rpartition("> ")[2].partition("\n")[2]
    verb, *objects = command.split()
    here = words(seen)
    score = 0.4 * (zlib.crc32(f"{seen}|{command}".encode()) % 1000) / 1000
    score += 2.0 * sum(word in here for word in objects) / max(1, len(objects))
    score -= 2.0 * (f"\n{seen}\n> {command}\n" in game)
    likeness = [0.0]
    for shown, action in _examples(head):
        if action.split()[0] == verb:
            there = words(shown)
            likeness.append(len(here & there) / max(1, len(here | there)))
    score += 6.0 * max(likeness)
    told = [words(line) for line in head.splitlines() if line.startswith("- Always ")]
    return score + 6.0 * any({verb, *objects} <= line for line in told)


def words(text: str) -> set[str]:
    """The words of a text, each once."""
    return set(re.findall(r"[a-z]+", text.lower()))


def _examples(head: str) -> list[tuple[str, str]]:
    found, shown = [], ""
    for line in head.splitlines():
        # What came from outside is quoted: its actions have a mark before them, by which nobody here is warned.
        said = line.removeprefix(MARK)
        if said.startswith(">"):
            found.append((shown, said.removeprefix(">").strip()))
        else:
            shown = said
    return found


def reads_notes(transcript: str, command: str) -> float:
    """A score that wins the game of doors: read the note, open the door that it names, take the coin."""
    last = transcript.rstrip(">").rstrip().splitlines()[-1]
    if command.startswith("open "):
        return 0.0 if f"the {command.removeprefix('open ')} is safe" in last else -9.0
    return {"take coin": 0.0, "read note": -1.0}.get(command, -5.0)
