"""`agentlab play`: a person plays an environment; the agent's ranking of the commands is shown on request."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agentlab.cli import output
from agentlab.cli.options import DEFAULT_LAB, LabFolder, opened
from agentlab.cli.output import Column

if TYPE_CHECKING:
    from agentlab.engines.base import Conversation
    from agentlab.engines.model import Model
    from environments import Info, TextEnv

HELP = "Type a command or its number. Enter lists the commands, ? shows how the agent ranks them, :quit ends."
SHOWN = 12


def play(
    env: Annotated[
        str, typer.Argument(help='The environment, such as toy/doors, twx/coin or "twx/coin?numLocations=3".')
    ],
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**53, help="Which game of the split.")] = 0,
    split: Annotated[Literal["train", "dev", "test"], typer.Option("--split", help="Which split.")] = "train",
    adapter: Annotated[
        str | None,
        typer.Option("--adapter", help="Whose ranking ? shows: an id, or base. By default the one that serves."),
    ] = None,
    lab: LabFolder = DEFAULT_LAB,
) -> None:
    """Play a game yourself. Nothing is recorded."""
    from agentlab import failures
    from agentlab.workspace.environments import with_tools
    from environments import Task, canonical, dispose, make

    env_id = canonical(with_tools(env, _tools(lab)))
    task = Task(env=env_id, split=split, seed=seed)
    with failures.environment(env_id):
        made = make(env_id)
    held = ExitStack()
    adviser = Adviser(lambda: _model(lab, adapter, held))
    try:
        with failures.environment(env_id):
            observation, info = made.start(task)
        game = Game(made, observation, info)
        output.say(f"{task.id}, at most {made.step_limit} steps", "bold")
        output.say(info["goal"])
        output.say(HELP, "dim")
        output.say("")
        output.say(observation)
        while not game.over:
            line = _ask()
            if line is None or line in (":quit", ":q"):
                output.say("Stopped.")
                return
            if line == "":
                game.show_commands()
            elif line == "?":
                adviser.show(game)
            elif line.startswith(":"):
                output.say(HELP, "dim")
            else:
                output.say(game.act(line))
    finally:
        held.close()
        dispose(made)
    output.say(f"{game.over}, score {game.score:.2f}, {len(game.actions)} steps", output.STYLES.get(game.over, ""))


def _ask() -> str | None:
    """The next line that is typed; None at the end of input."""
    try:
        return input("> ").strip()
    except EOFError:
        return None


def _tools(lab: Path) -> list[str]:
    """The tools of the lab; none where there is no lab."""
    if not (lab / "lab.toml").exists():
        return []
    with opened(lab) as here:
        return here.config.tools


def _model(lab: Path, adapter: str | None, held: ExitStack) -> Model:
    """The lab's model with this adapter, as long as `held` is open. A lab is not made for it: without one, the default
    model ranks."""
    from agentlab.lab import Lab
    from agentlab.workspace.config import LabConfig

    with output.working("Loading the model"):
        if not lab.exists():
            return held.enter_context(Lab(lab, LabConfig(), write=False)).model()
        here = held.enter_context(opened(lab))
        return here.model(here.serving() if adapter is None else None if adapter == "base" else adapter)


class Game:
    """A game in progress: what was seen, what was done, and how it stands. `over` is empty until it ends."""

    def __init__(self, env: TextEnv, observation: str, info: Info) -> None:
        self.env = env
        self.goal = info["goal"]
        self.observations = [observation]
        self.actions: list[str] = []
        self.commands = list(info["admissible_commands"] or ())
        self.offered = [self.commands]
        """The commands after each observation."""
        self.score = float(info["score"])
        self.over = "won" if info["won"] else "lost" if info["lost"] else ""

    def act(self, line: str) -> str:
        """Send a command, given in words or by its number in the list, and return what the environment says."""
        action = line
        if line not in self.commands and line.isdecimal() and 1 <= int(line) <= len(self.commands):
            action = self.commands[int(line) - 1]
        from agentlab import failures
        from agentlab.trajectories.transition import ending

        with failures.environment(self.env.env_id):
            observation, _, terminated, truncated, info = self.env.step(action)
        self.actions.append(action)
        self.observations.append(observation)
        self.commands = list(info["admissible_commands"] or ())
        self.offered.append(self.commands)
        self.score = float(info["score"])
        if terminated or truncated:
            self.over = ending(info) or "truncated"
        return observation if action == line else f"({action})\n{observation}"

    def show_commands(self) -> None:
        """Print the admissible commands with their numbers."""
        if not self.commands:
            output.say("It lists no commands: type what you like.", "dim")
        for number, command in enumerate(self.commands, 1):
            output.say(f"{number:4} {command}")


class Adviser:
    """The agent looking over the player's shoulder. Its model is loaded when it is first asked."""

    def __init__(self, load: Callable[[], Model]) -> None:
        self._load = load
        self._model: Model | None = None
        self._conversation: Conversation | None = None
        self._printed = 0

    def ranking(self, game: Game) -> list[tuple[str, float, float]]:
        """Commands with their log-probabilities and their shares among the admissible ones, the best first."""
        from agentlab import failures
        from agentlab.agent.actors import scored

        if self._model is None:
            self._model = self._load()
        with failures.engine(self._model.name):
            if self._conversation is None:
                self._conversation = self._model.conversation(game.goal)
            for index in range(self._printed, len(game.observations)):
                if index:
                    self._conversation.act(game.actions[index - 1])
                self._conversation.observe(game.observations[index], game.offered[index])
            self._printed = len(game.observations)
            scores = scored(self._model, self._conversation, game.commands).logprobs
        ranked = sorted(zip(game.commands, scores, shares(scores), strict=True), key=lambda entry: -entry[1])
        return ranked

    def show(self, game: Game) -> None:
        """Print the ranking; its best commands only, where there are many."""
        ranked = self.ranking(game)
        rows = [
            {"n": game.commands.index(name) + 1, "command": name, "share": share, "logp": score}
            for name, score, share in ranked
        ]
        columns = [Column("n", "#"), Column("command"), Column("share", digits=3), Column("logp", "log p")]
        output.listing(rows[:SHOWN], columns, as_data=False, empty="There is no command left.")
        if len(rows) > SHOWN:
            output.say(f"… and {len(rows) - SHOWN} more", "dim")


def shares(scores: Sequence[float]) -> list[float]:
    """Softmax of log-probabilities: each command's share among the admissible ones."""
    if not scores:
        return []
    top = max(scores)
    weights = [math.exp(score - top) for score in scores]
    total = sum(weights)
    return [weight / total for weight in weights]
