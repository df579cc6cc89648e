"""`agentlab episodes` and `agentlab replay`: what was played, and whether it plays out the same again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from agentlab.cli import output
from agentlab.cli.options import (
    DEFAULT_LAB,
    Adapter,
    Arm,
    Ended,
    Env,
    Json,
    LabFolder,
    Limit,
    Run,
    Split,
    Task,
    episodes_wanted,
    opened,
)
from agentlab.cli.output import Column

if TYPE_CHECKING:
    from environments import TextEnv
    from memory.records import Episode, Step

NO_FIT = "Nothing fits these filters."
_COLUMNS = [
    Column("id"),
    Column("env"),
    Column("split"),
    Column("seed"),
    Column("trial"),
    Column("arm"),
    Column("engine"),
    Column("adapter"),
    Column("status", head=True),
    Column("score"),
    Column("steps"),
    Column("started_at", "started"),
]


def episodes(
    env: Env = None,
    split: Split = None,
    task: Task = None,
    arm: Arm = None,
    adapter: Adapter = None,
    status: Ended = None,
    run: Run = None,
    limit: Limit = 20,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """List episodes, the newest first."""
    from agentlab.views.episodes import listed

    with opened(lab) as here:
        wanted = episodes_wanted(
            here, env=env, split=split, task=task, arm=arm, adapter=adapter, status=status, run=run
        )
        found = listed(here, wanted, limit=limit)
        some = bool(here.database.episodes.find(limit=1))
    rows = [output.row_of(row) for row in found]
    if not json:
        rows = [
            row | {"started_at": output.ago(row["started_at"])} | output.took(one.usage)
            for row, one in zip(rows, found, strict=True)
        ]
    empty = NO_FIT if some else "No episodes here yet. `agentlab run` plays some."
    output.listing(rows, [*_COLUMNS, *output.took_columns(rows)], as_data=json, empty=empty)


def replay(
    episode: Annotated[str, typer.Argument(help="An episode's id, or its beginning where that is unique.")],
    plain: Annotated[
        bool, typer.Option("--plain", help="Only print what was recorded; the environment is not started.")
    ] = False,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Play a recorded episode again in its environment, and check that it answers as it did then.

    Ends with 1 if it does not.
    """
    with opened(lab) as here:
        record = here.database.episodes.get(episode)
    differences = [] if plain else list(compare(record))
    if json:
        output.as_json({"episode": record, "verified": None if plain else not differences, "differences": differences})
    else:
        transcript(record)
        output.say("")
        if not plain:
            _verdict(record, differences)
    if differences:
        raise typer.Exit(1)


@dataclass(frozen=True)
class Difference:
    """One place where the environment answered otherwise than recorded. Step −1 is the start."""

    step: int
    what: str
    recorded: str
    now: str


def compare(episode: Episode, env: TextEnv | None = None) -> Iterator[Difference]:
    """Play the recorded actions again and yield each difference; stops at the first observation that differs.

    Without `env` the environment of the episode is made, and closed at the end.
    """
    from agentlab import failures
    from environments import Task, dispose, make
    from environments.tools import WithTools

    with failures.environment(episode.env):
        played = env or make(episode.env)
    _remember(episode, played)
    if isinstance(played, WithTools):
        played.hold_out(episode.without_tools)
    try:
        with failures.environment(episode.env):
            observation, info = played.start(Task(env=episode.env, split=episode.split, seed=episode.seed))
        if episode.steps and observation != episode.steps[0].observation:
            yield Difference(-1, "first observation", episode.steps[0].observation, observation)
            return
        for step in episode.steps:
            offered = info["admissible_commands"]
            if offered is not None and sorted(step.admissible) != sorted(offered):
                yield Difference(
                    step.index,
                    "admissible commands",
                    ", ".join(step.admissible),
                    ", ".join(offered),
                )
                return
            with failures.environment(episode.env):
                observation, _, _, _, info = played.step(step.action)
            if observation != step.result:
                yield Difference(step.index, "observation", step.result, observation)
                return
        if episode.steps and episode.status != "errored" and abs(info["score"] - episode.score) > 1e-6:
            yield Difference(len(episode.steps) - 1, "score", f"{episode.score:.3f}", f"{info['score']:.3f}")
        if episode.status == "won" and not info["won"]:
            yield Difference(len(episode.steps) - 1, "result", "won", "not won")
    finally:
        if env is None:
            dispose(played)


def _remember(episode: Episode, env: TextEnv) -> None:
    """Have the tool `recall` find what it found then: the memory may know more by now."""
    from environments.tools.recall import HERE, Recall, recorded

    asked = any(HERE in step.admissible or step.action.startswith("recall ") for step in episode.steps)
    for tool in getattr(env, "tools", ()):
        if isinstance(tool, Recall) and asked:
            tool.search = recorded(step.result for step in episode.steps if step.action.startswith("recall"))


def transcript(episode: Episode) -> None:
    """Print an episode as it was lived: what the agent read, what it did, and how sure it was."""
    output.say(f"{episode.id}  {episode.task_id}  trial {episode.trial}", "bold")
    output.facts(
        [
            ("arm", episode.arm),
            ("engine", episode.engine),
            ("adapter", episode.adapter),
            ("task", episode.goal),
            ("hints", episode.hints),
            ("recalled", episode.recalled),
            ("played without", episode.without_tools),
        ]
    )
    for step in episode.steps:
        output.say("")
        output.say(step.observation)
        if step.note:
            output.say(f"({step.note})", "dim")
        if step.thought:
            output.say(f"  thought: {step.thought}", "dim")
        output.say(f"> {step.action}{_sure(step)}", "cyan")
        if step.invalid:
            output.say("  no admissible command", "yellow")
    if episode.steps:
        output.say("")
        output.say(episode.steps[-1].result)
    output.say("")
    used = episode.usage
    took = f", {used.input_tokens:,} tokens read, {used.output_tokens:,} written" if used.output_tokens else ""
    took += f", ${used.cost:.4f}" if used.cost else ""
    output.say(
        f"{episode.status}, score {episode.score:.2f}, {len(episode.steps)} steps, {episode.seconds:.1f} s{took}",
        output.STYLES.get(episode.status, ""),
    )
    if invalid := sum(step.invalid for step in episode.steps):
        output.say(f"{invalid} invalid {'action' if invalid == 1 else 'actions'}", "yellow")
    if episode.error:
        kind = f" ({episode.error_kind})" if episode.error_kind else ""
        output.say(f"cause{kind}: {output.one_line(episode.error)}")


def _sure(step: Step) -> str:
    """How sure the model was of an action: of one among all commands, or of all that it wrote for it."""
    if step.logprob is None:
        return ""
    of = f"{len(step.token_ids)} tokens that it wrote" if step.token_ids else f"{len(step.admissible)} commands"
    return f"    (log p {step.logprob:.2f} of {of})"


def _verdict(episode: Episode, differences: list[Difference]) -> None:
    for difference in differences:
        where = "at the start" if difference.step < 0 else f"after step {difference.step}"
        output.say(f"Not the same: the {difference.what} {where} differs.", "red")
        output.facts([("recorded", difference.recorded), ("now", difference.now)])
    if not differences:
        output.say(f"Verified: all {len(episode.steps)} steps answered as recorded.", "green")
