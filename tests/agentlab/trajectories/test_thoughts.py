"""What was thought before an action goes where the action goes when a success is refined."""

from __future__ import annotations

from collections.abc import Sequence

from agentlab.trajectories.refinement import refine
from agentlab.trajectories.replay import Move, replay
from environments import Task, TextEnv, Turn
from memory.records import Episode, Step

TASK = Task(env="own/library", split="train", seed=0)


class Library(TextEnv):
    """Two books, of which the sign names the right one; whoever takes it and leaves has won. Dust can be wiped."""

    def __init__(self) -> None:
        super().__init__(TASK.env, 12)

    def begin(self, task: Task) -> Turn:
        self.taken = ""
        return self._turn("You are in a library.")

    def act(self, action: str) -> Turn:
        if action.startswith("take "):
            self.taken = action
        said = {"read sign": "The sign says: take green book.", "leave": "You leave."}.get(action, "Nothing happens.")
        return self._turn(said, left=action == "leave")

    def _turn(self, said: str, left: bool = False) -> Turn:
        won = left and self.taken == "take green book"
        commands = ["leave", "read sign", "take grey book", "take green book", "wipe dust"]
        goal = "Bring home the book that the sign names."
        return Turn(said, commands, float(won), won, left and not won, f"A library. {self.taken}", goal)


def lived(moves: Sequence[Move], invalid: Sequence[int] = ()) -> Episode:
    done = replay(Library(), TASK, [move for at, move in enumerate(moves) if at not in invalid])
    assert done is not None and done.won
    steps: list[Step] = list(done.steps)
    for at in invalid:
        steps.insert(at, steps[at].model_copy(update={"action": moves[at].action, "invalid": True}))
    fields = {"id": "ep-1", "run": "r", "env": TASK.env, "split": "train", "seed": 0, "goal": "Bring home the book."}
    return Episode.model_validate({**fields, "status": "won", "score": 1.0, "steps": steps, "prompt": "chat+thought"})


def thoughts(episode: Episode) -> dict[str, str]:
    return {step.action: step.thought for step in episode.steps}


def test_a_deleted_action_takes_its_thought_along_and_the_others_keep_theirs() -> None:
    played = lived(
        [
            Move("wipe dust", "It is dirty."),
            Move("read sign", "A sign."),
            Move("take green book", "The sign says so."),
            Move("leave", "I have it."),
        ]
    )
    refined = refine(played, Library())
    assert thoughts(refined) == {"read sign": "A sign.", "take green book": "The sign says so.", "leave": "I have it."}
    assert refined.prompt == "chat+thought" and refined.token_ids == []


def test_a_look_that_is_inserted_was_thought_by_nobody() -> None:
    refined = refine(lived([Move("take green book", "A guess."), Move("leave", "Home.")]), Library())
    assert thoughts(refined) == {"read sign": "", "take green book": "A guess.", "leave": "Home."}


def test_what_was_not_admissible_is_left_out_of_a_success() -> None:
    played = lived([Move("sing"), Move("read sign"), Move("take green book"), Move("leave")], invalid=[0])
    assert refine(played, Library()).actions == ["read sign", "take green book", "leave"]
