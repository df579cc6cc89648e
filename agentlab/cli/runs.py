"""`agentlab run` and `agentlab eval`: play tasks and learn from them; measure arms side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agentlab.bars import progress
from agentlab.cli import output, scoreboard
from agentlab.cli.options import DEFAULT_LAB, MOST, Json, LabFolder, command_line
from agentlab.cli.options import seeds as parsed
from agentlab.cli.playing import PLAYING, Playing, plays_by

if TYPE_CHECKING:
    from agentlab.agent.rollout import TaskResult
    from agentlab.lab import Lab
    from agentlab.progress import Progress

Envs = Annotated[
    list[str],
    typer.Argument(
        help='Environments, such as toy/doors twx/coin "twx/coin?numLocations=3"; one that names no tools has those of '
        "lab.toml, if there are any."
    ),
]
Split = Annotated[Literal["train", "dev", "test"], typer.Option("--split", help="Which games.")]
Seeds = Annotated[str, typer.Option("--seeds", help="Which games of the split, such as 0-9,12.")]
Name = Annotated[
    str | None,
    typer.Option(
        "--name",
        help="Name of the run. Under the same name, what is finished is not played again; another one begins anew, "
        "with all that is known by now.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="The base model of a new lab: see `agentlab models`, a folder, or org/model."),
]
ARMS = (
    "random, base, adapter (the one that serves), an adapter's id, skills(A,B), society, steering-ID@0.1 (both "
    "experimental); all but random and society also with '+ memory'."
)


@plays_by(PLAYING)
def run(
    envs: Envs,
    split: Split = "train",
    seeds: Seeds = "0-9",
    trials: Annotated[int, typer.Option("--trials", min=1, max=MOST, help="Tries at each game, until it is won.")] = 3,
    arm: Annotated[
        str | None,
        typer.Option(
            "--arm",
            help=f"How to play: {ARMS} By default adapter + memory where an adapter serves, else base + memory.",
            show_default=False,
        ),
    ] = None,
    reflectors: Annotated[
        str | None,
        typer.Option(
            "--reflectors",
            help="Who reflects, such as grounded,critique; by default as lab.toml says. All but grounded and exemplar "
            "are (experimental).",
        ),
    ] = None,
    name: Name = None,
    model: Model = None,
    *,
    playing: Playing,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Play games; episodes and reflections stay in the lab, which is made if there is none.

    The same command after Ctrl-C or a kill goes on where it stopped, and plays again what errored. Ends with 1 if
    every game errored.
    """
    from agentlab.agent.arms import default_arm
    from agentlab.agent.tasks import make_tasks
    from agentlab.experiments.evaluation import Table, row
    from agentlab.reflectors.registry import validate

    make_tasks(envs, split, parsed(seeds))  # refused before a lab is made
    who = None if reflectors is None else [validate(one.strip()) for one in reflectors.split(",")]
    with progress() as bars, workplace(lab, model, bars, **playing) as here:
        arm = default_arm(here) if arm is None else arm
        results = here.run(envs, split=split, seeds=parsed(seeds), trials=trials, arm=arm, name=name, reflectors=who)
    if json:
        output.as_json([output.row_of(result) for result in results])
        _errors(results)
        return
    names = list(dict.fromkeys(result.task.env for result in results))
    rows = [row(arm, results, trials=1)]
    if trials > 1:
        rows.append(row(arm, results, trials=trials))
    scoreboard.show(Table(envs=names, rows=rows))
    first = results[0].trials[-1].episode
    output.say("Look further:")
    remembered = [] if arm == "random" else [["memory", "list"]]
    for words in (["episodes"], ["replay", first], *remembered):
        output.say(f"  {command_line(lab, *words)}")
    _errors(results)


def _errors(results: Sequence[TaskResult]) -> None:
    """Say how many games errored, and leave with 1 if all did."""
    errored = sum(result.errored for result in results)
    if errored:
        what = f"{errored} of {len(results)} games errored and count for nothing; the same command plays them again."
        output.note(what)
    if errored == len(results):
        raise typer.Exit(1)


@plays_by(PLAYING)
def evaluate(
    envs: Envs,
    split: Split = "test",
    seeds: Seeds = "0-19",
    arms: Annotated[list[str] | None, typer.Option("--arm", help=f"An arm; repeat it for more: {ARMS}")] = None,
    trials: Annotated[
        int,
        typer.Option(
            "--trials", min=1, max=MOST, help="Tries at each game; more than one adds rows, the plain Retry among them."
        ),
    ] = 1,
    name: Name = None,
    model: Model = None,
    *,
    playing: Playing,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Measure arms on the same games, with intervals and paired comparisons.

    By default random, base and base + memory, and the adapter with and without memory where one serves. The same
    command again tells the same, until something was learned: then arms with memory are measured anew. Games that
    errored are played again by the same command. Ends with 1 if every game errored.
    """
    from agentlab.agent.tasks import make_tasks

    make_tasks(envs, split, parsed(seeds))  # refused before a lab is made
    with progress() as bars, workplace(lab, model, bars, **playing) as here:
        table = here.evaluate(envs, split=split, seeds=parsed(seeds), arms=arms or None, trials=trials, name=name)
    table.compare_with_base()
    if json:
        output.as_json(table)
    else:
        scoreboard.show(table)
        output.say(f"{table.about['name']}, begun {output.ago(table.about['date'])}", "dim")
    cells = [row.cells[scoreboard.ALL] for row in table.rows]
    if any(cell.errored for cell in cells):
        output.note("What errored counts for nothing; the same command plays it again.")
    if not any(cell.n for cell in cells):
        raise typer.Exit(1)


def workplace(
    lab: Path,
    model: str | None,
    bars: Progress,
    *,
    max_cost: float | None = None,
    max_tokens: int | None = None,
    workers: str | None = None,
    **playing: Any,
) -> Lab:
    """The lab for writing, made if there is none; `model` is the base of a new one.

    `playing` are settings of how it plays: they are kept in a new lab, and hold for this command in one that exists.
    It plays until models took `max_cost` or `max_tokens`, by `workers` where they are given.

    Raises:
        UnknownModel: if there is no such model.
        BadConfig: if `model` is not the base of a lab that exists.
    """
    from agentlab.engines import hub
    from agentlab.errors import BadConfig
    from agentlab.lab import Lab
    from agentlab.workspace.config import LabConfig

    given = {name: value for name, value in {**playing, "model": model}.items() if value is not None}
    if model is not None:
        given["model"] = model = hub.lasting_name(model)
    config = LabConfig(**given)
    found = Lab.open(lab, create=True, config=config, progress=bars)
    try:
        # With what follows from what is given.
        found.config = found.config.model_copy(update=config.model_dump(include=config.model_fields_set - {"model"}))
        if model is not None and found.config.model != model and not found.take_model(model):
            raise BadConfig(
                f"The lab {lab} has the base model {found.config.model!r}, not {model!r}; what it learned belongs to "
                "that one. Give another folder with --lab."
            )
        found.limit(cost=max_cost, tokens=max_tokens)
        if workers is not None:
            found.hire(workers)
    except BaseException:
        found.close()
        raise
    return found
