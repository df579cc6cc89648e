"""The next message of somebody's chat: recalled for, written by the lab's model, and noted after."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from agentlab import failures
from agentlab.engines.base import Waiting
from agentlab.errors import AgentLabError, EngineFailed
from agentlab.serving.clients import Client
from agentlab.serving.growing import Growing
from agentlab.serving.recalling import SHARE, recalled, with_block
from agentlab.serving.refused import FAILURES, Refused
from agentlab.serving.stated import Stated, stated
from agentlab.serving.wire import DEFAULT, Answered, Asked
from agentlab.workspace.asking import ask
from agentlab.workspace.requests import Note

if TYPE_CHECKING:
    from agentlab.engines.model import Model
    from agentlab.lab import Lab

BASE = "base"
"""The model as it came, by name."""

Piece = Callable[[str, str], bool]
"""Is given the name of the model and the next piece of its answer; says whether to go on."""


class Named(NamedTuple):
    """A model that can be asked for by name: who made it when (seconds since 1970)."""

    name: str
    created: int


class Chats:
    """Answers chats with the model and the memory of a lab that was opened for looking only. Threads may share it.

    `most` is how many tokens an answer may have. What serves is looked up for each answer, so that a promotion holds
    from the next one on. Raises AgentLabError if the lab's engine writes no text, and what loading it does.
    """

    def __init__(self, lab: Lab, *, most: int) -> None:
        self.lab = lab
        self.most = most
        self._models: dict[str, Model] = {BASE: lab.model()}
        if not self._models[BASE].writes:
            raise AgentLabError(f"The engine {lab.engine.name} only ranks commands, so it cannot chat; serve a model.")
        self._memory = lab.memory
        self._loading, self._noting = threading.Lock(), threading.Lock()
        self._ended = threading.Event()
        self.named(DEFAULT)  # what serves is loaded now, and what is wrong with it is said now
        self._memory.embedder.embed_query("warm")

    def listed(self) -> list[Named]:
        """The models that can be asked for: what serves, the base, and the adapters that a gate has let serve."""
        promoted = self.lab.adapters.list("promoted")
        born = [Named(one.id, int(datetime.fromisoformat(one.created_at).timestamp())) for one in promoted]
        return [Named(DEFAULT, 0), Named(BASE, 0), *born]

    def named(self, name: str) -> tuple[str, Model]:
        """The model of this name, with its own name. Raises Refused (404) if there is none that may serve."""
        if name in ("", DEFAULT):
            name = self.lab.serving() or BASE
        with self._loading:
            known = self._models.get(name)
            if name == BASE and known is not None:
                return name, known
            if name not in {one.id for one in self.lab.adapters.list("promoted")}:
                line = "There is no model of this name; GET /v1/models lists those that there are."
                raise Refused(404, line, code="model_not_found", param="model")
            if known is None:
                self._models[name] = known = self.lab.model(name)
            return name, known

    def answer(self, client: Client, asked: Asked, piece: Piece) -> Answered:
        """The answer; `piece` is given what is there of it, as it is written and where the engine can tell.

        When it returns, what the user stated is kept: in the memory, or in the inbox of whoever writes to the lab. It
        is kept too where nobody waits for the answer any more. Raises Refused, and `FAILURES` where there is no answer.
        """
        name, model = self.named(asked.model)
        *before, last = asked.chat
        found = recalled(self._memory.of(client.namespace), last.text, self.lab.config.context // SHARE)
        growing = Growing(asked.stops)

        def heard(written: str) -> bool:
            more = growing.grown(written)
            going = piece(name, more) if more else True
            return going and not growing.ended and not self._ended.is_set()

        with failures.engine(model.name), model.episode():
            writing = model.write(
                with_block(found.block, last.text),
                before=before,
                whole=True,
                listener=heard,
                max_tokens=min(asked.most or self.most, self.most),
                temperature=asked.temperature or 0.0,
                seed=secrets.randbelow(2**31) if asked.seed is None else asked.seed,
            )
        if self._ended.is_set():
            raise EngineFailed("The server ends, so the answer was given up; ask again when it is back.")
        whole = Growing(asked.stops)
        whole.grown(writing.text, whole=True)
        if more := growing.grown(writing.text, whole=True):
            piece(name, more)
        noted, why_not = self._note(client, stated(asked.chat, found.block))
        return Answered(
            text=whole.text,
            model=name,
            ended="length" if writing.cut and not whole.ended else "stop",
            usage=writing.usage,
            recalled=found.ids,
            noted=noted,
            not_noted=why_not,
        )

    def _note(self, client: Client, found: list[Stated]) -> tuple[list[str], str]:
        """Keep what was stated. Returns the ids of what is new (of what waits in the inbox, that it does), and why the
        rest could not be kept: the answer is not lost with it."""
        ids = []
        try:
            for one in found:
                note = Note(kind=one.kind, text=one.text, namespace=client.namespace)
                with self._noting:  # one at a time: of each other's lock they would say that it is another process's
                    done = ask(self.lab.folder, note, client.by, progress=False, patience=0.0)
                if done.changed or not done.id:
                    ids.append(done.id or done.line.partition(":")[0])
        except FAILURES as failure:
            self.lab.progress.say(f"What {client.by} stated could not be noted: {failure}")
            return ids, f"What was stated could not be noted ({type(failure).__name__})."
        return ids, ""

    def end(self) -> None:
        """Give up what is being written: who waits for it is told so."""
        self._ended.set()
        if isinstance(self.lab.engine, Waiting):
            with suppress(Exception):
                self.lab.engine.give_up(EngineFailed("The server ends, so the answer was given up."))
