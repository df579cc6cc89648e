from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentlab.cli import app, rounds
from agentlab.errors import BadConfig
from agentlab.experiments.forgetting import Loss
from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport
from agentlab.rounds.checking import hopeless
from agentlab.rounds.retention import Retention
from agentlab.rounds.training import SENT
from agentlab.workspace.config import LabConfig
from environments import canonical
from memory.records import Episode, Step
from trainers.gate.gate import GateConfig, SequentialGate, decide
from trainers.gate.statistics import Paired

RUNNER = CliRunner()


def report(number: int, *, promoted: bool, **settings: object) -> RoundReport:
    return RoundReport(
        id=f"round-{number}",
        number=number,
        config=RoundConfig.model_validate({"envs": ["toy/doors"], **settings}),
        phase="done",
        collected={"random": {"tasks": 9, "won": 7}},
        selected={"toy/doors": 6},
        left_out={"duplicate": 1},
        adapter=f"ad-{number}",
        training={"steps": 12, "last_loss": 0.25},
        gate={"reason": "p = 0.001"},
        promoted=promoted,
    )


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    folder = tmp_path / "lab"
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing")) as opened:
        for found in (report(1, promoted=True, seeds=7), report(2, promoted=False, seeds=7)):
            opened.database.rounds.put(found.id, found.model_dump(mode="json"))
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[RoundConfig]:
    """The settings with which rounds were asked for; none of them is really run."""
    asked: list[RoundConfig] = []

    def round(self: Lab, config: RoundConfig) -> RoundReport:
        asked.append(config)
        return report(len(asked), promoted=len(asked) == 1)

    monkeypatch.setattr(Lab, "round", round)
    return asked


def agentlab(lab: Path, *arguments: str) -> Result:
    return RUNNER.invoke(app, [*arguments, "--lab", str(lab)])


def test_rounds_are_listed_the_oldest_first(lab: Path) -> None:
    rows = json.loads(agentlab(lab, "rounds", "list", "--json").stdout)
    assert [(row["id"], row["promoted"]) for row in rows] == [("round-1", True), ("round-2", False)]
    shown = agentlab(lab, "rounds", "list").stdout
    assert "random 7/9" in shown
    assert "ad-2" in shown


def test_a_lab_without_rounds_says_how_to_run_one(tmp_path: Path) -> None:
    with Lab.open(tmp_path / "lab", create=True):
        pass
    assert "agentlab rounds run" in agentlab(tmp_path / "lab", "rounds", "list").stdout


def test_one_round_is_shown_with_its_verdict(lab: Path) -> None:
    shown = agentlab(lab, "rounds", "show", "2").stdout
    for part in ("random: 7 of 9 games won", "duplicate 1", "last_loss 0.250", "p = 0.001", "Rejected"):
        assert part in shown
    assert json.loads(agentlab(lab, "rounds", "show", "round-1", "--json").stdout)["adapter"] == "ad-1"


@pytest.mark.parametrize(("id", "part"), [("round-3", "did you mean 'round-"), ("x", "`agentlab rounds list`")])
def test_an_unknown_round_is_one_line(lab: Path, id: str, part: str) -> None:
    result = agentlab(lab, "rounds", "show", id)
    assert result.exit_code == 2
    assert part in result.stderr


def test_another_round_has_the_settings_of_the_last_one(lab: Path, asked: list[RoundConfig]) -> None:
    result = agentlab(lab, "rounds", "run", "--gate-games", "30", "--count", "2")
    assert result.exit_code == 0, result.output
    assert [(config.envs, config.seeds, config.gate_seeds) for config in asked] == [(["toy/doors"], 7, 30)] * 2
    assert "Promoted" in result.stdout
    assert "Rejected" in result.stdout


