"""One's own game files: found, allotted to folds and played, or refused in a line.

What needs no interpreter is tested everywhere: a `.json` is played by its facts, and a scripted game says what a real
one has said. With jericho, games that TextWorld compiles here are played in their own words.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from environments import (
    BadParameter,
    BadTask,
    EnvironmentDied,
    EnvironmentHung,
    EnvironmentsError,
    MissingDependency,
    Task,
    UnknownEnvironment,
    canonical,
    dispose,
    games,
    make,
    textworld_files,
    zmachine,
)
from environments.check import check
from environments.textworld_cooking import _game as cooking
from environments.textworld_game import textworld
from environments.zmachine import Heard

NAMES = [f"game-{number}" for number in range(40)]
needs_jericho = pytest.mark.skipif(
    zmachine.why_not() is not None, reason="jericho, which plays Z-machine games and is compiled, is not installed"
)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a game that TextWorld has compiled: hunt.z8 and hunt.json."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        made = textworld()
        options = made.GameOptions()
        options.nb_rooms, options.nb_objects, options.quest_length, options.seeds = 3, 6, 3, 2
        options.path = str(folder / "hunt.z8")
        game = made.generator.make_game(options)
        made.generator.compile_game(game, options)
    return folder


@pytest.fixture
def alone(made: Path, tmp_path: Path) -> Path:
    """The game's `.json` without its `.z8`."""
    return Path(shutil.copy(made / "hunt.json", tmp_path))


SOLUTION = ["go south", "take keycard", "unlock box with keycard"]


def walk(env: Any, commands: list[str], seed: int = 0, split: str = "train") -> list[tuple[str, float, bool, Any]]:
    env.start(Task(env=env.env_id, split=split, seed=seed))
    turns = []
    for command in commands:
        observation, _, terminated, _, info = env.step(command)
        turns.append((observation, info["score"], terminated, info))
    return turns


def test_a_json_is_played_by_its_facts_and_won_by_its_quest(alone: Path) -> None:
    env = make(f"tw/{alone}")
    observation, info = env.reset(seed=0)
    assert observation.startswith("You are in the ")
    assert "retrieve the keycard" in info["goal"]
    ends = [(score, over, info["won"]) for _, score, over, info in walk(env, SOLUTION)]
    assert ends == [(0, False, False)] * 2 + [(1, True, True)]


def test_one_file_is_the_same_game_in_every_fold(alone: Path) -> None:
    env = make(f"tw/{alone}")
    assert {split: list(env.seeds(split)) for split in ("train", "dev", "test")} == {
        "train": [0], "dev": [0], "test": [0],
    }  # fmt: skip
    assert len({env.reset(seed=0, options={"split": split})[0] for split in ("train", "dev", "test")}) == 1


def test_a_cooking_game_of_ones_own_tells_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    game = cooking(1, 1, 1, 0, 0, 0, 1, "train", 3)
    file = tmp_path / "meal.json"
    data = game.serialize()
    for _, info in data["infos"]:
        info["synonyms"] = ["thing"]  # as tw-make writes them
    file.write_text(json.dumps(data))
    told = walk(make(f"tw/{file}"), ["examine cookbook"])
    assert told[0][0].startswith("The recipe. Ingredients: ")


def copies(made: Path, folder: Path, names: list[str]) -> None:
    for name in names:
        file = folder / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made / "hunt.json", file)


def allotted(path: Path) -> dict[str, list[str]]:
    found = textworld_files.games_of(path)
    return {split: [file.relative_to(path).as_posix() for file in files] for split, files in found.items()}


@pytest.mark.parametrize("dev", ["dev", "valid"])
def test_folders_of_folds_are_the_folds(dev: str, made: Path, tmp_path: Path) -> None:
    copies(made, tmp_path, ["train/b", "train/deep/a", f"{dev}/c"])
    copies(made, tmp_path, ["lost"])
    assert allotted(tmp_path) == {"train": ["train/b.json", "train/deep/a.json"], "dev": [f"{dev}/c.json"], "test": []}
    env = make(f"tw/{tmp_path}")
    with pytest.raises(BadTask, match="has no game in fold test; put some there, or choose another fold"):
        env.reset(options={"split": "test"})
    with pytest.raises(BadTask, match="has no game in fold test"):
        env.reset(seed=0, options={"split": "test"})


