"""Debate (Liang et al. 2023, Multi-Agent Debate): two debaters, a moderator who may stop them, a judge.

It does not beat as many independent samples on reasoning benchmarks (Huang et al. 2024), so compare it at equal cost.

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

from agentlab.engines.model import Model
from agentlab.reflectors.base import Reflector
from agentlab.reflectors.experimental.writing import CheckedWriter
from agentlab.reflectors.experimental.written import GROUNDED, Lesson, WritingReflector
from memory.records import Episode

PROPOSE = "You are the first debater. In one or two sentences, say what the player should do differently next time."
OPPOSE = "You are the second debater. In one or two sentences, say what is wrong with that and what is better."
REPLY = "You are the first debater. In one or two sentences, answer the second debater."
MODERATE = "You are the moderator. Is it settled what to do next time? Answer STOP if it is, else CONTINUE."
JUDGE = "You are the judge. In one or two sentences, say what to do differently next time."


class DebateReflector(WritingReflector):
    """Two debaters argue what the lesson is for up to `rounds` rounds; the judge writes it.

    After each round but the last the moderator may stop them. `judge` is a second model for moderator and judge;
    without one the same model plays all parts. Feedback is the models' judgement, not an oracle's, unless `oracle`
    is set. Calls of a model: at most 3 · rounds.
    """

    name = "debate"
    oracle = False

    def __init__(
        self,
        model: Model | None,
        judge: Model | None = None,
        *,
        rounds: int = 2,
        oracle: bool | None = None,
        fallback: Reflector | None = GROUNDED,
    ) -> None:
        super().__init__(model, oracle=oracle, fallback=fallback)
        self.judge = CheckedWriter(judge or model)
        self.rounds = rounds

    def lesson(self, episode: Episode) -> Lesson | None:
        said: list[tuple[str, str]] = []
        for number in range(1, self.rounds + 1):
            for who, question in (("First debater", REPLY if said else PROPOSE), ("Second debater", OPPOSE)):
                text = self.ask(episode, question, *said)
                if not text:
                    break
                said.append((who, text))
            if not text or number == self.rounds or self._settled(episode, said):
                break
        verdict = self.ask(episode, JUDGE, *said, writer=self.judge) if said else ""
        return Lesson(verdict, tags=[f"judge:{self.judge.name}", f"rounds:{number}"]) if verdict else None

    def _settled(self, episode: Episode, said: list[tuple[str, str]]) -> bool:
        return self.judge.choose(self.prompt(episode, MODERATE, *said), ("stop", "continue")) == "stop"
