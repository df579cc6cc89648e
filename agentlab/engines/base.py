"""What an engine is: where log-probabilities and sentences come from, as small protocols of which it has one or more.

Requests come in lists, so that an engine may answer many at once, and each carries the adapter that it is asked of: an
engine has no current one. Whoever plays, reflects or judges asks a `Model`, an engine with the adapter that it is for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from agentlab.engines.batching import Batcher
from memory import prompts
from memory.prompts import Prompting, Reading
from memory.records import NO_USAGE, Usage

if TYPE_CHECKING:
    from trainers.data import Tokenizer


class Adapter(NamedTuple):
    """A LoRA adapter: the id under which a lab knows it, and the folder of its weights.

    With a `strength` it is a steering vector (experimental), which is added so much to the hidden states.
    """

    id: str
    folder: Path
    strength: float | None = None


TRANSCRIPT = Prompting()


class Conversation:
    """One episode as an engine sees it: text for a person, token ids for a model.

    `token_ids` and `action_spans` are what an Episode records, `cut` what a Step does: how many characters of the last
    observation were left out because they do not fit into the engine's context; `note` is what stands beside the last
    observation; `prompting` is how the model reads it; `readings` is what was read, by turn: it stays when that turn is
    left out. This one serves engines without a tokenizer. Those that have one subclass it and keep their key/value
    cache here, so that it lives exactly as long as the episode.
    """

    def __init__(self, goal: str, hints: str = "", prompting: Prompting = TRANSCRIPT) -> None:
        self.prompting = prompting
        self.goal = goal
        self.hints = hints
        self.text = prompts.head(goal, hints)
        self.turns = self.cut = 0
        self.note = ""
        self.readings: dict[int, Reading | None] = {}
        self.token_ids: list[int] = []
        self.action_spans: list[tuple[int, int]] = []

    def observe(self, observation: str, commands: Sequence[str] | None = None, note: str = "") -> None:
        """Append what the environment said; an action is expected next.

        A chat also shows the `commands` that may be chosen. `note` stands beside the observation.
        """
        self.turns += 1
        self.note = note
        self.text += prompts.turn(observation, note)

    def keep(self, reading: Reading | None) -> None:
        """Note what was read in the observation that was appended last."""
        self.readings[self.turns - 1] = reading

    def act(self, command: str, thought: str = "", written: Sequence[int] = ()) -> None:
        """Append the chosen action, and the thought before it; `written` are their tokens, where it wrote them."""
        said = "".join(prompts.thought(thought)) if self.prompting.thought else ""
        self.text += said + prompts.action(command) + prompts.LINE_END

    def text_after(self, aside: Aside | None) -> str:
        """The text as it would be after an aside."""
        said = prompts.action(aside.command) + prompts.LINE_END + prompts.turn(aside.answer) if aside else ""
        return self.text + said

    def close(self) -> None:
        """Give back what the conversation holds (a cache, say). It can still be read."""


class Aside(NamedTuple):
    """What might have been done first, and answered: another command, what came of it, and what may be done then."""

    command: str
    answer: str
    commands: Sequence[str] | None = None


@dataclass(frozen=True)
class ScoreRequest:
    """Which of these commands comes next in a conversation? `adapter` is the one asked; None is the base.

    With `asides` each command, one for each, is asked about as if that had been done just before it (None: nothing).
    With `bonus`, a number for each command, only that is asked which has the largest log-probability + bonus, the first
    of equals: an engine may leave others without a score that it knows to be behind.
    """

    conversation: Conversation
    commands: Sequence[str]
    adapter: Adapter | None = None
    asides: Sequence[Aside | None] = ()
    bonus: Sequence[float] = ()

    def __post_init__(self) -> None:
        for name, given in (("asides", self.asides), ("bonuses", self.bonus)):
            if given and len(given) != len(self.commands):
                raise ValueError(f"{len(given)} {name} for {len(self.commands)} commands")


@dataclass(frozen=True)
class Scores:
    """Log-probabilities (natural log), one for each command with its line end, in the order of the request.

    Minus infinity stands for a command that was left without a score, see `bonus` of a `ScoreRequest`.
    """

    logprobs: list[float]
    usage: Usage = NO_USAGE


@dataclass(frozen=True)
class WriteRequest:
    """An answer to `prompt`, as one message of a user, in at most `max_tokens`. At temperature 0 it is the likeliest.

    `seed` decides what is drawn above that. `adapter` is the one asked; None is the base. `before` are the messages of
    a chat (of the system, the user, the assistant) that the prompt goes on with. A `whole` chat is read whole or not at
    all: ContextExceeded where it does not fit, while of any other prompt the beginning is left out. `listener` is given
    the text so far as it grows, and says whether to go on; an engine that has only whole texts never asks it. Where
    there are `endings`, a local engine holds the answer to end with one of these lines; others are merely asked to.
    """

    prompt: str
    adapter: Adapter | None = None
    max_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0
    before: Sequence[prompts.Message] = ()
    whole: bool = False
    listener: Callable[[str], bool] | None = None
    endings: Sequence[str] = ()


@dataclass(frozen=True)
class Writing:
    """What was written: its text, its token ids and their log-probabilities where they are known, what it took, whether
    the limit on tokens `cut` it off, and the tokens of the prompt behind which it was written, where they are known."""

    text: str
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    usage: Usage = NO_USAGE
    cut: bool = False
    prompt_ids: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class TurnRequest:
    """The agent's next turn in a conversation: a thought where its prompting has one, then a command.

    `commands` are the admissible ones: the turn ends with one of them where the engine can hold it to that. None takes
    any line of at most `max_tokens`. A thought has at most `think` tokens. Where this is the second try, `refused` is
    the reply before, and `objection` what was wrong with it, or what is asked now: in the prompt, not the conversation.
    Raises ValueError if `commands` is empty.
    """

    conversation: Conversation
    commands: Sequence[str] | None
    adapter: Adapter | None = None
    think: int = 0
    max_tokens: int = 32
    temperature: float = 0.0
    seed: int = 0
    refused: str = ""
    objection: str = ""

    def __post_init__(self) -> None:
        if self.commands is not None and not self.commands:
            raise ValueError("no commands to choose from; None takes any line")


@dataclass(frozen=True)
class Turn:
    """A turn as it was written.

    Attributes:
        text: all of it.
        command: the command that was read in it, not necessarily an admissible one; empty where there was none.
        thought: what was thought before.
        token_ids: as they continue the conversation, what ends the turn included; empty where they are not known.
        logprobs: their log-probabilities (natural log) among all tokens; 0 of what had to be written, such as a mark.
        usage: what that took.
    """

    text: str
    command: str
    thought: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    usage: Usage = NO_USAGE


@runtime_checkable
class Scorer(Protocol):
    """An engine that ranks commands. `name` identifies its weights."""

    name: str

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """The scores of each request, in order. What is asked beside one changes no more than rounding."""
        ...


@runtime_checkable
class Writer(Protocol):
    """An engine that writes sentences worth reading. `name` identifies its weights."""

    name: str

    def write(self, requests: Sequence[WriteRequest]) -> list[Writing]:
        """The writing of each request, in order. What is asked beside one changes no more than rounding."""
        ...


@runtime_checkable
class TurnWriter(Protocol):
    """An engine that plays by writing. `name` identifies its weights."""

    name: str

    def write_turns(self, requests: Sequence[TurnRequest]) -> list[Turn]:
        """The turn of each request, in order. What is asked beside one changes no more than rounding."""
        ...


Engine = Scorer | Writer
"""Whatever ranks commands or writes; what else it can do, further protocols say."""


@runtime_checkable
class Conversing(Protocol):
    """An engine that keeps more of a conversation than its text."""

    def conversation(self, goal: str, hints: str = "", prompting: Prompting | None = None) -> Conversation:
        """Start one episode; without `prompting` as commands are ranked here. Raises EngineFailed if it cannot be read.

        An engine that has no chat, or is set to none, plays the transcript whatever is asked for.
        """
        ...


@runtime_checkable
class Tokenizing(Protocol):
    """An engine with a tokenizer: the tokens of texts and commands, and how many of them fit into its context."""

    tokenize: Tokenizer
    context: int

    def command_tokens(self, command: str) -> list[int]:
        """The tokens of a command and its line end."""
        ...


@runtime_checkable
class Waiting(Protocol):
    """An engine that may wait long for somebody else, such as a server."""

    def give_up(self, error: BaseException) -> None:
        """Whoever waits gets `error` now; who asks afterwards is answered again."""
        ...


@runtime_checkable
class Adapting(Protocol):
    """An engine that takes adapters."""

    def load(self, adapter: Adapter) -> None:
        """Have an adapter ready, and prove by its canary that it is the one.

        Raises CanaryFailed or BadAdapter (trainers.errors) if it is not what it is taken for.
        """
        ...


@runtime_checkable
class Opened(Protocol):
    """An engine whose base lies open as a module of PyTorch: its hidden states can be read and changed. `name`
    identifies its weights."""

    name: str

    def opened(self) -> AbstractContextManager[Any]:
        """The base, which nobody else asks meanwhile."""
        ...


@runtime_checkable
class Likelihood(Protocol):
    """An engine that scores whole texts, as training does (teacher forcing)."""

    def logprob(
        self, token_ids: Sequence[int], spans: Sequence[tuple[int, int]], adapter: Adapter | None = None
    ) -> float:
        """Summed log-probability of the tokens in `spans` (half-open, in `token_ids`), given all before them."""
        ...


@runtime_checkable
class Closing(Protocol):
    """An engine that holds what lies outside of this process, such as a server. It can be asked again afterwards."""

    def close(self) -> None:
        """Give it back."""
        ...


@runtime_checkable
class GivingWay(Protocol):
    """An engine that may hold memory of a GPU which training needs."""

    def make_room(self) -> None:
        """Give that memory back. It can be asked again afterwards."""
        ...


@runtime_checkable
class Batching(Protocol):
    """An engine that reads many requests at once: those of episodes that play beside each other are gathered for it."""

    batcher: Batcher
