from __future__ import annotations

import subprocess
import sys

import gymnasium
import pytest

import environments
from environments import (
    BadParameter,
    EnvironmentsError,
    GymTextEnv,
    Task,
    TextEnv,
    Turn,
    UnknownEnvironment,
    canonical,
    easier,
    environment_ids,
    families,
    games,
    make,
    register,
    registry,
    unregister,
)


class Hello(TextEnv):
    def __init__(self, times: int = 1) -> None:
        super().__init__("own/hello", 3)
        self.times = times

    def begin(self, task: Task) -> Turn:
        return Turn("hello", ["bye"], goal="say bye")

    def act(self, action: str) -> Turn:
        return Turn("bye", ["bye"], 1.0, won=True)


class Plain(gymnasium.Env):
    observation_space = action_space = gymnasium.spaces.Text(100)

    def reset(self, *, seed=None, options=None):
        return "plain", {}

    def step(self, action):
        return "end", 1.0, True, False, {}


@pytest.fixture
def own():
    names: list[str] = []

    def add(name, factory) -> None:
        register(name, factory)
        names.append(name)

    yield add
    for name in names:
        unregister(name)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, environments; print([m for m in ('gymnasium', 'numpy', 'py4j', 'textworld') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_every_public_name_can_be_had_from_the_package() -> None:
    for name in environments.__all__:
        assert getattr(environments, name) is not None
    assert dir(environments) == sorted(environments.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = environments.nothing


def test_an_id_has_one_canonical_form() -> None:
    assert canonical("twx/coin") == "twx/coin"
    assert canonical(" twx/coin?step_limit=30, numLocations=3") == "twx/coin?numLocations=3,step_limit=30"
    assert canonical("twx/coin?numLocations=5,includeDoors=1") == "twx/coin"
    assert canonical("toy/doors", rooms=4) == "toy/doors?rooms=4"
    assert canonical("gym/Some-v0?b=x,a=0.5") == "gym/Some-v0?a=0.5,b=x"
    assert make("toy/doors?rooms=4,colours=3").env_id == "toy/doors?rooms=4"


def test_overrides_win_over_the_parameters_of_the_id() -> None:
    assert make("toy/doors?step_limit=7", step_limit=9).step_limit == 9


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("twx/coins", "twx/coin"),
        ("toy/door", "toy/doors"),
        ("tw/quests", "tw/quest"),
        ("twx/cookingwold", "twx/cookingworld"),
    ],
)
def test_an_unknown_id_is_answered_with_a_suggestion(wrong: str, hint: str) -> None:
    with pytest.raises(UnknownEnvironment, match=f"did you mean `{hint}`"):
        make(wrong)


def test_an_id_that_is_like_none_is_answered_with_all() -> None:
    with pytest.raises(UnknownEnvironment, match=r"known are .*`twx/coin`"):
        canonical("zzz")
    with pytest.raises(UnknownEnvironment):
        make("gym/")


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("twx/coin?numLocation=3", "did you mean `numLocations`"),
        ("twx/coin?numLocations=40", "whole number from 1 to 11"),
        ("twx/coin?numLocations=many", "whole number from 1 to 11"),
        ("twx/coin?numLocations=2.5", "whole number"),
        ("twx/coin?numLocations", "without a value"),
        ("twx/coin?", "without a value"),
        ("twx/coin?numLocations=2,numLocations=3", "twice"),
    ],
)
def test_a_bad_parameter_is_refused_with_what_would_be_right(env_id: str, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        make(env_id)


def test_families_say_what_they_are_and_whether_they_are_available() -> None:
    by_name = {family.name: family for family in families()}
    assert {"toy", "twx", "tw", "gym"} <= set(by_name)
    assert by_name["toy"].available and by_name["toy"].why_not is None
    assert len(by_name["twx"].environment_ids) == 8
    assert all(family.description for family in by_name.values())
    assert set(by_name["tw"].environment_ids) < set(environment_ids())


def test_games_tell_their_parameters() -> None:
    assert games("twx/coin?numLocations=3").parameters["numLocations"].default == 5
    assert games("gym/Some-v0").parameters == {}


def test_ones_own_environment_is_made_by_its_id(own) -> None:
    own("own/hello", Hello)
    env = make("own/hello?times=3")
    assert isinstance(env, Hello) and env.times == 3
    assert env.env_id == canonical("own/hello?times=3") == "own/hello?times=3"
    assert env.start(Task(env=env.env_id, split="train", seed=0))[0] == "hello"
    assert "own/hello" in environment_ids()
    assert families()[-1].environment_ids == ("own/hello",)
    assert games("own/hello").description


def test_what_is_true_or_false_is_a_number_in_an_id_and_what_cannot_stand_there_is_refused(own) -> None:
    assert canonical("toytext/frozenlake", slippery=True) == canonical("toytext/frozenlake?slippery=1")
    for words in ("a,b=c", "", " a"):
        with pytest.raises(BadParameter, match="cannot have"):
            make("toy/doors", rooms=words)


def test_ones_own_gymnasium_environment_is_wrapped(own) -> None:
    own("own/plain", Plain)
    env = make("own/plain")
    assert isinstance(env, GymTextEnv) and env.env_id == "own/plain"


@pytest.mark.parametrize("name", ["hello", "own/", "own/a?b", "own/a:b", "toy/doors", "gym/x"])
def test_ids_that_are_taken_or_malformed_are_refused(name: str) -> None:
    with pytest.raises(EnvironmentsError, match=r"rename it|choose another"):
        register(name, Hello)


def test_gymnasium_makes_ours() -> None:
    env = gymnasium.make("agentlab/toy-doors-v0", rooms=3)
    _, info = env.reset(seed=1)
    assert env.unwrapped.env_id == "toy/doors?rooms=3"
    assert env.step(info["admissible_commands"][0])[0]
    assert registry.make_for_gymnasium(env_id="toy/doors", render_mode=None).env_id == "toy/doors"


def test_gymnasium_finds_ours_by_itself_when_told_the_module() -> None:
    code = "import gymnasium; print(gymnasium.make('environments.registry:agentlab/toy-doors-v0').spec.id)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "agentlab/toy-doors-v0", result.stderr


def test_an_easier_variant_is_halfway_down_in_what_makes_a_game_large_and_the_same_in_the_rest() -> None:
    assert easier("twx/cookingworld?numIngredients=5,step_limit=60,tools=notes") == (
        "twx/cookingworld?numDistractorItems=2,numIngredients=3,step_limit=60,tools=notes"
    )
    assert easier("tw/cooking?go=12,open=1") == "tw/cooking?go=6,open=1,take=0", "there are games of 1, 6, 9, 12 rooms"


@pytest.mark.parametrize("env_id", environment_ids())
def test_a_ladder_of_easier_variants_ends_and_every_one_of_them_is_a_game(env_id) -> None:
    rungs = [env_id]
    while (rung := easier(rungs[-1])) is not None:
        assert rung == canonical(rung) and rung not in rungs
        rungs.append(rung)
    if len(rungs) > 1 and registry._find(env_id)[0].why_not() is None:
        for rung in rungs[1:]:
            env = make(rung)
            assert all(env.start(Task(env=rung, split="train", seed=seed))[0] for seed in range(3))
            env.close()


def test_what_others_made_has_no_easier_variant(own) -> None:
    own("own/hello", Hello)
    assert easier("own/hello?times=3") is None
    with pytest.raises(UnknownEnvironment):
        easier("own/none")
    with pytest.raises(BadParameter):
        easier("twx/coin?numLocations=99")
