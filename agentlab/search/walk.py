"""The moves of a search: reset to the task, go where the tree leads, go on from there; every step is counted."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from agentlab import failures
from agentlab.agent.actors import scored
from agentlab.agent.policy import Policy
from agentlab.engines.base import Conversation, Tokenizing
from agentlab.engines.conversation import TokenConversation
from agentlab.engines.model import Model
from agentlab.search.config import SearchConfig
from agentlab.search.tree import Node, Tree, take
from agentlab.trajectories.advice import AdviceBook, AdviceWeights, facts_of
from agentlab.trajectories.budget import Budget, Meter
from agentlab.trajectories.tool_uses import tool_uses
from agentlab.trajectories.transition import Decision, Game
from agentlab.trajectories.tried import Tried
from environments import Task, TextEnv
from memory import prompts
from memory.prompts import Prompting
from memory.records import Episode, Status, Step, content_id

WEIGHTS = AdviceWeights()


@dataclass
class Player:
    """Who searches a task: the environment, the model that guides (None: chance does), the tree and the meter.

    `run`, `arm` and `seed` are written into the episodes; together with `config`, the model and the task they
    determine them. `prompting` is how the model plays; a search ranks commands, so what it plays has no thoughts.
    """

    env: TextEnv
    task: Task
    model: Model | None = None
    config: SearchConfig = field(default_factory=SearchConfig)
    budget: Budget = field(default_factory=Budget)
    run: str = ""
    arm: str = "search"
    seed: int = 0
    prompting: Prompting | None = None
    tree: Tree = field(default_factory=Tree)
    episodes: list[Episode] = field(default_factory=list)
    walking: Walk | None = None

    def __post_init__(self) -> None:
        self.meter = Meter(self.budget)
        self.book = AdviceBook()
        self.policy = Policy(temperature=self.config.temperature)

    def rng(self, *what: object) -> random.Random:
        """The random numbers of one purpose. They depend on nothing that happened before."""
        return random.Random("|".join(str(part) for part in (self.task.id, self.arm, self.seed, *what)))

    def walk(self) -> Walk:
        """Begin the game anew. Raises OutOfBudget, EnvironmentDied, ReplayMismatch."""
        return Walk(self)

    def keep(self, walk: Walk) -> Episode:
        """The episode of a walk, which goes into the tree and the advice book."""
        episode = walk.episode()
        self.walking = None
        self.episodes.append(episode)
        if episode.steps:
            self.tree.add(episode)
        for fact in facts_of(episode.steps, lost=episode.status == "lost"):
            self.book.add(fact)
        return episode

    def fail(self, failure: Exception) -> None:
        """What was walked last errored: it is kept as such, if it had begun, and is no evidence of anything."""
        walk, self.walking = self.walking, None
        if walk is not None and walk.steps:
            errored = {"status": "errored", "error": str(failure), "error_kind": failures.kind_of(failure)}
            self.episodes.append(walk.episode().model_copy(update=errored))

    def sample(self, walk: Walk, rng: random.Random) -> str:
        """An action as the policy draws it: by the model's log-probabilities and by advice."""
        scores = walk.scores() or [0.0] * len(walk.commands)
        return walk.commands[self.policy.choose(scores, walk.bonuses(), 0, rng)]

    def ranked(self, walk: Walk, rng: random.Random) -> list[tuple[str, float]]:
        """The candidates where `walk` stands with their prior probabilities, the likeliest first, ties in chance's
        order. At most `candidates` of them, whose probabilities then add up to 1."""
        commands = walk.commands
        scores = walk.scores() or [0.0] * len(commands)
        logits = [score + extra for score, extra in zip(scores, walk.bonuses(), strict=True)]
        order = sorted(range(len(commands)), key=lambda at: (-logits[at], rng.random()))[: self.config.candidates]
        weights = softmax([logits[at] for at in order])
        return [(commands[at], weight) for at, weight in zip(order, weights, strict=True)]


class Reading:
    """A game as the player's model reads it: every token of the transcript once. Without a model nobody reads."""

    def __init__(self, player: Player, goal: str) -> None:
        self.player = player
        self.conversation: Conversation | None = None
        if player.model is not None:
            asked = replace(player.prompting, thought=False) if player.prompting is not None else None
            with failures.engine(player.model.name):
                self.conversation = player.model.conversation(goal, "", asked)
        self._read = 0

    def observe(self, observation: str, commands: Sequence[str], told: prompts.Reading | None) -> None:
        """What the environment said, what may be done then, which a chat shows, and what was read in it."""
        if self.player.model is not None and self.conversation is not None:
            shown = commands if self.conversation.prompting.chat else None
            with failures.engine(self.player.model.name):
                self.conversation.observe(observation, shown)
                self.conversation.keep(told)

    def act(self, action: str) -> None:
        """The chosen action."""
        if self.player.model is not None and self.conversation is not None:
            with failures.engine(self.player.model.name):
                self.conversation.act(action)

    def scores(self, node: Node) -> list[float] | None:
        """The model's log-probabilities of the commands at `node`, to which it has read, asked for once in a lifetime
        of the tree; None without a model.

        Raises OutOfBudget, EngineFailed.
        """
        model, conversation = self.player.model, self.conversation
        if model is None or conversation is None:
            return None
        if node.scores is None:
            tokens = len(conversation.token_ids)
            self.player.meter.call(tokens - self._read + command_tokens(model, conversation, node.admissible))
            self._read = tokens
            node.scores = scored(model, conversation, node.admissible).logprobs
        return node.scores

    def close(self) -> None:
        """Give back what the conversation holds."""
        if self.conversation is not None:
            self.conversation.close()


