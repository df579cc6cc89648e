"""One reflection whole: what it says and why, what became of it, what it changed, and which adapters learned it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from pydantic import BaseModel

from agentlab.views.memories import Effect, MemoryRow, effect, rows
from agentlab.views.standings import credit, kept, measured
from agentlab.workspace.workspace import Workspace
from memory.errors import UnknownEpisode
from memory.records import Advice, Evidence, Link, Recall, Reflection
from memory.store import MENDED, Change, Database, History, Operation, Version, evidence, family, wording
from memory.text import clean

SOURCES = 12
"""The steps of so many episodes that it rests on are shown; of the others their ids."""

RECALLS = 50
"""Recalls of a page."""

MOST_KIN = 200
"""What it rests on is looked for in so many of those that are counted with it."""

VERSIONS = 50
"""So many versions are shown, the newest."""

LINKS = 50
"""So many links are shown, the strongest."""

MEMBERS = 50
"""So many reflections that are counted with it are named."""


class SourceStep(BaseModel):
    """A step that a reflection rests on."""

    index: int
    action: str
    result: str


class Source(BaseModel):
    """An episode that a reflection rests on; `kept` says whether it is here, without which nothing else is known."""

    episode: str
    kept: bool = False
    task: str = ""
    trial: int = 0
    status: str = ""
    steps: list[SourceStep] = []


class Piece(BaseModel):
    """A part of a text that stayed (` `), went (`-`) or came (`+`)."""

    mark: str
    text: str


class Field(BaseModel):
    """A property that a change gave another value."""

    name: str
    before: str
    after: str


class VersionLine(BaseModel):
    """A version of a reflection: what was done to it, in which operation, and what is otherwise since."""

    version: int
    at: str
    change: str
    operation: str | None
    reason: str
    undone: bool
    fields: list[Field]
    text: list[Piece]


class LinkLine(BaseModel):
    """A link to or from a reflection, and what stands at its other end."""

    kind: str
    other: str
    outward: bool
    weight: float
    at: str
    text: str


class EnvEffect(BaseModel):
    """What a reflection changes in one environment."""

    env: str
    uplift: Effect


class RecallLine(BaseModel):
    """A reflection chosen for an episode; `won` is None until that has ended, `step` None for its beginning."""

    at: str
    episode: str
    env: str
    channel: str
    rank: int
    score: float
    held_out: bool
    won: bool | None
    step: int | None
    query: str
    reflection: str


class MemoryItem(BaseModel):
    """A reflection, whole. `members` are counted with it, `total` is how many recalls there are of all of them.

    Long lists are cut: `sources`, `links` (the strongest), `members`, and `versions` (the newest).
    """

    row: MemoryRow
    text: str
    wording: str
    goal: str
    context: str
    topic: str
    run: str
    namespace: str
    changed: str
    oracle: bool
    votes: int
    derived_from: list[str]
    merged_into: str | None
    advice: list[Advice]
    sources: list[Source]
    more_sources: list[str]
    versions: list[VersionLine]
    links: list[LinkLine]
    more_links: int
    effects: list[EnvEffect]
    recalls: list[RecallLine]
    offset: int
    total: int
    members: list[str]
    more_members: int


def memory_item(workspace: Workspace, id: str, *, offset: int = 0) -> MemoryItem:
    """All that is known of one reflection. Raises UnknownReflection."""
    database = workspace.database
    item = database.reflections.get(id)
    # However many are counted with it, its next pages do not look for them again.
    mark = item.id, measured(workspace), workspace.database.episodes.newest()
    members, rests_on, effects = kept(workspace, "item", mark, lambda: _hanging(workspace, item))
    links = database.links.of(item.id)
    return MemoryItem(
        row=rows(workspace, [item])[0],
        text=item.text,
        wording=wording(item.text),
        goal=item.goal,
        context=item.context,
        topic=item.topic,
        run=item.run,
        namespace=item.namespace,
        changed=item.updated_at,
        oracle=item.oracle,
        votes=item.votes,
        derived_from=item.derived_from,
        merged_into=item.merged_into,
        advice=item.advice,
        sources=[_source(database, one.episode, one.steps) for one in rests_on[:SOURCES]],
        more_sources=[one.episode for one in rests_on[SOURCES:]],
        versions=_versions(database, item),
        links=[_link(database, link, item.id) for link in links[:LINKS]],
        more_links=max(0, len(links) - LINKS),
        effects=effects,
        recalls=[_recall(one) for one in database.recalls.page(members, RECALLS, offset)],
        offset=offset,
        total=database.recalls.count_of(members),
        members=members[1 : MEMBERS + 1],
        more_members=max(0, len(members) - 1 - MEMBERS),
    )


def pieces(before: str, after: str) -> list[Piece]:
    """How one text became another, word by word; empty if it did not change."""
    if before == after:
        return []
    old, new = _words(before), _words(after)
    found: list[Piece] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            found.append(Piece(mark=" ", text="".join(old[a:b])))
        else:
            found += [Piece(mark="-", text="".join(old[a:b]))] if a < b else []
            found += [Piece(mark="+", text="".join(new[c:d]))] if c < d else []
    return found


def changed_fields(change: Change) -> list[Field]:
    """What a change gave another value, but for the text."""
    return [Field(name=name, before=_value(a), after=_value(b)) for name, (a, b) in change.fields().items()]


def _words(text: str) -> list[str]:
    """The words of a text, each with the blanks after it; of a long one its lines, which are compared sooner."""
    if len(text) > 4000:
        return text.splitlines(keepends=True)
    parts: list[str] = []
    for line in text.splitlines(keepends=True):
        parts += [f"{word} " for word in line.split(" ")[:-1]] + [line.rpartition(" ")[2]]
    return parts


def _value(value: object) -> str:
    if isinstance(value, list):
        whole = all(isinstance(one, str) for one in value)
        return ", ".join(value) or "none" if whole else f"{len(value)} record{'' if len(value) == 1 else 's'}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in (None, "") else str(value)


def _source(database: Database, id: str, steps: Sequence[int]) -> Source:
    try:
        episode = database.episodes.load([id])[0]
    except UnknownEpisode:
        return Source(episode=id)
    shown = [
        SourceStep(index=step.index, action=step.action, result=step.result)
        for step in episode.steps
        if step.index in steps
    ]
    return Source(
        episode=id, kept=True, task=episode.task_id, trial=episode.trial, status=episode.status, steps=shown
    )  # fmt: skip


def _versions(database: Database, item: Reflection) -> list[VersionLine]:
    past: list[tuple[Version, Change]] = History(database).versions(item.id, VERSIONS)
    named = database.operations.by_number([version.operation for version, _ in past if version.operation is not None])
    found = []
    for version, change in past:
        operation = named.get(version.operation or 0)
        before = change.before.text if change.before else version.reflection.text
        found.append(
            VersionLine(
                version=version.version,
                at=version.at,
                change=version.change,
                operation=operation.id if operation else None,
                reason=reason_of(operation),
                undone=operation.undone if operation else False,
                fields=changed_fields(change),
                text=pieces(before, version.reflection.text),
            )
        )
    return found


def reason_of(operation: Operation | None) -> str:
    """Why a person changed something; empty where nobody said."""
    return operation.detail.partition(": ")[2] if operation is not None and operation.name in MENDED else ""


def _link(database: Database, link: Link, id: str) -> LinkLine:
    outward = link.source == id
    other = link.target if outward else link.source
    found = database.reflections.get(other).text if database.reflections.has(other) else ""
    return LinkLine(
        kind=link.kind, other=other, outward=outward, weight=link.weight, at=link.at, text=clean(found)
    )  # fmt: skip


def _hanging(workspace: Workspace, item: Reflection) -> tuple[list[str], list[Evidence], list[EnvEffect]]:
    """All that counts for it, what that rests on, and what it changes in each environment."""
    database = workspace.database
    members = family(database.connection, [item.id])[item.id]
    return members, evidence(database, [item], most=MOST_KIN)[item.id], _effects(workspace, item.id)


def _effects(workspace: Workspace, id: str) -> list[EnvEffect]:
    return [EnvEffect(env=env, uplift=effect(one)) for env, one in credit(workspace).by_env(id).items()]


def _recall(one: Recall) -> RecallLine:
    return RecallLine(**{name: getattr(one, name) for name in RecallLine.model_fields})
