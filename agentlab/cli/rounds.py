"""`agentlab rounds`: turn successes into an adapter, and let the gate decide about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agentlab.bars import progress
from agentlab.cli import output
from agentlab.cli.help import Sections
from agentlab.cli.options import (
    DEFAULT_LAB,
    MOST,
    FormerGateSeeds,
    FormerSeeds,
    Games,
    GateGames,
    Json,
    LabFolder,
    opened,
)
from agentlab.cli.options import seeds as parsed
from agentlab.cli.output import Column
from agentlab.cli.playing import IN_ROUNDS, Playing, plays_by
from agentlab.cli.round_options import ConfigFile, Export, before_playing, checked, goes_on, passable, settings
from agentlab.cli.round_screens import print_report, print_reports
from agentlab.cli.runs import Model, Name, Seeds, Split, workplace

if TYPE_CHECKING:
    from agentlab.lab import Lab
    from agentlab.rounds import RoundConfig, RoundReport

app = typer.Typer(cls=Sections, no_args_is_help=True, help="Run distillation rounds, and look at those that were run.")

Envs = Annotated[
    list[str] | None, typer.Argument(help="Environments to learn; by default those of the last round, if there is one.")
]


@app.command("list")
def list_(lab: LabFolder = DEFAULT_LAB, json: Json = False) -> None:
    """List rounds, the oldest first: what each collected and trained on, and what the gate said."""
    from agentlab.rounds.report import readable_reports

    with opened(lab) as here:
        reports, unreadable = readable_reports(here)
    for id in unreadable:
        output.note(f"The record of {id} has not the form that this version reads.")
    rows = [report.model_dump() for report in reports] if json else [_row(report) for report in reports]
    columns = [
        Column("id"),
        Column("phase", head=True),
        Column("envs", wide=True),
        Column("collected"),
        Column("selected"),
        Column("adapter"),
        Column("promoted"),
        Column("started_at", "started"),
    ]
    output.listing(rows, columns, as_data=json, empty="No rounds here yet. `agentlab rounds run ENV…` runs one.")


def _row(report: RoundReport) -> dict[str, Any]:
    row = report.model_dump()
    row["envs"] = report.config.envs
    row["collected"] = ", ".join(f"{way} {part['won']}/{part['tasks']}" for way, part in report.collected.items())
    row["selected"] = sum(report.selected.values())
    row["started_at"] = output.ago(report.started_at)
    return row


@app.command()
def show(
    round: Annotated[str, typer.Argument(help="A round's id, such as round-1.")],
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Show one round: its settings, what it collected and selected, its training, and the gate."""
    from agentlab.views.rounds import find_round

    with opened(lab) as here:
        report = find_round(here, round)
    if json:
        output.as_json(report)
    else:
        print_report(report)


@app.command()
def config(
    envs: Annotated[list[str] | None, typer.Argument(help="Environments to learn, such as twx/coin.")] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="A published method: rest_em, agent_r, context_distillation, dpo, grpo."),
    ] = None,
    file: ConfigFile = None,
    lab: LabFolder = DEFAULT_LAB,
) -> None:
    """Print the settings of a round as a commented file for `agentlab rounds run --config FILE`.

    They are those of --config, else of the lab's last round where no environment is named, else the defaults; a preset
    goes on top.
    """
    from agentlab.errors import BadConfig
    from agentlab.rounds import PRESETS
    from agentlab.rounds.config import EXPERT
    from agentlab.workspace.commented import commented
    from environments.errors import did_you_mean

    checked(envs)
    if preset and preset not in PRESETS:
        raise BadConfig(f"There is no preset '{preset}'; {did_you_mean(preset, PRESETS)}")
    changes = PRESETS[preset] if preset else {}
    if (lab / "lab.toml").exists():
        with opened(lab) as here:
            asked = settings(here, envs, file, changes)
    else:
        asked = settings(None, envs or ["twx/coin"], file, changes)
    about = (
        "Settings of a round: `agentlab rounds run --config FILE` takes them. One that stands as a comment, as in "
        "`# name = …`, is None."
    )
    typer.echo(commented(asked, about=about, expert=EXPERT), nl=False)