def test_a_round_after_a_distillation_collects_again(tmp_path: Path) -> None:
    with Lab.open(tmp_path / "lab", create=True) as opened:
        config = RoundConfig(envs=["toy/doors"], seeds=7, collect="none")
        report = RoundReport(id="round-1", number=1, config=config, phase="done")
        opened.database.rounds.put(report.id, report.model_dump(mode="json"))
        again = rounds.settings(opened, None, None, {"collect": None})
        assert (again.collect, again.seeds) == ("auto", 7)
        assert rounds.settings(opened, None, None, {"collect": "none"}).collect == "none"


def test_named_environments_begin_with_the_defaults(lab: Path, asked: list[RoundConfig]) -> None:
    agentlab(lab, "rounds", "run", "toy/doors", "--collect", "both", "--json")
    assert asked == [RoundConfig(envs=["toy/doors"], collect="both")]


def test_settings_can_come_from_a_file(tmp_path: Path, asked: list[RoundConfig]) -> None:
    file = tmp_path / "round.toml"
    file.write_text('envs = ["toy/doors"]\nseeds = 5\n[training]\nepochs = 3\n')
    result = agentlab(tmp_path / "new", "rounds", "run", "--config", str(file), "--games", "6")
    assert result.exit_code == 0, result.output
    assert (asked[0].seeds, asked[0].training.epochs) == (6, 3)


def test_what_is_rarely_changed_is_also_taken_from_where_it_stood_before_and_that_is_said(
    tmp_path: Path, asked: list[RoundConfig]
) -> None:
    before, now = tmp_path / "before.toml", tmp_path / "now.toml"
    before.write_text('envs = ["toy/doors"]\nretire = "off"\n[hold]\nenvs = ["twx/coin"]\n')
    now.write_text('envs = ["toy/doors"]\n[expert]\nretire = "off"\n[expert.kl]\nenvs = ["twx/coin"]\n')
    said = [agentlab(tmp_path / "new", "rounds", "run", "--config", str(file)).stderr for file in (before, now)]
    assert asked[0] == asked[1] and asked[0].kl.envs == ["twx/coin"]
    assert "retire" in said[0] and "expert" in said[0] and "expert" not in said[1]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("seeds = 0\nenvs = ['toy/doors']", "seeds"),
        ("seed = -1\nenvs = ['toy/doors']", "seed: "),
        ("seed = 4294967296\nenvs = ['toy/doors']", "seed: "),
        ("speed = 3\nenvs = ['toy/doors']", "speed"),
        ("envs =", "TOML"),
    ],
)
def test_a_bad_setting_is_one_line_that_names_file_and_field(tmp_path: Path, content: str, part: str) -> None:
    file = tmp_path / "round.toml"
    file.write_text(content)
    result = agentlab(tmp_path / "new", "rounds", "run", "--config", str(file))
    assert result.exit_code == 2
    assert part in result.stderr
    assert "round.toml" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_round_needs_an_environment(tmp_path: Path) -> None:
    with Lab.open(tmp_path / "lab", create=True) as opened, pytest.raises(BadConfig, match="needs an environment"):
        rounds.settings(opened, None, None, {})


def test_an_unknown_environment_is_refused_before_a_lab_is_made(tmp_path: Path) -> None:
    result = agentlab(tmp_path / "lab", "rounds", "run", "toy/dors")
    assert result.exit_code == 2
    assert "did you mean" in result.stderr
    assert not (tmp_path / "lab").exists()


def test_distil_takes_what_was_won_and_collects_nothing(lab: Path, asked: list[RoundConfig]) -> None:
    result = agentlab(lab, "distill")
    assert result.exit_code == 2
    assert "nothing to distil" in result.stderr
    with Lab.open(lab) as opened:
        opened.database.episodes.put(Episode(id="e", run="r", env="toy/doors", split="train", seed=0, status="won"))
    result = agentlab(lab, "distill", "--gate-games", "24")
    assert result.exit_code == 0, result.output
    assert [(config.envs, config.collect, config.gate_seeds) for config in asked] == [(["toy/doors"], "none", 24)]


