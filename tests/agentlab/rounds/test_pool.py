"""What a round may learn from, and what selectors know about it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agentlab.errors import AgentLabError, BadConfig
from agentlab.lab import Lab
from agentlab.rounds import RoundReport
from agentlab.rounds.pool import _loss, check_sources, context, history, improve, pool, rules
from agentlab.rounds.records import TEXTS, records
from agentlab.rounds.report import save
from memory.errors import UnknownEpisode
from memory.records import Episode, Step
from trainers.data.selection import survey
from trainers.errors import BadTexts, CannotSelect

Opened = Callable[..., Lab]
Made = Callable[..., RoundReport]
ENV = "toy/doors?colours=2,rooms=1,step_limit=4"


def step(index: int, action: str, **more: Any) -> Step:
    fields = {"observation": f"Room {index}.", "state": f"In room {index}.", "admissible": ["go", "wait"]}
    after = {"result": f"Room {index + 1}.", "next_state": f"In room {index + 1}."}
    return Step.model_validate({"index": index, "action": action, **fields, **after, **more})


def episode(seed: int, status: str = "won", *actions: str, **more: Any) -> Episode:
    """An episode of so many steps, by default of one."""
    steps = [step(index, action) for index, action in enumerate(actions or ("go",))]
    fields = {"id": f"ep-{seed}-{status}", "run": "r", "env": ENV, "split": "train", "goal": f"Goal {seed}."}
    score = 1.0 if status == "won" else 0.25
    return Episode.model_validate({**fields, "seed": seed, "status": status, "score": score, "steps": steps, **more})


@pytest.fixture
def lab(spelling: Opened) -> Lab:
    """A lab with three games won, two of which were lost as well."""
    lab = spelling()
    for one in (episode(0), episode(1), episode(2), episode(0, "lost"), episode(1, "truncated"), episode(3, "errored")):
        lab.database.episodes.put(one)
    lab.database.episodes.put(episode(9).model_copy(update={"split": "dev"}))
    return lab


def ids(lab: Lab, made: RoundReport) -> list[str]:
    return sorted(item.episode.id for item in pool(lab, made).items)


def rounds_before(lab: Lab, *collected: bool) -> None:
    """As if so many rounds had been run and trained, each of which collected or not."""
    from agentlab.rounds import RoundConfig
    from trainers.adapters.record import AdapterRecord
    from trainers.job import Lineage

    for number, new in enumerate(collected, 1):
        report = RoundReport(id=f"round-{number}", number=number, config=RoundConfig(envs=[ENV]), adapter=f"a-{number}")
        report.collected = {"random": {"tasks": 1, "won": 1}} if new else {}
        save(lab, report, "done")
        named = [f"ep-{seed}-won" for seed in range(number)]
        record = AdapterRecord(
            id=f"a-{number}", base="b", fingerprint="f", path=f"adapters/{number}", lineage=Lineage(episodes=named)
        )
        lab.adapters.records.put(record)


def test_a_round_learns_from_wins_and_where_that_is_asked_for_from_what_was_not_won(lab: Lab, report: Made) -> None:
    assert ids(lab, report()) == ["ep-0-won", "ep-1-won", "ep-2-won"]
    everything = ["ep-0-lost", "ep-0-won", "ep-1-truncated", "ep-1-won", "ep-2-won"]
    assert ids(lab, report(selection={"only_won": False})) == everything
    assert ids(lab, report(training={"objective": "kto"})) == everything
    votes = [{"kind": "votes"}]
    assert ids(lab, report(selection={"selectors": votes})) == everything
    assert len(ids(lab, report(selection={"selectors": votes, "only_won": True}))) == 3


def test_a_balanced_threshold_takes_the_place_of_having_won(lab: Lab, report: Made) -> None:
    made = report()
    made.balance = {"temperature": 1.0, "threshold": 0.2, "score": 0.5}
    assert len(ids(lab, made)) == 5
    made.balance["threshold"] = 0.5
    assert ids(lab, made) == ["ep-0-won", "ep-1-won", "ep-2-won"]
    assert pool(lab, made).left_out == {"score below the balanced threshold": 2}


def test_context_distillation_learns_from_what_was_played_with_memory(lab: Lab, report: Made) -> None:
    lab.database.episodes.put(episode(4, recalled=["rf-1"], hints="Go."))
    # Its refined form recalled nothing; it must not take the place of the episode that did.
    lab.database.episodes.put(episode(4, id="refined", minimised_from="ep-4-won"))
    made = report(learn_from="recalled")
    assert ids(lab, made) == ["ep-4-won"] and pool(lab, made).left_out == {"nothing recalled": 4}
    taught = records(lab, made, [])
    assert taught.episodes == ["ep-4-won"] and taught.reflections == ["rf-1"]
    text = bytes(taught.records[0].token_ids).decode()  # type: ignore[union-attr]
    assert "Goal 4." in text and "Hints" not in text


def test_soft_distillation_learns_from_episodes_in_which_a_model_chose(lab: Lab, report: Made) -> None:
    thought = step(0, "go", scores=[-0.1, -2.0])
    lab.database.episodes.put(episode(5, steps=[thought]))
    made = report(training={"objective": "soft_distill"}, teacher={"temperature": 2.0})
    assert ids(lab, made) == ["ep-5-won"] and pool(lab, made).left_out == {"no teacher played": 3}
    (record,) = records(lab, made, []).records
    (choice,) = record.choices  # type: ignore[union-attr]
    assert choice.probabilities == pytest.approx([0.72111518, 0.27888482]), "softmax of scores by two"


def test_what_was_relabelled_leads_back_to_what_was_played(lab: Lab, report: Made) -> None:
    made = report(selection={"hindsight": True})
    relabelled = episode(7, id="made", relabelled_from="ep-0-lost")
    assert pool(lab, made).origin(relabelled) == ["ep-0-lost"]


def test_history_is_the_first_round_whose_lineage_names_an_episode(lab: Lab, report: Made) -> None:
    rounds_before(lab, True, False)
    made = report().model_copy(update={"id": "round-3", "number": 3})
    assert history(lab, made, pool(lab, made)) == {"ep-0-won": 1, "ep-1-won": 2}


@pytest.mark.parametrize(
    ("collected", "now", "steps"),
    [((), True, 0), ((), False, 0), ((True,), False, 1), ((True, False), False, 2), ((True,), True, 0),
     ((False,), False, 1)],
)  # fmt: skip
def test_improve_steps_are_counted_from_the_last_round_that_collected(
    lab: Lab, report: Made, collected: tuple[bool, ...], now: bool, steps: int
) -> None:
    rounds_before(lab, *collected)
    made = report().model_copy(update={"id": "round-9", "number": 9})
    made.collected = {"random": {"tasks": 1, "won": 1}} if now else {}
    assert improve(lab, made) == steps


def test_a_rising_threshold_sees_the_improve_steps_of_its_round(lab: Lab, report: Made) -> None:
    rounds_before(lab, True)
    selection = {"selectors": [{"kind": "threshold", "at": [0.1, 0.5]}]}
    made = report(selection=selection).model_copy(update={"number": 2, "id": "round-2"})
    assert records(lab, made, []).left_out == {"score below the threshold": 2}


def test_a_rehearsal_draws_on_earlier_rounds_anchors_and_texts_and_says_what_it_lacks(
    lab: Lab, report: Made, tmp_path: Path
) -> None:
    rounds_before(lab, True)
    file = tmp_path / "texts.jsonl"
    file.write_text(json.dumps({"text": "Rain falls."}) + "\n")
    lab.database.episodes.put(episode(6))
    shares = {"kind": "rehearsal", "new": 0.4, "replay": 0.2, "general": 0.2, "anchor": 0.2, "size": 10}
    settings = {"selection": {"selectors": [shares]}, "anchors": ["ep-6-won"], "general": str(file)}
    made = report(**settings).model_copy(update={"id": "round-2", "number": 2})
    found = records(lab, made, [])
    assert found.selected == {ENV: 4, TEXTS: 1} and "ep-6-won" in found.episodes
    assert found.short_of == {"new": 2, "replay": 1, "general": 1, "anchor": 1}
    assert bytes(found.records[-1].token_ids) == b"Rain falls."  # type: ignore[union-attr]
    other = report(**settings, training={"objective": "kto"}).model_copy(update={"id": "round-2", "number": 2})
    assert records(lab, other, []).left_out[f"{TEXTS}, from which kto cannot learn"] == 1


def test_importance_weighs_by_the_loss_of_the_base(lab: Lab, report: Made) -> None:
    selection = {"selectors": [{"kind": "importance", "share": 1.0, "weigh": True}]}
    made = report(selection=selection, validation=["ep-0-won"])
    known = context(lab, made, pool(lab, made))
    assert known.loss is not None and known.loss(episode(1)) == pytest.approx(0.5)
    assert [one.id for one in known.validation] == ["ep-0-won"]
    assert records(lab, made, []).selected == {ENV: 3}
    assert context(lab, report(), pool(lab, report())).loss is None, "it costs a pass for each episode"


def test_step_values_come_from_all_that_was_tried_at_a_task(lab: Lab, report: Made) -> None:
    """Of the wait that lost nothing was won; after the go something was."""
    lab.database.episodes.put(episode(8, "won", "go", "go"))
    lab.database.episodes.put(episode(8, "lost", "go", "wait"))
    made = report(selection={"selectors": [{"kind": "step_values"}]})
    known = context(lab, made, pool(lab, made))
    assert known.reaches is not None
    assert known.reaches(episode(8, "lost", "go", "wait")) == [True, False]
    assert known.reaches(episode(8, "won", "go", "go", "go")) == [True] * 3, "one that nobody played goes by its end"


def test_every_step_towards_a_goal_that_was_reached_in_hindsight_has_value(lab: Lab, report: Made) -> None:
    """The same steps lose the game that was played, as its tree knows; for the new goal they are the way."""
    lost = episode(8, "lost", "go", "wait")
    lab.database.episodes.put(episode(8, "won", "wait"))
    lab.database.episodes.put(lost)
    made = report(selection={"hindsight": True, "selectors": [{"kind": "step_values"}]})
    here = pool(lab, made)
    known = context(lab, made, here)
    assert known.reaches is not None and known.reaches(lost) == [False, False]
    relabelled = lost.model_copy(update={"id": "new", "goal": "Go.", "status": "won", "relabelled_from": lost.id})
    assert known.reaches(relabelled) == [True, True]
    chosen = survey([relabelled], rules(made), 0, context=known).selected
    assert [item.step_weights for item in chosen] == [[0.5, 1.0]]


def test_games_to_be_held_to_the_base_must_have_been_played(lab: Lab, report: Made) -> None:
    config = report(kl={"envs": [ENV]}).config
    check_sources(lab, config)
    lab.database.episodes.put(episode(3, "errored").model_copy(update={"env": "twx/coin", "id": "broken"}))
    with pytest.raises(BadConfig, match="no train episode of twx/coin, twx/mapreader to regularise the adapter to"):
        check_sources(lab, report(kl={"envs": ["twx/coin", ENV, "twx/mapreader"]}).config)


def test_what_the_settings_name_must_be_there_before_anything_is_played(lab: Lab, report: Made, tmp_path: Path) -> None:
    with pytest.raises(UnknownEpisode):
        check_sources(lab, report(anchors=["ep-none"]).config)
    with pytest.raises(BadTexts):
        check_sources(lab, report(general=str(tmp_path / "none.jsonl")).config)
    with pytest.raises(BadConfig, match="This engine makes no passes with dropout"):
        check_sources(lab, report(selection={"selectors": [{"kind": "uncertainty"}]}).config)
    selectors = {"selectors": [{"kind": "importance"}]}
    with pytest.raises(BadConfig, match="trusted episodes"):
        check_sources(lab, report(selection=selectors).config)
    with pytest.raises(CannotSelect):
        records(lab, report(selection=selectors), [])
    check_sources(lab, report(selection=selectors, anchors=["ep-0-won"]).config)


def test_an_episode_too_long_to_train_on_has_no_finite_loss() -> None:
    engine = SimpleNamespace(tokenize=lambda text: list(text.encode()), logprob=lambda ids, spans: -6.0)
    lab: Any = SimpleNamespace(engine=engine)
    assert 0 < _loss(lab, 4096)(episode(1)) < 6.0
    assert _loss(lab, 8)(episode(1)) == math.inf


def test_what_may_be_learned_from_is_read_a_few_at_a_time_and_held_without_its_scores(
    spelling: Opened, report: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = spelling()
    scored = [step(0, "go", scores=[-1.0, -2.0], bonus=[0.5, 0.0])]
    for seed in range(60):
        lab.database.episodes.put(episode(seed, steps=scored))
        lab.database.episodes.put(episode(seed, "lost", steps=scored))
        lab.database.episodes.put(episode(seed, id=f"refined-{seed}", minimised_from=f"ep-{seed}-won"))
    read: list[list[str]] = []
    load = lab.database.episodes.load

    def watched(ids: Any) -> Any:
        read.append(list(ids))
        return load(ids)

    monkeypatch.setattr(lab.database.episodes, "load", watched)
    found = pool(lab, report())
    assert sorted(item.episode.id for item in found.items) == sorted(f"refined-{seed}" for seed in range(60))
    assert max(map(len, read)) <= 20, "all of them at once would be 60"
    assert sum(map(len, read)) == 60, "what was refined and what was lost is not read"
    assert found.left_out == {"minimised": 60}
    assert all(one.scores is None for item in found.items for one in item.episode.steps)


def test_a_teacher_is_read_with_its_scores(spelling: Opened, report: Made) -> None:
    lab = spelling()
    lab.database.episodes.put(episode(0, steps=[step(0, "go", scores=[-1.0, -2.0])]))
    (item,) = pool(lab, report(training={"objective": "soft_distill"})).items
    assert item.episode.steps[0].scores == [-1.0, -2.0]


def playing(monkeypatch: pytest.MonkeyPatch, started: Callable[[str, str], str]) -> None:
    """Environments whose games begin with what `started` makes of the task and of what they said."""
    from agentlab.trajectories import environment_pool
    from environments import make

    def made(env_id: str, worker: Any) -> Any:
        env = make(env_id, worker)
        start = env.start

        def other(task: Any) -> Any:
            observation, info = start(task)
            return started(task.id, observation), info

        env.start = other  # type: ignore[method-assign]
        return env

    pool = environment_pool.EnvironmentPool
    monkeypatch.setattr(environment_pool, "EnvironmentPool", lambda: pool(made))


def test_held_out_games_are_begun_once_in_the_life_of_a_lab(
    spelling: Opened, report: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentlab.rounds.held_out import held_out

    begun: list[str] = []

    def noted(task: str, said: str) -> str:
        begun.append(task)
        return said

    playing(monkeypatch, noted)
    lab, made = spelling(), report(envs=["toy/doors"], held_out_seeds=30)
    first = held_out(lab, made)
    assert len(begun) == len(first) > 30
    begun.clear()
    assert held_out(lab, made) == first
    assert len(begun) <= 2, "one of each fold, to see that the games are the same"
    more = held_out(lab, report(envs=["toy/doors"], held_out_seeds=40))
    assert set(first) < set(more) and len(more) == len(first) + 20, "ten more of each fold"


def test_easier_variants_that_are_learned_from_are_looked_at_too(spelling: Opened, report: Made) -> None:
    from agentlab.rounds.held_out import held_out
    from agentlab.rounds.ladder import learned_from
    from agentlab.workspace import starts

    lab = spelling()
    made = report(envs=["toy/doors"], ladder=True, gate_seeds=1, held_out_seeds=2, forgetting={"seeds": 0})
    held_out(lab, made)
    known = learned_from(made.config)
    assert len(known) > 1
    assert all(len(lab.database.journal.items(starts.scope(env, "dev"))) == 2 for env in known)


def test_held_out_games_that_have_changed_are_looked_at_anew(
    spelling: Opened, report: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentlab.rounds.held_out import held_out

    lab, made, word = spelling(), report(envs=["toy/doors"], held_out_seeds=5), ["Newer. "]
    first = held_out(lab, made)
    playing(monkeypatch, lambda task, said: f"{word[-1]}{said}")
    assert held_out(lab, made) == [(goal, f"Newer. {observation}") for goal, observation in first]
    word.append("Newest. ")
    held_out(lab, report(envs=["toy/doors"], held_out_seeds=3))
    assert held_out(lab, made) == [(goal, f"Newest. {observation}") for goal, observation in first]


def test_where_no_held_out_game_can_begin_nothing_is_selected(
    spelling: Opened, report: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentlab.rounds.held_out import held_out

    def broken(task: str, said: str) -> str:
        if ":test:" in task:
            raise RuntimeError("no test games here")
        return said

    playing(monkeypatch, broken)
    lab = spelling()
    with pytest.raises(AgentLabError, match="no test games here"):
        held_out(lab, report(envs=["toy/doors"], held_out_seeds=5))
    assert held_out(lab, report(envs=["toy/doors"], held_out_seeds=0)), "what is not asked for is not missed"