def test_without_such_folders_a_name_belongs_to_one_fold_whatever_else_is_there(made: Path, tmp_path: Path) -> None:
    copies(made, tmp_path, NAMES[:30])
    before = allotted(tmp_path)
    assert sorted(name for names in before.values() for name in names) == sorted(f"{name}.json" for name in NAMES[:30])
    assert len(before["train"]) > len(before["dev"]) > 0 < len(before["test"])
    copies(made, tmp_path, NAMES)
    after = allotted(tmp_path)
    assert all(set(before[split]) <= set(after[split]) for split in before)


def test_a_z8_goes_before_its_json_in_the_same_fold(made: Path, tmp_path: Path) -> None:
    copies(made, tmp_path, NAMES)
    folds = {name: split for split, names in allotted(tmp_path).items() for name in names}
    for name in NAMES:
        (tmp_path / f"{name}.z8").touch()
        (tmp_path / f"{name}.ulx").touch()
    (tmp_path / "package.json").write_text('{"name": "no game"}')
    assert {
        name.replace(".z8", ".json"): split for split, names in allotted(tmp_path).items() for name in names
    } == folds
    assert {Path(name).suffix for names in allotted(tmp_path).values() for name in names} == {".z8"}


def test_what_cannot_be_played_is_told_in_one_line(made: Path, tmp_path: Path) -> None:
    cut = (made / "hunt.z8").read_bytes()[:100_000]
    files = {
        "cut.z8": cut,
        "text.z8": b"hello\n" * 100,
        "empty.z5": b"",
        "huge.z8": b"\x08" + bytes(zmachine.LARGEST),
        "bare.ulx": b"Glul",
        "hunt.ulx": b"Glul",
        "hunt.json": (made / "hunt.json").read_bytes(),
        "package.json": b'{"name": "no game"}',
        "notes.txt": b"",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "nothing").mkdir()
    for name, kind, words in [
        ("cut.z8", EnvironmentsError, "is damaged, it has 100000 of "),
        ("text.z8", EnvironmentsError, "is no game of the Z-machine"),
        ("empty.z5", EnvironmentsError, "is no game of the Z-machine"),
        ("huge.z8", EnvironmentsError, "is no game of the Z-machine"),
        ("bare.ulx", UnknownEnvironment, "no interpreter of .ulx here; make the game as .z8"),
        ("hunt.ulx", UnknownEnvironment, f"no interpreter of .ulx here; name {tmp_path}/hunt.json"),
        ("package.json", UnknownEnvironment, "package.json is no game"),
        ("notes.txt", UnknownEnvironment, "notes.txt is no game"),
        ("nothing", UnknownEnvironment, "there is no game in "),
        ("gone.z8", UnknownEnvironment, "there is no file or folder "),
    ]:
        with pytest.raises(kind) as error:
            make(f"tw/{tmp_path / name}")
        assert words in str(error.value), name
        assert "\n" not in str(error.value)


def damaged(data: dict[str, Any]) -> None:
    data["quests"] = 3


def unknown(data: dict[str, Any]) -> None:
    data["infos"] = []


@pytest.mark.parametrize("change", [damaged, unknown])
def test_a_damaged_json_is_an_error_and_not_a_crash(change: Any, alone: Path) -> None:
    data = json.loads(alone.read_text())
    change(data)
    alone.write_text(json.dumps(data))
    with pytest.raises(EnvironmentsError, match=r"hunt\.json .*is it damaged\?"):
        make(f"tw/{alone}").reset(seed=0)


def test_a_json_that_was_cut_is_an_error_too(alone: Path) -> None:
    text = alone.read_text()
    alone.write_text(text[: text.index('"KB"') + 20])
    with pytest.raises(EnvironmentsError, match=r"hunt\.json is no game of TextWorld .*is it damaged\?"):
        make(f"tw/{alone}").reset(seed=0)


