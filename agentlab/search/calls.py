"""Calls of tools written into successes by Toolformer's criterion (Schick et al. 2023), on the agent's own wins.

A success is played again. Where the model is unsure of its next action, every call that makes sense there is tried
whose answer names no other command more fully than that action: any answer about moving makes every move likelier, that
in the opposite direction as well. A call helps if the action is likelier after it and its answer than without, and than
after the call unanswered, by more than `gain`.

In the paper the model proposes the calls; here a tool does, and often several tell the same: rooms that lie behind the
next one have the same way. Of what tells the same, an agent is to learn the call that it can find again. So of those
that help, the one is written that has fewest words which the task has not; where some that help are the task's in every
word, others are not written at all, for a way round is not to be explained by what lies there. Of several such at a
step it is the one that was written last, then the one that goes on helping for most of the steps that follow, so that
the whole way has one explanation; then the one with which both together, the call and then the action, are likeliest.
Nobody says when to call what. Calls that stand in the success already are left out first, so that one which does not
pay for the model of today is unlearned by the same criterion.

All calls at one step are scored in one pass behind the conversation, those of several successes beside each other.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from agentlab import failures
from agentlab.engines.base import Aside, Conversation, Scorer, ScoreRequest, Scores
from agentlab.engines.model import Model
from agentlab.errors import AgentLabError
from agentlab.trajectories.refinement import named, played_otherwise
from agentlab.trajectories.transition import Decision, Game
from agentlab.trajectories.tried import kind_of
from environments import EnvironmentsError, Task, TextEnv
from environments.tools import WithTools
from memory.prompts import Prompting
from memory.records import Episode, content_id
from memory.text import words

AT_ONCE = 16
"""Successes that are gone through beside each other."""

UNEXPLAINED = "no call explains it"
NO_ROOM = "no room for its calls"
NOT_AGAIN = "not won again"
FAILED = "its environment failed"


class CallsConfig(BaseModel):
    """When a call is written into a success, in nats.

    Attributes:
        unsure: only before an action whose log-probability is below minus this.
        gain: only a call by whose answer that rises by more than this, beyond what the call alone does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    unsure: float = Field(0.3, ge=0, allow_inf_nan=False)
    gain: float = Field(1.0, ge=0, allow_inf_nan=False)


class Kept(NamedTuple):
    """A call that was written before an action, whose log-probability its answer raised by `gain` nats; the `tool` that
    it calls, and its `step` in the form with calls."""

    call: str
    action: str
    gain: float
    tool: str = ""
    step: int = 0


@dataclass(frozen=True)
class Called:
    """What came of a success: its form with calls, or the reason why nothing can be learned from it.

    `tried` counts the calls that were looked at. `error` is of an environment that failed, and may not another time.
    """

    episode: Episode | None
    reason: str = ""
    calls: list[Kept] = field(default_factory=list)
    tried: int = 0
    error: str = ""


Asking = Generator[ScoreRequest, Scores, Called]


def write_calls(
    model: Model,
    lent: Callable[[str], AbstractContextManager[TextEnv]],
    successes: Iterable[Episode],
    config: CallsConfig | None = None,
    prompting: Prompting | None = None,
) -> Generator[tuple[Episode, Called], None, None]:
    """Each success with what came of it, in the order in which they come to their ends.

    `lent` lends an environment by its id. Calls of a tool that asks the long-term memory are left out, and not written.

    Raises EngineFailed, AgentLabError if the model ranks nothing.
    """
    if not isinstance(model.engine, Scorer):
        raise AgentLabError(f"The engine {model.name} ranks no commands, so no call can be weighed by it.")
    waiting, asked = iter(successes), dict[str, tuple[Episode, Asking, ScoreRequest, ExitStack]]()
    try:
        while True:
            while len(asked) < AT_ONCE and (episode := next(waiting, None)) is not None:
                stack = ExitStack()
                asking = _asking(model, stack, lent, episode, config or CallsConfig(), prompting)
                following = _next(asking, None, stack)
                if isinstance(following, Called):
                    yield episode, following
                else:
                    asked[episode.id] = episode, asking, following, stack
            if not asked:
                return
            with failures.engine(model.name):
                scores = model.score_all([request for _, _, request, _ in asked.values()])
            for (episode, asking, _, stack), score in zip(list(asked.values()), scores, strict=True):
                following = _next(asking, score, stack)
                if isinstance(following, Called):
                    del asked[episode.id]
                    yield episode, following
                else:
                    asked[episode.id] = episode, asking, following, stack
    finally:
        for _, asking, _, stack in asked.values():
            asking.close()
            stack.close()


