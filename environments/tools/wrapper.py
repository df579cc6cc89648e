"""An environment with tools: the calls stand among its commands, and it does not move while one is answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from environments.answers import validate_text
from environments.base import Split, Task, TextEnv, Turn
from environments.errors import EnvironmentDied
from environments.tools.base import Call, Seen, Tool
from environments.worker import Worker, format_error

TOOL_LIMIT = 10.0
"""Seconds that a tool may take."""

MOST_CALLS = 200
"""Calls that one tool may propose at once."""

LONGEST_ANSWER = 2000
"""Characters of an answer."""


Result = TypeVar("Result")


@dataclass
class Use:
    """What a tool was in a game so far: the `steps` at which a call of it was offered, the calls that were `proposed`
    at these, and those that were `made`."""

    steps: int = 0
    proposed: int = 0
    made: int = 0


class WithTools(TextEnv):
    """`env` with some tools, under the id `env_id`.

    A call that makes sense is admissible beside the game's own commands; one that was answered is not offered again
    before the game moved. An answer is an observation: score and reward stay, a step has passed. The state says what
    was answered since the game moved last, since a player knows more then. A tool that raises, hangs or answers nothing
    is answered for in one line, and nothing else happens.

    Attributes:
        uses: what each tool was in this game, by its name.
        failure: by what the last answer was none: the class of the exception, or that it was `empty`; else nothing.
    """

    def __init__(self, env: TextEnv, tools: Sequence[Tool], env_id: str) -> None:
        super().__init__(env_id, env.step_limit)
        self.env = env
        self.tools = list(tools)
        self.answer_limit = None if env.answer_limit is None else env.answer_limit + TOOL_LIMIT * len(self.tools)
        self._bench = Worker(f"tools of {env_id}")
        self._turn = Turn("", ())
        self._aim = ""
        self._told: list[Call] = []
        self._calls: list[Call] = []
        self._since: list[Call] = []
        """Calls since the game moved."""
        self._held_out: frozenset[str] = frozenset()
        self._offers = Counter[str]()
        """How many calls of each tool are offered now."""
        self.uses: dict[str, Use] = {}
        self.failure = ""

    def seeds(self, split: Split) -> Sequence[int]:
        return self.env.seeds(split)

    def begin(self, task: Task) -> Turn:
        self.uses, self._offers = {tool.name: Use() for tool in self.tools}, Counter()
        turn = self.env.begin(Task(env=self.env.env_id, split=task.split, seed=task.seed))
        self._calls = []
        return self._moved("", turn, goal=turn.goal)

    def act(self, action: str) -> Turn:
        for name, count in self._offers.items():
            self.uses[name].steps += 1
            self.uses[name].proposed += count
        self._offers = Counter()
        asked = self._asked(action)
        if asked is None:
            return self._moved(action, self.env.act(action))
        self.uses[asked.name].made += 1
        call = Call(action, self._answer(asked, action))
        self._calls.append(call)
        self._since.append(call)
        return self._shown(call.answer)

    def close(self) -> None:
        self.env.close()

    def hold_out(self, names: Collection[str]) -> None:
        """Play without these tools from the next game on, as if the id did not name them; with all again for none."""
        self._held_out = frozenset(names)

    # -- what could be called ----------------------------------------------------------------------------------------

    def is_call(self, action: str) -> bool:
        """Whether a command is a call of a tool now, rather than one of the game."""
        return self._asked(action) is not None

    def called(self, action: str) -> str:
        """The name of the tool that a command calls now; empty for one of the game."""
        tool = self._asked(action)
        return "" if tool is None else tool.name

    def proposed(self) -> list[str]:
        """The calls that make sense now."""
        commands = self._turn.admissible
        return [] if commands is None or self._over else [call for call, _ in self._offered(list(commands))]

    def answer_to(self, call: str) -> str:
        """What a call would be answered now. Nothing changes by that, and no step passes."""
        tool = self._asked(call)
        return "" if tool is None else validate_text(self.env_id, "observation", self._answer(tool, call))

    # -- the game ----------------------------------------------------------------------------------------------------

    def _moved(self, action: str, turn: Turn, goal: str | None = None) -> Turn:
        """The game moved: what it said, with the calls that make sense now."""
        if goal is not None:
            self._told, self._aim = [], goal
        self._turn, self._since = turn, []
        self._told.append(Call(action, str(turn.observation)))
        return self._shown(turn.observation)

    def _shown(self, observation: str) -> Turn:
        turn = self._turn
        if turn.won or turn.lost or turn.cut:
            return turn
        commands = None if turn.admissible is None else list(turn.admissible)
        self._turn = turn._replace(admissible=commands)
        score = turn.score if turn.score is not None else float(turn.won)
        state = turn.state or f"{turn.observation}\nScore: {score:.2f}"
        if self._since:
            state = "\n".join([state, *(f"{call.action}: {call.answer}" for call in self._since)])
        offered = None
        if commands is not None:
            calls = self._offered(commands)
            offered = [*commands, *(call for call, _ in calls)]
            self._offers = Counter(tool.name for _, tool in calls)
        # The reward is the change of the value, so nothing is gained twice.
        return turn._replace(observation=observation, admissible=offered, state=state)

    def _offered(self, commands: Sequence[str]) -> list[tuple[str, Tool]]:
        """The calls that make sense now, without those that were answered already and those that are commands."""
        seen, taken = self._seen(commands), {*commands, *(call.action for call in self._since)}
        found: dict[str, Tool] = {}
        for tool in self._playing:
            try:
                calls = self._run(partial(_calls, tool, seen))
            except Exception:  # a tool that cannot say which calls make sense offers none
                continue
            found |= {call: tool for call in calls[:MOST_CALLS] if self._asked(call) is tool}
        return [(call, tool) for call, tool in found.items() if call not in taken]

    @property
    def _playing(self) -> list[Tool]:
        """The tools that are not held out."""
        return [tool for tool in self.tools if tool.name not in self._held_out]

    def _seen(self, commands: Sequence[str]) -> Seen:
        return Seen(self._aim, tuple(self._told), tuple(self._calls), tuple(commands))

    def _asked(self, action: str) -> Tool | None:
        """The tool that a command calls; None for a command of the game, which comes first."""
        if action in (self._turn.admissible or ()):
            return None
        verbs = [(verb, tool) for tool in self._playing for verb in tool.verbs]
        return next((tool for verb, tool in verbs if action == verb or action.startswith(f"{verb} ")), None)

    def _answer(self, tool: Tool, call: str) -> str:
        """What the tool answers, in one text; a line that says what went wrong where it has no answer."""
        commands, self.failure = self._turn.admissible or (), ""
        try:
            said = self._run(lambda: tool.answer(call, self._seen(list(commands))))
        except Exception as error:
            self.failure = type(error).__name__
            return f"{tool.name}: {' '.join(format_error(error).split())[:200] or 'it gave no answer'}."
        answer = said.strip() if isinstance(said, str) else ""
        if not answer:
            self.failure = "empty"
            return f"{tool.name}: it gave no answer."
        return answer if len(answer) <= LONGEST_ANSWER else answer[: LONGEST_ANSWER - 1] + "…"

    def _run(self, work: Callable[[], Result]) -> Result:
        """What `work` gives, within the limit; after one that hung the next has a thread of its own."""
        try:
            return self._bench.call(work, TOOL_LIMIT)
        except EnvironmentDied:
            self._bench = Worker(self._bench.name)
            raise


def _calls(tool: Tool, seen: Seen) -> list[str]:
    return [str(call) for call in tool.calls(seen)]
