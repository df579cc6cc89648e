from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import pytest

from agentlab.agent.random_exploration import random_exploration
from agentlab.text import words
from agentlab.trajectories import refinement
from agentlab.trajectories.refinement import Refiner, Search, informative_steps, refine, singles_out
from agentlab.trajectories.replay import Replay, replay
from environments import Task, TextEnv, Turn, make
from memory.records import Episode, Step


@dataclass
class Shop(TextEnv):
    """Needs a coin and a bag, in any order; then `leave` wins. Optional: a list that tells which of two bags to take.

    Where `costs` is set, a list must have been read before the right bag is there.
    """

    strict: bool = False
    bags: tuple[str, ...] = ("blue bag", "red bag")
    have: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__("own/shop", 12)

    def begin(self, task: Task) -> Turn:
        self.have = []
        return self._turn("You are in a shop.", goal="Bring home what the list says, and a coin.")

    def act(self, action: str) -> Turn:
        said = "Nothing happens."
        if action == "read list":
            self.have += ["list"] if self.strict and "list" not in self.have else []
            said = "The list says: take red bag."
        elif action.startswith("take "):
            self.have.append(action.removeprefix("take "))
            said = f"You take the {self.have[-1]}."
        elif action == "leave":
            return self._turn("You leave.", won={"coin", "red bag"} <= set(self.have), lost=True)
        return self._turn(said)

    def _turn(self, said: str, won: bool = False, lost: bool = False, goal: str = "") -> Turn:
        takes = [f"take {thing}" for thing in ("coin", *self.bags) if thing not in self.have]
        if self.strict and "list" not in self.have:
            takes = ["take coin"] if "coin" not in self.have else []
        score = 1.0 if won else 0.3 * len({"coin", "red bag"} & set(self.have))
        state = f"A shop. You have: {', '.join(self.have) or 'nothing'}."
        commands = ["dance", "leave", "read list", *takes]
        return Turn(said, commands, score, won, lost and not won, state, goal)


TASK = Task(env="own/shop", split="train", seed=0)


def played(env: TextEnv, task: Task, actions: list[str]) -> Episode:
    """The episode in which these actions were taken."""
    done = replay(env, task, actions)
    assert done is not None
    return Episode(
        id="ep-1",
        run="r",
        env=task.env,
        split=task.split,
        seed=task.seed,
        goal=env.start(task)[1]["goal"],
        status="won" if done.won else "lost",
        score=done.score,
        steps=done.steps,
        token_ids=[1, 2],
        action_spans=[(0, 1)],
        hints="- a hint",
        recalled=["r-1"],
    )


def improved(env: TextEnv, actions: list[str], how: str, *goal: str) -> list[str]:
    """These actions after one part of the refinement."""
    search = Search(env, TASK)
    assert search.begin(actions)
    getattr(refinement, how)(search, *goal)
    return search.actions


def test_a_replay_records_what_the_environment_answered() -> None:
    done = replay(Shop(), TASK, ["take coin", "take red bag", "leave", "dance"])
    assert done is not None
    assert done.actions == ["take coin", "take red bag", "leave"]
    assert (done.won, done.score) == (True, 1.0)
    assert [step.reward for step in done.steps] == pytest.approx([0.3, 0.3, 0.4])
    assert done.steps[1].observation == done.steps[0].result


def test_an_action_that_is_not_there_ends_a_replay_with_nothing() -> None:
    assert replay(Shop(), TASK, ["take coin", "take coin"]) is None


def test_what_is_not_needed_is_left_out() -> None:
    env = Shop()
    actions = ["dance", "take blue bag", "take coin", "dance", "take red bag", "leave"]
    assert improved(env, actions, "minimise") == [
        "take coin",
        "take red bag",
        "leave",
    ]


def test_two_actions_that_only_cancel_out_together_are_left_out() -> None:
    class Cabinet(Shop):
        def act(self, action: str) -> Turn:
            if action in ("open", "close"):
                self.have.append("open") if action == "open" else self.have.remove("open")
                return self._turn("It moves.")
            if action == "leave" and "open" in self.have:
                return self._turn("The door is blocked.", lost=True)
            return super().act(action)

        def _turn(self, said: str, won: bool = False, lost: bool = False, goal: str = "") -> Turn:
            turn = super()._turn(said, won, lost, goal)
            return turn._replace(admissible=[*turn.admissible, "close" if "open" in self.have else "open"])

    env = Cabinet()
    actions = ["open", "close", "take coin", "take red bag", "leave"]
    assert improved(env, actions, "minimise") == [
        "take coin",
        "take red bag",
        "leave",
    ]


def test_a_look_that_tells_the_next_action_stays() -> None:
    env = Shop()
    assert "read list" in improved(env, ["take coin", "read list", "take red bag", "leave"], "minimise")


def test_gains_are_brought_forward() -> None:
    env = Shop()
    assert improved(env, ["take coin", "dance", "take red bag", "leave"], "reorder_for_return") == [
        "take coin",
        "take red bag",
        "dance",
        "leave",
    ]


def test_news_is_heard_before_anything_is_done() -> None:
    env = Shop()
    actions = ["take coin", "read list", "take red bag", "leave"]
    assert improved(env, actions, "move_observations_early", "Bring home what the list says, and a coin.") == [
        "read list",
        "take coin",
        "take red bag",
        "leave",
    ]


def test_what_can_only_be_heard_later_stays_where_it_is() -> None:
    class Whisper(Shop):
        def _turn(self, said: str, won: bool = False, lost: bool = False, goal: str = "") -> Turn:
            turn = super()._turn(said, won, lost, goal)
            hidden = [] if "coin" in self.have else ["read list"]
            return turn._replace(admissible=[command for command in turn.admissible if command not in hidden])

    env = Whisper()
    actions = ["take coin", "read list", "take red bag", "leave"]
    assert improved(env, actions, "move_observations_early") == actions


