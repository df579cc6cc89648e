"""A protocol on the toy game: it learns, is measured, goes on where it stopped, and says what came of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentlab.errors import AgentLabError, BadConfig
from agentlab.lab import Lab
from agentlab.protocols import Protocol, Way, protocol, protocols, run_protocol
from agentlab.protocols.measured import Game, Learned
from agentlab.protocols.protocol import Published
from agentlab.protocols.running import found, games_of, learn_round, made_with, seeds_of
from agentlab.protocols.showing import MEAN, markdown, outcome
from agentlab.rounds import RoundConfig, RoundReport
from agentlab.workspace.config import LabConfig
from environments import canonical, dispose, make
from environments.parameters import split_id

ENV = "toy/doors?step_limit=4,rooms=1,colours=2"
"""Its parameters in an order of their own, as in the published protocols."""
GAMES = 4
TOY = Protocol(
    name="toy",
    version=1,
    measures="doors",
    takes="seconds",
    score="final",
    games=GAMES,
    training_seeds=1,
    ways=[Way("plainly", {"doors": ENV})],
    rounds=[
        {
            "seeds": 12,
            "gate_seeds": 14,
            "held_out_seeds": 0,
            "training": {"learning_rate": 5e-3, "epochs": 4},
            "gate": {"min_pairs": 10},
        }
    ],
    arms=["random", "base", "adapter"],
    first={"base": 3},
    published=[Published("somebody", {"doors": 0.25}, {"doors": [0.0, 1.0, 0.0, 0.0]}), Published("else", {MEAN: 0.5})],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    place = tmp_path_factory.mktemp("bench")
    run_protocol(TOY, place, split="dev", config=config(tiny_model), progress=False)
    return place


def config(tiny_model: Path) -> LabConfig:
    return LabConfig(model=str(tiny_model), embedder="hashing", threads=1, dtype="float32")


@pytest.mark.slow
def test_what_was_learned_is_measured_game_by_game_and_set_beside_what_is_published(folder: Path) -> None:
    (learned,) = found(TOY, folder, "dev", GAMES)
    assert set(learned.arms) == {"random", "base", "adapter"} and learned.rounds
    played = {arm: sorted(games["doors"]) for arm, games in learned.arms.items()}
    whole = [500, 501, 502, 503]
    assert played == {"random": whole, "base": whole[:3], "adapter": whole}, "the base plays the first three"
    shown = outcome(TOY, [learned], "dev", GAMES)
    means = {line.arm: line.means[MEAN] for line in shown.lines}
    known = {arm: [game.final for game in games["doors"].values()] for arm, games in learned.arms.items()}
    assert {arm: m.value for arm, m in means.items() if m} == {arm: sum(k) / len(k) for arm, k in known.items()}
    assert sum(known["adapter"]) > sum(known["base"]), "it has learned something"
    assert not shown.whole, "dev games are not the protocol's"
    text = markdown(shown, TOY)
    assert str(means["adapter"]) in text and "somebody" in text and learned.rounds[0] in text
    assert "`base` plays the first 3" in text and "`base` plays" not in markdown(outcome(TOY, [learned], "dev", 3), TOY)


@pytest.mark.slow
def test_what_is_finished_is_not_played_again(folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentlab.agent.rollout.Rollout.episode", None)
    monkeypatch.setattr(Lab, "round", None)
    before = found(TOY, folder, "dev", GAMES)
    again = run_protocol(TOY, folder, split="dev", config=config(tiny_model), progress=False)
    assert again == before


@pytest.mark.slow
def test_a_folder_of_another_model_or_an_unknown_way_is_refused(folder: Path, tiny_model: Path) -> None:
    with pytest.raises(BadConfig, match="another folder"):
        run_protocol(TOY, folder, split="dev", config=LabConfig(), progress=False)
    other = replace(TOY, ways=[Way("other", {"doors": ENV}), *TOY.ways])
    with pytest.raises(BadConfig, match="another folder"):
        run_protocol(other, folder, split="dev", ways=["other"], config=LabConfig(), progress=False)
    assert not (folder / "other-0").exists()
    with pytest.raises(BadConfig, match="plainly"):
        run_protocol(TOY, folder, ways=["flying"], config=config(tiny_model), progress=False)


@pytest.mark.slow
def test_a_lab_that_learned_otherwise_is_not_measured_as_this_protocol(folder: Path, tiny_model: Path) -> None:
    other = replace(TOY, name="other", rounds=[{**TOY.rounds[0], "seeds": 13}])
    with pytest.raises(BadConfig, match="another folder"):
        run_protocol(other, folder, split="dev", config=config(tiny_model), progress=False)


@pytest.mark.slow
def test_neither_figures_nor_labs_of_another_version_are_taken(folder: Path, tiny_model: Path) -> None:
    newer = replace(TOY, version=2)
    assert found(newer, folder, "dev", GAMES) == []
    with pytest.raises(BadConfig, match="version 1, not for toy, version 2"):
        run_protocol(newer, folder, split="dev", config=config(tiny_model), progress=False)


@pytest.mark.slow
def test_who_has_learned_and_measured_is_said_and_not_who_only_looks_again(
    folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (before,) = found(TOY, folder, "dev", GAMES)
    monkeypatch.setattr("agentlab.protocols.running.made_with", lambda: "another")
    (again,) = run_protocol(TOY, folder, split="dev", config=config(tiny_model), progress=False)
    assert again.made_with == before.made_with != ""
    (fewer,) = run_protocol(TOY, folder, split="dev", games=2, config=config(tiny_model), progress=False)
    assert fewer.made_with == f"{before.made_with}, another"


def test_games_are_found_however_a_protocol_spells_them(open_lab: Callable[..., Lab]) -> None:
    assert canonical(ENV) != ENV
    with open_lab() as lab:
        table = lab.evaluate([ENV], split="test", seeds=range(2), arms=["random"], name="toy")
        assert sorted(games_of(lab, TOY.ways[0], [table], "random")["doors"]) == [0, 1]


def test_what_is_learned_of_tales_has_the_tools_of_what_is_played() -> None:
    way = next(way for way in protocol("tales-twx").ways if way.name == "with tools")

    def tools(envs: Iterable[str]) -> set[tuple[str, str, str]]:
        made = [split_id(env) for env in envs]
        return {(game, str(given.get("memorization", "")), str(given.get("tools", ""))) for game, given in made}

    assert tools(way.learn) == tools(way.envs.values())
    assert ("twx/simonsays", "1", "checklist") in tools(way.learn)


def test_a_training_seed_that_is_none_of_the_protocol_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="no training seed 1"):
        run_protocol(TOY, tmp_path / "bench", training_seeds=[1])
    assert not (tmp_path / "bench").exists()


def test_a_damaged_file_is_named_in_a_line(tmp_path: Path) -> None:
    (tmp_path / f"plainly-0-dev-{GAMES}.json").write_text("{")
    with pytest.raises(BadConfig, match="plainly-0-dev"):
        found(TOY, tmp_path, "dev", GAMES)


class Rounds:
    """A lab whose calls for a round come to what is given: a phase in which one ends, or nothing new."""

    folder = Path("lab")

    def __init__(self, *phases: str | None) -> None:
        self.known: list[RoundReport] = []
        self.phases = list(phases)

    def rounds(self) -> list[RoundReport]:
        return self.known

    def round(self, config: RoundConfig) -> None:
        if (phase := self.phases.pop(0)) is None:
            return
        number = len(self.known) + 1
        self.known.append(RoundReport(id=f"round-{number}", number=number, config=config.named(), phase=phase))
        if phase == "failed":
            raise AgentLabError("nothing to train on")


TWICE = replace(TOY, rounds=[TOY.rounds[0], TOY.rounds[0]])


def test_a_round_that_only_says_that_the_one_before_had_ended_does_not_stand_for_the_next() -> None:
    lab: Any = Rounds("done", None, "done")
    assert [learn_round(lab, TWICE, number, TOY.ways[0], 0).number for number in (0, 1)] == [1, 2]


def test_a_round_with_nothing_to_train_on_is_one_at_the_first_call_as_at_the_second() -> None:
    lab: Any = Rounds("failed", "done")
    first = [learn_round(lab, TWICE, number, TOY.ways[0], 0).phase for number in (0, 1)]
    assert first == ["failed", "done"] == [learn_round(lab, TWICE, number, TOY.ways[0], 0).phase for number in (0, 1)]


def measured(protocol: Protocol) -> list[Learned]:
    """All that a protocol asks for, and every game won."""
    game = {seed: Game(final=1.0, best=1.0, won=True, steps=1) for seed in range(protocol.games)}
    return [
        Learned(
            protocol=protocol.name, version=1, way=way.name, seed=seed, model="m", split="test",
            arms={
                arm: {name: {at: game[at] for at in range(protocol.count_of(arm, name, protocol.games))}
                      for name in way.envs}
                for arm in protocol.arms_of(seed)
            },
        )
        for way in protocol.ways
        for seed in range(protocol.training_seeds)
    ]  # fmt: skip


def test_it_is_whole_with_every_game_of_every_arm_after_every_training_seed_alone() -> None:
    thrice = replace(TOY, training_seeds=3)
    assert outcome(thrice, measured(thrice), "test", GAMES).whole
    for at in range(3):
        less = measured(thrice)
        del less[at].arms["adapter"]["doors"][2]
        assert not outcome(thrice, less, "test", GAMES).whole, "a game errored"
    less = measured(thrice)
    del less[0].arms["base"]["doors"][2]
    assert not outcome(thrice, less, "test", GAMES).whole, "one of the games that it plays"
    moved = [one.model_copy(update={"seed": one.seed + 1}) for one in measured(thrice)]
    assert not outcome(thrice, moved, "test", GAMES).whole


def test_what_is_to_be_measured_is_set_against_what_is_published() -> None:
    more = replace(TOY, arms=[*TOY.arms, "adapter + memory"])
    shown = outcome(more, measured(more), "test", GAMES)
    assert {one.arm for one in shown.compared if one.other == "somebody"} == {"adapter + memory"}


class Small:
    """An environment with seven dev games and three test games."""

    env_id = "own/small"

    def seeds(self, split: str) -> range:
        return range({"train": 0, "dev": 7, "test": 3}[split])

    fold = seeds

    def close(self) -> None: ...


def test_of_a_small_fold_all_games_are_measured_and_of_dev_those_that_gates_come_to_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("environments.make", lambda _: Small())
    assert seeds_of("own/small", "test", 10) == range(3) and seeds_of("own/small", "test", 2) == range(2)
    with pytest.raises(BadConfig, match="no train game"):
        seeds_of("own/small", "train", 1)
    assert seeds_of("own/small", "dev", 10) == range(7) and seeds_of("own/small", "dev", 3) == range(4, 7)


def test_it_is_whole_where_a_game_has_fewer_than_are_asked_for_and_all_were_played() -> None:
    few = measured(replace(TOY, games=3))
    assert not outcome(TOY, few, "test", GAMES).whole
    small = replace(TOY, fewer={"doors": 3})
    assert outcome(small, few, "test", GAMES).whole
    del few[0].arms["adapter"]["doors"][2]
    assert not outcome(small, few, "test", GAMES).whole


def test_groups_of_games_have_a_mean_of_their_own_in_which_each_name_counts_the_same() -> None:
    way = Way("plainly", {name: ENV for name in ("one", "two", "three")})
    parts = replace(TOY, ways=[way], groups={"first": ["one", "two"], "rest": ["three"]}, published=[
        Published("somebody", {"first": 0.7}),
    ])  # fmt: skip
    (learned,) = measured(parts)
    lost = {seed: Game(final=0.0, best=0.0, won=False, steps=1, seconds=2.0, tokens=5) for seed in range(2)}
    learned.arms["base"] |= {"two": lost, "three": lost}
    shown = outcome(parts, [learned], "test", GAMES)
    (base,) = [line for line in shown.lines if line.arm == "base"]
    assert {name: mean.value for name, mean in base.means.items() if mean} == pytest.approx(
        {"one": 1.0, "two": 0.0, "three": 0.0, "first": 0.5, "rest": 0.0, MEAN: 1 / 3}
    )
    assert (base.seconds, base.tokens, base.seeds) == (8.0, 20, [0])
    (row,) = [line for line in markdown(shown, parts).splitlines() if line.startswith("| somebody")]
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["–", "–", "–", "0.700", "–", "–"]


def test_a_checkout_says_which_commit_it_is_and_whether_something_is_changed(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        return subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    plain = made_with(tmp_path)
    git("init", "-q")
    (tmp_path / "code.py").write_text("one")
    git("add", "code.py")
    git("commit", "-q", "-m", "one")
    commit = git("rev-parse", "--short", "HEAD").strip()
    assert made_with(tmp_path) == f"{plain} ({commit})"
    (tmp_path / "code.py").write_text("two")
    assert made_with(tmp_path) == f"{plain} ({commit}-dirty)"


def test_tales_is_learned_from_no_game_that_chance_cannot_win() -> None:
    chosen = protocol("tales-twx")
    for way in chosen.ways:
        envs = chosen.round_config(0, way, 0).envs
        assert not any("gameLength=100" in env for env in envs)
        assert all("memorization=1" in env for env in envs if "gameLength=50" in env)
        assert ("tools=" in "".join(envs)) == (way.name == "with tools")
        assert all(canonical(env) for env in envs)


def test_published_scores_are_paired_with_test_games_alone() -> None:
    assert outcome(TOY, [], "test", GAMES).compared == []


VARIATIONS = {
    "boil": (14, 7, 9),
    "change-the-state-of-matter-of": (14, 7, 9),
    "chemistry-mix": (16, 8, 8),
    "chemistry-mix-paint-secondary-color": (18, 9, 9),
    "chemistry-mix-paint-tertiary-color": (18, 9, 9),
    "find-animal": (150, 75, 75),
    "find-living-thing": (150, 75, 75),
    "find-non-living-thing": (150, 75, 75),
    "find-plant": (150, 75, 75),
    "freeze": (14, 7, 9),
    "grow-fruit": (62, 31, 33),
    "grow-plant": (62, 31, 33),
    "identify-life-stages-1": (6, 3, 5),
    "identify-life-stages-2": (4, 2, 4),
    "inclined-plane-determine-angle": (84, 42, 42),
    "inclined-plane-friction-named-surfaces": (692, 346, 348),
    "inclined-plane-friction-unnamed-surfaces": (80, 40, 42),
    "lifespan-longest-lived": (62, 31, 32),
    "lifespan-longest-lived-then-shortest-lived": (62, 31, 32),
    "lifespan-shortest-lived": (62, 31, 32),
    "measure-melting-point-known-substance": (218, 109, 109),
    "measure-melting-point-unknown-substance": (150, 75, 75),
    "melt": (14, 7, 9),
    "mendelian-genetics-known-plant": (60, 30, 30),
    "mendelian-genetics-unknown-plant": (240, 120, 120),
    "power-component": (10, 5, 5),
    "power-component-renewable-vs-nonrenewable-energy": (10, 5, 5),
    "test-conductivity": (450, 225, 225),
    "test-conductivity-of-unknown-substances": (300, 150, 150),
    "use-thermometer": (270, 135, 135),
}
"""Train, dev and test variations of ScienceWorld's tasks."""


