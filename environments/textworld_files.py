"""One's own game files, by a file or by a folder of them: `tw/games/hunt.z8`, `tw/games/`.

A `.z8` (or `.z3`, `.z5`) is played by an interpreter, in its own words. With the `.json` that TextWorld's `tw-make`
puts beside it, it has commands, a goal and points as TextWorld knows them; without, it takes any text, and its points
are what it says of them. A `.json` is played without an interpreter, in the words of the generated games.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG

from environments import zmachine
from environments.base import SPLITS, Split, Task, TextEnv, Turn
from environments.child import Told
from environments.errors import EnvironmentsError, MissingDependency, UnknownEnvironment
from environments.folds import belongs
from environments.parameters import Game, Parameter
from environments.textworld_facts import Facts
from environments.textworld_game import why_not
from environments.worker import format_error

GAME = Game(
    "a game of one's own: a file (.z8, .json), or the games of a folder",
    {"step_limit": Parameter(100, 1, 10_000, "the number of actions an episode may have")},
)
_PREFIX = "tw/"
_LARGEST = 1 << 26  # bytes of a `.json`; those of large games have a tenth of a million
_STORY = re.compile(r"\.z[1-8]", re.IGNORECASE)
_FOLDERS: dict[Split, tuple[str, ...]] = {"train": ("train",), "dev": ("dev", "valid"), "test": ("test",)}
_GOAL = "Play the game to a good end, with as many points as it gives."
# What would leave the game or go back in it, alone or as one of several commands.
_OUTSIDE = ("undo", "restart", "restore", "save", "quit", "q", "script", "transcript")
# What a game of TextWorld says of itself beside its words.
_MARK = re.compile(r"\[[^\[\]]+\]\n?|<(score|moves)>\n.*?</\1>\n?", re.DOTALL)
# What any game says: its end, its points of how many, and last its prompt with the line of its status.
_END = re.compile(r"(?<!\*)\*\*\*\s+(\S[^\n]*?)\s+\*\*\*(?!\*).*restart", re.DOTALL | re.IGNORECASE)
_GOOD = re.compile(r"(?:congratulations\W*)?(?:you(?:'ve| have)? w[io]n|the end)[.!]*", re.IGNORECASE)
_SCORE = re.compile(
    r"(-?\d+)(?: points?)? (?:out )?(?:of|\(total of) (?:an? |the )?(?:possible |maximum |total )*(?:of )?(\d+)"
)
_PROMPT = re.compile(r"(?:\A|\n)>[^\n]*\s*\Z")


class FilesEnv(TextEnv):
    """The game of a file, which is the same in each fold, or the games of a folder.

    A folder may have folders for its folds (`train`, `dev` or `valid`, `test`); else a game's name says where it
    belongs. Of files that differ in their ending only, one is played: `.z8` before `.json`.

    Args:
        env_id: the id under which the registry made it.
        path: the file or the folder.
        step_limit: the number of actions an episode may have.

    Raises:
        UnknownEnvironment: if there is no such file or folder, or no game in it.
        MissingDependency: if TextWorld or the interpreter is absent.
    """

    def __init__(self, env_id: str, path: Path, *, step_limit: int = 100) -> None:
        super().__init__(env_id, step_limit)
        reason = why_not()
        if reason:
            raise MissingDependency(reason)
        self._files = games_of(path)
        stories = [file for files in self._files.values() for file in files if _STORY.fullmatch(file.suffix)]
        missing = zmachine.why_not() if stories else None
        if missing:
            raise MissingDependency(f"{stories[0]} needs an interpreter; {missing}; a `.json` by itself needs none")
        self._game: TextEnv | None = None
        self._facts: Facts | None = None

    def seeds(self, split: Split) -> Sequence[int]:
        return range(len(self._files[split]))

    def begin(self, task: Task) -> Turn:
        self._leave()
        file = self._files[task.split][task.seed]
        try:
            self._game = self._opened(file)
            return self._game.begin(task)
        except EnvironmentsError:
            raise
        except Exception as error:  # what is in a file may fail anywhere
            raise EnvironmentsError(f"{file} cannot be played ({format_error(error)}); is it damaged?") from error

    def act(self, action: str) -> Turn:
        assert self._game  # an episode has begun
        return self._game.act(action)

    def close(self) -> None:
        self._leave()
        facts, self._facts = self._facts, None
        if facts is not None:
            facts.close()

    def _leave(self) -> None:
        game, self._game = self._game, None
        if game is not None:
            game.close()

    def _opened(self, file: Path) -> TextEnv:
        told = _STORY.fullmatch(file.suffix)
        facts = file.with_suffix(".json") if told else file
        if told and not _of_textworld(facts):
            return PlainEnv(self.env_id, self.step_limit, zmachine.Story(file, plain=True))
        if self._facts is None or not self._facts.alive:
            self._facts = Facts()
        if not told:
            return FactsEnv(self.env_id, self.step_limit, self._facts, facts)
        return ToldEnv(self.env_id, self.step_limit, self._facts, facts, zmachine.Story(file, plain=False))


class FactsEnv(TextEnv):
    """A game of TextWorld from its `.json`, told from the facts of its state."""

    def __init__(self, env_id: str, step_limit: int, facts: Facts, file: Path) -> None:
        super().__init__(env_id, step_limit)
        self._facts = facts
        self._file = file

    def begin(self, task: Task) -> Turn:
        return self._first(self._facts.begin(self._file))

    def act(self, action: str) -> Turn:
        return Turn(**self._facts.act(action))

    def _first(self, told: Told) -> Turn:
        turn = Turn(**told)
        return turn._replace(goal=turn.goal or _GOAL)


class ToldEnv(FactsEnv):
    """A game of TextWorld in its own words. The state follows from what it says has happened."""

    def __init__(self, env_id: str, step_limit: int, facts: Facts, file: Path, story: zmachine.Story) -> None:
        super().__init__(env_id, step_limit, facts, file)
        self._story = story
        self._last = Turn("", None)

    def begin(self, task: Task) -> Turn:
        self._last = self._first(self._facts.follow(self._file))
        for command in ("tw-trace-actions", "tw-extra-infos score"):
            self._story.say(command)
        said = self._story.first.text
        _, mark, room = said.partition("-=")  # before it stand a banner and the goal
        return self._last._replace(observation=tidy(mark + room or said))

    def act(self, action: str) -> Turn:
        refused = outside(action)
        if refused:
            return self._last._replace(observation=refused)
        said = self._story.say(action).text
        self._last = Turn(**self._facts.hear(said))
        return self._last._replace(observation=tidy(_MARK.sub("", said)))

    def close(self) -> None:
        self._story.close()


class PlainEnv(TextEnv):
    """Any other game of the Z-machine. It is won where it says so at its end, or has given all its points by then."""

    def __init__(self, env_id: str, step_limit: int, story: zmachine.Story) -> None:
        super().__init__(env_id, step_limit)
        self._story = story
        self._score = 0.0

    def begin(self, task: Task) -> Turn:
        return self._turn(self._story.first)._replace(goal=_GOAL)

    def act(self, action: str) -> Turn:
        refused = outside(action)
        return Turn(refused, None, self._score) if refused else self._turn(self._story.say(action))

    def close(self) -> None:
        self._story.close()

    def _turn(self, heard: zmachine.Heard) -> Turn:
        end = _END.search(heard.text)
        self._score = share(heard, self._score)
        over = bool(end) or heard.won or heard.lost
        good = bool(end and _GOOD.fullmatch(end[1]))
        won = over and not heard.lost and (heard.won or good or self._score == 1.0)
        return Turn(tidy(heard.text), None, 1.0 if won else self._score, won, over and not won)


def share(heard: zmachine.Heard, before: float) -> float:
    """The share of a game's points, from what it says; as it was `before` where it says nothing."""
    points = heard.points
    if points is None:
        end = _END.search(heard.text)
        said = _SCORE.search(heard.score) or (_SCORE.search(heard.text, end.start()) if end else None)
        points = (int(said[1]), int(said[2])) if said else None
    if points is None or points[1] <= 0:
        return before
    return min(1.0, max(0.0, points[0] / points[1]))