def test_a_look_that_tells_which_is_inserted_before_a_guess() -> None:
    lucky = played(Shop(), TASK, ["take coin", "take red bag", "leave"])
    refined = refine(lucky, Shop())
    assert refined.actions.index("read list") < refined.actions.index("take red bag")
    assert refined.won


def test_a_refined_success_names_its_origin_and_was_played_by_no_model() -> None:
    lived = played(Shop(), TASK, ["dance", "take coin", "take red bag", "leave"])
    refined = refine(lived, Shop())
    assert refined.minimised_from == "ep-1"
    assert refined.id != "ep-1" and refined.id == refine(lived, Shop()).id
    assert (refined.token_ids, refined.action_spans, refined.hints, refined.recalled) == ([], [], "", [])
    assert lived.token_ids == [1, 2]
    again = replay(Shop(), TASK, refined.actions)
    assert again is not None and again.won and again.steps == refined.steps


def test_what_is_already_refined_stays_itself() -> None:
    refined = refine(played(Shop(), TASK, ["dance", "take coin", "take red bag", "leave"]), Shop())
    assert refine(refined, Shop()) is refined


def test_failures_and_what_cannot_be_replayed_are_left_alone() -> None:
    lost = played(Shop(), TASK, ["leave"])
    assert refine(lost, Shop()) is lost
    won = played(Shop(), TASK, ["take coin", "take red bag", "leave"])
    elsewhere = won.model_copy(update={"steps": [*won.steps[:1], *won.steps[:1], *won.steps[1:]]})
    assert refine(elsewhere, Shop()) is elsewhere


@pytest.mark.parametrize("seed", range(6))
def test_a_random_success_at_doors_becomes_its_shortest_form(seed: int, task: Callable[..., Task]) -> None:
    env = make("toy/doors")
    found = random_exploration(env, task(seed), run="r", trials=300).episode
    refined = refine(found, env)
    assert refined.won
    assert [action.split()[0] for action in refined.actions if action != "read note"] == ["open", "open", "take"]
    assert "look" not in refined.actions
    again = replay(env, task(seed), refined.actions)
    assert again is not None and again.steps == refined.steps


def test_words_are_those_that_carry_meaning() -> None:
    assert words("Take the RED bag, from a shop!") == {"take", "red", "bag", "shop"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("The list says: take red bag.", True),
        ("Take a bag.", False),
        ("Take the red bag or the blue bag.", False),
    ],
)
def test_a_text_singles_out_an_action_only_if_it_names_it_most_fully(text: str, told: bool) -> None:
    assert singles_out(text, "take red bag", ["dance", "take blue bag", "take red bag"]) is told


def test_a_look_at_what_the_goal_speaks_of_tells_and_one_at_known_things_does_not() -> None:
    def look(index: int, result: str) -> Step:
        return Step(
            index=index,
            observation="A hall.",
            state="A hall.",
            admissible=[],
            action="x",
            result=result,
            next_state="A hall.",
        )

    steps = [look(0, "The recipe needs one egg, two onions."), look(1, "A hall."), look(2, "Dust, cobwebs, silence.")]
    assert informative_steps(steps, "Cook by the recipe.") == {0}
    assert informative_steps([], "Cook.") == set()


def test_only_what_wins_with_the_same_score_is_kept() -> None:
    search = Search(Shop(), TASK)
    assert search.begin(["dance", "take coin", "take red bag", "leave"])
    search.best = better_only = Replay(search.steps, True, 2.0)
    refinement.minimise(search)
    refinement.reorder_for_return(search)
    assert search.best is better_only


def test_a_refiner_refines_once_and_says_what_it_took() -> None:
    class Counted(Shop):
        taken = 0

        def act(self, action: str) -> Turn:
            self.taken += 1
            return super().act(action)

    env = Counted()
    lived = played(env, TASK, ["dance", "dance", "take coin", "take red bag", "leave"])
    env.taken = 0
    refiner = Refiner(lambda _: nullcontext(env))
    assert refiner(lived) is refiner(lived)
    assert refiner(lived).won and refiner.cost.steps == env.taken > 0


class Kitchen(TextEnv):
    """Three plates have to be washed, the last of which is in a cupboard."""

    def begin(self, task: Task) -> Turn:
        self.open, self.clean = False, 0
        return self.turn()

    def act(self, action: str) -> Turn:
        self.open = (self.open or action == "open cupboard") and action != "close cupboard"
        self.clean += action == "wash plate"
        return self.turn()

    def turn(self) -> Turn:
        commands = ["close cupboard" if self.open else "open cupboard"]
        commands += ["wash plate"] if self.clean < 2 or self.open else []
        state = f"A cupboard, {'open' if self.open else 'closed'}. Clean: {self.clean}."
        return Turn(state, commands, score=self.clean / 3, won=self.clean == 3)


def test_what_can_no_longer_be_done_goes_with_what_it_needed() -> None:
    """Opening goes with closing, though neither can go by itself, nor both with what stands between them."""
    wash = "wash plate"
    actions = ["open cupboard", wash, "close cupboard", wash, "open cupboard", wash]
    env, task = Kitchen("own/kitchen", 20), Task(env="own/kitchen", split="train", seed=0)
    played = replay(env, task, actions)
    assert played is not None and played.won
    lived = Episode(id="ep", run="r", env=task.env, split="train", seed=0, status="won", score=1.0, steps=played.steps)
    refined = refine(lived, env)
    assert sorted(refined.actions) == ["open cupboard", wash, wash, wash] and refined.won
