from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentlab.agent.rollout import TaskResult, Trial
from agentlab.errors import UnknownEvaluation, UnreadableRecord
from agentlab.experiments.evaluation import Table, row
from agentlab.lab import Lab
from agentlab.views.comparison import comparison, evaluations
from agentlab.views.comparison_text import comma_separated, markdown
from agentlab.views.labs import compare
from agentlab.workspace.config import LabConfig
from environments import Task
from memory.records import Episode, Reflection
from trainers.gate import holm, mcnemar

WON = {"base": "1000000000", "base + memory": "1111111100", "adapter": "1111110000", "adapter + memory": "1111111110"}


def table_of(won: dict[str, str], *, name: str = "mine", env: str = "toy/doors", **about: Any) -> Table:
    """An evaluation in which each arm won the games that are marked 1, and errored in those marked e."""
    rows = []
    for arm, marks in won.items():
        ended = {"1": "won", "0": "lost", "e": "errored"}
        results = [
            TaskResult(
                Task(env=env, split="test", seed=at), arm, (Trial(f"{arm}-{at}", ended[mark], float(mark == "1"), 1),)
            )
            for at, mark in enumerate(marks)
        ]
        rows.append(row(arm, results))
    return Table(envs=[env], rows=rows, about={"name": name, "split": "test", "seeds": [0, 9], **about})


def stored(lab: Lab, table: Table) -> None:
    lab.database.evaluations.put(table.about["name"], table.compare_with_base().model_dump(mode="json"))


def played(lab: Lab, arm: str, seed: int, status: str, *, trial: int = 0, run: str = "mine", id: str = "") -> None:
    name = id or f"{arm}-{seed}-{trial}".replace(" ", "")
    where: dict[str, Any] = {"env": "toy/doors", "split": "test", "seed": seed}
    lab.database.episodes.put(Episode(id=name, run=run, arm=arm, trial=trial, status=status, **where))  # type: ignore[arg-type]


def made(folder: Path) -> Lab:
    return Lab.open(folder, create=True, config=LabConfig(embedder="hashing"))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with made(tmp_path_factory.mktemp("comparison") / "lab") as found:
        stored(found, table_of(WON))
        for arm, marks in WON.items():
            for seed, mark in enumerate(marks):
                played(found, arm, seed, "won" if mark == "1" else "lost")
        yield found


def test_evaluations_are_listed_with_their_games_and_arms(lab: Lab) -> None:
    (line,) = evaluations(lab).evaluations
    assert (line.name, line.split, line.games, line.arms) == ("mine", "test", 10, list(WON))


def test_arms_are_compared_with_the_base_and_their_p_is_corrected_for_the_pairs_shown(lab: Lab) -> None:
    pairs = comparison(lab, "mine").pairs
    assert [(pair.arm, pair.only_arm, pair.only_against) for pair in pairs] == [
        ("base + memory", 7, 0), ("adapter", 5, 0), ("adapter + memory", 8, 0),
    ]  # fmt: skip
    alone = [mcnemar(7, 0), mcnemar(5, 0), mcnemar(8, 0)]
    assert [pair.p for pair in pairs] == alone
    assert [pair.p_holm for pair in pairs] == holm(alone)


def test_any_two_arms_can_be_compared_and_count_in_the_correction(lab: Lab) -> None:
    pairs = comparison(lab, "mine", arm="base + memory", against="adapter").pairs
    assert (pairs[-1].arm, pairs[-1].against, pairs[-1].only_arm, pairs[-1].only_against) == (
        "base + memory", "adapter", 2, 0,
    )  # fmt: skip
    assert [pair.p_holm for pair in pairs] == holm([pair.p for pair in pairs])


def test_a_pair_that_is_asked_for_the_other_way_round_is_turned_and_counts_once(lab: Lab) -> None:
    usual = {pair.arm: pair.p_holm for pair in comparison(lab, "mine").pairs}
    *others, turned = comparison(lab, "mine", arm="base", against="base + memory").pairs
    assert (turned.arm, turned.against, turned.only_arm, turned.only_against) == ("base", "base + memory", 0, 7)
    assert turned.p_holm == usual.pop("base + memory")
    assert {pair.arm: pair.p_holm for pair in others} == usual


def test_the_games_that_one_arm_won_alone_lead_to_both_episodes(lab: Lab) -> None:
    found = comparison(lab, "mine", arm="base + memory", against="adapter", only="base + memory")
    assert [game.seed for game in found.games] == ["6", "7"] and found.total == 2
    first = found.games[0]
    assert (first.result("base + memory").episode, first.result("adapter").episode) == (
        "base+memory-6-0",
        "adapter-6-0",
    )
    assert comparison(lab, "mine", arm="base + memory", against="adapter", only="adapter").games == []


