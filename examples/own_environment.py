"""One's own environment: write `begin` and `act`, register it, and everything works on it."""

import random

from agentlab import Lab, LabConfig, Task, TextEnv, register
from agentlab.engines.base import Engine
from environments import Turn, check_or_raise


class Oven(TextEnv):
    """Bring the oven to the right heat, then bake. Baking at any other heat loses."""

    def begin(self, task: Task) -> Turn:
        self.dish = {"train": "bread", "dev": "cake", "test": "pizza"}[task.split]  # no game is in two folds
        self.heat, self.wanted = random.Random(task.id).sample(range(100, 260, 20), 2)
        return self.turn()

    def act(self, action: str) -> Turn:
        self.heat += {"turn it up": 20, "turn it down": -20}.get(action, 0)
        return self.turn(baked=action == "bake")

    def turn(self, baked: bool = False) -> Turn:
        won, lost = baked and self.heat == self.wanted, baked and self.heat != self.wanted
        said = f"The oven has {self.heat} degrees, the {self.dish} wants {self.wanted}."
        return Turn(said, ["bake", "turn it down", "turn it up"], float(won), won, lost, goal="Bake at the right heat.")


def main(folder: str = "labs/own", config: LabConfig | None = None, engine: Engine | None = None) -> None:
    register("own/oven", lambda: Oven("own/oven", step_limit=10))
    check_or_raise("own/oven")
    with Lab.open(folder, create=True, config=config, engine=engine) as lab:
        for row in lab.evaluate("own/oven", arms=["random", "base", "base + memory"], trials=2).rows:
            print(f"{row.arm:26} {row.cells['all']}")


if __name__ == "__main__":
    main()
