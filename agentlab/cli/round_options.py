"""What commands that run a round share: their options, its settings, and what is refused before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from agentlab.lab import Lab
    from agentlab.rounds import RoundConfig

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="A TOML file with the round's settings (fields of RoundConfig).")
]
OPTIONS = {"seeds": "games", "gate_seeds": "gate-games"}
"""Settings that have another name on the command line."""

Export = Annotated[
    Path | None,
    typer.Option(
        "--export",
        metavar="FOLDER",
        help="Do not train here: write the round's job to this new folder, for another machine (`agentlab distill "
        "--help` says how). The round waits.",
    ),
]


def checked(envs: list[str] | None) -> None:
    """Refuse unknown environments before a lab is made or changed."""
    from environments import canonical

    for env in envs or []:
        canonical(env)


def before_playing(lab: Lab, config: RoundConfig, *, given: bool) -> None:
    """Refuse, before anything is played, a round that would not be the one asked for, or could not be promoted.

    `given` is as for `goes_on`.

    Raises:
        AgentLabError: if another round is unfinished, BadConfig if the gate can never pass.
    """
    from agentlab.rounds.challenges import next_challenge

    if not goes_on(lab, config, given=given):
        passable(config, next_challenge(lab))


def goes_on(lab: Lab, config: RoundConfig, *, given: bool) -> bool:
    """Whether a round is unfinished, which goes on.

    `given` says that a person named settings, rather than leaving them to that round.

    Raises:
        AgentLabError: if it has other settings.
    """
    from agentlab.errors import AgentLabError
    from agentlab.rounds.training import SENT

    waiting = next((report for report in lab.rounds() if not report.ended), None)
    if waiting is not None and given and config.named() != waiting.config:
        sent = lab.database.journal.get(SENT, waiting.id) is not None and waiting.phase == "train"
        how = (
            "is exported and waits for its training; bring it back with `agentlab distill --import FOLDER`"
            if sent
            else f"is unfinished (at '{waiting.phase}'); finish it with `agentlab rounds run` alone"
        )
        raise AgentLabError(
            f"{waiting.id} {how}, or give it up with `agentlab rounds abandon {waiting.id}`: the settings given now "
            f"are others ({', '.join(_differing(config.named(), waiting.config))}), and would be ignored."
        )
    return waiting is not None


def passable(config: RoundConfig, challenge: int = 1) -> None:
    """Raise BadConfig if the gate of a round can never pass, also of one that is only exported: it comes back to it."""
    from agentlab.errors import BadConfig
    from agentlab.rounds.checking import hopeless

    if problem := hopeless(config.named(), challenge):
        raise BadConfig(problem)


def _differing(one: RoundConfig, other: RoundConfig) -> list[str]:
    names = [name for name in type(one).model_fields if getattr(one, name) != getattr(other, name)]
    return [f"{name} (--{OPTIONS[name]})" if name in OPTIONS else name for name in names]


def settings(lab: Lab | None, envs: list[str] | None, file: Path | None, changes: dict[str, Any]) -> RoundConfig:
    """The settings of a round: from `file`, else from the last round of the lab (None: a new one) where no environment
    is named, else the defaults; then `changes`.

    Raises:
        BadConfig: if no environment is named anywhere, or a setting makes no sense.
    """
    from agentlab.errors import BadConfig
    from agentlab.rounds import RoundConfig
    from agentlab.rounds.checking import taken_over
    from agentlab.rounds.config import EXPERT, flat
    from agentlab.workspace.config import merged, parse, read_toml
    from agentlab.workspace.environments import as_played, spelt_out

    last, tools = (lab.rounds()[-1:], lab.config.tools) if lab is not None else ([], [])
    if file is not None:
        written = read_toml(file)
        given = flat(written)
        if moved := [name for name in written if name in EXPERT or name == "hold"]:
            typer.echo(f"{file}: {', '.join(moved)}: in the next version only in the table `expert`.", err=True)
        if unknown := next((key for key in given if key not in RoundConfig.model_fields), None):
            raise BadConfig(f"{file}: '{unknown}' is no setting of a round; `agentlab rounds config` prints them all.")
    elif last and not envs:
        given = taken_over(last[0].config)
        given["envs"] = [spelt_out(env, tools) for env in given["envs"]]
        if given["collect"] == "none":  # that round was a distillation; this one is to collect, unless it is said again
            del given["collect"]
    else:
        given = {}
    given = merged(given, {name: value for name, value in changes.items() if value is not None})
    if envs:
        given["envs"] = envs
    if not given.get("envs"):
        raise BadConfig("A round needs an environment to learn; name one, such as twx/coin.")
    asked = parse(RoundConfig, given, file or Path("the round's settings"))
    return asked.model_copy(update={"envs": as_played(asked.envs, tools)})
