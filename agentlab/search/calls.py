"""Calls of tools written into successes by Toolformer's criterion (Schick et al. 2023), on the agent's own wins.

A success is played again. Where the model is unsure of its next action, every call that makes sense there is tried. One
helps if the action is likelier after the call and its answer than without, and than after the call unanswered, by more
than `gain`, and if the answer speaks for it more than for any other command: it raises none of them by as much. (Any
answer about moving makes every move likelier, that in the wrong direction as well.)

In the paper the model proposes the calls; here a tool does, and often several tell the same: rooms that lie behind the
next one have the same way. Of what tells the same, an agent is to learn the call that it can find again. So of those
that help, the one is written that has fewest words which the task has not; of several such the one that was written
last, then the one that goes on helping for most of the steps that follow, so that the whole way has one explanation;
then the one with which both together, the call and then the action, are likeliest. Nobody says when to call what. Calls
that stand in the success already are left out first, so that one which does not pay for the model of today is unlearned
by the same criterion.

All calls at one step are scored in one pass behind the conversation, those of several successes beside each other.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from agentlab import failures
from agentlab.engines.base import Aside, Conversation, Scorer, ScoreRequest, Scores
from agentlab.engines.model import Model
from agentlab.errors import AgentLabError
from agentlab.trajectories.transition import Decision, Game
from environments import EnvironmentDied, Task, TextEnv
from environments.tools import WithTools
from memory.prompts import Prompting
from memory.records import Episode, Usage, content_id
from memory.text import words

AT_ONCE = 16
"""Successes that are gone through beside each other."""

RIVALS = 15
"""Commands that an action is weighed against: of more those that are likeliest as things stand."""

UNEXPLAINED = "no call explains it"
NO_ROOM = "no room for its calls"
NOT_AGAIN = "not won again"


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


class Helps(NamedTuple):
    """The calls that help at a step, those first that have fewest words beside the task's, then by how likely they
    are; and how many such words each has."""

    calls: list[Kept]
    beside: list[int]


@dataclass(frozen=True)
class Called:
    """What came of a success: its form with calls, or the reason why nothing can be learned from it.

    `tried` counts the calls that were scored, `unsure` the steps at which they were.
    """

    episode: Episode | None
    reason: str = ""
    calls: list[Kept] = field(default_factory=list)
    tried: int = 0
    unsure: int = 0


Asking = Generator[ScoreRequest, Scores, Called]


def write_calls(
    model: Model,
    lent: Callable[[str], AbstractContextManager[TextEnv]],
    successes: Iterable[Episode],
    config: CallsConfig | None = None,
    prompting: Prompting | None = None,
) -> Generator[tuple[Episode, Called], None, None]:
    """Each success with what came of it, in the order in which they come to their ends.

    `lent` lends an environment by its id. Raises EngineFailed, AgentLabError if the model ranks nothing.
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
    """What it asks next, or what came of it; then what it held is given back."""
    try:
        return asking.send(scores)  # type: ignore[arg-type]
    except StopIteration as stop:
        stack.close()
        found: Called = stop.value
        return found
    except EnvironmentDied as died:
        # What it was lent is thrown away, and the error is passed on by that.
        with suppress(EnvironmentDied):
            stack.__exit__(type(died), died, died.__traceback__)
        return Called(None, NOT_AGAIN)


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
    if not isinstance(env, WithTools):
        return Called(episode)
    game = Game(env, Task(env=episode.env, split=episode.split, seed=episode.seed))
    conversation = model.conversation(game.goal, "", prompting)
    stack.callback(conversation.close)
    shown = conversation.prompting.chat

    def see() -> None:
        conversation.observe(game.observation, game.admissible() if shown else None)
        conversation.keep(game.reading)

    def play(action: str, thought: str = "") -> None:
        _play(game, action, thought)
        conversation.act(action, thought)
        if not game.ended:
            see()

    see()
    helping, kept = dict[int, Helps](), list[Kept]()
    last, tried = "", 0
    for number, step in enumerate(episode.admissible_steps):
        if game.ended:
            break
        if env.is_call(step.action):
            continue
        proposed = env.proposed()
        if proposed:
            others = [one for one in game.admissible() or () if one != step.action and not env.is_call(one)]
            weighed = Weighed(model, conversation, [step.action, *others])
            alone = yield from weighed.alone()
            if alone < -config.unsure:
                tried += len(proposed)
                asides = [Aside(call, env.answer_to(call), game.admissible()) for call in proposed]
                found = helping[number] = yield from _helping(weighed, asides, alone, config.gain)
                if found.calls:
                    last = best_call([found], last).call
                    play(last)
                    if game.ended:
                        break
        play(step.action, step.thought)
    if game.info["won"]:
        game, kept = with_best_calls(env, episode, helping)
    if not game.info["won"]:
        helped = any(found.calls for found in helping.values())
        return Called(None, NO_ROOM if helped else NOT_AGAIN, kept, tried, len(helping))
    if helping and not kept:
        return Called(None, UNEXPLAINED, kept, tried, len(helping))
    return Called(_made(episode, game), "", kept, tried, len(helping))


