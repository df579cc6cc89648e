"""An episode with its tokens, held within the context of its engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from agentlab.engines.base import TRANSCRIPT, Aside, Conversation, ScoreRequest, Tokenizing, TurnRequest
from agentlab.errors import ContextExceeded
from memory import prompts
from memory.prompts import Prompting

if TYPE_CHECKING:
    from trainers.data import ChatTokens, Tokenizer

PromptSetting = Literal["auto", "transcript", "chat"]

LEFT_OUT = "[… {} characters left out …]"
"""What stands in an observation where its middle was cut out."""


def resolved(setting: PromptSetting, tokenize: Tokenizer, asked: Prompting | None) -> Prompting:
    """How a model reads an episode: as `setting` says; by `auto` as a chat where that is asked for and it has one."""
    prompting = asked or TRANSCRIPT
    chat = setting == "chat" or (setting == "auto" and prompting.chat and tokenize.has_chat)
    return replace(prompting, chat=chat)


class TokenConversation(Conversation):
    """An episode with its tokens, as a transcript or as a chat in the model's own template.

    `turn_starts` are the borders at which old turns are dropped when the context is full. The head (task and memory
    block) is never dropped, and what was read in turns that are stays behind it as a line (`memory.prompts.pinned`);
    a quarter of the context is kept for commands, and an observation that does not fit beside both loses its middle.
    Raises ContextExceeded if the head leaves no room for observations, NoChatTemplate (trainers.errors) if a chat is
    asked for that the tokenizer has not.
    """

    def __init__(self, engine: Tokenizing, goal: str, hints: str, prompting: Prompting = TRANSCRIPT) -> None:
        super().__init__(goal, hints, prompting)
        self.engine = engine
        self.chat: ChatTokens | None = engine.tokenize.chat if prompting.chat else None
        if self.chat is not None:
            self.token_ids = self.chat.head(goal, hints, prompting)
        else:
            self.token_ids = [*engine.tokenize.opening, *engine.tokenize(self.text)]
        self.head_length = len(self.token_ids)
        self.room = engine.context - engine.context // 4 - self.head_length
        """Tokens that one turn may have."""
        if self.room < engine.context // 8:
            raise ContextExceeded(
                f"The task and its memory block have {self.head_length} tokens, which leaves no room for a game in a "
                f"context of {engine.context}; raise `context` in lab.toml, or recall less."
            )
        self.turn_starts: list[int] = []
        self.left_out = 0
        """Tokens after the head that are no longer in the context."""
        self.pinned: list[int] = []
        """What stays of them, behind the head."""

    # -- its turns -------------------------------------------------------------------------------------------------

    def observe(self, observation: str, commands: Sequence[str] | None = None, note: str = "") -> None:
        shown, ids = self._fitted(observation, commands, note)
        self.turn_starts.append(len(self.token_ids))
        super().observe(shown, commands, note)
        self._append(ids)

    def act(self, command: str, thought: str = "", written: Sequence[int] = ()) -> None:
        super().act(command, thought, written)
        start = len(self.token_ids)
        self._append(written or self.said(command, thought))
        # An empty thought is not taught: that would teach to think nothing.
        silent = 0 if thought.strip() else sum(map(len, self.marks))
        self.action_spans.append((start + silent, len(self.token_ids)))

    def said(self, command: str, thought: str = "") -> list[int]:
        """The tokens of an action, the thought before it where there is to be one, and what ends the turn."""
        if self.chat is not None:
            return self.chat.said(*prompts.answer(command, thought, prompting=self.prompting))
        pieces = prompts.thought(thought) if self.prompting.thought else []
        before = [token for piece in pieces for token in self.engine.tokenize(piece)]
        return [*before, *self.engine.command_tokens(command)]

    def command_tokens(self, command: str) -> list[int]:
        """The tokens of a command as it ends a turn."""
        if self.chat is None:
            return self.engine.command_tokens(command)
        return self.chat.said(prompts.answer(command, prompting=self.prompting)[-1])

    @cached_property
    def marks(self) -> tuple[list[int], list[int]]:
        """The tokens that begin a thought, and those between it and its command; none where nothing is thought."""
        if not self.prompting.thought:
            return [], []
        pieces = prompts.thought("") if self.chat is None else prompts.answer("", prompting=self.prompting)
        return self.engine.tokenize(pieces[0]), self.engine.tokenize(pieces[2])

    def objection(self, refused: str, why: str) -> list[int]:
        """What asks once more, behind an answer that was refused; it does not become part of the conversation."""
        if self.chat is not None:
            return [*self.chat.said(refused), *self.chat.turn(why, first=False)]
        return [*self.engine.tokenize(prompts.action(refused)), *self.end, *self.engine.tokenize(prompts.turn(why))]

    def aside(self, aside: Aside | None) -> list[int]:
        """What is read before the command of a turn that follows an aside: its tokens, and the marks of a thought."""
        silent = [token for mark in self.marks for token in mark]
        if aside is None:
            return silent
        answered = self._turn(aside.answer, aside.commands if self.chat is not None else None, "")
        return [*self.said(aside.command), *answered, *silent]

    def continuations(self, request: ScoreRequest) -> list[tuple[int, list[int]]]:
        """The tokens of each command of a request, after how many of its aside, which count for nothing."""
        commands = [self.command_tokens(command) for command in request.commands]
        if not request.asides:
            return [(0, tokens) for tokens in commands]
        before = [self.aside(aside) for aside in request.asides]
        return [(len(first), [*first, *tokens]) for first, tokens in zip(before, commands, strict=True)]

    @cached_property
    def end(self) -> list[int]:
        """What ends a turn."""
        return self.chat.end if self.chat is not None else self.engine.tokenize(prompts.LINE_END)

    def _append(self, ids: Sequence[int]) -> None:
        self.token_ids.extend(ids)

    def _fitted(self, observation: str, commands: Sequence[str] | None, note: str) -> tuple[str, Sequence[int]]:
        """The observation and the tokens of its turn; without its middle if they are too many."""
        kept = len(observation)
        while True:
            self.cut = len(observation) - kept
            shown = observation
            if self.cut:
                # How a text begins says where one is, how it ends what is to be done.
                first = kept * 2 // 3
                last = observation[len(observation) - (kept - first) :]
                shown = f"{observation[:first]}\n{LEFT_OUT.format(f'{self.cut:,}')}\n{last}"
            # What is far too long is not cut into tokens first: hardly a text has as few as one for 64 characters.
            ids = self._turn(shown, commands, note) if kept <= 64 * self.room else ()
            if commands and len(ids) > self.room and not kept:
                commands = None  # so many that they cannot even be listed alone
            elif ids and (len(ids) <= self.room or not kept):
                return shown, ids
            kept = min(kept * self.room * 9 // (len(ids) * 10), max(kept - 1, 0)) if ids else 64 * self.room

    def _turn(self, observation: str, commands: Sequence[str] | None, note: str) -> list[int]:
        if self.chat is not None:
            return self.chat.turn(prompts.seen(observation, commands, note), first=not self.turn_starts)
        return self.engine.tokenize(prompts.turn(observation, note))

    # -- its context -----------------------------------------------------------------------------------------------

    @property
    def context_ids(self) -> list[int]:
        """The tokens that the model reads: without those turns that no longer fit, but for what was read in them."""
        if not self.left_out:
            return self.token_ids
        rest = self.token_ids[self.head_length + self.left_out :]
        return [*self.token_ids[: self.head_length], *self.pinned, *rest]

    def remaining(self) -> int:
        """Tokens of the context that are left beside the head and the last turn, which are never dropped."""
        last = len(self.token_ids) - (self.turn_starts[-1] if self.turn_starts else self.head_length)
        return self.engine.context - self.head_length - last

    def room_for(self, commands: Sequence[Sequence[int]]) -> int:
        """The tokens that are left for these commands, by their tokens. Raises ContextExceeded if one is longer."""
        longest, room = max(map(len, commands), default=0), self.remaining()
        if longest > room:
            raise ContextExceeded(
                f"A command has {longest} tokens, and {room} of the context of {self.engine.context} are left beside "
                "the task and what was last observed; raise `context` in lab.toml."
            )
        return room

    def room_for_turn(self, request: TurnRequest) -> list[int]:
        """Make room for a turn. Returns what is read before it, beside the conversation: an objection, if there is one.

        Raises ContextExceeded if it does not fit.
        """
        extra = self.objection(request.refused, request.objection) if request.objection else []
        lengths = [len(self.command_tokens(one)) for one in request.commands or ()]
        needed = len(extra) + request.think + max([*lengths, request.max_tokens]) + sum(map(len, self.marks))
        if needed > (room := self.remaining()):
            raise ContextExceeded(
                f"A turn may take {needed} tokens, and {room} of the context of {self.engine.context} are left beside "
                "the task and what was last observed; raise `context` in lab.toml, or think less."
            )
        self.make_room(needed)
        return extra

    def make_room(self, needed: int) -> bool:
        """Drop the oldest turns until `needed` more tokens fit; whether any was dropped.

        Half of the window is freed at once, so that a long episode does not pay for a rebuild at every step.
        """
        limit = self.engine.context
        if len(self.token_ids) - self.left_out + len(self.pinned) + needed <= limit or not self.turn_starts:
            return False
        from trainers.data import drop_unread

        borders = [*self.turn_starts, len(self.token_ids)]
        lengths = [after - before for before, after in pairwise(borders)]
        dropped, self.pinned = drop_unread(
            lengths, self.head_length, min(limit // 2, limit - needed), self._pinned, limit - needed
        )
        self.left_out = self.turn_starts[dropped] - self.head_length if dropped else 0
        return True

    def _pinned(self, dropped: int) -> list[int]:
        """The tokens of what was read in so many of the oldest turns."""
        return self.engine.tokenize(prompts.pinned([self.readings.get(turn) for turn in range(dropped)]))
