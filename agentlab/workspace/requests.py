"""A small change to the memory as it is asked for: by the command line, by a screen, by a client of the memory server,
by a client whose chat is served.

It is done at once, or lies in the inbox until whoever writes gets to it; either way it is read and done here. What it
says is data: who asks may do what that door lets one do, in the namespaces that it lets one reach, and no more.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentlab.errors import AgentLabError, BadRequest
from agentlab.workspace.config import LabConfig
from agentlab.workspace.environments import environment
from memory import errors
from memory.interchange import CLIENTS, NAME_LIMIT, admitted, remember
from memory.records import Reflection, content_id, now, task_parts
from memory.store import Database, Entry, History, Mended, Mending, Verb
from memory.text import clean, name, parsed

CLI, SCREEN = "cli", "screen"
"""Who asks, where it is a person."""
CHATS = "chat:"
"""How the sources begin that are clients whose chats are served; a person gives them their names, with a key."""
CHAT = "chat"
"""The environment of what is noted in chats, which is no game: nothing of it is recalled in one."""
CLIENT_LIMIT = 60
"""The longest name of a client, in characters."""


def client(said: str) -> str:
    """Who asks, where it is a client that calls itself so."""
    return f"{CLIENTS}{name(said, CLIENT_LIMIT) or 'unknown'}"


def chatting(named: str) -> str:
    """Who asks, where it is a client of that name whose chat is served."""
    return f"{CHATS}{name(named, CLIENT_LIMIT)}"


class Outcome(BaseModel):
    """What came of a request: in a `line`, as which `operation` (None: nothing changed); `id` is the first reflection
    that was meant, `changed` how many reflections were changed."""

    model_config = ConfigDict(extra="ignore")

    line: str
    operation: str | None = None
    id: str = ""
    changed: int = 0


class Request(BaseModel, ABC):
    """Something that is asked for. `apply` does it in a lab of these settings; it raises MemoryStoreError, or what says
    that an environment or a game is none."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def check(self) -> None:
        """Raise at once what can be known without the lab."""

    @abstractmethod
    def apply(self, database: Database, by: str, config: LabConfig) -> Outcome:
        """Do it, and say what came of it."""


class Mend(Request):
    """Bench, pin, unpin, forget or restore these, in a namespace (None: in all)."""

    verb: Verb
    ids: list[str] = Field(min_length=1)
    reason: str = ""
    namespace: str | None = None

    def apply(self, database: Database, by: str, config: LabConfig) -> Outcome:
        return _mended(Mending(database, self.namespace).apply(self.verb, self.ids, reason=self.reason))


class Edit(Request):
    """Put another text in place of a reflection's, which was `seen` (its `wording`) by who wrote it."""

    id: str
    text: str
    seen: str | None = None
    reason: str = ""
    namespace: str | None = None

    def check(self) -> None:
        from memory.store import edited

        edited(self.text)

    def apply(self, database: Database, by: str, config: LabConfig) -> Outcome:
        id = database.reflections.full_id(self.id, self.namespace)
        done = Mending(database, self.namespace).edit(id, self.text, reason=self.reason, seen=self.seen)
        return _mended(done).model_copy(update={"id": id})


class Undo(Request):
    """Take back an operation, or all that one command did."""

    operation: str
    namespace: str | None = None

    def apply(self, database: Database, by: str, config: LabConfig) -> Outcome:
        past = History(database, namespace=self.namespace)
        if self.operation.startswith("ops-"):
            undone = past.undo_batch(self.operation)
            batch, changed = undone[0].batch, sum(one.changed - one.links for one in undone)
            line = f"Undid {_count(len(undone), 'operation')} of {self.operation}. This is {batch}."
            return Outcome(line=line, operation=batch, changed=changed)
        target = past.operation(self.operation)
        done = past.undo(target.id)
        counts = [(done.changed - done.links, "reflection"), (done.links, "link")]
        what = " and ".join(_count(count, noun) for count, noun in counts if count)
        line = f"Undid {target.id} ({target.name}): {what} as before. This is {done.id}."
        return Outcome(line=line, operation=done.id, changed=done.changed - done.links)


class Add(Request):
    """Keep what a client has written, unless the same is known; without a task it holds for all games of `env`."""

    text: str
    env: str = Field(max_length=NAME_LIMIT)
    task: str | None = Field(None, max_length=NAME_LIMIT)
    tags: list[str] = Field(default_factory=list, max_length=20)

    def check(self) -> None:
        self._admitted(CLIENTS, self.env)

    def apply(self, database: Database, by: str, config: LabConfig) -> Outcome:
        new = self._admitted(by, environment(self.env, database, config.tools) or self.env)
        return _kept(database, new, by, config.namespace, config.source_quota)

    def _admitted(self, source: str, env: str) -> Reflection:
        """What is kept of it. Raises BadTask, InvalidReflection."""
        from environments.base import Task
        from environments.errors import BadTask

        # Play recalls for other games only what was learned on the train fold, which a lesson for all games is.
        filed = Task.parse(self.task).id if self.task else f"{env}:train:"
        if task_parts(filed).env != env:
            raise BadTask(f"`{self.task}` is not a game of {env}; name one of that environment, or leave `task` out")
        offer = {"kind": "written", "env": env, "task": filed, "text": self.text, "tags": self.tags}
        return _new(offer, source)


