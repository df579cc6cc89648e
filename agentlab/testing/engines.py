"""The conformance of an engine: of what it can do, by the protocols that it has (`agentlab.engines.base`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from agentlab.engines.base import (
    Adapter,
    Conversation,
    Engine,
    Likelihood,
    Scorer,
    ScoreRequest,
    Tokenizing,
    Writer,
    WriteRequest,
)
from agentlab.engines.model import Model
from agentlab.testing.report import HOSTILE, Report, expect

COMMANDS = ["look", "open black door", "open blue door", "read note", "take coin"]
PROMPT = "A player opened a door without reading the note and lost. What should the player do next time?"


def check_engine(engine: Engine, *, adapter: Adapter | None = None, tolerance: float = 1e-3) -> Report:
    """What an engine keeps. `adapter`, if it takes them, is one to try; `tolerance` is in nats."""
    report = Report(f"engine {getattr(engine, 'name', type(engine).__name__)}")
    with report.that("it has a name, and ranks commands or writes"):
        expect(isinstance(engine.name, str) and bool(engine.name), "it has no name")
        expect(isinstance(engine, Scorer | Writer), "it has neither `score` nor `write`")
    if isinstance(engine, Scorer):
        _Scoring(report, engine, tolerance).check(adapter)
    if isinstance(engine, Writer):
        _writing(report, engine)
    return report


class _Scoring:
    """Sentences about `score`."""

    def __init__(self, report: Report, engine: Scorer, tolerance: float) -> None:
        self.report, self.engine, self.tolerance = report, engine, tolerance
        self.model = Model(engine)

    def talk(self, *observations: str, goal: str = "Find the coin.") -> Conversation:
        """A conversation in which something was said, and done in between."""
        conversation = self.model.conversation(goal)
        for at, observation in enumerate(observations or ("You are in the attic. You see a note, a black door.",)):
            if at:
                conversation.act(COMMANDS[at % len(COMMANDS)])
            conversation.observe(observation)
        return conversation

    def alike(self, found: Sequence[float], meant: Sequence[float], where: str) -> None:
        """Two lists of scores are the same."""
        apart = max((abs(one - other) for one, other in zip(found, meant, strict=True)), default=0.0)
        expect(apart <= self.tolerance, f"{where} they are {apart:.3g} nats off")

    def check(self, adapter: Adapter | None) -> None:
        report, engine, model = self.report, self.engine, self.model
        with report.that("each command gets one finite number"):
            scores = model.score(self.talk(), COMMANDS).logprobs
            expect(all(isinstance(score, float) for score in scores), f"they are {scores}")
        with report.that("asked twice, it says the same"):
            talk = self.talk()
            self.alike(model.score(talk, COMMANDS).logprobs, model.score(talk, COMMANDS).logprobs, "the second time")
        with report.that("a command's score depends on no command beside it"):
            meant = model.score(self.talk(), COMMANDS).logprobs
            turned = model.score(self.talk(), COMMANDS[::-1]).logprobs[::-1]
            alone = [model.score(self.talk(), [command]).logprobs[0] for command in COMMANDS]
            self.alike(turned, meant, "in another order")
            self.alike(alone, meant, "asked about alone")
        with report.that("a request's scores depend on no request beside it"):
            others = [self.talk(), self.talk("You are in the cellar.", "The note says: the blue door is safe.")]
            together = engine.score([ScoreRequest(talk, COMMANDS) for talk in others])
            expect(len(together) == 2, f"{len(together)} answers to 2 requests")
            self.alike(together[0].logprobs, model.score(self.talk(), COMMANDS).logprobs, "beside another")
        with report.that("no requests get no answers, and no commands no scores"):
            expect(list(engine.score([])) == [], "something was said to nobody")
            expect(list(model.score(self.talk(), []).logprobs) == [], "scores were given to no command")
        with report.that("no text of an environment harms it"):
            for text in HOSTILE:
                model.score(self.talk(text, "You see a door."), ["look", text[:200] or "wait"])
        with report.that("a long game is scored to its end"):
            talk = self.talk(*("You see a note, and a door to the next room. " * 8 for _ in range(60)))
            expect(all(map(math.isfinite, model.score(talk, COMMANDS).logprobs)), "scores are no numbers")
        with report.that("a conversation that is closed, even twice, leaves others as they are"):
            one, other = self.talk(), self.talk()
            meant = model.score(other, COMMANDS).logprobs
            one.close()
            one.close()
            self.alike(model.score(other, COMMANDS).logprobs, meant, "afterwards")
        if isinstance(engine, Tokenizing):
            with report.that("a conversation keeps the tokens of its actions"):
                talk = self.talk()
                talk.act("read note")
                expect(bool(talk.action_spans), "it recorded no action")
                start, end = talk.action_spans[-1]
                expect(talk.token_ids[start:end] == engine.command_tokens("read note"), "the tokens are others")
        if isinstance(engine, Tokenizing) and isinstance(engine, Likelihood):
            with report.that("a command scores as its tokens do in the whole text"):
                talk = self.talk()
                ids = [*talk.token_ids, *engine.command_tokens("look")]
                whole = engine.logprob(ids, [(len(talk.token_ids), len(ids))])
                self.alike(model.score(talk, ["look"]).logprobs, [whole], "by `logprob`")
        if adapter is not None:
            with report.that("an adapter answers for itself, and the base as if there were none"):
                meant = model.score(self.talk(), COMMANDS).logprobs
                adapted = model.with_adapter(adapter)
                first = adapted.score(self.talk(), COMMANDS).logprobs
                self.alike(model.score(self.talk(), COMMANDS).logprobs, meant, "the base's, after the adapter's,")
                self.alike(adapted.score(self.talk(), COMMANDS).logprobs, first, "the adapter's, after the base's,")


def _writing(report: Report, engine: Writer) -> None:
    """Sentences about `write`."""

    def texts(*prompts: str) -> list[str]:
        return [one.text for one in engine.write([WriteRequest(prompt, max_tokens=24) for prompt in prompts])]

    with report.that("each request is answered by one text"):
        found = texts(PROMPT, "Say yes.")
        expect(len(found) == 2 and all(isinstance(text, str) for text in found), f"it wrote {found}")
    with report.that("at temperature 0 it writes the same twice, whatever is asked beside it"):
        alone, again, beside = texts(PROMPT), texts(PROMPT), texts("Say yes.", PROMPT)
        expect(alone == again, f"it wrote {alone} and then {again}")
        expect(alone[0] == beside[1], f"alone it wrote {alone[0]!r}, beside another {beside[1]!r}")
    with report.that("no requests get no answers"):
        expect(list(engine.write([])) == [], "something was said to nobody")
    with report.that("tokens that it tells of are no more than asked for, and have probabilities or none has"):
        (one,) = engine.write([WriteRequest(PROMPT, max_tokens=8)])
        expect(len(one.token_ids) <= 8, f"it wrote {len(one.token_ids)} tokens of 8")
        expect(len(one.logprobs) in (0, len(one.token_ids)), f"{len(one.logprobs)} for {len(one.token_ids)} tokens")
        expect(all(logprob <= 0 for logprob in one.logprobs), "a probability is above 1")
    with report.that("no prompt harms it"):
        expect(all(isinstance(text, str) for text in texts(*HOSTILE)), "something else than text came of it")
