"""Calls of tools written into successes by Toolformer's criterion (Schick et al. 2023), on the agent's own wins.

A success is played again. Where the model is unsure of its next action, every call that makes sense there is tried. One
helps if the action is likelier after the call and its answer than without, and than after the call unanswered, by more
than `gain`, and if the answer speaks for it more than for any other command: it raises none of them by as much. (Any
answer about moving makes every move likelier, that in the wrong direction as well.)

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

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

import numpy as np
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
    known = known_words(env, game.goal)
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
    helps, kept = dict[int, list[Kept]](), list[Kept]()
    last, tried = "", 0
    for number, step in enumerate(episode.admissible_steps):
        if game.ended:
            break
        if env.is_call(step.action):
            continue
        proposed = env.proposed()
        if proposed:
            others = [one for one in game.admissible() or () if one != step.action and not env.is_call(one)]
            weighed = Weighed(model, conversation, step.action, others)
            alone = yield from weighed.alone()
            if alone < -config.unsure:
                tried += len(proposed)
                asides = [Aside(call, env.answer_to(call), game.admissible()) for call in proposed]
                calls = yield from _helping(weighed, asides, alone, config.gain, known)
                found = helps[number] = [kept._replace(tool=env.called(kept.call)) for kept in calls]
                if found:
                    last = best_call([found], last).call
                    play(last)
                    if game.ended:
                        break
        play(step.action, step.thought)
    if game.info["won"]:
        game, kept = with_best_calls(env, episode, helps)
    if not game.info["won"]:
        helped = any(helps.values())
        return Called(None, NO_ROOM if helped else NOT_AGAIN, kept, tried, len(helps))
    if helps and not kept:
        return Called(None, UNEXPLAINED, kept, tried, len(helps))
    return Called(_made(episode, game), "", kept, tried, len(helps))


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
        if helps.get(number):
            ahead = [found for later, found in helps.items() if later >= number]
            best = best_call(ahead, kept[-1].call if kept else "")
            kept.append(best._replace(step=len(game.steps)))
            _play(game, best.call)
        if not game.ended:
            _play(game, step.action, step.thought)
    return game, kept


def found_again(helps: Mapping[int, Sequence[Kept]], known: frozenset[str]) -> dict[int, list[Kept]]:
    """The calls that help at each step, without those that have words beside these where others of their kind, that
    help somewhere on the way, have none."""
    named = {_kind(kept) for found in helps.values() for kept in found if words(kept.call) <= known}
    return {
        number: [kept for kept in found if words(kept.call) <= known or _kind(kept) not in named]
        for number, found in helps.items()
    }


def known_words(env: WithTools, goal: str) -> frozenset[str]:
    """The words of the task, and those with which calls begin."""
    return words(goal).union(*(words(verb) for tool in env.tools for verb in tool.verbs))


def _kind(kept: Kept) -> tuple[str, str]:
    return kept.tool, kept.call.split()[0]


def best_call(ahead: Sequence[Sequence[Kept]], last: str) -> Kept:
    """The call to write at the first of these steps, of those that help at each, where `last` was written before."""

    def lasts(call: str) -> int:
        goes_on = (any(kept.call == call for kept in found) for found in ahead)
        return sum(1 for _ in takewhile(bool, goes_on))

    return max(ahead[0], key=lambda kept: (kept.call == last, lasts(kept.call)))


class Raised(NamedTuple):
    """A call whose answer makes an action likelier: the log-probability after it, and what it gained."""

    aside: Aside
    after: float
    gain: float


def by_words(raised: Sequence[Raised], known: frozenset[str]) -> list[list[Raised]]:
    """The calls in groups by how many words they have beside these, those with fewest first."""
    groups = defaultdict[int, list[Raised]](list)
    for one in raised:
        groups[len(words(one.aside.command) - known)].append(one)
    return [groups[count] for count in sorted(groups)]


def helping(action: str, raised: Sequence[Raised], likely: Sequence[float]) -> list[Kept]:
    """Calls that help an action, the likeliest first; `likely` is how likely each is itself."""
    order = sorted(zip(raised, likely, strict=True), key=lambda one: -(one[0].after + one[1]))
    return [Kept(one.aside.command, action, one.gain) for one, _ in order]


def _play(game: Game, action: str, thought: str = "") -> None:
    game.step(Decision(action, game.admissible() or [], thought=thought, invalid=not _listed(game, action)))


def _helping(
    weighed: Weighed, asides: Sequence[Aside], alone: float, gain: float, known: frozenset[str]
) -> Generator[ScoreRequest, Scores, list[Kept]]:
    """The calls that help an action that has the log-probability `alone`. What other commands gain by their answers is
    asked last, since that takes longest, and only of those that can still be written."""
    told = yield from weighed.after(asides)
    likelier = [(aside, after) for aside, after in zip(asides, told, strict=True) if after - alone > gain]
    silent = yield from weighed.after([aside._replace(answer="") for aside, _ in likelier])
    gains = (after - max(alone, unanswered) for (_, after), unanswered in zip(likelier, silent, strict=True))
    raised = [Raised(*one, gained) for one, gained in zip(likelier, gains, strict=True) if gained > gain]
    for some in by_words(raised, known):
        leads = yield from weighed.leads([one.aside for one in some])
        if helps := [one for one, led in zip(some, leads, strict=True) if led]:
            calls = [one.aside.command for one in helps]
            likely = [0.0] if len(calls) == 1 else (yield weighed.request(calls)).logprobs
            return helping(weighed.action, helps, likely)
    return []


class Weighed:
    """An action beside the commands that could be given instead."""

    def __init__(self, model: Model, conversation: Conversation, action: str, others: Sequence[str]) -> None:
        self.model, self.conversation, self.action, self.others = model, conversation, action, list(others)

    def alone(self) -> Generator[ScoreRequest, Scores, float]:
        """The log-probability of the action as things stand. From then on only its strongest rivals count."""
        first, *scores = (yield self.request([self.action, *self.others])).logprobs
        rivals = sorted(zip(scores, self.others, strict=True), reverse=True)
        self.others = [command for _, command in rivals[:RIVALS]]
        return first

    def after(self, asides: Sequence[Aside]) -> Generator[ScoreRequest, Scores, Sequence[float]]:
        """The log-probability of the action after each of these."""
        return (yield self.request([self.action] * len(asides), asides)).logprobs if asides else []

    def leads(self, asides: Sequence[Aside]) -> Generator[ScoreRequest, Scores, list[bool]]:
        """Whether the answer of each raises the action at least as much as any other command."""
        commands = [self.action, *self.others]
        both = [*asides, *(aside._replace(answer="") for aside in asides)]
        asked = self.request(commands * len(both), [one for one in both for _ in commands])
        scores = np.reshape((yield asked).logprobs, (2, len(asides), len(commands)))
        rises = scores[0] - scores[1]
        return (rises[:, 0] >= rises.max(axis=1)).tolist()

    def request(self, commands: Sequence[str], asides: Sequence[Aside | None] = ()) -> ScoreRequest:
        return ScoreRequest(self.conversation, commands, self.model.adapter, asides)


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
