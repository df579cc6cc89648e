"""ScienceWorld: its own solutions win, the same actions have the same effects whoever plays beside, a death is told."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from environments import BadParameter, EnvironmentDied, EnvironmentHung, MissingDependency, TextEnv, java, make
from environments import scienceworld as module

# Digests of what a random player was told in one episode of six steps in train, dev and test. They were made with Java
# 17, and again with Java 25, and must be the same on every machine.
KNOWN_EPISODES = {
    "sciworld/boil": ("e90c89d6a49c", "78d593e654e3", "c5837942e80f"),
    "sciworld/chemistry-mix-paint-secondary-color": ("3b670dc1dfda", "e64e331b90b3", "1e19ae5fbc88"),
    "sciworld/power-component": ("6860d940a6c0", "7136f210c848", "1fc7db533a1a"),
}


def play(env: TextEnv, seed: int, split: str = "train", steps: int = 6) -> list[Any]:
    """All that a random player is told in the first steps of an episode."""
    rng = random.Random(seed)
    observation, info = env.reset(seed=seed, options={"split": split})
    told: list[Any] = [(observation, info)]
    for _ in range(steps):
        told.append(env.step(rng.choice(info["admissible_commands"])))
        _, _, terminated, _, info = told[-1]
        if terminated:
            break
    return told


def pid_of(env: Any) -> int:
    return int(env._world._jvm.process.pid)


def gold(kind: str, variation: int, simplifications: str = "easy") -> list[str]:
    """ScienceWorld's own solution of a variation."""
    world = module._World(30.0)
    try:
        world.call("load", kind, variation, simplifications, True)
        return str(world.call("getGoldActionSequence")).strip("[]").split(", ")
    finally:
        world.close()


@pytest.mark.parametrize("name", KNOWN_EPISODES)
def test_games_are_the_same_on_every_machine(name: str) -> None:
    env, digests = make(name), []
    for split in ("train", "dev", "test"):
        told = [[turn[0], turn[-1]["admissible_commands"]] for turn in play(env, 1, split)]
        digests.append(hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12])
    env.close()
    assert tuple(digests) == KNOWN_EPISODES[name]


def test_many_games_at_once_do_not_disturb_each_other() -> None:
    games = [("sciworld/grow-plant", 1), ("sciworld/power-component", 0)]
    alone = {}
    for name, seed in games:
        env = make(name)
        alone[name] = play(env, seed)
        env.close()

    def again(game: tuple[str, int]) -> bool:
        own = make(game[0])
        same = play(own, game[1]) == alone[game[0]]
        own.close()
        return same

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(again, games * 2))


@pytest.mark.parametrize("split", ["train", "dev", "test"])
@pytest.mark.parametrize("kind", ["find-plant", "power-component"])
def test_scienceworlds_own_solution_wins(kind: str, split: Any) -> None:
    env: Any = make(f"sciworld/{kind}")
    _, info = env.reset(seed=1, options={"split": split})
    rewards = info["score"]  # some of a task may be done at the start
    for action in gold(kind, env._variations[split][1]):
        *_, info = (turn := env.step(action))
        rewards += turn[1]
        if info["won"]:
            break
    env.close()
    assert info["won"] and info["score"] == 1.0 and rewards == pytest.approx(1.0)


def test_what_is_done_wrong_loses_and_costs_one() -> None:
    env = make("sciworld/find-plant")
    _, begun = env.reset(seed=0)
    _, reward, terminated, _, info = env.step("focus on air")
    env.close()
    assert terminated and info["lost"] and not info["won"]
    assert info["score"] == 0 and reward == pytest.approx(-1 - begun["score"])


def test_the_hard_world_has_closed_doors_and_no_teleport() -> None:
    easy, hard = make("sciworld/boil"), make("sciworld/boil?easy=0")
    told, info = easy.reset(seed=0)
    plain, harder = hard.reset(seed=0)
    assert "(open)" in told and "(closed)" in plain
    assert any(command.startswith("teleport") for command in info["admissible_commands"])
    assert not any(command.startswith("teleport") for command in harder["admissible_commands"])
    assert "reset task" not in info["admissible_commands"]
    easy.close(), hard.close()


def test_a_shortened_text_keeps_every_name_that_commands_know() -> None:
    long, short = make("sciworld/boil?compact=0"), make("sciworld/boil")
    for env in (long, short):
        env.reset(seed=1)
        env.step("teleport to kitchen")
    whole, _, _, _, info = long.step("look around")
    told = short.step("look around")[0]
    long.close(), short.close()
    assert "\n\t" in whole and "\n" not in told and len(told) < 0.9 * len(whole)
    names = {command.removeprefix("look at ") for command in info["admissible_commands"] if command[:8] == "look at "}
    seen = {name for name in names if re.search(rf"\b{re.escape(name)}\b", whole)} - {"agent", "air"}
    assert len(seen) > 10 and all(name in told for name in seen)


def test_a_world_that_is_killed_ends_its_episode_alone_and_the_next_reset_begins_another() -> None:
    first, second = make("sciworld/boil"), make("sciworld/boil")
    told = first.reset(seed=0)
    second.reset(seed=0)
    os.kill(pid_of(first), signal.SIGKILL)
    with pytest.raises(EnvironmentDied):
        first.step("look around")
    second.step("look around")
    assert first.reset(seed=0) == told
    first.close(), second.close()


def test_a_world_that_hangs_is_told_and_killed() -> None:
    env: Any = make("sciworld/boil")
    env.reset(seed=0)
    pid = pid_of(env)
    os.kill(pid, signal.SIGSTOP)
    for one in (env._world._interface, env._world._chance):
        one._socket.settimeout(0.2)
    with pytest.raises(EnvironmentHung):
        env.step("look around")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    env.close()


def test_a_world_that_nobody_holds_or_closes_ends() -> None:
    program = (
        "from environments import make\n"
        "env = make('sciworld/boil'); env.reset(seed=0); process = env._world._jvm.process\n"
        "del env; import gc; gc.collect()\n"
        "print(process.wait(20), flush=True)\n"
        "env = make('sciworld/boil'); env.reset(seed=0); print(env._world._jvm.process.pid)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    code, pid = run.stdout.split()
    assert code == "-9"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_a_game_that_was_closed_cannot_go_on() -> None:
    env = make("sciworld/boil")
    env.reset(seed=0)
    env.close()
    with pytest.raises(EnvironmentDied, match="closed"):
        env.step("look around")


def test_what_is_missing_and_what_cannot_be_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadParameter, match="easy=2"):
        make("sciworld/boil?easy=2")
    found = importlib.util.find_spec
    monkeypatch.setattr(java, "find_spec", lambda name: None if name == "scienceworld" else found(name))
    assert "pip install scienceworld" in str(module.why_not())
    with pytest.raises(MissingDependency, match="pip install scienceworld"):
        make("sciworld/boil")
