"""The command line. Each group of commands is a module; this one puts them together.

Nothing heavy is imported before a command needs it, so that `agentlab --help` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from agentlab.cli import (
    adapter_screens,
    adapters,
    bench,
    demo,
    distill,
    doctor,
    env_serve,
    envs,
    episodes,
    export,
    memory,
    memory_consolidate,
    memory_history,
    memory_mend,
    memory_screens,
    memory_serve,
    memory_why,
    models,
    play,
    rounds,
    runs,
    search,
    serve,
    skills,
    steer,
    tools,
    view,
)
from agentlab.cli.boundary import Commands
from agentlab.cli.help import SETTINGS

app = typer.Typer(
    name="agentlab",
    cls=Commands,
    no_args_is_help=True,
    # Plain tracebacks: the pretty ones print local variables, prompts and all.
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=SETTINGS,
    help="An agent that plays text games, remembers what it learned, and distils its successes into LoRA weights.",
    epilog="docs/figures.md says how each figure on a screen is made, and what is good.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(f"agentlab {metadata.version('agentlab')}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
    imports: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            envvar="AGENTLAB_IMPORT",
            help="A module that registers environments of your own.",
        ),
    ] = None,
    trace: Annotated[
        str,
        typer.Option(
            "--trace",
            metavar="WHERE",
            envvar="AGENTLAB_TRACE",
            help="Where OpenTelemetry's spans go: otlp, console, or a file that ends in .jsonl.",
            show_default=False,
        ),
    ] = "",
) -> None:
    if imports:
        envs.bring_in(imports)
    if trace:
        from agentlab import tracing

        tracing.begin(trace)
        context.call_on_close(tracing.end)


WORK = "Work"
app.command(rich_help_panel=WORK)(demo.demo)
app.command(rich_help_panel=WORK)(runs.run)
app.command("eval", rich_help_panel=WORK)(runs.evaluate)
app.command(rich_help_panel=WORK)(bench.bench)
app.command(rich_help_panel=WORK)(search.search)
app.command(rich_help_panel=WORK)(distill.distill)
app.add_typer(rounds.app, name="rounds", rich_help_panel=WORK)
app.command(rich_help_panel=WORK)(steer.steer)

LOOK = "Look"
app.command(rich_help_panel=LOOK)(view.view)
app.command(rich_help_panel=LOOK)(episodes.episodes)
app.command(rich_help_panel=LOOK)(episodes.replay)
app.command(rich_help_panel=LOOK)(export.export)
app.add_typer(memory.app, name="memory", rich_help_panel=LOOK)
memory.app.command()(memory_screens.show)
memory.app.command()(memory_screens.stats)
memory.app.command()(memory_why.why)
memory.app.command()(memory_serve.serve)
memory_mend.add_to(memory.app)
memory_history.add_to(memory.app)
memory.app.command()(memory_consolidate.consolidate)
app.command(rich_help_panel=LOOK)(tools.tools)
app.add_typer(adapters.app, name="adapters", rich_help_panel=LOOK)
adapters.app.command()(adapter_screens.show)
adapters.app.command()(adapter_screens.diff)
skills.add_to(adapters.app)
app.command(rich_help_panel=LOOK)(envs.envs)
app.add_typer(env_serve.app, name="env", rich_help_panel=LOOK)
app.command(rich_help_panel=LOOK)(serve.serve)
app.command(rich_help_panel=LOOK)(play.play)
app.command(rich_help_panel=LOOK)(models.models)
app.command(rich_help_panel=LOOK)(doctor.doctor)


def main() -> None:
    """The console script. Libraries keep their own bars and advice about their own deprecations to themselves."""
    import os
    import warnings

    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|torch)\b")
    app()
