"""Tools: what was learned to call when, who calls what, and how much each tool is worth."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel

from agentlab.rounds.learned_calls import LearnedCall
from agentlab.rounds.report import RoundReport, readable_reports
from agentlab.views.memories import Effect, effect
from agentlab.views.standings import SELDOM, kept
from agentlab.workspace.workspace import Workspace
from memory.credit import ToolCredit, ToolPlace
from memory.store import ToolTotal
from trainers.gate import wilson

ROUNDS = 20
"""Rounds that are shown of a tool in an environment, the newest."""

NEWEST = 3
"""Episodes with calls of it that are named, the newest."""

RANDOM, BASE = "random", "base"


class Caller(BaseModel):
    """What a tool was to one player: `random`, `base`, or an adapter's id; `engine` is the name of what played.

    `steps` are those at which a call was offered, in `episodes`; `proposed` the calls that were, `made` those that were
    made. Of the `calling` episodes that ended and had a call `won` were won, `low` to `high` is the 95 % interval of
    that rate. It does not say what the tool is worth: an agent may call where games are easy, or hard. That is `worth`,
    as in `ToolView`, for this player.
    """

    player: str
    engine: str
    episodes: int
    held_out: int
    steps: int
    proposed: int
    made: int
    calling: int
    won: int
    low: float
    high: float
    worth: Effect | None


class Taught(BaseModel):
    """The calls of a tool in what a round trained on: so many in so many episodes, with their mean gain in nats.
    `promoted` says whether what was trained came to serve; None before that was decided."""

    round: str
    calls: int
    episodes: int
    gain: float
    adapter: str | None
    promoted: bool | None


class Example(LearnedCall):
    """A call that a round wrote into a success."""

    round: str


class ToolView(BaseModel):
    """A tool in an environment.

    Attributes:
        worth: success with it less success without it, of train games in which a lot decided; None if not measured.
        callers: who played with it.
        rounds: what rounds trained on, the newest first; `examples` are of the newest that had any.
        newest: the last episodes in which it was called.
    """

    tool: str
    env: str
    worth: Effect | None
    callers: list[Caller]
    rounds: list[Taught]
    examples: list[Example]
    newest: list[str]

    @property
    def made(self) -> int:
        """The calls that were made in play."""
        return sum(caller.made for caller in self.callers)


class Tools(BaseModel):
    """All tools of a lab's games, by tool and environment; `hold_out` is the probability with which one is left out."""

    hold_out: float
    tools: list[ToolView]


def has_tools(workspace: Workspace) -> bool:
    """Whether the lab knows of a game with tools. Cheap."""
    return workspace.database.tool_uses.any()


def tools(workspace: Workspace) -> Tools:
    """What is known of all tools. Of a large lab that is played in it is some seconds old."""
    found: Tools = kept(workspace, "tools", workspace.database.connection.mark, lambda: _tools(workspace), SELDOM)
    return found


def _tools(workspace: Workspace) -> Tools:
    database, config = workspace.database, workspace.config
    worth = {place: effect(one) for place, one in ToolCredit(database, workspace.credit_config).uplifts().items()}
    callers: dict[tuple[str, str], list[Caller]] = {}
    for total in database.tool_uses.totals():
        measured = worth.get(ToolPlace(total.tool, total.env, total.engine, total.adapter))
        callers.setdefault((total.tool, total.env), []).append(_caller(total, measured))
    taught, examples = _taught(readable_reports(workspace)[0])
    return Tools(
        hold_out=config.hold_out if config.credit else 0.0,
        tools=[
            ToolView(
                tool=tool,
                env=env,
                worth=worth.get(ToolPlace(tool, env)),
                callers=callers.get((tool, env), []),
                rounds=taught.get((tool, env), [])[:ROUNDS],
                examples=examples.get((tool, env), []),
                newest=database.tool_uses.newest(tool, env, NEWEST),
            )
            for tool, env in sorted({*callers, *taught})
        ],
    )


def _caller(total: ToolTotal, worth: Effect | None) -> Caller:
    low, high = wilson(total.calling_won, total.calling)
    return Caller(
        player=total.adapter or (RANDOM if total.engine == RANDOM else BASE),
        engine=total.engine,
        episodes=total.episodes,
        held_out=total.held_out,
        steps=total.steps,
        proposed=total.proposed,
        made=total.made,
        calling=total.calling,
        won=total.calling_won,
        low=low,
        high=high,
        worth=worth,
    )


def _taught(
    reports: Iterable[RoundReport],
) -> tuple[dict[tuple[str, str], list[Taught]], dict[tuple[str, str], list[Example]]]:
    """By tool and environment what rounds trained on, the newest first, and examples of the newest."""
    taught: dict[tuple[str, str], list[Taught]] = {}
    examples: dict[tuple[str, str], list[Example]] = {}
    for report in reversed(list(reports)):
        for one in report.tools:
            key = one.tool, one.env
            taught.setdefault(key, []).append(
                Taught(
                    round=report.id,
                    calls=one.calls,
                    episodes=one.episodes,
                    gain=one.gain,
                    adapter=report.adapter,
                    promoted=report.promoted,
                )
            )
            examples.setdefault(key, [Example(round=report.id, **call.model_dump()) for call in one.examples])
    return taught, examples