def test_a_cell_leads_to_its_games_with_what_every_arm_made_of_them(lab: Lab) -> None:
    found = comparison(lab, "mine", arm="base", env="toy/doors")
    assert found.total == 10
    assert [result.won for result in found.games[1].results] == [False, True, True, True]
    assert comparison(lab, "mine", env="toy/other").total == 0


def test_memory_by_adapter_is_read_off_an_evaluation_that_has_both(lab: Lab, tmp_path: Path) -> None:
    factors = comparison(lab, "mine").factors
    assert factors is not None and (factors.old, factors.new) == ("base", "adapter")
    assert factors.effect("memory", "old").difference == pytest.approx(0.7)
    assert factors.effect("adapter", "on").difference == pytest.approx(0.1)
    assert factors.internalised is not None and factors.internalised.value == pytest.approx(5 / 7)
    with made(tmp_path / "lab") as other:
        stored(other, table_of({name: WON[name] for name in ("base", "base + memory", "adapter")}))
        assert comparison(other, "mine").factors is None


def test_the_rates_of_memory_by_adapter_subtract_to_the_gains_also_where_games_errored(tmp_path: Path) -> None:
    won = {"base": "10e0", "base + memory": "1110", "adapter": "1e11", "adapter + memory": "1111"}
    with made(tmp_path / "lab") as lab:
        stored(lab, table_of(won))
        factors = comparison(lab, "mine").factors
    assert factors is not None
    cells = {name: (cell.wins, cell.n) for name, cell in factors.cells.items()}
    assert cells == {"old, off": (1, 2), "old, on": (1, 2), "new, off": (2, 2), "new, on": (2, 2)}
    assert factors.effect("adapter", "off").difference == 2 / 2 - 1 / 2


