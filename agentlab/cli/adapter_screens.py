"""`agentlab adapters show` and `diff`: all that is known of one adapter on a screen, and two beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentlab.cli import output
from agentlab.cli.options import DEFAULT_LAB, Json, LabFolder, opened
from agentlab.cli.scoreboard import short_names

if TYPE_CHECKING:
    from agentlab.views.adapters import Traced
    from trainers.adapters import AdapterRecord, Change, Difference, Distance, Use
    from trainers.gate import GateResult, Paired
    from trainers.training import Canary

Id = Annotated[str, typer.Argument(help="An adapter's id, or its beginning where that is unique.")]

WIDTH = 80
MOST = 5
"""So many reflections and uses are named on the screen; --json has all."""

SETTINGS = ("rank", "alpha", "learning_rate", "batch_size", "epochs", "dropout", "targets")


def show(adapter: Id, lab: LabFolder = DEFAULT_LAB, json: Json = False) -> None:
    """Show one adapter on a screen: what it was made from, how it was trained, what the gate said, where it played.

    With --json nothing is shortened: every episode and reflection by its id.
    """
    from agentlab.views.adapters import traced

    with opened(lab) as here:
        found = traced(here, adapter)
    if json:
        data = found.model_dump(mode="json")
        output.as_json(data.pop("record") | data)
        return
    record = found.record
    output.say(f"{record.id}  {record.status}{', serves now' if found.serving else ''}", "bold")
    output.facts(_facts(found), width=WIDTH)
    _gate("Gate", record.gate)
    if found.uses:
        output.say("")
        rows = [(use.run, use.kind, _arm(use, record), use.split, str(use.result)) for use in found.uses[:MOST]]
        _table(("used in", "", "arm", "fold", "won at first tries [95 %]"), rows, left=4)
    if len(found.uses) > MOST:
        output.say(f"… and {len(found.uses) - MOST} more (--json has all)")


def _facts(found: Traced) -> list[tuple[str, object]]:
    record, ran = found.record, found.record.training
    versions = [f"{name} {version}" for name, version in ran.get("versions", {}).items()]
    code = [f"agentlab {record.lineage.code_version}" if record.lineage.code_version else "", *versions]
    settings = [f"{name} {_value(record.settings[name])}" for name in SETTINGS if name in record.settings]
    return [
        ("base", f"{Path(record.base).name}, weights {record.fingerprint[:12]}"),
        ("made", f"{output.ago(record.created_at)}, in {record.lineage.round or 'no round'}"),
        ("agent", str(record.lineage.member) if record.lineage.member else None),
        ("merged from", str(record.lineage.merge) if record.lineage.merge else None),
        ("parent", record.parent or (None if record.lineage.merge else "none; the base served")),
        ("replaced", _replaced(found.changes, record)),
        ("forced", "promoted without a passed gate" if record.forced else None),
        ("episodes", _episodes(record.lineage.episodes, found.episodes) or "none are recorded"),
        ("KL to the base", _episodes(record.lineage.kl_episodes, found.kl_episodes)),
        ("reflections", _reflections(found.reflections)),
        ("code", ", ".join(part for part in code if part)),
        ("seeds", record.lineage.seeds),
        ("objective", record.settings.get("objective")),
        ("settings", ", ".join(settings)),
        ("training", _training(ran)),
        ("canary", _sung(found.canary)),
        ("weights", record.weights and f"SHA-256 {record.weights[:12]}… in {record.path}"),
    ]


def _replaced(changes: Sequence[Change], record: AdapterRecord) -> str:
    """What served before it was promoted, and what came after it was taken back."""
    changed = []
    for change in changes:
        if change.serving == record.id and change.event == "promoted":
            changed.append(f"{change.before or 'the base'} on {output.ago(change.at)}")
        elif change.before == record.id:
            how = "replaced by" if change.event == "promoted" else "rolled back to"
            changed.append(f"{how} {change.serving or 'the base'} on {output.ago(change.at)}")
    return "; ".join(changed)


def _episodes(ids: Sequence[str], here: Mapping[str, Sequence[str]]) -> str:
    lost = len(ids) - sum(map(len, here.values()))
    parts = _counts(here) + ([f"no longer here {lost:,}"] if lost else [])
    return f"{len(ids):,}: {', '.join(parts)}" if ids else ""


def _reflections(counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    recalled = {id: count for id, count in counts.items() if count}
    asked = [id for id, count in counts.items() if not count]
    parts = []
    if recalled:
        first = ", ".join(f"{id} ({count})" for id, count in list(recalled.items())[:MOST])
        parts.append(f"{len(recalled):,} recalled in these (in so many): {first}{_rest(recalled)}")
    if asked:
        parts.append(f"{len(asked):,} taught by questions: {', '.join(asked[:MOST])}{_rest(asked)}")
    return "; ".join(parts)


def _rest(named: Sized) -> str:
    return ", … (--json has all)" if len(named) > MOST else ""


def _training(ran: Mapping[str, Any]) -> str:
    if not ran:
        return ""
    loss = f"; loss {ran['first_loss']:.3f} → {ran['last_loss']:.3f}" if "first_loss" in ran else ""
    killed = f", resumed {ran['resumed']}×" if ran.get("resumed") else ""
    return (
        f"{ran['examples']:,} examples, {ran['steps']:,} steps, {ran['tokens']:,} tokens ({ran['chosen_tokens']:,} "
        f"with loss) in {ran['seconds']:.0f} s on {ran['device']} in {ran['dtype']}{killed}{loss}"
    )


def _sung(canary: Canary | None) -> str:
    if canary is None:
        return "missing; this adapter cannot be loaded"
    tokens = sum(end - start for start, end in canary.spans)
    telling = "" if canary.discriminates else "; cannot tell the adapter from the base"
    return (
        f"{canary.adapter_logprob:.1f} ± {canary.tolerance:.1f} nats over {tokens} tokens, the base "
        f"{canary.base_logprob:.1f}{telling}"
    )


def _arm(use: Use, record: AdapterRecord) -> str:
    """The arm without the adapter's own name, which stands above."""
    return use.arm.replace(record.id, "").strip() or "adapter"


