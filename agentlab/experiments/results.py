"""What a run came to: a list of results that shows itself as a table."""

from __future__ import annotations

from agentlab.agent.rollout import TaskResult
from agentlab.grid import Grid


class Results(Grid, list[TaskResult]):
    """One result for each task, in the order in which they were asked for."""

    @property
    def grid(self) -> list[list[str]]:
        """A line for each environment: games, how many were won at once and within all trials, how many errored."""
        lines = []
        for env in dict.fromkeys(result.task.env for result in self):
            here = [result for result in self if result.task.env == env]
            first = sum(bool(result.won_within(1)) for result in here)
            ever = sum(bool(result.won_within(len(result.trials))) for result in here)
            counts = (len(here), first, ever, sum(result.errored for result in here))
            lines.append([env, *map(str, counts)])
        return [["environment", "games", "won at once", "won in the end", "errored"], *lines]