def test_a_round_tells_what_its_gate_spared_and_what_was_retired(lab: Path) -> None:
    with Lab.open(lab) as opened:
        shown = report(3, promoted=True, retire="dry-run")
        shown.gate = {"reason": "better", "looks": [{}, {}], "planned": 60, "saved": 36, "config": {"looks": 5}}
        shown.retired = {"rf-1": "uplift +0.40 [+0.20, +0.60] before"}
        opened.database.rounds.put(shown.id, shown.model_dump(mode="json"))
    printed = agentlab(lab, "rounds", "show", "3").stdout
    assert "2 of at most 5; 24 pairs played, 36 saved" in printed
    assert "Would be retired" in printed and "rf-1" in printed and "uplift +0.40" in printed


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ("gate_seeds = 3", "needs 20"),
        ("gate_seeds = 7\n[gate]\nmin_pairs = 2\nalpha = 0.01", "needs 8"),
        ("gate_seeds = 5\n[gate]\nmin_pairs = 1\nsequential = false", "needs 6"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["run", "dry-run"])
def test_a_gate_that_can_never_pass_is_refused_before_anything_is_played(
    tmp_path: Path, asked: list[RoundConfig], settings: str, needed: str, more: list[str]
) -> None:
    with Lab.open(tmp_path / "new", create=True, config=LabConfig(embedder="hashing")):
        pass
    file = tmp_path / "round.toml"
    file.write_text(f'envs = ["toy/doors"]\n{settings}\n')
    result = agentlab(tmp_path / "new", "rounds", "run", "--config", str(file), *more)
    assert result.exit_code == 2 and asked == []
    assert needed in result.stderr and "--gate-games" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("content", ["gate_seeds = 3", "speed = 3"])
@pytest.mark.parametrize("more", [[], ["--export", "out"]], ids=["run", "export"])
def test_for_a_round_that_is_refused_no_lab_is_made(tmp_path: Path, content: str, more: list[str]) -> None:
    file = tmp_path / "round.toml"
    file.write_text(f'envs = ["toy/doors"]\n{content}\n')
    result = agentlab(tmp_path / "new", "rounds", "run", "--config", str(file), *more)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("alpha", "seeds"), [(0.05, 6), (0.01, 8), (0.5, 3)])
def test_as_few_pairs_as_the_gate_says_can_pass_it_and_fewer_cannot(alpha: float, seeds: int) -> None:
    for sequential in (True, False):
        gate = GateConfig(alpha=alpha, min_pairs=1, sequential=sequential, looks=1)
        for count in (seeds, seeds - 1):
            config = RoundConfig(envs=["toy/doors"], gate_seeds=count, gate=gate)
            won, lost = ({f"toy/doors:dev:{seed}": side for seed in range(count)} for side in (True, False))
            found = SequentialGate(count, gate).look(won, lost) if sequential else decide(won, lost, gate)
            assert found is not None and found.promote == (hopeless(config) == "") == (count == seeds)


def test_a_dry_run_tells_games_steps_training_and_gate_and_changes_nothing(lab: Path, asked: list[RoundConfig]) -> None:
    with Lab.open(lab) as opened:
        steps = [Step(index=0, observation="o", state="s", admissible=["a"], action="a", result="r", next_state="t")]
        for engine in ("random", "tiny"):
            opened.database.episodes.put(
                Episode(
                    id=engine, run="r", env="toy/doors", split="train", seed=0, engine=engine, steps=steps, seconds=2
                )
            )
    before = (lab / "lab.db").read_bytes()
    run = ["rounds", "run", "toy/doors?step_limit=5", "--collect", "both", "--games", "10"]
    found = json.loads(agentlab(lab, *run, "--dry-run", "--json").stdout)
    phases = {phase["phase"]: phase for phase in found["phases"]}
    assert [(name, phase["games"], phase["steps"]) for name, phase in phases.items()] == [
        ("collect: random", 300, 1500),
        ("collect: model", 40, 200),
        ("train", 0, 0),
        ("gate", 40, 200),
    ]
    assert phases["gate"]["seconds"] == 200, "2 s a step, two games at a time"
    assert found["total_seconds"] is None, "nothing was trained here yet"
    shown = agentlab(lab, *run, "--dry-run")
    assert shown.exit_code == 0 and "at most 300 games, 1,500 steps" in shown.stdout
    assert asked == [] and (lab / "lab.db").read_bytes() == before


