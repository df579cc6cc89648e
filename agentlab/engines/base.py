"""What an engine is: the place where log-probabilities and sentences come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from memory import prompts


class Conversation:
    """One episode's transcript as an engine sees it: text for a person, token ids for a model.

    `token_ids` and `action_spans` are what an Episode records, `cut` what a Step does: how many characters of the last
    observation were left out because they do not fit into the engine's context. Engines that have a tokenizer subclass
    it and keep their key/value cache here, so that it lives exactly as long as the episode.
    """

    def __init__(self, goal: str, hints: str = "") -> None:
        self.text = prompts.head(goal, hints)
        self.turns = 0
        self.cut = 0
        self.token_ids: list[int] = []
        self.action_spans: list[tuple[int, int]] = []

    def observe(self, observation: str) -> None:
        """Append what the environment said; an action is expected next."""
        self.turns += 1
        self.text += prompts.turn(observation)

    def act(self, command: str) -> None:
        """Append the chosen action."""
        self.text += prompts.action(command) + prompts.LINE_END

    def close(self) -> None:
        """Give back what the conversation holds (a cache, say). It can still be read."""


@runtime_checkable
class Engine(Protocol):
    """A source of log-probabilities over commands and, where it can, of text.

    `name` identifies the weights, `adapter` the LoRA adapter on them (None: the base); neither ever changes, so whoever
    holds an engine knows what plays. `can_write` says whether `generate` gives sentences worth reading.
    """

    name: str
    can_write: bool

    @property
    def adapter(self) -> str | None:
        """The id of the adapter that this engine plays with; None is the base."""
        ...

    def conversation(self, goal: str, hints: str = "") -> Conversation:
        """Start a transcript for one episode. Raises EngineFailed if the engine cannot read it."""
        ...

    def score(self, conversation: Conversation, candidates: Sequence[str]) -> list[float]:
        """Log-probability (natural log) of each candidate command and its line end as the next action."""
        ...

    def generate(self, prompt: str, *, max_tokens: int = 128, temperature: float = 0.0, seed: int = 0) -> str:
        """Answer `prompt` as one user message."""
        ...

    def with_adapter(self, adapter: str, folder: Path) -> Engine:
        """An engine on the same weights that plays with this adapter (its id and its folder); this one stays as it is.

        Raises CanaryFailed or BadAdapter (trainers.errors) if the adapter is not what it is taken for, AgentLabError if
        the engine has no weights.
        """
        ...
