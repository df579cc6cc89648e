"""Revisions (Yuan et al. 2025, Agent-R, §3.2): a bad beginning up to its first bad step, then on as a good episode did.

Nothing is believed that was not played: the splice is executed again in the environment. One that does not run is
dropped, and so is one that reaches less than alpha asks of a good trajectory, or is not better than the bad one by
beta; so a low alpha, with which Agent-R begins, admits revisions that come far, and at 1.0 every one of them wins.

Where the model thinks before it acts, the revision thought stands between the bad beginning and the good steps: in it
the actor says that it went wrong, and that is learned too. The other steps keep the thoughts that they had. A model
that ranks commands writes nothing between steps, so its revisions are bare splices: the bad beginning (no loss), then
the good steps (loss).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from agentlab.search.pairs import ALPHA, BETA, Fork, is_good, partings
from agentlab.search.tree import Tree, worth
from agentlab.search.walk import Player, Reading
from memory import prompts
from memory.records import Episode, Step, content_id

Judge = Literal["actor", "tree"]

TURNING = "That was a mistake, so I do something else now."
"""The revision thought, before what was thought of the first good step."""

MARGIN = 1.0
"""By how many nats the actor must prefer another command before it counts as its own verdict."""


@dataclass(frozen=True)
class Revision:
    """An episode that begins badly and recovers: to a win, or to what alpha asked for. `step_weights[i]` multiplies the
    loss of step i: 0 up to the first bad step, which nobody should learn, 1 from there on.

    `good` and `bad` are the ids of the episodes that it was spliced from. It is no success of the agent's, and is not
    to be stored as one: without its weights it would teach its mistake.
    """

    episode: Episode
    step_weights: list[float]
    good: str
    bad: str


def disliked(player: Player, episode: Episode, shared: int, *, margin: float = MARGIN) -> int | None:
    """The first step from `shared` on where the actor finds another command likelier by over `margin` nats; or None.

    The episode is in the player's tree. The actor judges by its own log-probabilities: those that were recorded of the
    episode, else of its moment in the tree, else it is asked now and the tree keeps the answer. Steps that it can say
    nothing about (chance played, and plays) have no verdict. An action that was not admissible is disliked. Raises
    OutOfBudget.
    """
    reading, told = Reading(player, episode.goal), prompts.readings(episode.goal, episode.steps)
    try:
        for step, node, read in zip(episode.steps, player.tree.line(episode), told, strict=False):
            reading.observe(step.observation, node.admissible, read)
            if step.index >= shared:
                if step.invalid:
                    return step.index
                scores = step.all_scores or node.scores or reading.scores(node)
                if scores is not None and max(scores) - scores[step.admissible.index(step.action)] > margin:
                    return step.index
            reading.act(step.action)
    finally:
        reading.close()
    return None


def dropping(tree: Tree, episode: Episode, shared: int, *, drop: float = BETA) -> int | None:
    """The first step from `shared` on after which the best end that the tree knows is worth less, by over `drop`, than
    the best before; or None."""
    line = tree.line(episode)
    return next(
        (at for at in range(shared, len(episode.steps)) if line[shared].best - line[at + 1].best > drop),
        None,
    )


def splices(fork: Fork, at: int) -> Iterator[list[Step]]:
    """Ways to go on after step `at` of the bad episode as the good one did: first from where the good one was last in
    the state that is present now, then from where the two parted."""
    now = fork.bad.steps[at].next_state
    same = [step.index for step in fork.good.steps if step.state == now]
    for start in dict.fromkeys([*same[-1:], fork.shared]):
        yield fork.good.steps[start:]


def revise(player: Player, fork: Fork, at: int, *, alpha: float = ALPHA, beta: float = BETA) -> Revision | None:
    """The bad episode up to its step `at`, the first bad one, continued to an end that is good by `alpha` and worth
    more than the bad one by over `beta`; None if no splice runs that far.

    A game that ends before its splice does is judged by where it ended: the bad beginning has cost steps, so a good
    trajectory that the step limit ended can never be followed to its last.

    Raises OutOfBudget, EnvironmentDied, and ReplayMismatch if the bad beginning does not play out as it was recorded.
    """
    if at + 1 == len(fork.bad.steps):
        return None  # the game ended with it
    begun = fork.bad.steps[: at + 1]
    for splice in splices(fork, at):
        walk = player.walk()
        if not walk.follow([*begun, *splice]):
            continue
        lived = walk.episode()
        if is_good(lived, alpha) and worth(lived) - worth(fork.bad) > beta:
            thoughts = [step.thought for step in (*begun, *splice)]
            if player.prompting is not None and player.prompting.thought:
                thoughts[at + 1] = f"{TURNING} {thoughts[at + 1]}".strip()
            steps = [
                step.model_copy(update={"thought": thought})
                for step, thought in zip(lived.steps, thoughts, strict=False)
            ]
            episode = lived.model_copy(
                update={
                    "id": content_id("ep", fork.bad.id, fork.good.id, "revised", at),
                    "trial": fork.bad.trial,
                    "steps": steps,
                }
            )
            weights = [0.0] * len(begun) + [1.0] * (len(episode.steps) - len(begun))
            return Revision(episode, weights, good=fork.good.id, bad=fork.bad.id)
    return None


def revisions(
    player: Player, *, judge: Judge = "tree", alpha: float = ALPHA, beta: float = BETA, margin: float = MARGIN
) -> Iterator[Revision]:
    """The revisions of the bad ends of the player's tree, the worst first and each bad beginning once.

    Each is spliced with the good one that it left last and, if that comes to nothing, with the best one that it left.
    `judge` says who finds the first bad step: the `actor` by its own log-probabilities, or the `tree` by the drop of
    what can be reached. Raises what `revise` does.
    """
    tree, revised, tried = player.tree, set[tuple[str, ...]](), set[tuple[str, tuple[str, ...]]]()
    # With the worst first, what is not better enough than one bad end is not so for a later one that began alike.
    for bad in sorted(tree.episodes, key=worth):
        left = partings(tree, bad, alpha=alpha, beta=beta)
        partners = [*left[:1], *sorted(left, key=lambda fork: -fork.gap)[:1]]
        for fork in {fork.good.id: fork for fork in partners}.values():
            if judge == "actor":
                at = disliked(player, bad, fork.shared, margin=margin)
            else:
                at = dropping(tree, bad, fork.shared, drop=beta)
            if at is None:
                continue
            begun = tuple(bad.actions[: at + 1])
            if begun in revised:
                break
            if (fork.good.id, begun) in tried:
                continue
            tried.add((fork.good.id, begun))
            revision = revise(player, fork, at, alpha=alpha, beta=beta)
            if revision is not None:
                revised.add(begun)
                yield revision
                break
