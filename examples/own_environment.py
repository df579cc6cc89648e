"""One's own environment: write `begin` and `act`, register it, and everything works on it."""

import random

from agentlab import Lab, LabConfig, Task, TextEnv, register
from agentlab.engines.base import Engine
from agentlab.testing import check_environment
from environments import Turn

CURES = ["move it into the shade", "prune it", "water it"]
NEEDS = {"cactus": 0, "fern": 2, "ivy": 1, "lily": 2, "orchid": 0, "rose": 1}


class Greenhouse(TextEnv):
    """Cure three plants. What each kind needs is written nowhere: who has cured one before may remember."""

    def begin(self, task: Task) -> Turn:
        self.room = {"train": "hall", "dev": "cellar", "test": "kitchen"}[task.split]  # no game is in two folds
        self.ill = random.Random(task.id).sample(sorted(NEEDS), 3)
        return self.turn()

    def act(self, action: str) -> Turn:
        cured = action == CURES[NEEDS[self.ill[0]]]
        self.ill = self.ill[cured:]
        return self.turn(lost=not cured)

    def turn(self, lost: bool = False) -> Turn:
        state = f"The {self.ill[0]} wilts." if self.ill else "All plants are well."
        said, score = f"You are in the {self.room}. {state}", 1 - len(self.ill) / 3
        return Turn(said, CURES, score, not self.ill, lost, state, goal="Cure every plant; a wrong cure kills it.")


def main(folder: str = "labs/own", config: LabConfig | None = None, engine: Engine | None = None) -> None:
    register("own/greenhouse", lambda: Greenhouse("own/greenhouse", step_limit=3))
    print(check_environment("own/greenhouse"))
    with Lab.open(folder, create=True, config=config, engine=engine) as lab:
        lab.explore("own/greenhouse", seeds=range(20))  # at random, until each is won
        print(lab.evaluate("own/greenhouse", arms=["random", "base", "base + memory"]))


if __name__ == "__main__":
    main()
