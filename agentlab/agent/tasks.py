"""Tasks by their environments, fold and seeds, and whether there are such games."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agentlab.errors import BadConfig

if TYPE_CHECKING:
    from environments import Task, TextEnv
    from environments.base import Split


MOST_SEEDS = 100_000
"""More at once are refused before they fill the memory."""


def make_tasks(envs: str | Sequence[str], split: Split, seeds: Sequence[int]) -> list[Task]:
    """Every environment with every seed, each once.

    Raises UnknownEnvironment before anything is played, BadConfig if there is nothing to play or a game is in no fold.
    """
    from environments import Task, canonical

    if len(seeds) > MOST_SEEDS:
        raise BadConfig(f"{len(seeds):,} seeds are asked for, which is surely a slip; name at most {MOST_SEEDS:,}.")
    names = list(dict.fromkeys(canonical(env) for env in ([envs] if isinstance(envs, str) else envs)))
    if not names or not len(seeds):
        raise BadConfig("There is nothing to play: give at least one environment and one seed.")
    tasks = [Task(env=env, split=split, seed=seed) for env in names for seed in dict.fromkeys(seeds)]
    check_tasks(tasks)
    return tasks


@contextmanager
def looked_at(env_id: str) -> Iterator[TextEnv]:
    """An environment that is only looked at, such as for its folds, and not kept.

    Raises EnvironmentDied for what it raises, UnknownEnvironment and MissingDependency as they are.
    """
    from agentlab import failures
    from environments import dispose, make

    with failures.environment(env_id):
        env = make(env_id)
        try:
            yield env
        finally:
            dispose(env)


def check_tasks(tasks: Sequence[Task]) -> None:
    """Raise BadConfig if one of the tasks is in no fold of its environment."""
    for name in dict.fromkeys(task.env for task in tasks):
        with looked_at(name) as env:
            folds = {split: env.fold(split) for split in {task.split for task in tasks}}
        for task in tasks:
            if task.env == name and task.seed not in folds[task.split]:
                known = folds[task.split]
                which = f"{known[0]} to {known[-1]}" if known else "none"
                raise BadConfig(f"{name} has no {task.split} game {task.seed}; there are {which}. Nothing was played.")
