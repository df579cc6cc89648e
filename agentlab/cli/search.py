"""`agentlab search`: look for winning ways to play, with or without the model, at a bounded cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agentlab.bars import progress
from agentlab.cli import output
from agentlab.cli.options import DEFAULT_LAB, MOST, Json, LabFolder
from agentlab.cli.options import seeds as parsed
from agentlab.cli.output import Column
from agentlab.cli.runs import Envs, Model, Seeds, workplace

if TYPE_CHECKING:
    from agentlab.search.tasks import Searched


def search(
    envs: Envs,
    seeds: Seeds = "0-9",
    method: Annotated[
        Literal["mcts", "best_of_n", "deepening", "self_explore"],
        typer.Option("--method", help="How to search; all but mcts are (experimental): no table shows that they help."),
    ] = "mcts",
    budget: Annotated[
        int, typer.Option("--budget", min=1, max=MOST, help="Environment steps for each game, at most.")
    ] = 400,
    wins: Annotated[int, typer.Option("--wins", min=1, max=MOST, help="Different ways to win each game, at most.")] = 1,
    guided: Annotated[
        bool, typer.Option("--guided", help="Let the lab's model guide the search; otherwise chance does.")
    ] = False,
    adapter: Annotated[
        str | None, typer.Option("--adapter", help="Let the model guide it with this adapter (its id).")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the run; under the same name it goes on where it stopped.")
    ] = None,
    model: Model = None,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Search train games for wins; what is found stays in the lab, to be distilled, with what it teaches.

    The cost is told in environment steps and in scorings by the model. The same command after a kill goes on.
    """
    from agentlab.agent.tasks import make_tasks
    from agentlab.search.config import SearchConfig
    from agentlab.search.tasks import search_tasks
    from agentlab.trajectories.budget import Budget
    from agentlab.workspace.environments import as_played

    make_tasks(envs, "train", parsed(seeds))  # refused before a lab is made
    with progress() as bars, workplace(lab, model, bars) as here:
        tasks = make_tasks(as_played(envs, here.config.tools), "train", parsed(seeds))
        results = search_tasks(
            here,
            name or f"search-{method}",
            tasks,
            method=method,
            engine="model" if guided or adapter else "random",
            adapter=here.adapters.get(adapter).id if adapter else None,
            budget=Budget(steps=budget),
            seed=here.config.seed,
            config=SearchConfig(wins=wins),
        )
    if json:
        output.as_json(results)
        return
    columns = [Column("env"), Column("won"), Column("wins"), Column("steps"), Column("replayed"), Column("calls")]
    columns += [Column("tokens"), Column("per_1000", "games won in 1000 steps"), Column("errored")]
    names = list(dict.fromkeys(task.env for task in tasks))
    output.listing([_row(env, results) for env in names], columns, as_data=False, empty="")
    output.say("Games won of n games [Wilson 95 % interval], and what the search of all of them cost.", "dim")


def _row(env: str, results: list[Searched]) -> dict[str, Any]:
    from agentlab.trajectories.budget import Cost
    from memory.records import task_parts
    from trainers.gate import wilson

    here = [result for result in results if task_parts(result.task).env == env]
    played = [result for result in here if result.error is None or result.won is not None]
    won = sum(result.won is not None for result in played)
    low, high = wilson(won, len(played))
    cost = sum((result.cost for result in here), Cost())
    return {
        "env": env,
        "won": f"{won}/{len(played)} [{low:.2f}, {high:.2f}]",
        "wins": sum(result.successes for result in here),
        **cost.model_dump(),
        "per_1000": 1000 * won / cost.steps if cost.steps else None,
        "errored": len(here) - len(played),
    }