class Note(Request):
    """Keep what somebody said in a chat that is served, in the namespace that the server has for them, unless it is
    known. What was forgotten by a person is known, and stays forgotten."""

    kind: str = Field(max_length=NAME_LIMIT)
    text: str
    namespace: str = Field(max_length=NAME_LIMIT)

    def check(self) -> None:
        _new(self._offer, CHATS)

    def apply(self, database: Database, by: str, config: LabConfig) -> Outcome:
        return _kept(database, _new(self._offer, by), by, self.namespace, config.source_quota)

    @property
    def _offer(self) -> dict[str, Any]:
        return {"kind": self.kind, "env": CHAT, "task": CHAT, "text": self.text}


class Drop(Request):
    """Take a reflection of the lab's own namespace out of use, as clients may."""

    id: str = Field(min_length=1, max_length=NAME_LIMIT)

    def apply(self, database: Database, by: str, config: LabConfig) -> Outcome:
        id = database.reflections.full_id(self.id, config.namespace)
        with database.operations.record("forgotten", f"{id} by {by}") as number:
            done = Mending(database, config.namespace).apply("forget", [id])
        return _mended(done).model_copy(update={"id": id, "operation": database.operations.id_of(number)})


_KINDS: dict[str, type[Request]] = {"mend": Mend, "edit": Edit, "undo": Undo, "add": Add, "drop": Drop, "note": Note}
_PERSONS, _CLIENTS, _CHATS = ("mend", "edit", "undo"), ("add", "drop"), ("note",)
"""What a person can ask for, what a client of the memory server, what is asked for one whose chat is served."""

Refusal = errors.MemoryStoreError | AgentLabError


def verb_of(request: Request) -> str:
    """By what name it stands in the inbox."""
    return next(verb for verb, kind in _KINDS.items() if type(request) is kind)


def payload_of(request: Request) -> str:
    """What stands in the inbox of it."""
    return json.dumps(request.model_dump())


def request_of(entry: Entry) -> Request:
    """What a row of the inbox asks for. Raises BadRequest where that is nothing that who asks may ask for."""
    by = entry.asked_by
    allowed: tuple[str, ...]
    if by.startswith(CLIENTS) and by == client(by.removeprefix(CLIENTS)):
        allowed = _CLIENTS
    elif by.startswith(CHATS) and by == chatting(by.removeprefix(CHATS)):
        allowed = _CHATS
    elif by in (CLI, SCREEN):
        allowed = _PERSONS
    else:
        _refuse(f"nobody is called '{name(by, CLIENT_LIMIT)}' who could ask for something")
    if entry.verb not in allowed:
        _refuse(f"'{name(entry.verb, CLIENT_LIMIT)}' is nothing that {by} can ask for")
    if entry.payload is None:
        _refuse("it is too long")
    try:
        said = parsed(entry.payload)
        json.dumps(said, ensure_ascii=False).encode()  # halves of characters, which no database takes
        return _KINDS[entry.verb].model_validate(said)
    except UnicodeEncodeError:
        _refuse("it is no UTF-8 text")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        _refuse(f"{name(where, CLIENT_LIMIT) or 'it'}: {first['msg'].lower()}")
    except ValueError as error:
        _refuse(str(error))


def _refuse(why: str) -> NoReturn:
    raise BadRequest(f"This is not done ({why}); ask anew with a command, a screen or a client.")


def _new(offer: dict[str, Any], source: str) -> Reflection:
    """What is kept of a text that somebody outside wrote. Raises InvalidReflection."""
    id = content_id("r", source, offer["env"], offer["task"], clean(offer["text"]))
    try:
        return admitted(offer, id=id, source=source, at=now())
    except ValueError as error:
        raise errors.InvalidReflection(
            "The reflection has neither text nor advice; there is nothing to remember in it."
        ) from error


def _kept(database: Database, new: Reflection, by: str, namespace: str, quota: int) -> Outcome:
    """Keep it, unless the same is known there."""
    ids = database.reflections.with_text(new.text, new.env, namespace)
    # What was added under this id may say something else by now.
    own = database.reflections.own_id(new.id, namespace)
    if not ids and database.reflections.has(own):
        ids = [own]
    if ids:
        return Outcome(line=f"{ids[0]} says so already.", id=ids[0])
    with database.operations.record("remembered", f"{new.id} by {by}") as number:
        ids = remember(database, [new], namespace=namespace, limit=quota)
    operation = database.operations.id_of(number)
    return Outcome(line=f"Added {ids[0]}.", operation=operation, id=ids[0], changed=1)


def _mended(done: Mended) -> Outcome:
    id = done.changed[0].id if done.changed else ""
    return Outcome(line=done.line, operation=done.operation, id=id, changed=len(done.changed))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
