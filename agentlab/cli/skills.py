"""`agentlab adapters merge`, `gate` and `forgetting`: skills that were learned apart, brought together."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from agentlab.bars import progress
from agentlab.cli import output, scoreboard
from agentlab.cli.monitors import change
from agentlab.cli.options import DEFAULT_LAB, MOST, Json, LabFolder, command_line, opened
from agentlab.cli.options import seeds as parsed

Method = Literal["cat", "linear", "svd", "ties", "dare"]
Seeds = Annotated[str, typer.Option("--seeds", help="Which held-out games of each environment, such as 0-19.")]


def add_to(app: typer.Typer) -> None:
    """Make these commands of `agentlab adapters`."""
    for command in (merge, gate, forgetting):
        app.command()(command)


def merge(
    adapters: Annotated[list[str], typer.Argument(help="Two or more adapters of one base.")],
    by: Annotated[
        Method,
        typer.Option(
            "--by",
            help="cat: the exact weighted sum; linear: the same with the least rank; svd: cut to a rank; ties: elected "
            "signs; dare: entries dropped at random.",
        ),
    ] = "cat",
    weights: Annotated[
        str | None, typer.Option("--weights", help="One for each adapter, such as 1,0.5; by default 1 each.")
    ] = None,
    rank: Annotated[
        int | None, typer.Option("--rank", min=1, max=MOST, help="Of the result of svd, ties and dare.")
    ] = None,
    density: Annotated[
        float | None, typer.Option("--density", min=0.001, max=1.0, help="The share of entries that ties or dare keep.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the lots of dare.")] = 0,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Merge adapters into a new candidate, which must pass a gate before it may serve."""
    from agentlab.rounds import merge_gate
    from trainers.adapters import MergeConfig

    config = MergeConfig(method=by, weights=_numbers(weights), rank=rank, density=density, seed=seed)
    with opened(lab, write=True) as here, output.working("Merging"):
        record = merge_gate.merge(here, adapters, config)
    done = record.lineage.merge
    assert done is not None
    if json:
        output.as_json(record)
        return
    output.say(
        f"{record.id}: {' + '.join(f'{weight:g}*{id}' for id, weight in done.weights.items())} by {done.method}, rank "
        f"{done.rank}; {done.error:.2%} from the exact sum"
        + (f", of which {done.truncation:.2%} for want of rank." if done.truncation >= 0.00005 else ".")
    )
    output.say(
        f"It may not serve yet. `{command_line(lab, 'adapters', 'gate', record.id)}` plays held-out games and decides."
    )


def _numbers(given: str | None) -> tuple[float, ...] | None:
    """The weights that a text such as `1,0.5` gives. Raises BadConfig."""
    from agentlab.errors import BadConfig

    try:
        return None if given is None else tuple(float(part) for part in given.split(","))
    except ValueError:
        raise BadConfig(f"'{given}' are no weights; write one number for each adapter, such as 1,0.5.") from None


def gate(
    adapter: Annotated[str, typer.Argument(help="A merged adapter's id, or its beginning where that is unique.")],
    seeds: Annotated[
        str | None,
        typer.Option(
            "--seeds", help="Which held-out games of each environment; by default the next 20 that no gate has seen."
        ),
    ] = None,
    envs: Annotated[
        list[str] | None, typer.Option("--env", help="A further environment; all that the parents learned are played.")
    ] = None,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Gate a merged adapter on all families of its parents: it serves if it is better and no skill was lost.

    The same command after Ctrl-C or a kill goes on where it stopped.
    """
    from agentlab.rounds.merge_gate import gate_merge
    from agentlab.workspace.environments import as_played

    with progress() as bars, opened(lab, write=True, progress=bars) as here:
        further, games = as_played(envs or (), here.config.tools), None if seeds is None else parsed(seeds)
        result = gate_merge(here, adapter, further, seeds=games)
    if json:
        output.as_json(result)
        return
    scoreboard.show(result.table)
    for kept in result.kept:
        output.say(f"against {kept.parent} on {kept.env}: {change(kept.paired)}{', LOST' if kept.lost else ''}")
    output.say(f"{result.adapter} {'serves now' if result.promoted else 'was rejected'}: {result.gate.reason}")


def forgetting(
    play: Annotated[
        bool, typer.Option("--play", help="First play what is missing: every adapter that served, every family.")
    ] = False,
    split: Annotated[Literal["dev", "test"], typer.Option("--split", help="Which held-out games.")] = "dev",
    seeds: Seeds = "0-19",
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Show the held-out rate of every adapter on every family, and what the present one lost."""
    from agentlab.experiments.forgetting import forgetting as read
    from agentlab.experiments.forgetting import measure

    if play:
        with progress() as bars, opened(lab, write=True, progress=bars) as here:
            found = measure(here, split=split, seeds=parsed(seeds))
    else:
        with opened(lab) as here:
            found = read(here, split=split)
    if json:
        output.as_json(found)
        return
    if not found.table.rows:
        output.say("No held-out game was played yet; `--play` plays some.")
        return
    scoreboard.show(found.table)
    for adapter, origin in found.rounds.items():
        output.say(f"{adapter}: {origin}", "dim")
    for loss in found.losses:
        output.say(
            f"{found.adapter} on {loss.env} against {loss.best}, the best before it: {change(loss.paired, loss.p)}"
            f"{', FORGOTTEN' if loss.forgotten else ''}"
        )
