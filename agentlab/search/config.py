"""How a task is searched: the methods and their settings."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Method = Literal["mcts", "best_of_n", "deepening", "self_explore"]
METHODS: tuple[Method, ...] = get_args(Method)

EXPLORATION = {"puct": 1.25, "uct": 0.25}
"""The usual constant of each rule; that of UCT is Agent-R's."""


class SearchConfig(BaseModel):
    """Settings of a search; every method takes those that concern it.

    wins: the search of a task ends with so many different winning trajectories.
    iterations: episodes of one task, at most (the N of best-of-N); None as many as the budget holds.
    temperature: at which the engine's log-probabilities are sampled.
    advice: what earlier episodes of the task showed weighs in sampling, as advice of the agent's memory does.
    rule: of MCTS: `puct` (the prior weighs the exploration) or `uct`.
    exploration: the constant in that rule; None for the usual one (`EXPLORATION`).
    rollout: of MCTS: who plays on where the tree ends: `policy` (the engine, if one plays) or `random`.
    candidates: only so many commands of a moment are considered, the likeliest by the engine; None for all.
    widening: of MCTS: after n visits, ceil((n + 1) ** widening) commands are considered; None for all at once, which
        needs fewer steps where there are some ten commands and transpositions are on.
    transpositions: moments with the same state (what is seen, carried and scored) share what is known of them.
        Leave it out where a game hides from its state what matters for winning.
    stride: of iterative deepening: how much deeper each pass goes, in steps.
    probes: of Self-Explore: the rollouts from each step.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    wins: int = Field(1, ge=1)
    iterations: int | None = Field(None, ge=1)
    temperature: float = Field(1.0, gt=0)
    advice: bool = True
    rule: Literal["puct", "uct"] = "puct"
    exploration: float | None = Field(None, ge=0)
    rollout: Literal["policy", "random"] = "policy"
    candidates: int | None = Field(None, ge=1)
    widening: float | None = Field(None, ge=0, le=1)
    transpositions: bool = True
    stride: int = Field(1, ge=1)
    probes: int = Field(4, ge=1)

    @property
    def constant(self) -> float:
        """The exploration constant that holds."""
        return EXPLORATION[self.rule] if self.exploration is None else self.exploration


AGENT_R = SearchConfig(rule="uct", iterations=8, wins=8, widening=0.5, advice=False, transpositions=False)
"""MCTS as Agent-R collects with it (Yuan et al. 2025): UCT with 0.25, eight iterations a task, whatever they find.
Widening stands in for the few commands that its model proposes at each moment."""
