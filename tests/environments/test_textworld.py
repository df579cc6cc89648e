from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from environments import BadParameter, MissingDependency, make
from environments import textworld as module
from environments.check import check

# Solutions that TextWorld itself gives for these seeds.
SOLUTIONS = {
    0: ["open locker", "take pair of headphones from locker", "drop pair of headphones"],
    1: ["go south", "go east", "close coffer"],
    2: ["go south", "take keycard", "unlock box with keycard"],
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module._game.cache_clear()
    module._treasure.cache_clear()
    return tmp_path / "agentlab" / "textworld"


@pytest.mark.parametrize("seed", SOLUTIONS)
def test_the_solution_wins(seed: int) -> None:
    env = make("tw/quest")
    env.reset(seed=seed)
    ends = []
    for action in SOLUTIONS[seed]:
        _, reward, terminated, _, info = env.step(action)
        ends.append((reward, terminated, info["won"], info["score"]))
    assert ends == [(0, False, False, 0)] * 2 + [(1, True, True, 1)]


def test_the_text_tells_what_can_be_seen_and_done() -> None:
    env = make("tw/quest")
    observation, info = env.reset(seed=0)
    assert observation == "You are in the cellar. You see a key, a closed locker. Exits: west."
    assert info["state"] == f"{observation}\nInventory: a mop.\nScore: 0.00"
    assert "open the locker" in info["goal"]
    told = [env.step(action)[0] for action in ("open locker", "inventory", "examine key", "dance", "go west", "look")]
    assert told == [
        "You open locker. You see an open locker (a pair of headphones).",
        "Inventory: a mop.",
        "You see nothing special about the key.",
        "You can't do that.",
        "You are in the shower. Exits: north, east.",
        "You are in the shower. Exits: north, east.",
    ]


def test_doors_are_seen_at_the_exits() -> None:
    observation, _ = make("tw/quest?nb_rooms=6,nb_objects=12,quest_length=4").reset(seed=2)
    assert observation.endswith("Exits: east (a closed portal), south.")


def test_at_the_step_limit_a_quest_ends_without_a_win() -> None:
    env = make("tw/quest?step_limit=2")
    env.reset(seed=0)
    env.step("look")
    *_, truncated, info = env.step("look")
    assert truncated and not info["won"]


def test_a_game_is_the_same_from_the_generator_and_from_the_cache(cache) -> None:
    env = make("tw/quest")
    generated = env.reset(seed=5)
    (file,) = cache.iterdir()
    assert file.name.endswith("-3-6-3-5.json")
    module._game.cache_clear()
    assert env.reset(seed=5) == generated


def test_a_spoilt_file_in_the_cache_is_made_anew(cache) -> None:
    env = make("tw/quest")
    generated = env.reset(seed=5)
    (file,) = cache.iterdir()
    file.write_text("{")
    module._game.cache_clear()
    assert env.reset(seed=5) == generated
    assert len(file.read_text()) > 1000


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert make("tw/quest").reset(seed=6)[0]


def test_folds_have_other_games() -> None:
    env = make("tw/quest")
    assert len({env.reset(seed=0, options={"split": split})[1]["goal"] for split in ("train", "dev", "test")}) == 3


def test_a_quest_that_cannot_be_made_is_a_clear_error(monkeypatch) -> None:
    def fail(*shape: int) -> None:
        raise RuntimeError("no such\nquest")

    monkeypatch.setattr(module, "_game", fail)
    with pytest.raises(BadParameter, match="cannot make tw/quest:train:0; no such quest; change the parameters"):
        make("tw/quest").reset(seed=0)


@pytest.mark.parametrize("level", [1, 10, 14])
def test_textworlds_own_way_to_a_treasure_wins(level: int, capfd) -> None:
    env = make(f"tw/treasure?level={level}")
    _, info = env.reset(seed=1)
    way = env._game.metadata["walkthrough"]
    for action in way:
        *_, info = env.step(action)
    assert info["won"] and info["score"] == 1.0
    assert way[-1].split()[1] in info["goal"] and "Warning" not in capfd.readouterr().err


def test_the_wrong_object_loses_a_treasure_hunt() -> None:
    env, lost = make("tw/treasure?level=10"), 0
    for seed in range(6):
        _, info = env.reset(seed=seed)
        wanted = env._game.metadata["walkthrough"][-1]
        wrong = [one for one in info["admissible_commands"] if one.startswith("take ") and one != wanted]
        for action in wrong[:1]:
            *_, info = env.step(action)
            assert info["lost"] and not info["won"] and info["score"] == 0
            lost += 1
    assert lost


def test_treasure_hunts_keep_the_contract() -> None:
    report = check("tw/treasure?level=5", starts=4, episodes=2)
    assert report.ok, str(report)


def test_without_textworld_the_remedy_is_told(monkeypatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "textworld" else found(name))
    with pytest.raises(MissingDependency, match="pip install --no-deps textworld"):
        make("tw/quest")


def test_the_game_does_not_depend_on_the_hash_seed_of_the_process(tmp_path) -> None:
    code = "from environments import make; print(make('tw/quest').reset(seed=9))"
    told = set()
    for seed in ("1", "2"):
        settings = {"PYTHONHASHSEED": seed, "XDG_CACHE_HOME": str(tmp_path / seed), "PYTHONPATH": ".", "PATH": ""}
        result = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=True)
        told.add(result.stdout)
    assert len(told) == 1


def test_the_empty_jericho_does_not_stay() -> None:
    make("tw/quest").reset(seed=0)
    assert importlib.util.find_spec("jericho") is not None or "jericho" not in sys.modules
