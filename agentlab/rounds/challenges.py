"""Challenges: the gates that what serves has stood in, and the dev games that no gate has seen yet.

A gate errs by chance, so that the gates of one incumbent share one error (`trainers.gate`); and games that let one
candidate pass, or kept one out, have been looked at: the next one is judged on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel

from agentlab.agent.tasks import looked_at
from agentlab.errors import BadConfig
from agentlab.experiments.forgetting import RUN
from agentlab.rounds.report import reports
from memory.records import task_parts
from memory.store import EpisodeFilter

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace

MERGES = "gate of a merge"
"""The journal's scope for the gates of merges, which no round has."""


class Challenge(BaseModel):
    """One candidate against `incumbent` (None: the base): the `number`-th since that serves, on dev games of `envs`.

    Attributes:
        seeds: the dev games of each environment.
        run: under which they are played.
    """

    incumbent: str | None
    number: int
    envs: list[str]
    seeds: list[int]
    run: str


def merges(workspace: Workspace) -> list[tuple[str, Challenge]]:
    """The gates of merges as (adapter, challenge), the oldest first."""
    kept = [
        (key.split("|")[0], Challenge.model_validate(payload))
        for key, payload in workspace.database.journal.items(MERGES).items()
    ]
    return _unkept(workspace, {challenge.run for _, challenge in kept}) + kept


def _unkept(workspace: Workspace, kept: set[str]) -> list[tuple[str, Challenge]]:
    """Those that an earlier version has evaluated and kept nothing else of; it judged each as the first."""
    merged = {
        f"gate-{record.id}": record.id for record in workspace.adapters.list() if record.lineage.merge is not None
    }
    found = []
    for run, table in workspace.database.evaluations.all().items():
        if run not in merged or run in kept or not table["rows"] or table["about"].get("split") != "dev":
            continue
        first = table["rows"][0]
        challenge = Challenge(
            incumbent=None if first["arm"] == "base" else first["arm"], number=1, envs=table["envs"],
            seeds=sorted({int(task_parts(task).seed) for task in first["outcomes"]}), run=run,
        )  # fmt: skip
        found.append((merged[run], challenge))
    return found


def challenges(workspace: Workspace) -> list[Challenge]:
    """All gates of the lab that have begun, or that an unfinished round is going to stand in."""
    found = [challenge for _, challenge in merges(workspace)]
    begun = workspace.database.episodes.runs(EpisodeFilter(split="dev"))
    for report in reports(workspace):
        if not report.ended or report.gate or f"{report.id}-gate" in begun:
            found.append(
                Challenge(
                    incumbent=report.incumbent, number=report.challenge, envs=report.config.envs,
                    seeds=report.dev_seeds, run=f"{report.id}-gate",
                )
            )  # fmt: skip
    return found


def next_challenge(workspace: Workspace) -> int:
    """The number of the next challenge of what serves; one that a person promoted again goes on with its count."""
    incumbent = workspace.serving()
    against = [one.number for one in challenges(workspace) if one.incumbent == incumbent]
    return 1 + max([len(against), *against])


def fresh_seeds(workspace: Workspace, envs: Sequence[str], count: int) -> list[int]:
    """The next `count` dev games of all of `envs` that no gate, monitor or look for forgetting has seen.

    Raises BadConfig where an environment has fewer left.
    """
    known = challenges(workspace)
    first, size = 0, {}
    for name in envs:
        with looked_at(name) as env:
            size[name] = len(env.fold("dev"))
        first = max(first, _first(workspace, name, known))
    short = min(envs, key=lambda name: size[name])
    left = max(0, size[short] - first)
    if count > left:
        spent = f", and of these the first {first} have been seen at earlier gates" if first else ""
        raise BadConfig(
            f"{short} has no dev game {size[short]}: there are {size[short]} of them{spent}, so a gate cannot have "
            f"{count} new ones; {f'set gate_seeds to at most {left}' if left else 'learn an environment with more'}."
        )
    return list(range(first, first + count))


def _first(workspace: Workspace, env: str, known: Sequence[Challenge]) -> int:
    """The first dev game of an environment from which on none was looked at."""
    begun = workspace.database.episodes.runs(EpisodeFilter(env=env, split="dev"))
    runs = [run for run in begun if run.startswith(RUN)]
    runs += [*(one.run for one in known), *(f"{report.id}-monitor" for report in reports(workspace))]
    last = workspace.database.episodes.last_seed(EpisodeFilter(env=env, split="dev"), runs)
    reserved = [seed for one in known if env in one.envs for seed in one.seeds]
    return max([-1, *reserved, *([] if last is None else [last])]) + 1
