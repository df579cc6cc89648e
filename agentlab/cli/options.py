"""Options that several commands share, so that they are named and explained once."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agentlab.cli import output

if TYPE_CHECKING:
    from agentlab.lab import Lab
    from agentlab.progress import Progress
    from agentlab.workspace.requests import Outcome, Request
    from memory import Filter
    from memory.records import Status
    from memory.store import EpisodeFilter

MOST = 1_000_000
"""What is counted on the command line ends here: a greater number is a slip, and SQLite would not take every one."""
DIGITS = 15
"""Of a seed, which databases keep in 64 bits."""

LabFolder = Annotated[
    Path, typer.Option("--lab", envvar="AGENTLAB_LAB", help="The lab folder.", show_default=True, file_okay=True)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=MOST, help="At most this many.")]
Env = Annotated[str | None, typer.Option("--env", help="Only this environment, such as twx/coin.")]
Run = Annotated[str | None, typer.Option("--run", help="Only this run.")]
Split = Annotated[Literal["train", "dev", "test"] | None, typer.Option("--split", help="Only this split.")]
Task = Annotated[str | None, typer.Option("--task", help="Only this task (env:split:seed).")]
Arm = Annotated[str | None, typer.Option("--arm", help="Only this arm, such as 'base + memory'.")]
Adapter = Annotated[str | None, typer.Option("--adapter", help="Only those played with this adapter (its id).")]
Ended = Annotated[
    Literal["won", "lost", "truncated", "errored"] | None, typer.Option("--status", help="Only those that ended so.")
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", help="Whose memory; by default the one in lab.toml.", show_default=False)
]
After = Annotated[str | None, typer.Option("--after", help="Only what was written since: 2026-11-01, or 3d, 12h ago.")]
Before = Annotated[
    str | None, typer.Option("--before", help="Only what was written before: 2026-11-01, or 3d, 12h ago.")
]

Games = Annotated[
    int | None, typer.Option("--games", "-n", min=1, max=MOST, help="How many new games of each environment.")
]
GateGames = Annotated[
    int | None,
    typer.Option("--gate-games", min=1, max=MOST, help="How many held-out games of each environment at the gate."),
]
Everywhere = Annotated[bool, typer.Option("--all-namespaces", help="The whole lab, whosever memory it is.")]

DEFAULT_LAB = Path("lab")


def opened(folder: Path, *, write: bool = False, progress: Progress | None = None, namespace: str | None = None) -> Lab:
    """The lab in `folder`; by default for looking only, and with what it has to say (such as why an index was built
    again) on stderr. `namespace` is taken instead of the one in its settings.

    Raises:
        NotALab: if it is not one.
        LabLocked: if `write` is asked for and another process is writing to it.
    """
    from agentlab.bars import Lines
    from agentlab.lab import Lab

    lab = Lab.open(folder, write=write, progress=progress or Lines())
    if namespace is not None:
        lab.config = lab.config.model_copy(update={"namespace": namespace})
    return lab


def asked(folder: Path, request: Request) -> Outcome:
    """What came of a small change that is made in a lab, whoever writes to it; ends the command with a line where it is
    only noted by now. Raises what `agentlab.workspace.asking.ask` does."""
    from agentlab.bars import Lines
    from agentlab.workspace.asking import Noted, ask
    from agentlab.workspace.requests import CLI

    done = ask(folder, request, CLI, progress=Lines())
    if isinstance(done, Noted):
        output.say(done.line)
        raise typer.Exit
    return done


def formerly(name: str, now: str) -> Any:
    """An option by the name that it had in the version before, for a count; it says once what its name is now."""

    def count(given: str) -> int:
        if not given.isdecimal() or not 1 <= int(given) <= MOST:
            raise typer.BadParameter(f"'{output.one_line(given, 40)}' is no number of games; say how many with {now}.")
        output.note(f"{name} {given} is now {now} {given}: --seeds says which games, never how many.")
        return int(given)

    return typer.Option(name, hidden=True, parser=count, metavar="N")


FormerSeeds = Annotated[int | None, formerly("--seeds", "--games")]
FormerGateSeeds = Annotated[int | None, formerly("--gate-seeds", "--gate-games")]


def command_line(lab: Path, *words: str) -> str:
    """What a person types to do this in that lab."""
    place = [] if lab == DEFAULT_LAB else ["--lab", str(lab)]
    return shlex.join([output.program(), *words, *place])


def moment(given: str | None) -> str | None:
    """The moment that a person means by `2026-11-01`, `2026-11-01 18:30` (their own time) or `3d` ago, as it is stored.

    Raises:
        BadMoment: if it is neither.
    """
    from memory.records import now
    from memory.text import typed

    return None if given is None else typed(given, now())


def wanted(
    lab: Lab,
    *,
    env: str | None = None,
    kind: str | None = None,
    status: str = "all",
    after: str | None = None,
    before: str | None = None,
    everywhere: bool = False,
    **others: Any,
) -> Filter:
    """The reflections that a person means by these options; `others` are properties of `Filter` as they are.

    Raises:
        BadMoment, UnknownEnvironment.
    """
    from agentlab.workspace.environments import environment
    from memory.store import Filter

    return Filter(
        env=environment(env, lab.database, lab.config.tools),
        kinds=None if kind is None else [kind],
        status=None if status == "all" else status,  # type: ignore[arg-type]
        after=moment(after),
        before=moment(before),
        namespace=None if everywhere else lab.config.namespace,
        **others,
    )


def episodes_wanted(
    lab: Lab,
    *,
    env: str | None,
    split: str | None,
    task: str | None,
    arm: str | None,
    adapter: str | None,
    status: Status | None,
    run: str | None,
) -> EpisodeFilter:
    """The episodes that a person means by these options.

    Raises:
        UnknownEnvironment, UnknownAdapter.
    """
    from agentlab.workspace.environments import environment
    from memory.store import EpisodeFilter

    return EpisodeFilter(
        run=run,
        env=environment(env, lab.database, lab.config.tools),
        split=split,
        task=task,
        arm=arm,
        adapter=None if adapter is None else lab.adapters.get(adapter).id,
        status=status,
    )


def seeds(given: str, option: str = "--seeds") -> list[int]:
    """The seeds that a text such as `0-9,12` names, in its order, each once; `option` is where it was given.

    Raises:
        BadConfig: if it names none.
    """
    from agentlab.agent.tasks import MOST_SEEDS
    from agentlab.errors import BadConfig

    found: dict[int, None] = {}
    for part in given.split(","):
        first, dash, last = part.strip().partition("-")
        slips = [number for number in (first, last) if len(number) > DIGITS]
        if slips:
            raise BadConfig(f"'{output.one_line(slips[0], 40)}' is no seed: it has more than {DIGITS} digits.")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            shown = output.one_line(part, 40)
            raise BadConfig(f"'{shown}' in {option} is neither a number nor a range; write such as 0-9,12.")
        if dash and int(last) < int(first):
            raise BadConfig(f"'{output.one_line(part, 40)}' in {option} ends before it begins; write {last}-{first}.")
        wanted = range(int(first), int(last if dash else first) + 1)
        if len(wanted) > MOST_SEEDS:
            raise BadConfig(f"'{given}' names over {MOST_SEEDS} seeds, which is surely a slip; name fewer.")
        found.update(dict.fromkeys(wanted))
        if len(found) > MOST_SEEDS:
            raise BadConfig(f"Over {MOST_SEEDS} seeds are named, which is surely a slip; name fewer.")
    return list(found)


Host = Annotated[
    str, typer.Option("--host", help="Where to listen; anything but this machine itself needs the token printed.")
]