@pytest.mark.parametrize("exported", [True, False], ids=["exported", "interrupted"])
def test_settings_are_not_ignored_for_a_round_that_is_unfinished(
    lab: Path, tmp_path: Path, asked: list[RoundConfig], exported: bool
) -> None:
    with Lab.open(lab) as opened:
        waiting = report(3, promoted=False, seeds=7).model_copy(update={"phase": "train", "promoted": None})
        opened.database.rounds.put(waiting.id, waiting.model_dump(mode="json"))
        opened.database.episodes.put(Episode(id="e", run="r", env="toy/doors", split="train", seed=0, status="won"))
        if exported:
            opened.database.journal.put(SENT, waiting.id, {"job": "j"})
    file = tmp_path / "other.toml"
    file.write_text('envs = ["toy/doors"]\nseeds = 9\n')
    for command in (["rounds", "run"], ["distill"], ["rounds", "run", "--dry-run"]):
        result = agentlab(lab, *command, "--config", str(file))
        assert result.exit_code == 2 and asked == [], "it is not the round that was asked for"
        assert "round-3" in result.stderr and "seeds" in result.stderr and "abandon" in result.stderr
        assert ("--import" in result.stderr) == exported
        assert result.stderr.count("\n") == 1
    file.write_text('envs = ["toy/doors"]\nseeds = 7\n')
    assert agentlab(lab, "rounds", "run", "--config", str(file)).exit_code == 0
    assert agentlab(lab, "rounds", "run").exit_code == 0
    assert [config.seeds for config in asked] == [7, 7], "the same settings, or none, go on with it"


def test_a_round_that_cannot_be_finished_is_abandoned(lab: Path) -> None:
    with Lab.open(lab) as opened:
        stuck = report(3, promoted=False).model_copy(update={"phase": "train", "promoted": None})
        opened.database.rounds.put(stuck.id, stuck.model_dump(mode="json"))
    result = agentlab(lab, "rounds", "abandon", "3", "--reason", "the card is gone")
    assert result.exit_code == 0 and "Abandoned at 'train': the card is gone" in result.stdout
    assert json.loads(agentlab(lab, "rounds", "show", "3", "--json").stdout)["phase"] == "abandoned"
    again = agentlab(lab, "rounds", "abandon", "3")
    assert again.exit_code == 2 and "has ended (abandoned)" in again.stderr


