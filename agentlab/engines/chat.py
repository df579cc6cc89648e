"""The chat engine: a model behind an API plays by writing, held to the admissible commands where that can be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentlab.engines.base import TRANSCRIPT, Conversation, Turn, TurnRequest, WriteRequest, Writing
from agentlab.engines.beside import beside
from agentlab.engines.provider import PATIENCE, Answer, Price, Provider
from agentlab.errors import ContextExceeded, Unacceptable
from memory import prompts
from memory.prompts import Message, Prompting, Reply
from memory.text import loaded, whole

AT_ONCE = 16
"""Requests of one list that are on their way beside each other."""

FRAME = 64
"""Tokens beside a thought and a command: the braces and names of the fields."""

REASONING = 4096
"""Tokens more for a model that reasons before it answers, once an answer was cut off before it said anything."""

DROPPED = 8
"""Turns by which the oldest part of a conversation is left out, where the whole is too long."""


@dataclass
class _Step:
    """What the user said, and what the assistant answered."""

    seen: str
    said: str = ""


class ChatConversation(Conversation):
    """An episode as the messages of a chat. It has no tokens: those of an API are not known."""

    def __init__(self, goal: str, hints: str = "", prompting: Prompting = TRANSCRIPT) -> None:
        super().__init__(goal, hints, replace(prompting, chat=True))
        self.steps: list[_Step] = []
        self.left_out = 0
        """The oldest turns, which are no longer shown because the whole is too long."""

    def observe(self, observation: str, commands: Sequence[str] | None = None, note: str = "") -> None:
        super().observe(observation, commands, note)
        self.steps.append(_Step(prompts.seen(observation, commands, note)))

    def act(self, command: str, thought: str = "", written: Sequence[int] = ()) -> None:
        super().act(command, thought, written)
        self.steps[-1].said = "".join(prompts.answer(command, thought, prompting=self.prompting))

    def messages(self) -> list[Message]:
        """What the model reads; the task and the memory block are never left out, nor what was read."""
        found = [Message("system", prompts.system(self.hints, self.prompting))]
        begun = prompts.task(self.goal) + prompts.pinned([self.readings.get(turn) for turn in range(self.left_out)])
        for step in self.steps[self.left_out :]:
            found.append(Message("user", begun + step.seen))
            begun = ""
            if step.said:
                found.append(Message("assistant", step.said))
        return found

    def drop(self) -> bool:
        """Leave out the next oldest turns; False if too few are left.

        Always so many at once: what is left out then does not depend on when it was found to be too long, and a resumed
        episode reads the same as an unbroken one.
        """
        if self.left_out + DROPPED >= len(self.steps):
            return False
        self.left_out += DROPPED
        return True


class ChatEngine:
    """A model behind an API, by LangChain: it writes and plays by writing, and ranks nothing, for it gives no
    log-probabilities of texts that it did not write.

    `name` is `provider:model`; `server` the URL of an API that is not the provider's own. Raises as a `Provider`.
    """

    def __init__(self, name: str, *, server: str = "", price: Price | None = None, patience: float = PATIENCE) -> None:
        self.name = name
        self.provider = Provider(name, server=server, price=price, patience=patience)
        self._most = float("inf")
        """Commands to which the API can hold an answer, as far as it is known."""
        self._more = 0

    def conversation(self, goal: str, hints: str = "", prompting: Prompting | None = None) -> ChatConversation:
        """Start one episode, always as a chat."""
        return ChatConversation(goal, hints, prompting or TRANSCRIPT)

    def write_turns(self, requests: Sequence[TurnRequest]) -> list[Turn]:
        return beside(self._turn, requests, AT_ONCE)

    def write(self, requests: Sequence[WriteRequest]) -> list[Writing]:
        return beside(self._write, requests, AT_ONCE)

    def give_up(self, error: BaseException) -> None:
        """Whoever waits for an answer gets `error` now."""
        self.provider.give_up(error)

    def _write(self, request: WriteRequest) -> Writing:
        answer = self._answer([*request.before, Message("user", request.prompt)], None, request)
        return Writing(whole(answer.text).strip(), usage=answer.usage, cut=answer.cut)

    def _turn(self, request: TurnRequest) -> Turn:
        conversation = request.conversation
        assert isinstance(conversation, ChatConversation)
        thinks, commands = conversation.prompting.thought, request.commands
        while True:
            messages = conversation.messages()
            if request.objection:
                messages += [Message("assistant", request.refused), Message("user", request.objection)]
            try:
                answer = self._held(messages, request, thinks)
                break
            except ContextExceeded:
                if not conversation.drop():
                    raise
        thought, command = (whole(said) for said in _read(answer, commands))
        return Turn(whole(answer.text), command, thought if thinks else "", usage=answer.usage)

    def _held(self, messages: Sequence[Message], request: TurnRequest, thinks: bool) -> Answer:
        """The answer, held to the commands where the API can do that."""
        commands = request.commands
        if commands is None or len(commands) > self._most:
            return self._answer(messages, None, request)
        try:
            return self._answer(messages, schema(commands, thought=thinks), request)
        except Unacceptable:
            # Whether it takes no schema, or none of so many, it does not say in words that one could rely on.
            answer = self._answer(messages, None, request)
            self._most = min(self._most, len(commands) - 1)
            return answer

    def _answer(
        self, messages: Sequence[Message], held: dict[str, Any] | None, request: TurnRequest | WriteRequest
    ) -> Answer:
        think = request.think if isinstance(request, TurnRequest) else 0
        room = think + request.max_tokens + (FRAME if isinstance(request, TurnRequest) else 0)
        more = self._more

        def ask(most: int) -> Answer:
            return self.provider.ask(
                messages, held, max_tokens=most, temperature=request.temperature, seed=request.seed
            )

        answer = ask(room + more)
        if more or not answer.cut or answer.text.strip():
            return answer
        try:
            again = ask(room + REASONING)
        except (Unacceptable, ContextExceeded):  # it has no such room, so that was its answer
            return answer
        if again.text.strip():
            self._more = REASONING
        return replace(again, usage=answer.usage + again.usage)


def schema(commands: Sequence[str], *, thought: bool) -> dict[str, Any]:
    """The JSON schema of a turn that ends with one of these commands."""
    thinking = {"thought": {"type": "string", "description": "One short sentence: what to do next, and why."}}
    command = {"type": "string", "enum": list(commands), "description": "The command to play."}
    fields: dict[str, Any] = {**(thinking if thought else {}), "command": command}
    return {
        "title": "turn",
        "description": "The next turn of the game.",
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def _read(answer: Answer, commands: Sequence[str] | None) -> Reply:
    """Thought and command: by the fields, or by what the text says where there are none."""
    fields = answer.fields or _fields(answer.text)
    command, thought = fields.get("command"), fields.get("thought")
    if isinstance(command, str):
        return Reply(prompts.one_line(thought) if isinstance(thought, str) else "", prompts.one_line(command))
    # Of JSON that was cut off nothing can be read.
    return Reply("", "") if answer.text.lstrip().startswith("{") else prompts.read(answer.text)


def _fields(text: str) -> dict[str, Any]:
    """The fields of an answer that is JSON without having been understood as such, in a code block perhaps."""
    try:
        found = loaded(text[text.index("{") : text.rindex("}") + 1])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
