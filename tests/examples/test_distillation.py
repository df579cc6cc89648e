from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agentlab import Lab, LabConfig, RoundConfig
from agentlab.errors import BadConfig
from agentlab.progress import Progress
from agentlab.rounds.checking import hopeless
from environments.errors import UnknownEnvironment
from memory.store import EpisodeFilter

FOLDER = Path(__file__).parents[2] / "examples"
CONFIG = """
games = ["toy/doors?colours=2,rooms=1,step_limit=4", "toy/doors?colours=3,rooms=1,step_limit=5"]
rounds = 1
explored_seeds = 4
explored_steps = 60
test_seeds = 3
against = "rest-em"
lab = {{ model = "{model}", embedder = "hashing", dtype = "float32", threads = 1, context = 512 }}
two_by_two = {{ arm = "context", games = ["toy/doors?colours=2,rooms=1,step_limit=4"] }}

[round]
collect = "none"
seeds = 3
gate_seeds = 2
held_out_seeds = 2
monitor = {{ tasks = 2, k = 2, examples = 4 }}
gate = {{ min_pairs = 1, alpha = 0.9, sequential = false }}
training = {{ epochs = 1 }}

[arms.rest-em]
label = "ReST-EM"
[arms.context]
label = "context distillation"
round = {{ collect = "model", memory = "all", learn_from = "recalled", model_trials = 8, temperature = 3.0 }}
[arms.step-dpo]
label = "step-DPO"
[arms.step-dpo.round]
collect = "mcts"
first_seed = 0
search = {{ budget = {{ steps = 60 }}, settings = {{ wins = 3 }} }}
training = {{ objective = "step_dpo", learning_rate = 1e-4 }}
[arms.hopeless]
label = "hopeless"
round = {{ learn_from = "recalled" }}
"""


@pytest.fixture(scope="module")
def script(example: Callable[[str], ModuleType]) -> ModuleType:
    return example("distillation")


@pytest.fixture
def given(tmp_path: Path, tiny_model: Path) -> list[str]:
    """Options of a comparison on the toy game."""
    config = tmp_path / "distillation.toml"
    config.write_text(CONFIG.format(model=tiny_model))
    return ["--config", str(config), "--folder", str(tmp_path / "labs"), "--output", str(tmp_path / "table.md")]


