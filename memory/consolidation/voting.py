"""Rules that stand by votes (Zhao et al. 2024, ExpeL, §4.2; numbers as in the authors' program).

A new rule has 2 votes. Who agrees with one, or edits it, adds a vote; who would remove one takes a vote away, or three
when the list is full. A rule without votes is dropped, and of more than the list holds the weakest are. The operations
of one look at the evidence are applied in the order REMOVE, AGREE, EDIT, ADD.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, cast

from memory.text.cleaning import clean
from memory.text.quoting import quoted

Verb = Literal["REMOVE", "AGREE", "EDIT", "ADD"]
ORDER: tuple[Verb, ...] = ("REMOVE", "AGREE", "EDIT", "ADD")
ADDED = 2
REMOVED_WHEN_FULL = 3
MOST_OPERATIONS = 4
"""How many operations one look at the evidence may propose, the first ones."""
LENGTHS = range(10, 241)
"""How many characters a written rule may have."""

_LINE = re.compile(r"\s*(?:[-*•]\s+|\d+[.)]\s+)?(ADD|AGREE|EDIT|REMOVE)(?:\s+(\d+))?\s*:\s*(.*?)\s*")
_WORDS = re.compile(r"\b(?:ADD|AGREE|EDIT|REMOVE)\b")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule and its votes. `id` is empty for one that is new; a pinned one is never edited nor dropped."""

    text: str
    votes: int = ADDED
    id: str = ""
    pinned: bool = False


class Operation(NamedTuple):
    """What to do with the rule at `place` (from 0; None for ADD); `text` is the new wording for EDIT and ADD."""

    verb: Verb
    place: int | None = None
    text: str = ""


def vote(rules: Sequence[Rule], operations: Sequence[Operation], most: int = 20) -> list[Rule]:
    """The rules after `operations`, those with the most votes first; of equal ones the earlier first."""
    after = list(rules)
    loss = REMOVED_WHEN_FULL if len(after) >= most else 1
    for verb in ORDER:
        for operation in (_sensible(item, after) for item in operations):
            if operation is None or operation.verb != verb:
                continue
            if operation.place is None:
                after.append(Rule(operation.text))
                continue
            rule = after[operation.place]
            match verb:
                case "REMOVE":
                    after[operation.place] = replace(rule, votes=rule.votes - loss)
                case "AGREE":
                    after[operation.place] = replace(rule, votes=rule.votes + 1)
                case _:
                    text = rule.text if rule.pinned else operation.text
                    after[operation.place] = replace(rule, votes=rule.votes + 1, text=text)
    ordered = sorted((rule for rule in after if rule.votes > 0 or rule.pinned), key=lambda rule: -rule.votes)
    return [rule for place, rule in enumerate(ordered) if place < most or rule.pinned]


def parse(text: str, rules: Sequence[Rule]) -> list[Operation]:
    """The operations that a model wrote, one a line, as `VERB NUMBER: RULE`; every line that is not one is dropped.

    Rules are numbered from 1. AGREE and REMOVE must quote a rule that there is: if the words and the number do not
    fit, the words count. A new wording must be one whole sentence of a rule's length.
    """
    known = {_plain(rule.text): place for place, rule in enumerate(rules)}
    found: list[Operation] = []
    for line in clean(text).splitlines():
        parts = _LINE.fullmatch(line)
        if parts is None:
            continue
        verb, number, said = cast(Verb, parts[1]), parts[2], quoted(parts[3])
        if verb in ("AGREE", "REMOVE"):
            place = known.get(_plain(said))
            operation = None if place is None else Operation(verb, place)
        elif len(said) not in LENGTHS or not said.endswith((".", "!")) or _WORDS.search(said):
            operation = None
        elif verb == "ADD":
            operation = Operation("ADD", None, said)
        else:
            operation = Operation("EDIT", int(number) - 1, said) if number else None
        operation = operation and _sensible(operation, rules)
        if operation is not None and operation not in found:
            found.append(operation)
    return found[:MOST_OPERATIONS]


def _sensible(operation: Operation, rules: Sequence[Rule]) -> Operation | None:
    """The operation, or None if there is no such rule or it adds what is there; an edit into a known rule agrees."""
    verb, place, text = operation
    known = {_plain(rule.text): number for number, rule in enumerate(rules)}
    if verb == "ADD":
        return None if _plain(text) in known else operation
    if place is None or not 0 <= place < len(rules):
        return None
    if verb == "EDIT" and _plain(text) in known:
        return Operation("AGREE", known[_plain(text)])
    return operation


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
