"""`agentlab bench`: a named protocol, learned and measured with one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agentlab.bars import progress
from agentlab.cli import output
from agentlab.cli.options import MOST, Json
from agentlab.cli.options import seeds as numbers
from agentlab.cli.playing import Workers

if TYPE_CHECKING:
    from agentlab.protocols.protocol import Protocol
    from agentlab.protocols.showing import Outcome


def bench(
    name: Annotated[str | None, typer.Argument(help="The protocol.", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--list", help="Say what each measures, and how long it takes.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Where its labs and results go; by default bench-NAME.", show_default=False),
    ] = None,
    split: Annotated[
        Literal["dev", "test"], typer.Option("--split", help="dev while something is still being changed.")
    ] = "test",
    games: Annotated[
        int | None, typer.Option("--games", "-n", min=1, max=MOST, help="Fewer games than the protocol's.")
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option("--training-seeds", help="Such as 0 or 0,1; by default the protocol's.", show_default=False),
    ] = None,
    ways: Annotated[
        list[str] | None,
        typer.Option("--way", help='One way to play, such as "with tools"; repeat it for more. By default all.'),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The base model: see `agentlab models`, a folder, or org/model.")
    ] = None,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Repeat a benchmark: learn on train games as its protocol says, then measure on its test games.

    The same command after Ctrl-C or a kill goes on where it stopped; with other ways or training seeds several can run
    beside each other in one folder. The result goes to result.md and result.json there.
    """
    from agentlab.engines import hub
    from agentlab.protocols import protocol, protocols, run_protocol
    from agentlab.protocols.running import write
    from agentlab.protocols.showing import markdown, outcome
    from agentlab.workspace.config import LabConfig

    if every or name is None:
        _list(protocols(), as_data=json)
        return
    chosen = protocol(name)
    place, count = folder or Path(f"bench-{chosen.name}"), min(games or chosen.games, chosen.games)
    wanted = None if seeds is None else numbers(seeds, "--training-seeds")
    config = None if model is None else LabConfig(model=hub.lasting_name(model), gather=True)
    with progress() as bars:
        learned = run_protocol(
            chosen,
            place,
            split=split,
            games=count,
            training_seeds=wanted,
            ways=ways,
            config=config,
            workers=workers,
            progress=bars,
        )
    found = outcome(chosen, learned, split, count)
    write(place / "result.json", found.model_dump_json(indent=1) + "\n")
    write(place / "result.md", markdown(found, chosen))
    if json:
        output.as_json(found)
        return
    _show(chosen, found)
    output.say(f"{place / 'result.md'} has it all, {place / 'result.json'} as data.", "dim")


def _list(known: list[Protocol], *, as_data: bool) -> None:
    rows = [
        {
            "protocol": one.name,
            "version": one.version,
            "measures": one.measures,
            "takes": one.takes,
            "games": one.games,
            "training_seeds": one.training_seeds,
        }
        for one in known
    ]
    if as_data:
        output.as_json(rows)
        return
    for one in known:
        output.say(f"{one.name}, version {one.version}", "bold")
        output.say(f"  {one.measures}")
        output.say(
            f"  {len(one.ways[0].envs)} environments, {one.games} games of each, training seeds: {one.training_seeds}"
        )
        output.say(f"  {one.takes}")


def _show(chosen: Protocol, found: Outcome) -> None:
    """The means over all games, and the paired comparisons of these."""
    from agentlab.protocols.showing import MEAN, cell
    from trainers.gate import p_text

    names = list(chosen.ways[0].envs)
    over = [*chosen.groups, MEAN]
    shown = [*names, *over] if len(names) <= 6 else over
    columns = [output.Column("who", "who plays"), *(output.Column(name) for name in shown)]
    rows = [
        {"who": f"{line.arm}, {line.way}", **{name: cell(line.means.get(name)) for name in shown}}
        for line in [*found.lines, *found.published]
    ]
    output.listing(rows, columns, as_data=False, empty="Nothing was measured.")
    for one in found.compared:
        if one.game == MEAN:
            output.say(
                f"{one.arm}, {one.way}, against {one.other}: {one.found.difference:+.3f} on {one.found.games} games, "
                f"p {p_text(one.found.p, '= ')} (paired randomisation test)"
            )
    if not found.whole:
        output.note("This is not the whole protocol, so it is not its result.")