def test_all_arms_learn_from_the_same_exploration_and_end_in_one_table(
    script: ModuleType, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labs = tmp_path / "labs"
    script.main([*given, "--only", "explored"])
    script.main([*given, "--only", "rest-em"])
    assert not (tmp_path / "table.md").exists(), "one arm makes no table"
    script.main([*given, "--table"])
    assert "Not measured yet: base, context distillation, step-DPO, hopeless." in (tmp_path / "table.md").read_text()
    script.main(given)
    text = (tmp_path / "table.md").read_text()
    assert "Not measured yet: hopeless." in text
    assert "python examples/distillation.py --config" in text

    explored: set[str] = set()
    for name in ("explored", "base", "rest-em", "context", "step-dpo"):
        with Lab.open(labs / name, write=False) as lab:
            ids = {row.id for row in lab.database.episodes.find(EpisodeFilter(run="explored"))}
            explored = explored or ids
            assert ids == explored and ids
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    first = {line.split(" |")[0]: line for line in reversed(rows)}
    for arm in ("| base", "| ReST-EM", "| context distillation", "| step-DPO"):
        assert first[arm].count("/3) [") == 2 and first[arm].count("/6) [") == 1, first[arm]
    pairs = text.split("| against ReST-EM")[1].split("\n\n")[0].splitlines()[2:]
    assert len(pairs) == 3 and all("| 6 |" in line for line in pairs), "each arm on the six games that both played"
    came_about = text.split("## How each came about")[1]
    assert "Pass@2-2" in came_about and "| base | | | | | 0." in came_about
    assert "mcts " in came_about and " steps | " in came_about
    assert "| hopeless | 1 |" in came_about and "failed: round-1 found no success" in came_about
    assert "## Memory × adapter after context distillation" in text and "Internalised:" in text

    before = {path: path.stat().st_mtime_ns for path in labs.glob("*/jobs/*/done")}
    capsys.readouterr()
    script.main(given)
    assert (tmp_path / "table.md").read_text() == text
    assert {path: path.stat().st_mtime_ns for path in labs.glob("*/jobs/*/done")} == before, "nothing is done twice"


def test_an_arm_that_does_not_exist_is_refused(
    script: ModuleType, given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        script.main([*given, "--only", "rest"])
    assert "there are explored, base, rest-em, context" in capsys.readouterr().err


def test_settings_that_make_no_sense_are_told_and_begin_no_round(
    script: ModuleType, given: list[str], tmp_path: Path
) -> None:
    config = script.read_toml(Path(given[1]))
    config["arms"]["rest-em"]["round"] = {"balance": {}}
    compared = script.parse(script.Comparison, config, Path("c.toml"))
    with Lab.open(tmp_path / "explored", create=True, config=LabConfig(embedder="hashing")):
        pass
    with pytest.raises(BadConfig, match="`balance` picks"):
        script.learn(compared, tmp_path, "rest-em", Progress())
    with Lab.open(tmp_path / "rest-em", write=False) as lab:
        assert lab.rounds() == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"against": "rest"}, "against = 'rest' names no arm; there are base, rest-em"),
        ({"two_by_two": {"arm": "base", "games": ["toy/doors"]}}, "arm = 'base' names no arm; there are rest-em"),
        ({"two_by_two": {"arm": "context", "games": ["toy/dors"]}}, "toy/dors"),
    ],
)
def test_names_are_checked_before_anything_is_played(
    script: ModuleType, given: list[str], changed: dict[str, Any], told: str
) -> None:
    config = script.read_toml(Path(given[1])) | changed
    with pytest.raises((BadConfig, UnknownEnvironment), match=told):
        script.parse(script.Comparison, config, Path("c.toml"))


def test_a_copy_that_was_cut_short_is_made_anew(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "explored").mkdir()
    (tmp_path / "explored" / "lab.toml").write_text("whole")
    (tmp_path / "arm.partial").mkdir()
    (tmp_path / "arm.partial" / "lab.toml").write_text("torn")
    assert (script.copied(tmp_path, "arm") / "lab.toml").read_text() == "whole"
    (tmp_path / "arm" / "lab.toml").write_text("lived in")
    assert (script.copied(tmp_path, "arm") / "lab.toml").read_text() == "lived in"


def test_the_shipped_comparison_has_the_methods_and_four_games(script: ModuleType) -> None:
    shipped = script.parse(script.Comparison, script.read_toml(FOLDER / "distillation.toml"), FOLDER)
    assert len(shipped.games) >= 4 and shipped.test_seeds == 100
    assert set(shipped.arms) == {"rest-em", "hindsight", "mcts", "agent-r", "context", "step-dpo"}
    assert shipped.against in shipped.arms and shipped.two_by_two.arm in shipped.arms
    configs = {arm: [shipped.config(arm, number) for number in range(3)] for arm in shipped.arms}
    assert all(isinstance(config, RoundConfig) for rounds in configs.values() for config in rounds)
    assert not any(hopeless(config, number) for rounds in configs.values() for number, config in enumerate(rounds, 1))
    assert configs["rest-em"][0].ways(None) == [] and configs["rest-em"][1].ways(None) == ["model"]
    assert configs["hindsight"][0].selection.hindsight and configs["agent-r"][0].revise
    assert configs["mcts"][0].train_seeds(1) == range(60), "the games that were explored"
    assert configs["context"][0].train_seeds(1) == range(60, 120), "games that only memory can help with"
    assert configs["context"][2].train_seeds(3) == range(140, 160), "no round explores what another did"
    assert configs["context"][0].memory == "all" and configs["context"][0].learn_from == "recalled"
    assert configs["step-dpo"][0].training.objective == "step_dpo"
