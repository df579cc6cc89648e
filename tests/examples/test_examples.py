from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from types import ModuleType

import pytest

from agentlab import Lab, LabConfig, RoundConfig
from agentlab.engines.base import Aside, ScoreRequest, Scores
from agentlab.engines.scripted import ScriptedEngine
from agentlab.engines.transformers import TransformersEngine
from agentlab.rounds.checking import hopeless
from environments import unregister
from environments.tools import unregister_tool
from memory.store import EpisodeFilter

Example = Callable[[str], ModuleType]
FOLDER = Path(__file__).parents[2] / "examples"


@pytest.fixture
def small(tiny_model: Path) -> LabConfig:
    return LabConfig(model=str(tiny_model), embedder="hashing", dtype="float32", threads=1)


@pytest.fixture
def waters() -> Iterator[ScriptedEngine]:
    """An engine that would water everything, and the example's environment taken back afterwards."""
    yield ScriptedEngine({"water it": -9.0})
    unregister("own/greenhouse")


def test_ten_lines_play_distil_and_measure_also_after_they_were_stopped(
    example: Example,
    tmp_path: Path,
    small: LabConfig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    lab = str(tmp_path / "lab")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("trainers.job.run", stopped)
        example("ten_lines").main(lab, games=("toy/doors",), seeds=4, test_seeds=4, config=small)
    example("ten_lines").main(lab, games=("toy/doors",), seeds=4, test_seeds=4, config=small)
    printed = capsys.readouterr().out
    assert "was promoted" in printed or "was rejected" in printed
    assert [line.split("  ")[0].strip() for line in printed.splitlines()[1:4]] == ["random", "base", "base + memory"]
    example("ten_lines").main(lab, games=("toy/doors",), seeds=4, test_seeds=4)
    assert capsys.readouterr().out == printed, "called again, it finds everything done"


def test_one_s_own_environment_keeps_the_contract_and_something_is_learned_in_it(
    example: Example, tmp_path: Path, small: LabConfig, waters: ScriptedEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    example("own_environment").main(str(tmp_path / "lab"), config=small, engine=waters)
    report, rates = printed(capsys.readouterr().out)
    assert "FAIL" not in report and rates["base"] < 0.1 and rates["base + memory"] > 0.9


def printed(out: str) -> tuple[str, dict[str, float]]:
    """What an example printed: the report on its part, and the first rate of each arm."""
    report, table = out.split("\narm ")
    lines = [re.split(r"\s{2,}", line) for line in table.splitlines()[1:]]
    return report, {line[0]: float(line[1].split()[0]) for line in lines if len(line) > 1}


def test_one_s_own_engine_and_actor_conform_and_win_more_with_memory(
    example: Example, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, engine = LabConfig(embedder="hashing", threads=1), example("own_engine")
    engine.main(str(tmp_path / "engine"), config)
    report, rates = printed(capsys.readouterr().out)
    assert "FAIL" not in report and rates["base"] < rates["base + memory"]
    example("own_actor").main(str(tmp_path / "actor"), config, engine.Recency())
    report, rates = printed(capsys.readouterr().out)
    assert "FAIL" not in report and rates["base"] < 0.1 and rates["reads first + memory"] > 0.9


def as_the_mirror_says(requests: Sequence[ScoreRequest]) -> list[Scores]:
    """Likes a door that was read in the mirror, and calls where an adapter is on, as one does that was taught to."""

    def score(request: ScoreRequest, command: str, aside: Aside | None) -> float:
        if command.startswith("hold "):
            return -0.1 if request.adapter else -9.0
        told = request.conversation.text_after(aside).rpartition("you read: ")[2].splitlines()[0]
        return -0.2 if told == f"the {command.removeprefix('open ')} is safe." else -3.0

    return [
        Scores([score(request, *pair) for pair in zip_longest(request.commands, request.asides)])
        for request in requests
    ]


@pytest.fixture
def taught(tiny_model: Path) -> Iterator[TransformersEngine]:
    """An engine that calls as it was taught to, and the example's game and tool taken back afterwards."""
    engine = TransformersEngine(tiny_model, dtype="float32")
    engine.score = as_the_mirror_says  # type: ignore[method-assign]
    yield engine
    unregister("own/mirrors")
    unregister_tool("mirror")


def test_one_s_own_tool_is_called_after_a_round_and_wins_what_could_not_be_known(
    example: Example, tmp_path: Path, small: LabConfig, taught: TransformersEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    example("own_tool").main(str(tmp_path / "lab"), small, taught, test_seeds=10)
    out = capsys.readouterr().out
    calls, rates = printed(out)
    assert out.endswith("base: 0 calls in 10 games\nadapter: 30 calls in 10 games\n")
    assert "'successes': 16, 'learned from': 16, 'with calls': 16, 'hold': " in calls
    assert rates["base"] < 0.3 and rates["adapter"] == 1.0


def test_one_s_own_reflector_writes_what_memory_finds(
    example: Example, tmp_path: Path, small: LabConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = ScriptedEngine({"look": 0.0})
    example("own_reflector").main(str(tmp_path / "lab"), config=small, engine=engine)
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if "It changes nothing to: look" in line]
    assert len(lines) == 3 and "FAIL" not in out


def test_a_langgraph_agent_knows_in_one_thread_what_it_was_told_in_another(
    example: Example, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example("langgraph_memory").main(str(tmp_path / "lab"))
    told, asked = capsys.readouterr().out.split("user   Where is the spare key?\n")
    assert told.count("agent  noted") == 2
    assert "under the third flower pot" in asked.splitlines()[0]
    assert "The cat eats at seven." in asked.splitlines()[-1]


@pytest.mark.parametrize("name", ["own_engine", "own_actor", "own_environment", "own_reflector"])
def test_short_examples_stay_short(name: str) -> None:
    assert len((FOLDER / f"{name}.py").read_text().splitlines()) < 45


SCRIPTS = ["distillation", "learning_curve", "memory_worth", "skills"]


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(("slip", "told"), [("[lab]\nmodle = 'x'\n", "lab.modle"), ("", "There is no file")])
def test_a_slip_in_the_settings_is_one_line_and_exit_code_2(
    example: Example, name: str, slip: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "settings.toml"
    if slip:
        settings.write_text((FOLDER / f"{name}.toml").read_text().replace("[lab]\n", slip))
    with pytest.raises(SystemExit) as left:
        example(name).main(["--config", str(settings), "--folder", str(tmp_path / "labs")])
    assert left.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ") and told in said


CURVE = """
training_seeds = [0, 1]
train_games = ["toy/doors"]
other_games = ["toy/doors?rooms=1"]
test_seeds = 3
lab = {{ model = "{model}", embedder = "hashing", dtype = "float32", threads = 1 }}
round = {{ seeds = 3, gate_seeds = 3, gate = {{ min_pairs = 1, alpha = 0.9 }}, training = {{ epochs = 1 }} }}
rounds = [{{ collect = "random" }}, {{ collect = "both", model_trials = 1, training = {{ learning_rate = 1e-4 }} }}]
"""


@pytest.fixture
def curve(tmp_path: Path, tiny_model: Path) -> list[str]:
    """Options of a learning curve on the toy game."""
    config = tmp_path / "curve.toml"
    config.write_text(CURVE.format(model=tiny_model))
    return ["--config", str(config), "--folder", str(tmp_path / "labs"), "--output", str(tmp_path / "curve.md")]


def test_a_learning_curve_goes_through_all_rounds_and_ends_with_a_table(
    example: Example, tmp_path: Path, curve: list[str]
) -> None:
    script = example("learning_curve")
    script.main([*curve, "--seed", "0"])
    script.main([*curve, "--table"])
    assert "Not measured yet: training seed 1" in (tmp_path / "curve.md").read_text()
    script.main(curve)
    text = (tmp_path / "curve.md").read_text()
    assert "Not measured yet" not in text
    assert "2 training seeds, pooled" in text
    assert "python examples/learning_curve.py --config" in text
    with Lab.open(tmp_path / "labs" / "seed-1", write=False) as lab:
        assert [report.phase for report in lab.rounds()] == ["done", "done"]
        assert [report.config.training.learning_rate for report in lab.rounds()] == [1e-3, 1e-4]
        assert {report.config.training.epochs for report in lab.rounds()} == {1}
        assert lab.rounds()[1].config.seed == 1
        arms = {row.arm for row in lab.database.episodes.find(EpisodeFilter(run="learning-curve"))}
        assert not arms & {"random", "base"}, "the arms that no training seed changes are played elsewhere"
    header = next(line for line in text.splitlines() if line.startswith("| game"))
    assert header.startswith("| game | random | base | base + memory")
    pooled = next(line for line in text.splitlines() if line.startswith("| **all**"))
    assert pooled.count("/6)") == 2 and pooled.count("/12)") >= 1, pooled
    script.main([*curve, "--table"])
    assert (tmp_path / "curve.md").read_text() == text


def test_the_shipped_learning_curve_is_the_one_of_eight_games_and_two_rounds(example: Example) -> None:
    script = example("learning_curve")
    shipped = script.parse(script.Curve, script.read_toml(FOLDER / "learning_curve.toml"), FOLDER)
    assert len(shipped.games) == 8
    assert len(shipped.rounds) == 2
    assert shipped.test_seeds == 100
    for number in range(2):
        config = shipped.config(number, seed=2)
        assert isinstance(config, RoundConfig)
        assert config.seed == 2 and not hopeless(config, number + 1)
        assert not set(config.envs) & set(shipped.other_games)


def test_the_worth_of_a_memory_is_measured_in_two_labs_that_differ_in_credit_only(
    example: Example, tmp_path: Path, tiny_model: Path
) -> None:
    config = tmp_path / "worth.toml"
    config.write_text(
        'games = ["toy/doors"]\nexplored_seeds = 4\nlived_seeds = 3\ntest_seeds = 4\ntrials = 2\n'
        f'[lab]\nmodel = "{tiny_model}"\nembedder = "hashing"\ndtype = "float32"\nthreads = 1\n'
    )
    given = ["--config", str(config), "--folder", str(tmp_path / "labs"), "--output", str(tmp_path / "worth.md")]
    script = example("memory_worth")
    script.main([*given, "--only", "plain"])
    script.main([*given, "--table"])
    assert "Not measured yet: credit" in (tmp_path / "worth.md").read_text()
    script.main(given)
    text = (tmp_path / "worth.md").read_text()
    arms = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| base")]
    assert arms == [
        "base", "base + retry, 2 trials", "base + memory", "base + memory, 2 trials", "base + memory with credit",
        "base + memory with credit, 2 trials",
    ]  # fmt: skip
    assert text.count("(McNemar, exact)") == 6
    assert "strength of advice" in text
    labs = {half: Lab.open(tmp_path / "labs" / half, write=False) for half in ("plain", "credit")}
    settings = {half: lab.config.model_dump() for half, lab in labs.items()}
    assert {key for key in settings["plain"] if settings["plain"][key] != settings["credit"][key]} == {"credit"}
    for lab in labs.values():
        lab.close()
