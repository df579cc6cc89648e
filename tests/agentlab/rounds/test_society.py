"""Multiagent finetuning: what each agent of a society learns from, and a round that trains them."""

from __future__ import annotations

import runpy
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from agentlab.errors import AgentLabError, BadConfig
from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport
from agentlab.rounds.checking import check_settings
from agentlab.rounds.parts import SocietyConfig
from agentlab.rounds.report import save
from agentlab.rounds.society import Game, own_episodes
from environments import Task, TextEnv, registry
from memory.records import Episode, Step
from memory.store import EpisodeFilter
from trainers import Member, job

SCRIPT = Path(__file__).with_name("society_script.py")
own: Any = runpy.run_path(str(SCRIPT))
ENV = own["ENV"]

Play = Callable[[str], Episode | None]
Ids = dict[str, list[str]]


@pytest.fixture(scope="module", autouse=True)
def game() -> Iterator[None]:
    own["added"]()
    yield
    registry.unregister(ENV)


@pytest.fixture
def play(lived: Callable[..., Episode], step: Callable[..., Step]) -> Play:
    """Makes an attempt of `won a` (its end, and its action); `-` errored."""
    number = 0

    def made(text: str) -> Episode | None:
        nonlocal number
        number += 1
        status, *action = text.split()
        return None if text == "-" else lived(step(0, *action or ["wait"]), status=status, id=f"{number}: {text}")

    return made


def games(play: Play, *rows: str) -> list[Game]:
    """Games of two agents: what both generators, then both critics, came to, with commas between."""
    found = [[play(one.strip()) for one in row.split(",")] for row in rows]
    return [Game(one[:2], one[2:]) for one in found]


def ids(found: dict[str, list[Episode]]) -> Ids:
    return {name: [one.id for one in episodes] for name, episodes in found.items()}


def learned(played: list[Game], *, seed: int = 0, **settings: Any) -> Ids:
    return ids(own_episodes(played, SocietyConfig(agents=2, **settings), seed))


def test_a_generator_learns_from_its_own_attempts_that_are_right(play: Play) -> None:
    played = games(play, "won, lost, lost, lost", "lost, won, lost, lost", "won, won, lost, lost", "truncated, -, -, -")
    assert learned(played) == {"generator 1": ["1: won", "9: won"], "generator 2": ["6: won", "10: won"]}


def test_a_critic_learns_from_what_it_came_to_after_its_own_generator_was_wrong_and_after_it_was_right(
    play: Play,
) -> None:
    played = games(play, "lost, won, won, lost", "won, lost, won, -", "won, lost, lost, won", "-, lost, won, lost")
    found = learned(played)
    # Critic 1: corrected in game 1, right again in game 2, talked out of it in game 3; in game 4 nothing is known.
    assert sorted(found["critic 1"]) == ["3: won", "7: won"]
    assert found["critic 2"] == ["12: won"]


def test_the_share_w_of_what_a_critic_learns_from_is_corrected(play: Play) -> None:
    played = games(play, *["lost, lost, won, lost"] * 2, *["won, lost, won, lost"] * 8)
    corrected = {"3: won", "7: won"}
    for share, wanted in ((0.5, 5), (0.3, 3), (0.9, 9), (0.01, 1), (0.99, 9)):
        found = learned(played, corrected=share)["critic 1"]
        counts = Counter(id in corrected for id in found)
        # 2 + 8 in all, of which w · 10 are corrected; none is left out or taken all the time by chance.
        assert (len(found), counts[True]) == (10, wanted)
        of_each = Counter(found)
        for kind in (corrected, {*of_each} - corrected):
            numbers = [of_each[id] for id in kind if id in of_each]
            assert max(numbers) - min(numbers) <= 1
    assert set(learned(played, corrected=0.5)["critic 1"]) >= corrected


