"""What episodes show, in a form that can be compared: which kinds of actions were used, and what they brought.

From this the grounded rule finder proposes operations on rules without a model: what the winner of a task used and
its loser left out speaks for a rule, what both or only losers used speaks against it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memory.consolidation.voting import MOST_OPERATIONS, Operation, Rule
from memory.records import Episode

PREPOSITIONS = frozenset(
    ("at", "from", "in", "into", "of", "off", "on", "onto", "out", "over", "to", "under", "up", "with")
)
_QUOTED = re.compile(r"Games were (won|lost) with '(.+)'\.")


@dataclass(frozen=True, slots=True)
class Trace:
    """One episode: the gain of each kind of action that did something, and the kinds that did harm.

    An action did something if it changed the state or the score, or told what neither state nor goal had said: a look
    around does nothing, a read note does.
    """

    used: dict[str, float]
    harmful: tuple[str, ...] = ()


def verb_template(action: str) -> str:
    """The kind of an action: its verb and prepositions, everything else an ellipsis (`put … in …`)."""
    verb, *rest = action.lower().split() or [""]
    kept: list[str] = []
    for word in rest:
        if word in PREPOSITIONS:
            kept.append(word)
        elif kept[-1:] != ["…"]:
            kept.append("…")
    return " ".join([verb, *kept])


def trace(episode: Episode) -> Trace:
    """What an episode shows. Harmful is what lowered the score, and the last action of a lost game."""
    used: dict[str, float] = {}
    harmful: list[str] = []
    for step in episode.admissible_steps:
        template = verb_template(step.action)
        told = _words(step.result) - _words(step.state) - _words(episode.goal) - _words(step.action)
        if step.state != step.next_state or step.reward or told:
            used[template] = used.get(template, 0.0) + max(0.0, step.reward)
        if step.reward < 0:
            harmful.append(template)
    if episode.status == "lost" and episode.admissible_steps:
        harmful.append(verb_template(episode.admissible_steps[-1].action))
    return Trace(used, tuple(dict.fromkeys(harmful)))


def won_with(template: str) -> str:
    """The rule that speaks for a kind of action."""
    return f"Games were won with '{template}'."


def lost_with(template: str) -> str:
    """The rule that speaks against a kind of action."""
    return f"Games were lost with '{template}'."


def compare(winner: Trace, loser: Trace, rules: Sequence[Rule]) -> list[Operation]:
    """Operations from a success and a failure at one task; of new rules those that gained most come first."""
    better = {template: gain for template, gain in winner.used.items() if template not in loser.used}
    worse = [template for template in loser.harmful if template not in winner.used]
    spoken_for = [won_with(template) for template in sorted(better, key=lambda template: -better[template])]
    spoken_for += [lost_with(template) for template in worse]
    refuted = [won_with(template) for template in loser.used if template not in winner.used]
    refuted += [lost_with(template) for template in winner.used]
    return _operations(rules, spoken_for, refuted)


def compare_successes(winners: Sequence[Trace], rules: Sequence[Rule]) -> list[Operation]:
    """Operations from successes at several tasks.

    A rule is agreed with if most of them followed it, and taken a vote from if none did (or, where it speaks against
    something, if most did that). New rules come from what raised the score in every one of them.
    """
    counts: dict[str, int] = {}
    for winner in winners:
        for template in winner.used:
            counts[template] = counts.get(template, 0) + 1
    agreed, refuted = [], []
    for rule in rules:
        if found := _QUOTED.fullmatch(rule.text):
            outcome, template = found.groups()
            most = 2 * counts.get(template, 0) > len(winners)
            if outcome == "won" and most:
                agreed.append(rule.text)
            elif (outcome == "won" and template not in counts) or (outcome == "lost" and most):
                refuted.append(rule.text)
    gained = [
        template
        for template in (winners[0].used if winners else ())
        if all(winner.used.get(template, 0.0) > 0 for winner in winners)
    ]
    return _operations(rules, dict.fromkeys([*agreed, *map(won_with, gained)]), refuted)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _operations(rules: Sequence[Rule], spoken_for: Iterable[str], refuted: Iterable[str]) -> list[Operation]:
    places = {rule.text: place for place, rule in enumerate(rules)}
    removed = [Operation("REMOVE", places[text]) for text in refuted if text in places]
    agreed, added = [], []
    for text in spoken_for:
        if text in places:
            agreed.append(Operation("AGREE", places[text]))
        else:
            added.append(Operation("ADD", None, text))
    return [*removed, *agreed, *added[:MOST_OPERATIONS]]
