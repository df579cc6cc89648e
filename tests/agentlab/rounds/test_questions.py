"""Questions are made of what the memory holds; those of held-out games are asked, and nothing of these is taught."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from agentlab.cli import app
from agentlab.cli.round_screens import print_report
from agentlab.engines.base import Adapter
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import BadConfig
from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport
from agentlab.rounds.checking import check_settings
from agentlab.rounds.collecting import collect
from agentlab.rounds.graph import run_round
from agentlab.rounds.parts import QuestionsConfig
from agentlab.rounds.pool import check_sources
from agentlab.rounds.questions import Made, Question, answered, ask, held_out, questions
from agentlab.rounds.records import records
from agentlab.rounds.selecting import select
from agentlab.views.monitors import watched
from agentlab.workspace import purging
from agentlab.workspace.purging import purge_all
from memory.records import Episode, Evidence, Reflection, task_parts
from memory.store import EpisodeFilter, Filter
from trainers import Lineage

ENV = "toy/doors?colours=4,step_limit=8"
HALF = QuestionsConfig(held_out=0.5)


@pytest.fixture
def made(report: Callable[..., RoundReport]) -> Callable[..., RoundReport]:
    """Makes the report of a round with questions, half of whose games are held out."""

    def of(**settings: Any) -> RoundReport:
        asked = {"held_out": 0.5, **settings.pop("questions", {})}
        return report(adapter="adapter-good", envs=[ENV], seeds=20, collect="random", questions=asked, **settings)

    return of


@pytest.fixture
def lab(spelling: Callable[..., Lab], made: Callable[..., RoundReport]) -> Lab:
    """A lab that has explored twenty games."""
    lab = spelling()
    collect(lab, made())
    return lab


def of(lab: Lab, report: RoundReport, wanted: int = 25) -> Made:
    return questions(lab, report, frozenset(), lab.engine.tokenize, wanted)  # type: ignore[attr-defined]


def out(one: Question | Episode) -> bool:
    """Whether its game is held out."""
    task = one.task if isinstance(one, Question) else one.task_id
    return held_out(ENV, task_parts(task).seed, HALF)


def test_nothing_of_a_held_out_game_is_taught_and_no_question_is_both_taught_and_asked(
    lab: Lab, made: Callable[..., RoundReport]
) -> None:
    found, report = of(lab, made()), made()
    assert found.trained and not any(map(out, found.trained))
    assert found.held_out and all(map(out, found.held_out))
    assert {one.kind for one in found.trained} == {one.kind for one in found.held_out} == {"command", "lesson"}
    assert not {one.prompt for one in found.trained} & {one.prompt for one in found.held_out}
    taught = records(lab, report, [])
    assert not any(map(out, lab.database.episodes.load(taught.episodes)))
    assert taught.left_out["held out for questions"] > 0


def test_all_variants_of_a_game_are_on_one_side() -> None:
    sides = [
        {held_out(env, seed, HALF) for env in ("toy/doors", "toy/doors?rooms=1", ENV)} for seed in map(str, range(40))
    ]
    assert all(len(side) == 1 for side in sides) and 10 <= sum(side == {True} for side in sides) <= 30
    assert not any(held_out(ENV, seed, None) for seed in range(40))


def test_the_share_is_that_of_all_that_is_taught_and_at_0_questions_are_only_asked(
    lab: Lab, made: Callable[..., RoundReport]
) -> None:
    taught = records(lab, report := made(questions={"share": 0.25}), [])
    assert taught.selected["questions"] == report.questions["trained"] == round(taught.selected[ENV] / 3) > 0
    lab.database.journal.clear("questions|round-1")
    none = records(lab, report := made(questions={"share": 0.0}), [])
    assert report.questions["trained"] == 0 < report.questions["held_out"]
    assert len(none.records) == none.selected[ENV]
    lab.database.journal.clear("questions|round-1")
    most = records(lab, report := made(questions={"share": 0.9}), [])
    assert most.short_of["questions"] == 9 * most.selected[ENV] - report.questions["trained"] > 0


def test_the_answer_is_what_led_on_and_no_wrong_one_is_right_as_well(
    lab: Lab, made: Callable[..., RoundReport]
) -> None:
    found = of(lab, made())
    right: dict[str, set[str]] = {}
    for one in [*found.trained, *found.held_out]:
        right.setdefault(one.prompt, set()).add(one.answer)
        (episode,) = lab.database.episodes.load([one.episode])
        if one.kind == "command":
            assert episode.won and any(
                step.action == one.answer and step.observation.strip() in one.prompt for step in episode.steps
            )
        else:
            assert one.answer == lab.database.reflections.get(one.reflections[0]).text
    for one in found.held_out:
        assert 1 <= len(one.wrong) <= 3 and not right[one.prompt] & {*one.wrong}


def test_a_taught_lesson_is_in_the_lineage_of_what_learned_it(lab: Lab, made: Callable[..., RoundReport]) -> None:
    taught = records(lab, report := made(), [])
    asked = of(lab, report).trained
    assert {id for one in asked for id in one.reflections} == {*taught.reflections}
    assert {one.episode for one in asked} <= {*taught.episodes}


def note(lab: Lab, id: str, split: str = "train", **values: Any) -> str:
    """A note after a step of a game that is taught, with a text of its own."""
    rows = lab.database.episodes.find(EpisodeFilter(env=ENV, split=split))
    episode = next(one for one in lab.database.episodes.each(row.id for row in rows) if split == "dev" or not out(one))
    lab.database.reflections.put(
        Reflection(
            id=id,
            kind="written",
            env=ENV,
            task=f"{ENV}:train:{episode.seed}",
            text=f"Told by {id}.",
            evidence=[Evidence(episode=episode.id, steps=[0])],
            **values,
        )
    )
    return f"Told by {id}."


def test_only_what_is_in_use_and_not_on_probation_and_rests_on_train_games_is_a_source(
    lab: Lab, made: Callable[..., RoundReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentlab.rounds.questions.PER_TASK", 1000)
    lab.evaluate(ENV, split="dev", seeds=range(2), arms=["random"])
    own, vouched = note(lab, "own"), note(lab, "vouched", source="a file", vouched=True)
    note(lab, "stranger", source="a file")
    note(lab, "benched", status="benched")
    note(lab, "foreign", namespace="another")
    note(lab, "dev", split="dev")
    told = {one.answer for part in of(lab, made(), 1000) for one in part if one.answer.startswith("Told by")}
    # Both are answers to the same question, which is taught once.
    assert len(told) == 1 and told < {own, vouched}
    lab.database.reflections.put(lab.database.reflections.get("own").model_copy(update={"status": "benched"}))
    lab.database.journal.clear("questions|round-1")
    assert vouched in {one.answer for one in of(lab, made(), 1000).trained}


def test_a_game_that_begins_like_a_held_out_one_of_another_fold_is_no_source(
    lab: Lab, made: Callable[..., RoundReport]
) -> None:
    from trainers.data import start_of

    rows = lab.database.episodes.find(EpisodeFilter(env=ENV, split="train"))
    every = frozenset(map(start_of, lab.database.episodes.each(row.id for row in rows)))
    assert questions(lab, made(), every, lab.engine.tokenize, 100) == ([], [])  # type: ignore[attr-defined]


def test_the_same_are_asked_whatever_becomes_of_the_memory_until_they_are_answered(
    lab: Lab, made: Callable[..., RoundReport]
) -> None:
    first = of(lab, report := made())
    for reflection in lab.database.reflections.find():
        lab.database.reflections.put(reflection.model_copy(update={"status": "benched"}))
    assert of(lab, report) == first
    report.adapter = None  # the base, twice
    ask(lab, report)
    assert report.questions["answered"]["n"] == len(first.held_out)
    assert lab.database.journal.items("questions|round-1") == {}


class Knowing(ScriptedEngine):
    """Gives each token of a text that it knows -1 nat with an adapter and -3 without, and of others -2."""

    context = 2048

    def __init__(self, known: Sequence[str]) -> None:
        super().__init__({})
        self.known = known

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode())

    def logprob(
        self, token_ids: Sequence[int], spans: Sequence[tuple[int, int]], adapter: Adapter | None = None
    ) -> float:
        ((start, end),) = spans
        said = bytes(token_ids[start:end]).decode().strip()
        return (end - start) * (-2.0 if said not in self.known else -1.0 if adapter else -3.0)


def test_an_answer_counts_by_its_mean_a_token_however_long_it_is(
    lab: Lab, made: Callable[..., RoundReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = of(lab, report := made()).held_out
    known = {one.answer for one in asked if one.kind == "lesson"}
    engine = Knowing([*known])
    monkeypatch.setattr(
        Lab, "model", lambda self, adapter=None: SimpleNamespace(engine=engine, adapter=Adapter("a", Path()))
    )
    ask(lab, report)
    found = report.questions["answered"]
    # Wrong lessons are known too where they are the answer to another question: then none is ahead.
    clear = sum(one.answer in known and not known & {*one.wrong} for one in asked)
    assert (found["before"], found["after"]) == (0, clear)
    assert found["chance"] == pytest.approx(sum(1 / (1 + len(one.wrong)) for one in asked) / len(asked))


def test_what_is_said_of_answers_is_what_one_reckons_by_hand() -> None:
    def one(at: int) -> Question:
        return Question(
            kind="command" if at < 4 else "lesson", env="e", task="e:train:1", prompt=str(at), answer="a",
            episode="ep", wrong=["b", "c", "d"] if at else ["b"],
        )  # fmt: skip

    asked = [one(at) for at in range(10)]
    before = {one.id: at < 2 for at, one in enumerate(asked)}
    after = {one.id: at >= 1 for at, one in enumerate(asked)}
    found = answered(asked, before, after)
    assert (found.n, found.before, found.after) == (10, 2, 9)
    assert found.kinds == {"command": (4, 2, 3), "lesson": (6, 0, 6)}
    assert found.chance == pytest.approx((9 / 4 + 1 / 2) / 10)
    # Right only after: 8, only before: 1; twice the tail of Binomial(9, 1/2) from 8 on is 20 / 512.
    assert found.paired.p == pytest.approx(20 / 512) and found.paired.difference == pytest.approx(0.7)
    assert found.before_interval == pytest.approx((0.0567, 0.5098), abs=1e-4)
    assert "2 of 10" in found.line and "9 of 10" in found.line and "0.28" in found.line


@pytest.mark.parametrize("objective", ["dpo", "kto", "soft_distill", "grpo"])
def test_an_objective_that_learns_from_no_texts_refuses_questions(objective: str) -> None:
    asked = {"envs": [ENV], "questions": {}, "training": {"objective": objective}}
    with pytest.raises(BadConfig, match=r"^`questions` would do nothing"):
        check_settings(RoundConfig.model_validate(asked))


def test_an_engine_that_scores_no_texts_refuses_them_before_anything_is_played(
    open_lab: Callable[..., Lab], made: Callable[..., RoundReport]
) -> None:
    with pytest.raises(BadConfig, match="scores no texts"):
        check_sources(open_lab(), made().config)


@pytest.mark.parametrize("bad", ["{ share = 1.0 }", "{ held_out = 0.0 }", "{ asked = 0 }", "{ shares = 0.1 }", "3"])
def test_bad_settings_end_in_a_line_and_exit_code_2(bad: str, tmp_path: Path, open_lab: Callable[..., Lab]) -> None:
    open_lab().close()
    file = tmp_path / "round.toml"
    file.write_text(f'envs = ["{ENV}"]\nquestions = {bad}\n')
    result = CliRunner().invoke(app, ["rounds", "run", "--config", str(file), "--lab", str(tmp_path / "lab")])
    assert result.exit_code == 2 and "questions" in result.output and "Traceback" not in result.output


ROUND = {
    "envs": ["toy/doors?colours=3,rooms=1,step_limit=6"], "seeds": 20, "gate_seeds": 8, "held_out_seeds": 5,
    "gate": {"min_pairs": 8}, "forgetting": {"seeds": 0}, "retire": "off", "selection": {"cap_per_task": 1},
    "training": {"learning_rate": 5e-3, "epochs": 4, "max_tokens": 400, "spike": 0.0},
    "questions": {"share": 0.5, "held_out": 0.4},
}  # fmt: skip

DIES = """
import os, signal
from pathlib import Path
from agentlab import Lab, LabConfig, RoundConfig
from agentlab.progress import Progress

