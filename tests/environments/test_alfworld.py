"""ALFWorld: problems in its own format are played by its own logic, in its own words. Its games are a download."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import select
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from environments import EnvironmentDied, EnvironmentsError, MissingDependency, make
from environments import alfworld as module
from environments.alfworld_planner import named, validate_expression
from environments.check import check

HERE = all(importlib.util.find_spec(name) for name in ("alfworld", "fast_downward", "textworld"))
needs = pytest.mark.skipif(not HERE, reason="alfworld (its domain and grammar) or fast_downward is not installed")

CLOSED = ("Cabinet", "Fridge", "Drawer", "Microwave")


def mangled(kind: str, number: int) -> str:
    """A name as ALFWorld writes it for the planner."""
    return f"{kind}_bar__minus_00_dot_{number:02}_bar__plus_01_dot_00_bar__plus_02_dot_50"


def problem(furniture: dict[str, str], things: dict[str, str], goal: str) -> str:
    """A room: its furniture by id with its type, where each thing lies, and what is to be done."""
    kinds = sorted({*furniture.values()})
    types = sorted({name.partition("_bar_")[0] for name in things})
    facts = ["(= (total-cost) 0)", "(atLocation agent1 loc_0)"]
    for place, (name, kind) in enumerate(furniture.items(), 1):
        facts += [f"(receptacleAtLocation {name} loc_{place})", f"(receptacleType {name} {kind}Type)"]
        facts += [f"(openable {name})"] if kind in CLOSED else []
    places = {name: place for place, name in enumerate(furniture, 1)}
    for thing, where in things.items():
        kind = thing.partition("_bar_")[0]
        facts += [f"(inReceptacle {thing} {where})", f"(objectAtLocation {thing} loc_{places[where]})"]
        facts += [f"(objectType {thing} {kind}Type)", f"(pickupable {thing})", f"(cleanable {thing})"]
        facts += [f"(heatable {thing})", f"(coolable {thing})"]
    facts += [f"(canContain {kind}Type {thing}Type)" for kind in kinds for thing in types]
    objects = [
        "agent1 - agent",
        *(f"loc_{place} - location" for place in range(len(furniture) + 1)),
        *(f"{name} - receptacle" for name in furniture),
        *(f"{name} - object" for name in things),
        *(f"{kind}Type - rtype" for kind in kinds),
        *(f"{kind}Type - otype" for kind in types),
    ]
    joined = {name: "\n    ".join(lines) for name, lines in (("objects", objects), ("init", facts))}
    return (
        f"(define (problem plan)\n  (:domain alfred)\n  (:objects\n    {joined['objects']})\n"
        f"  (:init\n    {joined['init']})\n  (:goal {goal})\n  (:metric minimize (total-cost)))\n"
    )


def put(thing: str, kind: str, ready: str = "") -> str:
    state = f"({ready} ?o) " if ready else ""
    return (
        f"(exists (?r - receptacle ?o - object) (and {state}(inReceptacle ?o ?r) (objectType ?o {thing}Type) "
        f"(receptacleType ?r {kind}Type)))"
    )


def written(folder: Path, split: str, task: str, number: int, words: str, text: str, *, solvable: bool = True) -> None:
    """A game file as ALFWorld has them."""
    data = Path(str(importlib.util.find_spec("alfworld").submodule_search_locations[0])) / "data"  # type: ignore
    grammar = (data / "alfred.twl2").read_text().replace("UNKNOWN GOAL", words)
    trial = folder / "json_2.1.1" / split / f"{task}-Mug-None-Cabinet-{number}" / f"trial_T{number:05}"
    trial.mkdir(parents=True)
    game = {"pddl_domain": (data / "alfred.pddl").read_text(), "grammar": grammar, "pddl_problem": text}
    (trial / "game.tw-pddl").write_text(json.dumps({**game, "solvable": solvable, "walkthrough": None}))
    (trial / "traj_data.json").write_text(json.dumps({"task_type": task}))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A handful of games: two kinds of tasks in each fold, one that cannot be solved, one file that was cut."""
    cabinets = {mangled("Cabinet", number): "Cabinet" for number in (1, 2, 3)}
    for number, split in enumerate(("train", "valid_seen", "valid_unseen")):
        counters = {mangled("CounterTop", one): "CounterTop" for one in range(number + 1)}
        sink = {f"Sink_bar__plus_01_bar__plus_0{number}_bar_SinkBasin": "SinkBasin"}
        room = {**cabinets, **counters, **sink}
        things = {mangled("Mug", 1): next(iter(counters)), mangled("Mug", 2): mangled("Cabinet", 2)}
        simple = problem(
            room, things, put("Mug", "Cabinet").replace("(and ", f"(and (not (= ?r {mangled('Cabinet', 2)})) ")
        )
        written(tmp_path, split, "pick_and_place_simple", 1, "put a mug in cabinet", simple)
        clean = problem(room, things, put("Mug", "CounterTop", "isClean"))
        written(tmp_path, split, "pick_clean_then_place_in_recep", 2, "put a clean mug in countertop", clean)
        written(tmp_path, split, "pick_clean_then_place_in_recep", 3, "put it", clean, solvable=False)
    cut = tmp_path / "json_2.1.1" / "train" / "pick_and_place_simple-Mug-None-Cabinet-9" / "trial_T9"
    cut.mkdir(parents=True)
    (cut / "game.tw-pddl").write_text('{"pddl_dom')
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    module._games.cache_clear()
    return tmp_path