def _next(asking: Asking, scores: Scores | None, stack: ExitStack) -> ScoreRequest | Called:
    """What it asks next, or what came of it; then what it held is given back, or thrown away where that failed."""
    try:
        return asking.send(scores)  # type: ignore[arg-type]
    except StopIteration as stop:
        stack.close()
        found: Called = stop.value
        return found
    except BaseException as error:
        with suppress(type(error)):
            stack.__exit__(type(error), error, error.__traceback__)
        if not isinstance(error, EnvironmentsError):
            raise
        return Called(None, FAILED, error=str(error))


def _asking(
    model: Model,
    stack: ExitStack,
    lent: Callable[[str], AbstractContextManager[TextEnv]],
    episode: Episode,
    config: CallsConfig,
    prompting: Prompting | None,
) -> Asking:
    """Go through one success, asking for scores."""
    env = stack.enter_context(lent(episode.env))
    game = Game(env, Task(env=episode.env, split=episode.split, seed=episode.seed))
    if not isinstance(env, WithTools):
        return Called(episode)
    with failures.engine(model.name):
        conversation = model.conversation(game.goal, "", prompting)
    stack.callback(conversation.close)
    shown = conversation.prompting.chat

    def see() -> None:
        with failures.engine(model.name):
            conversation.observe(game.observation, game.admissible() if shown else None)
            conversation.keep(game.reading)

    def play(action: str, thought: str = "") -> None:
        _play(game, action, thought)
        with failures.engine(model.name):
            conversation.act(action, thought)
        if not game.ended:
            see()

    see()
    helps, kept = dict[int, list[Kept]](), list[Kept]()
    last, tried = "", 0
    for number, step in enumerate(episode.admissible_steps):
        if game.ended:
            break
        if env.is_call(step.action):
            continue
        if proposed := env.proposed():
            (alone,) = (yield ScoreRequest(conversation, [step.action], model.adapter, [None])).logprobs
            if alone < -config.unsure:
                tried += len(proposed)
                others = [one for one in game.admissible() or () if not env.is_call(one)]
                asides = [
                    aside for aside in _told(game, env, proposed) if speaks_for(step.action, aside.answer, others)
                ]
                calls = yield from _helping(model, conversation, step.action, asides, alone, config.gain)
                found = helps[number] = [kept._replace(tool=env.called(kept.call)) for kept in calls]
                if found:
                    last = best_call([found], last).call  # as far as is known by now
                    play(last)
                    if game.ended:
                        break
        play(step.action, step.thought)
    if game.info["won"]:
        game, kept = with_best_calls(env, episode, helps)
    if not game.info["won"]:
        helped = any(helps.values())
        return Called(None, NO_ROOM if helped else NOT_AGAIN, kept, tried)
    if helps and not kept:
        return Called(None, UNEXPLAINED, kept, tried)
    id = content_id("ep", episode.id, "calls", *(step.action for step in game.steps))
    return Called(played_otherwise(episode, id, game.steps, game.score), "", kept, tried)


def _told(game: Game, env: WithTools, calls: Sequence[str]) -> Iterator[Aside]:
    """The calls with their answers, and with what can be done then; what a tool says when it fails is no answer."""
    commands = game.admissible()
    for call in calls:
        answer = env.answer_to(call)
        if not env.failure:
            yield Aside(call, answer, commands and [one for one in commands if one != call])