@app.command("run")
@plays_by(IN_ROUNDS)
def run_(
    envs: Envs = None,
    config: ConfigFile = None,
    count: Annotated[int, typer.Option("--count", min=1, max=MOST, help="How many rounds, one after the other.")] = 1,
    minutes: Annotated[
        int | None,
        typer.Option(
            "--minutes",
            min=1,
            max=MOST,
            help="Run rounds within this time, each with more games than the one before, as long as that improves on "
            "held-out games. The first is run whatever it takes.",
        ),
    ] = None,
    collect: Annotated[
        Literal["auto", "random", "model", "both", "none", "mcts", "best_of_n", "deepening", "self_explore"] | None,
        typer.Option("--collect", help="Who explores; auto is random while the base serves, both after that."),
    ] = None,
    games: Games = None,
    gate_games: GateGames = None,
    export: Export = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what a new round would cost: games, steps, training, gate.")
    ] = False,
    model: Model = None,
    *,
    playing: Playing,
    seeds: FormerSeeds = None,
    gate_seeds: FormerGateSeeds = None,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Run a round: collect, select, train, gate, promote or reject.

    A round that was interrupted is finished first, with its own settings: other ones are refused until it has ended.
    """
    from agentlab.cli import distill
    from agentlab.errors import AgentLabError
    from agentlab.rounds.series import run_series

    if export is not None and count > 1:
        raise AgentLabError("--export stops before the training of one round; leave out --count.")
    if minutes is not None and (count > 1 or export is not None):
        raise AgentLabError("--minutes finds by itself how many rounds are run; leave out --count and --export.")
    changes = {"collect": collect, "seeds": games or seeds, "gate_seeds": gate_games or gate_seeds}
    checked(envs)
    reports = []
    stop: str | None = None
    given = bool(envs or config or any(value is not None for value in changes.values()))
    if dry_run:
        with opened(lab) as here:
            asked = settings(here, envs, config, changes)
            goes_on(here, asked, given=given)
            _print_estimate(here, asked, json)
        return
    if not lab.expanduser().exists():  # for a round that is refused no lab is made
        passable(settings(None, envs, config, changes))
    with progress() as bars, workplace(lab, model, bars, **playing) as here:
        asked = settings(here, envs, config, changes)
        before_playing(here, asked, given=given)
        if export is not None:
            sent = distill.send(here, asked, export)
        if minutes is not None:
            try:
                for report in run_series(here, asked, minutes):
                    reports.append(report)
            except AgentLabError as error:  # such as no more games
                if not reports:
                    raise
                stop = f"No further round: {error}"
        for left in reversed(range(0 if export or minutes is not None else count)):
            asked = settings(here, envs, config, changes)
            reports.append(here.round(asked))
            stop = _stopped(here, asked) if left else None
            if stop is not None:
                break
    if export is not None:
        distill.print_sent(sent, lab, json)
    else:
        print_reports(reports, json)
    if stop is not None:
        output.note(stop)


def _stopped(lab: Lab, config: RoundConfig) -> str | None:
    """Why no further round is run; None if one is."""
    from agentlab.rounds.stopping import course
    from agentlab.views.rounds import find_round
    from environments import canonical

    if config.early_stop is None:
        return None
    envs = [canonical(env) for env in config.envs]
    known = course((report for report in lab.rounds() if report.config.envs == envs), config.early_stop)
    if not known.stop:
        return None
    stopped, serves = f"Stopped early: no gain on held-out games in {config.early_stop.patience} rounds.", lab.serving()
    if known.best is None:
        return f"{stopped} None was better than what served at first; {serves or 'the base'} serves."
    best = find_round(lab, str(known.best))
    gained = f"{100 * (known.scores[known.best] or 0):+.0f} points on what served at first, {best.adapter}"
    return f"{stopped} The best is {best.id} ({gained}); {serves or 'the base'} serves."


@app.command()
def abandon(
    round: Annotated[str, typer.Argument(help="The id of an unfinished round, such as round-3.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept with the round.")] = "",
    lab: LabFolder = DEFAULT_LAB,
) -> None:
    """Give up a round that cannot be finished. Nothing is lost, and the next `rounds run` begins a new one."""
    from agentlab.rounds import abandon
    from agentlab.views.rounds import find_round

    with opened(lab, write=True) as here:
        report = abandon(here, find_round(here, round).id, reason)
    output.say(f"{report.id}: {report.note} `agentlab rounds run` begins a new round.")


@app.command()
def retire(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be retired.")] = False,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Retire reflections that helped before, and measurably no longer do under the adapter that serves.

    Every round ends with this. `agentlab memory restore ID` brings one back, `agentlab memory undo` all.
    """
    from agentlab.errors import AgentLabError
    from memory.credit import Retirement

    with opened(lab, write=not dry_run) as here:
        adapter = here.serving()
        if adapter is None:
            raise AgentLabError("The base model serves, so no memory has moved into weights; promote an adapter first.")
        found = Retirement(here.database, adapter, namespace=here.config.namespace).run(dry_run=dry_run)
    rows = [{"reflection": verdict.reflection, "reason": verdict.reason} for verdict in found]
    empty = f"No reflection has measurably lost its use under {adapter}."
    columns = [Column("reflection"), Column("reason", "would be retired" if dry_run else "retired", wide=True)]
    output.listing(rows, columns, as_data=json, empty=empty)


