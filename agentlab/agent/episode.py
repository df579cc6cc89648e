"""The living side of an episode: environment, engine, conversation and advice, and the moves that tie them."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

from agentlab import failures
from agentlab.engines.base import Conversation, Engine
from agentlab.errors import ReplayMismatch
from agentlab.trajectories.advice import Tried
from agentlab.trajectories.transition import Decision, Game
from environments import TextEnv
from environments.answers import shown
from memory.records import Episode, ErrorKind, Reflection
from memory.text import clean

if TYPE_CHECKING:
    from agentlab.agent.recall import Recalled, Recaller
    from agentlab.agent.router import Router
    from agentlab.agent.spec import EpisodeSpec
    from agentlab.reflectors.base import Reflector


class EpisodeState(TypedDict, total=False):
    """What LangGraph keeps of an episode between nodes."""

    hints: str
    recalled: list[str]
    began: str
    actions: list[str]
    digests: list[str]
    ended: bool


@dataclass
class Play:
    """The living side of an episode, which no checkpoint can hold: environment, engine, conversation, advice."""

    spec: EpisodeSpec
    env: TextEnv
    engine: Engine
    recaller: Recaller | None = None
    reflectors: Sequence[Reflector] = ()
    store: Callable[[Episode, list[Reflection]], None] | None = None
    router: Router | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    recalled: Recalled | None = None
    episode: Episode = field(init=False)
    conversation: Conversation | None = None
    tried: Tried = field(default_factory=Tried)
    game: Game = field(init=False)
    reflections: list[Reflection] | None = None
    began: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        spec = self.spec
        self.episode = Episode(
            id=spec.id,
            run=spec.run,
            env=spec.task.env,
            split=spec.task.split,
            seed=spec.task.seed,
            trial=spec.trial,
            arm=spec.arm.name,
            engine=self.engine.name,
            adapter=self.engine.adapter,
            temperature=spec.arm.policy.temperature_at(spec.trial),
            strength=self.recaller.strength(spec) if self.recaller is not None else 1.0,
            rng_seed=spec.seed,
        )

    # -- the moves of an episode ------------------------------------------------------------------------------------

    def reset(self) -> bool:
        """Reset the environment to the task, and say whether the game is over already."""
        self.game = Game(self.env, self.spec.task)
        self.episode.goal = self.game.goal
        if self.game.status is not None:
            self.episode.status, self.episode.score = self.game.status, self.game.score
        return self.game.ended

    def start_prompt(self, hints: str, recalled: list[str]) -> None:
        """Start the conversation with its memory block."""
        self.episode.hints, self.episode.recalled = hints, recalled
        with failures.engine(self.engine.name):
            if self.router is not None:
                self.engine = self.router.engine(self.episode.goal, self.game.observation)
            self.episode.adapter = self.engine.adapter
            self.conversation = self.engine.conversation(self.episode.goal, hints)
            self.conversation.observe(self.game.observation)

    def bonuses(self, commands: list[str]) -> list[float]:
        """What memory adds to each command now, in nats.

        That is advice of earlier trials and of similar states elsewhere, times its strength and the scale of the trial;
        and what it costs to try again what was tried here in this episode. Nothing scales that: an agent whose advice
        has learned to be silent must not go in circles either.
        """
        arm, state = self.spec.arm, self.game.state
        if arm.recall is None or not arm.recall.advice or not arm.policy.advice:
            return [0.0] * len(commands)
        costs = self.tried.costs(state, commands, arm.policy.weights)
        if self.recalled is None:
            return costs
        scale = self.episode.strength * arm.policy.scale_at(self.spec.trial)
        advice = self.recalled.bonuses(state, commands, self.tried, arm.policy.weights)
        return [scale * extra + cost for extra, cost in zip(advice, costs, strict=True)]

    def select_action(self, forced: str | None = None) -> Decision:
        """Score the admissible commands and choose one; `forced` takes that one (when replaying a record)."""
        assert self.conversation is not None
        commands = self.game.admissible()
        scores = scored(self.engine, self.conversation, commands)
        bonus = self.bonuses(commands)
        spec = self.spec
        if forced is None:
            rng = spec.rng(len(self.episode.steps))
            chosen = spec.arm.policy.choose(scores, bonus, spec.trial, rng)
        elif forced in commands:
            chosen = commands.index(forced)
        else:
            raise ReplayMismatch(
                f"Episode {spec.id} cannot be resumed: '{forced}' is no longer admissible at step "
                f"{len(self.episode.steps)}; the environment has changed. The same command plays it anew."
            )
        return Decision(
            commands[chosen], commands, scores, bonus=bonus if any(bonus) else None, cut=self.conversation.cut
        )

    def step(self, decision: Decision) -> bool:
        """Send the command to the environment, record the step, and say whether the episode has ended."""
        assert self.conversation is not None
        step = self.game.step(decision)
        with failures.engine(self.engine.name):
            self.conversation.act(step.action)
        self.episode.steps.append(step)
        self.episode.score = step.score
        self.tried.observe(step)
        if self.game.status is not None:
            self.episode.status = self.game.status
            return True
        with failures.engine(self.engine.name):
            self.conversation.observe(step.result)
        return False

    def reflect(self) -> list[Reflection]:
        """What the reflectors draw from the finished episode."""
        drawn: list[Reflection] = []
        for reflector in self.reflectors:
            with failures.reflector(reflector.name):
                for one in reflector.reflect(self.episode):
                    if not isinstance(one, Reflection) or not (clean(one.text) or one.advice):
                        raise ValueError(f"it wrote {shown(one)}, which is no reflection, or an empty one")
                    drawn.append(one)
        return drawn

    def fail(self, cause: str, kind: ErrorKind = "environment") -> None:
        """Close the episode as errored: it counts neither as a success nor as a failure, and can be played again."""
        self.episode.status, self.episode.error, self.episode.error_kind = "errored", cause, kind

    def finalize(self) -> None:
        """Fill in what is known only at the end."""
        if self.recalled is not None:
            self.episode.recalled = list(self.recalled.ids)
        if self.conversation is not None:
            self.episode.token_ids = list(self.conversation.token_ids)
            self.episode.action_spans = list(self.conversation.action_spans)
            self.conversation.close()
        self.episode.seconds = round(time.perf_counter() - self.began, 3)

    def restore(self, state: EpisodeState) -> None:
        """Bring the living side to where the checkpoint stands, by replaying the environment and the engine.

        The engine scores every step again, in the same chunks, so that its cache is the one that was lost.
        """
        over = self.reset()
        self._verify(state, 0)
        if over:
            return
        if self.recaller is not None and "recalled" in state:
            self.recalled = self.recaller.restore(
                self.spec, state["recalled"], state["hints"], before=state.get("began")
            )
        self.start_prompt(state.get("hints", ""), state.get("recalled", []))
        for index, action in enumerate(state.get("actions", [])):
            self.step(self.select_action(forced=action))
            self._verify(state, index + 1)

    def _verify(self, state: EpisodeState, index: int) -> None:
        if state["digests"][index : index + 1] != [digest(self.game.observation)]:
            raise ReplayMismatch(
                f"Episode {self.spec.id} cannot be resumed: the environment answered step {index} differently than "
                "recorded; it is not deterministic by seed (check it with `agentlab doctor`)."
            )


def scored(engine: Engine, conversation: Conversation, commands: Sequence[str]) -> list[float]:
    """The engine's log-probability of each command, a number for every one. Raises EngineFailed."""
    with failures.engine(engine.name):
        scores = engine.score(conversation, commands)
        if len(scores) != len(commands) or not all(map(math.isfinite, scores)):
            raise ValueError(f"{len(scores)} scores for {len(commands)} commands, of which each needs a number")
    return scores


def digest(observation: str) -> str:
    """A short fingerprint of an observation."""
    return hashlib.sha256(observation.encode()).hexdigest()[:12]