def with_best_calls(env: WithTools, episode: Episode, helps: Mapping[int, Sequence[Kept]]) -> tuple[Game, list[Kept]]:
    """The success played once more, with the best call at each step at which some help, now that it is known at which
    they do."""
    game = Game(env, Task(env=episode.env, split=episode.split, seed=episode.seed))
    helps, kept = found_again(helps, known_words(env, game.goal)), list[Kept]()
    for number, step in enumerate(episode.admissible_steps):
        if game.ended:
            break
        if env.is_call(step.action):
            continue
        # A call that another one made possible may not be there without it.
        if possible := [one for one in helps.get(number, ()) if _listed(game, one.call)]:
            ahead = [possible, *(found for later, found in helps.items() if later > number)]
            best = best_call(ahead, kept[-1].call if kept else "")
            kept.append(best._replace(step=len(game.steps)))
            _play(game, best.call)
        if not game.ended:
            _play(game, step.action, step.thought)
    return game, kept


def found_again(helps: Mapping[int, Sequence[Kept]], known: frozenset[str]) -> dict[int, list[Kept]]:
    """Of the calls that help at each step those with fewest words beside these; none of them where others of their
    kind, that help somewhere on the way, have no such word at all."""

    def beside(kept: Kept) -> int:
        return len(words(kept.call) - known)

    named = {_kind(kept) for found in helps.values() for kept in found if not beside(kept)}
    chosen = dict[int, list[Kept]]()
    for number, found in helps.items():
        left = [kept for kept in found if not beside(kept) or _kind(kept) not in named]
        fewest = min(map(beside, left), default=0)
        chosen[number] = [kept for kept in left if beside(kept) == fewest]
    return chosen


def known_words(env: WithTools, goal: str) -> frozenset[str]:
    """The words of the task, and those with which calls begin."""
    return words(goal).union(*(words(verb) for tool in env.tools for verb in tool.verbs))


def _kind(kept: Kept) -> tuple[str, str]:
    return kept.tool, kind_of(kept.call)


def best_call(ahead: Sequence[Sequence[Kept]], last: str) -> Kept:
    """The call to write at the first of these steps, of those that help at each, where `last` was written before."""

    def lasts(call: str) -> int:
        goes_on = (any(kept.call == call for kept in found) for found in ahead)
        return sum(1 for _ in takewhile(bool, goes_on))

    return max(ahead[0], key=lambda kept: (kept.call == last, lasts(kept.call)))


def speaks_for(action: str, answer: str, others: Iterable[str]) -> bool:
    """Whether an answer names none of the other commands more fully than the action."""
    said = words(answer)
    return all(named(other, said) <= named(action, said) for other in others)


def _play(game: Game, action: str, thought: str = "") -> None:
    game.step(Decision(action, game.admissible() or [], thought=thought, invalid=not _listed(game, action)))


def _helping(
    model: Model, conversation: Conversation, action: str, asides: Sequence[Aside], alone: float, gain: float
) -> Generator[ScoreRequest, Scores, list[Kept]]:
    """The calls that help an action that has the log-probability `alone`, the likeliest first."""

    def asked(commands: Sequence[str], before: Sequence[Aside | None]) -> ScoreRequest:
        return ScoreRequest(conversation, commands, model.adapter, before)

    told = (yield asked([action] * len(asides), asides)).logprobs if asides else []
    likelier = [(aside, after) for aside, after in zip(asides, told, strict=True) if after - alone > gain]
    if not likelier:
        return []
    silent = (yield asked([action] * len(likelier), [aside._replace(answer="") for aside, _ in likelier])).logprobs
    helps = [
        (after, Kept(aside.command, action, after - max(alone, unanswered)))
        for (aside, after), unanswered in zip(likelier, silent, strict=True)
        if after - max(alone, unanswered) > gain
    ]
    calls = [kept.call for _, kept in helps]
    likely = [0.0] * len(calls) if len(calls) < 2 else (yield asked(calls, [None] * len(calls))).logprobs
    order = sorted(zip(helps, likely, strict=True), key=lambda one: -(one[0][0] + one[1]))
    return [kept for (_, kept), _ in order]


def _listed(game: Game, action: str) -> bool:
    commands = game.admissible()
    return commands is None or action in commands