def busy(data: dict[str, Any]) -> None:
    """A rule that TextWorld would look for in all foods, nine times over."""
    conditions = " & ".join(f"$cookable(f{mark * chr(39)})" for mark in range(9))
    data["KB"]["logic"] = data["KB"]["logic"].replace("rules {", f"rules {{ odd/rule :: {conditions} -> raw(f);", 1)


def test_a_game_that_keeps_textworld_busy_for_ever_keeps_no_other_from_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "train"
    folder.mkdir()
    data = cooking(5, 5, 1, 0, 0, 0, 1, "train", 3).serialize()
    (folder / "a.json").write_text(json.dumps(data))
    busy(data)
    (folder / "b.json").write_text(json.dumps(data))
    env: Any = make(f"tw/{tmp_path}")
    env.reset(seed=0)
    child = env._facts.process
    env.answer_limit = 0.5
    with pytest.raises(EnvironmentHung, match="hung"):
        env.reset(seed=1)
    assert make("tw/quest").reset(seed=0)
    dispose(env)
    assert child.returncode is not None


def test_a_game_whose_process_dies_is_told_and_the_next_one_begins(alone: Path) -> None:
    env: Any = make(f"tw/{alone}")
    told = env.reset(seed=0)
    env._facts.process.kill()
    env._facts.process.wait()
    with pytest.raises(EnvironmentDied, match=r"The game died \(exit code -9\); the episode is lost"):
        env.step("look")
    assert env.reset(seed=0) == told
    env.close()


def test_a_json_is_read_once_and_not_at_all_where_a_story_takes_its_place(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies(made, tmp_path, NAMES[:4])
    (tmp_path / "game-0.z8").touch()
    read, whole = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path.name) or whole(path))
    for _ in range(2):
        assert len([name for names in allotted(tmp_path).values() for name in names]) == 4
    assert sorted(read) == ["game-1.json", "game-2.json", "game-3.json"]
    (tmp_path / "game-1.json").write_text('{"name": "no game any more"}')
    assert "game-1.json" not in [name for names in allotted(tmp_path).values() for name in names]


def test_without_an_interpreter_the_remedy_is_told(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmachine, "why_not", lambda: f"jericho is missing; {zmachine.REMEDY}")
    for path in (made / "hunt.z8", made):
        with pytest.raises(MissingDependency, match=r"needs an interpreter; .*pip install --no-deps jericho.*`\.json`"):
            make(f"tw/{path}")


