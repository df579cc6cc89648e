"""`agentlab memory show` and `stats`: all that is known of one reflection, and the health of them all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Annotated

import typer

from agentlab.cli import output
from agentlab.cli.memory import Id, ranges
from agentlab.cli.options import DEFAULT_LAB, MOST, Json, LabFolder, Namespace, opened
from agentlab.cli.output import Column

if TYPE_CHECKING:
    from memory import Advice, Detail, Recall, Reflection
    from memory.consolidation import Health, IndexHealth
    from memory.records import Link
    from trainers.adapters import Taught

MOST_STATES = 12
"""Advice on so many states is shown on a screen."""
MOST_SOURCES = 12
"""So are the steps of so many episodes."""
PROBATION = "only some train games may recall it, until it is measured to help (`agentlab memory vouch` ends that)"
ROOMY = 110
"""From this width on there is room for what each recall was asked with."""


def show(
    reflection: Id,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=MOST, help="At most this many recalls, the newest.")
    ] = 100,
    namespace: Namespace = None,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Show one reflection whole: text, effect, advice, source steps, versions, links, and every recall with its result.

    With --json nothing is shortened.
    """
    from memory.consolidation import uplift_line
    from trainers.adapters import learned_from

    with opened(lab, namespace=namespace) as here:
        detail = here.memory.show(reflection)
        id = detail.reflection.id
        links = here.database.links.of(id)
        effect = uplift_line(here.memory, id)
        measured = here.memory.credit.uplift(id)
        taught = learned_from(here.adapters, [detail.reflection]).get(id, [])
    if json:
        more = {"links": links, "uplift": measured, "adapters": taught}
        output.as_json(output.row_of(detail) | more | {"on_probation": detail.reflection.on_probation})
        return
    _head(detail, effect, taught)
    _advice(detail.reflection.advice)
    _sources(detail)
    _section("Versions", _versions(detail))
    if links:
        _section("Links", [_link(link, id) for link in links])
    _recalls(detail.recalls, id, limit)


def _head(detail: Detail, effect: str, taught: Sequence[Taught]) -> None:
    from memory.store import with_tally

    item = detail.reflection
    output.say(f"{item.id}  {item.kind}, {item.env}", "bold")
    output.say("")
    _paragraph(with_tally(item, detail.tally))
    output.say("")
    served = {recall.episode: recall.won for recall in detail.recalls if not recall.held_out}
    ended = [won for won in served.values() if won is not None]
    held_out = len({recall.episode for recall in detail.recalls} - served.keys())
    merged = {recall.reflection for recall in detail.recalls} - {item.id}
    output.facts(
        [
            ("context", item.context),
            ("task", item.task),
            ("goal", item.goal),
            ("status", item.status),
            ("counted with" if item.status == "repeated" else "merged into", item.merged_into),
            ("pinned", item.pinned),
            ("importance", item.importance),
            ("tags", item.tags),
            ("tier", item.tier),
            ("votes", item.votes or None),
            ("derived from", item.derived_from),
            ("namespace", item.namespace),
            ("source", item.source or "the agent"),
            ("on probation", PROBATION if item.on_probation else None),
            ("feedback", "the environment's own score" if item.oracle else "no oracle"),
            ("run", item.run),
            ("written", output.ago(item.created_at)),
            ("changed", output.ago(item.updated_at) if len(detail.versions) > 1 else None),
            ("uplift", effect),
            (
                "in the weights of",
                [_taught(one) for one in taught]
                or "no adapter: none was trained on an episode that it served or was read off",
            ),
            (
                "recalled",
                f"served {_many(len(served), 'episode')}, won {sum(ended)} of {len(ended)} ended; "
                f"held out from {held_out}" + (f", with {_many(len(merged), 'item')} merged into it" if merged else ""),
            ),
        ]
    )


def _taught(one: Taught) -> str:
    serving = "which serves" if one.serving else one.status
    how = [
        f"{count} {what}"
        for count, what in ((one.served, "that it served"), (one.read_off, "it was read off"))
        if count
    ]
    return f"{one.adapter} ({serving}; trained on episodes: {', '.join(how)})"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _paragraph(text: str, style: str = "") -> None:
    """`text`, wrapped at words to the width there is."""
    output.console().print(output.text(text, style))


