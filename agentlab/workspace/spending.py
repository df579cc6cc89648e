"""What models may take under one command, and what they took: tokens and money, over all runs that it plays."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from agentlab.engines.metering import Meter, metered
from agentlab.errors import AgentLabError, LimitReached
from memory.records import Usage


@dataclass
class Spending:
    """A limit on cost (US dollars) or on tokens (read and written), or on both, and what was spent so far.

    It is looked at before each step, so it is exceeded by no more than the steps that are in flight; of what has no
    steps of an agent (a search, a consolidation) before each piece of it (`counted`).
    """

    cost: float | None = None
    tokens: int | None = None
    spent: Usage = field(default_factory=Usage)
    _runs: set[str] = field(default_factory=set, init=False, repr=False)
    _episodes: set[str] = field(default_factory=set, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.cost is not None or self.tokens is not None

    def begin(self, run: str, before: Usage) -> None:
        """Count what the stored episodes of a run took, once."""
        with self._lock:
            if run not in self._runs:
                self._runs.add(run)
                self.spent += before

    def add(self, usage: Usage, episode: str = "") -> None:
        """Count what was taken just now, in this episode if it was in one."""
        with self._lock:
            self._episodes.add(episode)
            self.spent += usage

    def resume(self, episode: str, before: Usage) -> None:
        """Count what an episode took before it was interrupted, unless that was under this command already."""
        if episode not in self._episodes:
            self.add(before, episode)

    @contextmanager
    def counted(self) -> Iterator[Meter]:
        """Count all that models take in this thread within the block, also where it fails. Raises LimitReached."""
        self.check()
        with metered() as meter:
            try:
                yield meter
            finally:
                self.add(meter.usage)

    def check(self) -> None:
        """Raise LimitReached where nothing may be spent any more."""
        took = self.spent
        tokens = took.input_tokens + took.output_tokens
        if self.tokens is not None and tokens >= self.tokens:
            raise LimitReached(
                f"{tokens:,} tokens of --max-tokens {self.tokens:,} are spent. What was finished is kept; the same "
                "command with more of them goes on from there."
            )
        if self.cost is not None and took.cost >= self.cost:
            raise LimitReached(
                f"${took.cost:.4f} of --max-cost {self.cost:g} are spent. What was finished is kept; the same command "
                "with a higher limit goes on from there."
            )

    def must_count(self, usage: Usage, engine: str) -> None:
        """Raise AgentLabError where a limit cannot be held, since nobody says what was taken."""
        if self.limited and not (usage.input_tokens or usage.output_tokens):
            raise AgentLabError(
                f"{engine} does not say how many tokens it takes, so --max-tokens and --max-cost cannot be held; leave "
                "them out, or have it write (`--actor write`)."
            )