def _gate(title: str, gate: GateResult | None) -> None:
    output.say("")
    output.say(title, "bold")
    if gate is None:
        output.say("  was not evaluated at a gate")
        return
    output.console(width=WIDTH).print(output.text(f"{'passed' if gate.promote else 'not passed'}: {gate.reason}"))
    names = short_names(list(gate.envs))
    rows = [_pair(names[env], part) for env, part in gate.envs.items()] + [_pair("all", gate.paired)]
    _table(("held-out game", "n", "adapter", "incumbent", "difference [95 %]", "p (McNemar)"), rows)


def _pair(game: str, part: Paired) -> tuple[str, ...]:
    from trainers.gate import p_text

    low, high = part.interval
    n = max(part.n, 1)
    rates = f"{(part.both + part.only_a) / n:.2f}", f"{(part.both + part.only_b) / n:.2f}"
    return game, str(part.n), *rates, f"{part.difference:+.2f} [{low:+.2f}, {high:+.2f}]", p_text(part.p)


def diff(
    a: Annotated[str, typer.Argument(help="An adapter's id, or its beginning where that is unique.")],
    b: Annotated[str, typer.Argument(help="Another one's.")],
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Show two adapters beside each other: settings, episodes, gates, and how far their weights lie apart.

    With --json every episode has its id.
    """
    from trainers.adapters import difference, distances

    with opened(lab) as here:
        found = difference(here.adapters, a, b)
        apart = distances(*(here.adapters.folder_of(record.id) for record in (found.a, found.b)))
    if json:
        output.as_json(found.model_dump(mode="json") | {"weights": apart})
        return
    for side, record in (("A", found.a), ("B", found.b)):
        output.say(f"{side}  {record.id}  {record.status}, {record.lineage.round or 'no round'}", "bold")
    _settings(found)
    for title, sides in (("episodes", found), ("KL to the base", found.kl_episodes)):
        parts = (("only in A", sides.only_a), ("only in B", sides.only_b), ("in both", sides.both))
        rows = [(name, str(sum(map(len, part.values()))), ", ".join(_counts(part))) for name, part in parts]
        if sides is found or any(part for _, part in parts):
            output.say("")
            _table((title, "", "by environment"), rows, left=3)
    for side, record in (("A", found.a), ("B", found.b)):
        _gate(f"Gate of {side}", record.gate)
    output.say("")
    _table(("weights", "layers", "‖ΔA‖", "‖ΔB‖", "‖ΔA − ΔB‖ / ‖ΔA‖", "cosine"), [_row(one) for one in apart])


def _settings(found: Difference) -> None:
    output.say("")
    if not found.settings:
        output.say("Made with the same settings.")
        return
    rows = [(name.replace("_", " "), _value(one), _value(other)) for name, (one, other) in found.settings.items()]
    _table(("settings that differ", "A", "B"), rows, left=3)


def _row(one: Distance) -> tuple[str, ...]:
    relative, cosine = ("–" if value is None else f"{value:.3f}" for value in (one.relative, one.cosine))
    return one.group, str(one.layers), f"{one.norm_a:.3g}", f"{one.norm_b:.3g}", relative, cosine


def _counts(episodes: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"{env} {len(ids):,}" for env, ids in episodes.items()]


def _value(value: object) -> str:
    """A setting as a person writes it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(inner)}" for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> None:
    grid = output.grid(titles, left)
    for row in rows:
        grid.add_row(*(output.text(output.one_line(cell)) for cell in row))
    # Into a pipe too: what is wider is wrapped here.
    output.console(width=WIDTH).print(grid)
