"""`agentlab distill`: a round on the successes that the lab has, trained here or on another machine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentlab.bars import progress
from agentlab.cli import output
from agentlab.cli.options import DEFAULT_LAB, FormerGateSeeds, GateGames, Json, LabFolder, command_line, opened
from agentlab.cli.round_options import ConfigFile, Export, before_playing, checked, settings
from agentlab.cli.round_screens import print_reports

if TYPE_CHECKING:
    from agentlab.lab import Lab
    from agentlab.rounds import RoundConfig


def distill(
    envs: Annotated[
        list[str] | None, typer.Argument(help="Environments; by default all that the lab has won games of.")
    ] = None,
    config: ConfigFile = None,
    gate_games: GateGames = None,
    export: Export = None,
    bring: Annotated[
        Path | None,
        typer.Option(
            "--import",
            metavar="FOLDER",
            help="Go on with an exported round: take the adapter that was trained in this folder, and gate it.",
        ),
    ] = None,
    gate_seeds: FormerGateSeeds = None,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Train an adapter on the successes that the lab has, and gate it: a round that plays nothing new to learn from.

    A round that waits for its training, whoever collected for it, is the one that is exported or trained.

    To train on another machine, with a GPU say:

    1. here: agentlab distill --export FOLDER

    2. there, with FOLDER and the base model's folder copied: pip install torch transformers peft pydantic, and in
    FOLDER: PYTHONPATH=code python -m trainers.job . --base BASE (the code is in FOLDER, and its README.md says it all)

    3. here, with FOLDER copied back: agentlab distill --import FOLDER
    """
    from agentlab.errors import AgentLabError

    checked(envs)
    at_gate = gate_games or gate_seeds
    if bring is not None and (export or envs or config or at_gate):
        raise AgentLabError("--import goes on with the round that was exported, with its settings; give it alone.")
    with progress() as bars, opened(lab, write=True, progress=bars) as here:
        if bring is not None:
            from agentlab.rounds import import_round

            report = import_round(here, bring)
        else:
            chosen = _settings(here, envs, config, at_gate)
            before_playing(here, chosen, given=bool(envs or config or at_gate))
            if export is not None:
                sent = send(here, chosen, export)
            else:
                report = here.round(chosen)
    if export is None:
        print_reports([report], json)
    else:
        print_sent(sent, lab, json)


def _settings(here: Lab, envs: list[str] | None, config: Path | None, gate_seeds: int | None) -> RoundConfig:
    """Those of the round that is unfinished, where there is one and nothing else was asked for."""
    from agentlab.errors import AgentLabError
    from agentlab.workspace.environments import spelt_out
    from memory.store import EpisodeFilter

    tools = here.config.tools
    changes = {"collect": "none", "gate_seeds": gate_seeds}
    waiting = [report for report in here.rounds() if not report.ended]
    if waiting and not (envs or config or gate_seeds):
        asked = waiting[0].config
        return asked.model_copy(update={"envs": [spelt_out(env, tools) for env in asked.envs]})
    won = {row.env for row in here.database.episodes.find(EpisodeFilter(split="train", status="won"))}
    if not won:
        raise AgentLabError(
            f"The lab {here.folder} has no won games of the train split, so there is nothing to distil; play some with "
            "`agentlab run`, or let `agentlab rounds run` collect them."
        )
    return settings(here, envs or (None if config else [spelt_out(env, tools) for env in sorted(won)]), config, changes)


def send(here: Lab, config: RoundConfig, folder: Path) -> dict[str, object]:
    """Export a round, and say what a person, or a script, must know to train it there."""
    from agentlab.rounds import export_round
    from trainers import job

    report = export_round(here, config, folder)
    sent = job.load(folder)
    return {
        "round": report.id,
        "job": sent.id,
        "examples": len(sent.examples),
        "folder": str(folder),
        "base": str(here.model_folder),
        "fingerprint": sent.config.base.fingerprint,
    }


def print_sent(sent: dict[str, object], lab: Path, json: bool) -> None:
    """Print what `send` gave for the lab in `lab`, for a person or as JSON."""
    if json:
        output.as_json(sent)
        return
    folder = Path(str(sent["folder"]))
    output.say(f"{sent['round']} waits for its training: {sent['examples']} examples in {folder}.")
    output.say(f"Copy that folder and the base model, {sent['base']}, to the machine that trains, and there:")
    there = f"cd {shlex.quote(folder.name)} && PYTHONPATH=code python -m trainers.job . --base BASE"
    output.say(f"  {there}", "bold")
    output.say("(its README.md says what has to be installed). When the folder is back here:")
    output.say(f"  {command_line(lab, 'distill', '--import', str(folder))}", "bold")
