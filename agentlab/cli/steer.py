"""`agentlab steer` (experimental): steering vectors, which are added to the hidden states of a local model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from agentlab.bars import progress
from agentlab.cli import output
from agentlab.cli.options import DEFAULT_LAB, Json, LabFolder, command_line, opened
from agentlab.cli.output import Column


def steer(
    envs: Annotated[
        list[str] | None, typer.Argument(help="Environments whose train games were played; none: list what there is.")
    ] = None,
    method: Annotated[
        Literal["self-control", "mean-difference", "random"] | None,
        typer.Option(
            "--method",
            help="self-control (the default): gradients of the model's own judgement; mean-difference: states after "
            "steps of won games less those of lost ones; random: a direction of the same length, for comparison.",
        ),
    ] = None,
    question: Annotated[
        str | None, typer.Option("--question", help="What the model is asked behind a step, for Yes or No.")
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength",
            help="How much is added, in lengths of a hidden state, by default 0.1; an arm may say another.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=2, max=10_000, help="From so many steps, each of another episode; by default 64."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Which steps, and which random direction; by default 0.")
    ] = None,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """(experimental) Make a steering vector from won and lost train games; an arm plays with it.

    For local models alone. No table shows that it helps: `benchmarks/results/steering.md` has what it was worth.
    """
    from agentlab.engines.experimental.vectors import SteeringConfig, cards
    from agentlab.errors import BadConfig
    from agentlab.workspace.config import parse

    options = {"method": method, "question": question, "strength": strength, "steps": steps, "seed": seed}
    given = {name: value for name, value in options.items() if value is not None}
    if given and not envs:
        raise BadConfig(
            f"--{next(iter(given))} is of a vector that is made; name an environment too, such as twx/coin."
        )
    config = parse(SteeringConfig, given, Path("steer"))
    if envs:
        with progress() as bars, opened(lab, write=True, progress=bars) as here:
            card = here.steer(envs, **config.model_dump())
        found = [card]
    else:
        with opened(lab) as here:
            found = cards(here.folder / "steering", output.note)
    if json:
        output.as_json(found)
        return
    rows = [
        {**one.model_dump(), "method": one.made.method, "strength": f"{one.made.strength:g}", **one.score}
        for one in found
    ]
    columns = [
        Column("id", head=True),
        Column("method", head=True),
        Column("strength"),
        Column("envs", "made from"),
        Column("steps"),
        Column("won", "score: won"),
        Column("lost", "lost"),
        Column("base", "as it is"),
        Column("steered"),
    ]
    output.listing(rows, columns, as_data=False, empty="No steering vectors here yet. `agentlab steer ENV` makes one.")
    if envs:
        output.say(f"Play with it: `{command_line(lab, 'eval', *envs, '--arm', f'{card.id}@{card.made.strength:g}')}`")
