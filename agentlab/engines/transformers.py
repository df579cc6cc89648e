"""The local engine: a Hugging Face causal language model, scored through a token tree."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from agentlab.engines.adapted import AdaptedModels
from agentlab.engines.answering import answer
from agentlab.engines.base import Adapter, ScoreRequest, Scores, Turn, TurnRequest, WriteRequest, Writing
from agentlab.engines.conversation import CachedConversation, PromptSetting, resolved
from agentlab.engines.dropout import dropped
from agentlab.engines.writing import write_turn
from agentlab.errors import ContextExceeded, ModelTooLarge, UnsupportedModel
from memory import prompts
from memory.prompts import Prompting
from memory.records import Usage
from trainers.data import Tokenizer
from trainers.objectives import TokenTree, parts
from trainers.training import Canary, ran_out

LOGITS = 2**26
"""Logits of one forward pass, at most: 256 MiB in float32. Where a vocabulary needs more, commands go in parts."""

ATTENTION = {"full_attention", "sliding_attention"}
"""Kinds of layers whose masks and caches are known here."""


def best_dtype(device: str) -> torch.dtype:
    """bfloat16 where the processor computes in it, float32 elsewhere (bf16 is emulated slowly on older CPUs)."""
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return torch.bfloat16 if supported else torch.float32


def _dtype(dtype: torch.dtype | str) -> torch.dtype:
    return dtype if isinstance(dtype, torch.dtype) else {"bfloat16": torch.bfloat16, "float32": torch.float32}[dtype]


class TransformersEngine:
    """Scores all admissible commands of a step in one forward pass over the new tokens only.

    `folder` holds a transformers model and its tokenizer. `context` bounds the tokens of a conversation (default: the
    model's own window, at most 2,048). `prompt` is how it reads a game: as a `transcript`, as a `chat` in its own
    template, or by `auto` as a chat where whoever plays asks for one. Adapters share the base's weights.

    Raises BadModel if the folder is not whole, UnsupportedModel if the model cannot be scored through a token tree,
    ModelTooLarge where memory runs out over it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "",
        device: str | None = None,
        dtype: torch.dtype | str = "auto",
        context: int | None = None,
        threads: int | None = None,
        prompt: PromptSetting = "auto",
    ) -> None:
        from agentlab.engines.model_folder import check

        if threads:
            torch.set_num_threads(threads)
        self.folder = Path(folder)
        self.name = name or self.folder.name
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = best_dtype(self.device) if dtype == "auto" else _dtype(dtype)
        config, self.tokenizer = check(self.folder)
        self.tokenize = Tokenizer.of(self.tokenizer)
        self.prompt = prompt
        if prompt == "chat" and not self.tokenize.has_chat:
            raise UnsupportedModel(f"{self.name} cannot play as a chat: {self.tokenize.refusal}.")
        self.context = min(context or 2048, int(getattr(config, "max_position_embeddings", None) or 2048))
        self._lock = threading.RLock()
        self._tokens: dict[str, list[int]] = {}
        with _fitting(self.name, self.device):
            self._models = AdaptedModels(self.folder, self.device, self.dtype)
        settings = self._models.base.config.get_text_config(decoder=True)
        self._vocabulary = int(settings.vocab_size)
        self._kinds = set(getattr(settings, "layer_types", None) or ())
        self._window = getattr(settings, "sliding_window", None) if self._kinds != {"full_attention"} else None
        # Renamed in transformers 5.24.
        names = inspect.signature(self._models.base.forward).parameters
        self._cache_name = "cache" if "cache" in names else "past_key_values"
        with _fitting(self.name, self.device):
            self._prove_tree()

    # -- models and adapters ---------------------------------------------------------------------------------------

    def weights(self, adapter: Adapter | None = None) -> Any:
        """The weights that play: the base, or the base with an adapter on it, which is loaded if need be."""
        with self._lock:
            if adapter is None:
                return self._models.base
            return self._models.model(adapter.id, adapter.folder, partial(self._prove, adapter))

    def load(self, adapter: Adapter) -> None:
        """Have an adapter ready. Its canary must show, whenever it is loaded, that it is on.

        Raises BadAdapter, CanaryFailed (trainers.errors) if the weights in its folder do not score as was recorded,
        ModelTooLarge where memory runs out over it.
        """
        with _fitting(f"{self.name} with {adapter.id}", self.device):
            self.weights(adapter)

    def _prove(self, adapter: Adapter, model: Any) -> None:
        recorded = Canary.load(adapter.folder / "canary.json")
        recorded.check(self._logprob(model, recorded.token_ids, recorded.spans))

    def _prove_tree(self) -> None:
        """Raise UnsupportedModel unless tree passes score as plain passes do, in a short conversation and a full one.

        Models with recurrent states, with positions that follow from the mask, or with windows that count places in the
        cache, would score something else without saying so.
        """
        commands, tolerance = ["open door", "open the window"], 0.01 if self.dtype == torch.float32 else 0.75
        scene = "You see a door, and a window. "
        window, most = self._window or 0, self.context // 2
        try:
            if self._kinds - ATTENTION:
                raise ValueError(f"it has layers of {', '.join(sorted(self._kinds - ATTENTION))}")
            conversation = self.conversation("Find the coin.")
            for begun in (scene * (min(window, most) // max(len(self.tokenize(scene)), 1) + 1), "The door is shut."):
                conversation.observe(begun)
                for command, score in zip(commands, self._score(conversation, commands).logprobs, strict=True):
                    ids = [*conversation.token_ids, *self.command_tokens(command)]
                    plain = self.logprob(ids, [(len(conversation.token_ids), len(ids))])
                    if not abs(score - plain) <= tolerance:
                        raise ValueError(f"{score:.2f} instead of {plain:.2f}")
                conversation.act(commands[0])
            self._prove_reach(scene)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            if ran_out(error):
                raise
            reason = " ".join(str(error).split())[:160]
            raise UnsupportedModel(
                f"{self.name} cannot be scored through a token tree ({reason}); use a decoder-only model that attends "
                "to keys and values by position, such as those of the Llama family."
            ) from error

    @torch.inference_mode()
    def _prove_reach(self, text: str) -> None:
        """Raise ValueError unless, in a full context, a branch behind its siblings reads as it does without them.

        A layer may see less than everything whatever its settings call that. To read a full context would take many
        seconds on a CPU; so keys are those of a short text again and again, and values are drawn so that each counts.
        """
        from transformers import DynamicCache

        branch, asked = self.command_tokens("open the window"), {"use_cache": True}
        own, past = len(branch), (self.context - len(branch)) // 2
        source, alone, beside = DynamicCache(), DynamicCache(), DynamicCache()
        given = torch.tensor([self.tokenize(text)], device=self.device)
        _logits(self._models.base, 1, input_ids=given, **asked, **{self._cache_name: source})
        drawn = torch.Generator().manual_seed(0)
        rows = torch.randint(given.shape[1], (2 * past,), generator=drawn).to(self.device)
        for at, layer in enumerate(source.layers):
            keys, values = layer.keys[..., rows, :], layer.values[..., rows, :]
            # Their mean over a context is then about as large as that of values is.
            values = 8 * layer.values.std() * torch.randn(values.shape, generator=drawn).to(values)
            alone.update(keys[..., :past, :], values[..., :past, :], at)
            beside.update(keys, values, at)
        given = torch.tensor([branch], device=self.device)
        plain = _logits(self._models.base, own, input_ids=given, **asked, **{self._cache_name: alone})
        allowed = torch.ones(own, 2 * past + own, dtype=torch.bool).tril(2 * past)
        allowed[:, past : 2 * past] = False
        positions = torch.tensor([*range(2 * past), *range(past, past + own)])
        found = self._read(self._models.base, branch, beside, allowed, positions, own)
        apart = float((plain.log_softmax(-1) - found.log_softmax(-1)).abs().mean())
        if not apart <= (1e-3 if self.dtype == torch.float32 else 0.3):
            raise ValueError(f"{apart:.2g} nats a token off with {self.context} tokens")

    def logprob(
        self, token_ids: Sequence[int], spans: Sequence[tuple[int, int]], adapter: Adapter | None = None
    ) -> float:
        """Summed log-probability of the tokens in `spans` (half-open, in `token_ids`), given all before them."""
        return self._logprob(self.weights(adapter), token_ids, spans)

    def _logprob(self, model: Any, token_ids: Sequence[int], spans: Sequence[tuple[int, int]]) -> float:
        with self._lock, torch.inference_mode():
            ids = torch.tensor([list(token_ids)], device=self.device)
            at = [place for start, end in spans for place in range(start, end)]
            chosen = torch.tensor(at, dtype=torch.long, device=self.device)
            logits = _logits(model, chosen - 1, input_ids=ids)
            log_probabilities = torch.log_softmax(logits, dim=-1)
            return float(log_probabilities.gather(1, ids[0, chosen, None]).double().sum())

    def logprob_with_dropout(
        self, token_ids: Sequence[int], spans: Sequence[tuple[int, int]], *, probability: float, seed: int
    ) -> float:
        """`logprob` of the base, by a pass with dropout on what each layer hands on (`agentlab.engines.dropout`)."""
        with self._lock, dropped(self._models.base, probability, seed):
            return self.logprob(token_ids, spans)

    # -- tokens ----------------------------------------------------------------------------------------------------

    def command_tokens(self, command: str) -> list[int]:
        """Token ids of a command as an action: its words, then its line end as a segment of its own."""
        ids = self._tokens.get(command)
        if ids is None:
            ids = [*self.tokenize(prompts.action(command)), *self.tokenize(prompts.LINE_END)]
            self._tokens[command] = ids
        return ids

    # -- scoring ---------------------------------------------------------------------------------------------------

    def conversation(self, goal: str, hints: str = "", prompting: Prompting | None = None) -> CachedConversation:
        """Start one episode. Raises ContextExceeded if its head leaves no room for a game."""
        return CachedConversation(self, goal, hints, resolved(self.prompt, self.tokenize, prompting))

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """Log-probability of each command and its line end, a request in one forward pass or, of very many, in a few.

        Raises ContextExceeded if a command is longer than what is left of the context.
        """
        scores = []
        for request in requests:
            assert isinstance(request.conversation, CachedConversation), "made by `conversation`"
            scores.append(self._score(request.conversation, request.commands, request.adapter))
        return scores

    def _score(
        self, conversation: CachedConversation, candidates: Sequence[str], adapter: Adapter | None = None
    ) -> Scores:
        commands = [conversation.command_tokens(command) for command in candidates]
        longest, room = max(map(len, commands), default=0), conversation.remaining()
        if longest > room:
            raise ContextExceeded(
                f"A command has {longest} tokens, and {room} of the context of {self.context} are left beside the task "
                "and what was last observed; raise `context` in lab.toml."
            )
        scores, read = [0.0] * len(commands), 0
        with self._lock, torch.inference_mode():
            most = min(room, max(LOGITS // self._vocabulary, 1))
            trees = [(part, TokenTree.of([commands[at] for at in part])) for part in parts(commands, most)]
            conversation.make_room(max((len(tree) for _, tree in trees), default=0))
            for part, tree in trees:
                logprobs, tokens = self._tree_pass(conversation, tree, adapter)
                read += tokens
                for at, score in zip(part, tree.sums(logprobs), strict=True):
                    scores[at] = score
        return Scores(scores, Usage(input_tokens=read))

    def _tree_pass(
        self, conversation: CachedConversation, tree: TokenTree, adapter: Adapter | None
    ) -> tuple[torch.Tensor, int]:
        """Log-probabilities (1 + nodes, vocabulary), float32, at the conversation's end and at every node; and how many
        tokens were read for them."""
        conversation.open_cache(adapter)
        past, fresh, nodes = len(conversation.seen), len(conversation.pending), len(tree)
        total = past + fresh
        allowed = torch.zeros(fresh + nodes, total + nodes, dtype=torch.bool)
        allowed[:, :past] = True
        allowed[:fresh, past:total] = torch.ones(fresh, fresh, dtype=torch.bool).tril()
        allowed[fresh:, past:total] = True
        allowed[fresh:, total:] = tree.visible()
        positions = torch.tensor([*range(total), *(total + depth for depth in tree.depths)])
        tokens = [*conversation.pending, *tree.tokens]
        logits = self._read(self.weights(adapter), tokens, conversation.cache, allowed, positions, 1 + nodes)
        if nodes:
            conversation.cache.crop(-nodes)
        conversation.seen.extend(conversation.pending)
        conversation.pending = []
        return torch.log_softmax(logits, dim=-1), len(tokens)

    def _read(
        self,
        model: Any,
        tokens: Sequence[int],
        cache: Any,
        allowed: torch.Tensor,
        positions: torch.Tensor,
        last: int,
    ) -> torch.Tensor:
        """Logits (last, vocabulary) of `tokens` behind what `cache` holds; the rest is as for `_masks`."""
        return _logits(
            model,
            last,
            input_ids=torch.tensor([tokens], device=self.device),
            attention_mask=self._masks(allowed, positions),
            position_ids=positions[None, -len(tokens) :].to(self.device),
            use_cache=True,
            **{self._cache_name: cache},
        )

    def _masks(self, allowed: torch.Tensor, positions: torch.Tensor) -> Any:
        """Additive masks (1, 1, queries, keys) by kind of layer, or one for all, of what is `allowed` (queries, keys).

        `positions` are those of the keys; the queries are the last of them.
        """
        kinds = self._kinds or {"sliding_attention" if self._window else "full_attention"}
        masks = {}
        for kind in kinds:
            seen = allowed
            if kind == "sliding_attention" and self._window:
                seen = allowed & (positions[-len(allowed) :, None] - positions[None] < self._window)
            mask = torch.zeros(seen.shape, dtype=self.dtype).masked_fill_(~seen, torch.finfo(self.dtype).min)
            masks[kind] = mask[None, None].to(self.device)
        return masks if "sliding_attention" in self._kinds else next(iter(masks.values()))

    # -- turns -----------------------------------------------------------------------------------------------------

    def write_turns(self, requests: Sequence[TurnRequest]) -> list[Turn]:
        """The agent's next turns, each held to its admissible commands (`agentlab.engines.writing`).

        Raises ContextExceeded if what is to be written does not fit into what is left of the context.
        """
        return [self._write_turn(request) for request in requests]

    def _write_turn(self, request: TurnRequest) -> Turn:
        conversation = request.conversation
        assert isinstance(conversation, CachedConversation), "made by `conversation`"
        extra = conversation.objection(request.refused, request.objection) if request.objection else []
        lengths = [len(conversation.command_tokens(one)) for one in request.commands or ()]
        needed = len(extra) + request.think + max([*lengths, request.max_tokens]) + sum(map(len, conversation.marks))
        if needed > conversation.remaining():
            raise ContextExceeded(
                f"A turn may take {needed} tokens, and {conversation.remaining()} of the context of {self.context} are "
                "left beside the task and what was last observed; raise `context` in lab.toml, or think less."
            )
        model = self.weights(request.adapter)
        with self._lock, torch.inference_mode():
            conversation.make_room(needed)
            conversation.open_cache(request.adapter)
            read = len(conversation.pending) + len(extra)

            def further(tokens: Sequence[int]) -> torch.Tensor:
                past = conversation.cache.get_seq_length()
                total = past + len(tokens)
                allowed = torch.ones(len(tokens), total, dtype=torch.bool).tril(past)
                return self._read(model, tokens, conversation.cache, allowed, torch.arange(total), 1)[0]

            ahead = further(conversation.pending)
            conversation.seen.extend(conversation.pending)
            conversation.pending = []
            kept = len(conversation.seen)
            try:
                turn = write_turn(request, further, further(extra) if extra else ahead, self.tokenizer)
            finally:
                conversation.cache.crop(kept - conversation.cache.get_seq_length())
        return replace(turn, usage=turn.usage + Usage(input_tokens=read))

    # -- text ------------------------------------------------------------------------------------------------------

    def write(self, requests: Sequence[WriteRequest]) -> list[Writing]:
        """Answers to messages of a user, through the tokenizer's chat template where it has one.

        The tags of thoughts stay, also that which the template has opened, so that `memory.text` can tell them.
        """
        answers = []
        for request in requests:
            with self._lock, torch.inference_mode():
                model = self.weights(request.adapter)
                answers.append(answer(request, model, self.tokenizer, self.tokenize, self.context))
        return answers


@contextmanager
def _fitting(name: str, device: str) -> Iterator[None]:
    """Say in one line that a model does not fit where memory runs out."""
    try:
        yield
    except Exception as error:
        if not ran_out(error):
            raise
        raise ModelTooLarge(
            f"{name} does not fit into the memory of {device} that is free; end what else uses it, set `dtype` to "
            "bfloat16 or `context` lower in lab.toml, or choose a smaller model."
        ) from error


def _logits(model: Any, places: int | torch.Tensor, **inputs: Any) -> torch.Tensor:
    """The logits (places, vocabulary) of a model, float32, at places of a sequence: these, or its last so many."""
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        # Most of what a small model computes is its vocabulary's; only what is asked for is.
        return model(**inputs, logits_to_keep=places).logits[0].float()
    logits = model(**inputs).logits[0]
    return (logits[-places:] if isinstance(places, int) else logits[places]).float()