def test_the_share_of_many_games_is_computed_only_where_that_is_asked_for(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentlab.views.comparison.FEW", 9)
    none, some = comparison(lab, "mine").factors, comparison(lab, "mine", share=True).factors
    assert none is not None and none.internalised is None
    assert some is not None and some.internalised is not None


def test_what_errored_is_unknown_and_counts_for_nobody(tmp_path: Path) -> None:
    with made(tmp_path / "lab") as lab:
        stored(lab, table_of({"base": "10e", "base + memory": "111"}))
        found = comparison(lab, "mine", arm="base + memory", against="base", only="base + memory")
        assert [game.seed for game in found.games] == ["1"]
        assert comparison(lab, "mine").games[2].results[0].won is None


def test_of_several_trials_the_one_that_won_is_shown_else_the_last(tmp_path: Path) -> None:
    task = Task(env="toy/doors", split="test", seed=0)
    lost, won = Trial("a", "lost", 0.0, 1), Trial("b", "won", 1.0, 1)
    tried = [TaskResult(task, "base", (lost, won))]
    rows = [row("base + retry, 3 trials", tried, trials=3), row("base", tried)]
    with made(tmp_path / "lab") as lab:
        stored(lab, Table(envs=["toy/doors"], rows=rows, about={"name": "mine", "arms": {"base": "x"}}))
        for trial, status in enumerate(("lost", "won", "lost")):
            played(lab, "base", 0, status, trial=trial)
        several, first = comparison(lab, "mine").games[0].results
        assert (several.episode, first.episode) == ("base-0-1", "base-0-0"), "the first trial alone is the arm without"
        played(lab, "base", 0, "lost", trial=1)
        assert comparison(lab, "mine").games[0].results[0].episode == "base-0-2"


@pytest.mark.parametrize(
    ("name", "run", "about"),
    [
        ("eval-test-abcdefghijklmnop-2", "eval-test-abcdefghijklmnop", {}),
        ("named-abcdefghijklmnop", "named", {}),
        ("anything", "somewhere", {"runs": {"base": "somewhere"}}),
    ],
)
def test_episodes_are_found_in_the_runs_of_the_evaluation(
    tmp_path: Path, name: str, run: str, about: dict[str, Any]
) -> None:
    with made(tmp_path / "lab") as lab:
        stored(lab, table_of({"base": "1"}, name=name, **about))
        played(lab, "base", 0, "won", run="another", id="wrong")
        played(lab, "base", 0, "won", run=run, id="right")
        assert comparison(lab, name).games[0].results[0].episode == "right"


def test_an_evaluation_notes_the_runs_of_its_arms(tmp_path: Path, note_reader: Any) -> None:
    with Lab.open(tmp_path / "lab", create=True, config=LabConfig(embedder="hashing"), engine=note_reader) as lab:
        lab.evaluate("toy/doors", seeds=[0], arms=["random", "base + memory"])
        lab.memory.remember([Reflection(id="r", kind="note", env="toy/doors", task="toy/doors:train:1", text="Look.")])
        table = lab.evaluate("toy/doors", seeds=[0], arms=["random", "base + memory"])
        plain, remembering = (table.about["runs"][arm] for arm in ("random", "base + memory"))
        assert remembering == f"{plain}-2", "what depends on no memory is not played again"
        (game,) = comparison(lab, table.about["name"]).games
        assert all(result.episode for result in game.results)


def test_a_record_of_another_form_hides_no_other_and_is_told(tmp_path: Path) -> None:
    with made(tmp_path / "lab") as lab:
        stored(lab, table_of(WON))
        lab.database.evaluations.put("odd", {"rows": [{"arm": "x"}]})
        lab.database.evaluations.put("nothing yet", {})
        found = evaluations(lab)
        assert [line.name for line in found.evaluations] == ["mine"] and found.unreadable == ["odd"]
        assert {one.evaluation for one in compare({"lab": lab}, []).arms} == {"mine"}
        with pytest.raises(UnreadableRecord, match="odd"):
            comparison(lab, "odd")


@pytest.mark.parametrize("asked", [{"name": "none"}, {"name": "mine", "arm": "none"}, {"name": "mine", "only": "none"}])
def test_what_is_not_there_is_told(lab: Lab, asked: dict[str, str]) -> None:
    with pytest.raises(UnknownEvaluation, match="none"):
        comparison(lab, **asked)


def test_a_report_has_every_rate_with_its_interval_and_both_ps_by_name(lab: Lab) -> None:
    text = markdown(comparison(lab, "mine"))
    assert "| base + memory | 1 | 0.80 (8/10) [0.49, 0.94] |" in text
    assert "| p (McNemar) | p (Holm) |" in text


def test_a_spreadsheet_has_a_line_for_each_arm_and_environment(lab: Lab) -> None:
    lines = list(csv.DictReader(io.StringIO(comma_separated(comparison(lab, "mine")))))
    found = [(line["arm"], line["wins"], line["n"]) for line in lines if line["environment"] == "toy/doors"]
    assert found == [
        ("base", "1", "10"),
        ("base + memory", "8", "10"),
        ("adapter", "6", "10"),
        ("adapter + memory", "9", "10"),
    ]


def test_names_are_no_markup_and_no_formula(tmp_path: Path) -> None:
    hostile = '=cmd()|<script>`x`\n# title, "a"'
    with made(tmp_path / "lab") as lab:
        stored(lab, table_of({hostile: "1", "base": "0"}))
        view = comparison(lab, "mine")
    text = markdown(view)
    assert "<script>" not in text and "\n# title" not in text and "=cmd()\\|&lt;script>\\`x\\`" in text
    (first, *_) = csv.DictReader(io.StringIO(comma_separated(view)))
    assert first["arm"].startswith("'=cmd()") and "\n" not in first["arm"]


# Several labs


def labs_of(tmp_path: Path, tables: dict[str, Sequence[Table]]) -> dict[str, Lab]:
    found = {}
    for name, each in tables.items():
        found[name] = made(tmp_path / name)
        for table in each:
            stored(found[name], table)
    return found


@pytest.fixture
def two_labs(tmp_path: Path) -> Iterator[dict[str, Lab]]:
    one = table_of({"base": "0011", "base + memory": "1111"})
    alone = table_of({"base": "01"}, name="alone")
    found = labs_of(tmp_path, {"one": [one, alone], "two": [table_of({"base": "1111"}, name="theirs")]})
    yield found
    for lab in found.values():
        lab.close()


def test_evaluations_of_the_same_games_stand_in_one_table(two_labs: dict[str, Lab]) -> None:
    found = compare(two_labs, [])
    assert [(one.lab, one.evaluation, one.line.arm) for one in found.arms] == [
        ("one", "mine", "base"), ("one", "mine", "base + memory"), ("two", "theirs", "base"),
    ]  # fmt: skip
    assert [(one.games, one.labs, one.chosen) for one in found.sets] == [(4, ["one", "two"], True), (2, ["one"], False)]
    other = compare(two_labs, [], games=found.sets[1].key)
    assert [one.evaluation for one in other.arms] == ["alone"]
    assert {one.lab for one in compare(two_labs, ["two"]).arms} == {"two"}


def test_arms_of_all_labs_are_compared_with_one_of_them(two_labs: dict[str, Lab]) -> None:
    against = compare(two_labs, []).arms[0].key
    found = compare(two_labs, [], against=against)
    assert [(one.only_it, one.only_other, one.p) for one in found.arms] == [(0, 0, None), (2, 0, 0.5), (2, 0, 0.5)]
    assert [one.p_holm for one in found.arms] == [None, 1.0, 1.0]