def test_an_id_names_a_path_by_a_slash_an_ending_or_a_folder_that_is_there(
    made: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copies(made, tmp_path / "mine", NAMES)
    assert make("tw/hunt.json").env_id == "tw/hunt.json"
    assert make("tw/mine").seeds("train") == make("tw/mine/").seeds("train") == make("tw/./mine").seeds("train")
    with pytest.raises(UnknownEnvironment, match="did you mean `tw/quest`"):
        make("tw/quests")
    with pytest.raises(UnknownEnvironment, match="no file or folder gone"):
        make("tw/gone.z8")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert make("tw/~/mine").reset(seed=0)


def test_the_limit_of_steps_is_its_parameter(alone: Path) -> None:
    assert canonical(f"tw/{alone}?step_limit=100") == f"tw/{alone}"
    assert games(f"tw/{alone}").parameters["step_limit"].default == 100
    env = make(f"tw/{alone}?step_limit=2")
    env.reset(seed=0)
    assert [env.step("look")[3] for _ in range(2)] == [False, True]
    with pytest.raises(BadParameter, match="did you mean `step_limit`"):
        make(f"tw/{alone}?steplimit=2")


class Scripted:
    """A game that says, one after the other, what a real one has said."""

    def __init__(self, first: str, *then: Heard) -> None:
        self.first = Heard(first)
        self.then = list(then)
        self.asked: list[str] = []
        self.closed = 0

    def say(self, command: str) -> Heard:
        self.asked.append(command)
        return self.then.pop(0)

    def close(self) -> None:
        self.closed += 1


def scripted(monkeypatch: pytest.MonkeyPatch, file: Path, *said: Heard) -> tuple[Any, Scripted]:
    story = Scripted(said[0].text, *said[1:])
    monkeypatch.setattr(zmachine, "why_not", lambda: None)
    monkeypatch.setattr(zmachine, "Story", lambda path, plain: story)
    return make(f"tw/{file}"), story


STATUS = "\n>" + " " * 40 + "-= Bedchamber =-0/2"
TOLD = [
    Heard(
        "$$$ TextWorld $$$\n\nUnlock the box.\n\n-= Cookhouse =-\nYou're now in a cookhouse.\n\n\n\nA way south."
        + STATUS
    ),
    Heard("\n[tracing actions - succeeded]" + STATUS),
    Heard("\n<score>\n0\n</score><moves>\n0\n</moves>" + STATUS),
    Heard(
        "\n[going south]\n\n-= Bedchamber =-\nA keycard is here.\n\n[going south - succeeded]\n\n"
        "<score>\n0\n</score><moves>\n1\n</moves>" + STATUS
    ),
    Heard("\n[dancing - failed]\nThat's not a verb I recognise.\n<score>\n0\n</score><moves>\n1\n</moves>" + STATUS),
    Heard(
        "\n[unlocking the box with the keycard]\nYou unlock it.\n\n<score>\n1\n</score><moves>\n3\n</moves>\n"
        "Your score has just gone up by one point.\n\n\n          *** The End ***\n\n"
        "Would you like to RESTART, RESTORE a saved game, QUIT or UNDO the last command?" + STATUS
    ),
]


def test_a_game_of_textworld_is_told_in_its_own_words(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env, story = scripted(monkeypatch, made / "hunt.z8", *TOLD)
    observation, info = env.reset(seed=0)
    assert observation == "-= Cookhouse =-\nYou're now in a cookhouse.\nA way south."
    assert "retrieve the keycard" in info["goal"]
    assert {"go south", "look", "inventory"} <= {*info["admissible_commands"]}
    observation, _, _, _, info = env.step("go south")
    assert observation == "-= Bedchamber =-\nA keycard is here."
    assert "take keycard" in info["admissible_commands"], "the state follows from what was said"
    observation, _, _, _, told = env.step("dance")
    assert (observation, told["state"]) == ("That's not a verb I recognise.", info["state"])
    observation, reward, over, _, info = env.step("unlock box with keycard")
    assert (reward, over, info["won"], info["score"]) == (1, True, True, 1)
    assert "*** The End ***" in observation and "<" not in observation
    assert story.asked == ["tw-trace-actions", "tw-extra-infos score", "go south", "dance", "unlock box with keycard"]


@pytest.mark.parametrize(
    "command", ["undo", "\u200bundo", "look. restart", "QUIT", "tw-print score", "take lamp then save"]
)
def test_nothing_leads_out_of_a_game(command: str, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env, story = scripted(monkeypatch, made / "hunt.z8", *TOLD)
    env.reset(seed=0)
    asked = list(story.asked)
    assert "is no command here" in env.step(command)[0]
    assert story.asked == asked


def test_what_is_lost_is_lost(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env, _ = scripted(
        monkeypatch, made / "hunt.z8", *TOLD[:3], Heard("You eat it.\n*** You lost! ***\n<score>\n0\n</score>")
    )
    env.reset(seed=0)
    _, _, over, _, info = env.step("eat keycard")
    assert (over, info["won"], info["lost"], info["score"]) == (True, False, True, 0)


INFORM = "You have so far scored {} out of a possible 350, in 3 turns."
INFOCOM = "Your score is {} (total of 350 points), in 3 moves.\nThis gives you the rank of Beginner."
RESTART = "\n\nWould you like to RESTART, RESTORE a saved game or QUIT?\n> "


@pytest.mark.parametrize(
    ("heard", "score", "end"),
    [
        (Heard("Taken.", INFORM.format(35)), 0.1, ""),
        (Heard("Taken.", INFOCOM.format(35)), 0.1, ""),
        (Heard("Taken.", INFORM.format(-10)), 0.0, ""),
        (Heard("3 out of 5 people agree.", "I don't know that verb."), 0.0, ""),
        (Heard("Taken.", points=(7, 10)), 0.7, ""),
        (Heard("Taken.", points=(7, 0)), 0.0, ""),
        (Heard("A lamp *** of brass *** gleams."), 0.0, ""),
        (Heard("*** You have won ***\nYou scored 35 out of a possible 350." + RESTART), 1.0, "won"),
        (Heard("*** You have died ***\nYou scored 35 out of a possible 350." + RESTART), 0.1, "lost"),
        (Heard("*** Peace at last ***" + RESTART, INFORM.format(350)), 1.0, "won"),
        (Heard("*** You've won! ***" + RESTART), 1.0, "won"),
        (Heard("*** Congratulations! You win ***" + RESTART), 1.0, "won"),
        (Heard("*** THE END ***" + RESTART), 1.0, "won"),
        (Heard("*** You did not win ***" + RESTART), 0.0, "lost"),
        (Heard("*** You lose! Nobody will win now ***" + RESTART), 0.0, "lost"),
        (Heard("*** The End of your life ***" + RESTART), 0.0, "lost"),
        (Heard("The dragon bows.", points=(9, 10), won=True), 1.0, "won"),
        (Heard("The dragon bites.", points=(10, 10), lost=True), 1.0, "lost"),
    ],
)
def test_any_other_game_takes_any_text_and_scores_what_it_says(
    heard: Heard, score: float, end: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(shutil.copy(made / "hunt.z8", tmp_path))
    (tmp_path / "hunt.json").write_text('{"title": "made by another program"}')
    env, story = scripted(monkeypatch, file, Heard("A cave.\n\nDark.\n> Cave   Score: 0"), heard)
    observation, info = env.reset(seed=0)
    assert (observation, info["admissible_commands"]) == ("A cave.\nDark.", None)
    assert "as many points" in info["goal"]
    _, _, over, _, info = env.step("take  lamp")
    assert (info["score"], over, info["won"], info["lost"]) == (score, bool(end), end == "won", end == "lost")
    env.close()
    assert story.closed == 1


@needs_jericho
@pytest.mark.parametrize("beside", [True, False], ids=["with its json", "alone"])
def test_a_compiled_game_is_won_by_its_solution(beside: bool, made: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(made / "hunt.z8", tmp_path))
    if beside:
        shutil.copy(made / "hunt.json", tmp_path)
    env = make(f"tw/{file}")
    turns = walk(env, ["score", *SOLUTION])
    assert turns[0][0].startswith("You have so far scored 0 out of a possible 1, in ")
    assert turns[1][0].startswith("-= Bedchamber =-")
    assert [(score, over, info["won"]) for _, score, over, info in turns[2:]] == [(0, False, False), (1, True, True)]
    assert turns[1][3]["admissible_commands"] is None or "take keycard" in turns[1][3]["admissible_commands"]
    env.close()


@needs_jericho
def test_to_be_asked_for_its_score_changes_nothing_in_a_game(made: Path, tmp_path: Path) -> None:
    commands = ["go south", "score", "x box", "again", "take keycard", "score", "inventory", "unlock box with keycard"]
    alone = make(f"tw/{shutil.copy(made / 'hunt.z8', tmp_path)}")
    heard = [observation for observation, *_ in walk(alone, commands)]
    assert heard == [observation for observation, *_ in walk(make(f"tw/{made / 'hunt.z8'}"), commands)]


@needs_jericho
def test_a_folder_of_compiled_games_keeps_the_contract(made: Path, tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        (tmp_path / split).mkdir()
    for name in ("hunt.z8", "hunt.json"):
        shutil.copy(made / name, tmp_path / "train")
    shutil.copy(made / "hunt.z8", tmp_path / "dev" / "free-text.z8")
    shutil.copy(made / "hunt.json", tmp_path / "test")
    report = check(f"tw/{tmp_path}?step_limit=20", episodes=2)
    assert report.ok, str(report)