def test_a_critic_that_corrected_nothing_learns_from_what_stayed_right(play: Play) -> None:
    assert learned(games(play, "won, lost, won, lost"), corrected=0.9)["critic 1"] == ["3: won"]
    assert learned(games(play, "lost, lost, won, lost"), corrected=0.1)["critic 1"] == ["7: won"]
    assert "critic 2" not in learned(games(play, "won, lost, won, lost"))


def test_by_votes_right_is_what_most_critics_came_to_whatever_the_game_says(play: Play) -> None:
    played = games(
        play,
        "lost a, won b, lost a, lost a",  # a has both votes
        "won a, lost b, won a, lost b",  # one each: nobody is right
        "lost a, lost c, won c, -",
    )
    found = learned(played, target="votes")
    assert found.keys() == {"generator 1", "generator 2", "critic 1", "critic 2"}
    assert found["generator 1"] == ["1: lost a"] and found["generator 2"] == ["10: lost c"]
    assert sorted(found["critic 1"]) == ["11: won c", "3: lost a"] and found["critic 2"] == ["4: lost a"]


def test_the_same_seed_takes_the_same_and_another_one_others(play: Play) -> None:
    played = games(play, *["lost, lost, won, lost"] * 9, "won, lost, won, lost")
    one, again, other = (learned(played, corrected=0.4, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert set(one["critic 1"]) != set(other["critic 1"])


# -- settings ----------------------------------------------------------------------------------------------------------


def config(**settings: Any) -> RoundConfig:
    return RoundConfig.model_validate({"envs": [ENV], "expert": {"society": {}}, **settings})


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"collect": "model"}, "`collect`"),
        ({"ladder": True}, "`ladder`"),
        ({"selection": {"cap_per_task": 1}}, "`selection`"),
        ({"balance": {}}, "`balance`"),
        ({"questions": {}}, "`questions`"),
        ({"kl": {"envs": ["toy/doors"]}}, "`kl`"),
        ({"training": {"objective": "dpo"}}, "dpo"),
        ({"training": {"objective": "grpo"}}, "grpo"),
    ],
)
def test_what_a_society_cannot_use_is_refused_in_one_line(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(BadConfig, match=named) as refused:
        check_settings(config(**settings))
    assert "\n" not in str(refused.value)


def test_how_a_society_plays_and_trains_can_be_set() -> None:
    check_settings(config(temperature=0.7, training={"objective": "minor_sft", "epochs": 4, "spike": 0}))
    assert config().ways(None) == config().ways("adapter-1") == []
    assert len(config(seeds=7, gate_seeds=3, retire="off").tasks(1)) == 10


@pytest.mark.parametrize("settings", [{"agents": 1}, {"corrected": 0.0}, {"corrected": 1.0}, {"target": "x"}, {"w": 1}])
def test_a_society_of_nonsense_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SocietyConfig(**settings)


def test_a_society_cannot_be_trained_elsewhere(open_lab: Callable[..., Lab], tmp_path: Path) -> None:
    from agentlab.rounds import export_round

    lab = open_lab()
    with pytest.raises(BadConfig, match="leave out `--export`"):
        export_round(lab, config(), tmp_path / "job")
    assert lab.rounds() == []
    save(lab, RoundReport(id="round-1", number=1, config=config(), phase="society"))
    with pytest.raises(AgentLabError, match="plays and trains in one part"):
        export_round(lab, RoundConfig(envs=[ENV]), tmp_path / "job")


# -- a round -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, open_at: Callable[..., Lab]) -> Iterator[Lab]:
    """A lab in which a society of two has played and was trained."""
    with open_at(tmp_path_factory.mktemp("society") / "lab") as lab:
        lab.round(own["ROUND"])
        yield lab


def members(lab: Lab) -> dict[str, Any]:
    return {str(record.lineage.member): record for record in lab.adapters.list()}


def test_every_agent_becomes_an_adapter_that_says_which_it_is(done: Lab) -> None:
    (report,) = done.rounds()
    found = members(done)
    assert [*report.society] == ["generator 1", "generator 2", "critic 1", "critic 2"]
    assert {f"{name} of 2": id for name, id in report.society.items()} == {name: one.id for name, one in found.items()}
    assert len({record.weights for record in found.values()}) == 4
    assert {record.lineage.round for record in found.values()} == {"round-1"}
    assert [record.settings["seed"] for record in found.values()] == [0, 1, 2, 3]


def test_each_learned_from_what_it_played_itself(done: Lab) -> None:
    assert done.rounds()[0].collected["society"]["tasks"] == 10
    rows = {row.id: row for row in done.database.episodes.find(EpisodeFilter(run="round-1-society"))}
    assert Counter(row.trial for row in rows.values()) == dict.fromkeys(range(4), 10)
    for name, record in members(done).items():
        trial = ["generator 1 of 2", "generator 2 of 2", "critic 1 of 2", "critic 2 of 2"].index(name)
        assert {rows[id].trial for id in record.lineage.episodes} == {trial}
        assert {rows[id].status for id in record.lineage.episodes} == {"won"}


def test_critics_are_trained_on_prompts_with_the_attempts_and_generators_without(done: Lab) -> None:
    tokenizer = done.engine.tokenize  # type: ignore[union-attr]
    marked = tuple(tokenizer("- Attempt 1"))
    for name, folder in (("generator 2", "round-1-generator-2"), ("critic 1", "round-1-critic-1")):
        for example in job.load(done.folder / "jobs" / folder).examples:
            ids = tuple(example.token_ids)  # type: ignore[union-attr]
            shown = any(ids[at : at + len(marked)] == marked for at in range(len(ids)))
            assert shown == name.startswith("critic")


def test_the_gate_decides_on_the_first_alone_and_the_others_wait(done: Lab) -> None:
    (report,) = done.rounds()
    first, *others = members(done).values()
    assert report.adapter == first.id and first.gate is not None
    assert report.promoted == (done.serving() == first.id)
    assert all(record.status == "candidate" and record.gate is None for record in others)
    assert report.monitors["drift"] is not None and report.training["examples"] == len(first.lineage.episodes)


def test_each_of_them_plays_as_it_was_measured(done: Lab) -> None:
    arm = done.arm("society(round-1)")
    table = done.evaluate(ENV, seeds=range(3), arms=[arm], trials=4)
    (report,) = done.rounds()
    rows = done.database.episodes.find(EpisodeFilter(run=table.about["runs"]["society(round-1)"]))
    played = {row.trial: row.adapter for row in rows}
    assert played == dict(enumerate([*report.society.values()][: len(played)]))


def test_screens_and_cards_say_which_agent_an_adapter_is(done: Lab) -> None:
    from agentlab.views.adapters import adapter, adapters

    for name, record in members(done).items():
        assert name in done.adapters.card(record.id)
        assert adapter(done, record.id).known.record.lineage.member is not None
    assert {row.agent for row in adapters(done).adapters} == {*members(done)}


def test_a_person_is_shown_every_agent_and_whose_the_figures_are(done: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    from agentlab.cli.round_screens import print_report

    (report,) = done.rounds()
    assert report.agent == "generator 1"
    print_report(report)
    shown = " ".join(capsys.readouterr().out.split())
    assert all(f"{name} {id}" in shown for name, id in report.society.items())
    assert "below are of generator 1 alone" in shown and "(examples of all agents)" in shown
    other = report.model_copy(update={"society": {"critic 2": str(report.adapter)}})
    assert other.agent == "critic 2", "where nobody before it learned anything"
    print_report(report.model_copy(update={"society": {}, "config": RoundConfig(envs=[ENV])}))
    alone = capsys.readouterr().out
    assert "generator" not in alone and "of all agents" not in alone


def test_the_next_round_is_played_by_the_society_whose_generator_serves(
    tmp_path: Path, done: Lab, open_at: Callable[..., Lab]
) -> None:
    import shutil

    shutil.copytree(done.folder, tmp_path / "lab")
    with open_at(tmp_path / "lab") as lab:
        (first,) = lab.rounds()
        lab.adapters.promote(str(first.adapter), force=True)
        lab.round(own["ROUND"])
        report = lab.rounds()[-1]
        rows = lab.database.episodes.find(EpisodeFilter(run="round-2-society"))
        assert {row.trial: row.adapter for row in rows} == dict(enumerate(first.society.values()))
        assert {row.seed for row in rows} == set(range(10, 20))
        # Training begins at the base, so what an agent had learned is in what it learns from now.
        for name, id in report.society.items():
            new = set(lab.adapters.get(id).lineage.episodes)
            if name.startswith("generator"):
                assert set(lab.adapters.get(first.society[name]).lineage.episodes) < new
        assert {lab.adapters.get(id).lineage.member for id in report.society.values()} == {
            Member(kind=kind, number=number, agents=2, temperature=4.0)  # type: ignore[arg-type]
            for kind in ("generator", "critic")
            for number in (1, 2)
        }


def test_a_society_of_whom_nobody_is_right_fails_and_keeps_what_was_lived(
    tmp_path: Path, open_at: Callable[..., Lab]
) -> None:
    hopeless = own["ROUND"].model_copy(update={"envs": ["toy/doors?colours=2,rooms=4,step_limit=4"], "seeds": 2})
    with open_at(tmp_path / "lab") as lab:
        with pytest.raises(AgentLabError, match="nothing to train a society on"):
            lab.round(hopeless)
        (report,) = lab.rounds()
        assert report.phase == "failed" and len(lab.database.episodes.find()) == 8
        assert lab.adapters.list() == []


def test_a_round_that_was_stopped_while_it_trains_goes_on_though_an_attempt_would_end_otherwise_now(
    tmp_path: Path, open_at: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = own["Doors"].begin

    def fails(env: TextEnv, task: Task) -> Any:
        if task.split == "train" and task.seed == 1:
            raise RuntimeError("a hiccup")
        return begin(env, task)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    config = own["ROUND"].model_copy(update={"seeds": 4})
    with open_at(tmp_path / "lab") as lab:
        with monkeypatch.context() as patched:
            patched.setattr(own["Doors"], "begin", fails)
            patched.setattr("agentlab.rounds.society.trained", killed)
            with pytest.raises(KeyboardInterrupt):
                lab.round(config)
        written = {place.name: job.load(place).id for place in (lab.folder / "jobs").iterdir()}
        report = lab.round(config)
        assert {place.name: job.load(place).id for place in (lab.folder / "jobs").iterdir()} == written != {}
        assert report.ended and report.society and report.adapter


@pytest.mark.slow
def test_a_killed_round_comes_to_the_same_agents(
    tmp_path: Path, done: Lab, tiny_model: Path, in_a_process: Callable[..., tuple[int, str]]
) -> None:
    code = f"import runpy, sys; runpy.run_path({str(SCRIPT)!r})['main'](*sys.argv[1:])"
    for moment in ("society:5", "training generator 2:2", "training critic 2:3"):
        status, _ = in_a_process(code, str(tmp_path / "lab"), str(tiny_model), moment)
        assert status == -signal.SIGKILL
    status, said = in_a_process(code, str(tmp_path / "lab"), str(tiny_model), "")
    assert status == 0, said
    with Lab.open(tmp_path / "lab", write=False) as lab:
        (report,), (unbroken,) = lab.rounds(), done.rounds()
        assert (report.society, report.adapter) == (unbroken.society, unbroken.adapter)
        assert (report.collected, report.selected, report.left_out) == (
            unbroken.collected, unbroken.selected, unbroken.left_out,
        )  # fmt: skip
        assert len(lab.adapters.list()) == 4