class Walk:
    """One game from its start, step by step, in the environment and in the tree at once.

    Where the tree has been, the environment's answer is compared with what is known (ReplayMismatch if they differ)
    and the model's scores are taken from there. A new walk ends the one before: there is one environment.
    """

    def __init__(self, player: Player) -> None:
        player.meter.reset()
        self.player = player
        self.status: Status | None = None
        self.tried = Tried()
        self.began = time.perf_counter()
        player.walking = None
        self.game = Game(player.env, player.task)
        player.walking = self
        self.goal = self.game.goal
        self.node: Node = player.tree.begin(self.game.observation, self.state)
        self.reading = Reading(player, self.goal)
        self.status = self.game.status
        self.node.ended = self.ended
        if not self.ended:
            self._arrive()
        self.reading.observe(self.game.observation, self.node.admissible, self.game.reading)

    @property
    def ended(self) -> bool:
        """Whether the game has ended."""
        return self.status is not None

    @property
    def state(self) -> str:
        return self.game.state

    @property
    def steps(self) -> list[Step]:
        """What was done so far."""
        return self.game.steps

    @property
    def commands(self) -> list[str]:
        return self.node.admissible

    def scores(self) -> list[float] | None:
        """The model's log-probabilities of the commands; None without one. Raises OutOfBudget."""
        return self.reading.scores(self.node)

    def bonuses(self) -> list[float]:
        """What earlier episodes and this one advise on each command, in nats."""
        if not self.player.config.advice:
            return [0.0] * len(self.commands)
        known = self.player.book.bonuses(
            self.state, self.commands, WEIGHTS, self.tried.times(self.state, self.commands)
        )
        return [sum(both) for both in zip(known, self.tried.costs(self.state, self.commands, WEIGHTS), strict=True)]

    def step(self, action: str, *, invalid: bool = False) -> None:
        """Do `action`, which is one of the commands, unless it is known to be `invalid`.

        Raises OutOfBudget, EnvironmentDied, ReplayMismatch.
        """
        player, node = self.player, self.node
        player.meter.step()
        scores = None if invalid else node.scores
        step = self.game.step(Decision(action, self.commands, scores=scores, invalid=invalid))
        player.meter.cost.replayed += action in node.children
        self.node = take(node, step)
        self.tried.observe(step)
        self.reading.act(action)
        self.status = self.game.status
        if self.ended:
            self.node.ended = True
        else:
            self._arrive()
            self.reading.observe(self.game.observation, self.node.admissible, self.game.reading)

    def follow(self, actions: Iterable[str | Step]) -> bool:
        """Do `actions` until the game ends. False if one is not among the commands when its turn comes, unless it is a
        step that was invalid when it was lived."""
        for one in actions:
            action, invalid = (one, False) if isinstance(one, str) else (one.action, one.invalid)
            if self.ended:
                break
            if action not in self.commands and not invalid:
                return False
            self.step(action, invalid=invalid)
        return True

    def episode(self) -> Episode:
        """The record of this walk; one whose game goes on is truncated."""
        player, model, task = self.player, self.player.model, self.player.task
        name = model.name if model is not None else "random"
        adapter = model.adapter_id if model is not None else None
        trial = len(player.episodes)
        conversation = self.reading.conversation
        read = () if model is None or player.prompting is None else (player.prompting,)
        self.reading.close()
        return Episode(
            id=content_id(
                "ep", player.run, player.arm, name, adapter, player.config, task.id, trial, player.seed, *read
            ),
            run=player.run,
            env=task.env,
            split=task.split,
            seed=task.seed,
            trial=trial,
            arm=player.arm,
            engine=name,
            adapter=adapter,
            temperature=player.config.temperature,
            rng_seed=player.seed,
            goal=self.goal,
            status=self.status or "truncated",
            score=self.steps[-1].score if self.steps else self.game.score,
            steps=self.steps,
            token_ids=list(conversation.token_ids) if conversation is not None else [],
            action_spans=list(conversation.action_spans) if conversation is not None else [],
            prompt=conversation.prompting.name if conversation is not None else "transcript",
            tools=tool_uses(player.env),
            seconds=round(time.perf_counter() - self.began, 4),
        )

    def _arrive(self) -> None:
        self.node.offers(self.game.listed())


def softmax(logits: Sequence[float]) -> list[float]:
    """Probabilities in proportion to exp(logit)."""
    top = max(logits)
    weights = [math.exp(logit - top) for logit in logits]
    total = sum(weights)
    return [weight / total for weight in weights]


def command_tokens(model: Model, conversation: Conversation, commands: Sequence[str]) -> int:
    """How many tokens these commands have in a conversation, where the engine has tokens."""
    cuts = conversation if isinstance(conversation, TokenConversation) else model.engine
    if not isinstance(cuts, TokenConversation | Tokenizing):
        return 0
    return sum(len(cuts.command_tokens(command)) for command in commands)