def tidy(text: str) -> str:
    """What a game said, without its prompt, the line of its status and empty lines."""
    lines = (line.strip() for line in _PROMPT.sub("", text).splitlines())
    return "\n".join(line for line in lines if line) or "Nothing is said."


def outside(action: str) -> str:
    """What is said to a command that is none of the game; empty to any other."""
    for one in re.split(r"[.,;]|\bthen\b", zmachine.readable(action).lower()):
        if one.strip() in _OUTSIDE or one.strip().startswith("tw-"):
            return f"`{one.strip()}` is no command here: an episode is one game from its beginning on."
    return ""


def games_of(path: Path) -> dict[Split, tuple[Path, ...]]:
    """The games of each fold, in the order of their seeds.

    Raises:
        UnknownEnvironment: if there are none.
    """
    if path.is_dir():
        folders = {split: [path / name for name in names] for split, names in _FOLDERS.items()}
        if any(folder.is_dir() for some in folders.values() for folder in some):
            games = {split: tuple(game for one in some for game in _within(one)) for split, some in folders.items()}
        else:
            found = _within(path)
            names = {game: game.relative_to(path).with_suffix("").as_posix() for game in found}
            games = {split: tuple(game for game in found if belongs(names[game], split)) for split in SPLITS}
        if not any(games.values()):
            raise UnknownEnvironment(
                f"there is no game in {path}; games are files like hunt.z8 or hunt.json; put some there"
            )
        return games
    if not path.is_file():
        raise UnknownEnvironment(f"there is no file or folder {path}; name one with games, like `tw/games/hunt.z8`")
    if path.suffix.lower() == ".ulx":
        beside = path.with_suffix(".json")
        instead = f"name {beside}" if _of_textworld(beside) else "make the game as .z8"
        raise UnknownEnvironment(f"{path} cannot be played; there is no interpreter of .ulx here; {instead}")
    if _STORY.fullmatch(path.suffix):
        zmachine.check(path)
    elif not _of_textworld(path):
        raise UnknownEnvironment(
            f"{path} is no game; games are .z3 to .z8, and .json that TextWorld has made; name one"
        )
    return dict.fromkeys(SPLITS, (path,))


