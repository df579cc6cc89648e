"""One's own tool: it says which calls make sense, and answers them. When to call it, the agent learns from its wins."""

import random
from collections.abc import Sequence

from agentlab import Lab, LabConfig, RoundConfig, Task, TextEnv, register
from agentlab.engines.base import Engine
from environments import Turn
from environments.tools import Seen, register_tool
from memory.store import EpisodeFilter

GAME = "own/mirrors"
DOORS = {  # no door is in two folds, so what a sign says cannot be known by heart
    "train": ["amber", "brass", "cedar", "copper", "ebony", "glass", "granite", "marble", "oak", "pine", "teak"],
    "dev": ["bamboo", "bronze", "clay", "cotton", "flint", "jade", "leather", "nickel", "paper", "quartz", "slate"],
    "test": ["bone", "chrome", "coral", "cork", "gold", "iron", "maple", "onyx", "ruby", "steel", "walnut", "wool"],
}


class Mirrors(TextEnv):
    """Three rooms with four doors each. A sign names the safe door in mirror writing, which a small language model
    cannot read: it sees pieces of words, and not their letters."""

    def begin(self, task: Task) -> Turn:
        rng = random.Random(task.id)
        self.place = {"train": "hall", "dev": "cellar", "test": "attic"}[task.split]
        self.rooms = [sorted(rng.sample(DOORS[task.split], 4)) for _ in range(3)]
        self.safe = [rng.choice(doors) for doors in self.rooms]
        return self.turn()

    def act(self, action: str) -> Turn:
        opened = action == f"open {self.safe[0]} door"
        self.rooms, self.safe = self.rooms[opened:], self.safe[opened:]
        return self.turn(lost=not opened)

    def turn(self, lost: bool = False) -> Turn:
        sign = f"the {self.safe[0]} door is safe"[::-1] if self.rooms else "tixe"
        said = f'You are in the {self.place}. A sign says "{sign}".'
        commands = [f"open {door} door" for door in self.rooms[0]] if self.rooms else []
        goal = "In each room open the safe door."
        return Turn(said, commands, 1 - len(self.rooms) / 3, not self.rooms, lost, said, goal)


class Mirror:
    """Shows from behind what is written between quotation marks."""

    name, verbs = "mirror", ("hold mirror to",)

    def calls(self, seen: Seen) -> Sequence[str]:
        return ["hold mirror to sign"] if '"' in seen.told[-1].answer else []

    def answer(self, call: str, seen: Seen) -> str:
        sign = seen.told[-1].answer.split('"')[1]
        return f"In the mirror you read: {sign[::-1]}."


def main(
    folder: str = "labs/own-tool", config: LabConfig | None = None, engine: Engine | None = None, test_seeds: int = 40
) -> None:
    register(GAME, lambda: Mirrors(GAME, step_limit=8))
    register_tool("mirror", Mirror)
    game = f"{GAME}?tools=mirror"
    with Lab.open(folder, create=True, config=config, engine=engine) as lab:
        done = [report for report in lab.rounds() if report.phase == "done"]
        report = done[0] if done else lab.round(RoundConfig(envs=[game], seeds=16))
        print("calls written into successes:", report.calls)
        arms = ["random", "base", *["adapter"] * bool(report.promoted)]
        print(lab.evaluate(game, seeds=range(test_seeds), arms=arms))
        for arm in arms[1:]:
            rows = lab.database.episodes.find(EpisodeFilter(env=game, arm=arm, split="test"))
            steps = [step for row in rows for step in lab.database.episodes.get(row.id).steps]
            print(f"{arm}: {sum('mirror' in step.action for step in steps)} calls in {len(rows)} games")


if __name__ == "__main__":
    main()