def _section(title: str, rows: Sequence[Sequence[str]], empty: str = "") -> None:
    """A title in bold, more lines of it plain, and rows of cells, of which the last wraps; `empty` instead of none."""
    from rich.table import Table

    output.say("")
    name, *more = title.split("\n")
    _paragraph(name, "bold")
    for line in more:
        _paragraph(line)
    if not rows:
        if empty:
            output.say(f"  {empty}")
        return
    table = Table.grid(padding=(0, 2), pad_edge=False)
    last = len(rows[0]) - 1
    for place in range(last + 1):
        table.add_column(no_wrap=place < last, overflow="fold", ratio=None if place < last else 1)
    for row in rows:
        cells = [output.one_line(cell) for cell in row]
        table.add_row(*(output.text(f"  {cell}" if not n else cell, _style(cell)) for n, cell in enumerate(cells)))
    output.console().print(table)


def _style(cell: str) -> str:
    return output.STYLES.get(cell, "")


# What it advises, and where from


def _advice(advice: Iterable[Advice]) -> None:
    states: dict[str, list[Advice]] = {}
    for entry in advice:
        states.setdefault(entry.state, []).append(entry)
    shown = list(states.items())[:MOST_STATES]
    for number, (state, entries) in enumerate(shown):
        title = f"in: {output.one_line(state, 150)}"
        _section(title if number else f"Advice\n{title}", [(entry.action, _worth(entry)) for entry in entries])
    if len(states) > len(shown):
        _section(f"Advice on {len(states) - len(shown)} more states is shown by --json.", [])


def _worth(entry: Advice) -> str:
    parts = [f"tried {entry.visits}×", f"worth {entry.value:.2f}"]
    parts += [
        f"{words} {count}×"
        for words, count in (("no effect", entry.no_effect), ("lost score", entry.negative), ("lost", entry.lost))
        if count
    ]
    return ", ".join([*parts, f"blame {entry.blame:.2f}"] if entry.blame else parts)


def _sources(detail: Detail) -> None:
    for shown in detail.evidence[:MOST_SOURCES]:
        title = f"Source: {shown.id}" + (f" (steps {ranges(shown.indices)})" if shown.indices else "")
        if shown.episode is None:
            _section(title, [], "This episode is not kept here.")
            continue
        _section(
            f"{title}, {shown.episode.task_id}, trial {shown.episode.trial}, {shown.episode.status}",
            [(str(step.index), f"> {step.action}", output.one_line(step.result, 160)) for step in shown.steps],
            "`agentlab replay` plays it again.",
        )
    if len(detail.evidence) > MOST_SOURCES:
        _section(f"{len(detail.evidence) - MOST_SOURCES} more sources are shown by --json.", [])


# What became of it


def _versions(detail: Detail) -> list[tuple[str, str, str, str]]:
    rows = []
    before: Reflection | None = None
    for version in detail.versions:
        what = "as first written" if before is None else difference(before, version.reflection)
        rows.append((str(version.version), output.ago(version.at), version.change, what))
        before = version.reflection
    return rows


def difference(before: Reflection, after: Reflection) -> str:
    """What is otherwise in `after`, field by field; of a text the words that went `[-so-]` and came `{+so+}`."""
    parts = []
    for name in type(after).model_fields:
        old, new = getattr(before, name), getattr(after, name)
        if old == new or name == "updated_at":
            continue
        if name in ("text", "context", "goal"):
            parts.append(f"{name}: {word_difference(old, new)}")
        elif name in ("advice", "evidence"):
            parts.append(f"{name}: {len(old)} → {len(new)} entries")
        elif isinstance(new, list):
            changes = [f"[-{item}-]" for item in old if item not in new]
            changes += [f"{{+{item}+}}" for item in new if item not in old]
            parts.append(f"{name}: {' '.join(changes)}")
        else:
            cell = Column(name).cell
            parts.append(f"{name}: {cell(old) or 'none'} → {cell(new) or 'none'}")
    return "; ".join(parts) or "nothing"


def word_difference(before: str, after: str, context: int = 4) -> str:
    """The words that went `[-so-]` and came `{+so+}`, with `context` words around each change."""
    old, new = before.split(), after.split()
    parts = []
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            first, last = (0 if a == 0 else context), (0 if b == len(old) else context)
            same = old[a:b]
            if len(same) > first + last + 1:
                same = [*same[:first], "…", *same[len(same) - last :]]
            parts += same
            continue
        if a < b:
            parts.append(f"[-{' '.join(old[a:b])}-]")
        if c < d:
            parts.append(f"{{+{' '.join(new[c:d])}+}}")
    return " ".join(parts)


def _link(link: Link, id: str) -> tuple[str, str, str, str]:
    way, other = ("→", link.target) if link.source == id else ("←", link.source)
    return way, other, link.kind, f"weight {link.weight:.2f}, {output.ago(link.at)}"