def _within(folder: Path) -> tuple[Path, ...]:
    files = sorted(folder.rglob("*"))
    stories = {file.with_suffix("") for file in files if _STORY.fullmatch(file.suffix)}
    games: dict[Path, Path] = {}
    for file in files:
        name = file.with_suffix("")
        if _STORY.fullmatch(file.suffix) or (name not in stories and _of_textworld(file)):
            games[name] = file
    return tuple(games.values())


def _of_textworld(file: Path) -> bool:
    """Whether a file looks like what TextWorld writes of a game."""
    try:
        about = file.stat()
    except OSError:
        return False
    if file.suffix != ".json" or not S_ISREG(about.st_mode) or about.st_size > _LARGEST:
        return False
    return _looks_like_a_game(file.absolute(), about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=4096)
def _looks_like_a_game(file: Path, changed: int, size: int) -> bool:
    """Whether it did when it was last `changed`; a folder of large files would take long to be read each time."""
    try:
        data = file.read_bytes()
    except OSError:
        return False
    return b'"KB"' in data and b'"quests"' in data


def takes(name: str) -> bool:
    """Whether an id names a file or a folder: it has a slash or the ending of a game, or there is such a folder."""
    path = Path(name.removeprefix(_PREFIX))
    return (
        "/" in name.removeprefix(_PREFIX)
        or path.suffix in (".json", ".ulx")
        or bool(_STORY.fullmatch(path.suffix))
        or path.is_dir()
    )


def make(name: str, parameters: Mapping[str, int]) -> TextEnv:
    """The environment `tw/<a file or a folder>` with all its `parameters`."""
    path = Path(name.removeprefix(_PREFIX)).expanduser()
    return FilesEnv(GAME.canonical(name, parameters), path, step_limit=parameters["step_limit"])
