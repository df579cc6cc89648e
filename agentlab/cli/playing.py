"""Options of how a lab's model plays, which commands take together and hand on as they are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, Literal

import typer

Engine = Annotated[
    Literal["transformers", "vllm", "chat"] | None,
    typer.Option(
        "--engine",
        help="Where the model runs: in this process, on a vLLM server, or behind an API. By default as lab.toml says.",
        show_default=False,
    ),
]
LocalEngine = Annotated[
    Literal["transformers", "vllm"] | None,
    typer.Option(
        "--engine",
        help="Where the model runs: in this process, or on a vLLM server. By default as lab.toml says.",
        show_default=False,
    ),
]
Server = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="A server that runs already, such as http://127.0.0.1:8000."),
]
ActorKind = Annotated[
    Literal["rank", "write"] | None,
    typer.Option(
        "--actor",
        help="How the model plays: rank takes the likeliest command, write has it write one. By default as lab.toml "
        "says.",
        show_default=False,
    ),
]
Think = Annotated[
    int | None,
    typer.Option(
        "--think",
        min=0,
        max=4096,
        help="Tokens of a thought before each command that is written; more than 0 means --actor write.",
    ),
]
Samples = Annotated[
    int | None,
    typer.Option(
        "--samples",
        min=1,
        max=64,
        help="Turns written for one step, which vote on the command; more than 1 mean --actor write.",
    ),
]
MaxCost = Annotated[
    float | None,
    typer.Option(
        "--max-cost", metavar="USD", min=0.0, max=1e9, help="Stop once models cost so much; prices stand in lab.toml."
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option("--max-tokens", min=1, max=10**15, help="Stop once models have read and written so many tokens."),
]
Workers = Annotated[
    str | None,
    typer.Option(
        "--workers",
        metavar="N|ray[://HOST:PORT]",
        help="Have so many processes play, each with an engine of its own; or those of a Ray cluster, with ?workers=N "
        "so many of them. By default games are played in this process.",
        show_default=False,
    ),
]

PLAYING: dict[str, Any] = {
    "engine": Engine,
    "server": Server,
    "actor": ActorKind,
    "think": Think,
    "samples": Samples,
    "max_cost": MaxCost,
    "max_tokens": MaxTokens,
    "workers": Workers,
}
IN_ROUNDS = {name: option for name, option in PLAYING.items() if name != "max_cost"} | {"engine": LocalEngine}
"""Those of what is trained, whose weights are here: no API plays, and nothing has a price."""

Playing = dict[str, Any]
"""What was given for each of these options; None: nothing."""

Command = Callable[..., None]


def plays_by(options: Mapping[str, Any]) -> Callable[[Command], Command]:
    """Gives a command these options in place of its parameter `playing`, in which it gets what was given for them."""

    def widened(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True)
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
            for name, option in options.items()
        ]
        parameters = [
            parameter for name, one in own.parameters.items() for parameter in (added if name == "playing" else [one])
        ]

        @wraps(command)
        def called(*args: Any, **given: Any) -> None:
            command(*args, playing={name: given.pop(name, None) for name in options}, **given)

        # What typer and whoever else asks for a function's parameters look at.
        called.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
        return called

    return widened