@needs
def test_a_game_is_told_in_alfworlds_words_and_won_by_its_rules(data: Path) -> None:
    env = make("alfworld/pick_clean_then_place_in_recep")
    told, info = env.reset(seed=0)
    assert told.startswith("You are in the middle of a room. Looking quickly around you, you see")
    assert info["goal"] == "Your task is to: put a clean mug in countertop."
    assert "a sinkbasin 1" in told and "a cabinet 3" in told and not info["won"]

    def do(command: str) -> Any:
        assert command in info["admissible_commands"]
        return env.step(command)

    told, *_, info = do("go to countertop 1")
    assert told.startswith("You arrive at countertop 1. On the countertop 1, you see a mug")
    mug = next(one for one in info["admissible_commands"] if one.startswith("take mug")).split(" from")[0][5:]
    told, *_, info = do(f"take {mug} from countertop 1")
    assert told == f"You pick up the {mug} from the countertop 1." and f"a {mug}" in info["state"]
    told, *_, info = do("go to sinkbasin 1")
    told, *_, info = do(f"clean {mug} with sinkbasin 1")
    told, *_, info = do("go to countertop 1")
    told, reward, terminated, _, info = do(f"move {mug} to countertop 1")
    assert (reward, terminated, info["won"], info["score"]) == (1.0, True, True, 1.0)
    env.close()


@needs
def test_folds_are_alfworlds_own_and_hold_only_what_can_be_solved(data: Path) -> None:
    counts = {
        name: [len(make(f"alfworld/{name}").seeds(split)) for split in ("train", "dev", "test")]
        for name in ("pick_and_place_simple", "pick_clean_then_place_in_recep", "any", "look_at_obj_in_light")
    }
    assert counts["pick_and_place_simple"] == counts["pick_clean_then_place_in_recep"] == [1, 1, 1]
    assert counts["any"] == [2, 2, 2] and counts["look_at_obj_in_light"] == [0, 0, 0]
    seen = {
        make("alfworld/any").reset(seed=seed, options={"split": split})[0]
        for seed in (0, 1)
        for split in ("dev", "test")
    }
    assert len(seen) == 2  # one room a fold


@needs
def test_what_cannot_be_done_is_answered_and_two_games_do_not_disturb_each_other(data: Path) -> None:
    first, second = make("alfworld/any"), make("alfworld/any")
    told, info = first.reset(seed=0)
    second.reset(seed=1)
    second.step("go to cabinet 2")
    assert first.step("sing")[0] == "Nothing happens."
    assert first.step("look")[4]["state"] == info["state"] and first.reset(seed=0)[0] == told


def play(env: Any, seed: int) -> list[Any]:
    """What a random player is told in the first steps."""
    rng = random.Random(seed)
    told: list[Any] = [env.reset(seed=seed)]
    for _ in range(3):
        told.append(env.step(rng.choice(told[-1][-1]["admissible_commands"])))
    return told


@needs
def test_games_at_once_are_those_that_are_played_alone_and_take_nothing_from_the_program(data: Path) -> None:
    output, arguments = sys.stdout, list(sys.argv)
    envs = [make("alfworld/any") for _ in range(2)]
    alone = [play(envs[0], seed) for seed in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            assert list(pool.map(play, envs, (0, 1))) == alone
    assert sys.stdout is output and sys.argv == arguments
    for env in envs:
        env.close()


@needs
def test_a_planner_that_died_between_games_is_replaced_silently_and_one_that_was_closed_plays_no_more(
    data: Path,
) -> None:
    env: Any = make("alfworld/any")
    told = env.reset(seed=0)
    env._planner.process.kill()
    env._planner.process.wait()
    assert env.reset(seed=0) == told
    env.close()
    with pytest.raises(EnvironmentDied, match="closed"):
        env.step("look")
    assert env.reset(seed=0) == told
    env.close()


@needs
def test_a_game_is_the_parents_after_a_fork_and_ends_with_it_alone(data: Path) -> None:
    program = (
        "import os\nfrom environments import EnvironmentDied, make\n"
        "env = make('alfworld/any'); told = env.reset(seed=0)\n"
        "if os.fork() == 0:\n"
        "    try:\n        env.step('look')\n"
        "    except EnvironmentDied as error:\n        print(error, flush=True)\n"
        "    print(env.reset(seed=0) == told, flush=True)\n"
        "    raise SystemExit\n"
        "os.wait(); print(env.step('look')[2], flush=True)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    first, *then = run.stdout.splitlines()
    assert "parent process's" in first and then == ["True", "False"], run.stderr


@needs
@pytest.mark.parametrize("hangs", [False, True])
def test_no_planner_outlives_a_program_that_is_killed(data: Path, hangs: bool) -> None:
    # In the middle of a call it is the planner that kills the program, and then does not answer.
    act = "os.kill(os.getppid(), 9) or time.sleep(600)"
    (data / "hanging.py").write_text(
        f"from environments.alfworld_planner import _Game, play\nimport os, time\n_Game.act = lambda *_: {act}\n"
    )
    program = (
        "from environments import alfworld_planner as own, make\nimport sys\n"
        f"if {hangs}:\n    sys.path.append({str(data)!r}); own.__name__ = 'hanging'\n"
        "env = make('alfworld/any'); env.reset(seed=0)\n"
        "print(env._planner.process.pid, flush=True); input(); env.step('look')"
    )
    player = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert player.stdout is not None
    watch = os.pidfd_open(int(player.stdout.readline()))
    if hangs:
        player.communicate(b"\n")
    else:
        player.kill()
        player.communicate()
    assert player.returncode == -signal.SIGKILL
    assert select.select([watch], [], [], 60)[0]
    os.close(watch)


@needs
@pytest.mark.slow
def test_the_contract_holds(data: Path) -> None:
    report = check("alfworld/any?step_limit=8", episodes=2, starts=2)
    assert report.ok, report


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        module.importlib.util, "find_spec", lambda name: None if name == "fast_downward" else found(name)
    )
    assert "pip install fast-downward-textworld" in str(module.why_not())
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: found("json"))
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    with pytest.raises(MissingDependency, match="ALFWORLD_DATA"):
        make("alfworld/any")