@app.command("2x2")
def two_by_two(
    envs: Annotated[list[str], typer.Argument(help="Environments, such as twx/coin twx/mapreader.")],
    old: Annotated[
        str | None, typer.Option("--old", help="base or an adapter's id; by default what the new one came after.")
    ] = None,
    new: Annotated[str, typer.Option("--new", help="An adapter's id; by default the one that serves.")] = "adapter",
    same_memory: Annotated[
        bool, typer.Option("--same-memory", help="With memory on, an adapter too has all that the base has.")
    ] = False,
    split: Split = "test",
    seeds: Seeds = "0-19",
    name: Name = None,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Measure memory off and on × adapter old and new, and how much of the memory's gain is in the new adapter.

    The same command after Ctrl-C or a kill goes on where it stopped.
    """
    from agentlab.cli import two_by_two

    checked(envs)
    with progress() as bars, opened(lab, write=True, progress=bars) as here:
        found = here.two_by_two(
            envs, old=old, new=new, split=split, seeds=parsed(seeds), same_memory=same_memory, name=name
        )
    if json:
        output.as_json(found)
    else:
        two_by_two.show(found)


def _print_estimate(lab: Lab, config: RoundConfig, json: bool) -> None:
    """Print what a round with these settings comes to, for a person or as JSON; a gate that cannot pass is an error."""
    from agentlab.agent.tasks import check_tasks
    from agentlab.bars import span
    from agentlab.errors import BadConfig
    from agentlab.rounds.challenges import fresh_seeds
    from agentlab.rounds.estimating import estimate

    config = config.named()
    found = estimate(lab, config)
    check_tasks(config.tasks(len(lab.rounds()) + 1, fresh_seeds(lab, config.envs, config.dev_seeds)))
    if json:
        output.as_json(found.model_dump() | {"total_seconds": found.seconds})
    else:
        output.say(f"{found.round}  {', '.join(config.envs)}", "bold")
        for phase in found.phases:
            size = f"at most {phase.games:,} games, {phase.steps:,} steps" if phase.games else "what is won, selected"
            took = "time not known yet" if phase.seconds is None else f"at most {span(phase.seconds)} ({phase.basis})"
            output.say(f"  {phase.phase}: {size}; {took}")
        total = "not known before the first games and training" if found.seconds is None else span(found.seconds)
        output.say(f"In all, at most: {total}. Nothing was played.")
    if found.problem:
        raise BadConfig(found.problem)
