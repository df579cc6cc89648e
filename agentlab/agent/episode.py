"""The living side of an episode: environment, engine, conversation and advice, and the moves that tie them."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypedDict

from agentlab import failures
from agentlab.agent import spans
from agentlab.agent.actors import View
from agentlab.agent.result import EpisodeResult, EpisodeSink
from agentlab.engines.base import Conversation
from agentlab.engines.metering import metered
from agentlab.engines.model import Model
from agentlab.errors import ReplayMismatch, Stopped
from agentlab.tracing import OFF, Span
from agentlab.trajectories.refinement import Refiner
from agentlab.trajectories.tool_uses import tool_uses
from agentlab.trajectories.transition import Decision, Game
from agentlab.trajectories.tried import Tried
from environments import TextEnv
from environments.answers import format_value
from environments.tools import Recall as RecallTool
from environments.tools import WithTools
from memory.credit import Assignment, ToolCredit
from memory.records import Episode, ErrorKind, Recall, Reflection, Usage
from memory.text import clean

if TYPE_CHECKING:
    from agentlab.agent.experimental.society import Cast
    from agentlab.agent.recall import MemorySnapshot, Recalled
    from agentlab.agent.router import Router
    from agentlab.agent.spec import EpisodeSpec
    from agentlab.reflectors.base import Reflector
    from agentlab.workspace.spending import Spending


STOPPED = "Stopped on request; the same command goes on from here."

NOTED = 1.0
"""Nats from which what memory says of a command is put into words for an actor that writes."""

NOTES = 3
"""Commands that such a note names for and against."""


class EpisodeState(TypedDict, total=False):
    """What LangGraph keeps of an episode between nodes."""

    hints: str
    recalled: list[str]
    recalls: list[dict[str, Any]]
    tool_lot: list[Any] | None
    began: str
    actions: list[str]
    digests: list[str]
    written: list[dict[str, Any]]
    usage: dict[str, Any]
    ended: bool


@dataclass
class Play:
    """The living side of an episode, which no checkpoint can hold: environment, model, conversation, advice.

    Without a model the arm's actor plays by itself.
    """

    spec: EpisodeSpec
    env: TextEnv
    model: Model | None = None
    snapshot: MemorySnapshot | None = None
    reflectors: Sequence[Reflector] = ()
    refiner: Refiner | None = None
    sink: EpisodeSink | None = None
    router: Router | Cast | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    spending: Spending | None = None
    tool_credit: ToolCredit | None = None

    tool_lot: Assignment | None = None
    recalled: Recalled | None = None
    episode: Episode = field(init=False)
    conversation: Conversation | None = None
    tried: Tried = field(default_factory=Tried)
    calling: Span = OFF
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
            engine=self.engine,
            adapter=self.model.adapter_id if self.model is not None else None,
            temperature=spec.arm.policy.temperature_at(spec.trial),
            strength=self.snapshot.strength(spec) if self.snapshot is not None else 1.0,
            rng_seed=spec.seed,
        )

    @property
    def engine(self) -> str:
        """The name of what plays."""
        return self.model.name if self.model is not None else self.spec.arm.engine

    # -- the moves of an episode ------------------------------------------------------------------------------------

    def draw(self) -> None:
        """Draw the lot that decides whether this game is played without one of its tools. Arms that play the same game
        draw the same, which sharpens pairs; so does a game that is played again."""
        spec = self.spec
        if self.tool_credit is not None and self.model is not None and isinstance(self.env, WithTools):
            # Without a memory nobody has the tool that asks it.
            has = spec.arm.recall is not None
            names = [tool.name for tool in self.env.tools if has or not isinstance(tool, RecallTool)]
            game = (spec.run, spec.task.id, spec.trial, spec.seed)
            self.tool_lot = self.tool_credit.lot(spec.task.env, names, *game)

    def reset(self) -> bool:
        """Reset the environment to the task, and say whether the game is over already."""
        self._hold_out([self.tool_lot.reflection] if self.tool_lot is not None and self.tool_lot.held_out else [])
        self._lend_memory(self.snapshot is not None and self.spec.arm.recall is not None)
        self.game = Game(self.env, self.spec.task)
        self.episode.goal = self.game.goal
        if self.game.status is not None:
            self.episode.status, self.episode.score = self.game.status, self.game.score
        return self.game.ended

    def _hold_out(self, names: Sequence[str]) -> None:
        """Have the environment play without these tools; with all again for none, before it is used for something
        else."""
        if isinstance(self.env, WithTools):
            self.env.hold_out(names)

    def _lend_memory(self, lent: bool) -> None:
        """Let the tools of the environment that ask for it search the memory, as it was when the run began; or no more,
        before the environment is used for something else."""
        for tool in getattr(self.env, "tools", ()):
            if isinstance(tool, RecallTool):
                tool.search = self._remembered if lent else None

    def _remembered(self, query: str) -> list[str]:
        """What the memory knows about something, in the middle of the game; it counts as recalled at this step."""
        if self.snapshot is None or self.recalled is None:
            return []
        with self.calling.inside(), spans.recall("tool", query) as span:
            known = len(self.recalled.recalls)
            texts = self.snapshot.search(self.spec, query, self.recalled, len(self.episode.steps))
            spans.found(span, [one.reflection for one in self.recalled.recalls[known:] if not one.held_out], texts)
        return texts

    def start_prompt(self, hints: str, recalled: list[str]) -> None:
        """Start the conversation with its memory block."""
        self.episode.hints, self.episode.recalled = hints, recalled
        with failures.engine(self.engine):
            if self.router is not None:
                self.model = self.router.model(self.episode.goal, self.game.observation, self.spec.trial)
            self.episode.adapter = self.model.adapter_id if self.model is not None else None
            if self.model is not None:
                self.conversation = self.model.conversation(self.episode.goal, hints, self.spec.arm.prompting)
            else:
                self.conversation = Conversation(self.episode.goal, hints)
            self.episode.prompt = self.conversation.prompting.name
            self._observe()

    def _observe(self) -> None:
        """Have the conversation show what the environment said last, with what is to be noted beside it."""
        assert self.conversation is not None
        note = self._noted() if self.model is not None and self.spec.arm.prompting is not None else ""
        # What is admissible is asked for where the conversation can show it, and the game goes on.
        shown = self.game.admissible() if self.conversation.prompting.chat else None
        self.conversation.observe(self.game.observation, shown, note)
        self.conversation.keep(self.game.reading)

    def _noted(self) -> str:
        """What memory warns of and advises here, in words: the loop guard, and what earlier trials and others found."""
        commands = self.game.admissible()
        if not commands:
            return ""
        bonuses = self.bonuses(commands, least=NOTED)
        ranked = sorted(range(len(commands)), key=lambda at: bonuses[at])
        against = [commands[at] for at in ranked if bonuses[at] <= -NOTED][:NOTES]
        towards = [commands[at] for at in reversed(ranked) if bonuses[at] >= NOTED][:NOTES]
        warned = f"Did not help here before: {', '.join(against)}." if against else ""
        advised = f"Helped before: {', '.join(towards)}." if towards else ""
        return " ".join(part for part in (advised, warned) if part)

    def bonuses(self, commands: Sequence[str], least: float = 0.0) -> list[float]:
        """What memory adds to each command now, in nats; of its advice only what adds `least`.

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
        advice = self.recalled.bonuses(state, commands, self.tried, arm.policy.weights, least, scale)
        return [extra + cost for extra, cost in zip(advice, costs, strict=True)]

    def must_go_on(self) -> None:
        """Raise Stopped if that was asked for, LimitReached if nothing may be spent any more."""
        if self.stop.is_set():
            raise Stopped(STOPPED)
        if self.spending is not None:
            self.spending.check()

    def spend(self, usage: Usage) -> None:
        """Count what a model took, for the episode and for the limits of the command."""
        self.episode.usage += usage
        if self.spending is not None:
            self.spending.add(usage, self.episode.id)

    def select_action(self, forced: str | None = None) -> Decision:
        """Have the actor decide; `forced` takes that command in its stead (when replaying a record)."""
        actor = self.spec.arm.player
        with failures.actor(actor.name), metered() as meter:
            try:
                decision = actor.act(self.view())
                if not isinstance(decision, Decision):
                    raise ValueError(f"it gave {format_value(decision)}, which is no Decision")
            except BaseException:  # what was asked before it failed is paid for, too
                self.spend(meter.usage)
                raise
        if forced is None or forced == decision.command:
            return decision
        if decision.candidates:
            self._offered(forced, decision.candidates)
        return replace(decision, command=forced)

    def _offered(self, command: str, candidates: Sequence[str]) -> None:
        """Raise ReplayMismatch for a recorded command that is none of those that may be chosen now."""
        if command not in candidates:
            raise ReplayMismatch(
                f"Episode {self.spec.id} cannot be resumed: '{command}' is no longer admissible at step "
                f"{len(self.episode.steps)}; the environment has changed. The same command plays it anew."
            )

    def view(self) -> View:
        """What the actor may see now."""
        assert self.conversation is not None
        spec, game = self.spec, self.game
        return View(
            env=spec.task.env,
            goal=self.episode.goal,
            observation=game.observation,
            state=game.state,
            commands=game.admissible(),
            conversation=self.conversation,
            model=self.model,
            steps=tuple(self.episode.steps),
            trial=spec.trial,
            policy=spec.arm.policy,
            rng=spec.rng(len(self.episode.steps)),
            advise=self.bonuses,
        )

    def step(self, decision: Decision) -> bool:
        """Send the command to the environment, record the step, and say whether the episode has ended."""
        assert self.conversation is not None
        with spans.tool_call(self.env, decision.command) as self.calling:
            step = self.game.step(decision, self.conversation.cut, self.conversation.note)
            spans.told(self.calling, self.env, step.result)
        with failures.engine(self.engine):
            self.conversation.act(step.action, step.thought, step.token_ids)
        self.episode.steps.append(step)
        self.episode.score = step.score
        self.spend(decision.usage)
        if self.spending is not None and self.model is not None:
            self.spending.must_count(decision.usage, self.engine)
        self.tried.observe(step)
        if self.game.status is not None:
            self.episode.status = self.game.status
            return True
        with failures.engine(self.engine):
            self._observe()
        return False

    def reflect(self) -> list[Reflection]:
        """What the reflectors draw from the finished episode, of which they do not see what was no command."""
        drawn: list[Reflection] = []
        readable = self.episode.model_copy(update={"steps": self.episode.admissible_steps})
        episode = readable if len(readable.steps) < len(self.episode.steps) else self.episode
        for reflector in self.reflectors:
            with failures.reflector(reflector.name), metered() as meter:
                try:
                    for one in reflector.reflect(episode):
                        if not isinstance(one, Reflection) or not (clean(one.text) or one.advice):
                            raise ValueError(f"it wrote {format_value(one)}, which is no reflection, or an empty one")
                        drawn.append(one)
                finally:  # what was written before it failed is paid for, too
                    self.spend(meter.usage)
        return drawn

    def fail(self, cause: str, kind: ErrorKind = "environment") -> None:
        """Close the episode as errored: it counts neither as a success nor as a failure, and can be played again."""
        self.episode.status, self.episode.error, self.episode.error_kind = "errored", cause, kind
        self.reflections = []

    def finalize(self) -> None:
        """Fill in what is known only at the end."""
        self._lend_memory(False)
        self._hold_out([])
        self.episode.tools = tool_uses(self.env, self.tool_lot)
        if self.recalled is not None:
            self.episode.recalled = list(self.recalled.ids)
        if self.conversation is not None:
            self.episode.token_ids = list(self.conversation.token_ids)
            self.episode.action_spans = list(self.conversation.action_spans)
            self.conversation.close()
        self.episode.seconds = round(time.perf_counter() - self.began, 3)

    def put(self) -> None:
        """Give the result to the sink."""
        if self.sink is None:
            return
        refined = self.refiner(self.episode) if self.refiner is not None else self.episode
        self.sink.put(
            EpisodeResult(
                self.episode,
                refined=refined if refined.id != self.episode.id else None,
                refining=self.refiner.cost.steps if self.refiner is not None else 0,
                reflections=self.reflections or [],
                recalls=self.recalled.recalls if self.recalled is not None else [],
                strength_of=self.snapshot.strength_of(self.spec) if self.snapshot is not None else None,
            )
        )

    def restore(self, state: EpisodeState) -> None:
        """Bring the living side to where the checkpoint stands, by replaying the environment and the engine.

        The engine scores every step again, in the same chunks, so that its cache is the one that was lost.
        """
        lot = state.get("tool_lot")
        self.tool_lot = None if lot is None else Assignment(*lot)
        over = self.reset()
        self._verify(state, 0)
        if over:
            return
        if self.snapshot is not None and "recalled" in state:
            recalls = [Recall.model_validate(one) for one in state.get("recalls", [])]
            self.recalled = self.snapshot.restore(
                self.spec, state["recalled"], state["hints"], recalls, before=state.get("began")
            )
        self.start_prompt(state.get("hints", ""), state.get("recalled", []))
        written = state.get("written", [])
        spending, self.spending = self.spending, None
        try:
            for index, action in enumerate(state.get("actions", [])):
                self.step(self.recorded(written[index]) if written else self.select_action(forced=action))
                self._verify(state, index + 1)
        finally:
            self.spending = spending
            if spending is not None:
                spending.resume(self.episode.id, self.episode.usage)

    def record(self, decision: Decision) -> dict[str, Any]:
        """What a checkpoint keeps of a decision, before it is played: a served model need not write the same again.

        What it was chosen from is kept where that is not what the environment lists anyway.
        """
        kept = {one.name: getattr(decision, one.name) for one in fields(decision)}
        listed = decision.candidates == (self.game.admissible() or [])
        return {**kept, "candidates": None if listed else decision.candidates, "usage": decision.usage.model_dump()}

    def recorded(self, record: Mapping[str, Any]) -> Decision:
        """The decision of which a record was kept. Raises ReplayMismatch if it can no longer be chosen."""
        candidates = record["candidates"]
        if candidates is None:
            candidates = list(self.game.admissible() or ())
            if candidates and not record["invalid"]:
                self._offered(record["command"], candidates)
        return Decision(**{**record, "candidates": candidates, "usage": Usage.model_validate(record["usage"])})

    def _verify(self, state: EpisodeState, index: int) -> None:
        if state["digests"][index : index + 1] != [digest(self.game.observation)]:
            raise ReplayMismatch(
                f"Episode {self.spec.id} cannot be resumed: the environment answered step {index} differently than "
                "recorded; it is not deterministic by seed (check it with `agentlab doctor`)."
            )


def digest(observation: str) -> str:
    """A short fingerprint of an observation."""
    return hashlib.sha256(observation.encode()).hexdigest()[:12]