def with_best_calls(env: WithTools, episode: Episode, helping: Mapping[int, Helps]) -> tuple[Game, list[Kept]]:
    """The success played once more, with the best call at each step at which some help, now that it is known at which
    they do."""
    game = Game(env, Task(env=episode.env, split=episode.split, seed=episode.seed))
    kept = list[Kept]()
    for number, step in enumerate(episode.admissible_steps):
        if game.ended:
            break
        if env.is_call(step.action):
            continue
        if number in helping and helping[number].calls:
            ahead = [found for later, found in helping.items() if later >= number]
            best = best_call(ahead, kept[-1].call if kept else "")
            kept.append(best._replace(tool=env.called(best.call), step=len(game.steps)))
            _play(game, best.call)
        if not game.ended:
            _play(game, step.action, step.thought)
    return game, kept


def best_call(ahead: Sequence[Helps], last: str) -> Kept:
    """The call to write at the first of these steps, where `last` was written before."""
    here = ahead[0]

    def lasts(call: str) -> int:
        goes_on = (any(kept.call == call for kept in found.calls) for found in ahead)
        return sum(1 for _ in takewhile(bool, goes_on))

    worth = [(-more, kept.call == last, lasts(kept.call)) for kept, more in zip(here.calls, here.beside, strict=True)]
    return here.calls[worth.index(max(worth))]


def ranked(goal: str, helps: Sequence[tuple[float, Kept]]) -> Helps:
    """The calls that help at a step, each with the log-probability of both together, the call and the action."""
    order = sorted(
        ((len(words(kept.call) - words(goal)), -likely, kept) for likely, kept in helps), key=lambda one: one[:2]
    )
    return Helps([kept for *_, kept in order], [more for more, *_ in order])


def _play(game: Game, action: str, thought: str = "") -> None:
    game.step(Decision(action, game.admissible() or [], thought=thought, invalid=not _listed(game, action)))


class Weighed:
    """An action, the first of `commands`, beside those that could be given instead."""

    def __init__(self, model: Model, conversation: Conversation, commands: Sequence[str]) -> None:
        self.model, self.conversation, self.commands = model, conversation, list(commands)

    @property
    def action(self) -> str:
        return self.commands[0]

    def alone(self) -> Generator[ScoreRequest, Scores, float]:
        """The log-probability of the action as things stand. From then on only the strongest rivals count."""
        scores = (yield self.request(self.commands, [None] * len(self.commands))).logprobs
        rivals = sorted(range(1, len(scores)), key=lambda place: -scores[place])[:RIVALS]
        self.commands = [self.action, *(self.commands[place] for place in rivals)]
        return scores[0]

    def after(self, asides: Sequence[Aside]) -> Generator[ScoreRequest, Scores, list[Sequence[float]]]:
        """The log-probabilities of the commands after each of these."""
        width = len(self.commands)
        asked = self.request(self.commands * len(asides), [aside for aside in asides for _ in self.commands])
        scores = (yield asked).logprobs
        return [scores[start : start + width] for start in range(0, len(scores), width)]

    def request(self, commands: Sequence[str], asides: Sequence[Aside | None]) -> ScoreRequest:
        return ScoreRequest(self.conversation, commands, self.model.adapter, asides)


def _helping(
    weighed: Weighed, asides: Sequence[Aside], alone: float, gain: float
) -> Generator[ScoreRequest, Scores, Helps]:
    """The calls that help an action that has the log-probability `alone`."""
    told = yield from weighed.after(asides)
    likelier = [(aside, after) for aside, after in zip(asides, told, strict=True) if after[0] - alone > gain]
    if not likelier:
        return Helps([], [])
    silent = yield from weighed.after([aside._replace(answer="") for aside, _ in likelier])
    helps = list[tuple[float, Kept]]()
    for (aside, after), unanswered in zip(likelier, silent, strict=True):
        rises = [one - other for one, other in zip(after, unanswered, strict=True)]
        gained = after[0] - max(alone, unanswered[0])
        if gained > gain and rises[0] == max(rises):
            helps.append((after[0], Kept(aside.command, weighed.action, gained)))
    calls = [kept.call for _, kept in helps]
    likely = [0.0] * len(calls) if len(calls) < 2 else (yield weighed.request(calls, [None] * len(calls))).logprobs
    goal = weighed.conversation.goal
    return ranked(goal, [(after + call, kept) for (after, kept), call in zip(helps, likely, strict=True)])


def _listed(game: Game, action: str) -> bool:
    commands = game.admissible()
    return commands is None or action in commands


def _made(episode: Episode, game: Game) -> Episode:
    """The success as it was played again, with its calls. No model played it, and nothing was recalled for it."""
    return episode.model_copy(
        update={
            "id": content_id("ep", episode.id, "calls", *(step.action for step in game.steps)),
            "steps": game.steps,
            "score": game.score,
            "token_ids": [],
            "action_spans": [],
            "hints": "",
            "recalled": [],
            "usage": Usage(),
            "tools": [],
            "minimised_from": episode.minimised_from or episode.id,
        }
    )
