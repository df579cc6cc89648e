from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentlab.engines.base import Conversation
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import OutOfBudget, ReplayMismatch
from agentlab.search.pairs import Fork, forks, partings
from agentlab.search.revision import TURNING, disliked, dropping, revise, revisions, splices
from agentlab.search.tree import Tree
from agentlab.search.walk import Player
from agentlab.trajectories.budget import Budget
from environments import Task, make
from memory.prompts import Prompting
from memory.records import Episode

Played = Callable[..., Episode]
Players = Callable[..., Player]


def doors(*, step_limit: int = 10) -> tuple[Any, Task, dict[str, str]]:
    """The toy game, its task, and what opens its rooms: the safe and a wrong door of each."""
    env = make("toy/doors" if step_limit == 10 else f"toy/doors?step_limit={step_limit}")
    task = Task(env=env.env_id, split="train", seed=0)
    _, info = env.start(task)

    def safe() -> str:
        told = env.step("read note")[0]
        return f"open {told.removeprefix('The note says: the ').removesuffix(' is safe.')}"

    first = safe()
    env.step(first)
    wrong = next(one for one in info["admissible_commands"] if one.startswith("open ") and one != first)
    return env, task, {"first": first, "second": safe(), "wrong": wrong}


def test_a_bad_beginning_is_continued_from_the_present_state_and_wins_in_the_environment(
    played: Played, player: Players
) -> None:
    env, task, door = doors()
    good = played("read note", door["first"], "read note", door["second"], "take coin", env=env, task=task)
    bad = played("look", door["wrong"], env=env, task=task)
    found = player(env, task)
    found.tree = Tree.of([good, bad])
    (revision,) = revisions(found)
    # Looking did nothing, so the state is the one in which the good one opened the door: the note is not read again.
    assert revision.episode.actions == ["look", door["first"], "read note", door["second"], "take coin"]
    assert revision.step_weights == [0.0, 1.0, 1.0, 1.0, 1.0]
    assert (revision.good, revision.bad) == (good.id, bad.id)
    assert revision.episode.won and revision.episode.id not in (good.id, bad.id)
    assert revision.episode.steps[0].result == bad.steps[0].result
    assert found.episodes == [] and good.id in {e.id for e in found.tree.episodes}  # nothing is kept as a success


def with_thoughts(episode: Episode, word: str) -> Episode:
    steps = [step.model_copy(update={"thought": f"{word} {step.index}."}) for step in episode.steps]
    return episode.model_copy(update={"steps": steps, "prompt": "chat+thought"})


def test_where_the_model_thinks_a_revision_says_that_it_went_wrong_and_goes_on_with_its_thoughts(
    played: Played, player: Players
) -> None:
    env, task, door = doors()
    good = played("read note", door["first"], "read note", door["second"], "take coin", env=env, task=task)
    bad = played("look", door["wrong"], env=env, task=task)
    found = player(env, task)
    found.tree = Tree.of([with_thoughts(good, "Good"), with_thoughts(bad, "Bad")])
    found.prompting = Prompting(chat=True, thought=True)
    (revision,) = revisions(found)
    assert [step.thought for step in revision.episode.steps] == [
        "Bad 0.", f"{TURNING} Good 1.", "Good 2.", "Good 3.", "Good 4.",
    ]  # fmt: skip
    assert revision.step_weights == [0.0, 1.0, 1.0, 1.0, 1.0]
    found.prompting = None
    (plain,) = revisions(found)
    assert [step.thought for step in plain.episode.steps] == ["Bad 0.", "Good 1.", "Good 2.", "Good 3.", "Good 4."]


def with_tree(found: Player, *episodes: Episode) -> Player:
    found.tree = Tree.of(episodes)
    return found