def _recalls(recalls: Sequence[Recall], id: str, limit: int) -> None:
    roomy = output.console().width >= ROOMY
    rows = []
    for recall in recalls[-limit:]:
        how = f"{recall.channel} #{recall.rank + 1}, {recall.score:.2f}"
        if recall.reflection != id:
            how += f", as {recall.reflection}"
        if roomy:
            how += f", asked: {output.one_line(recall.query, 120)}"
        served = "held out" if recall.held_out else "served"
        rows.append((output.ago(recall.at), recall.episode, served, _result(recall.won), how))
    if not rows:
        _section("Recalls", [], "Never recalled.")
        return
    title = "Recalls: when, episode, served or not, its result, channel with rank and score"
    if len(rows) < len(recalls):
        title += f"\nThe newest {len(rows):,} of {len(recalls):,}; --limit shows more."
    _section(title, rows)


def _result(won: bool | None) -> str:
    return "not ended" if won is None else "won" if won else "not won"


# All of them


def stats(lab: LabFolder = DEFAULT_LAB, json: Json = False) -> None:
    """Show the health of the memory: what it holds, repeats, never served, what harms, and what it costs."""
    from memory.consolidation import health

    with opened(lab) as here:
        found = health(here.memory)
    if json:
        output.as_json(found)
        return
    output.facts(
        [
            ("items", f"{found.items:,}{': ' if found.items else ''}{_counts(found.statuses)}"),
            ("tiers", _counts(found.tiers)),
            ("kinds", _counts(found.kinds)),
            ("environments", _counts(found.envs)),
            ("sources", _counts({source or "the agent": count for source, count in found.sources.items()})),
            ("pinned", f"{found.pinned:,}"),
            *_worries(found),
            ("prompt", _prompt(found)),
            ("held out", _holding_out(found)),
            (
                "index",
                f"{found.index.file}: {_search(found.index)}, {_many(found.index.items, 'vector')}, "
                f"{_size(found.index.bytes) if found.index.bytes else 'not written yet'}",
            ),
            ("database", _size(found.database_bytes)),
        ]
    )


def _counts(counts: Mapping[str, int], most: int = 12) -> str:
    shown = [f"{name} {count:,}" for name, count in list(counts.items())[:most]]
    return ", ".join([*shown, f"and {len(counts) - most} more"] if len(counts) > most else shown)


def _worries(found: Health) -> list[tuple[str, str]]:
    repeats, active = found.repeats, found.statuses.get("active", 0)
    of = f"{repeats.examined:,}" + ("" if repeats.examined == repeats.items else f" sampled from {repeats.items:,}")
    harmful = ", ".join([*found.harmful[:5], *(["…"] if len(found.harmful) > 5 else [])])
    return [
        ("duplicates", f"{repeats.exact:,} exact"),
        (
            "near-duplicates",
            f"{repeats.near:,} of {of} ({_share(repeats.near, repeats.examined)}) would be merged by `agentlab memory "
            f"consolidate` (cosine ≥ {repeats.cosine:g})",
        ),
        ("never recalled", f"{found.never_recalled:,} of {active:,} active ({_share(found.never_recalled, active)})"),
        ("benched", f"{found.statuses.get('benched', 0):,}"),
        ("harmful", f"{len(found.harmful):,}{' (uplift below 0): ' if harmful else ''}{harmful}"),
    ]


def _prompt(found: Health) -> str:
    prompt = found.prompt
    if not prompt.tokens:
        return "no episodes of a model yet"
    which = "all" if prompt.episodes == prompt.played else f"the newest {prompt.episodes:,} of"
    return (
        f"the memory block takes about {prompt.share:.1%} of the tokens ({which} {_many(prompt.played, 'episode')}, "
        f"{prompt.with_block:,} with a block)"
    )


def _holding_out(found: Health) -> str:
    cost = found.holding_out
    if not cost.recalls:
        return "no recalls yet"
    if not cost.held_out:
        return f"none of {_many(cost.recalls, 'recall')} held out"
    return (
        f"{cost.held_out:,} of {_many(cost.recalls, 'recall')} held out ({_share(cost.held_out, cost.recalls)}); cost "
        f"about {cost.lost:.1f} of {_many(cost.episodes, 'episode')}"
    )


def _search(index: IndexHealth) -> str:
    if index.kind == "flat":
        return f"flat, exact (a graph above {index.threshold:,})"
    return f"{index.kind}, measured recall@10 {index.recall:.3f}" if index.recall is not None else index.kind


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "0%"


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"