@needs
def test_a_file_that_is_no_game_is_told(data: Path) -> None:
    file = next((data / "json_2.1.1" / "train").rglob("*simple*1/*/game.tw-pddl"))
    game = json.loads(file.read_text())
    file.write_text(json.dumps({"solvable": True, "grammar": game["grammar"]}))
    env = make("alfworld/pick_and_place_simple")
    with pytest.raises(EnvironmentsError, match="no game of ALFWorld"):
        env.reset(seed=0)


@needs
@pytest.mark.parametrize("where", ["words", "template", "escaped"])
def test_a_game_cannot_run_what_stands_in_its_grammar(where: str, data: Path, tmp_path: Path) -> None:
    code = "{__import__('os').system('touch " + str(tmp_path / "touched") + "')}"
    file = next((data / "json_2.1.1" / "train").rglob("*simple*1/*/game.tw-pddl"))
    game = json.loads(file.read_text())
    old, new = ("put a mug in", f"put a mug {code} in") if where != "template" else ("open {r}", f"open {code}")
    assert old in game["grammar"]
    game["grammar"] = game["grammar"].replace(old, new.replace("{", "\\u007b") if where == "escaped" else new)
    file.write_text(json.dumps(game))
    with pytest.raises(EnvironmentsError, match=r"no game of ALFWorld .*no expression of a grammar"):
        make("alfworld/pick_and_place_simple").reset(seed=0)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("text", ["o", " r.name ", "r.name or r.id", "o2.indefinite + ' ' + o2.name"])
def test_an_expression_of_a_grammar_names_things(text: str) -> None:
    assert validate_expression(text) == text


@pytest.mark.parametrize("text", ["f()", "o.__class__", "__loader__", "f'{o}'", "o[0]", "'a' * 9", "9", "", "(" * 999])
def test_any_other_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no expression of a grammar"):
        validate_expression(text)


@needs
def test_a_games_process_gets_no_keys(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "secret")
    env: Any = make("alfworld/any")
    env.reset(seed=0)
    given = Path(f"/proc/{env._planner.process.pid}/environ").read_bytes()
    assert b"PATH=" in given and b"SOME_API_KEY" not in given
    env.close()


def test_things_are_numbered_as_alfworld_numbers_them() -> None:
    mugs = [mangled("mug", 1), mangled("mug", 2)]
    basin = "sink_bar__plus_01_bar_sinkbasin"
    names = named([*mugs, basin, "agent1"])
    assert [names[mug] for mug in mugs] == ["mug 2", "mug 1"]
    assert (names[basin], names["agent1"]) == ("sinkbasin 1", "agent1 ")


def test_files_that_are_no_problems_are_left_out(tmp_path: Path) -> None:
    for number, said in enumerate(("[" * 100_000, "null", "\x00", '{"solvable": true}')):
        folder = tmp_path / f"pick_and_place_simple-{number}" / "trial"
        folder.mkdir(parents=True)
        (folder / "game.tw-pddl").write_text(said)
    (tmp_path / "pick_and_place_simple-9" / "trial" / "game.tw-pddl").mkdir(parents=True)
    (tmp_path / "pick_and_place_simple-8" / "trial").mkdir(parents=True)
    (tmp_path / "pick_and_place_simple-8" / "trial" / "game.tw-pddl").symlink_to("nowhere")
    assert [file.parents[1].name for file in module._games(tmp_path, "any")] == ["pick_and_place_simple-3"]