def test_an_actor_dislikes_what_was_not_admissible_and_its_beginning_is_played_as_it_was(
    played: Played, player: Players
) -> None:
    walk = player(engine=ScriptedEngine({})).walk()
    walk.step("east")
    walk.step("sing", invalid=True)
    assert walk.follow(["west", "west"])
    bad = walk.episode()
    asked = player(engine=ScriptedEngine({}))
    asked.tree.add(bad)
    assert disliked(asked, bad, 0) == 1
    good = played("east", "east", "east")
    (revision,) = revisions(with_tree(player(engine=ScriptedEngine({})), good, bad), judge="actor")
    assert revision.episode.actions == ["east", "sing", "east", "east"] and revision.episode.won
    assert [step.invalid for step in revision.episode.steps] == [False, True, False, False]
    assert revision.step_weights == [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize(("alpha", "beta", "kept"), [(0.66, 0.2, 1), (0.67, 0.2, 0), (1.0, 0.2, 0), (0.5, 0.67, 0)])
def test_a_splice_is_kept_if_it_reaches_what_alpha_asks_for_and_beats_the_bad_one_by_beta(
    played: Played, player: Players, alpha: float, beta: float, kept: int
) -> None:
    env, task, door = doors(step_limit=3)
    good = played(door["first"], door["second"], "take coin", env=env, task=task)
    bad = played("look", "look", "look", env=env, task=task)
    found = player(env, task)
    found.tree = Tree.of([good, bad])
    made = list(revisions(found, alpha=alpha, beta=beta))
    # The step that was lost is missing at the end: two of the three places of the way are behind it, worth 2/3.
    assert [one.episode.actions for one in made] == [["look", door["first"], door["second"]]] * kept
    assert [(one.episode.status, one.episode.score) for one in made] == [("truncated", pytest.approx(2 / 3))] * kept
    assert found.meter.cost.steps == 3


HALF = ("east", "east", "west", "east")  # truncated, with half the score


def test_a_good_trajectory_that_was_not_won_gives_a_revision_until_alpha_asks_for_more(
    played: Played, player: Players
) -> None:
    def made(alpha: float) -> list[tuple[list[str], float]]:
        found = player()
        found.tree = Tree.of([played(*HALF), played("east", "west", "west")])
        return [(one.episode.actions, one.episode.score) for one in revisions(found, alpha=alpha)]

    # One step back leads to the start, from where the good one reached place 2 in four steps: 2/4.
    assert made(0.5) == [(["east", "west", *HALF], 0.5)]
    assert made(0.51) == made(1.0) == []


def test_a_loss_that_left_a_half_good_one_last_is_spliced_with_the_win_where_that_comes_to_nothing(
    played: Played, player: Players, corridor: Any
) -> None:
    env = corridor(step_limit=6)
    won = played("east", "east", "east", env=env)
    half = played("east", "west", "east", "west", "east", "east", env=env)  # truncated at place 2, worth 2/4
    lost = played("east", "west", "east", "west", "west", env=env)
    found = player(env)
    found.tree = Tree.of([won, half, lost])
    assert [fork.good.id for fork in partings(found.tree, lost)] == [half.id, won.id]
    # From the half good one the bad one parts by the step that lost, after which nothing can be spliced; from the win
    # by its first step back, after which the best known end is half. The half one went back alike: no second revision.
    (revision,) = revisions(found)
    assert revision.episode.actions == ["east", "west", "east", "east", "east"] and revision.episode.won
    assert (revision.good, revision.bad) == (won.id, lost.id)
    assert [one.bad for one in revisions(found, alpha=1.0)] == [lost.id]


def test_a_splice_that_does_not_run_is_dropped(played: Played, player: Players, corridor: Any) -> None:
    env = corridor(dark=True)
    good = played("take lamp", "east", "east", "east", env=env)
    bad = played("take lamp", "east", "west", "west", env=env)
    found = player(env)
    found.tree = Tree.of([good, bad])
    (fork,) = forks(found.tree)
    # After step 2 it is back at the start, with the lamp, where the good one was before its second step.
    revision = revise(found, fork, 2)
    assert revision is not None and revision.episode.actions == [*bad.actions[:3], "east", "east", "east"]
    # Where the present state is none of the good one's, its actions from the fork are left: a second lamp is not there.
    early = Fork(good, played("take lamp", "east", "west", "east", "west", "west", env=env), 0)
    elsewhere = early.bad.steps[1].model_copy(update={"next_state": "Nowhere."})
    early.bad.steps[1] = elsewhere
    assert [[step.action for step in way] for way in splices(early, 1)] == [good.actions]
    assert revise(found, early, 1) is None


def test_a_game_that_the_bad_step_ended_is_not_continued(played: Played, player: Players) -> None:
    found = player()
    assert revise(found, Fork(played("east", "east", "east"), played("west"), 0), 0) is None
    assert found.meter.cost.steps == 0


def test_an_environment_that_answers_otherwise_than_recorded_is_found_out(
    played: Played, player: Players, corridor: Any
) -> None:
    env = corridor()
    found = player(env)
    found.tree = Tree.of([played("east", "east", "east"), played("east", "west", "east", "west", "west")])
    env.fault = lambda start, said: f"{said} A bird sings."
    with pytest.raises(ReplayMismatch, match="A replay differs after"):
        list(revisions(found))


def test_executing_again_is_paid_for(played: Played, player: Players) -> None:
    found = player(steps=4)
    found.tree = Tree.of([played("east", "east", "east"), played("east", "west", "east", "west", "west")])
    with pytest.raises(OutOfBudget):
        list(revisions(found))
    assert found.meter.cost.steps == 4


def test_the_tree_judges_by_the_best_end_that_a_step_leaves(played: Played) -> None:
    won, recovered = played("east", "east", "east"), played("east", "west", "east", "east", "east")
    bad = played("east", "west", "west")
    tree = Tree.of([won, bad])
    assert dropping(tree, bad, 1) == 1
    tree.add(recovered)
    assert dropping(tree, bad, 1) == 2  # after the first step back a win is known
    assert dropping(tree, won, 0) is None


def test_the_actor_judges_by_its_recorded_log_probabilities(played: Played, player: Players) -> None:
    episode = played("east", "west", "west")
    assert [step.admissible for step in episode.steps[:2]] == [["east", "take lamp", "west"], ["east", "west"]]
    for step, scores in zip(episode.steps, ([-9.0, -1.0, -9.0], [-0.5, -1.4], [-0.2, -1.9, -3.0]), strict=True):
        step.scores = scores
    judge = player()
    judge.tree.add(episode)
    # Step 0 is 8 nats behind, but shared; step 1 less than one nat; step 2 is 2.8 behind.
    assert disliked(judge, episode, 1) == 2
    assert disliked(judge, episode, 0) == 0
    assert disliked(judge, episode, 1, margin=3.0) is None


def test_where_chance_played_the_actor_is_asked_now(
    played: Played, player: Players, note_reader: ScriptedEngine
) -> None:
    env, task, door = doors()
    bad = played("read note", "look", door["wrong"], env=env, task=task)
    found = player(env, task, engine=note_reader)
    found.tree.add(bad)
    assert disliked(found, bad, 0) == 1  # it would open the door that it has just read of
    assert found.meter.cost.calls == 2
    good = played("read note", door["first"], "read note", door["second"], "take coin", env=env, task=task)
    asked = player(env, task, engine=note_reader)
    asked.tree = Tree.of([good, bad])
    assert [one.episode.won for one in revisions(asked, judge="actor")] == [True]
    unasked = player(env, task)
    unasked.tree = Tree.of([good, bad])
    assert disliked(unasked, bad, 0) is None and list(revisions(unasked, judge="actor")) == []  # chance has no opinion


def test_the_actor_is_asked_once_where_the_good_one_that_was_left_last_is_the_best(
    played: Played, player: Players
) -> None:
    asked = player(engine=ScriptedEngine({"west": 0.0}))
    asked.tree = Tree.of([played("east", "east", "east"), played("east", "west", "west")])
    assert list(revisions(asked, judge="actor")) == []  # it would have gone west itself
    assert asked.meter.cost.calls == 2


class Spelled(Conversation):
    """A conversation of which every letter is a token."""

    closed = False

    def observe(self, observation: str, *shown: Any) -> None:
        super().observe(observation, *shown)
        self.token_ids = list(self.text.encode())

    def close(self) -> None:
        self.closed = True


class Speller(ScriptedEngine):
    """Likes every command alike, and remembers its conversations."""

    def __init__(self) -> None:
        super().__init__({})
        self.begun: list[Spelled] = []

    def conversation(self, goal: str, hints: str = "") -> Spelled:
        self.begun.append(Spelled(goal, hints))
        return self.begun[-1]

    context = 2048

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode())

    def command_tokens(self, command: str) -> list[int]:
        return list(command.encode())


