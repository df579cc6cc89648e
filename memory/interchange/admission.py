"""The one way by which a reflection comes in from outside: from a file, another tool, or a client.

What comes in is data, and claims nothing for itself. Its types are checked, its texts normalised and quoted, its
numbers bounded; and it gets an id, a source and a moment of its own here. Nothing that it says of its own standing is
taken over: no pin, importance, status, tier, vote, credit, recall, link, version, lineage or evidence, no word that an
environment's score stands behind it, no id that could take the place of what is here or will be. When it was written
stays as a tag that a person can read.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator

from memory.records import Advice, Reflection, Status
from memory.text import jsonlines, moments
from memory.text.cleaning import CONTEXT_LIMIT, TAG_LIMIT, clean, name
from memory.text.quoting import quoted, quoted_line

NAME_LIMIT = 200
"""Characters of a name: of a kind, an environment, a task, a source, an action."""
TAGS = 20
FACTS = 500
"""How many tags, and how many pieces of advice, one item may bring."""
WRITTEN = "written:"
"""How the tag begins that says when the item was written, by its own account."""
STATED = ("kind", "env", "task", "goal", "text", "context", "advice", "tags")
"""What an item may state."""

# What the tags of our own reflectors say of an episode and its judges, which are not here.
_CLAIMS = ("by:", "arm:", "critic:", "judge:", WRITTEN)
_ENDS = frozenset(get_args(Status))


class _Fact(BaseModel):
    """Advice as it is offered: the experience of another lab, which counts as one look here."""

    model_config = ConfigDict(extra="ignore")

    state: str
    action: str
    visits: FiniteFloat = 0
    no_effect: FiniteFloat = 0
    negative: FiniteFloat = 0
    lost: FiniteFloat = 0
    blame: FiniteFloat = 0
    value: FiniteFloat = 0

    def admitted(self) -> Advice:
        counts = {name: int(getattr(self, name) > 0) for name in ("visits", "no_effect", "negative", "lost")}
        shares = {name: min(1.0, max(0.0, getattr(self, name))) for name in ("blame", "value")}
        return Advice(state=clean(self.state), action=quoted_line(self.action, NAME_LIMIT), **counts, **shares)


class _Offer(BaseModel):
    """What is offered, with the right types. Whatever else it says is ignored."""

    model_config = ConfigDict(extra="ignore")

    text: str = ""
    kind: str = ""
    env: str = ""
    task: str = ""
    goal: str = ""
    context: str = ""
    tags: list[str | int | float] = Field(default_factory=list)
    advice: list[_Fact] = Field(default_factory=list)

    @field_validator("tags", "advice", mode="before")
    @classmethod
    def _few(cls, value: Any) -> Any:
        """No more than are kept; a column of a table holds them as JSON."""
        found = jsonlines.parsed(value.encode("utf-8", "replace")) if isinstance(value, str) else value
        return found[:FACTS] if isinstance(found, list) else found


def admitted(offer: Mapping[str, Any], *, id: str, source: str, at: str, namespace: str = "") -> Reflection:
    """The reflection that is made of an offer: a mapping with fields of `Reflection`, of which only `STATED` count.

    Args:
        id: which it gets here. A caller makes it so that it cannot be one of the agent's own.
        source: who brought it, as this lab knows them.
        at: the present moment, as it is stored: when it came in.
        namespace: whose memory it belongs to.

    Raises ValueError (of which pydantic's errors are) if something has another type, or nothing is left to remember.
    """
    said = _Offer.model_validate(dict(offer))
    text = quoted(said.text)
    advice = [fact for fact in (item.admitted() for item in said.advice) if fact.state and fact.action]
    if not text and not advice:
        raise ValueError("it has no text")
    return Reflection(
        id=id,
        kind=name(said.kind, NAME_LIMIT) or "note",
        env=name(said.env, NAME_LIMIT),
        task=name(said.task, NAME_LIMIT),
        goal=quoted_line(said.goal),
        text=text,
        context=quoted_line(said.context, CONTEXT_LIMIT),
        advice=advice,
        tags=_tags([str(tag) for tag in said.tags], offer.get("created_at"), at),
        oracle=False,
        source=name(source, NAME_LIMIT),
        namespace=name(namespace, NAME_LIMIT),
        created_at=at,
        updated_at=at,
    )


def _tags(tags: list[str], written: Any, at: str) -> list[str]:
    named = dict.fromkeys(name(tag, TAG_LIMIT) for tag in tags)
    kept = [tag for tag in named if tag and tag not in _ENDS and not tag.startswith(_CLAIMS)][:TAGS]
    moment = moment_of(written)
    # A day that has not come is no date at all.
    return [*kept, f"{WRITTEN}{moment[:10]}"] if moment and moment <= at else kept


def moment_of(value: Any) -> str | None:
    """A time as it is stored, from ISO 8601, a `datetime` (without a zone: UTC) or seconds since 1970; else None."""
    try:
        if isinstance(value, (int, float)):
            value = datetime.fromtimestamp(value, UTC)
        elif isinstance(value, str):
            value = datetime.fromisoformat(value.strip())
        elif isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        if not isinstance(value, datetime):
            return None
        return moments.stored((value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat())
    except (TypeError, ValueError, OverflowError, OSError):
        return None