class Dies(Progress):
    def advance(self, stage, units=1, note=""):
        if stage == sys.argv[3]:
            os.kill(os.getpid(), signal.SIGKILL)

config = LabConfig(model=sys.argv[2], embedder="hashing", dtype="float32", threads=1, context=512)
with Lab.open(Path(sys.argv[1]), create=True, config=config, progress=Dies()) as lab:
    lab.round(RoundConfig.model_validate(ROUND))
"""


@pytest.mark.slow
def test_a_round_that_is_killed_while_it_trains_or_asks_ends_as_an_unbroken_one(
    tmp_path: Path, tiny_model: Path, open_at: Callable[..., Lab], in_a_process: Callable[..., tuple[int, str]],
    timeless: Callable[[RoundReport], dict[str, Any]],
) -> None:  # fmt: skip
    code = f"ROUND = {ROUND!r}\n{DIES}"
    for stage in ("training", "asking held-out questions"):
        ended, said = in_a_process(code, str(tmp_path / "broken"), str(tiny_model), stage)
        assert ended == -signal.SIGKILL, said
    found = []
    for name in ("broken", "whole"):
        with open_at(tmp_path / name) as lab:
            found.append(timeless(lab.round(RoundConfig.model_validate(ROUND))))
            assert lab.database.journal.items("questions|round-1") == {}
    assert found[0] == found[1]
    told = found[0]["questions"]
    assert told["answered"]["n"] == told["held_out"] > 0 and told["trained"] == found[0]["selected"]["questions"] > 0
    assert told["answered"]["after"] > told["answered"]["before"]


def test_a_round_that_could_hold_no_question_out_says_so(
    report: Callable[..., RoundReport], capsys: pytest.CaptureFixture[str]
) -> None:
    made = report(questions={})
    made.monitors = {"k": 4, "s": 2, "successes": 0, "distinct": 0}
    made.questions = {"trained": 5, "held_out": 0}
    print_report(made)
    assert "none" in " ".join(capsys.readouterr().out.split()).partition("held-out questions")[2][:8]


def test_what_is_purged_while_a_round_goes_on_is_not_learned_by_it(
    tmp_path: Path, tiny_model: Path, open_at: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_at(tmp_path / "lab") as lab:
        config = RoundConfig.model_validate(ROUND)
        assert run_round(lab, config, until="train").phase == "train"
        job = lab.folder / "jobs" / "round-1"
        assert Lineage.model_validate_json((job / "lineage.json").read_bytes()).reflections
        everything = lab.database.reflections.ids(lab.database.reflections.numbers(Filter(status=None)))
        with monkeypatch.context() as broken:
            broken.setattr(purging, "purge", lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                purge_all(lab, everything)
        assert not job.exists(), "gone before the texts, so that a kill in between leaves none to learn from"
        purge_all(lab, everything)
        report = lab.round(config)
        assert report.phase == "done" and report.adapter is not None
        learned = lab.adapters.get(report.adapter).lineage
        assert learned.episodes and not learned.reflections


def test_a_purge_names_what_was_trained_on_the_tokens_of_it(lab: Lab, made: Callable[..., RoundReport]) -> None:
    select(lab, report := made())
    job = lab.folder / "jobs" / report.id
    (job / "done").touch()  # as it is once it was trained
    (taught, *_) = Lineage.model_validate_json((job / "lineage.json").read_bytes()).reflections
    kept = lab.database.reflections.get(taught).merged_into or taught
    notes = purge_all(lab, [kept]).notes
    assert job.exists() and any(f"jobs/{report.id}" in note for note in notes)


def test_a_person_is_shown_how_many_were_right_before_and_after(
    lab: Lab, made: Callable[..., RoundReport], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = of(lab, report := made()).held_out
    before, after = ({one.id: at % share == 0 for at, one in enumerate(asked)} for share in (2, 1))
    report.questions["answered"] = answered(asked, before, after).model_dump(mode="json")
    report.monitors = {"k": 4, "s": 2, "successes": 0, "distinct": 0}
    print_report(report)
    shown = " ".join(capsys.readouterr().out.split())
    n, half = len(asked), sum(before.values())
    assert f"{half} of {n} right before" in shown and f"{n} of {n} right after" in shown
    first, last = watched(report).figures[-2:]
    assert (first.value, last.value, first.n, last.n) == (pytest.approx(half / n), 1.0, n, n)
    assert first.low is not None and first.high is not None and first.low < half / n < first.high
