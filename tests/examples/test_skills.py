from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from agentlab import Lab, LabConfig, RoundConfig, RoundReport
from agentlab.rounds.checking import hopeless

FOLDER = Path(__file__).parents[2] / "examples"
CONFIG = """
games = ["toy/doors?colours=2,rooms=1,step_limit=4", "toy/doors?colours=3,rooms=1,step_limit=5"]
explored_seeds = 4
explored_steps = 60
weights = [1.0, 0.5]
dev_seeds = 2
test_seeds = 3
lab = {{ model = "{model}", embedder = "hashing", dtype = "float32", threads = 1, context = 512 }}

[round]
collect = "none"
gate_seeds = 3
held_out_seeds = 2
gate = {{ min_pairs = 1, alpha = 0.9, sequential = false }}
training = {{ epochs = 2, batch_size = 1 }}
"""


@pytest.fixture(scope="module")
def script(example: Callable[[str], ModuleType]) -> ModuleType:
    return example("skills")


def test_two_skills_are_trained_merged_and_measured_once(
    script: ModuleType, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "skills.toml"
    config.write_text(CONFIG.format(model=tiny_model))
    given = ["--config", str(config), "--folder", str(tmp_path / "lab"), "--output", str(tmp_path / "table.md")]
    script.main([*given, "--table"])
    assert "Not measured yet" in capsys.readouterr().out
    script.main(given)
    first = (tmp_path / "table.md").read_text()
    script.main(given)
    assert (tmp_path / "table.md").read_text() == first
    with Lab.open(tmp_path / "lab", write=False) as lab:
        merges = [record.lineage.merge for record in lab.adapters.list() if record.lineage.merge]
        skills = [record.id for record in lab.adapters.list() if not record.lineage.merge]
        rounds = lab.rounds()
    assert [sorted(set(merge.weights.values())) for merge in merges] == [[1.0], [0.5]]
    assert all(list(merge.weights) == skills for merge in merges)
    # Each skill knows one game only.
    assert [len(report.config.envs) for report in rounds] == [1, 1] and len({report.adapter for report in rounds}) == 2
    assert "/3) [" in first and "/4) [" in first
    games = [line for line in first.splitlines() if line.startswith("| toy/")]
    assert len(games) == 2 and all(line.count("/3) [") == 2 and line.endswith(("| yes |", "| no |")) for line in games)


def test_a_round_that_only_finishes_the_first_skill_is_not_taken_for_the_second(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = RoundConfig(envs=["toy/doors"]), RoundConfig(envs=["toy/doors?rooms=1"])
    begun = iter([first, second])  # killed in the first round: the next call finishes that one, whatever it asks for

    def round(self: Lab, config: RoundConfig) -> RoundReport:
        number = len(self.rounds()) + 1
        made = {"config": next(begun), "phase": "done", "adapter": f"ad-{number}"}
        report = RoundReport(id=f"round-{number}", number=number, **made)
        self.database.rounds.put(report.id, report.model_dump(mode="json"))
        return report

    monkeypatch.setattr(Lab, "round", round)
    with Lab.open(tmp_path / "lab", create=True, config=LabConfig(embedder="hashing")) as lab:
        assert [script.trained(lab, config) for config in (second, first, second)] == ["ad-2", "ad-1", "ad-2"]
        assert len(lab.rounds()) == 2


def test_the_shipped_settings_merge_exactly_and_measure_a_hundred_games(script: ModuleType) -> None:
    path = FOLDER / "skills.toml"
    skills = script.parse(script.Skills, script.read_toml(path), path)
    assert skills.method == "cat" and skills.test_seeds == 100 and len(set(skills.envs)) == 2
    assert all(skills.config(env).envs == [env] for env in skills.envs)
    assert [skills.config(env).kl.envs for env in skills.envs] == [[skills.envs[1]], [skills.envs[0]]]
    assert not any(hopeless(skills.config(env), number) for number, env in enumerate(skills.envs, 1))