def test_the_actor_reads_an_episode_once_however_many_of_its_steps_it_is_asked_about(
    played: Played, player: Players
) -> None:
    bad, engine = played(*(("east", "west") * 4)), Speller()
    asked = player(engine=engine)
    asked.tree.add(bad)
    assert disliked(asked, bad, 2) is None
    commands = sum(len(command) for step in bad.steps[2:] for command in step.admissible)
    assert (asked.meter.cost.calls, asked.meter.cost.tokens) == (6, len(engine.begun[0].token_ids) + commands)
    assert disliked(asked, bad, 2) is None and asked.meter.cost.calls == 6, "for a second partner it knows"
    assert disliked(asked, bad, 0) is None and asked.meter.cost.calls == 8, "what it was not asked about is left"


def test_where_the_budget_ends_the_actor_gives_back_what_it_holds(played: Played, player: Players) -> None:
    bad, engine = played("east", "west", "west"), Speller()
    asked = player(engine=engine)
    asked.meter.budget = Budget(calls=1)
    asked.tree.add(bad)
    with pytest.raises(OutOfBudget):
        disliked(asked, bad, 0)
    assert [conversation.closed for conversation in engine.begun] == [True]


def test_each_bad_beginning_is_revised_once(played: Played, player: Players) -> None:
    found = player()
    ends = (("east", "west"), ("take lamp", "west"))
    bads = [played("east", "west", *end, "west") for end in (*ends, ("west",))]
    found.tree = Tree.of([played("east", "east", "east"), *bads])
    lines = [revision.episode.actions for revision in revisions(found)]
    assert lines == [["east", "west", "east", "east", "east"]]
