"""SelfGoal: a tree of subgoals grows while the agent plays, and the most useful leaves stand before each command
(Yang et al. 2024, SelfGoal: Your Language Agents Already Know How to Achieve High-level Goals).

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

from agentlab import failures
from agentlab.agent.actors import View
from agentlab.agent.writing import WritingActor
from agentlab.engines.base import Conversation
from agentlab.engines.model import Model
from agentlab.errors import AgentLabError
from agentlab.trajectories.transition import Decision
from memory.prompts import one_line
from memory.records import NO_USAGE, Usage

MOST = 24
"""Leaves of a tree; one that has so many grows no further."""

WORDS, ROOM = 12, 96
"""Words of a subgoal that count, and tokens in which a list of them is written."""

DECOMPOSE = (
    "The goal of a text game: {goal}\nWhat the player sees: {state}\n\nWrite {count} subgoals that help towards this "
    "goal, one a line, each in a few words:\n{subgoal}"
)
SEARCH = (
    "A player of a text game sees: {state}\n\nSubgoals:\n{listed}\n\nWrite the numbers of the {count} most useful "
    "subgoals for the next step, and nothing else."
)
GO_ON = "Bear these subgoals in mind. Now answer with your next command."


@dataclass
class Tree:
    """The leaves of a tree of subgoals of the goal `root`, after so many steps; `chosen` are for the next one."""

    root: str
    leaves: list[str]
    steps: int = -1
    chosen: list[str] = field(default_factory=list)


_TREES: WeakKeyDictionary[Conversation, Tree] = WeakKeyDictionary()
"""The tree of each episode, as long as its conversation lives. One that is resumed grows it again."""


@dataclass(frozen=True)
class SelfGoalActor(WritingActor):
    """Writes each turn behind the subgoals that are most useful now.

    At each step the model names the `focus` most useful leaves, and decomposes each into at most `branches` subgoals.
    One whose likeness (cosine of word counts) to a leaf is `bound` or more is left out; a leaf that was decomposed
    gives way to what is left. The subgoals stand in the prompt of that turn only, not in the conversation.
    """

    focus: int = 2
    branches: int = 3
    bound: float = 0.7
    name: str = "selfgoal"

    def act(self, view: View) -> Decision:
        if view.model is None or not view.model.writes:
            raise AgentLabError("SelfGoal has the model write its subgoals; play it with a model that writes.")
        tree, usage = self._grown(view, view.model)
        decision = self.decided(view, "\n".join(f"- {one}" for one in tree.chosen), GO_ON)
        return replace(decision, usage=decision.usage + usage)

    def _grown(self, view: View, model: Model) -> tuple[Tree, Usage]:
        """The tree as it stands at this step, and what growing it took."""
        tree = _TREES.setdefault(view.conversation, Tree(one_line(view.goal), [one_line(view.goal)]))
        seen = [*(step.observation for step in view.steps), view.observation]
        usage = NO_USAGE
        for at in range(tree.steps + 1, len(seen)):
            usage += self._grow(tree, model, seen[at])
            tree.steps = at
        return tree, usage

    def _grow(self, tree: Tree, model: Model, state: str) -> Usage:
        """Choose the leaves that are useful in a state, and decompose them."""
        usage = NO_USAGE
        chosen = tree.leaves
        if len(tree.leaves) > self.focus:
            listed = "\n".join(f"{number}. {leaf}" for number, leaf in enumerate(tree.leaves, 1))
            text, usage = _written(model, SEARCH.format(state=state, listed=listed, count=self.focus))
            chosen = picked(text, tree.leaves, self.focus)
        found: list[str] = []
        for leaf in chosen:
            if len(tree.leaves) >= MOST:
                found.append(leaf)
                continue
            of = "" if leaf == tree.root else f"(of the subgoal: {leaf})\n"
            asked = DECOMPOSE.format(goal=tree.root, state=state, count=self.branches, subgoal=of)
            text, took = _written(model, asked)
            usage += took
            others = [other for other in tree.leaves if other != leaf]
            new = novel(listed_lines(text)[: self.branches], [leaf, *others, *found], self.bound)
            at = tree.leaves.index(leaf)
            tree.leaves[at : at + 1] = new or [leaf]
            found += new or [leaf]
        tree.chosen = found[: self.focus]
        return usage


def _written(model: Model, prompt: str) -> tuple[str, Usage]:
    with failures.engine(model.name):
        writing = model.write(prompt, max_tokens=ROOM)
    return writing.text, writing.usage


def listed_lines(text: str) -> list[str]:
    """The entries of a list that a model wrote, without their numbers and marks."""
    lines = (re.sub(r"^[\s\-*•]*(?:\d+[.):])?\s*", "", line) for line in text.splitlines())
    return [" ".join(one_line(line).split()[:WORDS]) for line in lines if line.strip()]


def picked(text: str, leaves: Sequence[str], count: int) -> list[str]:
    """The leaves whose numbers stand in an answer, each once; the newest ones where none does."""
    numbers = [int(number) for number in re.findall(r"\d{1,4}", text)]
    found = list(dict.fromkeys(leaves[number - 1] for number in numbers if 1 <= number <= len(leaves)))
    return (found or list(leaves[::-1]))[:count]


def novel(subgoals: Sequence[str], known: Sequence[str], bound: float) -> list[str]:
    """The subgoals that are like none of those known, nor like one before: their cosine is below `bound`."""
    kept: list[str] = []
    for one in subgoals:
        if all(cosine(one, other) < bound for other in [*known, *kept]):
            kept.append(one)
    return kept


def cosine(one: str, other: str) -> float:
    """The cosine of the word counts of two texts, in [0, 1]."""
    a, b = (Counter(re.findall(r"\w+", text.casefold())) for text in (one, other))
    norm = math.sqrt(sum(n * n for n in a.values()) * sum(n * n for n in b.values()))
    return sum(n * b[word] for word, n in a.items()) / norm if norm else 0.0
