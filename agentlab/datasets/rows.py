"""Episodes and pairs of them as rows: what each config says of one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from memory import prompts
from memory.prompts import Message, Prompting
from memory.records import Episode, Step

if TYPE_CHECKING:
    from trainers.data import Preference

Row = dict[str, Any]

_PLAIN = (
    "id", "env", "split", "seed", "trial", "run", "arm", "engine", "adapter", "prompt", "temperature", "goal", "hints",
    "status", "won", "score", "token_ids", "started_at", "seconds", "error", "error_kind", "minimised_from",
    "relabelled_from",
)  # fmt: skip
_PLAIN_STEP = (
    "observation", "note", "thought", "action", "invalid", "result", "reward", "score", "logprob", "scores", "bonus",
    "token_ids", "logprobs",
)  # fmt: skip


def episode_row(
    episode: Episode, recalled: Sequence[Mapping[str, str]], trained: Sequence[Mapping[str, str | None]]
) -> Row:
    """All that is known of an episode, as it was played; `recalled` are the reflections that served it, `trained` the
    adapters that learned from it."""
    return {
        **{name: getattr(episode, name) for name in _PLAIN},
        "task": episode.task_id,
        "reward": math.fsum(step.reward for step in episode.steps),
        "messages": _plain(prompts.messages(episode)),
        "steps": [_step(step) for step in episode.steps],
        "own_mask": own_mask(episode),
        "usage": episode.usage.model_dump(),
        "recalled": recalled,
        "trained": trained,
    }


def _step(step: Step) -> Row:
    return {**{name: getattr(step, name) for name in _PLAIN_STEP}, "commands": step.admissible}


def own_mask(episode: Episode) -> list[int]:
    """1 for each token of an episode that the agent chose, 0 for all others."""
    mask = [0] * len(episode.token_ids)
    for start, end in episode.action_spans:
        mask[start:end] = [1] * (end - start)
    return mask


def taught_mask(episode: Episode) -> list[int] | None:
    """The same without actions that were not admissible; None where it is not known which tokens are those."""
    mask = own_mask(episode)
    if not any(step.invalid for step in episode.steps):
        return mask
    turns = [list(places) for own, places in groupby(range(len(mask)), mask.__getitem__) if own]
    if len(turns) != len(episode.steps):
        return None
    for step, places in zip(episode.steps, turns, strict=True):
        for place in places:
            mask[place] = int(not step.invalid)
    return mask


def messages_row(episode: Episode) -> Row | None:
    """A win as messages, without what memory said in its prompt, as a round teaches it.

    None if one of its actions was not admissible: which of its messages are taught cannot be said.
    """
    if any(step.invalid for step in episode.steps):
        return None
    return {"messages": _plain(prompts.messages(spoken(episode), with_hints=False)), **_origin(episode)}


def spoken(episode: Episode) -> Episode:
    """An episode as messages can teach it: with thoughts where it has one in every step, else its commands alone, since
    an empty place would teach to think nothing."""
    thinks = Prompting.named(episode.prompt).thought and all(step.thought.strip() for step in episode.steps)
    return episode.model_copy(update={"prompt": Prompting(chat=True, thought=thinks).name})


def tokens_row(episode: Episode) -> Row | None:
    """A win as the tokens that the model saw and chose. None if they are not known, or not which of them to teach."""
    mask = taught_mask(episode)
    if mask is None or not any(mask):
        return None
    return {
        "input_ids": episode.token_ids,
        "assistant_masks": mask,
        "engine": episode.engine,
        "adapter": episode.adapter,
        "with_memory": bool(episode.hints.strip() or any(step.note for step in episode.steps)),
        **_origin(episode),
    }


def pair_row(pair: Preference) -> Row | None:
    """A preference as the step at which both episodes part, behind what they share: two answers to one prompt.

    What comes later is left out: whoever trains on messages takes the game's words in an answer for the agent's own.
    None if the better step was not admissible, or both say the same.
    """
    better, worse, shared = pair.better, pair.worse, pair.shared
    last, other = better.steps[shared], worse.steps[shared]
    thinks = (
        Prompting.named(better.prompt).thought
        and all(step.thought.strip() for step in better.steps[: shared + 1])
        and bool(other.thought.strip())
    )
    prompting = Prompting(chat=True, thought=thinks)
    begun = better.model_copy(update={"steps": better.steps[: shared + 1], "prompt": prompting.name})
    *prompt, chosen = prompts.messages(begun, with_hints=False)
    said = "".join(prompts.answer(other.action, other.thought, prompting=prompting))
    if last.invalid or chosen.text == said:
        return None
    return {
        "prompt": _plain(prompt),
        "chosen": _plain([chosen]),
        "rejected": _plain([Message("assistant", said)]),
        "task": better.task_id,
        "env": better.env,
        "better": better.id,
        "worse": worse.id,
        "shared": shared,
        "weight": pair.weight,
    }


def _plain(messages: Iterable[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.text} for message in messages]


def _origin(episode: Episode) -> Row:
    return {
        "episode": episode.id,
        "task": episode.task_id,
        "env": episode.env,
        "trial": episode.trial,
        "score": episode.score,
    }
