"""Episodes as training examples: token ids, and for each token the weight of its loss.

What was played is what is trained: where an episode holds the tokens that the model saw and chose, those are used as
they are. Only an episode that was played without a model, or whose prompt is asked for without what memory said in it
(context distillation, Snell et al. 2022), is tokenised here, piece by piece as `memory.prompts` cuts it.

A thought is taught together with its command. Where nothing was thought, the command alone is: the empty place would
teach the model to think nothing. An action that was not admissible is never taught.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from memory import prompts
from memory.prompts import Prompting
from memory.records import Episode
from trainers.data.chat import ChatTokens, chat_of
from trainers.errors import BadExample, NoChatTemplate, NothingTaught, TooLong

Tokenize = Callable[[str], Sequence[int]]
"""Maps a piece of text to token ids without special tokens. One with `opening` is a Tokenizer."""


class Tokenizer:
    """How a model reads a transcript: piece by piece, without special tokens, behind the tokens in `opening`.

    `opening` is what the model was trained to see before any text: a begin-of-text token (BOS), or nothing. What looks
    like a special token in a piece is read as the characters that it is made of; `rendered` reads a text that a chat
    template made. `chat` is how it reads the messages of a game.
    """

    def __init__(
        self,
        pieces: Tokenize,
        opening: Sequence[int] = (),
        rendered: Tokenize | None = None,
        chat: ChatTokens | NoChatTemplate | None = None,
    ) -> None:
        self._pieces = pieces
        self.opening = tuple(opening)
        self.rendered = rendered or pieces
        self._chat = chat or NoChatTemplate("its tokenizer has no chat template")

    @property
    def has_chat(self) -> bool:
        """Whether a game can be played as a chat."""
        return not isinstance(self._chat, NoChatTemplate)

    @property
    def refusal(self) -> str:
        """Why it cannot; empty where it can."""
        return str(self._chat) if isinstance(self._chat, NoChatTemplate) else ""

    @property
    def chat(self) -> ChatTokens:
        """The messages of a game, as its chat template has them. Raises NoChatTemplate where it has none for that."""
        if isinstance(self._chat, NoChatTemplate):
            raise self._chat
        return self._chat

    @classmethod
    def of(cls, tokenizer: Any) -> Tokenizer:
        """As a tokenizer of transformers reads."""
        own = copy.deepcopy(tokenizer)  # the flag is a state of it that others would see

        def pieces(text: str) -> list[int]:
            return list(own(text, add_special_tokens=False, split_special_tokens=True).input_ids)

        plain, whole = pieces("Task:"), list(tokenizer("Task:").input_ids)
        starts = (at for at in range(len(whole)) if plain and whole[at : at + len(plain)] == plain)
        before = whole[: next(starts, 0)]
        return cls(
            pieces, before, lambda text: tokenizer(text, add_special_tokens=False).input_ids, chat_of(tokenizer, pieces)
        )

    def __call__(self, text: str) -> list[int]:
        return list(self._pieces(text))


def opening(tokenize: Tokenize) -> list[int]:
    """The tokens that stand before any text: a begin-of-text token where the model was trained with one."""
    return list(getattr(tokenize, "opening", ()))


class Example(BaseModel):
    """One sequence to train on. `weights[i]` is the weight of predicting `token_ids[i]`; 0 means no loss.

    Both lists have the same length; the first token is never predicted, so its weight is 0.
    """

    model_config = ConfigDict(extra="forbid")

    token_ids: list[int] = Field(min_length=2)
    weights: list[float]
    episode: str
    task: str

    @model_validator(mode="after")
    def _one_weight_a_token(self) -> Example:
        if len(self.weights) != len(self.token_ids):
            raise ValueError(f"{len(self.token_ids)} tokens need as many weights; got {len(self.weights)}")
        if self.weights[0] != 0:
            raise ValueError("the first token has nothing before it to be predicted from; its weight must be 0")
        return self

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def taught(self) -> Example:
        """What is to become more likely: this example."""
        return self

    @property
    def spans(self) -> list[tuple[int, int]]:
        """The half-open ranges of tokens that carry loss."""
        marked = [index for index, weight in enumerate(self.weights) if weight]
        starts = [i for i in marked if not self.weights[i - 1]]
        ends = [i + 1 for i in marked if i + 1 == len(self.weights) or not self.weights[i + 1]]
        return list(zip(starts, ends, strict=True))


def drop_oldest(turns: Sequence[int], head: int, limit: int) -> int:
    """How many of the oldest turns must go so that head and the remaining turns fit into `limit` tokens.

    `turns` are the lengths of the turns in tokens, oldest first; `head` is the length of the part that always stays
    (task and memory block). The last turn is never dropped: where even it does not fit, `len(turns) - 1` is returned
    and the caller has to decide.
    """
    total = head + sum(turns)
    dropped = 0
    while total > limit and dropped < len(turns) - 1:
        total -= turns[dropped]
        dropped += 1
    return dropped


def drop_unread(
    turns: Sequence[int], head: int, limit: int, pinned: Callable[[int], list[int]], most: int | None = None
) -> tuple[int, list[int]]:
    """How many of the oldest turns must go, as `drop_oldest` says it, and the tokens that stay of them behind the head.

    `pinned` gives these for a number of turns. Nothing stays where it would take a quarter of `most` (None: `limit`),
    which nothing may exceed, or would not fit.
    """
    most = limit if most is None else most
    fewest = dropped = drop_oldest(turns, head, limit)
    if not dropped:
        return 0, []
    while True:
        ids = pinned(dropped)
        more = drop_oldest(turns, head + len(ids), limit)
        if more <= dropped:
            break
        dropped = more
    if not ids or 4 * len(ids) > most or head + len(ids) + sum(turns[dropped:]) > most:
        return fewest, []
    return dropped, ids


def window(
    episode: Episode, head: Sequence[int], turns: Sequence[Sequence[int]], tokenize: Tokenize, max_tokens: int
) -> tuple[list[int], int]:
    """What stands before the turns of an episode that fit: its head, and what was read in those that do not; and how
    many these are, the oldest."""
    found = prompts.readings(episode.goal, episode.steps)

    def pinned(dropped: int) -> list[int]:
        return list(tokenize(prompts.pinned(found[:dropped])))

    dropped, ids = drop_unread([len(turn) for turn in turns], len(head), max_tokens, pinned)
    return [*head, *ids], dropped


def from_episode(
    episode: Episode,
    tokenize: Tokenize,
    *,
    with_hints: bool = False,
    weight: float = 1.0,
    step_weights: Sequence[float] | None = None,
    max_tokens: int = 1024,
) -> Example:
    """The example that teaches the actions of `episode`.

    `tokenize` maps a piece of text to token ids without special tokens. `with_hints` keeps what memory said in the
    prompt, the block and the notes; without it the same actions are taught for the bare prompt. Every token that the
    agent chose gets `weight`, times the weight of its step where `step_weights` gives one for each step, unless the
    action was invalid; all others get 0. A sequence
    longer than `max_tokens` loses its oldest turns, at turn borders; the head stays, and what was read in them.

    Raises BadExample if the episode has no action or weights and steps do not match, NothingTaught if none of its
    actions may be taught, TooLong if its last turn alone does not fit.
    """
    head, turns = cut(episode, tokenize, with_hints=with_hints)
    head, dropped = window(episode, head, [ids for ids, _ in turns], tokenize, max_tokens)
    of_steps = [1.0] * len(turns) if step_weights is None else step_weights
    if len(of_steps) != len(turns):
        raise BadExample(
            f"episode {episode.id} has {len(turns)} steps and {len(of_steps)} step weights; each step needs one; "
            "give a weight a step, 0 for no loss"
        )
    can = teachable(episode, turns)
    if not any(can[dropped:]):
        raise NothingTaught(f"no action of episode {episode.id} was admissible; leave it out")
    weights = [weight * of_step * may for of_step, may in zip(of_steps, can, strict=True)]
    return join(episode, head, turns[dropped:], weights[dropped:], max_tokens=max_tokens)


Turn = tuple[list[int], list[bool]]
"""The tokens of one observation and the action after it, and for each whether the agent chose it."""


def cut(episode: Episode, tokenize: Tokenize, *, with_hints: bool = False) -> tuple[list[int], list[Turn]]:
    """The tokens of an episode's head, and its turns: one a step, each ending with what the agent chose.

    Raises BadExample if the episode has no steps.
    """
    if not episode.steps:
        raise BadExample(f"episode {episode.id} has no steps; there is nothing to learn from it; leave it out")
    return _played(episode, tokenize, with_hints) or _rendered(episode, tokenize, with_hints)


def teachable(episode: Episode, turns: Sequence[Turn]) -> list[float]:
    """1 for each turn whose action may be taught, 0 for one whose action was not admissible."""
    if not any(step.invalid for step in episode.steps):
        return [1.0] * len(turns)
    if len(turns) != len(episode.steps):
        raise BadExample(
            f"which of the {len(turns)} turns of episode {episode.id} were admissible is not known from its "
            f"{len(episode.steps)} steps; leave it out"
        )
    return [float(not step.invalid) for step in episode.steps]


def join(
    episode: Episode, head: Sequence[int], turns: Sequence[Turn], weights: Sequence[float], *, max_tokens: int
) -> Example:
    """The example made of `head` and `turns`, in which the chosen tokens of turn i weigh `weights[i]`.

    Raises TooLong if it is longer than `max_tokens`.
    """
    token_ids = list(head)
    marked = [0.0] * len(token_ids)
    for (ids, chosen), weight in zip(turns, weights, strict=True):
        token_ids += ids
        marked += [weight if mark else 0.0 for mark in chosen]
    if len(token_ids) > max_tokens:
        raise TooLong(
            f"the last turn of episode {episode.id} needs {len(token_ids)} tokens with its task; the limit is "
            f"{max_tokens}; raise max_tokens or leave the episode out"
        )
    return Example(token_ids=token_ids, weights=marked, episode=episode.id, task=episode.task_id)


def command_tokens(command: str, tokenize: Tokenize, episode: Episode) -> list[int]:
    """The tokens of a command as it ends a turn of an episode: its words, then what ends the turn by itself."""
    prompting = Prompting.named(episode.prompt)
    if prompting.chat:
        return _chat(episode, tokenize).said(prompts.answer(command, prompting=prompting)[-1])
    return [*tokenize(prompts.action(command)), *tokenize(prompts.LINE_END)]


def _played(episode: Episode, tokenize: Tokenize, with_hints: bool) -> tuple[list[int], list[Turn]] | None:
    """The tokens as they were played, or None where another rendering is asked for or another tokenizer played."""
    told = episode.hints.strip() or any(step.note for step in episode.steps)
    if not episode.token_ids or not episode.action_spans or (told and not with_hints):
        return None
    expected = _head(episode, tokenize, episode.hints)
    # A begin-of-text token stands before the head where the model that played was trained with one.
    for offset in dict.fromkeys((len(opening(tokenize)), 0, 1)):
        if episode.token_ids[offset : offset + len(expected)] == expected:
            break
    else:
        return None
    chosen = [False] * len(episode.token_ids)
    for start, end in episode.action_spans:
        chosen[start:end] = [True] * (end - start)
    start = offset + len(expected)
    turns: list[Turn] = []
    # A turn ends where chosen tokens are followed by others; what comes after the last choice teaches nothing.
    for i in range(start, len(chosen)):
        if chosen[i] and (i + 1 == len(chosen) or not chosen[i + 1]):
            turns.append((episode.token_ids[start : i + 1], chosen[start : i + 1]))
            start = i + 1
    return episode.token_ids[: offset + len(expected)], turns


def _head(episode: Episode, tokenize: Tokenize, hints: str) -> list[int]:
    """The tokens of the task and its memory block, without what stands before any text of a transcript."""
    prompting = Prompting.named(episode.prompt)
    if prompting.chat:
        return _chat(episode, tokenize).head(episode.goal, hints, prompting)
    return list(tokenize(prompts.head(episode.goal, hints)))


def _chat(episode: Episode, tokenize: Tokenize) -> ChatTokens:
    why = tokenize.refusal if isinstance(tokenize, Tokenizer) else "its tokenizer is not known"
    if why or not isinstance(tokenize, Tokenizer):
        raise BadExample(
            f"episode {episode.id} was played as a chat, and this model cannot read one ({why}); train the model that "
            "played it, or leave it out"
        )
    return tokenize.chat


def _rendered(episode: Episode, tokenize: Tokenize, with_hints: bool) -> tuple[list[int], list[Turn]]:
    """The tokens of the transcript or of the chat, each segment by itself."""
    hints = episode.hints if with_hints else ""
    prompting, head, turns = Prompting.named(episode.prompt), _head(episode, tokenize, hints), list[Turn]()
    if prompting.chat:
        chat = _chat(episode, tokenize)
        for at, step in enumerate(episode.steps):
            note = step.note if with_hints else ""
            seen = chat.turn(prompts.seen(step.observation, step.admissible, note), first=not at)
            answer = prompts.answer(step.action, step.thought, prompting=prompting)
            said = chat.said(*answer)
            silent = len(said) - len(chat.said(answer[-1])) if prompting.thought and not step.thought else 0
            turns.append(([*seen, *said], [False] * (len(seen) + silent) + [True] * (len(said) - silent)))
        return head, turns
    after_choice = True
    for segment in list(prompts.segments(episode, with_hints=with_hints))[1:]:
        ids = list(tokenize(segment.text))
        if not segment.chosen and after_choice:
            turns.append(([], []))
        after_choice = segment.chosen
        turns[-1][0].extend(ids)
        turns[-1][1].extend([segment.chosen] * len(ids))
    return [*opening(tokenize), *head], turns
