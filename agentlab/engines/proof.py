"""What a model has to show when it is loaded: that it scores through slots and trees as it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from agentlab.engines.base import Likelihood, Scorer, ScoreRequest, Tokenizing
from agentlab.engines.cached import CachedConversation
from agentlab.engines.passes import Passes
from agentlab.errors import UnsupportedModel
from trainers.training import LAYER_KINDS, ran_out

COMMANDS = ("open door", "open the window")
SCENE = "You see a door, and a window. "

UNFIT = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What a model may raise that is read in a way that it does not know."""


class Local(Scorer, Tokenizing, Likelihood, Protocol):
    """An engine whose model is here."""

    def conversation(self, goal: str) -> CachedConversation:
        """Start one episode."""
        ...


def prove(engine: Local, passes: Passes, model: Any) -> None:
    """Raise UnsupportedModel unless tree passes score as plain passes do, in a short conversation and a full one.

    Models with recurrent states, with positions that follow from the mask, or with windows that count places in the
    cache, would score something else without saying so. One that only scores otherwise beside others is read alone.
    """
    window, most = passes.window or 0, engine.context // 2
    try:
        if passes.kinds - LAYER_KINDS:
            raise ValueError(f"it has layers of {', '.join(sorted(passes.kinds - LAYER_KINDS))}")
        long, short = engine.conversation("Find the coin."), engine.conversation("Find the coin.")
        long.observe(SCENE * (min(window, most) // max(len(engine.tokenize(SCENE)), 1) + 1))
        _agree(engine, passes, [long])
        for talk in (long, short):
            if talk.turns:
                talk.act(COMMANDS[0])
            talk.observe("The door is shut.")
        try:
            _agree(engine, passes, [long, short])
        except UNFIT as error:
            if not passes.at_once or ran_out(error):
                raise
            passes.at_once = False
            _agree(engine, passes, [long, short])
        for talk in (long, short):
            talk.close()
        with torch.inference_mode():
            prove_reach(engine, passes, model)
    except UNFIT as error:
        if ran_out(error):
            raise
        reason = " ".join(str(error).split())[:160]
        raise UnsupportedModel(
            f"{engine.name} cannot be scored through a token tree ({reason}); use a decoder-only model that attends "
            "to keys and values by position, such as those of the Llama family."
        ) from error


def _agree(engine: Local, passes: Passes, talks: Sequence[CachedConversation]) -> None:
    """Raise ValueError unless these conversations, read beside each other, score as by plain passes."""
    tolerance = 0.01 if passes.dtype == torch.float32 else 0.75
    for talk, scores in zip(talks, engine.score([ScoreRequest(talk, COMMANDS) for talk in talks]), strict=True):
        for command, score in zip(COMMANDS, scores.logprobs, strict=True):
            ids = [*talk.token_ids, *talk.command_tokens(command)]
            plain = engine.logprob(ids, [(len(talk.token_ids), len(ids))])
            if not abs(score - plain) <= tolerance:
                raise ValueError(f"{score:.2f} instead of {plain:.2f}")


def prove_reach(engine: Local, passes: Passes, model: Any) -> None:
    """Raise ValueError unless, in a full context, a branch behind its siblings reads as it does without them.

    A layer may see less than everything whatever its settings call that. To read a full context would take many
    seconds on a CPU; so keys are those of a short text again and again, and values are drawn so that each counts.
    """
    from transformers import DynamicCache

    branch = engine.command_tokens("open the window")
    own, past = len(branch), (engine.context - len(branch)) // 2
    source, alone, beside = DynamicCache(), DynamicCache(), DynamicCache()
    given = torch.tensor([engine.tokenize(SCENE)], device=passes.device)
    passes.logits(model, 1, input_ids=given, **passes.behind(source))
    drawn = torch.Generator().manual_seed(0)
    rows = torch.randint(given.shape[1], (2 * past,), generator=drawn).to(passes.device)
    for at, layer in enumerate(source.layers):
        keys, values = layer.keys[..., rows, :], layer.values[..., rows, :]
        # Their mean over a context is then about as large as that of values is.
        values = 8 * layer.values.std() * torch.randn(values.shape, generator=drawn).to(values)
        alone.update(keys[..., :past, :], values[..., :past, :], at)
        beside.update(keys, values, at)
    plain = passes.logits(model, own, input_ids=torch.tensor([branch], device=passes.device), **passes.behind(alone))
    visible = torch.ones(own, 2 * past + own, dtype=torch.bool).tril(2 * past)
    visible[:, past : 2 * past] = False
    positions = torch.tensor([*range(2 * past), *range(past, past + own)])
    masks = passes.masks(visible, positions)
    found = passes.forward(model, branch, positions[-own:], masks, beside, own)
    apart = float((plain.log_softmax(-1) - found.log_softmax(-1)).abs().mean())
    if not apart <= (1e-3 if passes.dtype == torch.float32 else 0.3):
        raise ValueError(f"{apart:.2g} nats a token off with {engine.context} tokens")