def test_what_faded_is_retired_from_the_command_line(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from memory.credit import retirement
    from memory.credit.uplift import Uplift
    from trainers.adapters.registry import SERVING

    asked = []

    def run(self: retirement.Retirement, *, dry_run: bool = False) -> list[retirement.Faded]:
        asked.append((self.adapter, dry_run))
        before, under = (Uplift(at, at - 0.1, at + 0.1, 0.0, 0.01, 60, 50, 60, 20) for at in (0.5, 0.0))
        return [retirement.Faded("rf-1", self.adapter, before, under)]

    monkeypatch.setattr(retirement.Retirement, "run", run)
    refused = agentlab(lab, "rounds", "retire")
    assert refused.exit_code == 2 and "The base model serves" in refused.stderr
    with Lab.open(lab) as opened:
        opened.database.settings.put(SERVING, "ad-1")
    printed = agentlab(lab, "rounds", "retire", "--dry-run").stdout
    assert "would be retired" in printed and "uplift +0.50 [+0.40, +0.60] before" in printed
    (row,) = json.loads(agentlab(lab, "rounds", "retire", "--json").stdout)
    assert row["reflection"] == "rf-1" and row["reason"].endswith("under ad-1")
    assert asked == [("ad-1", True), ("ad-1", False)]


def test_a_composed_round_is_shown_in_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    estimate = {"value": 0.25, "n": 20, "low": 0.11, "high": 0.47}
    monitors = {"k": 4, "s": 2, "pass_at_1": estimate, "pass_at_k": estimate, "pass_at_k_s": estimate}
    monitors |= {"successes": 13, "distinct": 7, "entropy": {"value": 0.53, "n": 400}, "evenness": estimate}
    monitors |= {"drift": {"value": 0.12, "n": 20, "low": 0.1, "high": 0.14}}
    with Lab.open(tmp_path / "lab", create=True) as opened:
        found = report(1, promoted=True, monitor={"tasks": 20}, training={"objective": "dpo"}).model_copy(
            update={
                "balance": {"temperature": 0.7, "threshold": 0.5, "score": 0.3125},
                "collected": {"mcts": {"tasks": 9, "won": 7, "steps": 900, "replayed": 400, "calls": 5, "tokens": 60}},
                "revised": {"alpha": 0.5, "tasks": 6, "revisions": 4},
                "judged": {"attempts": 9, "of which could be read": 3},
                "short_of": {"replay": 3},
                "monitors": monitors,
            }
        )
        opened.database.rounds.put(found.id, found.model_dump(mode="json"))
    shown = agentlab(tmp_path / "lab", "rounds", "show", "1").stdout
    for part in (
        "temperature 0.700, threshold 0.500, score 0.312",
        "steps 900, replayed 400, calls 5, tokens 60",
        "alpha 0.500, tasks 6, revisions 4",
        "attempts 9, of which could be read 3",
        "replay 3",
        "dpo",
        "4 trials of 20 dev games each, no memory, temperature 1:",
        "Pass@4-2        0.25 [0.11, 0.47] of 20 games",
        "13, 7 of them distinct",
        "0.53 nats, 25% of the highest, 400 steps",
        "+0.120 [+0.100, +0.140] nats a token, 20 examples",
    ):
        assert part in shown, shown
    assert max(map(len, shown.splitlines())) <= 80


def test_monitors_without_samples_say_what_they_rest_on_and_a_lost_game_is_told(lab: Path) -> None:
    paired = {"both": 1, "only_a": 0, "only_b": 8, "neither": 1}
    found = Paired(n=10, **paired, difference=-0.8, p=0.008, interval=(-0.95, -0.4))
    kept = Retention(
        adapter="ad-3",
        against="ad-1",
        outside={"toy/doors?rooms=1": found},
        lost=["toy/doors?rooms=1"],
        losses=[Loss(env="toy/doors?rooms=1", best="ad-1", paired=found, p=0.008, forgotten=True)],
        unplayable={"gone/game": "There is no gone/game."},
    )
    with Lab.open(lab) as opened:
        shown = report(3, promoted=False)
        shown.gate |= {"saved": 6, "looks": []}
        shown.monitors = {"k": 4, "s": 2, "drift": {"value": 0.12, "n": 20, "low": 0.1, "high": 0.14}}
        opened.database.rounds.put(shown.id, shown.model_dump(mode="json"))
    printed = agentlab(lab, "rounds", "show", "3").stdout
    assert "The new adapter, which played nothing yet:" in printed and "+0.120" in printed
    assert "successes" not in printed and "Pass@" not in printed
    with Lab.open(lab) as opened:
        shown.monitors |= {"pass_at_1": {"value": 0.25, "n": 20, "low": 0.11, "high": 0.47}, "successes": 5}
        shown.forgetting = kept.model_dump(mode="json")
        opened.database.rounds.put(shown.id, shown.model_dump(mode="json"))
    printed = " ".join(agentlab(lab, "rounds", "show", "3").stdout.split())
    assert "its games at the gate, which stopped early: once each, no memory, best command:" in printed
    assert "Pass@1 0.25 [0.11, 0.47] of 20 games" in printed and "Pass@4" not in printed
    assert "ad-3 against the best before it, on dev games:" in printed and "FORGOTTEN" in printed
    assert "Not known whether it forgot gone/game: There is no gone/game." in printed
    assert "It LOST what ad-1 can on toy/doors?rooms=1 (-80 points), so it is refused." in printed


@pytest.mark.parametrize(
    ("env", "count", "early"),
    [("toy/doors", 9, True), ("toy/doors?step_limit=4,rooms=1", 4, True), ("toy/doors", 3, False)],
)
def test_rounds_stop_early_where_the_settings_say_so_and_name_the_best_however_the_game_is_spelled(
    env: str, count: int, early: bool, lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gains = iter([0.3, 0.1, 0.3, 0.0])

    def round(self: Lab, config: RoundConfig) -> RoundReport:
        number = len(self.rounds()) + 1
        found = report(number, promoted=False, envs=[canonical(env)], early_stop={"patience": 2}).model_copy(
            update={"gate": {"paired": {"n": 20, "difference": next(gains)}}}
        )
        self.database.rounds.put(found.id, found.model_dump(mode="json"))
        return found

    monkeypatch.setattr(Lab, "round", round)
    file = tmp_path / "round.toml"
    file.write_text(f'envs = ["{env}"]\nearly_stop = {{ patience = 2 }}\n')
    result = agentlab(lab, "rounds", "run", "--config", str(file), "--count", str(count))
    assert result.exit_code == 0, result.output
    told = "Stopped early: no gain on held-out games in 2 rounds. The best is round-3 (+30 points"
    assert (told in result.stderr) is early, "only where rounds were left"
    with Lab.open(lab, write=False) as opened:
        assert len(opened.rounds()) == 5, "two that were there, the best, and two without a gain"


def test_counts_by_their_former_names_work_for_one_release_with_a_line(tmp_path: Path, lab: Path) -> None:
    new = ["rounds", "run", "toy/doors", "--dry-run", "--json", "-n", "5", "--gate-games", "24"]
    old = ["rounds", "run", "toy/doors", "--dry-run", "--json", "--seeds", "5", "--gate-seeds", "24"]
    now, before = agentlab(lab, *new), agentlab(lab, *old)
    assert before.exit_code == 0 and before.stdout == now.stdout
    assert [line.split(":")[0] for line in before.stderr.splitlines()] == [
        "--seeds 5 is now --games 5", "--gate-seeds 24 is now --gate-games 24",
    ]  # fmt: skip
    assert "--seeds" not in agentlab(lab, "rounds", "run", "--help").stdout
    refused = agentlab(lab, "rounds", "run", "toy/doors", "--seeds", "0-9")
    assert refused.exit_code == 2 and "--games" in refused.stderr


@pytest.mark.parametrize("name", ["distillation", "learning_curve", "memory_worth", "skills"])
def test_the_settings_of_an_example_are_refused_as_those_of_a_round(name: str, lab: Path) -> None:
    file = Path(__file__).parents[3] / "examples" / f"{name}.toml"
    refused = agentlab(lab, "rounds", "run", "--config", str(file))
    assert refused.exit_code == 2 and "agentlab rounds config" in refused.stderr
    assert f"examples/{name}.py" in file.read_text(encoding="utf-8").splitlines()[0]


@pytest.mark.parametrize("before", [0, 2])
def test_what_ends_a_series_loses_no_round_of_it(lab: Path, monkeypatch: pytest.MonkeyPatch, before: int) -> None:
    def series_of(lab: Lab, config: RoundConfig, minutes: float) -> Iterator[RoundReport]:
        assert minutes == 30
        yield from (report(number + 1, promoted=True) for number in range(before))
        raise BadConfig("there are no more games")

    monkeypatch.setattr("agentlab.rounds.series.run_series", series_of)
    result = agentlab(lab, "rounds", "run", "toy/doors", "--minutes", "30", "--json")
    assert result.exit_code == (0 if before else 2) and "no more games" in result.stderr
    if before:
        shown = json.loads(result.stdout)
        assert [one["id"] for one in (shown if isinstance(shown, list) else [shown])] == ["round-1", "round-2"]


def test_a_series_finds_its_number_of_rounds_by_itself(lab: Path) -> None:
    result = agentlab(lab, "rounds", "run", "toy/doors", "--minutes", "30", "--count", "2")
    assert result.exit_code == 2 and "--count" in result.stderr
