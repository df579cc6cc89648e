"""What a search may cost and what it did cost, in the same units for every method, so that methods compare."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from agentlab.errors import OutOfBudget


class Budget(BaseModel):
    """The bounds of the search of one task; none of them is ever exceeded.

    steps: actions sent to the environment, those of replays included.
    calls: scorings by the engine; None for any number.
    tokens: tokens that those scorings read (see `Cost`); None for any number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(400, ge=1)
    calls: int | None = Field(None, ge=1)
    tokens: int | None = Field(None, ge=1)


class Cost(BaseModel):
    """What a search cost.

    steps: actions sent to the environment. `replayed` of them only brought it back to where it had been.
    resets: games begun.
    calls: scorings by the engine.
    tokens: tokens that the engine read: those of the transcript that it had not read, and those of the commands that
        it scored (prefixes that commands share are counted for each). Zero for engines without a tokenizer.
    """

    model_config = ConfigDict(extra="forbid")

    steps: int = 0
    replayed: int = 0
    resets: int = 0
    calls: int = 0
    tokens: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{name: getattr(self, name) + getattr(other, name) for name in Cost.model_fields})


class Meter:
    """Counts the cost of a search and holds it to its budget."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.cost = Cost()

    def reset(self) -> None:
        """A game begins. Raises OutOfBudget if no step could follow."""
        self._hold("steps", 1)
        self.cost.resets += 1

    def step(self) -> None:
        """An action is about to be sent. Raises OutOfBudget."""
        self._hold("steps", 1)
        self.cost.steps += 1

    def call(self, tokens: int) -> None:
        """The engine is about to score, and to read so many tokens for it. Raises OutOfBudget."""
        self._hold("calls", 1)
        self._hold("tokens", tokens)
        self.cost.calls += 1
        self.cost.tokens += tokens

    def _hold(self, unit: str, more: int) -> None:
        bound: int | None = getattr(self.budget, unit)
        if bound is not None and getattr(self.cost, unit) + more > bound:
            raise OutOfBudget(f"The search has used up its budget of {bound} {unit}; give it more of them.")