CHORES = {
    "pick_and_place_simple": (790, 35, 24),
    "look_at_obj_in_light": (308, 13, 18),
    "pick_clean_then_place_in_recep": (650, 27, 31),
    "pick_heat_then_place_in_recep": (459, 16, 23),
    "pick_cool_then_place_in_recep": (533, 25, 21),
    "pick_two_obj_and_place": (813, 24, 17),
}
"""Games of `train`, `valid_seen` and `valid_unseen` that ALFWorld says it has, 3,553, 140 and 134."""


class Counted:
    """An environment as far as a protocol needs it: how many games its folds have."""

    known = {f"sciworld/{task}": counts for task, counts in VARIATIONS.items()} | {
        f"alfworld/{chore}": counts for chore, counts in CHORES.items()
    }

    def __init__(self, env_id: str) -> None:
        self.env_id = env_id

    def seeds(self, split: str) -> range:
        return range(self.known[self.env_id.partition("?")[0]][("train", "dev", "test").index(split)])

    fold = seeds

    def close(self) -> None: ...


@pytest.mark.parametrize("name", [one.name for one in protocols()])
def test_a_protocol_has_the_games_that_it_asks_for_in_play_and_in_its_rounds(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, real = protocol(name), make
    # Each of ScienceWorld's tasks is a JVM of its own, and ALFWorld's games are a download.
    monkeypatch.setattr(
        "environments.make", lambda env: Counted(env) if env.startswith(("sciworld/", "alfworld/")) else real(env)
    )
    assert chosen.takes and chosen.measures
    for way in chosen.ways:
        assert list(way.envs) == list(chosen.ways[0].envs)
        for game, env in way.envs.items():
            assert len(seeds_of(env, "test", chosen.games)) == chosen.fewer.get(game, chosen.games)
            assert len(seeds_of(env, "dev", chosen.games)) >= 2
        for number in range(len(chosen.rounds)):
            config = chosen.round_config(number, way, 0)
            assert config.tasks(number + 1)
            last = range((number + 1) * config.dev_seeds)[-1:]
            assert config.tasks(number + 1, last), "there are dev games for the gates"


def test_sciworld_counts_variations_as_its_package_does() -> None:
    env = make("sciworld/boil")
    env.seeds("train")
    for task, known in VARIATIONS.items():
        env._world.load(task, 0, "easy")
        found = [len(json.loads(env._world.call(f"getVariations{fold}"))) for fold in ("Train", "Dev", "Test")]
        assert tuple(found) == known, task
    dispose(env)


def test_the_scores_of_wang2023_are_those_of_the_paper() -> None:
    t5, module = protocol("wang2023").published
    assert {name: round(mean, 2) for name, mean in t5.means.items()} == {
        "arithmetic": 0.5, "mapreader": 0.71, "sorting": 0.73, "twc": 0.9,
    }  # fmt: skip
    assert all(len(scores) == 100 for scores in [*t5.scores.values(), *module.scores.values()])


def test_an_unknown_protocol_is_named_in_a_line() -> None:
    with pytest.raises(BadConfig, match="wang2023"):
        protocol("wang2024")
